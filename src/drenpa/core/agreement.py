"""How well raters agree, people or judges: exact share, α, Gwet's AC, weighted κ, rank correlation,
confusion.

Source: Krippendorff, Computing Krippendorff's alpha-reliability, 2011; Gwet, Computing inter-rater
reliability and its variance in the presence of high agreement, 2008; Gwet, Handbook of Inter-Rater
Reliability, 4th edition, chapters 4 and 5 (weights, several raters, missing ratings); Cohen,
Weighted kappa, Psychological Bulletin 1968.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drenpa.core.errors import ShapeError

Floats = NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval"]
Figure = Literal["exact", "alpha", "ac1", "ac2"]
MARKS = (0, 1, 2)
"""What a dimension can be given by a person."""


def exact_agreement(ratings_NR: ArrayLike) -> float:
    """Return the share of pairs of raters of one record that gave the same rating.

    ratings_NR: [records, raters], NaN where a rater did not rate; records with one rating are
                passed over.
    """
    return float(_figures(_once, "exact", ratings_NR)[0])


def krippendorff_alpha(ratings_NR: ArrayLike, *, level: Level = "ordinal") -> float:
    """Return Krippendorff's α: 1 minus observed over expected disagreement.

    ratings_NR: [records, raters], NaN where a rater did not rate.
    returns:    1 for perfect agreement, 0 for chance; NaN when all ratings are the same, since then
                no disagreement was possible.
    """
    return float(_figures(_once, "alpha", ratings_NR, level=level)[0])


def gwet_ac(
    ratings_NR: ArrayLike,
    *,
    weights: Literal["identity", "ordinal"] = "identity",
    scale: Sequence[float] = (),
) -> float:
    """Return Gwet's AC1 (identity weights) or AC2 (ordinal weights), for any number of raters.

    ratings_NR: [records, raters], NaN where a rater did not rate.
    scale:      the values that could be given, in order; without it, those that were.
    returns:    1 for perfect agreement; NaN for a scale of one value, or no record rated twice.
    """
    name: Figure = "ac2" if weights == "ordinal" else "ac1"
    return float(_figures(_once, name, ratings_NR, scale=scale)[0])


def redrawn(
    figure: Figure,
    ratings_NR: ArrayLike,
    *,
    level: Level = "ordinal",
    scale: Sequence[float] = (),
    resamples: int = 1000,
    seed: int = 1,
) -> Floats:
    """Return a figure for records drawn again with replacement, as often as `resamples`.  [B]

    level, scale: as `krippendorff_alpha` and `gwet_ac` take them.
    returns:      NaN for a draw in which the figure is undefined.
    """
    draw = np.random.default_rng(seed)

    def drawn(number_U: NDArray[np.int64]) -> Floats:
        total = number_U.sum()
        return draw.multinomial(total, number_U / total, size=resamples).astype(np.float64)

    return _figures(drawn, figure, ratings_NR, level=level, scale=scale)


def nearest_marks(scores: ArrayLike) -> NDArray[np.int64]:
    """Return the mark that each score from 0 to 2 is nearest to, halves upwards.

    >>> nearest_marks([0.49, 0.5, 1.2, 1.5]).tolist()
    [0, 1, 1, 2]
    """
    marks = np.floor(np.asarray(scores, dtype=np.float64) + 0.5)
    return np.asarray(marks.clip(MARKS[0], MARKS[-1]), dtype=np.int64)


def confusion(judge_N: ArrayLike, people_N: ArrayLike) -> NDArray[np.int64]:
    """Count how often the judge's mark (row) stood beside the people's (column).

    >>> confusion([0, 1, 2, 2], [0, 1, 1, 2]).tolist()
    [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    """
    counts = np.zeros((len(MARKS), len(MARKS)), dtype=np.int64)
    np.add.at(counts, (nearest_marks(judge_N), nearest_marks(people_N)), 1)
    return counts


def weighted_kappa(counts_QQ: ArrayLike) -> float:
    """Return the quadratic-weighted κ of a table of confusion: 1 for agreement, 0 for chance.

    NaN where all marks of both are the same one, since then no disagreement was possible.
    """
    table_QQ = np.asarray(counts_QQ, dtype=np.float64)
    marks_Q = np.arange(len(table_QQ))
    apart_QQ = np.subtract.outer(marks_Q, marks_Q) ** 2
    chance_QQ = np.outer(table_QQ.sum(axis=1), table_QQ.sum(axis=0))
    expected = float((apart_QQ * chance_QQ).sum())
    if not expected:
        return math.nan
    return 1.0 - float((apart_QQ * table_QQ).sum()) * float(table_QQ.sum()) / expected


def spearman(one_N: ArrayLike, other_N: ArrayLike) -> float:
    """Return the rank correlation, ties at their mean rank; NaN where one side never varies.

    >>> spearman([1, 2, 3], [0, 5, 9])
    1.0
    """
    from scipy.stats import rankdata

    ranks = [rankdata(side) for side in (one_N, other_N)]
    if len(ranks[0]) < 2 or any(np.ptp(side) == 0 for side in ranks):
        return math.nan
    return round(float(np.corrcoef(*ranks)[0, 1]), 12)


def _counts(ratings_NR: ArrayLike, scale: Sequence[float] = ()) -> tuple[Floats, Floats]:
    """How many raters gave each record each value [N, Q], and the values [Q] in order."""
    array_NR = np.asarray(ratings_NR, dtype=np.float64)
    if array_NR.ndim != 2:
        raise ShapeError(f"ratings must be [records, raters], got {array_NR.shape}")
    values_Q = np.array(scale) if scale else np.unique(array_NR[~np.isnan(array_NR)])
    return (array_NR[:, :, None] == values_Q).sum(axis=1).astype(np.float64), values_Q


def _once(number_U: NDArray[np.int64]) -> Floats:
    return number_U[None].astype(np.float64)


def _figures(
    draw: Callable[[NDArray[np.int64]], Floats],
    figure: Figure,
    ratings_NR: ArrayLike,
    *,
    level: Level = "ordinal",
    scale: Sequence[float] = (),
) -> Floats:
    """A figure for each of several weightings of the records.

    Records that were rated alike are one pattern, so a draw costs the same however many there are.

    draw: how often each pattern counts, [B, patterns], from how many records have it.
    """
    counts_NQ, values_Q = _counts(ratings_NR, scale if figure in ("ac1", "ac2") else ())
    counts_UQ, number_U = np.unique(counts_NQ, axis=0, return_counts=True)
    times_BU = draw(number_U) if len(counts_NQ) else np.zeros((1, 0))
    if figure == "alpha":
        return _alphas(counts_UQ, times_BU, values_Q, level)
    if figure == "exact":
        return _weighted_agreement(counts_UQ, times_BU, np.eye(len(values_Q)))
    return _gwet(counts_UQ, times_BU, ordinal=figure == "ac2")


def _weighted_agreement(counts_UQ: Floats, times_BU: Floats, weight_QQ: Floats) -> Floats:
    """The mean over records of the weighted share of their pairs of raters that agree.  [B]"""
    raters_U = counts_UQ.sum(axis=1)
    paired_U = raters_U >= 2
    counts_MQ, raters_M, times_BM = counts_UQ[paired_U], raters_U[paired_U], times_BU[:, paired_U]
    agreeing_M = (counts_MQ * (counts_MQ @ weight_QQ - 1)).sum(axis=1)
    return _ratio(times_BM @ (agreeing_M / (raters_M * (raters_M - 1))), times_BM.sum(axis=1))


def _alphas(counts_UQ: Floats, times_BU: Floats, values_Q: Floats, level: Level) -> Floats:
    paired_U = counts_UQ.sum(axis=1) >= 2
    counts_MQ, times_BM = counts_UQ[paired_U], times_BU[:, paired_U]
    totals_BQ = times_BM @ counts_MQ
    total_B = totals_BQ.sum(axis=1)
    distance_BQQ = _distances(values_Q, totals_BQ, level)
    shares_MQ = counts_MQ / (counts_MQ.sum(axis=1, keepdims=True) - 1)
    pairs_BQQ = np.einsum("bm,mq,mp->bqp", times_BM, counts_MQ, shares_MQ, optimize=True)
    observed_B = _ratio((pairs_BQQ * distance_BQQ).sum(axis=(1, 2)), total_B)
    chance_B = np.einsum("bq,bqp,bp->b", totals_BQ, distance_BQQ, totals_BQ, optimize=True)
    return 1.0 - _ratio(observed_B, _ratio(chance_B, total_B * (total_B - 1)))


def _gwet(counts_UQ: Floats, times_BU: Floats, *, ordinal: bool) -> Floats:
    categories = counts_UQ.shape[1]
    if categories < 2:
        return np.full(len(times_BU), np.nan)
    weight_QQ = _ordinal_weights(categories) if ordinal else np.eye(categories)
    raters_U1 = counts_UQ.sum(axis=1, keepdims=True)
    rated_U = raters_U1[:, 0] > 0
    times_BV = times_BU[:, rated_U]
    prevalence_BQ = _ratio(
        times_BV @ (counts_UQ[rated_U] / raters_U1[rated_U]), times_BV.sum(axis=1, keepdims=True)
    )
    spread_B = (prevalence_BQ * (1 - prevalence_BQ)).sum(axis=1)
    expected_B = weight_QQ.sum() / (categories * (categories - 1)) * spread_B
    observed_B = _weighted_agreement(counts_UQ, times_BU, weight_QQ)
    return np.asarray((observed_B - expected_B) / (1 - expected_B))


def _ratio(over: Floats, under: Floats) -> Floats:
    """The ratio, NaN where there is nothing to divide by."""
    ratio: Floats = np.divide(over, under, out=np.full(over.shape, np.nan), where=under != 0)
    return ratio


def _distances(values_Q: Floats, totals_BQ: Floats, level: Level) -> Floats:
    """The squared distance of each pair of values: the metric of α.  [B, Q, Q]"""
    if level == "ordinal":
        places_BQ = np.cumsum(totals_BQ, axis=1) - totals_BQ / 2
    else:
        places_BQ = np.broadcast_to(values_Q, totals_BQ.shape)
    apart_BQQ = places_BQ[:, :, None] - places_BQ[:, None, :]
    return np.asarray(apart_BQQ != 0 if level == "nominal" else apart_BQQ**2, dtype=np.float64)


def _ordinal_weights(categories: int) -> Floats:
    """Gwet's ordinal weights: 1 − pairs of categories between the two / pairs between the ends."""
    apart_QQ = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories)))
    pairs_QQ = (apart_QQ + 1) * apart_QQ / 2
    return np.asarray(1 - pairs_QQ / pairs_QQ.max() if categories > 1 else np.ones((1, 1)))
