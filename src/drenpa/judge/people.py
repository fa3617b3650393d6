"""People as judges: a blind form goes out, filled forms come back as a recording.

A form shows each different answer once, in an order that tells nothing, without strategy, model or
any judge's score. An answer is known again by a digest of its question and itself, so rows may be
sorted, left out or shared among people, and a form of another run is refused.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from drenpa.core.artefacts import finished, refuse_artefact, refuse_existing, write_text
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.records import Verdict
from drenpa.judge.recorded import PEOPLE, Recorded
from drenpa.judge.rubric import RUBRIC
from drenpa.judge.verdict import score_of

COLUMNS = ("id", "question", "answer", *DIMENSIONS, "note")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would run


@dataclass(frozen=True)
class Sheet:
    """One answer on the form."""

    id: str
    question: str
    answer: str
    language: str


def run_verdicts(run: Path) -> list[Verdict]:
    """Return the verdicts of a run's benchmarks, of each strategy and seed the newest.

    raises: ArtefactError when the folder holds no finished benchmark.
    """
    newest = {
        (artefact.config["strategy"], artefact.config["seed"], artefact.config["model"]): artefact
        for artefact in finished(run)
        if artefact.kind == "verdicts"
    }
    if not newest:
        raise ArtefactError(f"{run}: holds no finished benchmark; run its recipe first")
    return [row for artefact in newest.values() for row in artefact.rows("verdicts", Verdict)]


def sheets_of(verdicts: Iterable[Verdict], limit: int = 0) -> list[Sheet]:
    """Return the answers for people to judge, each different one once.

    limit: of questions, with all their answers, so that strategies stay comparable; 0 takes all.
           A smaller choice is part of every larger one.
    """
    sheets: dict[str, Sheet] = {}
    for row in verdicts:
        name = sheet_id(row.question, row.model_answer)
        sheets[name] = Sheet(name, row.question, row.model_answer, row.language)
    questions = sorted({sheet.question for sheet in sheets.values()}, key=lambda q: sheet_id(q, ""))
    kept = set(questions[:limit] if limit else questions)
    return [sheets[name] for name in sorted(sheets) if sheets[name].question in kept]


def sheet_id(question: str, answer: str) -> str:
    """Return the name of an answer on the form, which is also its place: no order, no strategy."""
    described = json.dumps([question, answer], ensure_ascii=False)
    return hashlib.sha256(described.encode(errors="surrogatepass")).hexdigest()[:16]


def write_forms(sheets: Sequence[Sheet], folder: Path, language: str = "en") -> list[Path]:
    """Write the form as a spreadsheet (CSV) and as one HTML page that saves what is filled in.

    raises: ArtefactError when the folder holds a form already, which somebody may have filled in,
            or is an artefact.
    """
    refuse_artefact(folder)
    files = [folder / "form.csv", folder / "form.html"]
    for file in files:
        refuse_existing(file)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    for sheet in sheets:
        blanks = [""] * (len(DIMENSIONS) + 1)
        writer.writerow([sheet.id, _cell(sheet.question), _cell(sheet.answer), *blanks])
    write_text(files[0], "\ufeff" + table.getvalue())  # the mark lets spreadsheets know UTF-8
    write_text(files[1], form_page(sheets, language))
    return files


def form_page(sheets: Sequence[Sheet], language: str) -> str:
    """Return the form as a self-contained page."""
    spoken: Any = language if language in ("zh", "bo") else "en"
    facts = [
        {
            "key": name,
            "name": RUBRIC[name].names[spoken],
            "asks": RUBRIC[name].asks[spoken],
            "meanings": RUBRIC[name].meanings[spoken],
        }
        for name in DIMENSIONS
    ]
    data = {"columns": COLUMNS, "dimensions": facts, "sheets": [vars(sheet) for sheet in sheets]}
    # "<" as an escape: nothing in an answer can end the script element
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    page = (resources.files("drenpa.judge") / "form.html").read_text(encoding="utf-8")
    return page.replace("__LANGUAGE__", html.escape(spoken)).replace("__DATA__", text)


def named_forms(told: Sequence[str]) -> list[tuple[str, Path]]:
    """Read `PERSON=FILE` of the command line.

    raises: DataError where a name or a file is missing.
    """
    found = []
    for one in told:
        person, equals, file = one.partition("=")
        if not (person.strip() and equals and file):
            raise DataError(f"'{one}': say whose form it is, as PERSON=FILE")
        found.append((person.strip(), Path(file)))
    return found


def take_forms(forms: Sequence[tuple[str, Path]], verdicts: Iterable[Verdict]) -> list[Recorded]:
    """Read filled forms, CSV or the page's JSON, as (person, file).

    returns: what each person said of each answer; rows left blank are left out, and a dimension
             left blank is unscored.
    raises:  DataError that names every row that is of another run or holds no score.
    """
    known = {sheet.id: sheet for sheet in sheets_of(verdicts)}
    found: list[Recorded] = []
    faults: list[str] = []
    for person, file in forms:
        name = f"{PEOPLE}: {person}"
        seen: set[str] = set()
        for place, row in _rows(file):
            sheet = known.get(str(row.get("id", "")).strip())
            if sheet is None:
                faults.append(
                    f"{file}:{place}: id: no answer of this run has the id '{row.get('id', '')}'"
                )
                continue
            scores, wrong = _scores(row)
            faults += [f"{file}:{place}: {fault}" for fault in wrong]
            if sheet.id in seen:
                faults.append(f"{file}:{place}: id: '{sheet.id}' stands twice; keep one row")
            seen.add(sheet.id)
            note = str(row.get("note") or "").strip()
            if scores:
                found.append(
                    Recorded(
                        question=sheet.question,
                        answer=sheet.answer,
                        scores=scores,
                        judge=name,
                        thoughts=note,
                    )
                )
    if not found and not faults:
        faults.append(f"{', '.join(str(file) for _, file in forms)}: nothing is filled in")
    if faults:
        raise DataError(faults)
    return found


def _rows(file: Path) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the rows of a form with the line or number that each stands at."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        told = (error.strerror or type(error).__name__).lower()
        raise DataError(
            f"{file}: {told}; give the path of a form that somebody filled in"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: cannot be read as UTF-8 ({error}); save it as CSV UTF-8"
        ) from error
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise DataError(f"{file}: is no JSON of the form ({error})") from error
        if not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{file}: is no JSON of the form; it is a list of objects")
        return list(enumerate(rows, 1))
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # spreadsheets save with the country's own
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    missing = [name for name in ("id", *DIMENSIONS) if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{file}:1: the column {missing[0]} is missing; keep the form's first row")
    return [(reader.line_num, row) for row in reader]


def _scores(row: Mapping[str, Any]) -> tuple[dict[Dimension, float], list[str]]:
    scores: dict[Dimension, float] = {}
    faults = []
    for dimension in DIMENSIONS:
        value = row.get(dimension)
        if value is None or not str(value).strip():
            continue
        score = score_of(value)
        if score is None:
            faults.append(f"{dimension}: '{value}' is not 0, 1 or 2")
        else:
            scores[dimension] = score
    return scores, faults


def _cell(text: str) -> str:
    """A text that a spreadsheet shows and never runs; it is read back by its id alone."""
    return f"'{text}" if text.startswith(_FORMULA) else text
