"""What holds of P1 to P3 for any scores, ranks and log-probabilities."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_expit

from drenpa.critic.examples import pairs_of
from drenpa.critic.objective import (
    critic_loss,
    critique_loss,
    pairs_in,
    pairs_right,
    score_loss,
)

values = st.floats(-30, 30).map(lambda value: round(value, 3))


@st.composite
def rankings(draw, answers=5):
    """One ranking: scores and ranks of 2 to 5 answers, ties among them."""
    size = draw(st.integers(2, answers))
    scores = draw(st.lists(values, min_size=size, max_size=size))
    ranks = draw(st.lists(st.integers(1, 4), min_size=size, max_size=size))
    return scores, ranks


def table(rows, fill):
    width = max(len(row) for row in rows)
    cells = [[*row, *[fill] * (width - len(row))] for row in rows]
    return torch.tensor(cells, dtype=torch.int64 if isinstance(fill, int) else torch.float64)


def loss_of(steps, junk=0.0):
    scores_QK = table([scores for scores, _ in steps], junk)
    ranks_QK = table([ranks for _, ranks in steps], 0)
    return score_loss(scores_QK, ranks_QK).item()


def independent(steps):
    """P2 pair by pair in numpy and scipy."""
    total = 0.0
    for scores, ranks in steps:
        for i, j in combinations(range(len(scores)), 2):
            if ranks[i] != ranks[j]:
                total -= log_expit(np.sign(ranks[j] - ranks[i]) * (scores[i] - scores[j]))
    return total


@given(st.lists(rankings(), min_size=1, max_size=4), st.sampled_from([0.0, 1e30, math.nan]))
def test_p2_agrees_with_an_independent_implementation_whatever_pads_it(steps, junk):
    assert loss_of(steps, junk) == pytest.approx(independent(steps), rel=1e-9, abs=1e-9)


@given(rankings(), st.randoms(use_true_random=False))
def test_the_order_in_which_answers_are_listed_changes_nothing(ranking, random):
    mixed = list(zip(*ranking, strict=True))
    random.shuffle(mixed)
    scores, ranks = zip(*mixed, strict=True)
    assert loss_of([(list(scores), list(ranks))]) == pytest.approx(loss_of([ranking]), abs=1e-9)


@given(rankings(), values)
def test_a_shift_of_all_scores_of_a_question_changes_nothing(ranking, shift):
    scores, ranks = ranking
    moved = [score + shift for score in scores]
    assert loss_of([(moved, ranks)]) == pytest.approx(loss_of([ranking]), rel=1e-9, abs=1e-9)


@given(rankings())
def test_the_scores_gradients_of_a_question_cancel(ranking):
    scores_QK = table([ranking[0]], 0.0).requires_grad_()
    score_loss(scores_QK, table([ranking[1]], 0)).backward()
    assert scores_QK.grad.sum().item() == pytest.approx(0.0, abs=1e-12)


@given(rankings())
def test_pairs_are_those_of_unequal_rank(ranking):
    scores, ranks = ranking
    pairs = pairs_of(ranks)
    assert pairs_in(table([ranks], 0)) == len(pairs)
    right = sum(
        1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0 for i, j in pairs
    )
    assert pairs_right(table([scores], 0.0), table([ranks], 0)).item() == right


@st.composite
def steps_of_rows(draw):
    """A step: rankings, and for each answer a row of log-probabilities and critique tokens."""
    step = draw(st.lists(rankings(4), min_size=2, max_size=4))
    tokens = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    rows = [
        (
            torch.tensor(-rng.random((len(ranks), tokens))),
            torch.tensor(rng.random((len(ranks), tokens)) < 0.6),
        )
        for _, ranks in step
    ]
    return step, rows


@given(steps_of_rows(), st.integers(1, 3))
def test_micro_batches_add_up_to_the_step(step, size):
    rankings_, rows = step
    tokens = sum(int(mask.sum()) for _, mask in rows)
    pairs = sum(len(pairs_of(ranks)) for _, ranks in rankings_)

    def part(numbers):
        score = score_loss(
            table([rankings_[n][0] for n in numbers], 0.0),
            table([rankings_[n][1] for n in numbers], 0),
        )
        critique = critique_loss(
            torch.cat([rows[n][0] for n in numbers]), torch.cat([rows[n][1] for n in numbers])
        )
        return critic_loss(critique, score, tokens=tokens, pairs=pairs).item()

    everything = range(len(rankings_))
    parts = [part(everything[n : n + size]) for n in range(0, len(everything), size)]
    assert sum(parts) == pytest.approx(part(everything), rel=1e-12)


@given(steps_of_rows())
def test_what_stands_on_padding_changes_nothing(step):
    _, rows = step
    logprobs_NT, critique_NT = rows[0]
    wide_NT = torch.cat([logprobs_NT, torch.full((len(logprobs_NT), 2), -math.inf)], dim=1)
    off_NT = torch.cat([critique_NT, torch.zeros(len(critique_NT), 2, dtype=torch.bool)], dim=1)
    found = critique_loss(wide_NT, off_NT).item()
    assert found == pytest.approx(critique_loss(logprobs_NT, critique_NT).item(), rel=1e-12)


def test_p2_of_two_answers_is_the_bradley_terry_likelihood():
    """Against the textbook: the log-odds of winning are the difference of the strengths."""
    for gap in (-3.0, -0.5, 0.0, 2.0):
        found = score_loss(torch.tensor([[gap, 0.0]]).double(), torch.tensor([[1, 2]])).item()
        assert math.exp(-found) / (1 - math.exp(-found)) == pytest.approx(math.exp(gap), rel=1e-9)
