"""Work that is done offline: a sheet of items for one person goes out, and the filled sheet comes
back.

A sheet is CSV, XLSX or JSON Lines, by its suffix, with one line per item (per candidate, where
answers are ranked). Whoever fills it in writes `yes` under `done` on each line that is finished.
Every line names the version of the item that it shows; what others changed meanwhile is refused
line by line, and the rest is taken. The same sheet can come back again: what was taken is passed
over.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DataError
from drenpa.core.records import Identifier, Row, Text
from drenpa.core.text import brief
from drenpa.corpus.annotate import Step, Store
from drenpa.corpus.audit import ASPECTS
from drenpa.corpus.clean import clean_text
from drenpa.corpus.formats import Faults
from drenpa.corpus.intake import Located, read_rows
from drenpa.corpus.rounds import Action, Item, Phase, RuleError

ACTIONS: Mapping[Phase, Action] = {
    "question": "edit_question",
    "answer": "edit_answer",
    "audit": "rate",
    "adjudication": "adjudicate",
    "accepted": "rank",
    "rejected": "repair",
}
"""What is done in each phase."""

_FILLED_IN: Mapping[Phase, tuple[str, ...]] = {
    "question": ("question", "kind", "stability", "demand"),
    "answer": ("answer", "kind"),
    "audit": ("agrees", "kind", *ASPECTS, "comment"),
    "adjudication": ("outcome", "kind", "comment"),
    "accepted": ("rank", "note"),
    "rejected": ("question", "answer", "kind"),
}
_SHOWN: Mapping[Phase, tuple[str, ...]] = {
    "question": ("answer",),
    "answer": ("question",),
    "audit": ("question", "answer"),
    "adjudication": ("question", "answer", "dispute"),
    "accepted": ("question", "candidate", "answer"),
    "rejected": ("dispute",),
}
_MARKS = {"yes": True, "y": True, "x": True, "true": True, "1": True, "no": False, "": False}
_NOT_IN_XML = re.compile("[\x00-\x08\x0b-\x0d\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_XLSX_ESCAPE = re.compile("_x[0-9A-Fa-f]{4}_|x005F_")  # programs differ in reading it back
_MAX_XLSX_CELL = 32_767
_FORMULA = re.compile("'*[=+\\-@]")
Cell = str | int | float | bool


class Line(Row):
    """One line of a sheet; which cells there are goes by the phase.

    seen:    stands for the item's version that the line shows (`Store.stamp`).
    person:  who did the work.
    done:    `yes` on a finished line.
    dispute: what the raters disagree on, or why they rejected it, to be read.
    """

    item: Identifier
    seen: Identifier
    phase: Phase
    person: Identifier
    done: Cell = ""
    question: Cell = ""
    answer: Cell = ""
    kind: Cell = ""
    stability: Cell = ""
    demand: Cell = ""
    agrees: Cell = ""
    quality: Cell = ""
    diversity: Cell = ""
    timeliness: Cell = ""
    professionalism: Cell = ""
    comment: Cell = ""
    outcome: Cell = ""
    candidate: Cell = ""
    rank: Cell = ""
    note: Cell = ""
    dispute: Cell = ""

    def cell(self, name: str) -> str:
        """Return the text of a cell, as `clean_text` leaves it."""
        value = getattr(self, name)
        return clean_text(str(value).lower() if isinstance(value, bool) else str(value))


@dataclass(frozen=True)
class Outcome:
    """What became of a sheet.

    taken:   items whose work is in the store now, that of an earlier import included.
    waiting: items that are not marked as done.
    refused: a line for each item that was refused, `file:line: why`.
    """

    taken: int
    waiting: int
    refused: tuple[str, ...]


def write_sheet(
    store: Store, path: Path, person: str, phase: Phase, *, count: int | None = None
) -> int:
    """Write the items that the person may work on in a phase; return how many.

    count: at most so many.
    raises: DataError when there are none, or when XLSX cannot hold one of them.
    """
    items = open_sheet(store, person, phase, count)
    lines = [
        line
        for item in items
        for line in sheet_lines(item, person, seen=store.stamp(item.id, item.version))
    ]
    columns = ["item", "seen", "phase", "person", *_SHOWN[phase], *_FILLED_IN[phase], "done"]
    rows = [line.model_dump(include=set(columns)) for line in lines]
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        texts = (json.dumps({c: row[c] for c in columns}, ensure_ascii=False) for row in rows)
        write_text(path, "".join(text + "\n" for text in texts))
    elif suffix == ".csv":
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerows([columns, *([_guarded(row[c]) for c in columns] for row in rows)])
        write_text(path, "\ufeff" + table.getvalue())
    elif suffix == ".xlsx":
        _write_xlsx(path, columns, rows)
    else:
        raise DataError(f"{path}: a sheet is .csv, .xlsx or .jsonl, not '{path.suffix}'")
    return len(items)


def open_sheet(store: Store, person: str, phase: Phase, count: int | None) -> list[Item]:
    """Return the items that a sheet for the person holds.

    raises: DataError when there are none.
    """
    if not person.strip():
        raise DataError("a sheet is for one person; name them")
    items = store.open_items(person, phase)[:count]
    if not items:
        raise DataError(f"there is nothing for {person} in phase '{phase}'")
    return items


def sheet_lines(item: Item, person: str, *, seen: str) -> list[Line]:
    """Return the lines of an item for the person to fill in; what is known is filled in.

    seen: the stamp of the item's version.
    """
    base: dict[str, Any] = {
        "item": item.id,
        "seen": seen,
        "phase": item.phase,
        "person": person,
        "question": clean_text(item.question),
        "answer": clean_text(item.answer),
    }
    if item.phase == "question":
        own: dict[str, Any] = {
            "kind": item.kind or "",
            "stability": item.stability,
            "demand": item.demand,
        }
        return [Line(**base, **own)]
    if item.phase == "answer":
        return [Line(**base, kind=item.kind or "")]
    if item.phase == "adjudication":
        return [Line(**base, dispute=clean_text(item.faults_told()))]
    if item.phase == "rejected":
        return [Line(**base, kind=item.kind or "", dispute=clean_text(item.faults_told()))]
    if item.phase == "accepted":
        base.pop("answer")
        return [
            Line(**base, candidate=candidate.id, answer=clean_text(candidate.answer))
            for candidate in item.candidates
        ]
    return [Line(**base)]


def take_sheet(store: Store, path: Path) -> Outcome:
    """Take the work of a filled sheet; a line at fault is refused and the rest goes on."""
    faults = Faults()
    lines = read_rows(path, Line, faults)
    if path.suffix.lower() == ".csv":
        lines = [Located(_unguarded(entry.row), entry.place) for entry in lines]
    outcome = take_lines(store, lines)
    return Outcome(outcome.taken, outcome.waiting, (*faults.lines, *outcome.refused))


class CandidateLine(Row):
    """An answer to be ranked among others, for an item that is in the store."""

    item: Identifier
    answer: Text


def take_candidates(store: Store, path: Path, actor: str) -> Outcome:
    """Add the answers of a file to their items, to be ranked; those there already are passed
    over."""
    faults = Faults()
    entries = read_rows(path, CandidateLine, faults)
    known = {item.id: item for item in store.items()}
    answers = {name: [c.answer for c in item.candidates] for name, item in known.items()}
    steps, places, there = [], [], 0
    for entry in entries:
        name, answer = entry.row.item, clean_text(entry.row.answer)
        taken = answers.setdefault(name, [])
        if answer in taken:
            there += 1
            continue
        taken.append(answer)
        content = {"id": str(len(taken)), "answer": answer}
        steps.append(Step(name, "add_candidate", actor, content, _version(known.get(name))))
        places.append(entry.place)
    refused = store.act_all(steps)
    for place, refusal in zip(places, refused, strict=True):
        if refusal is not None:
            faults.add(place, str(refusal))
    taken_now = sum(refusal is None for refusal in refused)
    return Outcome(taken_now + there, 0, tuple(faults.lines))


def _version(item: Item | None) -> int:
    return item.version if item else 0


def take_lines(store: Store, lines: Sequence[Located[Line]]) -> Outcome:
    """Take the work of lines, those of one item and person together; refuse line by line."""
    known = {item.id: item for item in store.items()}
    gathered: dict[tuple[str, str, str], list[Located[Line]]] = {}
    for entry in lines:
        key = (entry.row.item, entry.row.person, entry.row.phase)
        gathered.setdefault(key, []).append(entry)
    faults, steps, places, waiting = Faults(), [], [], 0
    for entries in gathered.values():
        item = known.get(entries[0].row.item)
        stamp = store.stamp(item.id, item.version) if item else ""
        marked = [_is_done(entry, item, stamp, faults) for entry in entries]
        if None in marked:
            continue
        if not any(marked):
            waiting += 1
        elif not all(marked):
            place = entries[marked.index(False)].place
            faults.add(place, "field 'done': not every line of this item is marked; write yes")
        else:
            step = _step_of(store, entries, item, faults)
            if step is not None:
                steps.append(step)
                places.append(entries[0].place)
    refused = store.act_all(steps)
    for place, refusal in zip(places, refused, strict=True):
        if refusal is not None:
            faults.add(place, str(refusal))
    return Outcome(sum(refusal is None for refusal in refused), waiting, tuple(faults.lines))


def _is_done(entry: Located[Line], item: Item | None, stamp: str, faults: Faults) -> bool | None:
    """Whether the line is marked as done; None when it is at fault.

    A line that was changed without being marked is a fault, so that no work is lost unsaid.
    """
    line = entry.row
    mark = line.cell("done").lower()
    if mark not in _MARKS:
        faults.add(entry.place, f"field 'done': '{brief(mark)}' is neither yes nor empty")
        return None
    if _MARKS[mark] or item is None or (item.phase, stamp) != (line.phase, line.seen):
        return _MARKS[mark]
    fresh = next(
        (
            other
            for other in sheet_lines(item, line.person, seen=stamp)
            if other.cell("candidate") == line.cell("candidate")
        ),
        None,
    )
    names = _FILLED_IN[line.phase]
    changed = [n for n in names if fresh is not None and not _same(line.cell(n), fresh.cell(n))]
    if changed:
        faults.add(
            entry.place,
            f"field '{changed[0]}': filled in, but the line is not marked as done; "
            "write yes under 'done', or put the line back",
        )
        return None
    return False


def _same(one: str, other: str) -> bool:
    """Whether two cells say the same; a table may write 1 for 1.0."""
    try:
        return one == other or float(one) == float(other)
    except ValueError:
        return False


def _step_of(
    store: Store, entries: Sequence[Located[Line]], item: Item | None, faults: Faults
) -> Step | None:
    """The step that the lines of one item stand for; None when they are at fault."""
    first, place = entries[0].row, entries[0].place
    if item is None:
        faults.add(place, f"field 'item': the store has no item '{brief(first.item)}'")
        return None
    if len({entry.row.seen for entry in entries}) > 1:
        faults.add(place, "field 'seen': the lines of this item name several versions; keep them")
        return None
    if first.phase != "accepted" and len(entries) > 1:
        faults.add(entries[1].place, f"field 'item': stands already at {place}; keep one line")
        return None
    answers = {candidate.id: candidate.answer for candidate in item.candidates}
    for entry in entries:
        shown_texts = {"question": item.question, "answer": item.answer}
        if first.phase == "accepted":
            shown_texts["answer"] = answers.get(entry.row.cell("candidate"), "")
        for name in set(_SHOWN[first.phase]) & {"question", "answer"}:
            if entry.row.cell(name) and entry.row.cell(name) != clean_text(shown_texts[name]):
                faults.add(
                    entry.place,
                    f"field '{name}': is not what the store holds; in phase '{first.phase}' it is "
                    "to be read, not changed",
                )
                return None
    content: dict[str, Any] = _cells(first, _FILLED_IN[first.phase])
    if first.phase == "accepted":
        content = {
            "ranks": [
                {"candidate": entry.row.cell("candidate"), **_cells(entry.row, ("rank", "note"))}
                for entry in entries
            ]
        }
    try:
        seen = store.version_of(item.id, first.seen)
    except RuleError as error:
        faults.add(place, f"field 'seen': {error}")
        return None
    return Step(item.id, ACTIONS[first.phase], first.person, content, seen)


def _cells(line: Line, names: Iterable[str]) -> dict[str, str]:
    return {name: line.cell(name) for name in names if line.cell(name)}


def _guarded(value: Cell) -> Cell:
    """A cell of CSV that a spreadsheet does not take for a formula: with an apostrophe before
    it."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _unguarded(line: Line) -> Line:
    cells = {
        name: value[1:]
        for name, value in line
        if isinstance(value, str) and value.startswith("'") and _FORMULA.match(value)
    }
    return line.model_copy(update=cells)


def _write_xlsx(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Cell]]) -> None:
    try:
        from openpyxl import Workbook
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.styles import Alignment
    except ImportError as error:
        raise DataError("writing XLSX needs an extra: pip install 'drenpa[xlsx]'") from error
    texts = [[_xlsx_value(row, name) for name in columns] for row in rows]
    book = Workbook(write_only=True)
    sheet = book.create_sheet("work")
    sheet.freeze_panes = "B2"
    for number, name in enumerate(columns):
        wide = name in ("question", "answer", "note", "comment", "dispute")
        sheet.column_dimensions[chr(ord("A") + number)].width = 50 if wide else 14
    sheet.append(list(columns))
    for values in texts:
        cells = [WriteOnlyCell(sheet, value=value) for value in values]
        for cell, value in zip(cells, values, strict=True):
            if isinstance(value, str):
                cell.data_type = "s"  # never a formula, whatever it begins with
                cell.alignment = Alignment(wrap_text=True, vertical="top")
        sheet.append(cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    book.save(part)
    part.replace(path)


def _xlsx_value(row: Mapping[str, Cell], name: str) -> Cell:
    """A cell's value as XLSX can hold it."""
    value = row[name]
    if not isinstance(value, str):
        return value
    value = _NOT_IN_XML.sub("", value)
    where = f"{row['item']}: field '{name}'"
    if len(value) > _MAX_XLSX_CELL:
        raise DataError(
            f"{where} has {len(value)} characters and XLSX holds {_MAX_XLSX_CELL} in a cell; "
            "write .csv or .jsonl"
        )
    escape = _XLSX_ESCAPE.search(value)
    if escape:
        raise DataError(
            f"{where} contains '{escape[0]}', which XLSX takes for another character; "
            "write .csv or .jsonl"
        )
    return value
