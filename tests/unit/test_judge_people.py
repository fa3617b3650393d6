"""Blind forms go out, filled ones come back, and nothing on them can be taken for anything else."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from tests.verdict_rows import verdict, verdicts, verdicts_artefact

from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Verdict
from drenpa.judge.critic_judge import CriticJudge
from drenpa.judge.judges import Case
from drenpa.judge.people import (
    form_page,
    named_forms,
    run_verdicts,
    sheet_id,
    sheets_of,
    take_forms,
    write_forms,
)
from drenpa.judge.recorded import Recorded, RecordedJudge, write_recording

ROWS = verdicts(items=2)


def filled(folder: Path, rows: list[Verdict], **changes: str) -> list[dict[str, str]]:
    """The CSV form of some verdicts, every row filled alike."""
    write_forms(sheets_of(rows), folder)
    text = (folder / "form.csv").read_text(encoding="utf-8-sig")
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    return [{**row, **dict.fromkeys(DIMENSIONS, "1"), **changes} for row in found]


def saved(file: Path, rows: list[dict[str, str]], delimiter: str = ",") -> Path:
    with file.open("w", encoding="utf-8-sig", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_a_form_shows_each_different_answer_once_and_tells_nothing_of_its_strategy(
    tmp_path: Path,
) -> None:
    rows = [*ROWS, verdict("sft", "again", question=ROWS[0].question)]
    rows[-1] = rows[-1].model_copy(update={"model_answer": ROWS[0].model_answer})
    sheets = sheets_of(rows)
    assert len(sheets) == len(ROWS)
    assert [sheet.id for sheet in sheets] == sorted(sheet.id for sheet in sheets)
    secret = [row.model_copy(update={"model_answer": f"Answer {n}"}) for n, row in enumerate(ROWS)]
    files = write_forms(sheets_of(secret), tmp_path)
    for file in files:
        text = file.read_text(encoding="utf-8")
        for hidden in ("final", "sft", "a made-up judge", "tiny"):
            assert not re.search(rf"\b{hidden}\b", text)


def test_a_smaller_form_keeps_all_answers_to_a_question_and_is_part_of_a_larger_one() -> None:
    small, large = (
        {(sheet.question, sheet.id) for sheet in sheets_of(ROWS, count)} for count in (2, 5)
    )
    assert small < large
    assert len(small) == 2 * 3
    assert len({question for question, _ in large}) == 5


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_people_fill_in_comes_back_to_the_answers_it_is_about(
    tmp_path: Path, delimiter: str
) -> None:
    rows = filled(tmp_path, ROWS)
    chosen = sheets_of(ROWS)[3]
    for row in rows:
        if row["id"] == chosen.id:
            row.update({"relevance": "２", "quality": "", "note": "=well, good"})
    rows.reverse()
    file = saved(tmp_path / "back.csv", rows[:-1], delimiter)
    found = take_forms([("Dolma", file)], ROWS)
    assert len(found) == len(ROWS) - 1
    (own,) = [row for row in found if sheet_id(row.question, row.answer) == chosen.id]
    assert own.scores == {"relevance": 2.0, "safety": 1.0, "satisfaction": 1.0, "richness": 1.0}
    assert own.thoughts == "=well, good"
    recording = tmp_path / "people.jsonl"
    write_recording(recording, found)
    judge = RecordedJudge(recording)
    assert judge.name == "human: Dolma"
    case = Case(chosen.question, chosen.answer)
    ((_, opinion),) = judge.judge([case])
    assert opinion.scores["relevance"] == 2
    assert opinion.unscored == "the recording leaves out quality"


def test_a_recorded_critic_is_still_told_for_the_critic(tmp_path: Path) -> None:
    names = ("gpt", CriticJudge.name)
    rows = [
        Recorded(question=f"{name}?", answer="a", scores=dict.fromkeys(DIMENSIONS, 1.0), judge=name)
        for name in names
    ]
    file = tmp_path / "recorded.jsonl"
    write_recording(file, rows)
    assert RecordedJudge(file).name == "critic judges its own pupil; gpt (recorded)"
    write_recording(file, rows[:1])
    assert RecordedJudge(file).name == "recorded: gpt"


def test_the_pages_json_comes_back_like_the_spreadsheet(tmp_path: Path) -> None:
    sheet = sheets_of(ROWS)[0]
    file = tmp_path / "form.json"
    file.write_text(json.dumps([{"id": sheet.id, **dict.fromkeys(DIMENSIONS, 2)}]))
    (found,) = take_forms([("K", file)], ROWS)
    assert (found.question, found.answer) == (sheet.question, sheet.answer)
    assert found.scores == dict.fromkeys(DIMENSIONS, 2.0)


def test_every_row_that_cannot_be_taken_is_named(tmp_path: Path) -> None:
    rows = filled(tmp_path, ROWS)[:3]
    rows[0]["safety"] = "3"
    rows[1]["id"] = "0123456789abcdef"
    rows.append(rows[2])
    file = saved(tmp_path / "bad.csv", rows)
    with pytest.raises(DataError) as caught:
        take_forms([("K", file)], ROWS)
    told = "\n".join(caught.value.faults)
    assert "safety: '3' is not 0, 1 or 2" in told
    assert "no answer of this run has the id '0123456789abcdef'" in told
    assert "stands twice" in told
    assert len(caught.value.faults) == 3
    empty = saved(tmp_path / "e.csv", [{**rows[2], **dict.fromkeys(DIMENSIONS, "")}])
    with pytest.raises(DataError, match="nothing is filled in"):
        take_forms([("K", empty)], ROWS)
    (tmp_path / "head.csv").write_text("id,safety\n")
    with pytest.raises(DataError, match="the column relevance is missing"):
        take_forms([("K", tmp_path / "head.csv")], ROWS)
    with pytest.raises(DataError, match=r"no\.csv: no such file or directory; give the path of a"):
        take_forms([("K", tmp_path / "no.csv")], ROWS)
    with pytest.raises(DataError, match="say whose form it is"):
        named_forms(["form.csv"])
    assert named_forms(["Dolma=a=b.csv"]) == [("Dolma", Path("a=b.csv"))]


HOSTILE = '=HYPERLINK("http://x")\n</script><script>alert(1)</script>"\u2028 __LANGUAGE__ {answer}'


def test_an_answer_is_text_on_the_form_and_nothing_else(tmp_path: Path) -> None:
    rows = [verdict("base", "i", question="@q", model_answer=HOSTILE)]
    page = form_page(sheets_of(rows), "bo")
    assert page.count("</script>") == 2  # the data's and the code's own
    data = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    assert json.loads(data.group(1))["sheets"][0]["answer"] == HOSTILE
    (row,) = filled(tmp_path, rows)
    assert row["answer"] == "'" + HOSTILE
    assert row["question"] == "'@q"
    (found,) = take_forms([("K", saved(tmp_path / "back.csv", [row]))], rows)
    assert found.answer == HOSTILE


def test_a_form_does_not_go_into_an_artefact(tmp_path: Path) -> None:
    artefact = verdicts_artefact(tmp_path, ROWS)
    with pytest.raises(ArtefactError, match="is an artefact, which nobody alters; name another"):
        write_forms(sheets_of(ROWS), artefact.path)


@pytest.mark.parametrize("name", ["form.csv", "form.html"])
def test_a_form_that_may_be_filled_in_is_not_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("filled in", encoding="utf-8")
    with pytest.raises(ArtefactError, match=f"{name}: is there already; name a folder that does"):
        write_forms(sheets_of(ROWS), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "filled in"


def test_the_form_is_of_the_newest_benchmark_of_each_strategy(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="holds no finished benchmark"):
        run_verdicts(tmp_path)
    artefact = verdicts_artefact(tmp_path, ROWS)
    manifest = artefact.path / "manifest.json"
    told = json.loads(manifest.read_text())
    told["config"] = {"strategy": "base", "seed": 1, "model": "tiny"}
    manifest.write_text(json.dumps(told))
    assert run_verdicts(tmp_path) == ROWS
