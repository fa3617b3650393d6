"""The store: external memory, passages found by their words.

One SQLite file. SQLite's full-text index ranks by BM25 and is changed in place, in transactions;
what a word is, is said here (`terms`), because its own tokenisers know neither the tsheg nor
Chinese. Every term goes in as hexadecimal digits, so nothing in a passage or a question is syntax.

A passage that is superseded leaves the index and stays in the history, with the times it held;
one that is deleted is gone from both, and its bytes from the file.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.knowledge import Stability
from drenpa.core.records import Identifier, Record, Row, Text
from drenpa.core.store import Closing
from drenpa.core.text import content_units, script_of, units

STORE = "store.sqlite"
_FORMAT = 1
_ASKED_TERMS = 256  # of a question; a longer one is searched by its beginning
_TABLES = """
CREATE TABLE versions (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, since TEXT NOT NULL, until TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE UNIQUE INDEX present ON versions (id) WHERE until = '';
CREATE INDEX named ON versions (id);
CREATE VIRTUAL TABLE terms USING fts5 (body, tokenize = 'ascii');
CREATE VIRTUAL TABLE term_counts USING fts5vocab (terms, 'row');
"""


class Passage(Row):
    """Something to look up: an answer with the question it answers, or a text of its own.

    record: the record it comes from; empty for a passage from elsewhere.
    source: where a reader can check it.
    """

    id: Identifier
    text: Text
    question: str = ""
    language: str = "en"
    source: str = ""
    stability: Stability = "timeless"
    record: str = ""


class Version(Row):
    """A passage with the time it held; `until` is empty while it holds."""

    passage: Passage
    since: str
    until: str


@dataclass(frozen=True)
class Hit:
    """A passage that was found.

    score: BM25, larger is better; comparable within one search only.
    cover: the share of the question's words, weighted by rarity, that the passage holds: from 0
           to 1, comparable between searches.
    since: from when on the passage holds.
    """

    passage: Passage
    score: float
    cover: float
    since: str


def terms(text: str) -> list[str]:
    """Return what a text is found by: its content words, and in Tibetan and Chinese their pairs.

    English words are cut to their stems. Chinese comes as characters and pairs of neighbours,
    Tibetan as syllables and pairs of neighbours, since most of its words have two. A text of
    function words only is found by these.

    >>> terms("The cats are jumping")
    ['cat', 'jump']
    >>> terms("བོད་ཡིག")
    ['བོད', 'ཡིག', 'བོད་ཡིག']
    """
    pieces = units(text)
    found = content_units(text)
    single = [piece for piece in pieces if len(piece) == 1 and script_of(piece) == "CJK"]
    syllables = [piece for piece in pieces if script_of(piece[0]) == "TIBETAN"]
    pairs = [f"{one}་{two}" for one, two in pairwise(syllables)]
    return [*found, *single, *pairs] or pieces


class Store(Closing):
    """The passages of one file.

    >>> with Store.create(":memory:") as store:
    ...     store.add([Passage(id="a", text="Tea grows in Assam.")], at="2026-01-01")
    ...     [hit.passage.id for hit in store.search("Where does tea grow?")]
    ['a']
    """

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        self._connection = connection
        self.place = place

    @classmethod
    def create(cls, path: Path | str) -> Store:
        """Make an empty store; `:memory:` keeps it off the disk.

        raises: ArtefactError when there is something already, or it cannot be written, or this
                Python's SQLite lacks full-text search.
        """
        place = str(path)
        if place != ":memory:":
            if Path(place).exists():
                raise ArtefactError(f"{place}: is there already; open it, or name another file")
            Path(place).parent.mkdir(parents=True, exist_ok=True)
        with _sqlite_errors(place):
            connection = _connect(place)
            connection.executescript(f"BEGIN;{_TABLES}PRAGMA user_version = {_FORMAT};COMMIT;")
        return cls(connection, place)

    @classmethod
    def open(cls, path: Path | str, *, read_only: bool = False) -> Store:
        """Open a store; `read_only` for one that belongs to a finished artefact.

        raises: ArtefactError when there is none, or it is no store of drenpa's.
        """
        place = str(path)
        if not Path(place).is_file():
            raise ArtefactError(f"{place}: no such store; run the memory stage that makes it")
        with _sqlite_errors(place):
            connection = _connect(place, read_only=read_only)
            found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found != _FORMAT:
            connection.close()
            raise ArtefactError(f"{place}: a store of format {found}; this drenpa reads {_FORMAT}")
        return cls(connection, place)

    def copy(self, path: Path | str) -> Store:
        """Write a copy, history included, to a new file and open it."""
        if Path(path).exists():
            raise ArtefactError(f"{path}: is there already; name another file")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with _sqlite_errors(str(path)):
            copied = _connect(str(path))
            self._connection.backup(copied)
        return Store(copied, str(path))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def __len__(self) -> int:
        """How many passages hold now."""
        count: int = self._one("SELECT count(*) FROM versions WHERE until = ''")
        return count

    def __contains__(self, passage_id: str) -> bool:
        return bool(
            self._one("SELECT count(*) FROM versions WHERE id = ? AND until = ''", passage_id)
        )

    def add(self, passages: Iterable[Passage], *, at: str) -> None:
        """Add passages that hold from `at` on (ISO 8601), all or none.

        raises: DataError when an id is in the store already.
        """
        with self._transaction():
            for passage in passages:
                if passage.id in self:
                    raise DataError(
                        f"passage {passage.id}: is in {self.place} already; supersede it instead"
                    )
                self._write(passage, at)

    def supersede(self, passages: Iterable[Passage], *, at: str) -> None:
        """Let passages hold from `at` on in place of those with their ids, which go into history.

        An id that is new is added, a passage that has not changed is left as it is.

        raises: DataError when `at` lies before the time from which the present one holds.
        """
        with self._transaction():
            for passage in passages:
                present = self._present(passage.id)
                if present is not None:
                    version = present[1]
                    if version.passage == passage:
                        continue
                    if at < version.since:
                        raise DataError(
                            f"passage {passage.id}: holds since {version.since}; "
                            f"it cannot be superseded at {at}"
                        )
                    self._retire(present[0], at)
                self._write(passage, at)

    def delete(self, passage_ids: Iterable[str]) -> None:
        """Remove passages and all their history for good.

        raises: DataError when an id was never in the store.
        """
        with self._transaction():
            for passage_id in passage_ids:
                if not self.history(passage_id):
                    raise DataError(f"passage {passage_id}: is not in {self.place}")
                self._connection.execute(
                    "DELETE FROM terms WHERE rowid IN (SELECT number FROM versions WHERE id = ?)",
                    [passage_id],
                )
                self._connection.execute("DELETE FROM versions WHERE id = ?", [passage_id])
            self._connection.execute("INSERT INTO terms (terms) VALUES ('optimize')")

    def get(self, passage_id: str) -> Passage:
        """Return the passage of that id that holds now.

        raises: DataError when there is none.
        """
        present = self._present(passage_id)
        if present is None:
            raise DataError(f"passage {passage_id}: is not in {self.place}")
        return present[1].passage

    def history(self, passage_id: str) -> list[Version]:
        """Return all versions of a passage, oldest first; nothing for an unknown id."""
        rows = self._connection.execute(
            "SELECT body, since, until FROM versions WHERE id = ? ORDER BY number", [passage_id]
        )
        return [_version(*row) for row in rows]

    def passages(self) -> list[Passage]:
        """Return what holds now, by id."""
        rows = self._connection.execute("SELECT body FROM versions WHERE until = '' ORDER BY id")
        return [Passage.model_validate_json(body) for (body,) in rows]

    def search(self, question: str, *, limit: int = 5) -> list[Hit]:
        """Return the passages that share words with the question, best first; ties by id."""
        asked = list(dict.fromkeys(terms(question)))[:_ASKED_TERMS]
        if not asked:
            return []
        with _sqlite_errors(self.place):
            return self._found(asked, limit)

    def _found(self, asked: Sequence[str], limit: int) -> list[Hit]:
        rows = self._connection.execute(
            "SELECT versions.body, versions.since, -bm25(terms), terms.body FROM terms "
            "JOIN versions ON versions.number = terms.rowid "
            "WHERE terms MATCH ? ORDER BY bm25(terms), versions.id LIMIT ?",
            [" OR ".join(map(_encoded, asked)), limit],
        ).fetchall()
        weights = self._rarity(asked)
        whole = math.fsum(weights.values())
        hits = []
        for body, since, score, encoded in rows:
            held = set(encoded.split())
            cover = math.fsum(w for term, w in weights.items() if term in held) / whole
            hits.append(Hit(Passage.model_validate_json(body), score, min(cover, 1.0), since))
        return hits

    def _rarity(self, asked: Sequence[str]) -> dict[str, float]:
        """How much each term tells: log(1 + (N − n + ½)/(n + ½)), as Lucene's BM25 has it."""
        encoded = [_encoded(term) for term in asked]
        marks = ", ".join("?" * len(encoded))
        counts = dict(
            self._connection.execute(
                f"SELECT term, doc FROM term_counts WHERE term IN ({marks})",  # noqa: S608
                encoded,
            ).fetchall()
        )
        total = len(self)
        return {
            term: math.log1p((total - counts.get(term, 0) + 0.5) / (counts.get(term, 0) + 0.5))
            for term in encoded
        }

    def _write(self, passage: Passage, at: str) -> None:
        number = self._connection.execute(
            "INSERT INTO versions (id, since, until, body) VALUES (?, ?, '', ?)",
            [passage.id, at, passage.model_dump_json()],
        ).lastrowid
        told = terms(f"{passage.question}\n{passage.text}")
        self._connection.execute(
            "INSERT INTO terms (rowid, body) VALUES (?, ?)", [number, " ".join(map(_encoded, told))]
        )

    def _retire(self, number: int, at: str) -> None:
        self._connection.execute("UPDATE versions SET until = ? WHERE number = ?", [at, number])
        self._connection.execute("DELETE FROM terms WHERE rowid = ?", [number])

    def _present(self, passage_id: str) -> tuple[int, Version] | None:
        row = self._connection.execute(
            "SELECT number, body, since, until FROM versions WHERE id = ? AND until = ''",
            [passage_id],
        ).fetchone()
        return None if row is None else (row[0], _version(*row[1:]))

    def _one(self, query: str, *values: str) -> Any:
        return self._connection.execute(query, values).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _sqlite_errors(self.place):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def passage_of(record: Record) -> Passage:
    """Make a record into a passage of the same id.

    raises: DataError when its answer is withheld.
    """
    if record.answer is None:
        raise DataError(f"record {record.id}: its answer is withheld; there is nothing to store")
    return Passage(
        id=record.id,
        text=record.answer,
        question=record.question,
        language=record.language,
        source=record.source,
        stability=record.stability,
        record=record.id,
    )


def _version(body: str, since: str, until: str) -> Version:
    return Version(passage=Passage.model_validate_json(body), since=since, until=until)


def _encoded(term: str) -> str:
    """A term as letters and digits that no query syntax can mistake."""
    return "t" + term.encode().hex()


def _connect(place: str, *, read_only: bool = False) -> sqlite3.Connection:
    if read_only:
        uri = f"{Path(place).resolve().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    else:
        connection = sqlite3.connect(place, isolation_level=None)
    connection.execute("PRAGMA secure_delete = ON")
    return connection


@contextmanager
def _sqlite_errors(place: str) -> Iterator[None]:
    """Tell SQLite's complaints as ours, with the file and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        if "fts5" in str(error):
            remedy = "this Python's SQLite has no full-text search; use one built with FTS5"
        else:
            remedy = "check that it is a store and can be read and written"
        raise ArtefactError(f"{place}: {error}; {remedy}") from error
