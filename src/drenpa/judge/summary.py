"""What a benchmark says of itself: cells, what is missing and how much that could change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from drenpa.core.artefacts import counted
from drenpa.core.errors import ScoringError
from drenpa.core.knowledge import DIMENSIONS, KINDS, Dimension
from drenpa.core.records import Verdict, Vote
from drenpa.core.statistics import cell_percent, detectable_difference, scored_of, unscored_of
from drenpa.judge.judges import Case
from drenpa.judge.rules import bounds

ASSUMED_SPREAD = 40.0  # points, of paired per-item differences, before anything is known


def summarise(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Count what was judged and what was not, and say what so many items can show.

    `bounds` is each cell's lowest and highest possible figure: with every unscored answer at the
    worst and at the best that the rules leave open for it.
    `detectable_points` is the smallest true paired difference between two strategies that this many
    items show with power 0.8 at two-sided 0.05, if the differences per item spread by
    `ASSUMED_SPREAD` points; several sampled answers an item make the spread smaller.
    """
    kinds = [kind for kind in KINDS if any(verdict.kind == kind for verdict in verdicts)]
    of_kind = {kind: [row for row in verdicts if row.kind == kind] for kind in kinds}
    items = {kind: len({row.item for row in rows}) for kind, rows in of_kind.items()}
    return {
        "items": items,
        "answers": len(verdicts),
        "clusters": len({row.cluster for row in verdicts}),
        "languages": counted(row.language for row in verdicts),
        "truncated": sum(row.finish == "length" for row in verdicts),
        "empty": sum(not row.model_answer.strip() for row in verdicts),
        "unscored": unscored_of(verdicts),
        "unscored_reasons": counted(row.unscored for row in verdicts if row.unscored),
        "percent": {
            kind: {
                dimension: _rounded(cell_percent(scored_of(rows, dimension).scores))
                for dimension in DIMENSIONS
            }
            for kind, rows in of_kind.items()
        },
        "bounds": {
            kind: {dimension: _bounds(rows, dimension) for dimension in DIMENSIONS}
            for kind, rows in of_kind.items()
        },
        "detectable_points": {
            kind: round(detectable_difference(count, spread=ASSUMED_SPREAD), 1)
            for kind, count in (items | {"all": sum(items.values())}).items()
        },
        "detectable_assumes": f"paired, spread {ASSUMED_SPREAD:g}, power 0.8, two-sided 0.05",
    }


def reading_rates(votes: Iterable[Vote]) -> dict[str, dict[str, Any]]:
    """Say of each judge how many of its votes were read as asked, mended, or asked for again, and
    how many answers it left wholly or partly unscored."""
    told: dict[str, dict[str, Any]] = {}
    for vote in votes:
        counts = told.setdefault(
            vote.judge,
            {"votes": 0, "as asked": 0, "mended": 0, "asked again": 0, "unscored": 0},
        )
        counts["votes"] += 1
        counts["unscored"] += bool(vote.unscored)
        if vote.read:
            counts[vote.read] += 1
    for counts in told.values():
        counts["scored_share"] = round(1 - counts["unscored"] / counts["votes"], 4)
    return told


def fail_above(limit: float, verdicts: Sequence[Verdict], sees: Sequence[Dimension]) -> None:
    """Fail closed: refuse to call a benchmark done of which too much is missing.

    sees:   the dimensions that the judges are meant to score.
    raises: ScoringError above the allowed share of unscored answers.
    """
    missing = {name: count for name, count in unscored_of(verdicts).items() if name in sees}
    if not missing:
        return
    dimension = max(missing, key=lambda name: missing[name])
    if missing[dimension] > limit * len(verdicts):
        silent = [verdict for verdict in verdicts if dimension not in verdict.scores]
        ((reason, _),) = Counter(verdict.unscored for verdict in silent).most_common(1)
        raise ScoringError(
            f"{missing[dimension]} of {len(verdicts)} answers have no score for {dimension}, more "
            f"than benchmark.judge.max_unscored = {limit:g} allows; most often: "
            f"{reason or 'no reason was given'}. What was scored is kept: run again to ask for "
            "what did not come; a reply that came and could not be read is not paid for again"
        )


def _bounds(rows: Sequence[Verdict], dimension: Dimension) -> list[float | None]:
    lows, highs = [], []
    for row in rows:
        if dimension in row.scores:
            low = high = row.scores[dimension]
        else:
            case = Case(row.question, row.model_answer, row.reference, row.language, row.finish)
            low, high = bounds(case)[dimension]
        lows.append(low)
        highs.append(high)
    return [_rounded(cell_percent(lows)), _rounded(cell_percent(highs))]


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 2)
