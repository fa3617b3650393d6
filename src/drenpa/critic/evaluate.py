"""A critic put to pairs that people judged: how often it agrees, reading which critique.

Every distinct answer is criticised once, however many pairs it stands in. The shuffled critiques
are the pair's own two, changed round.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drenpa.core.text import word_count
from drenpa.critic.accuracy import Outcome, Source, accuracy_of, right_order, source_table
from drenpa.critic.calibrate import Judgements, calibration
from drenpa.critic.pairs import Pair
from drenpa.critic.score import Critic, Written

Place = tuple[str, str]
"""A question and one of its answers."""


@dataclass(frozen=True)
class PairScores:
    """Each pair's two scores (a, b) per source, NaN where there is none.

    written: the critic's own critiques of all the answers; empty for a scorer that writes none.
    """

    scores: Mapping[Source, tuple[tuple[float, float], ...]]
    written: Mapping[Place, Written]


def score_pairs(critic: Critic, pairs: Sequence[Pair]) -> PairScores:
    """Score both answers of every pair with no critique, and, where the critic writes, with its
    own, with its own changed round, and with people's where both answers have one."""
    answers = answers_of(pairs)
    bare = reread(critic, dict.fromkeys(answers, ()))
    scores: dict[Source, tuple[tuple[float, float], ...]] = {
        "none": tuple((bare[a], bare[b]) for a, b in map(_places, pairs))
    }
    if not critic.writes:
        return PairScores(scores, {})
    written = write(critic, answers)
    scores["own"] = tuple((written[a].score, written[b].score) for a, b in map(_places, pairs))
    scores["shuffled"] = _with(
        critic, pairs, [(written[b].ids, written[a].ids) for a, b in map(_places, pairs)]
    )
    gold = [(p.critique_a.strip(), p.critique_b.strip()) for p in pairs]
    if any(a and b for a, b in gold):
        found = _with(critic, pairs, [tuple(map(critic.layout.critique, both)) for both in gold])
        nothing = (math.nan, math.nan)
        scores["gold"] = tuple(
            both if a and b else nothing for both, (a, b) in zip(found, gold, strict=True)
        )
    return PairScores(scores, written)


def evaluation(critic: Critic, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return what `drenpa critic eval` prints: accuracy per source with gap and use, the same for
    the rule that the longer answer is better, what becomes of ties, and the calibration.

    Accuracy is over the pairs that people decided. A tie has no order to get right: for ties it is
    told how often their scores stand nearer than those of a decided pair.
    """
    found = score_pairs(critic, pairs)
    used: Source = "own" if critic.writes else "none"
    lengths = [(word_count(p.answer_a) + 0.0, word_count(p.answer_b) + 0.0) for p in pairs]
    return {
        "pairs": len(pairs),
        "decided": sum(pair.decided for pair in pairs),
        "groups": len({pair.cluster for pair in pairs}),
        "used": used,
        **source_table({source: outcomes(pairs, rows) for source, rows in found.scores.items()}),
        "longer": accuracy_of(outcomes(pairs, lengths)),
        "ties": _ties(pairs, found.scores[used]),
        "calibration": calibration(judgements(pairs, found.scores[used])),
    }


def outcomes(pairs: Sequence[Pair], scores: Sequence[tuple[float, float]]) -> list[Outcome]:
    """Return the outcome of every decided pair; its ranking is its group."""
    return [
        Outcome(
            right_order(a, b) if pair.preferred == "a" else right_order(b, a),
            pair.cluster,
            str(number),
            pair.cluster,
        )
        for number, (pair, (a, b)) in enumerate(zip(pairs, scores, strict=True))
        if pair.decided
    ]


def judgements(pairs: Sequence[Pair], scores: Sequence[tuple[float, float]]) -> Judgements:
    """Return the differences of scores beside what people said, ties as one half."""
    said = {"a": 1.0, "b": 0.0, "tie": 0.5}
    kept = [
        (pair, a, b)
        for pair, (a, b) in zip(pairs, scores, strict=True)
        if not math.isnan(a) and not math.isnan(b)
    ]
    by_answer = {}
    for pair, a, b in kept:
        by_answer[pair.question, pair.answer_a] = a
        by_answer[pair.question, pair.answer_b] = b
    return Judgements.of(
        differences=[a - b for _, a, b in kept],
        preferred=[said[pair.preferred] for pair, _, _ in kept],
        clusters=[pair.cluster for pair, _, _ in kept],
        scores=list(by_answer.values()),
    )


def answers_of(pairs: Sequence[Pair]) -> list[Place]:
    """Return every distinct answer with its question, in order of appearance."""
    return list(dict.fromkeys(place for pair in pairs for place in _places(pair)))


def write(
    critic: Critic, places: Sequence[Place], *, temperature: float = 0.0, seed: int = 0
) -> dict[Place, Written]:
    """Let the critic criticise each answer once."""
    asked: dict[str, list[str]] = {}
    for question, answer in places:
        asked.setdefault(question, []).append(answer)
    rows = critic.write(list(asked), list(asked.values()), temperature=temperature, seed=seed)
    return {
        (question, answer): one
        for (question, answers), row in zip(asked.items(), rows, strict=True)
        for answer, one in zip(answers, row, strict=True)
    }


def reread(critic: Critic, critiques: Mapping[Place, tuple[int, ...]]) -> dict[Place, float]:
    """Score each answer once with the critique given for it."""
    return {place: s for (place, _), s in _reread_rows(critic, list(critiques.items())).items()}


def _with(
    critic: Critic, pairs: Sequence[Pair], critiques: Sequence[tuple[tuple[int, ...], ...]]
) -> tuple[tuple[float, float], ...]:
    """Score pairs whose answers may have another critique in another pair."""
    rows = [
        tuple(zip(_places(pair), ids, strict=True))
        for pair, ids in zip(pairs, critiques, strict=True)
    ]
    found = _reread_rows(critic, list(dict.fromkeys(row for both in rows for row in both)))
    return tuple((found[a], found[b]) for a, b in rows)


def _reread_rows(
    critic: Critic, rows: Sequence[tuple[Place, tuple[int, ...]]]
) -> dict[tuple[Place, tuple[int, ...]], float]:
    """Score answers with critiques, a question's rows together, since they share its prefix."""
    asked: dict[str, list[tuple[Place, tuple[int, ...]]]] = {}
    for row in rows:
        asked.setdefault(row[0][0], []).append(row)
    scores = critic.reread(
        list(asked),
        [[answer for (_, answer), _ in found] for found in asked.values()],
        [[ids for _, ids in found] for found in asked.values()],
    )
    return {
        row: score
        for found, line in zip(asked.values(), scores, strict=True)
        for row, score in zip(found, line, strict=True)
    }


def _ties(pairs: Sequence[Pair], scores: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """How often a tie's scores stand nearer than a decided pair's; one half is chance."""
    apart = [(abs(a - b), pair.decided) for pair, (a, b) in zip(pairs, scores, strict=True)]
    tied = [distance for distance, decided in apart if not decided and not math.isnan(distance)]
    others = [distance for distance, decided in apart if decided and not math.isnan(distance)]
    others.sort()
    nearer = sum(
        len(others) - (bisect_left(others, tie) + bisect_right(others, tie)) / 2 for tie in tied
    )
    return {
        "pairs": sum(not pair.decided for pair in pairs),
        "nearer": nearer / (len(tied) * len(others)) if tied and others else None,
    }


def _places(pair: Pair) -> tuple[Place, Place]:
    return (pair.question, pair.answer_a), (pair.question, pair.answer_b)
