"""Say what is in an artefact's folder, or in a run's: for a person at a terminal.

Texts in an artefact were written by models and strangers. They are shown as they are, never read as
markup, and without characters that could move the cursor or turn the reading direction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drenpa.core.artefacts import MANIFEST, PARTIAL, Artefact, finished, open_artefact
from drenpa.core.errors import ArtefactError
from drenpa.core.text import shown

MAX_FILES = 40
MAX_TEXT = 400
UNITS = ("B", "kB", "MB", "GB", "TB")


def describe(path: Path, rows: int, console: Console) -> None:
    """Print what an artefact, an unfinished one, or a run's folder holds.

    rows:   how many of each table's first rows; 0 shows none.
    raises: ArtefactError when the folder is nothing of drenpa's.
    """
    if (path / MANIFEST).is_file():
        _artefact(open_artefact(path), rows, console)
    elif path.is_dir() and path.name.endswith(PARTIAL):
        _unfinished(path, console)
    elif path.is_dir() and (found := _children(path)):
        _run(path, found, console)
    elif path.is_dir():
        raise ArtefactError(
            f"{path}: is no artefact (it has no {MANIFEST}) and no artefact stands in it; name an "
            "artefact's folder, or a run's such as runs/demo"
        )
    else:
        open_artefact(path)


def size_text(size: float) -> str:
    """Write a count of bytes with three digits.

    >>> size_text(999), size_text(98_362_432), size_text(1.5e12)
    ('999 B', '98.4 MB', '1.5 TB')
    """
    power = 0
    while size >= 999.5 and power < len(UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.3g} {UNITS[power]}"


def _artefact(artefact: Artefact, rows: int, console: Console) -> None:
    facts = _pairs()
    for name, value in (
        ("kind", artefact.kind),
        ("name", artefact.name),
        ("folder", artefact.path),
        ("made", f"{artefact.created} by drenpa {artefact.version}, code {artefact.code}"),
        ("key", artefact.key),
        ("digest", artefact.digest),
    ):
        facts.add_row(_plain(name, "dim"), _plain(value))
    console.print(facts)
    _heading("made from", console)
    inputs = _pairs()
    for name, entry in artefact.inputs.items():
        inputs.add_row(_plain(name, "dim"), _plain(_origin(artefact, name, entry)))
    console.print(inputs if artefact.inputs else _plain("  nothing but its config", "dim"))
    for title, values in (("config", artefact.config), ("summary", artefact.summary)):
        _heading(title, console)
        table = _pairs()
        for name, value in _flat(values):
            table.add_row(_plain(name, "dim"), _plain(_clipped(value)))
        console.print(table)
    _heading("files", console)
    console.print(_files(artefact.path))
    for file in sorted(artefact.path.glob("*.parquet")):
        _rows(file, rows, console)


def _origin(artefact: Artefact, name: str, entry: Mapping[str, str]) -> str:
    try:
        place = str(artefact.input_path(name))
    except ArtefactError:
        stored = str(entry.get("path", "?"))
        place = f"{stored} ({'another stands there now' if Path(stored).exists() else 'gone'})"
    return f"{place}  {str(entry.get('digest', ''))[:10]}"


def _unfinished(folder: Path, console: Console) -> None:
    console.print(_plain(folder, "bold"))
    console.print("unfinished; run the same command again to go on")
    console.print(_files(folder))


def _children(folder: Path) -> list[tuple[Path, Artefact | None]]:
    """The artefacts in a run's folder in the order in which they were made, unfinished ones
    last."""
    unfinished = [path for path in folder.glob(f"*{PARTIAL}") if path.is_dir()]
    return [
        *((artefact.path, artefact) for artefact in finished(folder)),
        *((path, None) for path in sorted(unfinished, key=lambda path: path.stat().st_mtime)),
    ]


def _run(folder: Path, found: Sequence[tuple[Path, Artefact | None]], console: Console) -> None:
    newest = {artefact.name: artefact.path for _, artefact in found if artefact is not None}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for column in ("made", "state", "kind", "folder", "size"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for path, artefact in found:
        size = _plain(size_text(sum(count for _, count in _sizes(path))))
        if artefact is None:
            table.add_row("", _plain("unfinished", "bold"), "", _plain(path.name), size)
            continue
        state = "done" if newest[artefact.name] == path else "older"
        made = artefact.created[:19].replace("T", " ")
        table.add_row(_plain(made), _plain(state), _plain(artefact.kind), _plain(path.name), size)
    console.print(_plain(folder, "bold"))
    console.print(table)


def _rows(file: Path, count: int, console: Console) -> None:
    """Print a Parquet file's length and its first rows, a field a line, empty fields left out."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            total = table.metadata.num_rows
            batch = next(table.iter_batches(batch_size=max(count, 1)), None)
    except (pyarrow.ArrowException, OSError) as error:
        raise ArtefactError(f"{file}: cannot be read ({error}); make the artefact again") from error
    entries = [] if batch is None else batch.to_pylist()[:count]
    told = f", the first {len(entries)}" if len(entries) < total else ""
    _heading(f"{file.name}: {total} rows{told}", console)
    for entry in entries:
        grid = _pairs()
        for name, value in entry.items():
            if value not in ("", None, []):
                grid.add_row(_plain(name, "dim"), _plain(_value(value)))
        console.print(grid)


def _value(value: Any) -> str:
    """Write one value of a row; a list of objects takes a line for each."""
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return "\n".join(_clipped(_joined(part)) for part in value)
    if isinstance(value, list):
        return _clipped(", ".join(str(part) for part in value))
    return _clipped(_joined(value) if isinstance(value, dict) else str(value))


def _joined(entry: Mapping[str, Any]) -> str:
    return " · ".join(
        f"{name}: {value}" for name, value in entry.items() if value not in ("", None)
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield a nested mapping's leaves by dotted name; a mapping of plain values is one line."""
    for name, value in values.items():
        if isinstance(value, Mapping) and any(
            isinstance(v, Mapping | list) for v in value.values()
        ):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Mapping):
            yield f"{prefix}{name}", ", ".join(f"{key} {v}" for key, v in value.items()) or "–"
        elif isinstance(value, list):
            yield f"{prefix}{name}", "\n".join(str(part) for part in value) or "–"
        else:
            yield f"{prefix}{name}", "–" if value in ("", None) else str(value)


def _files(folder: Path) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    sizes = list(_sizes(folder))
    for path, size in sizes[:MAX_FILES]:
        table.add_row(_plain(f"  {size_text(size)}", "dim"), _plain(path.relative_to(folder)))
    if len(sizes) > MAX_FILES:
        table.add_row("", _plain(f"… and {len(sizes) - MAX_FILES} more", "dim"))
    table.add_row(
        _plain(f"  {size_text(sum(s for _, s in sizes))}", "dim"), _plain("in all", "dim")
    )
    return table


def _sizes(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.stat().st_size


def _heading(text: str, console: Console) -> None:
    console.print()
    console.print(_plain(text, "bold"))


def _pairs() -> Table:
    """A borderless table of names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _plain(value: object, style: str = "") -> Text:
    """Text that is never read as markup, without unsafe characters."""
    return Text(shown(str(value)), style)
