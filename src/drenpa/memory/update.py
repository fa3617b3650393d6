"""Update: what training did to each record, and what is to be done about it.  [P14]

Pure functions: the standing before, the record as it now is, the probe after, and numbers go in;
a change comes out for every record. The thresholds are our **Reading**: between `forgotten_below`
and `known_above` a record keeps its state, so that a probe's noise moves nothing. A question that
alone changed moves nothing either: the probe asks the present one, and says what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from drenpa.config import MemoryConfig
from drenpa.core.errors import DataError
from drenpa.core.records import Identifier, Record, Row
from drenpa.memory.ledger import (
    IN_WEIGHTS,
    Entry,
    Share,
    Standing,
    State,
    answer_fingerprint,
    fingerprint,
)
from drenpa.memory.probe import Probe
from drenpa.memory.select import Decision, median_demand, why_outside

Action = Literal["none", "replay", "store", "demote", "promote"]


class Change(Row):
    """What became of one record.

    before, after: its states.
    known:         the probe after.
    action:        `replay`: train it again; `store`: the store must hold it as it now is, and
                   answer; `demote`: as `store`, and it is no longer trained; `promote`: it may be
                   selected again.
    """

    record: Identifier
    before: State
    after: State
    known: Share
    action: Action
    reason: str


def first_state(decision: Decision) -> State:
    """Return a record's state before any training of ours: what the model knows already is known,
    the rest is outside until it has been learned."""
    return "known" if decision.place == "watch" else "external"


def compare(
    records: Sequence[Record],
    before: Mapping[str, Standing],
    probes: Mapping[str, Probe],
    config: MemoryConfig,
) -> list[Change]:
    """Compare each record's standing with its probe after training.  [P14]

    A record that the ledger does not hold yet was never trained by us: what the model knows of it,
    it knew already.

    raises: DataError when a record was not probed.
    """
    missing = [record.id for record in records if record.id not in probes]
    if missing:
        raise DataError([f"record {name}: it was not probed; probe it first" for name in missing])
    rare_below = config.select.rare_share * median_demand(records)
    return [
        _change(record, before.get(record.id), probes[record.id], rare_below, config)
        for record in records
    ]


def entries_of(
    changes: Sequence[Change], records: Sequence[Record], *, model: str, at: str
) -> list[Entry]:
    """Return the ledger's lines for these changes."""
    found = {record.id: record for record in records}
    return [
        Entry(
            at=at,
            model=model,
            record=change.record,
            wording=fingerprint(found[change.record]),
            answer=answer_fingerprint(found[change.record]),
            known=change.known,
            state=change.after,
            reason=change.reason,
        )
        for change in changes
    ]


def held_back(
    records: Sequence[Record], standings: Mapping[str, Standing], config: MemoryConfig
) -> dict[str, str]:
    """Return the records that may not be selected yet, with the reason.

    An answer that changed stays outside until `promote_after` probes have found it unchanged.
    """
    held: dict[str, str] = {}
    for record in records:
        standing = standings.get(record.id)
        if standing is None or standing.changes == 0:
            continue
        steady = standing.steady if _has_answer_of(standing, record) else 0
        if steady < config.update.promote_after:
            held[record.id] = (
                f"its answer changed; {steady} of {config.update.promote_after} probes have found "
                "it unchanged since"
            )
    return held


def _has_answer_of(standing: Standing, record: Record) -> bool:
    return standing.has_answer(fingerprint(record), answer_fingerprint(record))


def replay_queue(standings: Mapping[str, Standing], decisions: Sequence[Decision]) -> list[str]:
    """Return the forgotten records that are to be trained again, most valuable first."""
    chosen = sorted(
        (one for one in decisions if one.place == "internalise"), key=lambda one: one.order
    )
    return [one.record for one in chosen if standings[one.record].state == "forgotten"]


def _change(
    record: Record, standing: Standing | None, probe: Probe, rare_below: float, config: MemoryConfig
) -> Change:
    before: State = standing.state if standing is not None else "external"
    after, action, reason = _judge(record, standing, before, probe, rare_below, config)
    return Change(
        record=record.id,
        before=before,
        after=after,
        known=probe.known,
        action=action,
        reason=reason,
    )


def _judge(
    record: Record,
    standing: Standing | None,
    before: State,
    probe: Probe,
    rare_below: float,
    config: MemoryConfig,
) -> tuple[State, Action, str]:
    outside = why_outside(record, rare_below)
    if outside:
        if before in IN_WEIGHTS:
            return "demoted", "demote", outside
        return ("demoted" if before == "demoted" else "external"), "store", outside
    if standing is not None and not _has_answer_of(standing, record):
        told = "its answer changed" if standing.answer else "its question or answer changed"
        if before in IN_WEIGHTS or before == "contradicted":
            return "contradicted", "store", f"{told}; the weights hold the former one"
        return "external", "store", told
    known_above, forgotten_below = config.select.known_above, config.update.forgotten_below
    if probe.former_known >= max(forgotten_below, probe.known):
        told = f"the former answer is known {probe.former_known:.2f}, the present {probe.known:.2f}"
        return "contradicted", "store", told
    told = f"probe {probe.known:.2f}"
    if standing is not None and standing.wording != fingerprint(record):
        told = f"its question changed; asked the present one, {told}"
    if before in IN_WEIGHTS:
        if probe.known < forgotten_below:
            return "forgotten", "replay", f"{told} fell below {forgotten_below:.2f}"
        return before, "none", f"{told} is not below {forgotten_below:.2f}"
    if standing is None and probe.known >= known_above:
        return "known", "none", f"{told} reaches {known_above:.2f}, and it was never trained"
    if standing is not None and probe.known >= known_above:
        gain = probe.known - standing.known
        if gain >= config.update.learned_gain or before != "external":
            action: Action = "promote" if before in ("contradicted", "demoted") else "none"
            return "learned", action, f"{told} reaches {known_above:.2f}"
        return before, "store", f"{told} rose by only {gain:.2f}"
    if before == "forgotten":
        return "forgotten", "replay", f"{told} has not come back to {known_above:.2f}"
    return "external", "store", f"{told} is below {known_above:.2f}"
