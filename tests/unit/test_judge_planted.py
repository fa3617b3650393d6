"""Answers with planted differences of quality, through the stages of judges: what must fall falls.

The rules say how much an answer may be worth at most, the comparisons with a reference how near it
is, the offline judge both together with probabilities. From one planted step to the next worse one
none of them may rise, and from the best to the worst each must fall.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.judge_fakes import FakeLanguageModel
from tests.unit.test_judge_likeness import FakeStates

from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.text import content_units, units
from drenpa.judge.judges import Case, Judge, Opinion
from drenpa.judge.likeness import OTHER_SUBJECTS, LikenessJudge
from drenpa.judge.offline import OfflineJudge
from drenpa.judge.reference import ReferenceJudge
from drenpa.judge.rules import RulesJudge, bounds

QUESTIONS = {
    "en": "What should I do when a child has burned her hand on the stove?",
    "zh": "孩子的手在炉子上烫伤了，该怎么办？",
    "bo": "ཕྲུ་གུའི་ལག་པ་ཐབ་ཀས་ཚིག་ན་ག་རེ་བྱེད་དགོས།",
}
REFERENCES = {
    "en": "Cool the burn under running water for twenty minutes. Take off rings, since the hand "
    "swells. Then cover it loosely with a clean cloth, and go to a doctor when it blisters.",
    "zh": "先用流动的凉水冲洗二十分钟。把戒指摘下来，因为手会肿。"
    "再用干净的布轻轻盖住，起水泡就去看医生。",
    "bo": "ཐོག་མར་ཆུ་བསིལ་མོས་སྐར་མ་ཉི་ཤུའི་རིང་བཀྲུ་དགོས། སོར་གདུབ་ཕུད་དགོས། "
    "ལག་པ་སྐྲངས་ཡོང་། དེ་ནས་རས་གཙང་མས་ཡང་པོར་དཀྲི་དགོས། "
    "ཆུ་བུར་ཐོན་ན་སྨན་པར་བསྟེན་དགོས།",
}


def sentences(text: str) -> list[str]:
    found, start = [], 0
    for place, sign in enumerate(text):
        if sign in ".。།":
            found.append(text[start : place + 1].strip())
            start = place + 1
    return found


def less_said(language: str) -> list[str]:
    """The reference with one sentence fewer each time, and nothing at last."""
    parts = sentences(REFERENCES[language])
    assert len(parts) >= 3
    joint = "" if language == "zh" else " "
    return [joint.join(parts[:kept]) for kept in range(len(parts), -1, -1)]


def more_beside_the_point(language: str) -> list[str]:
    """Sentence by sentence the reference gives way to what belongs to other questions."""
    parts, others = sentences(REFERENCES[language]), OTHER_SUBJECTS[language]
    joint = "" if language == "zh" else " "
    return [
        joint.join([*parts[: len(parts) - put], *others[:put]]) for put in range(len(parts) + 1)
    ]


SERIES = {"less said": less_said, "more beside the point": more_beside_the_point}


def fields(language: str) -> list[frozenset[str]]:
    return [frozenset(content_units(QUESTIONS[language] + " " + REFERENCES[language]))]


def most(case: Case) -> dict[str, float]:
    return {name: high for name, (_, high) in bounds(case).items()}


def opinions(judge: Judge, language: str, answers: list[str]) -> list[Opinion]:
    cases = [Case(QUESTIONS[language], a, REFERENCES[language], language) for a in answers]
    return [opinion for _, opinion in sorted(judge.judge(cases), key=lambda pair: pair[0])]


STAGES: dict[str, Callable[[str], Judge]] = {
    "letters": lambda language: ReferenceJudge(),
    "states": lambda language: LikenessJudge(FakeStates(), "m"),
    "offline": lambda language: OfflineJudge(FakeLanguageModel(fields(language)), "fake"),
}


@pytest.mark.parametrize("language", list(QUESTIONS))
@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("stage", STAGES)
def test_relevance_falls_with_every_planted_step(stage: str, series: str, language: str) -> None:
    answers = SERIES[series](language)
    found = opinions(STAGES[stage](language), language, answers)
    course = [opinion.scores["relevance"] for opinion in found]
    for better, worse in pairwise(course):
        assert worse <= better + 1e-9, (answers, course)
    assert course[0] > 1.0
    assert course[-1] < 0.5 * course[0]


@pytest.mark.parametrize("language", list(QUESTIONS))
def test_the_rules_bound_falls_only_where_a_rule_is_broken(language: str) -> None:
    series = less_said(language)
    whole, *_, empty = [
        most(Case(QUESTIONS[language], answer, language=language)) for answer in series
    ]
    assert set(whole.values()) == {2.0}
    assert all(high <= whole[name] for name, high in empty.items())
    assert empty["relevance"] == empty["quality"] == 0
    looping = most(Case(QUESTIONS[language], (REFERENCES[language] + " ") * 6, language=language))
    assert looping["richness"] < whole["richness"]
    judged = opinions(RulesJudge(), language, series)
    assert judged[0].scores == {}  # rules never say that an answer is good
    assert judged[-1].scores["relevance"] == 0


@pytest.mark.parametrize("language", list(QUESTIONS))
def test_the_offline_judge_gives_no_dimension_more_for_less(language: str) -> None:
    found = opinions(
        OfflineJudge(FakeLanguageModel(fields(language)), "fake"), language, less_said(language)
    )
    for dimension in ("relevance", "satisfaction", "richness"):
        course = [opinion.scores[dimension] for opinion in found]
        assert course == sorted(course, reverse=True), dimension
    assert sum(found[0].scores[name] for name in DIMENSIONS) > sum(
        found[-1].scores[name] for name in DIMENSIONS
    )
    assert len(units(REFERENCES[language])) > 20
