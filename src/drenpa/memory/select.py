"""Selection: which records are worth the weights' scarce room, and why.  [P13]

Pure functions of records, probe results and numbers. The paper gives the principle only; the order
of the questions below is our **Reading**:

1. volatile, personal or rare: external, whatever else holds;
2. known to the model: nothing to train, but watched for forgetting;
3. dearer than the whole budget: external;
4. the rest in order of weight(kind) · demand · (1 − known) / cost. A record is internalised if it
   and all before it fit the budget: at the first that does not fit, the budget is spent. So a
   record's chance never falls when its demand or its kind's weight rises.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from drenpa.config import SelectConfig
from drenpa.core.errors import DataError
from drenpa.core.knowledge import Kind
from drenpa.core.records import Identifier, Record, Row

Place = Literal["internalise", "watch", "external"]
Share = Annotated[float, Field(ge=0, le=1)]


class Decision(Row):
    """Where a record goes, and why.

    known: the probe's score.
    cost:  bits of the weights' room that its answer takes.
    value: weight · demand · (1 − known) / cost; 0 where the order was not asked.
    order: its place among the internalised, 1 is first; 0 for the others.
    """

    record: Identifier
    kind: Kind
    place: Place
    known: Share
    cost: float = Field(gt=0)
    value: float = Field(ge=0)
    order: int = Field(ge=0)
    reason: str


def select(
    records: Sequence[Record],
    known: Mapping[str, float],
    tokens: Mapping[str, int],
    config: SelectConfig,
    *,
    budget_bits: float,
    held: Mapping[str, str] | None = None,
) -> list[Decision]:
    """Decide each record's place; the decisions come in the order of the records.  [P13]

    known:       record id → probe score from 0 to 1.
    tokens:      record id → tokens of its answer.
    budget_bits: room in the weights, see `capacity_bits`.
    held:        record id → why it may not be trained for now.
    raises:      DataError when an id stands twice, a record was not probed, or has no answer.
    """
    _check(records, known, tokens)
    rare_below = config.rare_share * median_demand(records)
    decided: dict[str, Decision] = {}
    waiting: list[Decision] = []
    for record in records:
        outside = why_outside(record, rare_below) or (held or {}).get(record.id, "")
        decision = _apart(record, known[record.id], tokens[record.id], outside, config)
        if decision.place == "internalise" and decision.cost > budget_bits:
            decision = decision.model_copy(
                update={
                    "place": "external",
                    "value": 0.0,
                    "reason": f"its {decision.cost:.0f} bits are more than the whole "
                    f"{budget_bits:.0f}",
                }
            )
        if decision.place == "internalise":
            waiting.append(decision)
        else:
            decided[record.id] = decision
    waiting.sort(key=lambda decision: (-decision.value, decision.record))
    spent = 0.0
    for order, decision in enumerate(waiting, 1):
        spent += decision.cost
        decided[decision.record] = _ordered(decision, order, len(waiting), spent, budget_bits)
    return [decided[record.id] for record in records]


def capacity_bits(parameters: int, config: SelectConfig) -> float:
    """Return the room that a model of so many trained parameters has, in bits."""
    return parameters * config.bits_per_parameter


def median_demand(records: Sequence[Record]) -> float:
    """Return the demand of the record in the middle; 0 without records."""
    return statistics.median(record.demand for record in records) if records else 0.0


def internalised(decisions: Sequence[Decision]) -> list[str]:
    """Return the ids of the records to train, most valuable first."""
    chosen = [decision for decision in decisions if decision.place == "internalise"]
    return [decision.record for decision in sorted(chosen, key=lambda one: one.order)]


def why_outside(record: Record, rare_below: float) -> str:
    """Return why a record does not belong in weights at all, or an empty string."""
    if record.stability in ("volatile", "personal"):
        return f"{record.stability}: it belongs outside the weights"
    if record.demand < rare_below:
        return f"rare: demand {record.demand:g} is below {rare_below:g}"
    return ""


def _apart(
    record: Record, known: float, tokens: int, outside: str, config: SelectConfig
) -> Decision:
    """Decide what can be decided without looking at the other records' values."""
    cost = max(tokens, 1) * config.bits_per_token
    weight = config.weights[record.kind]
    value = weight * record.demand * (1 - known) / cost
    place: Place = "internalise"
    reason = outside
    if outside:
        place = "external"
    elif known >= config.known_above:
        place, reason = "watch", f"known: probe {known:.2f} reaches {config.known_above:.2f}"
    elif value == 0:
        why = "its kind's weight" if weight == 0 else "its demand"
        place, reason = "external", f"worth nothing in the weights: {why} is 0"
    return Decision(
        record=record.id,
        kind=record.kind,
        place=place,
        known=known,
        cost=cost,
        value=value if place == "internalise" else 0.0,
        order=0,
        reason=reason,
    )


def _ordered(
    decision: Decision, order: int, waiting: int, spent: float, budget_bits: float
) -> Decision:
    if spent <= budget_bits:
        reason = f"number {order} of {waiting} by value; {spent:.0f} of {budget_bits:.0f} bits used"
        return decision.model_copy(update={"order": order, "reason": reason})
    reason = f"number {order} of {waiting} by value; the budget of {budget_bits:.0f} bits is spent"
    return decision.model_copy(update={"place": "external", "reason": reason})


def _check(
    records: Sequence[Record], known: Mapping[str, float], tokens: Mapping[str, int]
) -> None:
    faults: list[str] = []
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            faults.append(f"record {record.id}: its id stands twice; give each its own")
        seen.add(record.id)
        if record.answer is None:
            faults.append(f"record {record.id}: its answer is withheld; it cannot be internalised")
        elif record.id not in known or record.id not in tokens:
            faults.append(f"record {record.id}: it was not probed; probe it first")
    if faults:
        raise DataError(faults)
