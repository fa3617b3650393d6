"""How each person works: how fast, how well on control items, how near the others, and whether that
changes.

A report is for talking with people and for looking closer, not for scoring them: few ratings make
wide intervals, and somebody who differs from the others may be the one who is right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import fmean, median
from typing import get_args

import numpy as np

from drenpa.core.knowledge import Kind
from drenpa.corpus.annotate import Store
from drenpa.corpus.audit import ASPECTS, Agreement, Rating
from drenpa.corpus.dawid_skene import dawid_skene
from drenpa.corpus.rounds import Event, Gold, Item, standing

PAUSE = 30 * 60  # seconds; who does nothing for longer was away
TOGETHER = 1.0  # seconds; steps closer than this came in with a sheet
_KINDS: tuple[Kind, ...] = get_args(Kind)
_NO_WORK = ("import", "suggest", "assign")  # what programs and leads do, not annotators


@dataclass(frozen=True)
class AnnotatorReport:
    """One person's work. Figures that rest on nothing are NaN.

    steps:      action → how many of theirs stand.
    undone:     how many they took back.
    seconds:    median time from one step at the desk to the next, pauses left out.
    gold:       control items rated.
    gold_kind, gold_agrees: share of those where kind, and agreement of question and answer, are as
                they should be.
    gold_error: mean distance from the scores that should be, 0 to 2.
    rated:      records rated together with others, control items apart.
    agreement:  share of the others' scores on them that theirs equal.
    severity:   how far their mean score on a record lies from what everybody would give it; below 0
                is strict. It is measured against whom they rated with, so the others' own severity
                is taken off first.
    drift:      severity on the later half of their records minus that on the earlier.
    accuracy:   how often their kind is the likely true one, by Dawid and Skene.
    """

    person: str
    steps: Mapping[str, int]
    undone: int
    seconds: float
    gold: int
    gold_kind: float
    gold_agrees: float
    gold_error: float
    rated: int
    agreement: float
    severity: float
    drift: Agreement
    accuracy: float


def report_annotators(store: Store, *, seed: int = 1) -> list[AnnotatorReport]:
    """Return a report on everybody who took a step, by name."""
    items = store.items()
    events = [event for event in store.events() if event.action not in _NO_WORK]
    histories = {item.id: standing(store.history(item.id)) for item in items}
    kept = [e for history in histories.values() for e in history if e.action not in _NO_WORK]
    when = {
        (event.item, event.actor): event.number
        for event in sorted(kept, key=lambda event: event.number)
        if event.action == "rate"
    }
    accuracy = kind_accuracy(item.ratings for item in _finished(items))
    severity = severities([_mean_scores(item) for item in _finished(items)])
    return [
        _report(person, items, events, kept, when, severity, accuracy.get(person, math.nan), seed)
        for person in sorted({event.actor for event in events})
    ]


def kind_accuracy(rated: Iterable[Sequence[Rating]]) -> dict[str, float]:
    """Return how often each rater's kind is the likely true one, by Dawid and Skene."""
    rows = [ratings for ratings in rated if ratings]
    raters = sorted({rating.rater for ratings in rows for rating in ratings})
    if not rows:
        return {}
    truth = dawid_skene(_kind_counts(rows, raters))
    return dict(zip(raters, truth.accuracies().tolist(), strict=True))


def likely_kinds(items: Iterable[Item]) -> dict[str, dict[Kind, float]]:
    """Return for each item rated to the end how likely each kind is, by Dawid and Skene."""
    rated = _finished(items)
    if not rated:
        return {}
    raters = sorted({rating.rater for item in rated for rating in item.ratings})
    truth = dawid_skene(_kind_counts([item.ratings for item in rated], raters))
    return {
        item.id: dict(zip(_KINDS, row_Q, strict=True))
        for item, row_Q in zip(rated, truth.classes_NQ.tolist(), strict=True)
    }


def _kind_counts(rows: Sequence[Sequence[Rating]], raters: Sequence[str]) -> np.ndarray:
    counts_NRQ = np.zeros((len(rows), len(raters), len(_KINDS)))
    for number, ratings in enumerate(rows):
        for rating in ratings:
            counts_NRQ[number, raters.index(rating.rater), _KINDS.index(rating.kind)] += 1
    return counts_NRQ


def _finished(items: Iterable[Item]) -> list[Item]:
    return [item for item in items if item.ratings and not item.gold and item.phase != "audit"]


def _report(
    person: str,
    items: Sequence[Item],
    events: Sequence[Event],
    kept: Sequence[Event],
    when: Mapping[tuple[str, str], int],
    levels: Mapping[str, float],
    accuracy: float,
    seed: int,
) -> AnnotatorReport:
    own = [event for event in events if event.actor == person]
    gold = [
        (item.gold, rating) for item in items if item.gold and (rating := item.rating_of(person))
    ]
    shared = [item for item in _finished(items) if item.rating_of(person)]
    shared.sort(key=lambda item: when[item.id, person])
    pairs = [
        (rating.score(aspect), other.score(aspect))
        for item in shared
        if (rating := item.rating_of(person))
        for other in item.ratings
        if other is not rating
        for aspect in ASPECTS
    ]
    distances = []
    for item in shared:
        means = _mean_scores(item)
        own_mean = means.pop(person)
        if means:
            distances.append(own_mean - fmean(means[name] - levels[name] for name in means))
    return AnnotatorReport(
        person=person,
        steps=dict(Counter(event.action for event in kept if event.actor == person)),
        undone=sum(event.action == "undo" for event in own),
        seconds=_pace(own),
        gold=len(gold),
        gold_kind=_mean(rating.kind == known.kind for known, rating in gold),
        gold_agrees=_mean(rating.agrees == known.agrees for known, rating in gold),
        gold_error=_mean(e for known, rating in gold for e in _errors(known, rating)),
        rated=len(shared),
        agreement=_mean(one == other for one, other in pairs),
        severity=_mean(distances),
        drift=drift(distances, seed=seed),
        accuracy=accuracy,
    )


def severities(rated: Sequence[Mapping[str, float]], *, rounds: int = 200) -> dict[str, float]:
    """Return how far each rater lies from the middle, when what each record deserves is taken off:
    the additive model score = record + rater, by least squares, raters summing to zero.

    rated: of each record, rater → mean score; records with one rater say nothing.
    """
    rows = [row for row in rated if len(row) > 1]
    levels = {name: 0.0 for row in rows for name in row}
    for _ in range(rounds):
        left: dict[str, list[float]] = {name: [] for name in levels}
        for row in rows:
            deserved = fmean(score - levels[name] for name, score in row.items())
            for name, score in row.items():
                left[name].append(score - deserved)
        new = {name: fmean(values) for name, values in left.items()}
        middle = fmean(new.values()) if new else 0.0
        new = {name: level - middle for name, level in new.items()}
        change = max((abs(new[name] - levels[name]) for name in new), default=0.0)
        levels = new
        if change < 1e-9:
            break
    return levels


def _mean_scores(item: Item) -> dict[str, float]:
    return {r.rater: fmean(r.score(aspect) for aspect in ASPECTS) for r in item.ratings}


def drift(values: Sequence[float], *, resamples: int = 1000, seed: int = 1) -> Agreement:
    """Return the mean of the later half minus that of the earlier, with its 95 % interval from
    drawing each half again; NaN for fewer than two values in each half."""
    half = len(values) // 2
    if half < 2:
        return Agreement(math.nan, math.nan, math.nan)
    earlier_N, later_N = np.array(values[:half]), np.array(values[half:])
    draw = np.random.default_rng(seed)
    earlier_B = draw.choice(earlier_N, (resamples, len(earlier_N))).mean(axis=1)
    later_B = draw.choice(later_N, (resamples, len(later_N))).mean(axis=1)
    low, high = np.percentile(later_B - earlier_B, [2.5, 97.5])
    return Agreement(float(later_N.mean() - earlier_N.mean()), float(low), float(high))


def _errors(known: Gold, rating: Rating) -> list[float]:
    expected = {aspect: getattr(known, aspect) for aspect in ASPECTS}
    return [abs(rating.score(a) - score) for a, score in expected.items() if score is not None]


def _pace(own: Sequence[Event]) -> float:
    times = [datetime.fromisoformat(event.at).timestamp() for event in own]
    gaps = [after - before for before, after in pairwise(times)]
    gaps = [gap for gap in gaps if TOGETHER <= gap <= PAUSE]
    return median(gaps) if gaps else math.nan


def _mean(values: Iterable[float]) -> float:
    found = [float(value) for value in values]
    return fmean(found) if found else math.nan
