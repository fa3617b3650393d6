"""What holds of any probe."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drenpa.core.records import Record
from drenpa.memory.probe import blind_means, own_ranks, probe_block

NATS = st.floats(-9, -0.125, width=32)
SIZES = st.integers(3, 6)


class TableModel:
    """A fake: answers of ten tokens, log-probabilities from a table."""

    def __init__(self, means_BB, open_B):
        self.means_BB, self.open_B = means_BB, open_B

    def logprobs(self, pairs):
        found = []
        for context, answer in pairs:
            column = int(answer[1:])
            opened = context.startswith("a")
            mean = self.open_B[column] if opened else self.means_BB[int(context[1:]), column]
            found.append((10.0 * float(mean), 10))
        return found


def block(size: int) -> list[Record]:
    return [
        Record(id=f"r{n}", kind="foundation", question=f"q{n}", answer=f"a{n}") for n in range(size)
    ]


@st.composite
def tables(draw):
    size = draw(SIZES)
    means_BB = draw(arrays(np.float64, (size, size), elements=NATS))
    return means_BB, draw(arrays(np.float64, size, elements=NATS))


@given(tables())
def test_known_and_rank_stay_within_0_and_1(table):
    for probe in probe_block(block(len(table[1])), TableModel(*table)):
        assert 0 <= probe.known <= 1
        assert 0 <= probe.rank <= 1


@given(tables(), st.floats(-3, 3))
def test_an_answer_that_is_likelier_everywhere_is_not_better_known(table, shift):
    means_BB, open_B = table
    shifted = means_BB.copy()
    shifted[:, 0] += shift
    more_open = open_B.copy()
    more_open[0] += shift
    before = probe_block(block(len(open_B)), TableModel(means_BB, open_B))
    after = probe_block(block(len(open_B)), TableModel(shifted, more_open))
    span = before[0].blind - before[0].open
    if abs(span - 0.1) > 1e-6:
        assert abs(before[0].known - after[0].known) < 1e-6


@given(tables(), st.floats(0, 3))
def test_a_likelier_answer_is_never_less_known(table, gain):
    means_BB, open_B = table
    better = means_BB.copy()
    better[0, 0] += gain
    before = probe_block(block(len(open_B)), TableModel(means_BB, open_B))
    after = probe_block(block(len(open_B)), TableModel(better, open_B))
    assert after[0].known >= before[0].known
    assert [p.known for p in after[1:]] == [p.known for p in before[1:]]


@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_a_block_changes_nothing(table, shuffler):
    means_BB, open_B = table
    rows = block(len(open_B))
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    model = TableModel(means_BB, open_B)
    before = {probe.record: probe for probe in probe_block(rows, model)}
    for probe in probe_block(shuffled, model):
        assert abs(probe.known - before[probe.record].known) < 1e-9


@given(SIZES, st.data())
def test_random_scores_rank_one_half_in_the_mean_over_all_places_of_the_own(size, data):
    row = data.draw(st.permutations(range(size)))
    ranks = []
    for place in range(size):
        scores_BB = np.zeros((size, size))
        scores_BB[0] = row[place:] + row[:place]  # every value is the own one once
        ranks.append(own_ranks(scores_BB)[0])
    assert abs(np.mean(ranks) - 0.5) < 1e-12


@given(SIZES, st.floats(-5, 0))
def test_equal_scores_have_equal_blind_means(size, value):
    assert np.allclose(blind_means(np.full((size, size), value)), value)
