"""Read a user's files of records, rankings, benchmark items and pages; tell every fault at once.

JSON Lines (`.jsonl`, `.ndjson`), tables (`.csv`, `.tsv`, `.xlsx`), Parquet (`.parquet`) and Arrow
(`.arrow`) hold the fields of `core.records`, under those names. In a table, lists such as tags are
separated by `;`, an empty cell is a field left out, and a ranking takes one line per candidate
(`formats.RANKING_COLUMNS`). A fault reads `file:line: field 'x': what is wrong; remedy`; in Parquet
and Arrow the number is the row's. What cannot be read raises `DataError`; nothing is skipped in
silence.
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from drenpa.core.errors import did_you_mean
from drenpa.core.knowledge import KINDS, STABILITIES
from drenpa.core.languages import language_fault
from drenpa.core.records import Candidate, Page, Ranking, Record, Row
from drenpa.core.text import brief
from drenpa.corpus.formats import (
    RELEASE_COLUMNS,
    SUFFIXES,
    Entry,
    Faults,
    read_entries,
    unknown_format,
)
from drenpa.corpus.hub import HUB, dataset_files

RowType = TypeVar("RowType", bound=Row)
Role = Literal["records", "rankings", "benchmark"]

STARTER = "starter"


@dataclass(frozen=True)
class Located(Generic[RowType]):
    """A row and the `file:line` where it stands, for checks that come after reading."""

    row: RowType
    place: str


def read_records(path: Path | str, *, withheld: bool = False) -> list[Record]:
    """Read records, each with an id of its own and an answer.

    withheld: whether an answer may be null, as in the test split of a released dataset.
    raises:   DataError with every fault found.
    """
    faults = Faults()
    records = located_records([Path(path)], faults, withheld=withheld)
    faults.check()
    return [entry.row for entry in records]


def read_rankings(path: Path | str, *, records: Collection[str] | None = None) -> list[Ranking]:
    """Read rankings, each with an id of its own.

    records: the ids that a ranking may name; None does not ask.
    raises:  DataError with every fault found.
    """
    faults = Faults()
    rankings = located_rankings([Path(path)], faults)
    if records is not None:
        check_rankings(rankings, records, faults)
    faults.check()
    return [entry.row for entry in rankings]


def read_pages(path: Path | str) -> list[Page]:
    """Read pages as they came in, each with an id of its own.

    raises: DataError with every fault found.
    """
    faults = Faults()
    pages = read_rows(Path(path), Page, faults)
    check_ids(pages, faults)
    faults.check()
    return [entry.row for entry in pages]


def source_files(names: Sequence[str], role: Role) -> list[Path]:
    """Resolve the names in a recipe to files.

    names:  paths; patterns such as `data/train-*.parquet`; `hf://datasets/OWNER/NAME/PATTERN` on a
            model hub (`hub.dataset_files`); `starter`, the corpus that comes with the package.
    raises: DataError when a file does not exist or is of a format that is not read.
    """
    faults = Faults()
    paths: list[Path] = []
    for name in names:
        if name == STARTER:
            folder = Path(str(resources.files("drenpa.corpus"))) / STARTER
            found = sorted(folder.glob(f"*.{role}.jsonl"))
            if not found:
                faults.add(STARTER, f"the package holds no {role}; install drenpa again")
            paths += found
            continue
        if name.startswith(HUB):
            paths += dataset_files(name)
            continue
        path = Path(name)
        if not path.exists() and (found := _matches(name)):
            paths += found
        elif path.is_dir():
            faults.add(name, f"is a folder; name the files of {role} in it, as in {name}/*.parquet")
        elif not path.is_file():
            beside = path.parent.iterdir() if path.parent.is_dir() else ()
            hint = did_you_mean(path.name, [entry.name for entry in beside])
            faults.add(name, f"no such file of {role}{hint or '; give its path, or `starter`'}")
        elif path.suffix.lower() not in SUFFIXES:
            faults.add(name, unknown_format(path))
        else:
            paths.append(path)
    faults.check()
    return paths


def _matches(pattern: str) -> list[Path]:
    """The files of a format that is read and that a pattern with `*`, `?` or `**` names."""
    if not glob.has_magic(pattern):
        return []
    found = sorted(Path(name) for name in glob.glob(pattern, recursive=True))
    return [path for path in found if path.is_file() and path.suffix.lower() in SUFFIXES]


def located_records(
    paths: Iterable[Path], faults: Faults, *, withheld: bool = False
) -> list[Located[Record]]:
    """Read records from several files, noting faults; ids are unique over all of them."""
    found: list[Located[Record]] = []
    for path in paths:
        rows = read_rows(path, Record, faults)
        for entry in rows:
            given = "answer" in entry.row.model_fields_set
            if entry.row.answer is None and not (withheld and given):
                faults.add(entry.place, "field 'answer': missing; write the answer")
            if not withheld and entry.row.split == "test":
                faults.add(
                    entry.place,
                    "field 'split': a test item among training records; "
                    "move it to a benchmark file",
                )
        found += rows
    check_ids(found, faults)
    check_languages(found, faults)
    return found


def located_rankings(paths: Iterable[Path], faults: Faults) -> list[Located[Ranking]]:
    """Read rankings from several files, noting faults; ids are unique over all of them."""
    found = [entry for path in paths for entry in read_rows(path, Ranking, faults)]
    check_ids(found, faults)
    for entry in found:
        ranks: dict[str, Candidate] = {}
        for candidate in entry.row.candidates:
            other = ranks.setdefault(candidate.answer, candidate)
            if other.rank != candidate.rank:
                faults.add(
                    entry.place,
                    f"field 'candidates': '{brief(other.id)}' and '{brief(candidate.id)}' are "
                    f"one answer with ranks {other.rank} and {candidate.rank}; keep one of them",
                )
    return found


def check_ids(rows: Iterable[Located[Any]], faults: Faults) -> None:
    """Note every id that stands twice, naming both places."""
    places: dict[str, str] = {}
    for entry in rows:
        first = places.setdefault(entry.row.id, entry.place)
        if first != entry.place:
            faults.add(
                entry.place,
                f"field 'id': '{brief(entry.row.id)}' stands already at {first}; give each its own",
            )


def check_languages(rows: Iterable[Located[Any]], faults: Faults) -> None:
    """Note every language that is no code."""
    for entry in rows:
        if fault := language_fault(brief(entry.row.language)):
            faults.add(entry.place, f"field 'language': {fault}")


def check_rankings(
    rankings: Iterable[Located[Ranking]], records: Collection[str], faults: Faults
) -> None:
    """Note every ranking of a record that is not among `records`; once, where a whole file fits
    none."""
    by_file: dict[str, list[Located[Ranking]]] = {}
    for entry in rankings:
        by_file.setdefault(entry.place.rpartition(":")[0], []).append(entry)
    for file, entries in by_file.items():
        unknown = [entry for entry in entries if entry.row.record not in records]
        if len(unknown) == len(entries) > 1:
            faults.add(
                file,
                f"field 'record': none of its {len(entries)} rankings is of one of the records; "
                "name rankings of your records in corpus.rankings, or none with []",
            )
            continue
        for entry in unknown:
            hint = did_you_mean(entry.row.record, records)
            faults.add(
                entry.place,
                f"field 'record': no record has the id '{brief(entry.row.record)}'{hint}; "
                "add the record, or leave this ranking out",
            )


def read_rows(path: Path, row: type[RowType], faults: Faults) -> list[Located[RowType]]:
    """Read the rows of one file and note every fault in it; rows at fault are left out.

    The format goes by the file's suffix. A file with no rows at all is a fault.
    """
    before = len(faults.lines)
    try:
        rows = [
            Located(value, place)
            for place, entry in read_entries(path, row, faults)
            if (value := _validated(row, entry, place, faults)) is not None
        ]
    except OSError as error:
        faults.add(str(path), f"cannot be read ({error.strerror or error})")
        return []
    if not rows and len(faults.lines) == before:
        faults.add(str(path), f"holds no rows; it should hold {row.__name__.lower()}s")
    return rows


def _validated(row: type[RowType], entry: Entry, place: str, faults: Faults) -> RowType | None:
    """Make the row, or note what is wrong with each of its fields."""
    fields = row.model_fields
    given = {
        key: [_filled(part) for part in value] if isinstance(value, list) else value
        for key, value in entry.items()
        if key not in RELEASE_COLUMNS and (value is not None or _may_be_null(fields.get(key)))
    }
    try:
        return row.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        deeper = {detail["loc"][0] for detail in details if len(detail["loc"]) > 1}
        for detail in details:
            if detail["type"] != "too_short" or detail["loc"][0] not in deeper:
                faults.add(place, _fault(detail, row))
        return None


def _filled(part: Any) -> Any:
    """A candidate without its empty fields; a table gives every row the same ones."""
    if not isinstance(part, dict):
        return part
    return {key: value for key, value in part.items() if value is not None}


def _may_be_null(field: Any) -> bool:
    return field is not None and type(None) in get_args(field.annotation)


def _fault(detail: ErrorDetails, row: type[Row]) -> str:
    """Say what pydantic found wrong, in words that name the remedy."""
    name = ""
    for part in detail["loc"]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    field = f"field '{brief(name)}': " if name else ""
    value, last = detail.get("input"), str(detail["loc"][-1]) if detail["loc"] else ""
    if detail["type"] == "missing":
        return f"{field}missing; add it"
    if detail["type"] == "extra_forbidden":
        known = Candidate.model_fields if len(detail["loc"]) > 1 else row.model_fields
        hint = did_you_mean(last, known) or f"; known: {', '.join(known)}"
        return f"{field}unknown field{hint}"
    if detail["type"] == "literal_error" and last in _CHOICES:
        known_values = _CHOICES[last]
        hint = did_you_mean(str(value), known_values)
        return f"{field}'{brief(value)}' is not one of {', '.join(known_values)}{hint}"
    if detail["type"] == "string_unicode":
        return f"{field}holds half a character (\\ud800 to \\udfff); take it out or write it whole"
    if detail["type"] == "string_too_short":
        return f"{field}empty; write it"
    if detail["type"] == "too_short":
        needed, found = detail["ctx"]["min_length"], detail["ctx"]["actual_length"]
        return f"{field}needs {needed} or more, there is {found}"
    if detail["type"] == "finite_number":
        return f"{field}{brief(value)} is not a finite number; give one, or leave the field out"
    message = detail["msg"].removeprefix("Value error, ")
    detail_shown = f" (it is {brief(repr(value))})" if isinstance(value, str | int | float) else ""
    return f"{field}{message}{detail_shown}"


_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": KINDS,
    "stability": STABILITIES,
    "split": ("train", "held_out", "test"),
}
