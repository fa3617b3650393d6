"""The store of the three rounds: append-only events in one SQLite file, and what comes out of it.

The rules are in `rounds`; here every step is checked against them and written in a transaction,
under the version of the item that its author had seen, so that nobody's work is overwritten unseen.
The database itself refuses to alter or remove an event.

Names are taken on trust: who may call themselves what is the business of whoever opens the store
to others, as the desk does with personal links.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DrenpaError
from drenpa.core.records import Candidate, Ranking, Record, Row, identifier
from drenpa.core.text import brief
from drenpa.corpus.audit import AcceptanceRule
from drenpa.corpus.classify import suggest_kind
from drenpa.corpus.formats import Faults
from drenpa.corpus.intake import RowType, check_ids, check_languages, read_rows
from drenpa.corpus.rounds import (
    Action,
    ConflictError,
    Draft,
    Event,
    Gold,
    GoldDraft,
    Item,
    Phase,
    RuleError,
    Undo,
    apply_event,
    check_rater,
    check_undo,
    may_work,
    missed,
    replay,
    replayed,
    standing,
)

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS events (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    item    TEXT NOT NULL,
    version INTEGER NOT NULL,
    action  TEXT NOT NULL,
    actor   TEXT NOT NULL,
    at      TEXT NOT NULL,
    content TEXT NOT NULL,
    UNIQUE (item, version)
)""",
    """CREATE TRIGGER IF NOT EXISTS events_stay BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never altered'); END""",
    """CREATE TRIGGER IF NOT EXISTS events_remain BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never removed'); END""",
    "CREATE TABLE IF NOT EXISTS secret (value BLOB NOT NULL)",
)
_STORE_ID = 0x6472656E  # "dren": marks the file as ours
_PATIENCE_S = 60  # how long a step waits for the steps of others
BATCH = 500  # steps to a transaction, where many come at once
_EDITED = 3  # an item's version after rounds 1 and 2; control items begin there, to look alike
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")  # no table takes it for a number
GOLD_EVERY = 10  # of so many items that a person rates, one is a control item


@dataclass(frozen=True)
class Step:
    """What somebody wants to do: `Store.act` in one value."""

    item: str
    action: Action
    actor: str
    content: Mapping[str, Any]
    seen: int


def read_drafts(path: Path | str) -> list[Draft]:
    """Read items for the rounds, from any format that `intake` reads.

    raises: DataError with every fault found.
    """
    return _read(path, Draft)


def read_gold(path: Path | str) -> list[GoldDraft]:
    """Read control items, from any format that `intake` reads.

    raises: DataError with every fault found.
    """
    return _read(path, GoldDraft)


def _read(path: Path | str, row: type[RowType]) -> list[RowType]:
    faults = Faults()
    rows = read_rows(Path(path), row, faults)
    check_ids(rows, faults)
    check_languages(rows, faults)
    faults.check()
    return [entry.row for entry in rows]


class Store:
    """The events in one SQLite file, and the items they make.

    Several processes may open one file: each write is a transaction that first reads what others
    wrote. A step that was returned from is on disk and outlives a kill.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        self._history: dict[str, list[Event]] = {}
        self._items: dict[str, Item] = {}
        self._last = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise _unusable(self.path, error) from error
        try:
            self._connection.execute("PRAGMA synchronous = FULL")
            self._secret = self._prepare()
            self._keep_a_log()
        except sqlite3.Error as error:
            self._connection.close()
            raise _unusable(self.path, error) from error
        except DrenpaError:
            self._connection.close()
            raise

    def _prepare(self) -> bytes:
        """Make the tables of a new store, all at once or not at all; return the store's secret.

        raises: DrenpaError when the file is a database of something else.
        """
        with self._all_or_nothing():
            owner = self._connection.execute("PRAGMA application_id").fetchone()[0]
            tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if owner != _STORE_ID and tables:
                raise DrenpaError(
                    f"{self.path}: is a database of something else; choose another file"
                )
            for statement in _SCHEMA:
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {_STORE_ID}")
            kept = self._connection.execute("SELECT value FROM secret").fetchone()
            if kept is None:
                kept = (secrets.token_bytes(32),)
                self._connection.execute("INSERT INTO secret VALUES (?)", kept)
        return bytes(kept[0])

    def _keep_a_log(self) -> None:
        """Let readers and a writer work at once (WAL). SQLite does not wait by itself for others
        who have the file open at that moment."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

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

    def stamp(self, name: str, version: int) -> str:
        """Return what stands for a version of an item in forms and sheets.

        It tells nobody which version it is: how often an item was changed gives control items away.
        """
        told = hmac.new(self._secret, f"{version}\0{name}".encode(), hashlib.sha256).hexdigest()
        return told[:16].translate(_LETTERS)

    def version_of(self, name: str, stamp: str) -> int:
        """Return the version of an item that a stamp stands for.

        raises: RuleError when there is no such item; ConflictError when it has no such version.
        """
        for event in self.history(name):
            if self.stamp(name, event.version) == stamp:
                return event.version
        raise ConflictError(
            f"{name}: '{brief(stamp)}' stands for no version of it in this store; look at it again"
        )

    def act(
        self, name: str, action: Action, actor: str, content: Mapping[str, Any], *, seen: int
    ) -> Item:
        """Do one step and return the item after it.

        content: the fields of the action's model (`QuestionEdit` for edit_question, and so on).
        seen:    the version of the item that the person had before their eyes.
        raises:  ConflictError when the item has moved on; RuleError when the step is against the
                 rules or its content is not what the step takes.
        """
        with self._lock, self._transaction():
            self._catch_up()
            self._take(Step(name, action, actor, content, seen), _now())
            return self._items[name]

    def act_all(self, steps: Sequence[Step]) -> list[RuleError | None]:
        """Take many steps, some hundreds to a transaction, and say of each why it was refused.

        A refused step leaves the others alone. A step that its author took already, after the
        version they had seen, is passed over: after a kill the same steps can be given again.
        """
        refused: list[RuleError | None] = []
        for start in range(0, len(steps), BATCH):
            at = _now()
            with self._lock, self._transaction():
                self._catch_up()
                for step in steps[start : start + BATCH]:
                    refusal = None
                    try:
                        if not self._was_taken(step):
                            self._take(step, at)
                    except RuleError as error:
                        refusal = error
                    refused.append(refusal)
        return refused

    def add(
        self, drafts: Iterable[Draft], *, actor: str, rule: AcceptanceRule | None = None
    ) -> int:
        """Bring items in, a few hundred to a transaction; those already there are passed over.

        A draft without a kind gets the rules' suggestion. Run again after a kill, it goes on where
        it was. Return how many were new.

        rule: what the ratings of these items must reach.
        """
        bar = rule or AcceptanceRule()
        return self._bring_in(((draft.id, _import_content(draft, bar)) for draft in drafts), actor)

    def add_gold(self, drafts: Iterable[GoldDraft], *, actor: str) -> int:
        """Bring control items in, as `add` does; everybody rates them, and they are never released.

        Return how many were new.
        """
        return self._bring_in(((draft.id, _gold_content(draft)) for draft in drafts), actor)

    def changed(self, drafts: Iterable[Draft | GoldDraft]) -> list[str]:
        """Return the ids of drafts that came in otherwise than they are now, and so were passed
        over. A kind that a draft leaves open is no change."""
        found = []
        for draft in drafts:
            content = self.history(draft.id)[0].content
            stored = {**content["draft"], **content.get("gold", {})}
            told = draft.model_dump(mode="json", exclude_none=True)
            if any(stored.get(name, value) != value for name, value in told.items()):
                found.append(draft.id)
        return found

    def restore(self, events: Sequence[Event]) -> None:
        """Write the events of another store, as its history tells them, into this empty one.

        raises: RuleError when this store holds anything, or the events break the rules.
        """
        replay(events)
        with self._lock, self._transaction():
            self._catch_up()
            if self._items:
                raise RuleError(f"{self.path}: holds items already; restore into a new store")
            for event in events:
                self._write(event)
            self._catch_up()

    def open_items(self, person: str, phase: Phase) -> list[Item]:
        """Return what the person may work on in a phase, in the order they should take it.

        What is assigned to them comes first, then what is nearest to its third rating; otherwise
        everybody has their own order, so that two people seldom open the same item. Among the
        items to rate one in ten is a control item, in no pattern, while there are any left.
        """
        items = self.items()
        found = [item for item in items if item.phase == phase and may_work(item, person)]
        own = sorted(
            (item for item in found if not item.gold),
            key=lambda item: (
                phase not in item.assigned,
                -len(item.ratings),
                shuffled(person, item.id),
            ),
        )
        gold = sorted(
            (item for item in found if item.gold), key=lambda item: shuffled(person, item.id)
        )
        rated = sum(item.rating_of(person) is not None for item in items)
        mixed: list[Item] = []
        for item in own:
            while gold and shuffled(person, f"gold {rated + len(mixed)}")[0] % GOLD_EVERY == 0:
                mixed.append(gold.pop())
            mixed.append(item)
        return mixed

    def next_item(self, person: str, phase: Phase) -> Item | None:
        """Return the first of the person's open items of a phase, or None."""
        return next(iter(self.open_items(person, phase)), None)

    def _bring_in(self, contents: Iterable[tuple[str, Mapping[str, Any]]], actor: str) -> int:
        new = 0
        waiting = list(contents)
        for start in range(0, len(waiting), BATCH):
            at = _now()
            with self._lock, self._transaction():
                self._catch_up()
                for name, content in waiting[start : start + BATCH]:
                    if name not in self._items:
                        self._append(name, "import", actor, content, at)
                        new += 1
        return new

    def _was_taken(self, step: Step) -> bool:
        """Whether the author took this very step after the version they had seen, and it holds."""
        content = json.loads(json.dumps(step.content))
        return any(
            event.version > step.seen
            and (event.actor, event.action) == (step.actor, step.action)
            and event.content == content
            for event in standing(self._history.get(step.item, ()))
        )

    def _take(self, step: Step, at: str) -> None:
        """Take a step, within a transaction.

        raises: ConflictError, RuleError.
        """
        name, history = step.item, self._history.get(step.item)
        if step.action == "import":
            raise RuleError("items come in by `add`")
        if history is None:
            raise RuleError(f"{name}: no such item")
        if not 1 <= step.seen <= history[-1].version:
            raise ConflictError(
                f"{name}: has no version {step.seen}, it is at {history[-1].version}; "
                "look at it again"
            )
        other = missed(history, step.action, step.seen)
        if other is not None:
            raise ConflictError(
                f"{name}: {other.actor} changed it meanwhile ({other.action}); look at it again"
            )
        self._append(name, step.action, step.actor, step.content, at)

    def _append(
        self, name: str, action: Action, actor: str, content: Mapping[str, Any], at: str
    ) -> None:
        """Check the step against the rules and write it, within a transaction."""
        if not actor.strip():
            raise RuleError("who are you? a step needs the name of the person who does it")
        history = self._history.get(name, [])
        first = _EDITED if "gold" in content else 1
        version = history[-1].version + 1 if history else first
        event = Event(self._last + 1, name, version, action, actor.strip(), at, content)
        try:
            if action == "rate" and name in self._items:
                check_rater(self._items[name], actor.strip())
            if action == "undo":
                event = replace(event, content=Undo.model_validate(content).model_dump())
                check_undo(self._items[name], history, event.content["version"])
            item = self._after(event)
        except ValidationError as error:
            raise RuleError(_told(event, error)) from None
        self._take_in(self._write(event), item)

    def _write(self, event: Event) -> Event:
        """Write an event; return it as the database holds it."""
        content = json.dumps(event.content, ensure_ascii=False)
        cursor = self._connection.execute(
            "INSERT INTO events (item, version, action, actor, at, content)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (event.item, event.version, event.action, event.actor, event.at, content),
        )
        return replace(event, number=cursor.lastrowid or 0, content=json.loads(content))

    def _catch_up(self) -> None:
        """Take in the events that were written since, by this process or another."""
        for event in self._read(self._last):
            self._take_in(event, self._after(event))

    def _after(self, event: Event) -> Item:
        """The item after the event.

        raises: RuleError when the event is against the rules.
        """
        if event.action == "undo":
            return replayed([*self._history.get(event.item, ()), event])
        return apply_event(self._items.get(event.item), event)

    def _take_in(self, event: Event, item: Item) -> None:
        self._history.setdefault(event.item, []).append(event)
        self._items[event.item] = item
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
        """All or nothing; what was taken in of steps that did not come about is forgotten again.

        raises: DrenpaError when the file cannot be written.
        """
        before = self._connection.total_changes
        try:
            with self._all_or_nothing():
                yield
        except BaseException as error:
            if isinstance(error, sqlite3.Error) or self._connection.total_changes != before:
                self._history, self._items, self._last = {}, {}, 0
            if isinstance(error, sqlite3.Error):
                raise DrenpaError(
                    f"{self.path}: cannot be written ({error}); what was reported as done is "
                    "kept: mend that, then do the rest again"
                ) from error
            raise

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # of a full disk SQLite rolls back by itself
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise


def _unusable(path: Path, error: Exception) -> DrenpaError:
    return DrenpaError(f"{path}: cannot be used as an annotation store ({error})")


def _told(event: Event, error: ValidationError) -> str:
    """What is wrong with the content of a step, in a line."""
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"])
    return f"{event.item}: {event.action}: {place}: {fault['msg']}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def shuffled(*parts: str) -> bytes:
    """Return a sort key that follows no pattern and is the same every time."""
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _gold_content(draft: GoldDraft) -> dict[str, Any]:
    known = draft.model_dump(include=set(Gold.model_fields))
    item = Draft.model_validate(draft.model_dump(exclude=set(Gold.model_fields)))
    return {"draft": item.model_dump(mode="json"), "kind_source": "", "gold": known}


def _import_content(draft: Draft, rule: AcceptanceRule) -> dict[str, Any]:
    content: dict[str, Any] = {"kind_source": "draft", "rule": asdict(rule)}
    if draft.kind is None:
        found = suggest_kind(draft.question, draft.answer, draft.tags)
        content["kind_source"] = found.source if found.label else ""
        if found.label:
            draft = draft.model_copy(update={"kind": found.label})
            content["suggestion"] = {
                "kind": found.label,
                "source": found.source,
                "reasons": found.reasons[:3],
            }
    return {"draft": draft.model_dump(mode="json"), **content}


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
                    id=identifier(f"{item.id}-{annotator}"),
                    record=item.id,
                    annotator=annotator,
                    candidates=candidates,
                )
            )
    return rankings


def export(store: Store, folder: Path) -> dict[str, int]:
    """Write `records.jsonl` and `rankings.jsonl`, as `curate` reads them, `ratings.jsonl`, and all
    that happened as `history.jsonl`.

    Return how many rows each file has. A file is the old one or wholly the new one.
    """
    rows = exported_lines(store.items())
    rows["history.jsonl"] = [
        json.dumps(asdict(event), ensure_ascii=False) for event in store.events()
    ]
    for name, lines in rows.items():
        write_text(folder / name, "".join(line + "\n" for line in lines))
    return {name: len(lines) for name, lines in rows.items()}


def read_history(path: Path) -> list[Event]:
    """Read `history.jsonl` back, for `Store.restore`.

    raises: DataError that names each line that is no event, or no step that its item can take.
    """
    faults = Faults()
    rows = read_rows(path, _EventRow, faults)
    faults.check()
    events = [Event(**dict(entry.row)) for entry in rows]
    histories: dict[str, list[Event]] = {}
    items: dict[str, Item] = {}
    broken: set[str] = set()
    for entry, event in zip(rows, events, strict=True):
        history = histories.setdefault(event.item, [])
        if event.item in broken:
            continue
        broken.add(event.item)
        if history and event.version <= history[-1].version:
            what = f"is {event.version} after {history[-1].version}; take the original file"
            faults.add(entry.place, f"field 'version': {what}")
            continue
        history.append(event)
        try:
            items[event.item] = (
                replayed(history)
                if event.action == "undo"
                else apply_event(items.get(event.item), event)
            )
        except ValidationError as error:
            faults.add(entry.place, f"field 'content': {_told(event, error)}")
        except DrenpaError as error:
            faults.add(entry.place, str(error))
        else:
            broken.discard(event.item)
    faults.check()
    return events


def exported_lines(items: Sequence[Item]) -> dict[str, list[str]]:
    """Return the lines of records, rankings and ratings; ratings only of items rated to the end."""
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


class _EventRow(Row):
    number: int
    item: str
    version: int
    action: Action
    actor: str
    at: str
    content: dict[str, Any]
