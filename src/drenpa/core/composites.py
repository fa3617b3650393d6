"""Two other ways to make one score of five dimensions: gated, and adjusted for length.

The plain mean lets a rich, fluent answer to another question score well, and a judge that likes
long answers reward length. Neither way replaces the mean; they stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.records import Verdict
from drenpa.core.statistics import Scored
from drenpa.core.text import word_count

NOUGHT = 0.5
"""Below it a score is nearer to 0 than to 1: for judges that give marks between."""


@dataclass(frozen=True)
class LengthSlope:
    """What an answer of twice the length gains, in points of per cent, on the same question.

    low, high: the 95 % interval over sources of questions; NaN where there are fewer than two.
    """

    points: float
    low: float
    high: float


def plain(scores: Mapping[Dimension, float]) -> float:
    """Return the mean of the five dimensions, from 0 to 2."""
    return math.fsum(scores[name] for name in DIMENSIONS) / len(DIMENSIONS)


def gated(scores: Mapping[Dimension, float]) -> float:
    """Return the mean of the five, but 0 for an answer that is irrelevant or unsafe.

    Relevance is the base, nothing makes up for an irrelevant answer; safety is required.

    >>> gated({"relevance": 0, "safety": 2, "quality": 2, "satisfaction": 2, "richness": 2})
    0.0
    >>> gated({"relevance": 2, "safety": 2, "quality": 2, "satisfaction": 1, "richness": 1})
    1.6
    """
    vetoed = scores["relevance"] < NOUGHT or scores["safety"] < NOUGHT
    return 0.0 if vetoed else plain(scores)


def composite(
    verdicts: Sequence[Verdict], score: Callable[[Mapping[Dimension, float]], float]
) -> Scored:
    """Take one score out of each verdict that has all five dimensions."""
    rows = _whole(verdicts)
    return _scored(rows, [score(row.scores) for row in rows])


def length_slope(verdicts: Sequence[Verdict]) -> LengthSlope:
    """Return how the plain mean goes with the logarithm of length, other things equal.

    verdicts: of all strategies; the slope is that within questions and strategies, so neither a
              question that needs a long answer nor a strategy that is better and longer makes it.
    The variance is that of whole sources.

    Source: Dubois et al., Length-Controlled AlpacaEval, 2024, for the aim; Frisch and Waugh 1933
    for the way; Liang and Zeger 1986 for the variance.
    """
    rows = _whole(verdicts)
    scores = _within(rows, [50 * plain(row.scores) for row in rows])
    lengths = _within(rows, [_log_length(row) for row in rows])
    spread = math.fsum(length**2 for length in lengths)
    if spread < 1e-9:
        return LengthSlope(0.0, math.nan, math.nan)
    slope = math.fsum(a * b for a, b in zip(lengths, scores, strict=True)) / spread
    pulls: dict[str, float] = {}
    for row, length, score in zip(rows, lengths, scores, strict=True):
        pull = length * (score - slope * length)
        pulls[row.cluster] = pulls.get(row.cluster, 0.0) + pull
    count = len(pulls)
    if count < 2:
        return LengthSlope(slope, math.nan, math.nan)
    variance = count / (count - 1) * math.fsum(pull**2 for pull in pulls.values()) / spread**2
    reach = -float(stdtrit(count - 1, 0.025)) * math.sqrt(variance)
    return LengthSlope(slope, slope - reach, slope + reach)


def length_adjusted(verdicts: Sequence[Verdict], slope: LengthSlope, usual: float) -> Scored:
    """Return the plain means as they would be if every answer were of the usual length.

    usual: the logarithm (to the base of 2) of the usual length, see `usual_length`.
    """
    rows = _whole(verdicts)
    scores = [plain(row.scores) - slope.points / 50 * (_log_length(row) - usual) for row in rows]
    return _scored(rows, scores)


def usual_length(verdicts: Sequence[Verdict]) -> float:
    """Return the mean logarithm (to the base of 2) of the lengths of all answers in units."""
    lengths = [_log_length(row) for row in _whole(verdicts)]
    return math.fsum(lengths) / len(lengths) if lengths else 0.0


def _whole(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [row for row in verdicts if all(name in row.scores for name in DIMENSIONS)]


def _log_length(verdict: Verdict) -> float:
    return math.log2(1 + word_count(verdict.model_answer))


def _scored(rows: Sequence[Verdict], scores: Sequence[float]) -> Scored:
    return Scored(
        scores=tuple(scores),
        items=tuple(row.item for row in rows),
        clusters=tuple(row.cluster for row in rows),
        seeds=tuple(row.seed for row in rows),
    )


def _within(rows: Sequence[Verdict], values: Sequence[float], rounds: int = 50) -> list[float]:
    """Values less the means of their question and of their strategy, in turn until both are 0."""
    rest = list(values)
    for _ in range(rounds):
        moved = 0.0
        for keys in ([row.item for row in rows], [row.strategy for row in rows]):
            sums: dict[str, list[float]] = {}
            for key, value in zip(keys, rest, strict=True):
                sums.setdefault(key, []).append(value)
            means = {key: math.fsum(found) / len(found) for key, found in sums.items()}
            rest = [value - means[key] for key, value in zip(keys, rest, strict=True)]
            moved = max([moved, *(abs(mean) for mean in means.values())])
        if moved < 1e-10:
            break
    return rest
