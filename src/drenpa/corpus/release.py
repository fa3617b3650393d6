"""Write a dataset that can be published: all of train, and of test only the questions.

The folder opens in `datasets` and with `read_records`: Parquet splits with the same columns, where
a withheld answer is null and a commitment stands beside it. The commitment is an HMAC of id and
answer under a secret key: who holds the key can later prove which answers were meant, and nobody
can guess an answer and check it. Key and answers go to a file of their own, outside the folder,
and before anything is in place the whole release is searched for every withheld answer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drenpa.core.artefacts import (
    MANIFEST,
    Artefact,
    finished,
    open_artefact,
    whole_folder,
    write_text,
)
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Ranking, Record
from drenpa.corpus.croissant import croissant
from drenpa.corpus.dataset_card import dataset_card
from drenpa.corpus.facts import ReleaseFacts
from drenpa.corpus.leakage import Quoted
from drenpa.corpus.withheld import (
    MIN_KEY,
    commitment,
    dataset_canary,
    item_canary,
    private_canary,
    read_private,
    write_private,
)

CHECKSUMS = "SHA256SUMS"


def write_release(
    corpus: Artefact, folder: Path, private: Path, facts: ReleaseFacts, *, key: bytes = b""
) -> dict[str, int]:
    """Write the corpus as a dataset folder, and the withheld answers with their key to `private`.

    key:     at least 16 secret bytes; without it a new one is drawn.
    returns: how many rows each split has.
    raises:  ArtefactError when a target exists or `private` lies inside the folder; DataError when
             a withheld answer stands in the release.
    """
    folder, private = Path(folder), Path(private)
    for target in (folder, private):
        if os.path.lexists(target):
            raise ArtefactError(f"{target}: exists; a release is never overwritten, choose another")
    if folder.resolve() in private.resolve().parents:
        raise ArtefactError(f"{private}: lies inside the release; keep the answers elsewhere")
    key = key or secrets.token_bytes(32)
    if len(key) < MIN_KEY:
        raise DataError(f"the key of a release needs {MIN_KEY} secret bytes or more")
    private.parent.mkdir(parents=True, exist_ok=True)
    with (
        whole_folder(folder) as part,
        tempfile.TemporaryDirectory(prefix=f".{private.name}-", dir=private.parent) as inside,
    ):
        kept = Path(inside) / private.name
        counts = _write_folder(part, corpus, facts, key)
        release = f"{facts.name} {facts.version}"
        write_private(kept, key, release, corpus.rows("benchmark", Record))
        os.replace(kept, private)
    return counts


def _write_folder(part: Path, corpus: Artefact, facts: ReleaseFacts, key: bytes) -> dict[str, int]:
    """Write all that is public, and search it for what is not; return the rows of each split."""
    train = corpus.rows("records", Record)
    rankings = corpus.rows("rankings", Ranking)
    test = corpus.rows("benchmark", Record)
    canary = dataset_canary(key)
    for split, records in (("train", train), ("test", test)):
        rows = [_columns(record, facts, key if split == "test" else b"") for record in records]
        _write_table(part / "data" / f"{split}.parquet", rows, canary, _record_schema())
    for split in sorted({ranking.split for ranking in rankings}):
        rows = [row.model_dump(mode="json") for row in rankings if row.split == split]
        _write_table(part / "rankings" / f"{split}.parquet", rows, canary)
    languages = sorted({record.language for record in (*train, *test)})
    described = croissant(part, facts, languages, canary, corpus.created[:10])
    write_text(part / "croissant.json", json.dumps(described, indent=1, ensure_ascii=False))
    write_text(part / "README.md", dataset_card(corpus, facts, train, test, rankings, canary))
    check_nothing_leaks(part, test, secret=private_canary(key))
    _write_checksums(part)
    return {"train": len(train), "test": len(test), "rankings": len(rankings)}


def corpus_at(place: Path) -> Artefact:
    """Return the corpus artefact at a place, or the last one of a run's folder.

    raises: ArtefactError when there is none.
    """
    if (place / MANIFEST).is_file() or not place.is_dir():
        return open_artefact(place, "corpus")
    found = [artefact for artefact in finished(place) if artefact.kind == "corpus"]
    if not found:
        raise ArtefactError(f"{place}: holds no finished corpus; run `drenpa curate` first")
    return found[-1]


def check_nothing_leaks(folder: Path, withheld: Sequence[Record], secret: str = "") -> None:
    """Search every text in the release for every withheld answer.

    Texts are compared by their units, so case, punctuation and spelling variants hide nothing. A
    short answer ("yes", "in 1959") counts only where a whole field says it; an item's own question
    may contain its answer.

    secret: must stand nowhere either.
    raises: DataError that names each item and the place where its answer stands.
    """
    quoted = Quoted({item.id: item.answer or "" for item in withheld})
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        for place, text in _texts_in(path):
            found += [
                f"{path.relative_to(folder)}: {place}: holds the withheld answer of {name}"
                for name in sorted(quoted.within(text) | quoted.being(text))
                if place != f"{name}.question"
            ]
            if secret and secret in text:
                found.append(f"{path.relative_to(folder)}: {place}: holds the private canary")
    if found:
        raise DataError([*found, "nothing was released; take these rows out and curate again"])


def verify_release(folder: Path, private: Path) -> None:
    """Check a release against its checksums and every commitment against the private answers.

    raises: ArtefactError when a file was altered, DataError when a commitment does not hold.
    """
    folder = Path(folder)
    for line in (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ", 1)
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ArtefactError(f"{path}: is not the file that was released")
    kept = read_private(private)
    answers = {answer.id: answer.answer for answer in kept.answers}
    public = {row["id"]: row["commitment"] for row in _rows(folder / "data" / "test.parquet")}
    faults = [
        f"{name}: the private answer is not the one that was committed to"
        for name, published in public.items()
        if published is not None
        and not hmac.compare_digest(published, commitment(kept.key, name, answers.get(name, "")))
    ]
    if faults:
        raise DataError(faults)


def _columns(record: Record, facts: ReleaseFacts, key: bytes) -> dict[str, Any]:
    """A record as a row of the release; with a key its answer is withheld and committed to."""
    row: dict[str, Any] = record.model_dump(mode="json", exclude={"split"})
    row |= {"license": facts.license_of(record.source), "commitment": None, "canary": None}
    if key:
        row["canary"] = item_canary(key, record.id)
    if key and record.answer is not None:
        row |= {"answer": None, "commitment": commitment(key, record.id, record.answer)}
    return row


def _write_table(
    path: Path, rows: Sequence[Mapping[str, Any]], canary: str, schema: Any = None
) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(list(rows), schema=schema)
    table = table.replace_schema_metadata({"canary": canary})
    pyarrow.parquet.write_table(table, path)


def _record_schema() -> Any:
    """The columns of every split, so that a column of nulls has the type of the filled one."""
    import pyarrow

    text = pyarrow.string()
    types = {"demand": pyarrow.float64(), "tags": pyarrow.list_(text)}
    names = [name for name in Record.model_fields if name != "split"]
    names += ["license", "commitment", "canary"]
    return pyarrow.schema([(name, types.get(name, text)) for name in names])


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def _texts_in(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, text) for every text of a file: fields of a table, lines of anything else."""
    if path.suffix == ".parquet":
        for row in _rows(path):
            yield from _texts_of(str(row.get("id", "")), row)
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        yield f"line {number}", line


def _texts_of(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts_of(f"{place}.{name}", part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts_of(place, part)


def _write_checksums(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in files
    ]
    write_text(folder / CHECKSUMS, "".join(lines))
