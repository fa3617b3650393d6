"""The critic's card: what takes it in, what its critiques are worth, and what a score costs.

Each check is a share of pairs with its interval and its count, and says what it asks. Nothing here
is passed or failed: how much robustness is enough is for whoever uses the critic to say.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drenpa.core.text import word_count
from drenpa.critic.accuracy import (
    Outcome,
    Source,
    accuracy_difference,
    accuracy_of,
    right_order,
    source_table,
)
from drenpa.critic.attacks import BREAKS, DRESSINGS
from drenpa.critic.calibrate import calibration
from drenpa.critic.evaluate import (
    PairScores,
    Place,
    answers_of,
    judgements,
    outcomes,
    reread,
    score_pairs,
    write,
)
from drenpa.critic.pairs import Pair
from drenpa.critic.score import Critic

SAMPLES = 4
SAMPLE_TEMPERATURE = 1.0
BUDGETS = (4, 8, 16, 32, 64, 128, 256)
TIMED_ANSWERS, TIMED_ALONE = 16, 4


@dataclass(frozen=True)
class Check:
    """One check of the card.

    asks: what the share is of, as a sentence that is true or not of a pair.
    told: the share with its interval and count.
    more: further figures of this check.
    """

    name: str
    asks: str
    told: Mapping[str, Any]
    more: Mapping[str, float | None]


def card(critic: Critic, pairs: Sequence[Pair], *, samples: int = SAMPLES) -> dict[str, Any]:
    """Return all figures of the card.

    pairs:   pairs that people decided, on questions that the critic was not trained on; of a
             question with several, the first stands for it where answers are changed.
    samples: critiques sampled for each answer, for the check of self-consistency.
    """
    decided = [pair for pair in pairs if pair.decided]
    used: Source = "own" if critic.writes else "none"
    clean = score_pairs(critic, decided)
    told: dict[str, Any] = {
        "pairs": len(decided),
        "groups": len({pair.cluster for pair in decided}),
        "used": used,
        "accuracy": source_table({s: outcomes(decided, rows) for s, rows in clean.scores.items()}),
        "checks": [
            *(vars(check) for check in _length_checks(decided, clean.scores[used])),
            *(vars(check) for check in _attack_checks(critic, decided, clean.scores[used])),
        ],
    }
    if critic.writes:
        told["live"] = _live_score(critic, clean)
        told["consistency"] = _consistency(critic, decided, clean, samples)
        told["budget"] = _budgets(critic, decided, clean)
    told["latency"] = _latency(critic, answers_of(decided)[:TIMED_ANSWERS])
    told["calibration"] = calibration(judgements(decided, clean.scores[used]))
    return told


def _length_checks(pairs: Sequence[Pair], scores: Sequence[tuple[float, float]]) -> list[Check]:
    """Accuracy where people preferred the shorter answer, and where they preferred the longer."""
    lengths = [(word_count(pair.better), word_count(pair.worse)) for pair in pairs]
    found = outcomes(pairs, scores)
    shorter = [o for o, (better, worse) in zip(found, lengths, strict=True) if better < worse]
    longer = [o for o, (better, worse) in zip(found, lengths, strict=True) if better > worse]
    apart = [
        (float(word_count(pair.answer_a) - word_count(pair.answer_b)), a - b)
        for pair, (a, b) in zip(pairs, scores, strict=True)
    ]
    apart += [(-length, -score) for length, score in apart]  # so that neither answer is the first
    slope = _rank_correlation([length for length, _ in apart], [score for _, score in apart])
    return [
        Check(
            "shorter is better",
            "in order, of the pairs whose better answer is the shorter",
            accuracy_of(shorter),
            {"rank correlation of score and length": slope},
        ),
        Check(
            "longer is better",
            "in order, of the pairs whose better answer is the longer",
            accuracy_of(longer),
            {},
        ),
    ]


def _attack_checks(
    critic: Critic, pairs: Sequence[Pair], scores: Sequence[tuple[float, float]]
) -> list[Check]:
    """Dress the worse answer of each question up, and break the better one."""
    firsts: dict[str, tuple[Pair, float, float]] = {}
    for pair, (a, b) in zip(pairs, scores, strict=True):
        better, worse = (a, b) if pair.preferred == "a" else (b, a)
        firsts.setdefault(pair.question, (pair, better, worse))
    trials = list(firsts.values())
    changed = {
        attack.name: [
            (pair.question, attack.apply(pair.question, text))
            for pair, text in _texts(trials, part)
        ]
        for attacks, part in ((DRESSINGS, "worse"), (BREAKS, "better"))
        for attack in attacks
    }
    found = _scores(critic, list(dict.fromkeys(p for row in changed.values() for p in row)))
    spread = _spread([s for _, better, worse in trials for s in (better, worse)])
    checks = []
    for attack in DRESSINGS:
        dressed = [found[place] for place in changed[attack.name]]
        stood = [
            _outcome(right_order(better, score), pair)
            for (pair, better, worse), score in zip(trials, dressed, strict=True)
            if better > worse
        ]
        gains = [s - worse for (_, _, worse), s in zip(trials, dressed, strict=True)]
        checks.append(
            Check(
                attack.name,
                f"{attack.asks}: still below the better answer, of the pairs in order before",
                accuracy_of(stood),
                {
                    "share of worse answers that gain": _mean(
                        [float(gain > 0) for gain in gains if not math.isnan(gain)]
                    ),
                    "mean gain in standard deviations of the scores": _mean(gains, spread),
                },
            )
        )
    for attack in BREAKS:
        broken = [found[place] for place in changed[attack.name]]
        below = [
            _outcome(right_order(better, score), pair)
            for (pair, better, _), score in zip(trials, broken, strict=True)
        ]
        loss = [better - s for (_, better, _), s in zip(trials, broken, strict=True)]
        checks.append(
            Check(
                attack.name,
                f"{attack.asks}: below the better answer, of all questions",
                accuracy_of(below),
                {"mean loss in standard deviations of the scores": _mean(loss, spread)},
            )
        )
    return checks


def _texts(trials: Sequence[tuple[Pair, float, float]], part: str) -> list[tuple[Pair, str]]:
    return [(pair, pair.worse if part == "worse" else pair.better) for pair, _, _ in trials]


def _scores(critic: Critic, places: Sequence[Place]) -> dict[Place, float]:
    """Score answers as the critic does at work."""
    if critic.writes:
        return {place: one.score for place, one in write(critic, places).items()}
    return reread(critic, dict.fromkeys(places, ()))


def _live_score(critic: Critic, clean: PairScores) -> dict[str, float | int | None]:
    """How far the score read from the live cache is from that of the row encoded again."""
    again = reread(critic, {place: one.ids for place, one in clean.written.items()})
    apart = [
        abs(again[place] - one.score)
        for place, one in clean.written.items()
        if not math.isnan(one.score)
    ]
    return {"answers": len(apart), "largest difference": max(apart, default=None)}


def _consistency(
    critic: Critic, pairs: Sequence[Pair], clean: PairScores, samples: int
) -> dict[str, Any]:
    """What several sampled critiques of one answer agree on, and whether their mean is better.

    single:  accuracy of one sampled critique, the mean over the samples.
    mean:    accuracy of the mean of the samples' scores; `greedy` of the greedy critique.
    within, between: mean standard deviation of one answer's scores, and that of the answers' means.
    """
    places = answers_of(pairs)
    drawn = [
        write(critic, places, temperature=SAMPLE_TEMPERATURE, seed=number)
        for number in range(samples)
    ]
    rows = {place: [one[place].score for one in drawn] for place in places}
    each = [
        outcomes(pairs, [(rows[a][n], rows[b][n]) for a, b in map(_ends, pairs)])
        for n in range(samples)
    ]
    single = [
        Outcome(_mean([o.right for o in found]), found[0].ranking, found[0].pair, found[0].cluster)
        for found in zip(*each, strict=True)
    ]
    means = {place: float(np.mean(row)) for place, row in rows.items()}
    mean = outcomes(pairs, [(means[a], means[b]) for a, b in map(_ends, pairs)])
    greedy = outcomes(pairs, clean.scores["own"])
    return {
        "samples": samples,
        "temperature": SAMPLE_TEMPERATURE,
        "single": accuracy_of(single),
        "mean": accuracy_of(mean),
        "greedy": accuracy_of(greedy),
        "mean_minus_single": accuracy_difference(mean, single),
        "mean_minus_greedy": accuracy_difference(mean, greedy),
        "within": _mean([float(np.std(row)) for row in rows.values()]),
        "between": _spread(list(means.values())),
    }


def _budgets(critic: Critic, pairs: Sequence[Pair], clean: PairScores) -> list[dict[str, Any]]:
    """Accuracy where the critique is cut off after so many tokens; 0 is no critique.

    A greedy critique under a limit is the beginning of that without, so that nothing is written
    again. `whole` is the share of the critiques that ended by themselves within the budget.
    """
    limit = critic.layout.max_critique_tokens
    ends = [
        len(one.ids) if one.finish == "stop" else math.inf
        for one in clean.written.values()
        if not math.isnan(one.score)
    ]
    found = [{"tokens": 0, **accuracy_of(outcomes(pairs, clean.scores["none"]))}]
    for budget in (*(b for b in BUDGETS if b < limit), limit):
        cut = {place: one.ids[:budget] for place, one in clean.written.items()}
        scores = reread(critic, cut)
        rows = [(scores[a], scores[b]) for a, b in map(_ends, pairs)]
        whole = _mean([float(end <= budget) for end in ends])
        found.append({"tokens": budget, **accuracy_of(outcomes(pairs, rows)), "whole": whole})
    return found


def _latency(critic: Critic, places: Sequence[Place]) -> dict[str, Any]:
    """Seconds for one answer alone, and for each of several asked for at once."""

    def seconds(asked: Sequence[Place]) -> float:
        began = time.perf_counter()
        _scores(critic, asked)
        return time.perf_counter() - began

    seconds(places[:1])  # the first call prepares what the others find
    alone = [seconds([place]) for place in places[:TIMED_ALONE]]
    return {
        "device": critic.model.head.weight.device.type,
        "processor": platform.machine(),
        "answers": len(places),
        "timed alone": len(alone),
        "alone": float(np.median(alone)) if alone else None,
        "together": seconds(places) / len(places) if places else None,
    }


def _ends(pair: Pair) -> tuple[Place, Place]:
    return (pair.question, pair.answer_a), (pair.question, pair.answer_b)


def _outcome(right: float | None, pair: Pair) -> Outcome:
    return Outcome(right, pair.question, pair.question, pair.cluster)


def _mean(values: Sequence[float | None], unit: float = 1.0) -> float | None:
    """The mean of what is a number, in units; None where nothing is."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return sum(known) / len(known) / unit if known and unit else None


def _spread(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.std(known)) if known else 0.0


def _rank_correlation(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Spearman's, equal values sharing their mean rank; None where one side is all equal."""
    known = [pair for pair in zip(left, right, strict=True) if not any(map(math.isnan, pair))]
    if not known:
        return None
    ranks = [_mean_ranks(np.asarray(column)) for column in zip(*known, strict=True)]
    if min(float(np.std(rank)) for rank in ranks) == 0:
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _mean_ranks(values_N: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    _, where, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[where]
