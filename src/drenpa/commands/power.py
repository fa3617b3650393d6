"""What a recipe's benchmark will be able to see, said before it runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drenpa.config import CorpusConfig, Recipe
from drenpa.core.artefacts import finished
from drenpa.core.errors import ArtefactError
from drenpa.core.knowledge import KINDS
from drenpa.core.records import Record
from drenpa.core.statistics import detectable_difference
from drenpa.report.table import RowKind, read_table

ASSUMED_SPREAD = 40.0
"""Points from question to question, of a difference in one dimension by a judge of 0, 1 and 2."""

ASSUMED_CORRELATION = 0.1
"""Of the differences of two questions from one source."""

WANTED_POINTS = 5.0


@dataclass(frozen=True)
class Sight:
    """What the questions of a kind, or all, can see.

    points:    the smallest true difference between two strategies that is found four times in five,
               two-sided at 5 %.
    corrected: the same at the strictest step of Holm's correction, over four kinds and all pairs.
    needed:    how many such questions would see `WANTED_POINTS`.
    """

    kind: RowKind
    questions: int
    sources: int
    points: float
    corrected: float
    needed: int


@dataclass(frozen=True)
class Power:
    """What a benchmark will see, and at what spread.

    measured: whether the spread is that of the recipe's own last report; else it is assumed.
    """

    sights: tuple[Sight, ...]
    spread: float
    measured: bool
    pairs: int


def benchmark_items(config: CorpusConfig) -> list[Record]:
    """Return the questions of the benchmark, in the languages that are kept, before cleaning.

    Without a benchmark file they are the share of the records that is kept from training.

    raises: DataError when a file is missing or wrong.
    """
    from drenpa.corpus.intake import read_records, source_files

    if config.benchmark:
        files = source_files(config.benchmark, "benchmark")
    else:
        files = source_files(config.records, "records")
    found = [row for file in files for row in read_records(file, withheld=bool(config.benchmark))]
    kept = [row for row in found if not config.languages or row.language in config.languages]
    return kept if config.benchmark else _share(kept, config.test)


def _share(records: Sequence[Record], share: float) -> list[Record]:
    """A share of the records, of each kind and language its part: as many as the corpus's own
    division aims at, though not the same ones.

    What is left over in rounding down goes to those who lack most.
    """
    strata: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        strata.setdefault((record.kind, record.language), []).append(record)
    wanted = {key: share * len(rows) for key, rows in strata.items()}
    counts = {key: math.floor(number) for key, number in wanted.items()}
    left = round(share * len(records)) - sum(counts.values())
    for key in sorted(wanted, key=lambda key: counts[key] - wanted[key])[:left]:
        counts[key] += 1
    return [record for key, rows in strata.items() for record in rows[: counts[key]]]


def foresee(recipe: Recipe, items: Sequence[Record]) -> Power:
    """Say what the recipe's benchmark of these questions will be able to see."""
    from drenpa.judge.answers import choose_items

    spread = measured_spread(recipe)
    columns = len(recipe.strategy_names()) + len(recipe.benchmark.baselines)
    pairs = max(1, 2 * columns - 3)  # each against the one before and against the first
    asked = choose_items(items, recipe.benchmark.items_per_kind) if items else []
    kept: list[tuple[RowKind, list[Record]]] = [
        (kind, [item for item in asked if item.kind == kind]) for kind in KINDS
    ]
    kept.append(("all", list(asked)))
    sights = [_sight(kind, own, spread or ASSUMED_SPREAD, pairs) for kind, own in kept if own]
    return Power(tuple(sights), spread or ASSUMED_SPREAD, spread is not None, pairs)


def measured_spread(recipe: Recipe) -> float | None:
    """Return the median spread of differences of means in the recipe's newest report, in points
    from question to question; None where there is no report yet."""
    reports = [artefact for artefact in finished(recipe.folder) if artefact.kind == "report"]
    for report in reversed(reports):
        try:
            compared = read_table(report.path).comparisons
        except ArtefactError:
            continue
        spreads = [
            c.spread for c in compared if c.dimension == "mean" and c.kind != "all" and c.spread
        ]
        if spreads:
            return median(spreads)
    return None


def power_text(power: Power) -> str:
    """Say it in one sentence.

    >>> power_text(Power((), 40.0, False, 1))
    'The benchmark has no questions.'
    """
    if not power.sights:
        return "The benchmark has no questions."
    whole = power.sights[-1]
    kinds = power.sights[:-1]
    least = min(kinds, key=lambda sight: sight.questions)
    return (
        f"Your {whole.questions} questions see a difference of {whole.points:.1f} points between "
        f"two strategies; the {least.questions} of {least.kind} alone see {least.points:.1f}, and "
        f"{least.corrected:.1f} after Holm's correction."
    )


def print_power(power: Power, console: Console) -> None:
    """Print the sentence, and what each kind will see."""
    console.print(Text(power_text(power)))
    if not power.sights:
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("what the benchmark will see")
    for name in ("questions", "sources", "points", "after Holm", f"to see {WANTED_POINTS:g}"):
        table.add_column(name, justify="right")
    for sight in power.sights:
        table.add_row(
            sight.kind,
            str(sight.questions),
            str(sight.sources),
            f"{sight.points:.1f}",
            "" if sight.kind == "all" else f"{sight.corrected:.1f}",
            str(sight.needed),
        )
    console.print(table)
    source = (
        "as in this recipe's last report" if power.measured else "assumed; a report measures it"
    )
    console.print(
        Text(
            "points: the smallest true difference found four times in five, two-sided at 5 %, at a "
            f"spread of {power.spread:.0f} points from question to question ({source}); questions "
            f"of one source are taken to correlate by {ASSUMED_CORRELATION:g}",
            "dim",
        )
    )


def _sight(kind: RowKind, items: Sequence[Record], spread: float, pairs: int) -> Sight:
    sources = len({item.source or item.id for item in items})
    effect = 1 + (len(items) / sources - 1) * ASSUMED_CORRELATION
    points = detectable_difference(len(items), spread=spread, design_effect=effect)
    corrected = detectable_difference(
        len(items), spread=spread, design_effect=effect, alpha=0.05 / (4 * pairs)
    )
    needed = math.ceil(len(items) * (points / WANTED_POINTS) ** 2)
    return Sight(kind, len(items), sources, points, corrected, needed)
