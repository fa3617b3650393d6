"""How well raters agree, people or judges: exact share, α, Gwet's AC, weighted κ, rank correlation,
confusion.

Source: Krippendorff, Computing Krippendorff's alpha-reliability, 2011; Gwet, Computing inter-rater
reliability and its variance in the presence of high agreement, 2008; Gwet, Handbook of Inter-Rater
Reliability, 4th edition, chapters 4 and 5 (weights, several raters, missing ratings); Cohen,
Weighted kappa, Psychological Bulletin 1968.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drenpa.core.errors import ShapeError

Floats = NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval"]
MARKS = (0, 1, 2)
"""What a dimension can be given by a person."""


def exact_agreement(ratings_NR: ArrayLike) -> float:
    """Return the share of pairs of raters of one record that gave the same rating.

    ratings_NR: [records, raters], NaN where a rater did not rate; records with one rating are
                passed over.
    """
    counts_NQ, _ = _counts(ratings_NR)
    return _weighted_agreement(counts_NQ, np.eye(counts_NQ.shape[1]))


def krippendorff_alpha(ratings_NR: ArrayLike, *, level: Level = "ordinal") -> float:
    """Return Krippendorff's α: 1 minus observed over expected disagreement.

    ratings_NR: [records, raters], NaN where a rater did not rate.
    returns:    1 for perfect agreement, 0 for chance; NaN when all ratings are the same, since then
                no disagreement was possible.
    """
    counts_NQ, values_Q = _counts(ratings_NR)
    pairable_NQ = counts_NQ[counts_NQ.sum(axis=1) >= 2]
    totals_Q = pairable_NQ.sum(axis=0)
    total = totals_Q.sum()
    distance_QQ = _distances(values_Q, totals_Q, level)
    raters_N = pairable_NQ.sum(axis=1)
    within_N = np.einsum("nq,qp,np->n", pairable_NQ, distance_QQ, pairable_NQ)
    observed = float((within_N / (raters_N - 1)).sum() / total) if total else math.nan
    expected = float(totals_Q @ distance_QQ @ totals_Q / (total * (total - 1))) if total else 0.0
    return 1.0 - observed / expected if expected else math.nan


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
    counts_NQ, _ = _counts(ratings_NR, scale)
    categories = counts_NQ.shape[1]
    if categories < 2:
        return math.nan
    weight_QQ = _ordinal_weights(categories) if weights == "ordinal" else np.eye(categories)
    raters_N = counts_NQ.sum(axis=1)
    if not raters_N.any():
        return math.nan
    prevalence_Q = (counts_NQ[raters_N > 0] / raters_N[raters_N > 0, None]).mean(axis=0)
    expected = float(
        weight_QQ.sum()
        / (categories * (categories - 1))
        * (prevalence_Q * (1 - prevalence_Q)).sum()
    )
    return (_weighted_agreement(counts_NQ, weight_QQ) - expected) / (1 - expected)


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


def _weighted_agreement(counts_NQ: Floats, weight_QQ: Floats) -> float:
    """The mean over records of the weighted share of their pairs of raters that agree."""
    raters_N = counts_NQ.sum(axis=1)
    paired_NQ = counts_NQ[raters_N >= 2]
    if not len(paired_NQ):
        return math.nan
    raters_M = paired_NQ.sum(axis=1)
    near_NQ = paired_NQ @ weight_QQ
    agreeing_M = (paired_NQ * (near_NQ - 1)).sum(axis=1)
    return float((agreeing_M / (raters_M * (raters_M - 1))).mean())


def _distances(values_Q: Floats, totals_Q: Floats, level: Level) -> Floats:
    """The squared distance of each pair of values: the metric of α."""
    if level == "nominal":
        return 1.0 - np.eye(len(values_Q))
    if level == "interval":
        return (values_Q[:, None] - values_Q[None, :]) ** 2
    middles_Q = np.cumsum(totals_Q) - totals_Q / 2
    return (middles_Q[:, None] - middles_Q[None, :]) ** 2


def _ordinal_weights(categories: int) -> Floats:
    """Gwet's ordinal weights: 1 − pairs of categories between the two / pairs between the ends."""
    apart_QQ = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories)))
    pairs_QQ = (apart_QQ + 1) * apart_QQ / 2
    return np.asarray(1 - pairs_QQ / pairs_QQ.max() if categories > 1 else np.ones((1, 1)))
