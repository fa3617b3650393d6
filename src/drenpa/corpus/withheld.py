"""What of a release stays secret, and what the public part says of it: commitments and canaries.

One key makes everything here, so its keeper can prove later which answers were meant and which
release a text comes from, and nobody else can forge either. Canaries stand at three depths:

dataset   one identifier in the card, the metadata and each Parquet file: who filters training data
          for it keeps the whole release out.
item      one in each test row: a row that was copied out of the release still carries it, and names
          itself.
private   one in the file of answers and nowhere else: where it turns up, that file got out.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DataError
from drenpa.core.knowledge import Kind
from drenpa.core.records import Identifier, Record, Row, Text

MIN_KEY = 16  # bytes
_CANARY = "drenpa-canary:"
_GUID = re.compile(re.escape(_CANARY) + r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


class HiddenAnswer(Row):
    """A withheld answer as it stands in the private file."""

    id: Identifier
    kind: Kind
    language: str
    answer: Text


class PrivateHead(Row):
    """The first line of a private file: the key, and the release that it belongs to."""

    key: str
    release: str
    canary: str


@dataclass(frozen=True)
class PrivateAnswers:
    """The private file of a release: its key and every withheld answer."""

    key: bytes
    release: str
    answers: tuple[HiddenAnswer, ...]


@dataclass(frozen=True)
class Sighting:
    """A canary of a release that was found in a text; `item` names the test item of an item's."""

    depth: Literal["dataset", "item", "private"]
    item: str = ""


def commitment(key: bytes, item: str, answer: str) -> str:
    """Return the HMAC-SHA256 of id and answer, as hexadecimal digits.

    The id's length comes first, so that no other pair of id and answer gives the same message.
    """
    name = item.encode()
    return hmac.new(
        key, b"%d:%b%b" % (len(name), name, answer.encode()), hashlib.sha256
    ).hexdigest()


def dataset_canary(key: bytes) -> str:
    """Return the identifier that stands in the card, the metadata and each file of a release."""
    return _canary(key, "dataset")


def item_canary(key: bytes, item: str) -> str:
    """Return the identifier that stands in the row of one test item."""
    return _canary(key, f"item:{item}")


def private_canary(key: bytes) -> str:
    """Return the identifier that stands in the private file alone."""
    return _canary(key, "private")


def find_canaries(text: str, private: PrivateAnswers) -> list[Sighting]:
    """Return which canaries of the release stand in a text: a page, training data, an answer.

    A canary of another release, and one that was made up, is none.
    """
    known = {
        dataset_canary(private.key): Sighting("dataset"),
        private_canary(private.key): Sighting("private"),
        **{item_canary(private.key, a.id): Sighting("item", a.id) for a in private.answers},
    }
    seen = dict.fromkeys(match[0] for match in _GUID.finditer(text.lower()))
    return [known[canary] for canary in seen if canary in known]


def write_private(path: Path, key: bytes, release: str, items: Sequence[Record]) -> None:
    """Write key and withheld answers for their keeper alone: nobody else may read the file."""
    head = PrivateHead(key=key.hex(), release=release, canary=private_canary(key))
    lines = [head.model_dump_json()] + [
        HiddenAnswer(
            id=item.id, kind=item.kind, language=item.language, answer=item.answer
        ).model_dump_json()
        for item in items
        if item.answer is not None
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".part").touch(mode=0o600)  # where `write_text` writes
    write_text(path, "\n".join(lines) + "\n")


def read_private(path: Path) -> PrivateAnswers:
    """Read what `write_private` wrote.

    raises: DataError when the file is none of these, names an item twice, or was altered.
    """
    path = Path(path)
    try:
        first, *lines = path.read_text(encoding="utf-8").split("\n")
        head = PrivateHead.model_validate_json(first)
        key = bytes.fromhex(head.key)
        answers = tuple(HiddenAnswer.model_validate_json(line) for line in lines if line.strip())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValidationError, ValueError, json.JSONDecodeError) as error:
        what = str(error).splitlines()[0]
        raise DataError(f"{path}: not a private file of a release ({what})") from error
    if len(key) < MIN_KEY or head.canary != private_canary(key):
        raise DataError(f"{path}: key and canary do not belong together; take the original file")
    if len({answer.id for answer in answers}) < len(answers):
        raise DataError(f"{path}: names an item twice; take the original file")
    return PrivateAnswers(key, head.release, answers)


def _canary(key: bytes, what: str) -> str:
    digest = hmac.new(key, b"canary:" + what.encode(), hashlib.sha256).digest()
    return f"{_CANARY}{uuid.UUID(bytes=digest[:16], version=4)}"
