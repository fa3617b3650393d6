"""Records refuse what they cannot mean, and never guess."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from drenpa.core.knowledge import (
    DIMENSIONS,
    KIND_FACTS,
    KIND_WEIGHTS,
    KINDS,
    PROMPT_LANGUAGES,
    STABILITIES,
)
from drenpa.core.records import Candidate, Page, Ranking, Record, Verdict

RECORD = {"id": "a", "kind": "foundation", "question": "Why?"}
VERDICT = {
    "item": "a",
    "kind": "foundation",
    "cluster": "c",
    "strategy": "sft",
    "model": "m",
    "seed": 1,
    "sample": 0,
    "question": "q",
    "model_answer": "",
    "judge": "offline",
}
ALL = dict.fromkeys(DIMENSIONS, 1.0)


def candidate(name: str, rank: int = 1) -> dict[str, object]:
    return {"id": name, "answer": f"answer {name}", "rank": rank}


def test_the_kinds_have_the_papers_weights_in_the_papers_order():
    assert dict(KIND_WEIGHTS) == {
        "foundation": 4,
        "profession": 3,
        "metacognition": 2,
        "connection": 1,
    }
    assert tuple(KIND_FACTS) == KINDS
    assert DIMENSIONS == ("relevance", "safety", "quality", "satisfaction", "richness")
    assert STABILITIES == ("timeless", "slow", "volatile", "personal")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_name_in_every_language(kind):
    names = KIND_FACTS[kind].names
    assert set(names) == set(PROMPT_LANGUAGES)
    assert all(names.values())
    assert KIND_FACTS[kind].meaning


def test_a_record_needs_only_id_kind_and_question():
    record = Record.model_validate(RECORD)
    assert (record.answer, record.language, record.stability) == (None, "en", "timeless")
    assert (record.demand, record.split, record.tags) == (1.0, "train", ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "meta"),
        ("question", "   "),
        ("question", None),
        ("question", "\ud800"),
        ("answer", ""),
        ("id", ""),
        ("id", "x" * 201),
        ("stability", "eternal"),
        ("demand", -0.1),
        ("demand", math.nan),
        ("demand", math.inf),
        ("split", "valid"),
        ("unknown", 1),
    ],
)
def test_a_record_refuses_a_bad_value_and_names_its_field(field, value):
    with pytest.raises(ValidationError) as caught:
        Record.model_validate(RECORD | {field: value})
    assert [error["loc"] for error in caught.value.errors()] == [(field,)]


def test_space_around_a_text_is_taken_off_and_space_within_it_stays():
    record = Record.model_validate(RECORD | {"question": " why\n\n  so? \n", "answer": "\tso "})
    assert (record.question, record.answer) == ("why\n\n  so?", "so")


def test_a_page_keeps_its_text_untouched():
    assert Page(id="p", text="  raw \n").text == "  raw \n"


def test_a_ranking_needs_two_candidates_of_different_names():
    one, two = candidate("x"), candidate("y", 2)
    assert len(Ranking(id="r", record="a", candidates=(one, two)).candidates) == 2
    with pytest.raises(ValidationError, match="at least 2"):
        Ranking(id="r", record="a", candidates=(one,))
    with pytest.raises(ValidationError, match="candidate ids repeat"):
        Ranking(id="r", record="a", candidates=(one, two, candidate("x", 3)))


def test_equal_ranks_are_allowed_and_ranks_begin_at_one():
    Ranking(id="r", record="a", candidates=(candidate("x"), candidate("y")))
    for rank in (0, -1, 1.5):
        with pytest.raises(ValidationError):
            Candidate.model_validate(candidate("x") | {"rank": rank})


def test_a_verdict_may_lack_a_score_only_with_a_reason():
    assert Verdict.model_validate(VERDICT | {"scores": ALL}).unscored == ""
    partial = {"safety": 2.0}
    with pytest.raises(ValidationError, match="gives no reason"):
        Verdict.model_validate(VERDICT | {"scores": partial})
    kept = Verdict.model_validate(VERDICT | {"scores": partial, "unscored": "no JSON"})
    assert kept.scores == partial  # what is unscored is absent, and never 0


@pytest.mark.parametrize(
    "scores",
    [ALL | {"safety": 2.1}, ALL | {"safety": -1}, ALL | {"safety": math.nan}, {"wit": 1.0}],
)
def test_a_verdict_refuses_scores_off_the_scale_and_dimensions_it_does_not_know(scores):
    with pytest.raises(ValidationError):
        Verdict.model_validate(VERDICT | {"scores": scores, "unscored": "x"})


def test_rows_cannot_be_changed_after_they_are_made():
    with pytest.raises(ValidationError, match="frozen"):
        Record.model_validate(RECORD).kind = "connection"
