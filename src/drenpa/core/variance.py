"""Where the spread of scores comes from: question, seed of training, judge, and the rest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

FACTORS = ("item", "seed", "judge")


@dataclass(frozen=True)
class Opinion:
    """One score from 0 to 2 of one answer, by one judge."""

    item: str
    seed: int
    judge: str
    score: float


@dataclass(frozen=True)
class VarianceSplit:
    """The parts of the variance of one score, in squared points of per cent.

    item, seed, judge: between questions, seeds and judges; None where there is only one of it, so
           that nothing can be said. An estimate below zero is 0.
    rest:  everything else: what single answers, seeds and judges make of single questions. None
           where there is nothing but questions to tell apart.
    items, seeds, judges: how many of each the complete part of the table has.
    """

    item: float | None
    seed: float | None
    judge: float | None
    rest: float | None
    items: int
    seeds: int
    judges: int

    @property
    def parts(self) -> dict[str, float]:
        """The known parts by name."""
        named = {"item": self.item, "seed": self.seed, "judge": self.judge, "rest": self.rest}
        return {name: part for name, part in named.items() if part is not None}

    def share(self, name: str) -> float | None:
        """Return one part's share of all that is known."""
        total = sum(self.parts.values())
        return self.parts[name] / total if name in self.parts and total else None


def variance_split(opinions: Iterable[Opinion]) -> VarianceSplit:
    """Split the variance of scores by the expected mean squares of a crossed random design.

    Samples of one answer by one judge are averaged first. Only questions that every seed and every
    judge has scored are used, so that the table is complete: the mean squares then give unbiased
    estimates. With questions and one other factor this is the two-way table behind the intraclass
    correlation.

    Source: Shrout and Fleiss, Intraclass correlations, Psychological Bulletin 1979; Searle, Casella
    and McCulloch, Variance Components, 1992, section 4.3.
    """
    table = _complete_table(opinions)
    levels = dict(zip(FACTORS, table.shape, strict=True))
    crossed = tuple(name for name in FACTORS if levels[name] > 1)
    known: dict[str, float | None] = dict.fromkeys((*FACTORS, "rest"))
    if crossed and table.size:
        axes = tuple(FACTORS.index(name) for name in crossed)
        variances = _components(50.0 * table.squeeze(_others(axes)))
        for place, name in enumerate(crossed):
            known[name] = max(0.0, variances[(place,)])
        if len(crossed) > 1:
            several = [part for owners, part in variances.items() if len(owners) > 1]
            known["rest"] = sum(max(0.0, part) for part in several)
    return VarianceSplit(
        item=known["item"],
        seed=known["seed"],
        judge=known["judge"],
        rest=known["rest"],
        items=levels["item"],
        seeds=levels["seed"],
        judges=levels["judge"],
    )


def _others(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in range(len(FACTORS)) if axis not in axes)


def _complete_table(opinions: Iterable[Opinion]) -> NDArray[np.float64]:
    """Means [item, seed, judge] of the items that have them all."""
    scores: dict[tuple[str, int, str], list[float]] = {}
    for opinion in opinions:
        place = opinion.item, opinion.seed, opinion.judge
        scores.setdefault(place, []).append(opinion.score)
    seeds = sorted({seed for _, seed, _ in scores})
    judges = sorted({judge for _, _, judge in scores})
    items = [
        item
        for item in sorted({item for item, _, _ in scores})
        if all((item, seed, judge) in scores for seed in seeds for judge in judges)
    ]
    rows = [
        [[math.fsum(s) / len(s) for j in judges for s in [scores[i, r, j]]] for r in seeds]
        for i in items
    ]
    return np.array(rows, dtype=np.float64).reshape(len(items), len(seeds), len(judges))


def _components(table: NDArray[np.float64]) -> dict[tuple[int, ...], float]:
    """The variance component of every set of axes, the largest sets first.

    The mean square of a set is the sum, over all sets that contain it, of their component times
    the product of the levels outside them.
    """
    axes = range(table.ndim)
    sets = [owners for size in range(table.ndim, 0, -1) for owners in combinations(axes, size)]
    found: dict[tuple[int, ...], float] = {}
    for owners in sets:
        above = sum(
            part * _levels_outside(table, larger)
            for larger, part in found.items()
            if set(owners) < set(larger)
        )
        found[owners] = (_mean_square(table, owners) - above) / _levels_outside(table, owners)
    return found


def _levels_outside(table: NDArray[np.float64], owners: tuple[int, ...]) -> int:
    return math.prod(table.shape[axis] for axis in range(table.ndim) if axis not in owners)


def _mean_square(table: NDArray[np.float64], owners: tuple[int, ...]) -> float:
    """The mean square of the interaction of some axes; of one axis, its main effect."""
    effect = np.zeros_like(table)
    for size in range(len(owners) + 1):
        for kept in combinations(owners, size):
            dropped = tuple(axis for axis in range(table.ndim) if axis not in kept)
            means = table.mean(axis=dropped, keepdims=True) if dropped else table
            effect = effect + (-1) ** (len(owners) - size) * means
    freedom = math.prod(table.shape[axis] - 1 for axis in owners)
    return float(np.sum(effect**2) / freedom)
