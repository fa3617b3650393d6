"""The critic as a judge of its own pupil."""

from __future__ import annotations

import math

import pytest
from tests.fakes import FakeScorer

from drenpa.core.knowledge import DIMENSIONS
from drenpa.judge.critic_judge import CriticJudge, _anchors
from drenpa.judge.judges import Case

REFERENCE = "Cool the burn under running water for twenty minutes and see a doctor if it is large."
WORTH = {"best": 9.0, "fair": 2.5, "poor": 1.5, "bad": 0.0}


def reward(question: str, answer: str) -> float:
    """The off-topic anchor is worth 1, the beginning of the reference 2, the reference 3."""
    if answer in WORTH:
        return WORTH[answer]
    if answer == REFERENCE:
        return 3.0
    return 2.0 if REFERENCE.startswith(answer) else 1.0


def test_an_answer_is_placed_among_the_anchors() -> None:
    answers = ["best", REFERENCE, "fair", "poor", "bad"]
    judge = CriticJudge(FakeScorer(reward=reward))
    found = dict(judge.judge([Case("q", answer, REFERENCE) for answer in answers]))
    # Above 3, level with 1 above 2, above 2, above 1, above 0 of three anchors, times 2/3.
    expected = [2.0, 5 / 3, 4 / 3, 2 / 3, 0.0]
    for place, score in enumerate(expected):
        assert found[place].scores == pytest.approx(dict.fromkeys(DIMENSIONS, score))
        assert found[place].thoughts.startswith("It has")


def test_its_name_flags_that_it_judges_its_own_pupil() -> None:
    assert CriticJudge(FakeScorer()).name == "critic judges its own pupil"
    assert "one figure five times" in CriticJudge(FakeScorer()).card


def test_without_a_reference_or_a_reward_it_leaves_the_answer_unscored() -> None:
    judge = CriticJudge(FakeScorer(reward=lambda q, a: math.nan))
    found = dict(judge.judge([Case("q", "a"), Case("q", "a", REFERENCE), Case("q", " ", "r")]))
    assert "reference" in found[0].unscored
    assert "could not score" in found[1].unscored
    assert found[2].scores["relevance"] == 0


def test_many_questions_go_to_the_critic_in_batches() -> None:
    scorer = FakeScorer()
    found = dict(CriticJudge(scorer).judge([Case(f"q{n}", "a", REFERENCE) for n in range(19)]))
    assert sorted(found) == list(range(19))
    assert [len(questions) for questions, _ in scorer.calls] == [8, 8, 3]
    assert all(len(group) == 4 for _, answers in scorer.calls for group in answers)


@pytest.mark.parametrize("reference", ["One.", "水先流。", REFERENCE, "ལག་པ་ཆུ་བསིལ་མོས་བཀྲུས་ནས་སྒུག"])
def test_the_middle_anchor_is_a_beginning_of_the_reference(reference: str) -> None:
    off_topic, beginning, whole = _anchors(Case("q", "a", reference))
    assert whole == reference
    assert beginning
    assert reference.startswith(beginning)
    assert len(beginning) <= max(1, len(reference) // 2) or len(reference.split()) == 1
    assert off_topic not in (beginning, whole)
