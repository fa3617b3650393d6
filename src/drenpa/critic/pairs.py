"""Pairs of answers that a person compared: what a critic is measured and calibrated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import model_validator

from drenpa.core.records import Candidate, Ranking, Row, Text
from drenpa.critic.examples import pairs_of

CRITIQUES = "critiques.jsonl"
"""Of a critic's artefact: every critique of a held-out answer that it was measured with."""


class Pair(Row):
    """Two answers to one question and which of them a person preferred.

    group: pairs of one group are alike (one source, one annotator's session) and drawn together by
           the intervals; the question where empty.
    critique_a, critique_b: people's critiques, for the figures on *gold*; both or none count.
    """

    question: Text
    answer_a: Text
    answer_b: Text
    preferred: Literal["a", "b", "tie"]
    group: str = ""
    critique_a: str = ""
    critique_b: str = ""

    @model_validator(mode="after")
    def _one_answer_is_not_better_than_itself(self) -> Pair:
        if self.preferred != "tie" and self.answer_a == self.answer_b:
            raise ValueError(
                f"answer_a and answer_b are the same text and '{self.preferred}' is preferred; "
                "correct an answer, or write tie"
            )
        return self

    @property
    def cluster(self) -> str:
        """What the intervals draw as a whole."""
        return self.group or " ".join(self.question.casefold().split())

    @property
    def decided(self) -> bool:
        """Whether one of the answers was preferred."""
        return self.preferred != "tie"

    @property
    def better(self) -> str:
        """The preferred answer; the first of a tie."""
        return self.answer_b if self.preferred == "b" else self.answer_a

    @property
    def worse(self) -> str:
        """The other answer."""
        return self.answer_a if self.preferred == "b" else self.answer_b


def pairs_in_rankings(
    rankings: Sequence[Ranking],
    questions: Mapping[str, str],
    critiques: Mapping[tuple[str, str], str] | None = None,
) -> list[Pair]:
    """Return every pair of unequal rank, the better answer first; those furthest apart come first
    within their ranking.

    questions: record id to question; rankings of other records are passed over.
    critiques: (ranking id, candidate id) to the critique that a critic was measured with. Of others
               the person's own is taken, and a note stands in for one that is missing.
    """
    known = critiques or {}

    def critique(ranking: Ranking, candidate: Candidate) -> str:
        return known.get((ranking.id, candidate.id), candidate.critique or candidate.note)

    return [
        Pair(
            question=questions[ranking.record],
            answer_a=better.answer,
            answer_b=worse.answer,
            preferred="a",
            critique_a=critique(ranking, better),
            critique_b=critique(ranking, worse),
        )
        for ranking in rankings
        if ranking.record in questions
        for better, worse in sorted(_ordered(ranking), key=lambda p: p[0].rank - p[1].rank)
        if better.answer != worse.answer
    ]


def _ordered(ranking: Ranking) -> list[tuple[Candidate, Candidate]]:
    candidates = ranking.candidates
    return [
        (candidates[better], candidates[worse])
        for better, worse in pairs_of([candidate.rank for candidate in candidates])
    ]
