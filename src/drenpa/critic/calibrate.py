"""What a difference of two scores is worth: the chance that people prefer the one answer.

    P(a is preferred over b) = σ((score a − score b) / temperature)

The temperature is the only number that is fitted. Whatever is told about how well it fits is told
of pairs that it was not fitted on: pairs are dealt into folds by their clusters, and each fold is
judged by what the others gave.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drenpa.core.statistics import Scored, interval, paired_difference

Floats = NDArray[np.float64]

FOLDS = 5
BINS = 10
BIN_PAIRS = 10  # a point of the reliability plot stands for so many pairs at least
BOUNDS = (0.55, 0.6, 0.7, 0.8, 0.9)
PAPER_MARGIN = (0.5, 0.5)  # w and k of P6
MARGINS = tuple((w, k) for w in (0.5, 1.0, 2.0, 4.0) for k in (0.25, 0.5, 1.0, 2.0, 4.0))
RESAMPLES = 2000
LEAST_CHANCE = 1e-12  # no answer's chance counts as less, so that a loss stays finite
MOST_LOSS = -math.log(LEAST_CHANCE)


@dataclass(frozen=True)
class Judgements:
    """Pairs with the differences of their scores, and what people said.

    differences_N: score of a minus score of b.
    preferred_N:   1 where a was preferred, 0 where b was, ½ for a tie.
    clusters:      what is drawn or dealt as a whole.
    spread:        standard deviation of the answers' scores, which P4 divides by.
    """

    differences_N: Floats
    preferred_N: Floats
    clusters: tuple[str, ...]
    spread: float

    @classmethod
    def of(
        cls,
        *,
        differences: Sequence[float],
        preferred: Sequence[float],
        clusters: Sequence[str],
        scores: Sequence[float],
    ) -> Judgements:
        """Take columns of one length, and the scores of the distinct answers."""
        return cls(
            np.asarray(differences, dtype=np.float64),
            np.asarray(preferred, dtype=np.float64),
            tuple(clusters),
            float(np.std(scores)) if len(scores) else 0.0,
        )


def fit_slope(differences_N: Floats, preferred_N: Floats) -> float:
    """Return β ≥ 0, the inverse temperature, that makes P = σ(β · difference) likeliest.

    One pair that nobody decided, as far apart as pairs usually are, is added, so that a critic that
    is right in every pair gets a finite β. 0 where the differences tell nothing, or tell the
    opposite.
    """
    size = float(np.sqrt(np.mean(differences_N**2))) if len(differences_N) else 0.0
    if size == 0:
        return 0.0
    d_N = np.append(differences_N, size) / size
    y_N = np.append(preferred_N, 0.5)

    def excess(slope: float) -> float:
        """The derivative of the mean loss, which grows with the slope."""
        return float(np.mean((_sigmoid(slope * d_N) - y_N) * d_N))

    if excess(0.0) >= 0:
        return 0.0
    low, high = 0.0, 1.0
    while excess(high) < 0:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return (low + high) / 2 / size


def cross_fitted(
    judged: Judgements, fit: Callable[[Floats, Floats], Callable[[Floats], Floats]]
) -> Floats:
    """Return [N] probabilities that a is preferred, each from a fit on other clusters.

    fit: takes differences and preferences, returns what turns differences into log-odds.
    """
    folds_N = _folds(judged.clusters)
    odds_N = np.zeros(len(folds_N))
    for fold in sorted(set(folds_N.tolist())):
        held_N = folds_N == fold
        odds = fit(judged.differences_N[~held_N], judged.preferred_N[~held_N])
        odds_N[held_N] = odds(judged.differences_N[held_N])
    return _sigmoid(odds_N)


def calibration(judged: Judgements) -> dict[str, Any]:
    """Return the temperature, how well it tells the chance of unseen pairs, and what would follow.

    temperature:  fitted on all pairs; None where differences of scores tell nothing.
    loss:         mean −log P of what people said, in nats, cross-fitted; `raw` at temperature 1,
                  and a coin's log 2 for comparison. A tie counts as half of either answer.
    brier, error: mean squared error of P, and the expected calibration error: the mean distance of
                  confidence and share right over the bins.
    bins:         confidence, share right with its interval, and pairs, for the reliability plot.
    bounds:       what remains when only pairs above a confidence count.
    margin:       whether people's certainty grows with the difference as P6 lets a pair's weight
                  grow.
    Nothing but counts where fewer than two clusters or ten pairs are there.
    """
    clusters = len(set(judged.clusters))
    told: dict[str, Any] = {"pairs": len(judged.clusters), "groups": clusters}
    if clusters < 2 or len(judged.clusters) < BIN_PAIRS:
        return told
    slope = fit_slope(judged.differences_N, judged.preferred_N)
    chance_N = cross_fitted(judged, _temperature)
    raw_N = _sigmoid(judged.differences_N)
    loss_N, raw_loss_N = _losses(chance_N, judged), _losses(raw_N, judged)
    confidence_N, right_N = _confidence(chance_N, judged)
    bins = _bins(confidence_N)
    return told | {
        "temperature": 1 / slope if slope else None,
        "folds": min(FOLDS, clusters),
        "loss": {
            "calibrated": _mean(loss_N, judged.clusters, most=MOST_LOSS),
            "raw": _mean(raw_loss_N, judged.clusters, most=MOST_LOSS),
            "coin": math.log(2),
        },
        "brier": _mean((chance_N - judged.preferred_N) ** 2, judged.clusters),
        "error": sum(abs(float(np.sum((confidence_N - right_N)[places]))) for places in bins)
        / len(confidence_N),
        "bins": [_bin(confidence_N, right_N, judged.clusters, places) for places in bins],
        "bounds": _bounds(confidence_N, right_N, judged, slope),
        "margin": _margin(judged),
    }


def _temperature(differences_N: Floats, preferred_N: Floats) -> Callable[[Floats], Floats]:
    slope = fit_slope(differences_N, preferred_N)
    return lambda d_N: slope * d_N


def _confidence(chance_N: Floats, judged: Judgements) -> tuple[Floats, Floats]:
    """How sure the critic is of the answer that it prefers, and whether people prefer it too."""
    first_N = judged.differences_N > 0
    right_N = np.where(first_N, judged.preferred_N, 1 - judged.preferred_N)
    right_N = np.where(judged.differences_N == 0, 0.5, right_N)
    return np.maximum(chance_N, 1 - chance_N), right_N


def _bins(confidence_N: Floats) -> list[NDArray[np.int64]]:
    """Cut the pairs, ordered by confidence, into bins of about one size; return their places."""
    count = max(1, min(BINS, len(confidence_N) // BIN_PAIRS))
    return np.array_split(np.argsort(confidence_N, kind="stable"), count)


def _bin(
    confidence_N: Floats, right_N: Floats, clusters: Sequence[str], places: NDArray[np.int64]
) -> dict[str, float | int | None]:
    found = _mean(right_N[places], [clusters[place] for place in places])
    return {
        "confidence": float(confidence_N[places].mean()),
        "right": found["mean"],
        "low": found["low"],
        "high": found["high"],
        "pairs": len(places),
    }


def _bounds(
    confidence_N: Floats, right_N: Floats, judged: Judgements, slope: float
) -> list[dict[str, Any]]:
    """What is left of the pairs, and how often it is right, above each confidence.

    difference: scores must be so far apart, by the temperature of all pairs; None for never.
    pair_floor: the same in standard deviations of the answers' scores, as P4 leaves them: the
                `objective.pair_floor` that gives pairs below this confidence no weight.
    """
    spread = judged.spread
    rows = []
    for bound in BOUNDS:
        kept = np.flatnonzero(confidence_N >= bound)
        found = _mean(right_N[kept], [judged.clusters[place] for place in kept])
        difference = math.log(bound / (1 - bound)) / slope if slope else None
        rows.append(
            {
                "confidence": bound,
                "difference": difference,
                "pair_floor": difference / spread if difference is not None and spread else None,
                "kept": len(kept) / len(confidence_N),
                "pairs": len(kept),
                "right": found["mean"],
                "low": found["low"],
                "high": found["high"],
            }
        )
    return rows


def _margin(judged: Judgements) -> dict[str, Any]:
    """Compare three shapes of the log-odds of a pair by the loss of unseen pairs.

    P6 lets a pair count s(d)·d with s(d) = 1 + w(1 − e^(−k|d|)), d in standard deviations of the
    scores. That is right as far as people's log-odds grow so: log-odds = β·s(d)·d. Shapes: w = 0
    (every difference counts as it is), the paper's w and k, and those that fit best. Each has a β
    of its own.
    """
    if judged.spread == 0:
        return {}
    scaled = Judgements(
        judged.differences_N / judged.spread, judged.preferred_N, judged.clusters, 1.0
    )
    shapes: dict[str, Callable[[Floats, Floats], Callable[[Floats], Floats]]] = {
        "plain": _shape([(0.0, 1.0)]),
        "paper": _shape([PAPER_MARGIN]),
        "fitted": _shape([(0.0, 1.0), *MARGINS]),
    }
    losses = {name: _losses(cross_fitted(scaled, fit), scaled) for name, fit in shapes.items()}
    weight, rate, _ = _best_margin(scaled.differences_N, scaled.preferred_N, [(0.0, 1.0), *MARGINS])
    told: dict[str, Any] = {
        name: _mean(loss_N, judged.clusters, most=MOST_LOSS) for name, loss_N in losses.items()
    }
    for name in ("paper", "fitted"):
        told[f"{name}_minus_plain"] = _difference(
            losses[name], losses["plain"], judged.clusters, most=MOST_LOSS
        )
    return told | {"weight": weight, "rate": rate if weight else None}


def _shape(
    margins: Sequence[tuple[float, float]],
) -> Callable[[Floats, Floats], Callable[[Floats], Floats]]:
    def fit(differences_N: Floats, preferred_N: Floats) -> Callable[[Floats], Floats]:
        weight, rate, slope = _best_margin(differences_N, preferred_N, margins)
        return lambda d_N: slope * counted_margin(d_N, weight, rate)

    return fit


def counted_margin(differences_N: Floats, weight: float, rate: float) -> Floats:
    """Return s(d)·d of P6: what a pair counts whose normalised scores differ by d.

    >>> counted_margin(np.array([0.0, 2.0]), 0.0, 0.5).tolist()
    [0.0, 2.0]
    """
    scale_N = 1 - weight * np.expm1(-rate * np.abs(differences_N))
    return np.asarray(scale_N * differences_N, dtype=np.float64)


def _best_margin(
    differences_N: Floats, preferred_N: Floats, margins: Sequence[tuple[float, float]]
) -> tuple[float, float, float]:
    """The margin of the grid that fits best, the first of equals, and its slope."""
    best = (math.inf, 0.0, 1.0, 0.0)
    for weight, rate in margins:
        counted_N = counted_margin(differences_N, weight, rate)
        slope = fit_slope(counted_N, preferred_N)
        loss = float(np.mean(_log_loss(_sigmoid(slope * counted_N), preferred_N)))
        if loss < best[0] - 1e-12:
            best = (loss, weight, rate, slope)
    return best[1:]


def _folds(clusters: Sequence[str]) -> NDArray[np.int64]:
    """Deal the clusters into folds, in an order that nothing about them decides."""
    names = sorted(set(clusters))
    order = np.random.default_rng(0).permutation(len(names))
    fold = {names[place]: number % FOLDS for number, place in enumerate(order)}
    return np.asarray([fold[cluster] for cluster in clusters], dtype=np.int64)


def _losses(chance_N: Floats, judged: Judgements) -> Floats:
    return _log_loss(chance_N, judged.preferred_N)


def _log_loss(chance_N: Floats, preferred_N: Floats) -> Floats:
    chance_N = np.clip(chance_N, LEAST_CHANCE, 1 - LEAST_CHANCE)
    loss_N = -preferred_N * np.log(chance_N) - (1 - preferred_N) * np.log1p(-chance_N)
    return np.asarray(loss_N, dtype=np.float64)


def _sigmoid(x_N: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x_N)), dtype=np.float64)


def _mean(
    values_N: Floats, clusters: Sequence[str], *, most: float = 1.0
) -> dict[str, float | None]:
    """A mean with its interval, clusters drawn again; None where nothing stands behind a figure.

    most: what a value can be at most, and so the mean and the ends of its interval.
    """
    found = interval(_scored(values_N, clusters, most), resamples=RESAMPLES)
    return _figures(found.percent, found.low, found.high, most)


def _difference(
    ours_N: Floats, theirs_N: Floats, clusters: Sequence[str], *, most: float
) -> dict[str, float | None]:
    """The mean of ours − theirs with its interval."""
    found = paired_difference(
        _scored(ours_N, clusters, most), _scored(theirs_N, clusters, most), resamples=RESAMPLES
    )
    return _figures(found.points, found.low, found.high, most)


def _scored(values_N: Floats, clusters: Sequence[str], most: float) -> Scored:
    """Values from 0 to `most` as scores, which are from 0 to 2."""
    count = len(values_N)
    return Scored(
        tuple((2 * values_N / most).tolist()),
        tuple(map(str, range(count))),
        tuple(clusters),
        (0,) * count,
    )


def _figures(percent: float, low: float, high: float, most: float) -> dict[str, float | None]:
    """Statistics are in per cent of the highest score."""
    return {
        name: None if math.isnan(value) else value / 100 * most
        for name, value in (("mean", percent), ("low", low), ("high", high))
    }
