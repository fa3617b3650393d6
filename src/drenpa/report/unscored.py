"""What the judges' replies were worth: how they were read, and how much the answers that no score
came of could change a cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drenpa.core.artefacts import Artefact
from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.records import Verdict

HOW = ("as asked", "mended", "asked again")


@dataclass(frozen=True)
class ReplyRate:
    """How one judge's replies were read, over all strategies.

    how:      replies by `HOW`; all zero for a judge that writes none.
    unscored: votes that lack something the judge was asked for.
    """

    judge: str
    votes: int
    how: tuple[int, ...]
    unscored: int

    @property
    def scored_share(self) -> float:
        """The share of votes with nothing missing."""
        return 1 - self.unscored / self.votes


@dataclass(frozen=True)
class OpenCell:
    """A strategy's score in a dimension that some of its answers have none in, over all questions.

    low, high: in per cent, with each of these answers at the worst and at the best that the rules
               leave open for it.
    """

    strategy: str
    model: str
    dimension: Dimension
    unscored: int
    answers: int
    low: float
    high: float


def reply_rates(verdicts: Sequence[Artefact]) -> list[ReplyRate]:
    """Add up what each benchmark says of its judges' replies; judges that write none are left
    out."""
    sums: dict[str, list[int]] = {}
    for artefact in verdicts:
        for judge, counts in artefact.summary.get("replies", {}).items():
            found = [counts["votes"], counts["unscored"], *(counts[name] for name in HOW)]
            known = sums.setdefault(judge, [0] * len(found))
            sums[judge] = [one + other for one, other in zip(known, found, strict=True)]
    return [
        ReplyRate(judge, votes, tuple(how), unscored)
        for judge, (votes, unscored, *how) in sums.items()
        if any(how)
    ]


def open_cells(verdicts: Sequence[Artefact]) -> list[OpenCell]:
    """Return every cell, over all questions, of which something but not everything is unscored."""
    parts: dict[tuple[str, str, Dimension], list[tuple[int, int, float, float]]] = {}
    for artefact in verdicts:
        rows = artefact.rows("verdicts", Verdict)
        for kind, of_kind in artefact.summary.get("bounds", {}).items():
            mine = [row for row in rows if row.kind == kind]
            for dimension in DIMENSIONS:
                low, high = of_kind[dimension]
                missing = sum(dimension not in row.scores for row in mine)
                if mine and low is not None and high is not None:
                    key = mine[0].strategy, mine[0].model, dimension
                    parts.setdefault(key, []).append((len(mine), missing, low, high))
    found = []
    for key, kinds in parts.items():
        answers, missing = sum(count for count, *_ in kinds), sum(lost for _, lost, *_ in kinds)
        if 0 < missing < answers:
            low = math.fsum(count * low for count, _, low, _ in kinds) / answers
            high = math.fsum(count * high for count, *_, high in kinds) / answers
            found.append(OpenCell(*key, missing, answers, low, high))
    return found
