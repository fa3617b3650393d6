"""Which training questions a critic is watched on, and which stand apart: by lot, and for good.

The lot falls on questions, so that all rankings of one share it, and hangs on nothing but the
corpus and the seed. So the stage that makes the critic's backbone can leave out the same ones: what
that has learned, the critic has learned too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from drenpa.config import CriticConfig
from drenpa.core.artefacts import Artefact
from drenpa.core.records import Ranking, Record


@dataclass(frozen=True)
class Lots:
    """Ids of training rankings.

    watched: of questions that are kept out of the training, to measure after each epoch.
    apart:   whose critiques are not learned, and which the head alone learns from.
    """

    watched: frozenset[str]
    apart: frozenset[str]


def draw_lots(
    rankings: Iterable[tuple[str, str, Sequence[int]]], config: CriticConfig, seed: int
) -> Lots:
    """Draw the shares of the questions that tell a better from a worse answer, since no others
    measure or teach the head anything; of a scorer that writes nothing none stands apart.

    rankings: each one's id, question and ranks.
    """
    by_question: dict[str, list[str]] = {}
    telling = set()
    for ranking, question, ranks in rankings:
        by_question.setdefault(folded(question), []).append(ranking)
        if len(set(ranks)) > 1:
            telling.add(folded(question))

    def drawn(questions: Iterable[str], share: float, purpose: str) -> frozenset[str]:
        def place(question: str) -> bytes:
            return hashlib.sha256(repr((seed, purpose, question)).encode()).digest()

        order = sorted(questions, key=place)
        return frozenset(order[: round(share * len(order))])

    def rankings_of(questions: Iterable[str]) -> frozenset[str]:
        return frozenset(ranking for question in questions for ranking in by_question[question])

    watched = drawn(telling, config.watch_share, "watched")
    share = config.apart_share if config.critique_weight > 0 else 0.0
    apart = drawn(telling - watched, share, "apart")
    return Lots(rankings_of(watched), rankings_of(apart))


def lots_of(corpus: Artefact, config: CriticConfig, seed: int) -> Lots:
    """Draw the lots of a corpus as the critic's training does; without shares nothing is read."""
    if config.watch_share == config.apart_share == 0:
        return Lots(frozenset(), frozenset())
    questions = {record.id: record.question for record in corpus.rows("records", Record)}
    rankings = [
        (ranking.id, questions[ranking.record], [c.rank for c in ranking.candidates])
        for ranking in corpus.rows("rankings", Ranking)
        if ranking.split == "train" and ranking.record in questions
    ]
    return draw_lots(rankings, config, seed)


def folded(question: str) -> str:
    """Return a question as it is compared with others, whatever its case and spaces.

    >>> folded(" What  is dran pa?")
    'what is dran pa?'
    """
    return " ".join(question.casefold().split())
