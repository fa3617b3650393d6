"""Write a dataset that can be published: all of train, and of test only the questions.

The folder opens in `datasets` and with `read_records`: Parquet splits with the same columns, where
a withheld answer is null and a commitment stands beside it. The commitment is an HMAC of id and
answer under a secret key: who holds the key can later prove which answers were meant, and nobody
can guess an answer and check it. Key and answers go to a file of their own, outside the folder,
and before anything is in place the whole release is searched for every withheld answer. Croissant
metadata, canaries and the scoring of hidden answers are not here yet.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from drenpa.core.artefacts import Artefact, counted, write_text
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Ranking, Record
from drenpa.corpus.leakage import Quoted

CHECKSUMS = "SHA256SUMS"


@dataclass(frozen=True)
class ReleaseFacts:
    """What a dataset card must say and no file tells.

    license:  of the whole, as an identifier the hub knows (`cc-by-4.0`).
    contact:  who takes texts out on request.
    limits:   known biases and what the dataset should not be used for.
    licenses: of sources whose own licence differs.
    """

    name: str
    license: str
    description: str
    contact: str
    limits: str
    licenses: Mapping[str, str] = field(default_factory=dict)


def commitment(key: bytes, item: str, answer: str) -> str:
    """Return the HMAC-SHA256 of id and answer, as hexadecimal digits.

    The id's length comes first, so that no other pair of id and answer gives the same message.
    """
    name = item.encode()
    return hmac.new(
        key, b"%d:%b%b" % (len(name), name, answer.encode()), hashlib.sha256
    ).hexdigest()


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
        if target.exists():
            raise ArtefactError(f"{target}: exists; a release is never overwritten, choose another")
    if folder.resolve() in private.resolve().parents:
        raise ArtefactError(f"{private}: lies inside the release; keep the answers elsewhere")
    key = key or secrets.token_bytes(32)
    if len(key) < 16:
        raise DataError("the key of a release needs 16 secret bytes or more")
    train = corpus.rows("records", Record)
    rankings = corpus.rows("rankings", Ranking)
    test = corpus.rows("benchmark", Record)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "data").mkdir(parents=True)
    (part / "rankings").mkdir()
    schema = _record_schema()
    _write_table(part / "data" / "train.parquet", [_columns(record) for record in train], schema)
    withheld = [_columns(record, key) for record in test]
    _write_table(part / "data" / "test.parquet", withheld, schema)
    for split in {ranking.split for ranking in rankings}:
        rows = [row.model_dump(mode="json") for row in rankings if row.split == split]
        _write_table(part / "rankings" / f"{split}.parquet", rows)
    write_text(part / "README.md", _card(corpus, facts, train, test, rankings))
    check_nothing_leaks(part, test)
    _write_checksums(part)
    lines = [{"key": key.hex()}] + [
        {"id": item.id, "answer": item.answer} for item in test if item.answer is not None
    ]
    write_text(private, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    private.chmod(0o600)
    os.replace(part, folder)
    return {"train": len(train), "test": len(test), "rankings": len(rankings)}


def check_nothing_leaks(folder: Path, withheld: Sequence[Record]) -> None:
    """Search every text in the release for every withheld answer.

    Texts are compared by their units, so case, punctuation and spelling variants hide nothing. A
    short answer ("yes", "in 1959") counts only where a whole field says it; an item's own question
    may contain its answer.

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
    head, *lines = Path(private).read_text(encoding="utf-8").splitlines()
    key = bytes.fromhex(json.loads(head)["key"])
    answers = {entry["id"]: entry["answer"] for entry in map(json.loads, lines)}
    public = {row["id"]: row["commitment"] for row in _rows(folder / "data" / "test.parquet")}
    faults = [
        f"{name}: the private answer is not the one that was committed to"
        for name, published in public.items()
        if published is not None
        and not hmac.compare_digest(published, commitment(key, name, answers.get(name, "")))
    ]
    if faults:
        raise DataError(faults)


def _columns(record: Record, key: bytes = b"") -> dict[str, Any]:
    """A record as a row of the release; with a key its answer is withheld and committed to."""
    row: dict[str, Any] = record.model_dump(mode="json", exclude={"split"})
    row["commitment"] = None
    if key and record.answer is not None:
        row["answer"] = None
        row["commitment"] = commitment(key, record.id, record.answer)
    return row


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: Any = None) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), path)


def _record_schema() -> Any:
    """The columns of every split, so that a column of nulls has the type of the filled one."""
    import pyarrow

    text = pyarrow.string()
    types = {"demand": pyarrow.float64(), "tags": pyarrow.list_(text)}
    names = [*(name for name in Record.model_fields if name != "split"), "commitment"]
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
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
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


def _card(
    corpus: Artefact,
    facts: ReleaseFacts,
    train: Sequence[Record],
    test: Sequence[Record],
    rankings: Sequence[Ranking],
) -> str:
    """The dataset card, with the head that the hub reads."""
    languages = sorted({record.language for record in (*train, *test)})
    configs: list[dict[str, Any]] = [
        {
            "config_name": "default",
            "data_files": [
                {"split": split, "path": f"data/{split}.parquet"} for split in ("train", "test")
            ],
        }
    ]
    splits = sorted({ranking.split for ranking in rankings}, reverse=True)
    if splits:
        files = [{"split": split, "path": f"rankings/{split}.parquet"} for split in splits]
        configs.append({"config_name": "rankings", "data_files": files})
    head = {
        "license": facts.license,
        "language": languages,
        "pretty_name": facts.name,
        "task_categories": ["question-answering"],
        "configs": configs,
    }
    leakage = corpus.summary["leakage"]
    kinds = counted(record.kind for record in (*train, *test))
    sources = counted(record.source or "unnamed" for record in (*train, *test))
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(),
        "---",
        "",
        f"# {facts.name}",
        "",
        facts.description,
        "",
        "## What is in it",
        "",
        f"{len(train)} questions with answers to train on, {len(test)} questions to test with, "
        f"{len(rankings)} rankings of candidate answers with a note on each.",
        "",
        "| kind | records |",
        "| --- | --- |",
        *(f"| {kind} | {count} |" for kind, count in kinds.items()),
        "",
        "The test answers are withheld. `commitment` is the HMAC-SHA256 of each, under a key that",
        "its keepers can publish later, to show that the answers were not changed.",
        "",
        "## How it was divided",
        "",
        "Near-duplicates of test items were taken out of train. Afterwards "
        f"{leakage['leaking']} of {leakage['benchmark_items']} test items stand in train in "
        "some way.",
        "",
        "| dropped | rows |",
        "| --- | --- |",
        *(f"| {reason} | {count} |" for reason, count in corpus.summary["dropped"].items()),
        "",
        "## Sources and licences",
        "",
        "| source | records | licence |",
        "| --- | --- | --- |",
        *(
            f"| {source} | {count} | {facts.licenses.get(source, facts.license)} |"
            for source, count in sources.items()
        ),
        "",
        "## Known limits",
        "",
        facts.limits,
        "",
        "## Contact and takedown",
        "",
        f"Whoever finds their text here against their will writes to {facts.contact}.",
        "",
        f"Made with drenpa {corpus.version} from corpus {corpus.digest[:16]}.",
        "",
    ]
    return "\n".join(lines)
