"""Round 3 in numbers: when a record is accepted, and how well the raters agree.

Three people rate each record on four dimensions from 0 to 2. On such short, skewed scales chance
corrections differ widely: where nearly all say 2, Krippendorff's α can be near 0.7 and Gwet's AC2
near 0.95 at the same 90 % of exact agreement. So all are reported, with intervals from drawing the
records again.

Source: Krippendorff, Computing Krippendorff's alpha-reliability, 2011; Gwet, Computing inter-rater
reliability and its variance in the presence of high agreement, 2008; Gwet, Handbook of Inter-Rater
Reliability, 4th edition, chapters 4 and 5 (weights, several raters, missing ratings).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from drenpa.core.errors import ShapeError
from drenpa.core.knowledge import Kind
from drenpa.core.records import Identifier, Row

Floats = NDArray[np.float64]
Aspect = Literal["quality", "diversity", "timeliness", "professionalism"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
Level = Literal["nominal", "ordinal", "interval"]
Score = Annotated[int, Field(ge=0, le=2)]
RATERS = 3
_SCALE = (0, 1, 2)


class Rating(Row):
    """What one person says of one record.

    agrees: whether the answer answers the question.
    kind:   what the record is of, in this person's eyes.
    """

    rater: Identifier
    agrees: bool
    kind: Kind
    quality: Score
    diversity: Score
    timeliness: Score
    professionalism: Score
    comment: str = ""

    def score(self, aspect: Aspect) -> int:
        """Return the score of one aspect."""
        return {
            "quality": self.quality,
            "diversity": self.diversity,
            "timeliness": self.timeliness,
            "professionalism": self.professionalism,
        }[aspect]


@dataclass(frozen=True)
class AcceptanceRule:
    """When a rated record is good enough.  **Reading:** the paper names the scores, not the bar.

    min_median: of each aspect over the raters.
    min_mean:   over all aspects and raters.
    Besides, most raters must find that question and answer agree.
    """

    min_median: float = 1.0
    min_mean: float = 1.0


def faults_found(ratings: Sequence[Rating], rule: AcceptanceRule | None = None) -> list[str]:
    """Return why the ratings do not accept the record; an empty list accepts it."""
    rule = rule or AcceptanceRule()
    faults = []
    if 2 * sum(rating.agrees for rating in ratings) <= len(ratings):
        faults.append("question and answer do not agree")
    for aspect in ASPECTS:
        middle = median(rating.score(aspect) for rating in ratings)
        if middle < rule.min_median:
            faults.append(f"{aspect} has a median of {middle:g}, below {rule.min_median:g}")
    total = sum(rating.score(aspect) for rating in ratings for aspect in ASPECTS)
    mean = total / (len(ratings) * len(ASPECTS))
    if mean < rule.min_mean:
        faults.append(f"the mean score is {mean:.2f}, below {rule.min_mean:g}")
    return faults


def disputes(ratings: Sequence[Rating]) -> list[str]:
    """Return what a further person must decide: kinds all different, or scores two apart."""
    found = []
    kinds = Counter(rating.kind for rating in ratings)
    if len(ratings) > 1 and max(kinds.values()) * 2 <= len(ratings):
        found.append(f"kinds: {', '.join(sorted(kinds))}")
    for aspect in ASPECTS:
        scores = [rating.score(aspect) for rating in ratings]
        if max(scores) - min(scores) >= 2:
            found.append(f"{aspect}: {', '.join(str(score) for score in scores)}")
    return found


def majority_kind(ratings: Sequence[Rating]) -> Kind:
    """Return the kind that most raters chose; of equally many the first in the paper's order."""
    kinds = Counter(rating.kind for rating in ratings)
    return max(get_args(Kind), key=lambda kind: kinds[kind])


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


@dataclass(frozen=True)
class Agreement:
    """A figure of agreement with its 95 % interval, from drawing records again."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class AspectAudit:
    """One aspect over all rated records: how often each score was given, and how raters agree."""

    histogram: Mapping[int, int]
    exact: Agreement
    alpha: Agreement
    ac1: Agreement
    ac2: Agreement


@dataclass(frozen=True)
class Audit:
    """The raters' agreement on every aspect and on the kind."""

    records: int
    ratings: int
    aspects: Mapping[Aspect, AspectAudit]
    kind_exact: Agreement
    kind_alpha: Agreement
    kind_ac1: Agreement


def audit(rated: Sequence[Sequence[Rating]], *, resamples: int = 1000, seed: int = 1) -> Audit:
    """Measure the agreement of the ratings of each record.

    rated: the ratings of each record, in any number and order of raters.
    """
    kinds = get_args(Kind)
    kind_NR = _matrix([[float(kinds.index(rating.kind)) for rating in row] for row in rated])
    aspects: dict[Aspect, AspectAudit] = {}
    for aspect in ASPECTS:
        scores_NR = _matrix([[float(rating.score(aspect)) for rating in row] for row in rated])
        counts = Counter(rating.score(aspect) for row in rated for rating in row)
        aspects[aspect] = AspectAudit(
            histogram={score: counts[score] for score in _SCALE},
            exact=with_interval(exact_agreement, scores_NR, resamples, seed),
            alpha=with_interval(krippendorff_alpha, scores_NR, resamples, seed),
            ac1=with_interval(
                lambda drawn_NR: gwet_ac(drawn_NR, scale=_SCALE), scores_NR, resamples, seed
            ),
            ac2=with_interval(
                lambda drawn_NR: gwet_ac(drawn_NR, weights="ordinal", scale=_SCALE),
                scores_NR,
                resamples,
                seed,
            ),
        )
    return Audit(
        records=len(rated),
        ratings=sum(len(row) for row in rated),
        aspects=aspects,
        kind_exact=with_interval(exact_agreement, kind_NR, resamples, seed),
        kind_alpha=with_interval(
            lambda drawn_NR: krippendorff_alpha(drawn_NR, level="nominal"), kind_NR, resamples, seed
        ),
        kind_ac1=with_interval(
            lambda drawn_NR: gwet_ac(drawn_NR, scale=range(len(kinds))), kind_NR, resamples, seed
        ),
    )


def with_interval(
    figure: Callable[[Floats], float], ratings_NR: Floats, resamples: int, seed: int
) -> Agreement:
    """Return a figure with the 2.5th and 97.5th percentile of it over records drawn again.

    Draws in which the figure is undefined are left out; with none left the interval is NaN.
    """
    if not len(ratings_NR):
        return Agreement(math.nan, math.nan, math.nan)
    draw = np.random.default_rng(seed)
    places_BN = draw.integers(0, len(ratings_NR), size=(resamples, len(ratings_NR)))
    figures = [figure(ratings_NR[places_N]) for places_N in places_BN]
    defined = [value for value in figures if not math.isnan(value)]
    low, high = np.percentile(defined, [2.5, 97.5]) if defined else (math.nan, math.nan)
    return Agreement(figure(ratings_NR), float(low), float(high))


def _matrix(rows: Sequence[Sequence[float]]) -> Floats:
    """Rows of unlike length as one array, NaN where a row is short."""
    width = max((len(row) for row in rows), default=0)
    matrix_NR = np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        matrix_NR[number, : len(row)] = row
    return matrix_NR


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
