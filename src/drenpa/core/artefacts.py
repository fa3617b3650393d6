"""Artefacts: what a stage leaves on disk. A folder of rows and files, with a manifest that is
written last.

A folder without a manifest is unfinished work, never an artefact. A finished one is never
rewritten: a stage whose inputs, config and code have not changed finds its key among the finished
ones and is skipped; one whose key is new makes a new folder beside the old. While a stage runs, its
folder is called `NAME-KEY.partial` and keeps whatever it needs to resume (checkpoints, journals
under `scratch/`, dropped at the end).
"""

from __future__ import annotations

import ast
import datetime
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

import drenpa
from drenpa.core.errors import ArtefactError
from drenpa.core.records import Row

ArtefactKind = Literal["corpus", "policy", "critic", "verdicts", "report", "memory"]
MANIFEST = "manifest.json"
SCRATCH = "scratch"
PARTIAL = ".partial"
_PART = ".part"  # a file while it is written
FORMAT = 1
WAIT_S = 24 * 3600
NOT_CONTENT = (MANIFEST, SCRATCH, "metrics.jsonl", "samples.jsonl", "logs")
"""The manifest, and what tells how the work went and not what came of it: no part of a digest."""

RowType = TypeVar("RowType", bound=Row)


@dataclass(frozen=True)
class Artefact:
    """A finished folder: what kind it is, where it came from, and the digest of all its bytes.

    digest:  sha256 over the names and contents of its files; two artefacts with equal bytes are
             equal inputs.
    key:     sha256 over kind, config, code and the inputs' digests: known before the work is done.
    inputs:  name → {"path", "digest"} of each artefact or file it was made from.
    summary: what the stage wants told about it: counts, metrics, warnings.
    files:   name → {"bytes", "sha256"} of each file that the digest is over; older manifests name
             none.
    """

    path: Path
    kind: ArtefactKind
    name: str
    key: str
    digest: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, str]]
    summary: Mapping[str, Any]
    created: str
    version: str
    code: str
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def rows(self, name: str, row: type[RowType]) -> list[RowType]:
        """Read the rows of `NAME.parquet` as values of `row`."""
        return read_rows(self.path / f"{name}.parquet", row)

    def input_path(self, name: str) -> Path:
        """Return the folder of the input `name`, found beside this one when the whole run was
        moved.

        A folder that was made anew under the same name is not what this one was made from.

        raises: ArtefactError when it is at neither place, or another stands there.
        """
        if name not in self.inputs:
            raise ArtefactError(f"{self.path}: it was not made from a '{name}'")
        stored = Path(self.inputs[name]["path"])
        places = [stored, self.path.parent / stored.name]
        there = [place for place in places if place.exists()]
        for place in there:
            if _may_be(place, self.inputs[name]["digest"]):
                return place
        if there:
            raise ArtefactError(
                f"{self.path}: its {name} {there[0]} is not the one that this was made from; put "
                "that back or run the stage again"
            )
        raise ArtefactError(
            f"{self.path}: its {name} {stored} is gone; put it back or run the stage again"
        )


def _may_be(place: Path, digest: str) -> bool:
    """Whether a place holds what a digest is of; what has no manifest tells nothing against it."""
    if not (place / MANIFEST).is_file():
        return True
    try:
        return open_artefact(place).digest == digest
    except ArtefactError:
        return False


def open_artefact(path: Path | str, kind: ArtefactKind | None = None) -> Artefact:
    """Open a finished artefact, of the kind that is asked for.

    raises: ArtefactError when there is no manifest, it cannot be read, or it is of another kind.
    """
    folder = Path(path)
    file = folder / MANIFEST
    if not file.is_file():
        state = "is unfinished or no artefact" if folder.is_dir() else "does not exist"
        raise ArtefactError(
            f"{folder}: {state} (it has no {MANIFEST}); run the stage that makes it"
        )
    try:
        stored = {"files": {}, **json.loads(file.read_text(encoding="utf-8"))}
        artefact = Artefact(
            path=folder.resolve(),
            **{key: stored[key] for key in Artefact.__dataclass_fields__ if key != "path"},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{file}: not a manifest of drenpa's ({error})") from error
    if stored.get("format") != FORMAT:
        raise ArtefactError(
            f"{file}: written in format {stored.get('format')}; this drenpa reads {FORMAT}"
        )
    if kind is not None and artefact.kind != kind:
        raise ArtefactError(f"{folder}: is a {artefact.kind}, but a {kind} is needed here")
    return artefact


def check_files(artefact: Artefact) -> None:
    """Compare every file's bytes with the manifest.

    raises: ArtefactError that names the first file at fault.
    """
    found = _digests(artefact.path, apart=NOT_CONTENT)
    if _combined(found) == artefact.digest:
        return
    for name in sorted({*artefact.files, *found}):
        if name not in artefact.files and artefact.files:
            raise ArtefactError(f"{artefact.path / name}: is no part of the artefact; take it out")
        if artefact.files and found.get(name) != artefact.files[name]["sha256"]:
            raise _altered(artefact, name)
    raise ArtefactError(f"{artefact.path}: its files are not those its manifest names; {_ANEW}")


def check_sizes(folder: Path) -> None:
    """Compare the sizes of what stands in an artefact's folder of weights with the manifest; a
    folder that is no artefact's has none.

    raises: ArtefactError that names the first file at fault.
    """
    try:
        artefact = open_artefact(folder.parent)
    except ArtefactError:
        return
    for name, entry in artefact.files.items():
        path = artefact.path / name
        there = path.is_file() and path.stat().st_size == entry["bytes"]
        if name.startswith(f"{folder.name}/") and not there:
            raise _altered(artefact, name)


def _altered(artefact: Artefact, name: str) -> ArtefactError:
    path = artefact.path / name
    what = "is not the file that was made" if path.is_file() else "is missing"
    return ArtefactError(f"{path}: {what}; {_ANEW}")


_ANEW = "remove the artefact's folder and run its recipe again"


Work = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class Plan:
    """A stage about to run: everything its key depends on, where its folder will stand, the work.

    config: what of the recipe this stage depends on, as plain JSON values, the seed included.
    inputs: what it is made from (`as_input`, `file_input`).
    rooms:  the folders of the package whose code it runs; a change there makes a new key.
    work:   is given the unfinished folder, in which it finds what an earlier, broken attempt left;
            it writes its files there and returns the summary. It may keep what it needs to resume
            under `scratch/`, which is dropped at the end.
    distributed: whether, under a launcher, every process does the work together; otherwise the
            first one does it and the others wait.
    """

    kind: ArtefactKind
    name: str
    root: Path
    config: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, str]]
    rooms: tuple[str, ...]
    work: Work = field(compare=False, repr=False)
    distributed: bool = False

    @property
    def code(self) -> str:
        """The version of the code in the rooms that this stage runs."""
        return code_version(self.rooms)

    @property
    def key(self) -> str:
        """What tells this work from any other: kind, config, code and the inputs' digests."""
        digests = {name: entry["digest"] for name, entry in self.inputs.items()}
        described = [FORMAT, self.kind, self.config, self.code, digests]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """Where the finished artefact stands."""
        return self.root / f"{self.name}-{self.key[:10]}"

    @property
    def done(self) -> bool:
        """Whether it is there already."""
        return (self.folder / MANIFEST).is_file()


def run_plan(plan: Plan) -> Artefact:
    """Return the plan's artefact, made by its work unless it is there already.

    raises: ArtefactError when the folder cannot be written, or another process is making it.
    """
    if plan.done:
        return open_artefact(plan.folder, plan.kind)
    partial = plan.folder.with_name(plan.folder.name + PARTIAL)
    first = os.environ.get("RANK", "0") == "0"
    try:
        with _alone(plan) if first else nullcontext():
            if first and plan.done:  # by another process, while this one came to the lock
                return open_artefact(plan.folder, plan.kind)
            # A manifest in the unfinished folder: the work is done, only its new name was missed.
            undone = not (partial / MANIFEST).is_file() and not plan.done
            summary: Mapping[str, Any] = {}
            if undone and (first or plan.distributed):
                _make_place(partial)
                summary = plan.work(partial)
            if not first:
                return _awaited(plan)
            if undone:
                _write_manifest(partial, plan, summary)
            shutil.rmtree(partial / SCRATCH, ignore_errors=True)
            os.replace(partial, plan.folder)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        place = error.filename or partial
        raise ArtefactError(
            f"{place}: cannot be written ({error.strerror}); what was done so far is kept: "
            "make room or choose another folder with --set out=FOLDER, then run again"
        ) from error
    return open_artefact(plan.folder, plan.kind)


@contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    """Keep other processes from the same work, in a file beside the folder that they would share.

    The lock ends with the process, however that ends. The file goes once the artefact is there:
    whoever still waits at it finds the work done.
    """
    _make_place(plan.root)
    place = plan.root / f".{plan.folder.name}.lock"
    with place.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ArtefactError(
                f"{plan.folder}: {file.read() or 'another process'} is making it; wait until that "
                "has ended and run again, or choose another folder with --set out=FOLDER"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # a file system without locks
                raise
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        yield
        place.unlink(missing_ok=True)


def _make_place(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # so says a file system in which nobody makes folders
        raise ArtefactError(
            f"{folder}: cannot be made here ({error.strerror}); choose another folder with "
            "--set out=FOLDER"
        ) from error


_NO_PLACE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
}
"""Errors that speak of where we write; any other (a network, a missing input) is the work's own."""


def _write_manifest(partial: Path, plan: Plan, summary: Mapping[str, Any]) -> None:
    """Write the manifest of work that is done. What was kept to resume goes only after it."""
    for path in [*partial.rglob(f"*{_PART}")]:
        if not path.is_dir():  # a file that a kill left half written
            path.unlink()
    digests = _digests(partial, apart=NOT_CONTENT)
    manifest = {
        "format": FORMAT,
        "kind": plan.kind,
        "name": plan.name,
        "key": plan.key,
        "digest": _combined(digests),
        "files": {
            name: {"bytes": (partial / name).stat().st_size, "sha256": digest}
            for name, digest in digests.items()
        },
        "config": plan.config,
        "inputs": plan.inputs,
        "summary": summary,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "version": drenpa.__version__,
        "code": plan.code,
    }
    write_text(partial / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False))


def _awaited(plan: Plan) -> Artefact:
    """Wait for the first process to finish the artefact."""
    deadline = time.monotonic() + WAIT_S
    while not plan.done:
        if time.monotonic() > deadline:
            raise ArtefactError(f"{plan.folder}: the first process did not finish it in {WAIT_S} s")
        time.sleep(0.1)
    return open_artefact(plan.folder, plan.kind)


def as_input(artefact: Artefact) -> dict[str, str]:
    """Describe an artefact as the input of another stage."""
    return {"path": str(artefact.path), "digest": artefact.digest}


def file_input(path: Path) -> dict[str, str]:
    """Describe a file, or a folder of files, of the user's as the input of a stage."""
    if path.is_dir():
        return {"path": str(path.resolve()), "digest": _combined(_digests(path))}
    return {"path": str(path.resolve()), "digest": _sha256(path)}


def model_input(source: str) -> dict[str, str]:
    """Describe a model as the input of a stage: the bytes of its folder or file, or else its
    name."""
    path = Path(source).expanduser()
    return file_input(path) if path.exists() else {"path": source, "digest": source}


def refuse_existing(target: Path, what: Literal["file", "folder"] = "folder") -> None:
    """Refuse to write where something of the user's stands, be it a link to nowhere.

    raises: ArtefactError.
    """
    if os.path.lexists(target):
        raise ArtefactError(f"{target}: is there already; name a {what} that does not exist yet")


def refuse_artefact(folder: Path) -> None:
    """Refuse to write into a finished artefact.

    raises: ArtefactError.
    """
    if (folder / MANIFEST).is_file():
        raise ArtefactError(f"{folder}: is an artefact, which nobody alters; name another folder")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Make a new folder of the user's, whole or not at all.

    The block writes into the folder that it is given, which lies hidden beside the target and gets
    its name in the end.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        part = Path(scratch) / target.name
        part.mkdir()
        yield part
        os.replace(part, target)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is either the old one or wholly the new one, whatever happens in
    between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + _PART)
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as Parquet, whole or not at all; no rows make a file with no columns' values."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([_flat(row) for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + _PART)
    pyarrow.parquet.write_table(table, part)
    os.replace(part, path)


def read_rows(path: Path, row: type[RowType]) -> list[RowType]:
    """Read rows that `write_rows` wrote.

    raises: ArtefactError when the file is missing or holds other rows.
    """
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise ArtefactError(
            f"{path}: missing; the artefact it belongs to is damaged or of another stage"
        )
    try:
        entries = pyarrow.parquet.read_table(path).to_pylist()
        mappings = [
            name for name, field in row.model_fields.items() if _is_mapping(field.annotation)
        ]
        for entry in entries:
            entry.update({name: json.loads(entry[name]) for name in mappings})
        return [row.model_validate_json(json.dumps(entry)) for entry in entries]
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(f"{path}: does not hold {row.__name__} rows ({error})") from error


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one JSON object as a line and force it to disk: the journal of work that must not be
    paid twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a kill cut the last line short: do not write on behind it
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def journal_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a journal; a line that a kill cut short is passed over."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            yield json.loads(line)
        except ValueError:
            continue


@cache
def code_version(rooms: tuple[str, ...]) -> str:
    """Hash the code of the given rooms (folders of the package) and `core`, without comments and
    docstrings.

    Data files in those rooms (prompts, the starter corpus) count byte for byte.
    """
    digest = hashlib.sha256()
    for room in sorted({"core", *rooms}):
        top = Path(str(resources.files("drenpa"))) / room
        for path in sorted(top.rglob("*")):
            if not path.is_file() or _is_stray(path):
                continue
            digest.update(str(path.relative_to(top.parent)).encode())
            held = path.read_bytes()
            digest.update(_code_in(held) if path.suffix == ".py" else held)
    return digest.hexdigest()[:16]


@cache  # several rooms hold `core`
def _code_in(source: bytes) -> bytes:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return _dumped(tree).encode()


def _is_stray(path: Path) -> bool:
    """Whether a file is no part of the package: compiled code, or what editors and desktops
    leave."""
    left = path.name.startswith((".", "#")) or path.name.endswith(("~", ".orig", ".rej", ".bak"))
    return left or "__pycache__" in path.parts


def _dumped(node: object) -> str:
    """Write a syntax tree out, the same under every Python: what is empty is left out."""
    if isinstance(node, ast.AST):
        held = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({','.join(f'{n}={_dumped(v)}' for n, v in held)})"
    if isinstance(node, list):
        return f"[{','.join(map(_dumped, node))}]"
    return ascii(node)


def _digests(folder: Path, *, apart: tuple[str, ...] = ()) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and relative.parts[0] not in apart:
            found[relative.as_posix()] = _sha256(path)
    return found


def _combined(digests: Mapping[str, str]) -> str:
    lines = [f"{name}\0{digest}\n" for name, digest in digests.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flat(row: Row) -> dict[str, Any]:
    """A row for Parquet; mappings become JSON text, since Parquet gives every row the same keys."""
    values = row.model_dump(mode="json")
    return {
        key: json.dumps(value) if isinstance(value, dict) else value
        for key, value in values.items()
    }


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict


def finished(root: Path) -> list[Artefact]:
    """Return the finished artefacts that stand in a run's folder, oldest first."""
    folders = [path.parent for path in root.glob(f"*/{MANIFEST}") if not path.parent.is_symlink()]
    artefacts = [open_artefact(f) for f in folders if not f.name.endswith(PARTIAL)]
    return sorted(artefacts, key=lambda artefact: (artefact.created, artefact.name))


def point(link: Path, folder: Path) -> None:
    """Make `link` point to `folder`, replacing an older link: the stable name of the newest
    artefact."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(folder, link.parent), target_is_directory=True)
    os.replace(fresh, link)


def counted(values: Iterable[str]) -> dict[str, int]:
    """Count values, most frequent first, for a summary.

    >>> counted(["a", "b", "a"])
    {'a': 2, 'b': 1}
    """
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def left_out(languages: Iterable[str], lost: Iterable[str], why: str) -> list[str]:
    """Say for a summary's `warnings` how many rows of each language were left out, and why.

    >>> left_out(["bo", "bo", "en"], ["bo"], "longer than 512 tokens")
    ['1 of 2 rows in bo left out: longer than 512 tokens']
    """
    known = counted(languages)
    return [
        f"{count} of {known[language]} rows in {language} left out: {why}"
        for language, count in counted(lost).items()
    ]
