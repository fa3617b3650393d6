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

from drenpa.core.statistics import Scored, interval
from drenpa.critic.examples import Example, pairs_of

Source = Literal["gold", "own", "none", "shuffled"]
RESAMPLES = 2000


@dataclass(frozen=True)
class Order:
    """The scores that one ranking's answers got; NaN where an answer was not scored."""

    example: Example
    scores: tuple[float, ...]


def accuracy(orders: Sequence[Order]) -> dict[str, Any]:
    """Return pair accuracy with its 95 % interval, questions drawn again, and all-pairs accuracy.

    accuracy:  share of the pairs of unequal rank whose scores stand in the same order; equal scores
               count one half.
    all_pairs: share of the questions whose every pair is right.
    unscored:  pairs left out because an answer has no score.
    Figures that nothing stands behind are None.
    """
    right: list[float] = []
    questions: list[str] = []
    whole: list[bool] = []
    unscored = 0
    for order in orders:
        found = [_right(order.scores, pair) for pair in pairs_of(order.example.ranks)]
        scored = [value for value in found if value is not None]
        unscored += len(found) - len(scored)
        right += scored
        questions += [order.example.question] * len(scored)
        if scored:
            whole.append(len(scored) == len(found) and all(value == 1 for value in scored))
    columns = Scored(
        scores=tuple(2 * value for value in right),
        items=tuple(str(number) for number in range(len(right))),
        clusters=tuple(questions),
        seeds=(0,) * len(right),
    )
    cell = interval(columns, resamples=RESAMPLES)
    return {
        "accuracy": _share(cell.percent),
        "low": _share(cell.low),
        "high": _share(cell.high),
        "pairs": len(right),
        "questions": cell.clusters,
        "all_pairs": sum(whole) / len(whole) if whole else None,
        "unscored": unscored,
    }


def accuracy_table(
    examples: Sequence[Example], scores: Mapping[Source, Sequence[Sequence[float]]], *, used: Source
) -> dict[str, Any]:
    """Return each source's accuracy, and the same by kind and by language.

    scores: per source, [Q][K] scores of the examples' answers.
    used:   the source that the scorer works with when it is asked for a score.
    """
    orders = {
        source: [Order(e, tuple(row)) for e, row in zip(examples, rows, strict=True)]
        for source, rows in scores.items()
    }
    table: dict[str, Any] = {source: accuracy(found) for source, found in orders.items()}
    for heading, name in (("by_kind", "kind"), ("by_language", "language")):
        values = sorted({getattr(example, name) for example in examples})
        table[heading] = {
            value: {
                source: accuracy([o for o in found if getattr(o.example, name) == value])
                for source, found in orders.items()
            }
            for value in values
        }
    return table | {"used": used}


def _right(scores: Sequence[float], pair: tuple[int, int]) -> float | None:
    better, worse = (scores[place] for place in pair)
    if math.isnan(better) or math.isnan(worse):
        return None
    return 0.5 if better == worse else float(better > worse)


def _share(percent: float) -> float | None:
    return None if math.isnan(percent) else round(percent / 100, 6)
