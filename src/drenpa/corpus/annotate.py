"""Three rounds of people over an append-only store: what may be done when, by whom, is code.

Round 1 edits and classifies questions only, round 2 answers only; in round 3 three people who did
not edit the item rate it without seeing each other, one who did neither adjudicates what they
dispute, and repairs send it back to be rated again. Accepted items have their candidate answers
ranked, with a note on each. Every step is an event in SQLite that nothing can alter; the state of
an item is its events replayed, and to undo is a new event. Who writes must name the version they
saw, so that nobody's work is overwritten unseen.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DrenpaError
from drenpa.core.knowledge import Kind, Stability
from drenpa.core.records import Candidate, Identifier, Ranking, Record, Row, Text
from drenpa.corpus.audit import RATERS, Rating, disputes, faults_found, majority_kind
from drenpa.corpus.classify import suggest_kind
from drenpa.corpus.formats import Faults
from drenpa.corpus.intake import check_ids, read_rows

Phase = Literal["question", "answer", "audit", "adjudication", "accepted", "rejected"]
Action = Literal[
    "import",
    "edit_question",
    "edit_answer",
    "rate",
    "repair",
    "adjudicate",
    "add_candidate",
    "rank",
    "undo",
]
PHASES: tuple[Phase, ...] = get_args(Phase)

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


class RuleError(DrenpaError):
    """What was asked is against the rules of the rounds; the message says which and what to do."""


class ConflictError(RuleError):
    """Somebody else changed the item since it was read; read it again."""


class CandidateDraft(Row):
    """An answer to be ranked."""

    id: Identifier
    answer: Text


class Draft(Row):
    """An item as it comes in; what is empty is for the rounds to fill."""

    id: Identifier
    question: Text
    answer: str = ""
    kind: Kind | None = None
    language: str = "en"
    source: str = ""
    stability: Stability = "timeless"
    demand: float = Field(default=1.0, ge=0)
    tags: tuple[str, ...] = ()
    candidates: tuple[CandidateDraft, ...] = ()


class QuestionEdit(Row):
    """Round 1: the question and what it is; it has no place for an answer."""

    question: Text
    kind: Kind
    stability: Stability
    demand: float = Field(ge=0)


class AnswerEdit(Row):
    """Round 2: the answer and what it is; it has no place for a question."""

    answer: Text
    kind: Kind


class Repair(Row):
    """Round 3: question, answer and kind put right; the ratings begin anew."""

    question: Text
    answer: Text
    kind: Kind


class Decision(Row):
    """What the adjudicator decides: accepted, rejected, or back to round 1 or 2."""

    outcome: Literal["accepted", "rejected", "question", "answer"]
    kind: Kind
    comment: str = ""


class Ranked(Row):
    """One candidate's rank (1 is best) and why."""

    candidate: Identifier
    rank: int = Field(ge=1)
    note: str = ""


class Order(Row):
    """One person's order of all the candidates."""

    ranks: Annotated[tuple[Ranked, ...], Field(min_length=2)]


class Undo(Row):
    """Take back the event that made this version."""

    version: int


@dataclass(frozen=True)
class Event:
    """Who did what to which item when; `content` is the values of the action."""

    number: int
    item: str
    version: int
    action: Action
    actor: str
    at: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """An item after some of its events.

    version:     of its last event; whoever writes next must name it.
    kind_source: who says what kind it is: rules, person, or draft (it came with the import).
    editors:     who changed question or answer; they cannot rate or adjudicate.
    ratings:     of the present text only.
    orders:      annotator → order of the candidates.
    remark:      why it is where it is: what the raters dispute, why it was rejected.
    """

    id: str
    version: int
    phase: Phase
    question: str
    answer: str
    kind: Kind | None
    kind_source: str
    language: str
    source: str
    stability: Stability
    demand: float
    tags: tuple[str, ...]
    editors: frozenset[str] = frozenset()
    ratings: tuple[Rating, ...] = ()
    candidates: tuple[CandidateDraft, ...] = ()
    orders: Mapping[str, Order] = field(default_factory=dict)
    remark: str = ""

    def rating_of(self, rater: str) -> Rating | None:
        """Return the person's rating of the present text, if there is one."""
        return next((rating for rating in self.ratings if rating.rater == rater), None)

    def visible_ratings(self, person: str) -> tuple[Rating, ...]:
        """Return what the person may see: all ratings once they are complete, else their own."""
        if self.phase != "audit":
            return self.ratings
        return tuple(rating for rating in self.ratings if rating.rater == person)


def read_drafts(path: Path | str) -> list[Draft]:
    """Read items for the rounds from JSON Lines, CSV or Parquet.

    raises: DataError with every fault found.
    """
    faults = Faults()
    drafts = read_rows(Path(path), Draft, faults)
    check_ids(drafts, faults)
    faults.check()
    return [entry.row for entry in drafts]


def may_work(item: Item, person: str) -> bool:
    """Whether the person has something to do on the item in its present phase."""
    if item.phase in ("question", "answer"):
        return True
    rated = item.rating_of(person) is not None
    if item.phase in ("audit", "adjudication"):
        return person not in item.editors and not rated
    unranked = len(item.candidates) >= 2 and person not in item.orders
    return item.phase == "accepted" and unranked


def apply_event(item: Item | None, event: Event) -> Item:
    """Return the item after the event; `undo` is `replay`'s business.

    raises: RuleError when the event is against the rules.
    """
    if event.action == "import":
        if item is not None:
            raise RuleError(f"{event.item}: is in the store already; give the new one another id")
        return _imported(event)
    if item is None:
        raise RuleError(f"{event.item}: no such item")
    changed = _STEPS[event.action](item, event.actor, event.content)
    return replace(changed, version=event.version)


def replay(events: Iterable[Event]) -> dict[str, Item]:
    """Return every item after its events, those that were undone left out."""
    by_item: dict[str, list[Event]] = {}
    for event in events:
        by_item.setdefault(event.item, []).append(event)
    return {name: _replayed(history) for name, history in by_item.items()}


def _replayed(history: Sequence[Event]) -> Item:
    item: Item | None = None
    for event in _standing(history):
        item = apply_event(item, event)
    if item is None:
        raise RuleError(f"{history[0].item}: its history has no beginning")
    return replace(item, version=history[-1].version)


def _standing(history: Sequence[Event]) -> list[Event]:
    """The events that were not undone.

    raises: RuleError when an undo names anything but the person's own last standing event.
    """
    standing: list[Event] = []
    for event in history:
        if event.action != "undo":
            standing.append(event)
            continue
        last = standing[-1]
        if event.content["version"] != last.version:
            raise RuleError(
                f"{event.item}: only the last step can be undone, version {last.version}"
            )
        if last.action == "import":
            raise RuleError(f"{event.item}: an import cannot be undone; reject the item instead")
        if last.actor != event.actor:
            raise RuleError(f"{event.item}: {last.actor} did that step; only they can undo it")
        standing.pop()
    return standing


def _imported(event: Event) -> Item:
    draft = Draft.model_validate(event.content["draft"])
    return Item(
        id=event.item,
        version=event.version,
        phase="question",
        question=draft.question,
        answer=draft.answer,
        kind=draft.kind,
        kind_source=event.content["kind_source"],
        language=draft.language,
        source=draft.source,
        stability=draft.stability,
        demand=draft.demand,
        tags=draft.tags,
        candidates=draft.candidates,
    )


def _edit_question(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    _need(item, "question", "round 1 edits questions")
    edit = QuestionEdit.model_validate(content)
    return replace(
        item,
        phase="answer",
        question=edit.question,
        kind=edit.kind,
        kind_source="person",
        stability=edit.stability,
        demand=edit.demand,
        editors=item.editors | {actor},
        remark="",
    )


def _edit_answer(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    _need(item, "answer", "round 2 edits answers")
    edit = AnswerEdit.model_validate(content)
    return replace(
        item,
        phase="audit",
        answer=edit.answer,
        kind=edit.kind,
        kind_source="person",
        editors=item.editors | {actor},
        ratings=(),
        remark="",
    )


def _rate(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    _need(item, "audit", "round 3 rates")
    rating = Rating.model_validate({**content, "rater": actor})
    if actor in item.editors:
        raise RuleError(f"{item.id}: {actor} edited it; three others rate it")
    if item.rating_of(actor) is not None:
        raise RuleError(f"{item.id}: {actor} has rated it; undo that rating to give another")
    ratings = (*item.ratings, rating)
    if len(ratings) < RATERS:
        return replace(item, ratings=ratings)
    disputed = disputes(ratings)
    if disputed:
        return replace(item, ratings=ratings, phase="adjudication", remark="; ".join(disputed))
    faults = faults_found(ratings)
    return replace(
        item,
        ratings=ratings,
        phase="rejected" if faults else "accepted",
        kind=majority_kind(ratings),
        remark="; ".join(faults),
    )


def _repair(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    if item.phase not in ("audit", "adjudication", "rejected"):
        raise RuleError(f"{item.id}: is in phase {item.phase}; repairs belong to round 3")
    repair = Repair.model_validate(content)
    return replace(
        item,
        phase="audit",
        question=repair.question,
        answer=repair.answer,
        kind=repair.kind,
        kind_source="person",
        editors=item.editors | {actor},
        ratings=(),
        remark="",
    )


def _adjudicate(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    _need(item, "adjudication", "an adjudicator decides what raters dispute")
    decision = Decision.model_validate(content)
    if actor in item.editors or item.rating_of(actor) is not None:
        raise RuleError(f"{item.id}: {actor} edited or rated it; somebody else adjudicates")
    back = decision.outcome in ("question", "answer")
    return replace(
        item,
        phase=decision.outcome,
        kind=decision.kind,
        kind_source="person",
        ratings=() if back else item.ratings,
        remark=decision.comment,
    )


def _add_candidate(item: Item, _actor: str, content: Mapping[str, Any]) -> Item:
    candidate = CandidateDraft.model_validate(content)
    if item.orders:
        raise RuleError(f"{item.id}: its candidates are ranked already; none can be added")
    if candidate.id in {known.id for known in item.candidates}:
        raise RuleError(f"{item.id}: has a candidate '{candidate.id}'; give the new one another id")
    if candidate.answer in {known.answer for known in item.candidates}:
        raise RuleError(f"{item.id}: that answer is among its candidates already")
    return replace(item, candidates=(*item.candidates, candidate))


def _rank(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    _need(item, "accepted", "candidates are ranked once the item is accepted")
    order = Order.model_validate(content)
    ranked = sorted(entry.candidate for entry in order.ranks)
    if ranked != sorted(candidate.id for candidate in item.candidates):
        raise RuleError(f"{item.id}: rank each of its candidates once; equal ranks are allowed")
    return replace(item, orders={**item.orders, actor: order})


def _need(item: Item, phase: Phase, rule: str) -> None:
    if item.phase != phase:
        raise RuleError(f"{item.id}: is in phase {item.phase}; {rule}, in phase {phase}")


_STEPS: Mapping[str, Callable[[Item, str, Mapping[str, Any]], Item]] = {
    "edit_question": _edit_question,
    "edit_answer": _edit_answer,
    "rate": _rate,
    "repair": _repair,
    "adjudicate": _adjudicate,
    "add_candidate": _add_candidate,
    "rank": _rank,
}


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
                _replayed([*history, event])
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
                self._items[event.item] = _replayed(history)
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
