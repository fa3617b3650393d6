"""Round 3 in numbers: when a record is accepted, and how well the raters agree.

Three people rate each record on four dimensions from 0 to 2. On such short, skewed scales chance
corrections differ widely: where nearly all say 2, Krippendorff's α can be near 0.7 and Gwet's AC2
near 0.95 at the same 90 % of exact agreement. So all are reported, with intervals from drawing the
records again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drenpa.core.agreement import (
    Figure,
    Level,
    exact_agreement,
    gwet_ac,
    krippendorff_alpha,
    redrawn,
)
from drenpa.core.errors import DataError
from drenpa.core.knowledge import Kind
from drenpa.core.records import Identifier, Row

Floats = NDArray[np.float64]
Aspect = Literal["quality", "diversity", "timeliness", "professionalism"]
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
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

    raises: DataError for a bar that no score reaches.
    """

    min_median: float = 1.0
    min_mean: float = 1.0

    def __post_init__(self) -> None:
        for name, bar in (("min_median", self.min_median), ("min_mean", self.min_mean)):
            if not 0 <= bar <= 2:
                raise DataError(f"{name}: {bar:g} is not a score from 0 to 2")


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
            exact=with_interval("exact", scores_NR, resamples=resamples, seed=seed),
            alpha=with_interval("alpha", scores_NR, resamples=resamples, seed=seed),
            ac1=with_interval("ac1", scores_NR, scale=_SCALE, resamples=resamples, seed=seed),
            ac2=with_interval("ac2", scores_NR, scale=_SCALE, resamples=resamples, seed=seed),
        )
    scale = range(len(kinds))
    return Audit(
        records=len(rated),
        ratings=sum(len(row) for row in rated),
        aspects=aspects,
        kind_exact=with_interval("exact", kind_NR, resamples=resamples, seed=seed),
        kind_alpha=with_interval("alpha", kind_NR, level="nominal", resamples=resamples, seed=seed),
        kind_ac1=with_interval("ac1", kind_NR, scale=scale, resamples=resamples, seed=seed),
    )


def with_interval(
    figure: Figure,
    ratings_NR: Floats,
    *,
    level: Level = "ordinal",
    scale: Sequence[float] = (),
    resamples: int = 1000,
    seed: int = 1,
) -> Agreement:
    """Return a figure with the 2.5th and 97.5th percentile of it over records drawn again.

    Draws in which the figure is undefined are left out; with none left the interval is NaN.
    """
    if not len(ratings_NR):
        return Agreement(math.nan, math.nan, math.nan)
    value = {
        "exact": lambda: exact_agreement(ratings_NR),
        "alpha": lambda: krippendorff_alpha(ratings_NR, level=level),
        "ac1": lambda: gwet_ac(ratings_NR, scale=scale),
        "ac2": lambda: gwet_ac(ratings_NR, weights="ordinal", scale=scale),
    }[figure]()
    figures_B = redrawn(
        figure, ratings_NR, level=level, scale=scale, resamples=resamples, seed=seed
    )
    defined = figures_B[~np.isnan(figures_B)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (math.nan, math.nan)
    return Agreement(value, float(low), float(high))


def _matrix(rows: Sequence[Sequence[float]]) -> Floats:
    """Rows of unlike length as one array, NaN where a row is short."""
    width = max((len(row) for row in rows), default=0)
    matrix_NR = np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        matrix_NR[number, : len(row)] = row
    return matrix_NR
