"""How often the critic puts two answers in the order that people did, and what it looks at.

Measured on held-out questions with four sorts of critique: *gold* (people's), *own* (written by the
critic), *none*, and *shuffled* (its own, passed on between answers of one question). Gold − own is
the gap, own − shuffled the use: a critic with no gap may be one that ignores its critiques, so both
are always told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from drenpa.core.statistics import Scored, interval, paired_difference
from drenpa.critic.examples import Example, pairs_of

Source = Literal["gold", "own", "none", "shuffled"]
RESAMPLES = 2000
METERS: Mapping[str, tuple[Source, Source]] = {
    "gap": ("gold", "own"),
    "use": ("own", "shuffled"),
}
"""What is told beside the accuracies: the first source minus the second, on the same pairs."""


@dataclass(frozen=True)
class Order:
    """The scores that one ranking's answers got; NaN where an answer was not scored."""

    example: Example
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one pair that people decided.

    right:   1, 0, or ½ for equal scores; None where a score is missing.
    ranking: which ranking the pair is of.
    pair:    its name, the same whatever critique was read.
    cluster: what the interval draws as a whole: the question, or a group of questions.
    """

    right: float | None
    ranking: str
    pair: str
    cluster: str


def outcomes_of(orders: Sequence[Order]) -> list[Outcome]:
    """Return the outcome of every pair of unequal rank."""
    return [
        Outcome(
            right_order(order.scores[better], order.scores[worse]),
            str(number),
            f"{number}:{better}-{worse}",
            order.example.question,
        )
        for number, order in enumerate(orders)
        for better, worse in pairs_of(order.example.ranks)
    ]


def right_order(better: float, worse: float) -> float | None:
    """Say whether two scores stand in the people's order.

    >>> right_order(2.0, 1.0), right_order(1.0, 1.0), right_order(float("nan"), 1.0)
    (1.0, 0.5, None)
    """
    if math.isnan(better) or math.isnan(worse):
        return None
    return 0.5 if better == worse else float(better > worse)


def accuracy(orders: Sequence[Order]) -> dict[str, Any]:
    """Return the figures of `accuracy_of` over rankings."""
    return accuracy_of(outcomes_of(orders))


def accuracy_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return pair accuracy with its 95 % interval, questions drawn again, and all-pairs accuracy.

    accuracy:  share of the decided pairs whose scores stand in the same order; equal scores count
               one half.
    all_pairs: share of the rankings whose every pair is right; a pair without a score is not. A
               ranking without any scored pair is left out.
    unscored:  pairs left out because an answer has no score.
    Figures that nothing stands behind are None.
    """
    cell = interval(_columns(outcomes), resamples=RESAMPLES)
    scored = {outcome.ranking for outcome in outcomes if outcome.right is not None}
    wrong = {outcome.ranking for outcome in outcomes if outcome.right != 1}
    return {
        "accuracy": share(cell.percent),
        "low": share(cell.low),
        "high": share(cell.high),
        "pairs": cell.answers,
        "questions": cell.clusters,
        "all_pairs": len(scored - wrong) / len(scored) if scored else None,
        "unscored": len(outcomes) - cell.answers,
    }


def accuracy_difference(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> dict[str, Any]:
    """Return how much more often ours are right, on the pairs that both have scored, with its
    interval; what is hard for both cancels."""
    found = paired_difference(_columns(ours), _columns(theirs), resamples=RESAMPLES)
    return {
        "difference": share(found.points),
        "low": share(found.low),
        "high": share(found.high),
        "pairs": found.items,
    }


def source_table(outcomes: Mapping[Source, Sequence[Outcome]]) -> dict[str, Any]:
    """Return each source's accuracy, and gap and use where both of their sources are there."""
    table: dict[str, Any] = {source: accuracy_of(found) for source, found in outcomes.items()}
    for name, (ours, theirs) in METERS.items():
        if ours in outcomes and theirs in outcomes:
            table[name] = accuracy_difference(outcomes[ours], outcomes[theirs])
    return table


def accuracy_table(
    examples: Sequence[Example], scores: Mapping[Source, Sequence[Sequence[float]]], *, used: Source
) -> dict[str, Any]:
    """Return each source's accuracy with gap and use, and the same by kind and by language.

    scores: per source, [Q][K] scores of the examples' answers.
    used:   the source that the scorer works with when it is asked for a score.
    """
    orders = {
        source: [Order(e, tuple(row)) for e, row in zip(examples, rows, strict=True)]
        for source, rows in scores.items()
    }
    table = source_table({source: outcomes_of(found) for source, found in orders.items()})
    for heading, name in (("by_kind", "kind"), ("by_language", "language")):
        values = sorted({getattr(example, name) for example in examples})
        table[heading] = {
            value: source_table(
                {
                    source: outcomes_of([o for o in found if getattr(o.example, name) == value])
                    for source, found in orders.items()
                }
            )
            for value in values
        }
    return table | {"used": used}


def share(percent: float) -> float | None:
    """Turn per cent into a share for a file; what is no number becomes None."""
    return None if math.isnan(percent) else round(percent / 100, 6)


def _columns(outcomes: Sequence[Outcome]) -> Scored:
    found = [(o.right, o.pair, o.cluster) for o in outcomes if o.right is not None]
    return Scored(
        scores=tuple(2 * right for right, _, _ in found),
        items=tuple(pair for _, pair, _ in found),
        clusters=tuple(cluster for _, _, cluster in found),
        seeds=(0,) * len(found),
    )
