"""From verdicts to the result table: cells with intervals, paired differences, and what the bold
print may claim."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.knowledge import DIMENSIONS, KINDS, Dimension, Kind
from drenpa.core.records import Verdict
from drenpa.core.statistics import (
    Scored,
    detectable_difference,
    holm,
    interval,
    paired_difference,
    scored_of,
)

RowKind = Literal[Kind, "all"]
Column = Literal[Dimension, "mean"]

ROW_KINDS: tuple[RowKind, ...] = (*KINDS, "all")
COLUMNS: tuple[Column, ...] = (*DIMENSIONS, "mean")
TABLE_FILE, OVERALL_FILE = "table.json", "overall.json"
SIGNIFICANT = 0.05
CRITIC = "critic"
"""How the name of a judge begins that gave the reward in training."""


@dataclass(frozen=True)
class Cell:
    """One strategy's score in one dimension of one kind, in per cent of the highest possible
    [P12].

    dimension: `mean` is the mean of the row's five cells, recomputed, never read from anywhere.
    kind:      `all` takes every question of every kind, each counting once.
    n:         answers scored; in `mean`, answers scored in all five dimensions.
    unscored:  the other answers that were given; n + unscored is their number.
    percent:   None where nothing was scored. low, high: the 95 % interval, None where one source
               of questions leaves nothing to draw from.
    """

    strategy: str
    model: str
    kind: RowKind
    dimension: Column
    percent: float | None
    n: int
    unscored: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """How a strategy differs from another on the questions both answered, in points of per cent.

    p_holm:   the p-value corrected over all pairs of one model and, of a mean, the four kinds'
              means; of a single dimension, all cells of kind and dimension. None over all kinds,
              which are tested once.
    spread:   standard deviation of the differences from question to question.
    smallest: the true difference that this many questions of this spread show four times in five;
              None where the spread is not known or is zero.
    """

    strategy: str
    against: str
    model: str
    kind: RowKind
    dimension: Column
    points: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_holm: float | None
    questions: int
    spread: float | None
    smallest: float | None

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def beats(self) -> bool:
        """Whether the strategy is better and told apart."""
        return self.told_apart and self.points is not None and self.points > 0


@dataclass(frozen=True)
class Mark:
    """What one row of the table may print bold and underlined.

    best, second: strategies; "" where the row's best is not told apart from its worst, so that
                  bold print would dress up noise, or where a tie leaves no single best.
    overlap:      whether the intervals of best and second overlap.
    """

    model: str
    kind: RowKind
    dimension: Column
    best: str
    second: str
    overlap: bool


@dataclass(frozen=True)
class ResultTable:
    """The whole table.

    cells:       strategies × models × the four kinds × dimensions with `mean`, in that nesting.
    overall:     the same over all questions, with kind `all`.
    comparisons: each strategy against the one before it, and against the first.
    judges:      who judged; more than one is averaged, answer by answer.
    """

    models: tuple[str, ...]
    strategies: tuple[str, ...]
    cells: tuple[Cell, ...]
    overall: tuple[Cell, ...]
    comparisons: tuple[Comparison, ...]
    marks: tuple[Mark, ...]
    judges: tuple[str, ...]

    @property
    def circular(self) -> bool:
        """Whether the critic that gave the reward also judged."""
        return any(judge.startswith(CRITIC) for judge in self.judges)

    def cell(self, model: str, strategy: str, kind: RowKind, dimension: Column) -> Cell | None:
        """Return one cell; None where the model was not tested with that strategy."""
        wanted = (model, strategy, kind, dimension)
        pool = self.overall if kind == "all" else self.cells
        return next((c for c in pool if (c.model, c.strategy, c.kind, c.dimension) == wanted), None)

    def row(self, model: str, kind: RowKind, dimension: Column) -> list[Cell]:
        """Return the cells of one row, in the strategies' order."""
        found = (self.cell(model, strategy, kind, dimension) for strategy in self.strategies)
        return [cell for cell in found if cell is not None]

    def mark(self, model: str, kind: RowKind, dimension: Column) -> Mark:
        """Return what the row may print bold and underlined."""
        for mark in self.marks:
            if (mark.model, mark.kind, mark.dimension) == (model, kind, dimension):
                return mark
        return Mark(model, kind, dimension, "", "", False)

    def comparison(
        self,
        model: str,
        strategy: str,
        against: str,
        kind: RowKind = "all",
        dimension: Column = "mean",
    ) -> Comparison | None:
        """Return the comparison of two strategies, of their means unless a dimension is named, or
        None where it was not made."""
        wanted = (model, strategy, against, kind, dimension)
        return next(
            (
                c
                for c in self.comparisons
                if (c.model, c.strategy, c.against, c.kind, c.dimension) == wanted
            ),
            None,
        )

    def strategies_of(self, model: str) -> list[str]:
        """Return the strategies that the model was tested with, in order."""
        return [cell.strategy for cell in self.row(model, "all", "mean")]

    def pairs(self, model: str) -> list[tuple[str, str]]:
        """Return the model's (strategy, against) pairs, in order."""
        return list(
            dict.fromkeys((c.strategy, c.against) for c in self.comparisons if c.model == model)
        )


def make_table(verdicts: Sequence[Verdict], *, resamples: int = 4000, seed: int = 0) -> ResultTable:
    """Make the table of all verdicts; strategies and models keep the order in which they first
    come.

    seed: of the bootstrap.
    raises: DataError when there is no verdict, or one answer was judged twice by the same judge.
    """
    _check(verdicts)
    scores = _Scores.of(verdicts, resamples, seed)
    models = tuple(dict.fromkeys(verdict.model for verdict in verdicts))
    strategies = tuple(dict.fromkeys(verdict.strategy for verdict in verdicts))
    columns = [
        (model, strategy)
        for strategy in strategies
        for model in models
        if (model, strategy, "all") in scores.groups
    ]
    rows = [(kind, dimension) for kind in ROW_KINDS for dimension in COLUMNS]
    cells = [scores.cell(*column, *row) for column in columns for row in rows]
    compared = [
        scores.compare(model, *pair, *row)
        for model in models
        for pair in _pairs([strategy for owner, strategy in columns if owner == model])
        for row in rows
    ]
    marks = [
        _mark(
            [c for c in cells if (c.model, c.kind, c.dimension) == (model, kind, dimension)],
            scores,
        )
        for model in models
        for kind, dimension in rows
    ]
    return ResultTable(
        models=models,
        strategies=strategies,
        cells=tuple(cell for cell in cells if cell.kind != "all"),
        overall=tuple(cell for cell in cells if cell.kind == "all"),
        comparisons=tuple(_corrected(compared)),
        marks=tuple(marks),
        judges=tuple(sorted({verdict.judge for verdict in verdicts})),
    )


def table_files(table: ResultTable) -> dict[str, str]:
    """Return the table as `table.json` (the list of cells) and `overall.json` (all the rest)."""
    rest = {
        "models": table.models,
        "strategies": table.strategies,
        "judges": table.judges,
        "cells": [asdict(cell) for cell in table.overall],
        "differences": [asdict(comparison) for comparison in table.comparisons],
        "marks": [asdict(mark) for mark in table.marks],
    }
    return {
        TABLE_FILE: _json([asdict(cell) for cell in table.cells]),
        OVERALL_FILE: _json(rest),
    }


def read_table(folder: Path) -> ResultTable:
    """Read the table of a finished report.

    raises: ArtefactError when its files are missing or damaged.
    """
    try:
        cells = json.loads((folder / TABLE_FILE).read_text(encoding="utf-8"))
        rest = json.loads((folder / OVERALL_FILE).read_text(encoding="utf-8"))
        return ResultTable(
            models=tuple(rest["models"]),
            strategies=tuple(rest["strategies"]),
            cells=tuple(Cell(**cell) for cell in cells),
            overall=tuple(Cell(**cell) for cell in rest["cells"]),
            comparisons=tuple(Comparison(**entry) for entry in rest["differences"]),
            marks=tuple(Mark(**mark) for mark in rest["marks"]),
            judges=tuple(rest["judges"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"{folder}: its table cannot be read ({error}); report again"
        ) from error


def _check(verdicts: Sequence[Verdict]) -> None:
    if not verdicts:
        raise DataError("no verdicts to report; run the benchmark first")
    seen: set[tuple[object, ...]] = set()
    for verdict in verdicts:
        place = (
            verdict.model,
            verdict.strategy,
            verdict.seed,
            verdict.item,
            verdict.sample,
            verdict.judge,
        )
        if place in seen:
            raise DataError(
                f"{verdict.strategy}, seed {verdict.seed}: answer {verdict.sample} to "
                f"'{verdict.item}' is judged twice by {verdict.judge}; "
                "give the report each benchmark once"
            )
        seen.add(place)


@dataclass(frozen=True)
class _Scores:
    """The verdicts of each (model, strategy, kind), their scores, and how they are drawn again."""

    groups: Mapping[tuple[str, str, RowKind], Sequence[Verdict]]
    scored: Mapping[tuple[str, str, RowKind], Mapping[Dimension, Scored]]
    resamples: int
    seed: int

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], resamples: int, seed: int) -> _Scores:
        groups: dict[tuple[str, str, RowKind], list[Verdict]] = {}
        for verdict in verdicts:
            kinds: tuple[RowKind, ...] = (verdict.kind, "all")
            for kind in kinds:
                groups.setdefault((verdict.model, verdict.strategy, kind), []).append(verdict)
        scored = {
            place: {dimension: scored_of(rows, dimension) for dimension in DIMENSIONS}
            for place, rows in groups.items()
        }
        return cls(groups, scored, resamples, seed)

    def columns(
        self, model: str, strategy: str, kind: RowKind, dimension: Column
    ) -> Sequence[Scored]:
        """One dimension's column, or all five for the mean; empty ones where nothing was asked."""
        wanted = DIMENSIONS if dimension == "mean" else (dimension,)
        found = self.scored.get((model, strategy, kind), {})
        return [found.get(name, Scored((), (), (), ())) for name in wanted]

    def cell(self, model: str, strategy: str, kind: RowKind, dimension: Column) -> Cell:
        found = interval(
            self.columns(model, strategy, kind, dimension),
            resamples=self.resamples,
            seed=self.seed,
        )
        wanted = DIMENSIONS if dimension == "mean" else (dimension,)
        rows = self.groups.get((model, strategy, kind), ())
        n = sum(all(name in row.scores for name in wanted) for row in rows)
        return Cell(
            strategy=strategy,
            model=model,
            kind=kind,
            dimension=dimension,
            percent=_known(found.percent),
            n=n,
            unscored=len(rows) - n,
            low=_known(found.low),
            high=_known(found.high),
        )

    def compare(
        self, model: str, strategy: str, against: str, kind: RowKind, dimension: Column
    ) -> Comparison:
        found = paired_difference(
            self.columns(model, strategy, kind, dimension),
            self.columns(model, against, kind, dimension),
            resamples=self.resamples,
            seed=self.seed,
        )
        spread = _known(found.spread)
        smallest = detectable_difference(found.items, spread=spread) if spread else math.nan
        return Comparison(
            strategy=strategy,
            against=against,
            model=model,
            kind=kind,
            dimension=dimension,
            points=_known(found.points),
            low=_known(found.low),
            high=_known(found.high),
            p_value=_known(found.p_value),
            p_holm=None,
            questions=found.items,
            spread=spread,
            smallest=_known(smallest),
        )


def _pairs(strategies: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Each strategy against the one before it, and against the first."""
    for place, strategy in enumerate(strategies[1:], start=1):
        yield strategy, strategies[place - 1]
        if place > 1:
            yield strategy, strategies[0]


def _corrected(compared: Sequence[Comparison]) -> list[Comparison]:
    """Fill in `p_holm` for the four kinds' means and for their single cells, model by model."""
    adjusted: dict[int, float] = {}
    families = [(c.model, c.dimension == "mean") for c in compared]
    for wanted in dict.fromkeys(families):
        family = {
            place: c.p_value
            for place, (c, owner) in enumerate(zip(compared, families, strict=True))
            if owner == wanted and c.kind != "all" and c.p_value is not None
        }
        adjusted.update(zip(family, holm(list(family.values())), strict=True))
    return [
        Comparison(**{**asdict(c), "p_holm": adjusted[place]}) if place in adjusted else c
        for place, c in enumerate(compared)
    ]


def _mark(row: Sequence[Cell], scores: _Scores) -> Mark:
    """Mark the best where it is told apart from the worst, and the second likewise."""
    model, kind, dimension = row[0].model, row[0].kind, row[0].dimension
    nothing = Mark(model, kind, dimension, "", "", False)
    ranked = sorted(
        (cell for cell in row if cell.percent is not None), key=lambda cell: -(cell.percent or 0.0)
    )
    if len(ranked) < 2 or ranked[0].percent == ranked[1].percent:
        return nothing

    def above_worst(cell: Cell) -> bool:
        return scores.compare(model, cell.strategy, ranked[-1].strategy, kind, dimension).beats

    if not above_worst(ranked[0]):
        return nothing
    single = len(ranked) > 2 and ranked[1].percent != ranked[2].percent
    second = ranked[1].strategy if single and above_worst(ranked[1]) else ""
    return Mark(model, kind, dimension, ranked[0].strategy, second, _overlap(ranked[0], ranked[1]))


def _overlap(better: Cell, other: Cell) -> bool:
    """Whether the better cell's interval reaches down into the other's; unknown ones do."""
    return better.low is None or other.high is None or better.low <= other.high


def _known(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
