"""From several votes on an answer to one opinion."""

from __future__ import annotations

import math
from collections.abc import Sequence

from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.judge.judges import Opinion


def panel_name(names: Sequence[str], repeats: Sequence[int]) -> str:
    """Name all who vote; a critic that judges its pupil comes first, so that its flag is seen.

    >>> panel_name(["gpt", "critic judges its own pupil"], [3, 1])
    'critic judges its own pupil; gpt, 3 times'
    """
    told = [
        f"{name}, {count} times" if count > 1 else name
        for name, count in zip(names, repeats, strict=True)
    ]
    if len(told) == 1:
        return told[0]
    told.sort(key=lambda name: not name.startswith("critic"))
    first = "" if told[0].startswith("critic") else f"panel of {len(told)}: "
    return first + "; ".join(told)


def panel_card(cards: Sequence[str]) -> str:
    """Say what each of them sees."""
    if len(cards) == 1:
        return cards[0]
    told = " ".join(f"({place}) {card}" for place, card in enumerate(cards, 1))
    return f"A panel of {len(cards)}; a score is the mean of those who gave one. {told}"


def combine(votes: Sequence[Opinion]) -> Opinion:
    """Return the mean of the votes in each dimension; one that none of them scored is unscored.

    Of a panel each judge has one vote, which is what its repeats combine to.

    raises: ValueError without a vote.
    """
    if not votes:
        raise ValueError("an opinion needs at least one vote")
    if len(votes) == 1:
        return votes[0]
    scores: dict[Dimension, float] = {}
    for dimension in DIMENSIONS:
        given = [vote.scores[dimension] for vote in votes if dimension in vote.scores]
        if given:
            scores[dimension] = math.fsum(given) / len(given)
    reasons = dict.fromkeys(vote.unscored for vote in votes if vote.unscored)
    return Opinion(
        scores,
        "\n".join(dict.fromkeys(vote.thoughts for vote in votes if vote.thoughts)),
        "; ".join(reasons) if len(scores) < len(DIMENSIONS) else "",
    )
