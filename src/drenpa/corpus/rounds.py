"""The rules of the three rounds: an item is its events replayed, and a step against the rules is an
error.

Round 1 edits and classifies questions only, round 2 answers only; in round 3 three people who did
not edit the item rate it without seeing each other, one who did neither adjudicates what they
dispute, and repairs send it back to be rated again. Accepted items have their candidate answers
ranked, with a note on each. To undo is a new event. Everything here is plain values; `annotate`
keeps the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from drenpa.core.errors import DrenpaError
from drenpa.core.knowledge import Kind, Stability
from drenpa.core.records import Identifier, Row, Text
from drenpa.corpus.audit import RATERS, Rating, disputes, faults_found, majority_kind

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
    return {name: replayed(history) for name, history in by_item.items()}


def replayed(history: Sequence[Event]) -> Item:
    """Return one item after all its events.

    raises: RuleError when the history breaks the rules, as an undo of somebody else's step does.
    """
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
