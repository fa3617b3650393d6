"""The offline judge is bounded, and every fault can only lower what it is a fault of."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.judge_fakes import FakeLanguageModel

from drenpa.core.knowledge import DIMENSIONS
from drenpa.judge.judges import Case
from drenpa.judge.offline import Evidence, OfflineJudge, weigh

share = st.floats(0, 1)
evidence = st.builds(
    Evidence,
    plenty=st.floats(0, 500),
    likeness=share | st.just(math.nan),
    pmi=st.floats(-5, 5),
    surprise=st.floats(0, 20),
    language=share,
    loop=share,
    copied=share,
    whole=st.booleans(),
    reasons=st.integers(0, 4),
    alarms=st.lists(st.just("alarm"), max_size=5).map(tuple),
)


@given(evidence)
def test_scores_lie_between_0_and_2(found: Evidence) -> None:
    scores = weigh(found)
    assert tuple(scores) == DIMENSIONS
    assert all(0 <= score <= 2 for score in scores.values())


@pytest.mark.parametrize(
    ("name", "rising"),
    [
        ("plenty", True),
        ("likeness", True),
        ("pmi", True),
        ("reasons", True),
        ("language", True),
        ("whole", True),
        ("surprise", False),
        ("loop", False),
        ("copied", False),
    ],
)
@given(found=evidence, other=evidence)
def test_no_score_moves_against_its_evidence(
    name: str, rising: bool, found: Evidence, other: Evidence
) -> None:
    low, high = sorted((getattr(found, name), getattr(other, name)))
    if math.isnan(low) or math.isnan(high):
        return
    less, more = weigh(replace(found, **{name: low})), weigh(replace(found, **{name: high}))
    for dimension in DIMENSIONS:
        if rising:
            assert less[dimension] <= more[dimension]
        else:
            assert less[dimension] >= more[dimension]


@given(evidence)
def test_one_more_alarm_never_helps(found: Evidence) -> None:
    before, after = weigh(found), weigh(replace(found, alarms=(*found.alarms, "alarm")))
    assert all(after[dimension] <= before[dimension] for dimension in DIMENSIONS)


@given(
    st.text(min_size=1, max_size=80),
    st.text(max_size=200),
    st.text(max_size=80),
    st.sampled_from(["en", "zh", "bo", "ru"]),
    st.sampled_from(["stop", "length"]),
)
def test_any_answer_at_all_is_scored_within_bounds(
    question: str, answer: str, reference: str, language: str, finish: str
) -> None:
    case = Case(question, answer, reference, language, finish)  # type: ignore[arg-type]
    ((place, opinion),) = OfflineJudge(FakeLanguageModel(), "fake").judge([case])
    assert place == 0
    assert not opinion.unscored
    assert all(0 <= score <= 2 for score in opinion.scores.values())
