"""The rules of the three rounds: an item is its events replayed, and a step against the rules is an
error.

Round 1 edits and classifies questions only, round 2 answers only; in round 3 three people who did
not edit the item rate it without seeing each other, one who did neither adjudicates what they
dispute, and repairs send it back to be rated again. Accepted items have their candidate answers
ranked, with a note on each. Control items, whose rating is known beforehand, are rated by everybody
and never leave round 3. To undo is a new event. Everything here is plain values; `annotate` keeps
the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from drenpa.core.errors import DrenpaError
from drenpa.core.knowledge import Kind, Stability
from drenpa.core.records import Identifier, Row, Text
from drenpa.core.text import brief
from drenpa.corpus.audit import (
    RATERS,
    AcceptanceRule,
    Rating,
    Score,
    disputes,
    faults_found,
    majority_kind,
)

Phase = Literal["question", "answer", "audit", "adjudication", "accepted", "rejected"]
Action = Literal[
    "import",
    "suggest",
    "edit_question",
    "edit_answer",
    "rate",
    "repair",
    "adjudicate",
    "add_candidate",
    "rank",
    "assign",
    "undo",
]
PHASES: tuple[Phase, ...] = get_args(Phase)
_TEXT: frozenset[Action] = frozenset({"edit_question", "edit_answer", "repair", "adjudicate"})
_RESTS_ON: Mapping[Action, frozenset[Action]] = {
    "rate": _TEXT,
    "add_candidate": _TEXT,
    "rank": _TEXT | {"add_candidate"},
    "edit_question": _TEXT,
    "edit_answer": _TEXT,
    "adjudicate": _TEXT,
    "repair": _TEXT | {"rate", "rank"},
}
"""The steps of others that a step must have seen; ratings, orders and assignments of several people
do not touch each other."""


_DECIDED = ("draft", "person")  # sources of a kind that is no mere suggestion


def _no_decision(source: str) -> str:
    if source in _DECIDED:
        raise ValueError("a suggestion comes from rules or a model, not from a person or a draft")
    return source


class RuleError(DrenpaError):
    """What was asked is against the rules of the rounds; the message says which and what to do."""


class ConflictError(RuleError):
    """Somebody else changed the item since it was read; read it again."""


class CandidateDraft(Row):
    """An answer to be ranked."""

    id: Identifier
    answer: Text


class StoredDraft(Row):
    """An item as a store holds it."""

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


class Draft(StoredDraft):
    """An item as it comes in; what is empty is for the rounds to fill.

    Its candidates are distinct, which was not asked of what older stores hold.
    """

    @field_validator("candidates")
    @classmethod
    def _candidates_are_distinct(
        cls, candidates: tuple[CandidateDraft, ...]
    ) -> tuple[CandidateDraft, ...]:
        for what, values in (
            ("id", [candidate.id for candidate in candidates]),
            ("answer", [candidate.answer for candidate in candidates]),
        ):
            twice = next((value for n, value in enumerate(values) if value in values[:n]), None)
            if twice is not None:
                raise ValueError(f"the {what} '{brief(twice)}' stands twice; give each its own")
        return candidates


class Gold(Row):
    """What is known beforehand of a control item; a score that is None is not held against
    anyone."""

    agrees: bool
    kind: Kind
    quality: Score | None = None
    diversity: Score | None = None
    timeliness: Score | None = None
    professionalism: Score | None = None


class GoldDraft(Gold):
    """A control item as it comes in."""

    id: Identifier
    question: Text
    answer: Text
    language: str = "en"
    source: str = ""
    tags: tuple[str, ...] = ()


class KindSuggestion(Row):
    """A kind that somebody's rules or model propose; nobody has decided it.

    source:      who proposes: `rules`, `model` (the trained classifier), or a name such as
                 `llm NAME`.
    probability: that it is right, by the source's own account; None where it gives none.
    """

    kind: Kind
    source: Annotated[Identifier, AfterValidator(_no_decision)]
    probability: float | None = Field(default=None, ge=0, le=1)
    reasons: tuple[str, ...] = ()


class Import(Row):
    """How an item came in.

    suggestion: of its kind, by rules, where it came without one.
    rule:       what its ratings must reach.
    gold:       of a control item, what its ratings should be.
    """

    draft: StoredDraft
    kind_source: str
    suggestion: KindSuggestion | None = None
    rule: AcceptanceRule = AcceptanceRule()
    gold: Gold | None = None


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


class Assignment(Row):
    """Who is to work on the item in a phase; an empty list opens it to everyone again."""

    phase: Phase
    people: tuple[Identifier, ...]

    @model_validator(mode="after")
    def _people_are_distinct(self) -> Assignment:
        if len(set(self.people)) < len(self.people):
            raise ValueError("a person stands twice")
        return self


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

    version:     of its last event; whoever writes next names the version they had seen.
    kind_source: who says what kind it is: person, draft (it came with the import), or whoever
                 suggested it.
    suggestion:  the last one made, with its reasons.
    editors:     who changed question or answer; they cannot rate or adjudicate.
    repairers:   who ever repaired it, those included who took their repair back: they have seen
                 what raters made of it, and cannot rate.
    ratings:     of the present text only.
    orders:      annotator → order of the candidates.
    remark:      why it is where it is: what the raters dispute, why it was rejected.
    rule:        what its ratings must reach, set when it came in.
    gold:        of a control item, what its ratings should be.
    assigned:    phase → who is to work on it then; nobody named is everybody.
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
    suggestion: KindSuggestion | None = None
    editors: frozenset[str] = frozenset()
    repairers: frozenset[str] = frozenset()
    ratings: tuple[Rating, ...] = ()
    candidates: tuple[CandidateDraft, ...] = ()
    orders: Mapping[str, Order] = field(default_factory=dict)
    remark: str = ""
    rule: AcceptanceRule = field(default_factory=AcceptanceRule)
    gold: Gold | None = None
    assigned: Mapping[Phase, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_kind_suggested(self) -> bool:
        """Whether its kind is a suggestion that nobody has decided yet."""
        return self.kind is not None and self.kind_source not in _DECIDED

    @property
    def may_be_suggested(self) -> bool:
        """Whether a suggestion of its kind is still of use."""
        return self.phase == "question" and (self.kind is None or self.is_kind_suggested)

    def is_open_to(self, person: str) -> bool:
        """Whether the present phase is not assigned to others."""
        people = self.assigned.get(self.phase, ())
        return not people or person in people

    def is_hidden_from(self, person: str) -> bool:
        """Whether the person rates it blind: not told who wrote it, nor what others made of it."""
        return self.phase == "audit" and person not in self.editors | self.repairers

    def rating_of(self, rater: str) -> Rating | None:
        """Return the person's rating of the present text, if there is one."""
        return next((rating for rating in self.ratings if rating.rater == rater), None)

    def faults_told(self) -> str:
        """Return what is held against it, in words, and the raters' comments once all can be
        seen."""
        comments = [rating.comment for rating in self.ratings if rating.comment]
        return "\n".join([self.remark, *comments]) if self.phase != "audit" else ""

    def visible_ratings(self, person: str) -> tuple[Rating, ...]:
        """Return what the person may see: all ratings once they are complete, else their own."""
        if self.phase != "audit":
            return self.ratings
        return tuple(rating for rating in self.ratings if rating.rater == person)


def may_work(item: Item, person: str) -> bool:
    """Whether the person has something to do on the item in its present phase."""
    if not item.is_open_to(person):
        return False
    if item.phase in ("question", "answer", "rejected"):
        return True
    rated = item.rating_of(person) is not None
    if item.phase == "audit":
        return person not in item.editors | item.repairers and not rated
    if item.phase == "adjudication":
        return person not in item.editors and not rated
    unranked = len(item.candidates) >= 2 and person not in item.orders
    return item.phase == "accepted" and unranked


def apply_event(item: Item | None, event: Event) -> Item:
    """Return the item after the event; `undo` is the business of `replayed`.

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
    for event in standing(history):
        item = apply_event(item, event)
    if item is None:
        raise RuleError(f"{history[0].item}: its history has no beginning")
    repairers = frozenset(event.actor for event in history if event.action == "repair")
    return replace(item, version=history[-1].version, repairers=repairers)


def missed(history: Sequence[Event], action: Action, seen: int) -> Event | None:
    """Return the last event after version `seen` that whoever takes the step must know of."""
    made_by = {event.version: event.action for event in history}
    for event in reversed(history):
        if event.version <= seen:
            return None
        touched = made_by[_undone_by(event)] if event.action == "undo" else event.action
        if touched in _RESTS_ON.get(action, ()):
            return event
    return None


def check_undo(item: Item, history: Sequence[Event], version: int) -> None:
    """Refuse to take back a rating once all are in, since its author has seen the others by then.

    raises: RuleError.
    """
    undone = next((event for event in history if event.version == version), None)
    if undone is not None and undone.action == "rate" and item.phase != "audit":
        raise RuleError(
            f"{item.id}: all ratings are in and can be seen, so none is taken back; "
            "repair the item to have it rated anew"
        )


def check_rater(item: Item, actor: str) -> None:
    """Refuse a rating by who repaired the item and took that back, since they saw the others'.

    It is asked of new ratings only: in older stores such ratings stand.

    raises: RuleError.
    """
    if actor in item.repairers - item.editors:
        raise RuleError(
            f"{item.id}: {actor} repaired it, and undoing that does not make them unsee the "
            "ratings; others rate it"
        )


def standing(history: Sequence[Event]) -> list[Event]:
    """Return the events that were not undone.

    raises: RuleError when an undo names anything but the person's own last step, or one that others
            have built upon.
    """
    left: list[Event] = []
    for event in history:
        if event.action != "undo":
            left.append(event)
            continue
        version = _undone_by(event)
        place = next((n for n, known in enumerate(left) if known.version == version), -1)
        if place < 0:
            raise RuleError(f"{event.item}: version {version} is no step to undo")
        undone = left[place]
        _check_undoable(undone, event.actor)
        alike = {undone.action, "assign"} if undone.action in ("rate", "rank") else {"assign"}
        if any(later.action not in alike for later in left[place + 1 :]):
            raise RuleError(
                f"{event.item}: others have built on that step; only the last step can be undone, "
                f"version {left[-1].version}"
            )
        del left[place]
    return left


def _undone_by(event: Event) -> int:
    return Undo.model_validate(event.content).version


def _check_undoable(event: Event, actor: str) -> None:
    if event.action == "import":
        raise RuleError(f"{event.item}: an import cannot be undone; reject the item instead")
    if event.action == "assign":
        raise RuleError(f"{event.item}: an assignment is changed by a new one, not undone")
    if event.actor != actor:
        raise RuleError(f"{event.item}: {event.actor} did that step; only they can undo it")


def _imported(event: Event) -> Item:
    came = Import.model_validate(event.content)
    draft = came.draft
    return Item(
        id=event.item,
        version=event.version,
        phase="audit" if came.gold else "question",
        question=draft.question,
        answer=draft.answer,
        kind=draft.kind,
        kind_source=came.kind_source,
        language=draft.language,
        source=draft.source,
        stability=draft.stability,
        demand=draft.demand,
        tags=draft.tags,
        suggestion=came.suggestion,
        candidates=draft.candidates,
        rule=came.rule,
        gold=came.gold,
    )


def _suggest(item: Item, _actor: str, content: Mapping[str, Any]) -> Item:
    suggestion = KindSuggestion.model_validate(content)
    if not item.may_be_suggested:
        raise RuleError(f"{item.id}: its kind was decided, or came with it; no suggestion is taken")
    return replace(item, kind=suggestion.kind, kind_source=suggestion.source, suggestion=suggestion)


def _edit_question(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    _need(item, "question", "round 1 edits questions", actor)
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
        orders=_orders_of(item, edit.question),
        remark="",
    )


def _edit_answer(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    _need(item, "answer", "round 2 edits answers", actor)
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
    _need(item, "audit", "round 3 rates", actor)
    rating = Rating.model_validate({**content, "rater": actor})
    if actor in item.editors:
        raise RuleError(f"{item.id}: {actor} edited it; three others rate it")
    if item.rating_of(actor) is not None:
        raise RuleError(f"{item.id}: {actor} has rated it; undo that rating to give another")
    ratings = (*item.ratings, rating)
    if item.gold or len(ratings) < RATERS:
        return replace(item, ratings=ratings)
    disputed = disputes(ratings)
    if disputed:
        return replace(item, ratings=ratings, phase="adjudication", remark="; ".join(disputed))
    faults = faults_found(ratings, item.rule)
    return replace(
        item,
        ratings=ratings,
        phase="rejected" if faults else "accepted",
        kind=majority_kind(ratings),
        remark="; ".join(faults),
    )


def _repair(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    if item.phase in ("question", "answer"):
        raise RuleError(f"{item.id}: is in phase {item.phase}; repairs belong to round 3")
    if item.gold:
        raise RuleError(f"{item.id}: is a control item; it stays as it is, only rate it")
    if item.phase == "rejected" and not item.is_open_to(actor):
        raise RuleError(f"{item.id}: its repair is assigned to others; take one of yours")
    repair = Repair.model_validate(content)
    return replace(
        item,
        phase="audit",
        question=repair.question,
        answer=repair.answer,
        kind=repair.kind,
        kind_source="person",
        editors=item.editors | {actor},
        repairers=item.repairers | {actor},
        ratings=(),
        orders=_orders_of(item, repair.question),
        remark="",
    )


def _adjudicate(item: Item, actor: str, content: Mapping[str, Any]) -> Item:
    _need(item, "adjudication", "an adjudicator decides what raters dispute", actor)
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
    _need(item, "accepted", "candidates are ranked once the item is accepted", actor)
    order = Order.model_validate(content)
    ranked = sorted(entry.candidate for entry in order.ranks)
    if ranked != sorted(candidate.id for candidate in item.candidates):
        raise RuleError(f"{item.id}: rank each of its candidates once; equal ranks are allowed")
    return replace(item, orders={**item.orders, actor: order})


def _assign(item: Item, _actor: str, content: Mapping[str, Any]) -> Item:
    assignment = Assignment.model_validate(content)
    if item.gold:
        raise RuleError(f"{item.id}: is a control item; everybody rates it")
    return replace(item, assigned={**item.assigned, assignment.phase: assignment.people})


def _orders_of(item: Item, question: str) -> Mapping[str, Order]:
    """The orders that still hold: those of answers to the same question."""
    return item.orders if question == item.question else {}


def _need(item: Item, phase: Phase, rule: str, actor: str) -> None:
    if item.phase != phase:
        raise RuleError(f"{item.id}: is in phase {item.phase}; {rule}, in phase {phase}")
    if not item.is_open_to(actor):
        raise RuleError(f"{item.id}: is assigned to others; take one of yours")


_STEPS: Mapping[str, Callable[[Item, str, Mapping[str, Any]], Item]] = {
    "suggest": _suggest,
    "edit_question": _edit_question,
    "edit_answer": _edit_answer,
    "rate": _rate,
    "repair": _repair,
    "adjudicate": _adjudicate,
    "add_candidate": _add_candidate,
    "rank": _rank,
    "assign": _assign,
}
