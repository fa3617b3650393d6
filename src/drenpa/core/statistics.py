"""Honest figures for a table: cells [P12], intervals, paired differences, what a test can see.

All intervals here are about *new questions from new sources* (and new seeds, where a column has
several): sources, not answers, are drawn again. Sampled answers to one question are averaged first.
Scores are from 0 to 2, results in per cent of the highest possible.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from drenpa.core.errors import ShapeError
from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.records import Verdict

Floats = NDArray[np.float64]
_EXACT_CLUSTERS = 12  # up to here all sign patterns are tried
FEW_CLUSTERS = 12
"""Below so many clusters the bootstrap has too few different draws for a tail of 2.5 %."""


@dataclass(frozen=True)
class Scored:
    """Scores of answers, each with the item, the cluster of items and the seed it belongs to.

    scores, items, clusters, seeds: columns of one length; unscored answers are not in it.
    """

    scores: tuple[float, ...]
    items: tuple[str, ...]
    clusters: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.scores), len(self.items), len(self.clusters), len(self.seeds)}
        if len(lengths) > 1:
            raise ShapeError(f"scores, items, clusters, seeds must be as long, got {lengths}")


@dataclass(frozen=True)
class Interval:
    """A figure in per cent with its interval.

    low, high: NaN where a single cluster leaves nothing to draw from.
    answers, items, clusters, seeds: how many the figure rests on.
    """

    percent: float
    low: float
    high: float
    answers: int
    items: int
    clusters: int
    seeds: int


@dataclass(frozen=True)
class Difference:
    """The difference of two columns on the questions they share, in points of per cent.

    p_value: two-sided, from flipping the signs of whole clusters; with C clusters it cannot be
             smaller than 2^(1−C). With several seeds, one minus the level at which the interval
             ends at 0: signs of questions know nothing of another training.
    spread:  standard deviation of the per-item differences, for `detectable_difference`.
    """

    points: float
    low: float
    high: float
    p_value: float
    spread: float
    items: int
    clusters: int
    seeds: int


def scored_of(verdicts: Iterable[Verdict], dimension: Dimension) -> Scored:
    """Take one dimension's scores out of verdicts; what is unscored there is left out."""
    rows = [verdict for verdict in verdicts if dimension in verdict.scores]
    return Scored(
        scores=tuple(row.scores[dimension] for row in rows),
        items=tuple(row.item for row in rows),
        clusters=tuple(row.cluster for row in rows),
        seeds=tuple(row.seed for row in rows),
    )


def unscored_of(verdicts: Iterable[Verdict]) -> dict[Dimension, int]:
    """Count the answers that have no score, per dimension."""
    rows = list(verdicts)
    return {dimension: sum(dimension not in row.scores for row in rows) for dimension in DIMENSIONS}


def cell_percent(scores: Sequence[float]) -> float:
    """Return a cell's score, 100 · Σ score / (2N); NaN when nothing was scored.  [P12]

    >>> cell_percent([2, 1, 0, 1])
    50.0
    """
    return 100.0 * sum(scores) / (2 * len(scores)) if scores else math.nan


def interval(
    columns: Scored | Sequence[Scored], *, resamples: int = 4000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return a cell's score with its interval; of several columns, their mean's.  [P12]

    A cell's figure is the mean over (seed, item) of the mean of its samples: P12 exactly when
    every item has as many scored samples. Two intervals, by how much there is to draw from:

    - One seed and at least `FEW_CLUSTERS` clusters: the cluster bootstrap. Clusters are drawn
      again with all their items; one draw serves all columns (the five dimensions are those of the
      same answers). Tails are taken at Φ(−√(C/(C−1))·t_{C−1}) rather than at 2.5 %: the expanded
      percentile interval.
    - Fewer clusters, or several seeds: the jackknife. Each cluster is left out in turn, and each
      seed, the two variances are added, and the reach is Student's t, the mean of its two values
      weighted by the variances: three seeds that disagree give an interval as wide as three seeds
      must. With two or three seeds it is rather too wide than too narrow.

    Source: Hesterberg, What teachers should know about the bootstrap, The American Statistician
    2015, section 4; Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007, for the
    sum over the two ways; Cochran and Cox, Experimental Designs, 1950, for the weighted t.
    """
    chosen = [columns] if isinstance(columns, Scored) else list(columns)
    grid = _Grid.of(chosen)
    percent = grid.means(grid.seed_ones, grid.cluster_ones)
    low, high = _limits(grid, resamples, level, seed, bounds=(0.0, 2.0))
    return Interval(
        percent=50.0 * percent,
        low=50.0 * low,
        high=50.0 * high,
        answers=max((len(column.scores) for column in chosen), default=0),
        items=len({item for column in chosen for item in column.items}),
        clusters=len(grid.cluster_ones),
        seeds=len(grid.seed_ones),
    )


def paired_difference(
    ours: Scored | Sequence[Scored],
    theirs: Scored | Sequence[Scored],
    *,
    resamples: int = 4000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Return ours minus theirs on the (seed, item) pairs that both have scored.

    Drawn again as in `interval`: each pair stays together, so what is hard for both cancels.
    """
    left = [ours] if isinstance(ours, Scored) else list(ours)
    right = [theirs] if isinstance(theirs, Scored) else list(theirs)
    columns = [_subtract(one, other) for one, other in zip(left, right, strict=True)]
    grid = _Grid.of(columns)
    low, high = _limits(grid, resamples, level, seed, bounds=(-2.0, 2.0))
    per_item: dict[str, list[float]] = {}
    for column in columns:
        for item, score in zip(column.items, column.scores, strict=True):
            per_item.setdefault(item, []).append(score)
    item_means = [50.0 * float(np.mean(scores)) for scores in per_item.values()]
    return Difference(
        points=50.0 * grid.means(grid.seed_ones, grid.cluster_ones),
        low=50.0 * low,
        high=50.0 * high,
        p_value=_jackknife_p(grid) if len(grid.seed_ones) > 1 else _sign_flip_p(grid, seed),
        spread=float(np.std(item_means, ddof=1)) if len(item_means) > 1 else math.nan,
        items=len(per_item),
        clusters=len(grid.cluster_ones),
        seeds=len(grid.seed_ones),
    )


def detectable_difference(
    items: int,
    *,
    spread: float = 40.0,
    power: float = 0.8,
    alpha: float = 0.05,
    sides: Literal[1, 2] = 2,
    design_effect: float = 1.0,
) -> float:
    """Return the smallest true paired difference that this many items show, in points.

    (z_{1−α/sides} + z_power) · spread · √(design_effect / items): the normal approximation for a
    paired comparison, at the given chance of finding it.

    spread:        standard deviation of the per-item differences, in points.
    design_effect: 1 + (items per cluster − 1) · correlation within a cluster; 1 for none.

    At a spread of 40 points 30 items see 20.5 points two-sided and 18.2 one-sided; the latter is
    the rule of thumb "30 paired items see about 18".

    >>> round(detectable_difference(30), 1), round(detectable_difference(30, sides=1), 1)
    (20.5, 18.2)
    """
    if items < 1:
        return math.inf
    normal = NormalDist()
    reach = normal.inv_cdf(1 - alpha / sides) + normal.inv_cdf(power)
    return reach * spread * math.sqrt(design_effect / items)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


@dataclass(frozen=True)
class _Grid:
    """Sums and counts of item means per column K, seed S and cluster C."""

    sums_KSC: Floats
    counts_KSC: Floats

    @classmethod
    def of(cls, columns: Sequence[Scored]) -> _Grid:
        seeds = sorted({seed for column in columns for seed in column.seeds})
        clusters = sorted({cluster for column in columns for cluster in column.clusters})
        seed_place = {seed: place for place, seed in enumerate(seeds)}
        cluster_place = {cluster: place for place, cluster in enumerate(clusters)}
        sums_KSC = np.zeros((len(columns), len(seeds), len(clusters)))
        counts_KSC = np.zeros_like(sums_KSC)
        for number, column in enumerate(columns):
            for (seed, item_cluster, _), score in _item_means(column).items():
                place = number, seed_place[seed], cluster_place[item_cluster]
                sums_KSC[place] += score
                counts_KSC[place] += 1
        return cls(sums_KSC, counts_KSC)

    @property
    def seed_ones(self) -> Floats:
        return np.ones(self.sums_KSC.shape[1])

    @property
    def cluster_ones(self) -> Floats:
        return np.ones(self.sums_KSC.shape[2])

    def means(self, seeds_S: Floats, clusters_C: Floats) -> float:
        """The mean of the columns' means, with seeds and clusters taken that many times; NaN when
        a column is left without a score."""
        sums_K = self.sums_KSC @ clusters_C @ seeds_S
        counts_K = self.counts_KSC @ clusters_C @ seeds_S
        if not len(counts_K) or not counts_K.all():
            return math.nan
        return float(np.mean(sums_K / counts_K))


def _item_means(column: Scored) -> dict[tuple[int, str, str], float]:
    samples: dict[tuple[int, str, str], list[float]] = {}
    for score, item, cluster, seed in zip(
        column.scores, column.items, column.clusters, column.seeds, strict=True
    ):
        samples.setdefault((seed, cluster, item), []).append(score)
    return {place: math.fsum(scores) / len(scores) for place, scores in samples.items()}


def _subtract(ours: Scored, theirs: Scored) -> Scored:
    left, right = _item_means(ours), _item_means(theirs)
    shared = [place for place in left if place in right]
    return Scored(
        scores=tuple(left[place] - right[place] for place in shared),
        items=tuple(item for _, _, item in shared),
        clusters=tuple(cluster for _, cluster, _ in shared),
        seeds=tuple(seed for seed, _, _ in shared),
    )


def _limits(
    grid: _Grid, resamples: int, level: float, seed: int, *, bounds: tuple[float, float]
) -> tuple[float, float]:
    seeds, clusters = len(grid.seed_ones), len(grid.cluster_ones)
    if clusters < 2:
        return math.nan, math.nan
    if seeds > 1 or clusters < FEW_CLUSTERS:
        low, high = _jackknife(grid, level)
        return max(low, bounds[0]), min(high, bounds[1])
    return _bootstrap(grid, resamples, level, seed)


@dataclass(frozen=True)
class _Jackknife:
    """A mean and its variance from leaving out each cluster and each seed in turn.

    parts: degrees of freedom and variance of either way.
    """

    middle: float
    parts: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, grid: _Grid) -> _Jackknife:
        clusters, seeds = len(grid.cluster_ones), len(grid.seed_ones)
        without_cluster = [grid.means(grid.seed_ones, row) for row in 1 - np.eye(clusters)]
        without_seed = [grid.means(row, grid.cluster_ones) for row in 1 - np.eye(seeds)]
        ways = [without_cluster, without_seed] if seeds > 1 else [without_cluster]
        middle = grid.means(grid.seed_ones, grid.cluster_ones)
        return cls(
            middle,
            tuple(
                (
                    len(means) - 1,
                    (len(means) - 1) / len(means) * sum((mean - middle) ** 2 for mean in means),
                )
                for means in ways
            ),
        )

    @property
    def variance(self) -> float:
        return sum(part for _, part in self.parts)

    def reach(self, level: float) -> float:
        """Half the width of Student's interval, each way's quantile weighed by its variance."""
        weighed = sum(part * -float(stdtrit(df, (1 - level) / 2)) for df, part in self.parts)
        return weighed / math.sqrt(self.variance)


def _jackknife(grid: _Grid, level: float) -> tuple[float, float]:
    """Student's interval from leaving out each cluster and each seed in turn."""
    found = _Jackknife.of(grid)
    if not math.isfinite(found.variance):
        return math.nan, math.nan
    reach = found.reach(level) if found.variance else 0.0
    return found.middle - reach, found.middle + reach


def _jackknife_p(grid: _Grid) -> float:
    """One minus the level at which the jackknife's interval ends at 0; 1 where there is none."""
    found = _Jackknife.of(grid)
    if not math.isfinite(found.middle):
        return math.nan
    if not math.isfinite(found.variance):
        return 1.0
    if found.middle == 0 or found.variance == 0:
        return float(found.middle == 0)
    small, large = 0.0, 1.0
    for _ in range(50):
        p = (small + large) / 2
        small, large = (small, p) if found.reach(1 - p) < abs(found.middle) else (p, large)
    return large


def _bootstrap(grid: _Grid, resamples: int, level: float, seed: int) -> tuple[float, float]:
    """Expanded percentiles of the mean with clusters drawn again; the grid has one seed."""
    clusters = len(grid.cluster_ones)
    generator = np.random.default_rng(seed)
    clusters_RC = generator.multinomial(clusters, grid.cluster_ones / clusters, size=resamples)
    sums_RK = clusters_RC @ grid.sums_KSC[:, 0].T
    counts_RK = clusters_RC @ grid.counts_KSC[:, 0].T
    whole_R = counts_RK.all(axis=1)
    if not whole_R.any():
        return math.nan, math.nan
    means_R = (sums_RK[whole_R] / counts_RK[whole_R]).mean(axis=1)
    tail = _expanded_tail((1 - level) / 2, clusters)
    low, high = np.quantile(means_R, [tail, 1 - tail])
    return float(low), float(high)


def _expanded_tail(tail: float, clusters: int) -> float:
    reach = math.sqrt(clusters / (clusters - 1)) * -float(stdtrit(clusters - 1, tail))
    return NormalDist().cdf(-reach)


def _sign_flip_p(grid: _Grid, seed: int, flips: int = 10000) -> float:
    """The share of sign patterns over clusters whose mean lies at least as far from 0."""
    counts_K = grid.counts_KSC.sum(axis=(1, 2))
    clusters = len(grid.cluster_ones)
    if clusters == 0 or not counts_K.all():
        return math.nan
    weights_C = (grid.sums_KSC.sum(axis=1) / counts_K[:, None]).mean(axis=0)
    exact = clusters <= _EXACT_CLUSTERS
    if exact:
        signs_FC = np.array(list(product((1.0, -1.0), repeat=clusters)))
    else:
        signs_FC = np.random.default_rng(seed).choice((1.0, -1.0), size=(flips, clusters))
    means_F = np.abs(signs_FC @ weights_C)
    reached = int((means_F >= abs(float(weights_C.sum())) - 1e-12).sum())
    return reached / len(means_F) if exact else (reached + 1) / (flips + 1)
