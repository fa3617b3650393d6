"""Other readings of the same verdicts, and people beside the judge."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.verdict_rows import verdict, verdicts, verdicts_artefact

from drenpa.core.errors import DataError
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Verdict
from drenpa.report.readings import HumanScores, make_readings, read_people, readings_text


def human(item: str, score: float, rater: str = "ann", strategy: str = "base") -> HumanScores:
    return HumanScores(
        item=item,
        model="tiny",
        strategy=strategy,
        seed=1,
        judge=rater,
        scores=dict.fromkeys(DIMENSIONS, score),
    )


def test_gated_and_plain_means_stand_side_by_side() -> None:
    off_topic = {**dict.fromkeys(DIMENSIONS, 2.0), "relevance": 0.0}
    rows = [verdict("base", "a", off_topic), verdict("base", "b", 2.0)]
    found = {r.way: r.percent for r in make_readings(rows, resamples=20).readings}
    assert found["mean"] == 90.0  # (1.6 + 2) / 4
    assert found["gated"] == 50.0


def test_each_way_is_compared_with_the_first_strategy() -> None:
    readings = make_readings(verdicts(gain=0.6), resamples=50).readings
    last = next(r for r in readings if r.strategy == "final" and r.way == "mean")
    assert last.points == pytest.approx(30.0)
    assert next(r for r in readings if r.strategy == "base").points is None


def test_the_spread_is_split_where_seeds_differ() -> None:
    rows = [
        verdict("base", f"q{item}", 0.5 + 0.1 * item + 0.4 * (seed == 2), seed=seed)
        for item in range(5)
        for seed in (1, 2)
    ]
    (split,) = make_readings(rows, resamples=20).splits
    assert split.seed == pytest.approx(20 / 2**0.5, abs=1e-3)  # 20 points apart, two of them
    assert split.judge is None
    assert split.rest == pytest.approx(0, abs=1e-3)


def test_a_judge_that_agrees_with_people_has_kappa_one_and_nothing_to_correct() -> None:
    rows = [verdict("base", f"q{n}", n % 3) for n in range(12)]
    people = [human(f"q{n}", n % 3) for n in range(6)]
    check = make_readings(rows, people, resamples=20).people
    assert check is not None
    assert (check.raters, check.answers, check.unknown) == (1, 6, 0)
    assert check.agreement[0].kappa == 1.0
    assert check.agreement[0].alpha == 1.0
    assert check.agreement[0].bias == 0.0
    assert check.agreement[0].alpha_people is None
    assert check.corrections[0].ppi == pytest.approx(50)
    assert check.corrections[0].unconfused == pytest.approx(50)


def test_a_judge_that_is_too_kind_is_corrected_towards_people() -> None:
    # People: true marks 0, 1 in turn; the judge gives one more to every answer.
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 2, 60)
    rows = [verdict("base", f"q{n}", int(mark) + 1) for n, mark in enumerate(truth)]
    people = [human(f"q{n}", int(truth[n])) for n in range(30)]
    check = make_readings(rows, people, resamples=20).people
    assert check is not None
    (corrected,) = check.corrections
    honest = 50 * truth.mean()
    assert corrected.judge == pytest.approx(honest + 50)
    assert corrected.ppi == pytest.approx(honest, abs=6)
    assert corrected.unconfused == pytest.approx(honest)
    assert corrected.ppi_low < honest < corrected.ppi_high
    assert check.agreement[0].bias == pytest.approx(50)
    assert check.agreement[0].counts[1][0] == sum(truth[:30] == 0)


def test_two_people_agree_among_themselves_before_the_judge_is_asked() -> None:
    rows = [verdict("base", f"q{n}", n % 3) for n in range(9)]
    people = [human(f"q{n}", n % 3, rater) for n in range(9) for rater in ("ann", "bo")]
    check = make_readings(rows, people, resamples=20).people
    assert check is not None
    assert check.agreement[0].alpha_people == 1.0
    assert check.raters == 2


def test_scores_of_other_answers_are_refused_and_some_are_counted() -> None:
    rows = [verdict("base", "a"), verdict("base", "b")]
    with pytest.raises(DataError, match="belong to no answer"):
        make_readings(rows, [human("elsewhere", 1)], resamples=20)
    check = make_readings(rows, [human("a", 1), human("elsewhere", 1)], resamples=20).people
    assert check is not None
    assert check.unknown == 1


def test_people_are_read_from_an_export_and_from_verdicts(tmp_path: Path) -> None:
    line = {**human("a", 1).model_dump(), "note": "fine"}
    file = tmp_path / "people.jsonl"
    file.write_text(json.dumps(line) + "\n\n", encoding="utf-8")
    assert read_people([file]) == [human("a", 1)]
    made = verdicts_artefact(tmp_path, [verdict("base", "a", 2.0, judge="ann")])
    (row,) = read_people([made.path])
    assert (row.place, row.scores) == (human("a", 2).place, human("a", 2).scores)


def test_a_filled_form_is_matched_by_question_and_answer() -> None:
    # What `drenpa judge take` writes; two strategies that gave the same answer share the scores.
    rows = [
        verdict(strategy, item, 1.0, model_answer="Yes." if item == "a" else strategy)
        for strategy in ("base", "sft")
        for item in ("a", "b")
    ]
    scores = dict.fromkeys(DIMENSIONS, 2.0)
    known = HumanScores(question="What of a?", answer="Yes.", judge="person ann", scores=scores)
    other = HumanScores(question="What of a?", answer="No.", judge="person ann", scores=scores)
    check = make_readings(rows, [known, other], resamples=20).people
    assert check is not None
    assert (check.answers, check.unknown) == (2, 1)
    assert [c.people for c in check.corrections] == [100.0, 100.0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"item": "a"}', "people.jsonl:1: judge"),
        ('{"judge": "ann", "item": "a"}', "names no answer"),
        ("not json", "people.jsonl:1"),
        (json.dumps(human("a", 3).model_dump()), "from 0 to 2"),
    ],
)
def test_a_line_that_is_no_scores_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "people.jsonl"
    file.write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_people([file])
    with pytest.raises(DataError, match="cannot be read"):
        read_people([tmp_path / "missing.jsonl"])


def test_a_file_of_scores_that_is_not_utf_8_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    zoe = json.dumps({**human("a", 1).model_dump(), "judge": "Zoë"}, ensure_ascii=False)
    file.write_bytes(json.dumps(human("a", 1).model_dump()).encode() + b"\n" + zoe.encode("cp1252"))
    with pytest.raises(DataError, match=r"people.jsonl:2: not UTF-8 \(byte 0xeb .* save the file"):
        read_people([file])


def test_everything_is_told_as_json() -> None:
    rows: list[Verdict] = verdicts()
    told = json.loads(readings_text(make_readings(rows, [human("foundation-1", 1)], resamples=20)))
    assert set(told) == {"readings", "slopes", "splits", "people"}
    assert len(told["readings"]) == 9
