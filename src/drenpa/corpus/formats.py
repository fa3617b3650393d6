"""The formats that files of rows come in: JSON Lines, CSV, XLSX, Parquet and Arrow, read as plain
mappings.

What a row means is `intake`'s business; here each row becomes (`file:line`, mapping), and what is
no row becomes a fault. Rows are read a few at a time, so a file of any size needs little memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any, get_origin

from drenpa.core.errors import (
    DataError,
    did_you_mean,
    not_utf8,
)
from drenpa.core.records import Ranking, Record, Row
from drenpa.core.text import brief

Entry = dict[str, Any]

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow")
MAX_ROW_BYTES = 8 * 2**20
SHOWN_FAULTS = 20
RANKING_COLUMNS: tuple[str, ...] = (
    "ranking",
    "record",
    "annotator",
    "candidate",
    "answer",
    "rank",
    "note",
    "critique",
)
"""The columns of a ranking in a table; `record`, `answer` and `rank` must be there. Lines with the
same `ranking` (or, without that column, the same `record` and `annotator`) make one ranking."""

RELEASE_COLUMNS = ("commitment", "canary", "license")
"""Columns that `release` adds; they are passed over when a released dataset is read back."""

_NEEDED_RANKING_COLUMNS = ("record", "answer", "rank")
_BOM = b"\xef\xbb\xbf"
_XLSX_ERRORS = frozenset(
    ("#REF!", "#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#VALUE!", "#GETTING_DATA")
)


class Faults:
    """The faults found so far, in the order they were found."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._told: set[str] = set()

    def add(self, place: str, what: str) -> None:
        """Note that `what` is wrong at `place`; the same fault found by two checks is told once."""
        line = f"{place}: {what}"
        if line not in self._told:
            self._told.add(line)
            self.lines.append(line)

    def check(self) -> None:
        """Go on only when nothing is wrong.

        raises: DataError with the first 20 faults and the count of the rest.
        """
        if not self.lines:
            return
        rest = len(self.lines) - SHOWN_FAULTS
        more = [f"… and {rest} more like these"] if rest > 0 else []
        raise DataError([*self.lines[:SHOWN_FAULTS], *more])


def read_entries(path: Path, row: type[Row] | None, faults: Faults) -> Iterator[tuple[str, Entry]]:
    """Yield (`file:line`, fields) for each row of a file, whose format goes by its suffix.

    row: what the rows are meant to be; tables are checked against its fields, once per file. None
         takes any columns.
    """
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        yield from _json_lines(path, faults)
    elif suffix in (".csv", ".tsv"):
        yield from _tabular_rows(_csv_lines(path, faults), row, faults)
    elif suffix == ".xlsx":
        yield from _tabular_rows(_xlsx_lines(path, faults), row, faults)
    elif suffix in (".parquet", ".arrow"):
        yield from _columnar_rows(path, row, faults)
    else:
        faults.add(str(path), unknown_format(path))


def _json_lines(path: Path, faults: Faults) -> Iterator[tuple[str, Entry]]:
    for number, line in _lines(path, faults):
        place = f"{path}:{number}"
        if not line.strip():
            continue
        if line.strip() in ("[", "{"):
            faults.add(
                place,
                "a JSON document spread over lines; JSON Lines has one object on each line "
                "(`jq -c '.[]' FILE` makes them)",
            )
            return
        try:
            entry = json.loads(line, object_pairs_hook=_no_repeated_key)
        except RecursionError:
            faults.add(place, "JSON nested too deeply; a row has a few levels at most")
            continue
        except json.JSONDecodeError as error:
            faults.add(place, f"broken JSON at column {error.colno}: {error.msg}; repair this line")
            continue
        except ValueError as error:
            faults.add(place, f"broken JSON: {error}; repair this line")
            continue
        if isinstance(entry, dict):
            yield place, entry
        else:
            faults.add(place, f"a row is an object {{…}}, this is a {type(entry).__name__}")


def _tabular_rows(
    lines: Iterator[tuple[str, list[str]]], row: type[Row] | None, faults: Faults
) -> Iterator[tuple[str, Entry]]:
    table = _table(lines, row, faults)
    if row is Ranking:
        return _gathered_rankings(table, faults)
    fields = row.model_fields if row is not None else {}
    lists = {name for name, field in fields.items() if get_origin(field.annotation) is tuple}
    return (
        (
            place,
            {
                name: [part.strip() for part in cell.split(";") if part.strip()]
                if name in lists
                else cell
                for name, cell in cells.items()
            },
        )
        for place, cells in table
    )


def _table(
    lines: Iterator[tuple[str, list[str]]], row: type[Row] | None, faults: Faults
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each line of a table as its filled cells by column; the first line names the
    columns."""
    columns: list[str] = []
    for place, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            columns = [cell.strip() for cell in cells]
            if not _columns_fit(columns, row, place, faults, tabular=True):
                return
            continue
        if len(cells) != len(columns):
            faults.add(
                place,
                f"{len(cells)} cells where the header names {len(columns)} columns; quote cells "
                "that hold separators",
            )
            continue
        yield (
            place,
            {name: cell for name, cell in zip(columns, cells, strict=True) if cell.strip()},
        )


def _csv_lines(path: Path, faults: Faults) -> Iterator[tuple[str, list[str]]]:
    """Yield (`file:line`, cells) of each line of a CSV file, a line being as long as its quotes."""
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    csv.field_size_limit(MAX_ROW_BYTES)
    numbers: list[int] = []  # of the lines of one row

    def texts() -> Iterator[str]:
        for number, line in _lines(path, faults):
            numbers.append(number)
            yield line

    reader = csv.reader(texts(), delimiter=separator, strict=True)
    while True:
        numbers.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            through = f" up to line {numbers[-1]}" if len(numbers) > 1 else ""
            faults.add(
                f"{path}:{numbers[0]}",
                f"not CSV{through} ({error}); quote cells that hold separators, line breaks or "
                "quotation marks, or use JSON Lines",
            )
            continue
        yield f"{path}:{numbers[0]}", cells


def _xlsx_lines(path: Path, faults: Faults) -> Iterator[tuple[str, list[str]]]:
    """Yield (`file:row`, cells) of a workbook's one sheet that holds anything.

    Cells are read as they are shown: values of formulas, whole numbers without a point, dates as
    2026-05-01. A row is as wide as the header.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        faults.add(str(path), "reading XLSX needs an extra: pip install 'drenpa[xlsx]'")
        return
    place = str(path)
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        with closing(book):
            filled = [sheet for sheet in book.worksheets if any(map(_filled, _xlsx_cells(sheet)))]
            if len(filled) > 1:
                names = ", ".join(brief(sheet.title) for sheet in filled)
                faults.add(
                    place, f"rows in {len(filled)} sheets ({names}); save each as a file of its own"
                )
                return
            width = 0
            for number, cells in enumerate(_xlsx_cells(*filled) if filled else (), 1):
                place = f"{path}:{number}"
                while len(cells) > width and not cells[-1].strip():
                    cells.pop()
                width = width or len(cells)
                wrong = [cell for cell in cells if cell in _XLSX_ERRORS]
                if wrong:
                    faults.add(place, f"a cell holds {wrong[0]}; repair its formula")
                    continue
                yield place, cells + [""] * (width - len(cells))
    except OSError:
        raise
    except Exception as error:  # whatever a damaged archive or its XML makes openpyxl raise
        faults.add(place, f"not XLSX that can be read from here on ({_cause(error)})")


def _xlsx_cells(sheet: Any) -> Iterator[list[str]]:
    sheet.reset_dimensions()  # what a file claims about its size may be wrong
    for values in sheet.iter_rows(values_only=True):
        yield [_cell_text(value) for value in values]


def _filled(cells: Iterable[str]) -> bool:
    return any(cell.strip() for cell in cells)


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and (value.hour, value.minute, value.second) == (0, 0, 0):
        return value.date().isoformat()
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)


def _gathered_rankings(
    table: Iterable[tuple[str, dict[str, str]]], faults: Faults
) -> Iterator[tuple[str, Entry]]:
    """Put the lines of each ranking together."""
    gathered: dict[str, tuple[str, Entry]] = {}
    for place, cells in table:
        record, annotator = cells.get("record", ""), cells.get("annotator", "")
        name = cells.get("ranking") or "-".join(part for part in (record, annotator) if part)
        ranking = {"id": name, "record": record, "annotator": annotator, "candidates": []}
        first, entry = gathered.setdefault(name, (place, ranking))
        for key in ("record", "annotator"):
            if entry[key] != ranking[key]:
                faults.add(
                    place,
                    f"field '{key}': '{brief(ranking[key])}', but the ranking that begins at "
                    f"{first} has '{brief(entry[key])}'; a ranking is one person's, of one record",
                )
        candidate: Entry = {
            key: cells[key] for key in ("answer", "rank", "note", "critique") if key in cells
        }
        candidate["id"] = cells.get("candidate", str(len(entry["candidates"]) + 1))
        entry["candidates"].append(candidate)
    yield from gathered.values()


def _columnar_rows(
    path: Path, row: type[Row] | None, faults: Faults
) -> Iterator[tuple[str, Entry]]:
    import pyarrow

    number = 0
    name = "Parquet" if path.suffix.lower() == ".parquet" else "Arrow"
    try:
        with _open_columns(path) as (columns, batches):
            if not _columns_fit(columns, row, str(path), faults, tabular=False):
                return
            for batch in batches:
                for entry in batch.to_pylist():
                    number += 1
                    yield f"{path}:{number}", entry
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        place = f"{path}:{number + 1}"
        faults.add(place, f"not {name} that can be read from here on ({_cause(error)})")


@contextmanager
def _open_columns(path: Path) -> Iterator[tuple[list[str], Iterator[Any]]]:
    """Open a Parquet file, or an Arrow stream or file as `datasets` saves them."""
    import pyarrow
    import pyarrow.parquet

    if path.suffix.lower() == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file.schema_arrow.names, file.iter_batches(batch_size=1024)
        return
    with pyarrow.memory_map(str(path)) as source:
        magic = source.read(6)
        source.seek(0)
        if magic == b"ARROW1":
            with pyarrow.ipc.open_file(source) as whole:
                yield (
                    whole.schema.names,
                    (whole.get_batch(place) for place in range(whole.num_record_batches)),
                )
        else:
            with pyarrow.ipc.open_stream(source) as stream:
                yield stream.schema.names, iter(stream)


def _cause(error: Exception) -> str:
    return brief(" ".join(str(error).split()) or type(error).__name__, most=200)


def _columns_fit(
    columns: Sequence[str], row: type[Row] | None, place: str, faults: Faults, *, tabular: bool
) -> bool:
    """Whether a table's columns are those of the row; what is wrong is noted once, not per line."""
    needed: tuple[str, ...] = _NEEDED_RANKING_COLUMNS
    if row is None:
        known, needed = tuple(columns), ()
    elif row is Ranking and tabular:
        known = RANKING_COLUMNS
    else:
        known = (*row.model_fields, *RELEASE_COLUMNS)
        needed = tuple(name for name, field in row.model_fields.items() if field.is_required())
        if row is Record:
            needed = (*needed, "answer")
    before = len(faults.lines)
    if len(columns) == 1 and any(sign in columns[0] for sign in ";\t"):
        faults.add(place, "one column only; separate the columns with commas")
        return False
    for name in dict.fromkeys(columns):
        if columns.count(name) > 1:
            faults.add(place, f"field '{brief(name)}': the column stands twice; keep one")
        if name not in known:
            hint = did_you_mean(name, known)
            known_names = f"; known: {', '.join(known)}"
            faults.add(
                place,
                f"field '{brief(name)}': unknown column{hint or known_names}",
            )
    for name in needed:
        if name not in columns:
            faults.add(place, f"field '{name}': the column is missing; add it to the header")
    return len(faults.lines) == before


def _lines(path: Path, faults: Faults) -> Iterator[tuple[int, str]]:
    """Yield (number, text with its line end) of each line that is UTF-8 and not too long."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_ROW_BYTES + 1):
            number += 1
            place = f"{path}:{number}"
            if number == 1:
                line = line.removeprefix(_BOM)
                if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line[:4]:
                    faults.add(place, "UTF-16 or UTF-32, not UTF-8; save the file as UTF-8")
                    return
            if len(line) > MAX_ROW_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_ROW_BYTES)
                faults.add(
                    place,
                    f"longer than {MAX_ROW_BYTES // 2**20} MiB; a row is one piece of knowledge: "
                    "split it, or put each row on a line of its own",
                )
                continue
            try:
                yield number, line.decode("utf-8")
            except UnicodeDecodeError as error:
                remedy = "for example with `iconv -f GB18030 -t UTF-8`"
                faults.add(place, f"{not_utf8(error)}, {remedy}")


def _no_repeated_key(pairs: list[tuple[str, Any]]) -> Entry:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{brief(twice)}' stands twice in one object")
    return entry


def unknown_format(path: Path) -> str:
    """Say that a file's format is none of those that are read."""
    return f"'{path.suffix}' is not a format that is read; save it as one of {', '.join(SUFFIXES)}"
