"""A step's experience: who is asked what, what takes part in the update, and what is counted."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeGenerator, FakeScorer, fake_draft

from drenpa.config import StageConfig
from drenpa.core.errors import ScoringError
from drenpa.core.records import Record
from drenpa.grpo.objective import Objective
from drenpa.grpo.rollout import Answers, collect, make_pushes

NAN = math.nan


def record(name, kind="foundation"):
    return Record(id=name, kind=kind, question=f"{name}?", answer="a")


def stage(**changes):
    return StageConfig(**{"name": "main", "group": 2, "prompts": 2, **changes})


def answers_of(rewards, *, kinds=None, **others):
    """Answers with these rewards of the critic, [P][G]."""
    kinds = kinds or ["foundation"] * len(rewards)
    return Answers(
        records=tuple(record(f"q{n}", kind) for n, kind in enumerate(kinds)),
        drafts=tuple(tuple(fake_draft("four") for _ in row) for row in rewards),
        rewards={"critic": tuple(map(tuple, rewards)), **others},
        critiques=tuple(tuple("" for _ in row) for row in rewards),
        seconds_sampling=2.0,
        seconds_scoring=1.0,
    )


# ------------------------------------------------------------------------------------- collecting


def test_each_question_gets_its_group_of_answers_and_each_answer_its_scores():
    generator, critic = FakeGenerator(), FakeScorer()
    asked = stage(group=3, max_new_tokens=7, temperature=0.5)

    found = collect(
        [record("a"), record("b")], generator, {"critic": critic}, asked, seed=9, step=4
    )

    ((prompts, group, sampling, key),) = generator.calls
    assert (prompts, group, key) == (("a?", "b?"), 3, (4,))
    assert (sampling.max_new_tokens, sampling.temperature, sampling.seed) == (7, 0.5, 9)
    ((questions, texts),) = critic.calls
    assert questions == ("a?", "b?")
    assert texts[0] == ("answer 0 to a?", "answer 1 to a?", "answer 2 to a?")
    assert found.rewards["critic"] == ((14.0,) * 3, (14.0,) * 3)
    assert found.critiques[1][2] == "It has 14 letters."


def test_only_the_parts_of_the_reward_that_weigh_are_asked():
    critic, scalar = FakeScorer(), FakeScorer(critique=lambda q, a: "")
    asked = stage(reward={"critic": 0, "scalar": 1, "finished": 0.5})

    found = collect(
        [record("a")],
        FakeGenerator(finish="length"),
        {"critic": critic, "scalar": scalar},
        asked,
        seed=1,
        step=0,
    )

    assert critic.calls == []
    assert len(scalar.calls) == 1
    assert set(found.rewards) == {"scalar", "finished"}
    assert found.rewards["finished"] == ((0.0, 0.0),)


def test_reasons_are_kept_beside_a_scorer_that_gives_none():
    parts = {"critic": FakeScorer(), "scalar": FakeScorer(critique=lambda q, a: "")}

    found = collect(
        [record("a")],
        FakeGenerator(),
        parts,
        stage(reward={"critic": 1, "scalar": 1}),
        seed=1,
        step=0,
    )

    assert found.critiques[0][0] == "It has 14 letters."


# ---------------------------------------------------------------------------------------- pushes


def test_a_better_answer_is_pushed_up_as_far_as_the_other_down():
    # Two groups with rewards (0, 1) and (2, 3): over the batch r~ = (-1.342, -0.447, 0.447, 1.342).
    # Plain GRPO: each minus its group's mean, over the group's spread: -1 and +1. Kind weight 4.
    pushes = make_pushes(
        answers_of([[0.0, 1.0], [2.0, 3.0]]), stage(), Objective(margin_weight=0.0)
    )

    assert pushes.kept == (0, 1)
    assert pushes.advantages_PG.tolist() == [
        pytest.approx([-4.0, 4.0]),
        pytest.approx([-4.0, 4.0]),
    ]
    assert (pushes.counts.rows, pushes.counts.kept, pushes.counts.pairs) == (4, 4, 2)


def test_a_group_without_spread_takes_no_part_and_is_counted():
    pushes = make_pushes(answers_of([[5.0, 5.0], [1.0, 2.0]]), stage(), Objective())

    assert pushes.kept == (1,)
    assert pushes.advantages_PG.shape == (1, 2)
    assert pushes.metrics["zero_spread"] == 0.5
    # The loss is a mean over all that were scored, the divergence over those that took part.
    assert (pushes.counts.rows, pushes.counts.kept, pushes.counts.pairs) == (4, 2, 1)


def test_a_step_without_any_spread_pushes_nothing():
    pushes = make_pushes(answers_of([[5.0, 5.0], [5.0, 5.0]]), stage(), Objective())

    assert pushes.kept == ()
    assert pushes.advantages_PG.numel() == 0
    assert pushes.metrics["zero_spread"] == 1.0
    assert pushes.metrics["pairs"] == 0


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_a_group_with_an_answer_that_got_no_number_is_left_out_and_counted(bad):
    pushes = make_pushes(answers_of([[bad, 1.0], [1.0, 2.0]]), stage(), Objective())
    without = make_pushes(answers_of([[1.0, 2.0]]), stage(), Objective())

    assert pushes.kept == (1,)
    torch.testing.assert_close(pushes.advantages_PG, without.advantages_PG)
    assert pushes.counts == without.counts
    assert pushes.metrics["unscored_groups"] == 1
    assert math.isfinite(pushes.metrics["reward"])
    assert pushes.metrics["reward"] == pytest.approx(4 / 3)  # of the three answers with a number


def test_more_than_half_of_the_groups_without_a_number_is_an_error():
    half = answers_of([[NAN, 1.0], [1.0, 2.0]])
    most = answers_of([[NAN, 1.0], [NAN, 2.0], [1.0, 2.0]])

    assert make_pushes(half, stage(), Objective()).kept == (1,)
    with pytest.raises(ScoringError, match=r"stage main: 2 of 3 groups .* look at samples\.jsonl"):
        make_pushes(most, stage(), Objective())


def test_a_number_missing_in_one_part_leaves_the_group_out():
    answers = answers_of([[0.0, 1.0], [0.0, 1.0]], scalar=((1.0, 0.0), (NAN, 0.0)))

    pushes = make_pushes(answers, stage(reward={"critic": 1, "scalar": 1}), Objective())

    assert pushes.metrics["unscored_groups"] == 1
    assert 1 not in pushes.kept


def test_parts_of_a_reward_count_by_their_weight_and_not_by_their_scale():
    # Both parts order the answers the other way round, one of them in thousands.
    answers = answers_of([[0.0, 1.0]], scalar=((1000.0, 0.0),))

    def first(reward):
        return make_pushes(answers, stage(reward=reward), Objective()).advantages_PG

    assert first({"critic": 2, "scalar": 1})[0, 1] > 0
    assert first({"critic": 1, "scalar": 2})[0, 1] < 0
    assert first({"critic": 1, "scalar": 1}).numel() == 0  # they cancel


def test_a_kind_of_weight_zero_takes_no_part():
    weights = {"foundation": 1, "profession": 0, "metacognition": 1, "connection": 1}
    answers = answers_of([[0.0, 1.0], [0.0, 1.0]], kinds=["profession", "foundation"])

    pushes = make_pushes(answers, stage(weights=weights), Objective())

    assert pushes.kept == (1,)
    assert pushes.metrics["mass_profession"] == 0
    assert pushes.metrics["mass_foundation"] == pytest.approx(1)


def test_a_heavier_kind_pushes_harder_and_takes_its_share_of_the_mass():
    answers = answers_of([[0.0, 1.0], [0.0, 1.0]], kinds=["foundation", "connection"])

    pushes = make_pushes(answers, stage(), Objective())

    four, one = pushes.advantages_PG.abs().sum(dim=1).tolist()
    assert four == pytest.approx(4 * one)
    assert pushes.metrics["mass_foundation"] == pytest.approx(0.8)
    assert pushes.metrics["reward_connection"] == 0.5


numbers = st.floats(-100, 100).map(lambda x: round(x, 3))


@given(
    st.lists(st.lists(numbers | st.just(NAN), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(0, 2),
)
def test_whatever_is_scored_pushes_sum_to_zero_and_metrics_are_numbers(rewards, weight):
    unscored = sum(any(math.isnan(x) for x in row) for row in rewards)
    objective = Objective(margin_weight=weight)
    if 2 * unscored > len(rewards):
        with pytest.raises(ScoringError):
            make_pushes(answers_of(rewards), stage(group=3), objective)
        return

    pushes = make_pushes(answers_of(rewards), stage(group=3), objective)

    assert pushes.counts.rows == 3 * (len(rewards) - unscored)
    assert pushes.advantages_PG.sum(dim=1).abs().max() < 1e-3 if pushes.kept else True
    assert pushes.advantages_PG.isfinite().all()
    assert all(math.isfinite(value) for value in pushes.metrics.values())
    for place, row in zip(pushes.kept, pushes.advantages_PG, strict=True):
        assert int(row.argmax()) == max(range(3), key=lambda g: rewards[place][g])


def test_lengths_and_cuts_are_told():
    answers = answers_of([[0.0, 1.0]])
    drafts = ((fake_draft("four", finish="length"), fake_draft("sixsix")),)
    told = make_pushes(
        Answers(answers.records, drafts, answers.rewards, answers.critiques, 2.0, 1.0),
        stage(),
        Objective(),
    ).metrics

    assert told["length"] == 5
    assert told["truncated"] == 0.5
    assert told["tokens_per_second"] == 5
    assert (told["seconds_sampling"], told["seconds_scoring"]) == (2.0, 1.0)
    assert told["spread"] == 0.5


def test_what_nobody_scored_has_no_figure():
    answers = answers_of([[math.nan, math.nan], [-4.0, -2.0]], kinds=["connection", "foundation"])
    told = make_pushes(answers, stage(), Objective()).metrics
    assert "reward_connection" not in told
    assert told["reward"] == told["reward_foundation"] == -3.0
    assert told["spread"] == 1.0
