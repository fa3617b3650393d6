"""Which questions a stage asks, and what must hold at its end."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drenpa.config import GateConfig, StageConfig
from drenpa.core.errors import DataError, TrainingError
from drenpa.core.knowledge import KINDS
from drenpa.core.records import Record
from drenpa.grpo.stages import check_gate, measure_gate, schedule

RECORDS = [
    Record(id=f"{kind}-{n}", kind=kind, question="q", answer="a")
    for kind in KINDS
    for n in range(5)
]


def stage(**changes):
    return StageConfig(**{"name": "main", "steps": 10, "prompts": 4, **changes})


@given(
    st.lists(st.integers(0, 5), min_size=4, max_size=4).filter(any),
    st.integers(1, 12),
    st.integers(1, 6),
)
def test_kinds_are_asked_in_the_proportions_of_the_mix(shares, steps, prompts):
    mix = dict(zip(KINDS, shares, strict=True))

    asked = schedule(RECORDS, stage(mix=mix, steps=steps, prompts=prompts), seed=1)

    assert [len(step) for step in asked] == [prompts] * steps
    counts = Counter(record.kind for step in asked for record in step)
    for kind in KINDS:
        wanted = steps * prompts * mix[kind] / sum(shares)
        assert abs(counts[kind] - wanted) < 4, kind
        assert (counts[kind] == 0) or mix[kind] > 0


def test_an_even_mix_asks_one_of_each_kind_a_step():
    for step in schedule(RECORDS, stage(), seed=3):
        assert {record.kind for record in step} == set(KINDS)


def test_every_question_of_a_kind_is_asked_before_any_is_asked_again():
    asked = schedule(RECORDS, stage(mix={"profession": 1}, prompts=1, steps=15), seed=2)

    ids = [step[0].id for step in asked]
    for start in (0, 5, 10):
        assert len(set(ids[start : start + 5])) == 5
    assert ids[:5] != ids[5:10] or ids[5:10] != ids[10:]


def test_the_schedule_depends_on_the_seed_and_not_on_the_order_of_the_file():
    def ids(records, seed):
        return [[r.id for r in step] for step in schedule(records, stage(), seed=seed)]

    assert ids(RECORDS, 1) == ids(RECORDS[::-1], 1)
    assert ids(RECORDS, 1) != ids(RECORDS, 2)


def test_a_mix_with_a_kind_that_is_not_there_is_an_error():
    some = [record for record in RECORDS if record.kind != "profession"]

    with pytest.raises(DataError, match="mix asks for profession, but the corpus has none"):
        schedule(some, stage(), seed=1)
    with pytest.raises(DataError, match=r"3 of the corpus are too long .* up to 256 tokens"):
        schedule(some, stage(), seed=1, too_long=3)
    assert schedule(some, stage(mix={"foundation": 1}), seed=1)


# ------------------------------------------------------------------------------------------ gates


def history(rewards, *, kl=0.1, truncated=0.0):
    return [{"reward": reward, "kl": kl, "truncated": truncated} for reward in rewards]


def test_without_a_gate_everything_goes_on_and_is_told():
    # Eight steps: the last quarter is the mean of 7 and 9, the first of 1 and 3.
    found = measure_gate(history([1.0, 3.0, 5, 5, 5, 5, 7.0, 9.0]))

    check_gate(stage(), found)
    assert found == {"reward_gain": 6.0, "kl": pytest.approx(0.1), "truncated": 0.0}


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ({"min_reward_gain": 6.5}, "reward_gain is 6, the gate asks for at least 6.5"),
        ({"max_kl": 0.05}, "kl is 0.1, the gate asks for at most 0.05"),
        ({"max_truncated": 0.2}, "truncated is 0.5, the gate asks for at most 0.2"),
    ],
)
def test_a_gate_that_does_not_hold_stops_the_run_with_both_numbers(gate, told):
    rows = history([1.0, 3.0, 5, 5, 5, 5, 7.0, 9.0], truncated=0.5)

    with pytest.raises(TrainingError, match=f"^stage main: {told}; the run stops here"):
        check_gate(stage(gate=GateConfig(**gate)), measure_gate(rows))


def test_a_gate_does_not_hold_where_its_figure_could_not_be_measured():
    rows = history([1.0] * 8)
    rows[6:] = [{"truncated": 0.0}, {"truncated": 0.0}]  # all groups silent, nothing scored
    found = measure_gate(rows)
    assert found == {"reward_gain": None, "kl": None, "truncated": 0.0}
    check_gate(stage(gate=GateConfig(max_truncated=0.1)), found)
    for gate in ({"max_kl": 0.1}, {"min_reward_gain": 0.0}):
        with pytest.raises(TrainingError, match="could not be measured"):
            check_gate(stage(gate=GateConfig(**gate)), found)


def test_a_gate_that_just_holds_lets_the_run_go_on():
    gate = GateConfig(min_reward_gain=6.0, max_kl=0.1, max_truncated=0.5)
    rows = history([1.0, 3.0, 5, 5, 5, 5, 7.0, 9.0], truncated=0.5)

    check_gate(stage(gate=gate), measure_gate(rows))


def test_all_that_is_broken_is_told_at_once():
    gate = GateConfig(min_reward_gain=1.0, max_truncated=0.1)

    with pytest.raises(TrainingError, match=r"reward_gain is 0, .*; truncated is 0\.9"):
        check_gate(stage(gate=gate), measure_gate(history([1.0], truncated=0.9)))


def test_a_divergence_that_no_step_measured_is_not_in_the_mean():
    # A step in which no group had any spread measures none.
    rows = [{"reward": 1.0, "kl": 0.4, "truncated": 0.0}, {"reward": 1.0, "truncated": 0.0}] * 4

    assert measure_gate(rows)["kl"] == pytest.approx(0.4)
