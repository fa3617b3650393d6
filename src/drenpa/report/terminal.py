"""The end of a run on a terminal: the table in short, where the page is, answers before and
after."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drenpa.core.artefacts import Artefact
from drenpa.core.text import shown
from drenpa.report.browser import BROWSER
from drenpa.report.examples import Answer, Example, read_examples
from drenpa.report.formats import ABSENT, heading, judged, limits, percent, points
from drenpa.report.table import COLUMNS, ROW_KINDS, Cell, Column, Mark, ResultTable, read_table

EXAMPLES_SHOWN = 3
ANSWER_CHARACTERS = 420
WIDE, WIDEST = 98, 116
"""Columns of a terminal from which on every cell shows half the width of its interval, and
dimensions stand in full."""

SHORT: Mapping[Column, str] = {
    "relevance": "relev.",
    "quality": "qual.",
    "satisfaction": "satis.",
    "richness": "rich.",
}


def print_summary(report: Artefact, console: Console) -> None:
    """Print a finished report in short: table, cautions, examples, and where the page is.

    raises: ArtefactError when the report's files are missing or damaged.
    """
    table = read_table(report.path)
    for model in table.models:
        console.print(_result_table(table, model, console.width))
    console.print()
    console.print(_plain(f"{_legend(console.width)} {judged(table)}", "dim"))
    for model in table.models:
        headline = report.summary.get("headline", {}).get(model, "")
        console.print()
        console.print(_plain(headline, "bold"))
    for caution in report.summary.get("cautions", ()):
        console.print(_bullet(str(caution)))
    for example in read_examples(report.path)[:EXAMPLES_SHOWN]:
        console.print()
        console.print(_example_table(example))
    console.print()
    page = _page_path(report.path)
    console.print(Text("Items:  "), Text(str(page.with_name(BROWSER)), "bold"), sep="")
    console.print(Text("Report: "), Text(str(page), "bold"), sep="")


def _page_path(folder: Path) -> Path:
    """The page under its stable name where that points here, from the working folder if below."""
    link = folder.parent / "report"
    page = (link if link.resolve() == folder else folder) / "index.html"
    return page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page


def _legend(width: int) -> str:
    halves = "; ± is half the width of a cell's" if width >= WIDE else ""
    return (
        f"Per cent of the highest possible score, with the mean's 95\u00a0% interval{halves}. "
        "n: answers scored in full; unsc: the others. Bold: the best of its kind, where told "
        "apart from the worst."
    )


def _result_table(table: ResultTable, model: str, width: int) -> Table:
    drawn = Table(
        title=_plain(model),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        title_justify="left",
    )
    drawn.add_column("", no_wrap=True)
    for dimension in COLUMNS:
        name = dimension if width >= WIDEST else SHORT.get(dimension, dimension)
        drawn.add_column(name, justify="right", no_wrap=True)
    for name in ("95 % int.", "n", "unsc"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for kind in ROW_KINDS:
        drawn.add_row(Text("all questions" if kind == "all" else kind, "bold"))
        for strategy in table.strategies_of(model):
            cells = {name: table.cell(model, strategy, kind, name) for name in COLUMNS}
            written = [
                _cell_text(cell, table.mark(model, kind, name), width >= WIDE and name != "mean")
                for name, cell in cells.items()
            ]
            drawn.add_row(
                _plain(f" {heading(table, strategy)}"), *written, *_mean_texts(list(cells.values()))
            )
        drawn.add_section()
    return drawn


def _cell_text(cell: Cell | None, mark: Mark, with_width: bool) -> Text:
    if cell is None:
        return Text(ABSENT)
    style = "bold" if mark.best == cell.strategy else ""
    style = "underline" if mark.second == cell.strategy else style
    text = Text(percent(cell.percent), style)
    if with_width and cell.low is not None and cell.high is not None:
        text.append(f" ±{(cell.high - cell.low) / 2:<2.0f}", "not bold not underline dim")
    return text


def _mean_texts(cells: Sequence[Cell | None]) -> list[str]:
    """The mean's interval, n and unscored."""
    mean = cells[-1]
    if mean is None:
        return [ABSENT, ABSENT, ABSENT]
    ends = limits(mean.low, mean.high).replace(" to ", "–")
    return [ends or ABSENT, str(mean.n), str(mean.unscored)]


def _example_table(example: Example) -> Table:
    drawn = Table(
        title=Text(_clipped(example.question, 200), "bold"),
        caption=Text(f"{example.kind} · {example.reason}: {points(example.change)} points", "dim"),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        caption_justify="left",
        expand=True,
        padding=(0, 1),
    )
    before, after = example.answers[0], example.answers[-1]
    for answer in (before, after):
        drawn.add_column(_plain(_heading(answer)), ratio=1, overflow="fold")
    drawn.add_row(_answer_text(before), _answer_text(after))
    return drawn


def _heading(answer: Answer) -> str:
    cut = ", cut off" if answer.finish == "length" else ""
    return f"{answer.strategy}: {percent(answer.percent)} %{cut}"


def _answer_text(answer: Answer) -> Text:
    text = _clipped(answer.text, ANSWER_CHARACTERS)
    return Text(text) if text else Text("(no answer)", "dim italic")


def _clipped(text: str, limit: int) -> str:
    """One paragraph without unsafe characters, cut at a length a terminal can bear."""
    line = re.sub(r"\s+", " ", shown(text)).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _bullet(text: str) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row("·", _plain(text))
    return grid


def _plain(text: str, style: str = "") -> Text:
    """Text that is never read as markup."""
    return Text(shown(text), style)
