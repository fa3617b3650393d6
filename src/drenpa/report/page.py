"""The page: one HTML file that holds everything it shows and runs nothing.

Every text that a model, a judge or a user wrote is hostile until escaped: the templates escape by
default, control and direction-changing characters are replaced, and the page forbids itself scripts
and the network.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata, resources
from itertools import pairwise
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import drenpa
from drenpa.core.artefacts import Artefact
from drenpa.core.knowledge import DIMENSIONS, KIND_FACTS, KINDS, Kind
from drenpa.core.text import shown
from drenpa.report.charts import (
    INK,
    KIND_COLOURS,
    KIND_DASHES,
    MOST_POINTS,
    Bar,
    Dot,
    Spoke,
    axis_top,
    bar_chart,
    count_chart,
    dot_chart,
    line_chart,
    line_sample,
    radar_chart,
    strategy_colours,
    symmetric_reach,
)
from drenpa.report.curves import WHOLE, Accuracy, Curve, Training
from drenpa.report.examples import Example
from drenpa.report.formats import heading, judged, limits, percent, points, span
from drenpa.report.gap import Meter
from drenpa.report.notes import RunFacts, comparison_notes, critic_notes, headline
from drenpa.report.paper import PaperRow, disagreements, paper_rows, paper_source
from drenpa.report.readings import Readings
from drenpa.report.shape import CountRows
from drenpa.report.table import COLUMNS, ROW_KINDS, SIGNIFICANT, Cell, ResultTable
from drenpa.report.unscored import OpenCell, ReplyRate
from drenpa.report.watch import Watch
from drenpa.report.wide import WideTable

NAMED_LIBRARIES = ("torch", "transformers", "peft", "numpy")


@dataclass(frozen=True)
class PageContent:
    """Everything that the page tells.

    critics: name → accuracies, of each critic that measured them; meters: its gap and use.
    sources: the artefacts that the page was made from.
    """

    title: str
    table: ResultTable
    facts: RunFacts
    cautions: Sequence[str]
    trainings: Sequence[Training]
    critics: Mapping[str, Sequence[Accuracy]]
    examples: Sequence[Example]
    sources: Sequence[Artefact]
    resamples: int
    with_paper: bool = False
    readings: Readings | None = None
    watches: Sequence[Watch] = ()
    meters: Mapping[str, Sequence[Meter]] = field(default_factory=dict)
    data: Mapping[str, CountRows] = field(default_factory=dict)
    wide: WideTable | None = None
    replies: Sequence[ReplyRate] = ()
    open_cells: Sequence[OpenCell] = ()


@dataclass(frozen=True)
class _DrawnTraining:
    name: str
    steps: int
    charts: tuple[Markup, ...]


@dataclass(frozen=True)
class _CriticSection:
    name: str
    rows: Sequence[Accuracy]
    notes: Sequence[str]
    meters: Sequence[Meter]


@dataclass(frozen=True)
class _PaperSection:
    source: str
    sizes: tuple[str, ...]
    kinds: list[tuple[Kind, list[tuple[str, list[Cell | None], list[PaperRow]]]]]
    wrong: list[PaperRow]


def figures(
    table: ResultTable, trainings: Sequence[Training], data: Mapping[str, CountRows]
) -> dict[str, Markup]:
    """Draw every figure; its key is the file's name without the ending."""
    drawn = {_file_name("data", title): count_chart(title, rows) for title, rows in data.items()}
    for model in table.models:
        for kind, chart in zip(("all", *KINDS), _bars(table, model), strict=True):
            drawn[_file_name("bars", *([model] if len(table.models) > 1 else []), kind)] = chart
        for name, chart in _model_figures(table, model).items():
            drawn[_file_name(name, *([model] if len(table.models) > 1 else []))] = chart
    for training in trainings:
        for curve in training.curves:
            name = _file_name("training", training.name, curve.measure)
            drawn[name] = draw_curve(curve)
    return drawn


def draw_curve(curve: Curve) -> Markup:
    """Draw one measure of one stage."""
    return line_chart(curve.title, curve.lines, from_zero=curve.from_zero)


def page_html(content: PageContent) -> str:
    """Return the page."""
    table = content.table
    return (
        environment()
        .get_template("page.html")
        .render(
            title=content.title,
            style=Markup(resource("page.css")),  # noqa: S704 - our own file
            table=table,
            facts=content.facts,
            cautions=content.cautions,
            bars={
                model: [*_bars(table, model), *_model_figures(table, model).values()]
                for model in table.models
            },
            data=[count_chart(title, rows) for title, rows in content.data.items()],
            paper=_paper_section(table) if content.with_paper else None,
            trainings=[_drawn(training) for training in content.trainings],
            kind_lines=_has_kind_lines(content.trainings),
            legend=[
                (WHOLE, line_sample(INK, "")),
                *((kind, line_sample(KIND_COLOURS[kind], KIND_DASHES[kind])) for kind in KINDS),
            ],
            critics=[
                _CriticSection(name, rows, critic_notes(rows, meters), meters)
                for name, rows in content.critics.items()
                for meters in (content.meters.get(name, ()),)
            ],
            examples=[example for example in content.examples if example.answers],
            readings=content.readings,
            wide=content.wide,
            replies=content.replies,
            open_cells=content.open_cells,
            watches=content.watches,
            sources=content.sources,
            resamples=content.resamples,
            version=drenpa.__version__,
            versions=library_versions(),
            row_kinds=ROW_KINDS,
            columns=COLUMNS,
            kind_facts=KIND_FACTS,
            significant=SIGNIFICANT,
            percent=percent,
            points=points,
            limits=limits,
            span=span,
            judged=judged,
            heading=heading,
            most_points=MOST_POINTS,
            headline=headline,
            comparison_notes=comparison_notes,
        )
    )


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide results, where installed."""
    found = {"Python": platform.python_version()}
    for name in NAMED_LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _bars(table: ResultTable, model: str) -> list[Markup]:
    """One chart for all questions, one for each kind, on one scale."""
    colours = strategy_colours(len(table.strategies_of(model)))
    rows = {kind: table.row(model, kind, "mean") for kind in ROW_KINDS}
    ends = [
        cell.high if cell.high is not None else cell.percent for c in rows.values() for cell in c
    ]
    top = axis_top([end for end in ends if end is not None])
    order = [ROW_KINDS[-1], *KINDS]
    return [
        bar_chart(
            "all questions" if kind == "all" else kind,
            [
                Bar(shown(cell.strategy), cell.percent, cell.low, cell.high, colour)
                for cell, colour in zip(rows[kind], colours, strict=True)
            ],
            top=top,
        )
        for kind in order
    ]


def _model_figures(table: ResultTable, model: str) -> dict[str, Markup]:
    """The dimensions as a radar, and what each strategy adds to the one before it."""
    strategies = table.strategies_of(model)
    colours = strategy_colours(len(strategies))
    spokes = [
        Spoke(
            shown(strategy),
            tuple(
                cell.percent if (cell := table.cell(model, strategy, "all", name)) else None
                for name in DIMENSIONS
            ),
            colour,
        )
        for strategy, colour in zip(strategies, colours, strict=True)
    ]
    drawn: dict[str, Markup] = {}
    steps = {
        "steps": (
            "what each step adds, all questions",
            [(after, before) for before, after in pairwise(strategies)],
        ),
        "gains": (f"against {shown(strategies[0])}", [(s, strategies[0]) for s in strategies[1:]]),
    }
    found = {
        name: [(s, table.comparison(model, s, against)) for s, against in pairs]
        for name, (_, pairs) in steps.items()
    }
    ends = [
        end
        for rows in found.values()
        for _, c in rows
        if c is not None
        for end in (c.points, c.low, c.high)
        if end is not None
    ]
    for name, (title, _) in steps.items():
        dots = [
            Dot(shown(s), c.points if c else None, c.low if c else None, c.high if c else None)
            for s, c in found[name]
        ]
        if dots and (name == "steps" or len(strategies) > 2):
            drawn[name] = dot_chart(title, dots, reach=symmetric_reach(ends))
    drawn["radar"] = radar_chart("all questions, by dimension", DIMENSIONS, spokes)
    return drawn


def _drawn(training: Training) -> _DrawnTraining:
    charts = tuple(draw_curve(curve) for curve in training.curves)
    return _DrawnTraining(training.name, training.steps, charts)


def _has_kind_lines(trainings: Sequence[Training]) -> bool:
    lines = (line for t in trainings for curve in t.curves for line in curve.lines)
    return any(line.label in KINDS for line in lines)


def _paper_section(table: ResultTable) -> _PaperSection:
    rows = paper_rows()
    ours = [name for name in table.strategies if any(row.strategy == name for row in rows)]
    sizes = tuple(dict.fromkeys(row.size for row in rows))
    kinds = [
        (
            kind,
            [
                (
                    strategy,
                    [table.cell(model, strategy, kind, "mean") for model in table.models],
                    [row for row in rows if row.kind == kind and row.strategy == strategy],
                )
                for strategy in ours
            ],
        )
        for kind in KINDS
    ]
    wrong = [row for row in disagreements(rows) if row.strategy in ours]
    return _PaperSection(paper_source(), sizes, kinds, wrong)


@cache
def environment() -> Environment:
    """Return the templates of the report, which escape whatever is put into them."""
    return Environment(
        loader=PackageLoader("drenpa", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalized(value: Any) -> Any:
    """What is printed: text of ours as it is, any other text without unsafe characters."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return shown(value)
    return value


def resource(name: str) -> str:
    """Read a file of the report's own."""
    return (resources.files("drenpa.report") / name).read_text(encoding="utf-8")


def _file_name(*parts: str) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") or "x" for part in parts)
