"""The store of the three rounds: append-only events in one SQLite file, and what comes out of it.

The rules are in `rounds`; here every step is checked against them and written in one transaction,
under the version of the item that its author had seen, so that nobody's work is overwritten unseen.
The database itself refuses to alter or remove an event.

Names are taken on trust: who may call themselves what is the business of whoever opens the store
to others. Gold items, import of work done offline and reports on annotators are not here yet.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DrenpaError
from drenpa.core.records import Candidate, Ranking, Record
from drenpa.corpus.classify import suggest_kind
from drenpa.corpus.formats import Faults
from drenpa.corpus.intake import check_ids, read_rows
from drenpa.corpus.rounds import (
    Action,
    ConflictError,
    Draft,
    Event,
    Item,
    Phase,
    RuleError,
    Undo,
    apply_event,
    may_work,
    replayed,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    item    TEXT NOT NULL,
    version INTEGER NOT NULL,
    action  TEXT NOT NULL,
    actor   TEXT NOT NULL,
    at      TEXT NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (item, version)
);
CREATE TRIGGER IF NOT EXISTS events_stay BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never altered'); END;
CREATE TRIGGER IF NOT EXISTS events_remain BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never removed'); END;
"""
_STORE_ID = 0x6472656E  # "dren": marks the file as ours


def read_drafts(path: Path | str) -> list[Draft]:
    """Read items for the rounds from JSON Lines, CSV or Parquet.

    raises: DataError with every fault found.
    """
    faults = Faults()
    drafts = read_rows(Path(path), Draft, faults)
    check_ids(drafts, faults)
    faults.check()
    return [entry.row for entry in drafts]


class Store:
    """The events in one SQLite file, and the items they make.

    Several processes may open one file: each write is a transaction that first reads what others
    wrote. A step that was returned from is on disk and outlives a kill.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._history: dict[str, list[Event]] = {}
        self._items: dict[str, Item] = {}
        self._last = 0
        try:
            self._connection = sqlite3.connect(
                self.path, timeout=60, isolation_level=None, check_same_thread=False
            )
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise DrenpaError(
                f"{self.path}: cannot be used as an annotation store ({error})"
            ) from error

    def _prepare(self) -> None:
        owner = self._connection.execute("PRAGMA application_id").fetchone()[0]
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if owner != _STORE_ID and tables:
            self._connection.close()
            raise DrenpaError(f"{self.path}: is a database of something else; choose another file")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)
        self._connection.execute(f"PRAGMA application_id = {_STORE_ID}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def items(self) -> list[Item]:
        """Return every item as it is now, by id."""
        with self._lock:
            self._catch_up()
            return [self._items[name] for name in sorted(self._items)]

    def item(self, name: str) -> Item:
        """Return one item as it is now.

        raises: RuleError when there is none of that id.
        """
        with self._lock:
            self._catch_up()
            if name not in self._items:
                raise RuleError(f"{name}: no such item")
            return self._items[name]

    def history(self, name: str) -> list[Event]:
        """Return all events of an item, undone ones and undoings included."""
        with self._lock:
            self.item(name)
            return list(self._history[name])

    def events(self) -> list[Event]:
        """Return all events in the order they happened."""
        with self._lock:
            return self._read(0)

    def act(
        self, name: str, action: Action, actor: str, content: Mapping[str, Any], *, seen: int
    ) -> Item:
        """Do one step and return the item after it.

        content: the fields of the action's model (`QuestionEdit` for edit_question, and so on).
        seen:    the version of the item that the person had before their eyes.
        raises:  ConflictError when the item has moved on; RuleError when the step is against the
                 rules or its content is not what the step takes.
        """
        if action == "import":
            raise RuleError("items come in by `add`")
        with self._lock, self._transaction():
            self._catch_up()
            if name not in self._items:
                raise RuleError(f"{name}: no such item")
            if self._items[name].version != seen:
                last = self._history[name][-1]
                raise ConflictError(
                    f"{name}: {last.actor} changed it meanwhile ({last.action}); look at it again"
                )
            self._append(name, action, actor, content)
            return self._items[name]

    def add(self, drafts: Iterable[Draft], *, actor: str) -> int:
        """Bring items in, a few hundred to a transaction; those already there are passed over.

        A draft without a kind gets the rules' suggestion. Run again after a kill, it goes on where
        it was. Return how many were new.
        """
        new = 0
        waiting = list(drafts)
        for start in range(0, len(waiting), 500):
            with self._lock, self._transaction():
                self._catch_up()
                for draft in waiting[start : start + 500]:
                    if draft.id not in self._items:
                        self._append(draft.id, "import", actor, _import_content(draft))
                        new += 1
        return new

    def next_item(self, person: str, phase: Phase) -> Item | None:
        """Return an item of the phase for the person to work on, or None.

        Those nearest to their third rating come first; otherwise everybody has their own order, so
        that two people seldom open the same item.
        """
        open_items = [
            item for item in self.items() if item.phase == phase and may_work(item, person)
        ]
        return min(
            open_items,
            key=lambda item: (
                -len(item.ratings),
                hashlib.sha256(f"{person}\0{item.id}".encode()).digest(),
            ),
            default=None,
        )

    def _append(self, name: str, action: Action, actor: str, content: Mapping[str, Any]) -> None:
        """Check the step against the rules and write it, within a transaction."""
        if not actor.strip():
            raise RuleError("who are you? a step needs the name of the person who does it")
        history = self._history.get(name, [])
        version = history[-1].version + 1 if history else 1
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        try:
            if action == "undo":
                content = Undo.model_validate(content).model_dump()
            event = Event(self._last + 1, name, version, action, actor.strip(), at, content)
            if action == "undo":
                replayed([*history, event])
            else:
                apply_event(self._items.get(name), event)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise RuleError(f"{name}: {action}: {place}: {first['msg']}") from None
        self._connection.execute(
            "INSERT INTO events (item, version, action, actor, at, content)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (name, version, action, event.actor, at, json.dumps(content, ensure_ascii=False)),
        )
        self._catch_up()

    def _catch_up(self) -> None:
        """Take in the events that were written since, by this process or another."""
        for event in self._read(self._last):
            history = self._history.setdefault(event.item, [])
            history.append(event)
            if event.action == "undo":
                self._items[event.item] = replayed(history)
            else:
                self._items[event.item] = apply_event(self._items.get(event.item), event)
            self._last = event.number

    def _read(self, after: int) -> list[Event]:
        rows = self._connection.execute(
            "SELECT number, item, version, action, actor, at, content FROM events"
            " WHERE number > ? ORDER BY number",
            (after,),
        )
        return [
            Event(number, item, version, action, actor, at, json.loads(content))
            for number, item, version, action, actor, at, content in rows
        ]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; what was taken in of steps that did not come about is forgotten again."""
        self._connection.execute("BEGIN IMMEDIATE")
        before = self._connection.total_changes
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            if self._connection.total_changes != before:
                self._history, self._items, self._last = {}, {}, 0
            raise
        self._connection.execute("COMMIT")


def _import_content(draft: Draft) -> dict[str, Any]:
    source = "draft"
    if draft.kind is None:
        suggestion = suggest_kind(draft.question, draft.answer, draft.tags)
        source = suggestion.source if suggestion.label else ""
        draft = draft.model_copy(update={"kind": suggestion.label or None})
    return {"draft": draft.model_dump(mode="json"), "kind_source": source}


def accepted_records(items: Iterable[Item]) -> list[Record]:
    """Return the accepted items as records."""
    return [
        Record(
            id=item.id,
            kind=item.kind,
            question=item.question,
            answer=item.answer,
            language=item.language,
            source=item.source,
            stability=item.stability,
            demand=item.demand,
            tags=item.tags,
        )
        for item in items
        if item.phase == "accepted" and item.kind is not None
    ]


def collected_rankings(items: Iterable[Item]) -> list[Ranking]:
    """Return each person's order of each accepted item's candidates, notes included."""
    rankings = []
    for item in items:
        answers = {candidate.id: candidate.answer for candidate in item.candidates}
        if item.phase != "accepted":
            continue
        for annotator, order in sorted(item.orders.items()):
            candidates = tuple(
                Candidate(
                    id=entry.candidate,
                    answer=answers[entry.candidate],
                    rank=entry.rank,
                    note=entry.note,
                )
                for entry in order.ranks
            )
            rankings.append(
                Ranking(
                    id=f"{item.id}-{annotator}",
                    record=item.id,
                    annotator=annotator,
                    candidates=candidates,
                )
            )
    return rankings


def export(store: Store, folder: Path) -> dict[str, int]:
    """Write `records.jsonl` and `rankings.jsonl`, as `curate` reads them, and `ratings.jsonl`.

    Return how many rows each file has. A file is the old one or wholly the new one.
    """
    rows = exported_lines(store.items())
    for name, lines in rows.items():
        write_text(folder / name, "".join(line + "\n" for line in lines))
    return {name: len(lines) for name, lines in rows.items()}


def exported_lines(items: Sequence[Item]) -> dict[str, list[str]]:
    """Return the lines of each file that `export` writes; ratings only of items rated to the
    end."""
    return {
        "records.jsonl": [record.model_dump_json() for record in accepted_records(items)],
        "rankings.jsonl": [ranking.model_dump_json() for ranking in collected_rankings(items)],
        "ratings.jsonl": [
            json.dumps({"record": item.id, **rating.model_dump()}, ensure_ascii=False)
            for item in items
            if item.phase != "audit"
            for rating in item.ratings
        ],
    }
