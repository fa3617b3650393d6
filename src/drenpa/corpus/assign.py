"""Share the open items of a phase out among people: evenly, and so that it can be done again.

What was assigned or done stays; only what is missing is filled in. So the same call after a pause,
after new items or after somebody left completes the plan and takes nothing away from anyone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from drenpa.core.errors import DataError
from drenpa.corpus.annotate import Step, Store, shuffled
from drenpa.corpus.audit import RATERS
from drenpa.corpus.rounds import Item, Phase


@dataclass(frozen=True)
class Sharing:
    """What `assign` did.

    assigned: how many items have new people.
    load:     person → items of the phase that are or were theirs, all in all.
    short:    ids of items for which too few of the people may work.
    """

    assigned: int
    load: dict[str, int]
    short: tuple[str, ...]


def assign(
    store: Store, people: Sequence[str], phase: Phase, *, actor: str, orders: int = 1
) -> Sharing:
    """Assign each open item of the phase to as many of the people as it needs.

    Three for ratings, `orders` for rankings and one otherwise; whoever has the least gets the next
    item. Editors do not rate, and neither editors nor raters adjudicate. Somebody who is no longer
    among the people gives back what they have not done.

    raises: DataError when there are too few people.
    """
    people = list(dict.fromkeys(name.strip() for name in people if name.strip()))
    needed = {"audit": RATERS, "accepted": orders}.get(phase, 1)
    if len(people) < needed:
        raise DataError(
            f"{len(people)} people for phase '{phase}', it takes {needed} or more; name them all"
        )
    items = [item for item in store.items() if not item.gold]
    load = Counter(dict.fromkeys(people, 0))
    for item in items:
        load.update(set(item.assigned.get(phase, ())) & set(people) | _done(item, phase))
    waiting = [
        item
        for item in items
        if item.phase == phase
        and len(_done(item, phase)) < needed
        and (phase != "accepted" or len(item.candidates) >= 2)
    ]
    waiting.sort(key=lambda item: (len(_able(item, people)), shuffled(item.id)))
    steps, short = [], []
    for item in waiting:
        able = _able(item, people)
        kept = [name for name in item.assigned.get(phase, ()) if name in able]
        missing = needed - len(_done(item, phase)) - len(kept)
        free = sorted(
            (name for name in able if name not in kept),
            key=lambda name: (load[name], shuffled(item.id, name)),
        )
        new = free[: max(0, missing)]
        if len(new) < missing:
            short.append(item.id)
        load.update(new)
        wanted = tuple(sorted(_done(item, phase) | {*kept, *new}))
        if wanted != item.assigned.get(phase, ()):
            content = {"phase": phase, "people": list(wanted)}
            steps.append(Step(item.id, "assign", actor, content, item.version))
    refused = [refusal for refusal in store.act_all(steps) if refusal]
    return Sharing(
        assigned=len(steps) - len(refused),
        load={name: load[name] for name in people},
        short=tuple(sorted(short)),
    )


def _done(item: Item, phase: Phase) -> set[str]:
    """Who has done their part of the item in the phase, as the item still shows it."""
    if phase == "audit":
        return {rating.rater for rating in item.ratings}
    return set(item.orders) if phase == "accepted" else set()


def _able(item: Item, people: Sequence[str]) -> list[str]:
    """Who of the people may still work on the item in its phase, were it assigned to nobody."""
    barred = _done(item, item.phase)
    if item.phase in ("audit", "adjudication"):
        barred = barred | item.editors | {rating.rater for rating in item.ratings}
    if item.phase == "audit":
        barred = barred | item.repairers
    return [name for name in people if name not in barred]
