"""A judge's mean score, corrected by the answers that people scored as well.

Two ways that assume different things. *Prediction-powered* (PPI++): people scored a random part of
the very answers at hand; then the corrected mean is unbiased whatever the judge does. *Confusion*:
the judge confuses marks in the same way everywhere people looked; then its mistakes can be undone
for answers that nobody scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from drenpa.core.agreement import MARKS, nearest_marks
from drenpa.core.errors import ShapeError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Corrected:
    """A mean score in per cent, corrected for the judge's error.

    low, high: the 95 % interval over clusters drawn from those there are; NaN where unknown.
    weight: how much the judge's scores counted, from 0 (people alone) to 1 (PPI++ only, else NaN).
    """

    percent: float
    low: float
    high: float
    weight: float


UNKNOWN = Corrected(math.nan, math.nan, math.nan, math.nan)


def prediction_powered(
    judge_N: ArrayLike, people_N: ArrayLike, clusters: Sequence[str], *, level: float = 0.95
) -> Corrected:
    """Return the mean that people would have given, from the judge's scores of all answers.

    judge_N:  the judge's scores from 0 to 2.
    people_N: people's scores of the same answers, NaN where there is none.
    clusters: the source of each answer; the variance is that of whole clusters, and the interval
              Student's with the clusters that people touched, less one.

    λ · mean(judge, where people did not look) + mean(people − λ · judge, where they did), with the
    λ of the least variance, kept within [0, 1].

    Source: Angelopoulos, Duchi and Zrnic, PPI++: Efficient Prediction-Powered Inference, 2023,
    section 6; clusters as in Liang and Zeger, Biometrika 1986.
    """
    judge, people = _columns(judge_N, people_N, clusters)
    seen = ~np.isnan(people)
    labelled, rest = int(seen.sum()), int((~seen).sum())
    if labelled < 2:
        return UNKNOWN
    weight = _best_weight(judge, people, seen) if rest else 0.0
    errors = people[seen] - weight * judge[seen]
    middle = float(errors.mean()) + (weight * float(judge[~seen].mean()) if rest else 0.0)
    influence = np.zeros(len(judge))
    influence[seen] = (errors - errors.mean()) / labelled
    if rest:
        influence[~seen] = weight * (judge[~seen] - judge[~seen].mean()) / rest
    names = np.asarray(clusters)
    by_cluster = np.array([influence[names == name].sum() for name in dict.fromkeys(clusters)])
    touched = len(set(names[seen].tolist()))
    if touched < 2:
        return Corrected(50 * middle, math.nan, math.nan, weight)
    error = math.sqrt(touched / (touched - 1) * float((by_cluster**2).sum()))
    reach = -float(stdtrit(touched - 1, (1 - level) / 2)) * error
    low, high = max(0.0, middle - reach), min(2.0, middle + reach)
    return Corrected(50 * middle, 50 * low, 50 * high, weight)


@dataclass(frozen=True)
class Pairs:
    """Scores of one dimension: the judge's of the answers at hand, and both of those that people
    scored as well, of whatever strategy, with their clusters."""

    at_hand: Sequence[float]
    judge: Sequence[float]
    people: Sequence[float]
    clusters: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.judge) == len(self.people) == len(self.clusters):
            raise ShapeError("judge, people and clusters must be as long")


def unconfused(
    dimensions: Sequence[Pairs], *, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> Corrected:
    """Return the mean of the marks behind the judge's, undone by 3 × 3 tables of confusion; of
    several dimensions, their mean.

    P(judge says j) = Σ_t P(j | t) · P(t) is solved for P(t), the shares of the true marks, by least
    squares among shares. A true mark that people never gave is not known and taken as not there.
    The interval draws again the clusters of the pairs, alike for all dimensions, and the answers at
    hand. Where the judge hardly tells two marks apart, it is wide, and rightly so.

    Source: Rogan and Gladen, American Journal of Epidemiology 1978, for two marks; Forman,
    Quantifying counts and costs via classification, 2008.
    """
    names = list(dict.fromkeys(name for pairs in dimensions for name in pairs.clusters))
    if len(names) < 2 or not all(len(pairs.at_hand) and len(pairs.judge) for pairs in dimensions):
        return UNKNOWN
    tables = [_tables(pairs, names) for pairs in dimensions]
    shares = [_mark_shares(pairs.at_hand) for pairs in dimensions]
    whole = zip(tables, shares, strict=True)
    middle = float(np.mean([_true_mean(table_C.sum(axis=0), own) for table_C, own in whole]))
    draw = np.random.default_rng(seed)
    weights_RC = draw.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    means_RD = np.full((resamples, len(dimensions)), np.nan)
    for place, (pairs, table_C, own) in enumerate(zip(dimensions, tables, shares, strict=True)):
        count = len(pairs.at_hand)
        shares_RQ = draw.multinomial(count, own, size=resamples) / count
        for turn, (weights_C, drawn_Q) in enumerate(zip(weights_RC, shares_RQ, strict=True)):
            counts_QQ = np.tensordot(weights_C, table_C, axes=1)
            means_RD[turn, place] = _true_mean(counts_QQ, drawn_Q)
    means_R = means_RD.mean(axis=1)
    low, high = np.nanquantile(means_R, [(1 - level) / 2, (1 + level) / 2])
    return Corrected(50 * middle, 50 * float(low), 50 * float(high), math.nan)


def _tables(pairs: Pairs, names: Sequence[str]) -> Floats:
    """The confusion [C, judge, people] of each cluster."""
    table_C = np.zeros((len(names), len(MARKS), len(MARKS)))
    place = {name: number for number, name in enumerate(names)}
    owners = np.array([place[name] for name in pairs.clusters], dtype=np.int64)
    np.add.at(table_C, (owners, nearest_marks(pairs.judge), nearest_marks(pairs.people)), 1)
    return table_C


def _mark_shares(scores: Sequence[float]) -> Floats:
    return np.bincount(nearest_marks(scores), minlength=len(MARKS)) / len(scores)


def _columns(judge_N: ArrayLike, people_N: ArrayLike, clusters: Sequence[str]) -> list[Floats]:
    columns = [np.asarray(column, dtype=np.float64) for column in (judge_N, people_N)]
    if not len(columns[0]) == len(columns[1]) == len(clusters):
        raise ShapeError("judge_N, people_N and clusters must be as long")
    return columns


def _best_weight(judge: Floats, people: Floats, seen: NDArray[np.bool_]) -> float:
    """cov(people, judge) / ((1 + n/N) · var(judge)), within [0, 1]."""
    variance = float(judge.var())
    if not variance:
        return 0.0
    apart = (people[seen] - people[seen].mean()) * (judge[seen] - judge[seen].mean())
    ratio = int(seen.sum()) / int((~seen).sum())
    return min(1.0, max(0.0, float(apart.mean()) / ((1 + ratio) * variance)))


def _true_mean(counts_QQ: Floats, shares_Q: Floats) -> float:
    """The mean true mark: least squares over the shares of the marks that people gave."""
    known = [mark for mark in MARKS if counts_QQ[:, mark].sum() > 0]
    given_QK = counts_QQ[:, known] / counts_QQ[:, known].sum(axis=0)
    best, answer = math.inf, math.nan
    for size in range(1, len(known) + 1):
        for support in combinations(range(len(known)), size):
            solved = _shares_on(given_QK[:, support], shares_Q)
            miss = float(((given_QK[:, support] @ solved - shares_Q) ** 2).sum())
            if (solved >= -1e-12).all() and miss < best - 1e-12:
                best = miss
                answer = float(solved @ np.array([known[place] for place in support]))
    return answer


def _shares_on(given_QK: Floats, shares_Q: Floats) -> Floats:
    """Least squares under the constraint that the shares sum to 1."""
    size = given_QK.shape[1]
    system = np.ones((size + 1, size + 1))
    system[:size, :size] = given_QK.T @ given_QK
    system[size, size] = 0.0
    target = np.append(given_QK.T @ shares_Q, 1.0)
    return np.asarray(np.linalg.lstsq(system, target, rcond=None)[0][:size])
