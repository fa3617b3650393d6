"""The layout of the paper's Table 3: kind × dimension down, strategy × model across, for any set of
them, with the paper's own columns beside where wanted."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from drenpa.report.formats import (
    ABSENT,
    LATEX_END,
    LATEX_HEAD,
    counts,
    heading,
    judged,
    latex,
    latex_begin,
    percent,
    pipes,
)
from drenpa.report.formats import plain_markdown as plain
from drenpa.report.paper import disagreements, paper_rows, paper_source
from drenpa.report.table import COLUMNS, ROW_KINDS, SIGNIFICANT, Column, ResultTable, RowKind

Sign = Literal["", "°", "*"]

WIDE_LEGEND = (
    "Scores in per cent of the highest possible. Bold: a model's best strategy in the row; "
    "underlined: its second; neither where the best is not told apart from the worst. °: the 95 % "
    "interval of the difference from the model's first strategy leaves 0 out; *: so does p below "
    "0.05 after Holm's correction (over the four kinds' means, or over all single cells). n: "
    "answers scored; unscored: the others."
)


@dataclass(frozen=True)
class WideCell:
    """One figure; None where nothing was scored. sign: how surely it differs from the first
    strategy's. wrong: a mean of the paper's that was printed otherwise."""

    percent: float | None
    best: bool = False
    second: bool = False
    sign: Sign = ""
    wrong: bool = False


@dataclass(frozen=True)
class WideRow:
    """One dimension of one kind, with n and unscored of our columns."""

    kind: RowKind
    dimension: Column
    cells: tuple[WideCell, ...]
    n: tuple[int, ...]
    unscored: tuple[int, ...]


@dataclass(frozen=True)
class WideTable:
    """Columns as (strategy, models or sizes under it), and the rows.

    footnotes: what the paper printed where its mean is not that of its cells.
    """

    groups: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[WideRow, ...]
    legend: str
    footnotes: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """Every column's own name."""
        return [f"{strategy} {name}" for strategy, names in self.groups for name in names]


def wide_table(table: ResultTable, *, with_paper: bool = False) -> WideTable:
    """Lay a table out as the paper's Table 3.

    with_paper: the paper's sizes beside each strategy of the same name; their means are recomputed
                from the printed cells.
    """
    theirs = {(r.kind, r.strategy, r.size): r for r in paper_rows()} if with_paper else {}
    sizes = list(dict.fromkeys(size for _, _, size in theirs))
    ours = {
        strategy: [m for m in table.models if strategy in table.strategies_of(m)]
        for strategy in table.strategies
    }
    printed = {
        strategy: [size for size in sizes if ("foundation", strategy, size) in theirs]
        for strategy in ours
    }
    rows = []
    for kind in ROW_KINDS:
        for dimension in COLUMNS:
            cells: list[WideCell] = []
            found = []
            for strategy, models in ours.items():
                for model in models:
                    cells.append(_ours(table, model, strategy, kind, dimension))
                    found.append(table.cell(model, strategy, kind, dimension))
                for size in printed[strategy]:
                    row = None if kind == "all" else theirs[kind, strategy, size]
                    if row is None:
                        cells.append(WideCell(None))
                    elif dimension == "mean":
                        cells.append(WideCell(row.mean, wrong=not row.agrees))
                    else:
                        cells.append(WideCell(row.cells[dimension]))
            known = [cell for cell in found if cell is not None]
            rows.append(
                WideRow(
                    kind,
                    dimension,
                    tuple(cells),
                    tuple(cell.n for cell in known),
                    tuple(cell.unscored for cell in known),
                )
            )
    shown = [row for row in disagreements(list(theirs.values())) if row.strategy in ours]
    notes = [f"{paper_source()}; other models, questions and judge."] if theirs else []
    notes += [
        f"† {row.kind}, {row.strategy}, {row.size}: {row.printed_mean:.2f} is printed, but its "
        f"five cells give {row.mean:.2f}."
        for row in shown
    ]
    return WideTable(
        groups=tuple(
            (heading(table, s), (*models, *(f"paper {size}" for size in printed[s])))
            for s, models in ours.items()
        ),
        rows=tuple(rows),
        legend=f"{WIDE_LEGEND} {judged(table)}",
        footnotes=tuple(notes),
    )


def wide_csv(wide: WideTable) -> str:
    """Return the table for a spreadsheet, a column for each strategy and model."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["kind", "dimension", *wide.columns, "n", "unscored"])
    for row in wide.rows:
        figures = ["" if c.percent is None else f"{c.percent:.2f}" for c in row.cells]
        writer.writerow([row.kind, row.dimension, *figures, *_counted(row)])
    return text.getvalue()


def wide_markdown(wide: WideTable, title: str) -> str:
    """Return the table in Markdown."""
    head = ["kind", "dimension", *(plain(name) for name in wide.columns), "n", "unscored"]
    lines = [pipes(head), pipes(["---", "---", *["---:"] * (len(head) - 2)])]
    for row in wide.rows:
        written = [_marked(cell, "**{}**", "<u>{}</u>") + _signs(cell) for cell in row.cells]
        lines.append(pipes([row.kind, row.dimension, *written, *_counted(row)]))
    told = [plain(wide.legend), *map(plain, wide.footnotes)]
    return "\n\n".join([f"# {plain(title)}", "\n".join(lines), *told]) + "\n"


def wide_latex(wide: WideTable, title: str) -> str:
    r"""Return the table for a paper; it needs what `LATEX_HEAD` says. A table of many columns is
    made as narrow as the page, and is better read on one in `\begin{landscape}`."""
    spans, rules, start = [], [], 3
    for strategy, owned in wide.groups:
        spans.append(rf"\multicolumn{{{len(owned)}}}{{c}}{{{latex(strategy)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + len(owned) - 1}}}")
        start += len(owned)
    names = [latex(name) for _, owned in wide.groups for name in owned]
    lines = [
        LATEX_HEAD,
        *latex_begin(f"{title}. {wide.legend} {' '.join(wide.footnotes)}", len(names)),
        " & ".join(["", "", *spans, "", ""]) + r" \\",
        "".join(rules),
        " & ".join(["kind", "dimension", *names, "$n$", "unscored"]) + r" \\",
    ]
    for row in wide.rows:
        first = row.dimension == COLUMNS[0]
        lines += [r"\midrule"] if first else []
        written = [
            _marked(cell, r"\textbf{{{}}}", r"\underline{{{}}}").replace(ABSENT, "--")
            + "".join(rf"$^{{{_LATEX_SIGNS[sign]}}}$" for sign in _signs(cell))
            for cell in row.cells
        ]
        lead = row.kind if first else ""
        lines.append(" & ".join([lead, row.dimension, *written, *_counted(row)]) + r" \\")
    return "\n".join([*lines, *LATEX_END]) + "\n"


_LATEX_SIGNS = {"°": r"\circ", "*": "*", "†": r"\dagger"}


def _ours(
    table: ResultTable, model: str, strategy: str, kind: RowKind, dimension: Column
) -> WideCell:
    cell = table.cell(model, strategy, kind, dimension)
    if cell is None:
        return WideCell(None)
    mark = table.mark(model, kind, dimension)
    first = table.strategies_of(model)[0]
    found = table.comparison(model, strategy, first, kind, dimension)
    sign: Sign = ""
    if found is not None and found.told_apart:
        sign = "*" if found.p_holm is not None and found.p_holm < SIGNIFICANT else "°"
    return WideCell(cell.percent, mark.best == strategy, mark.second == strategy, sign)


def _marked(cell: WideCell, best: str, second: str) -> str:
    value = percent(cell.percent)
    return (best if cell.best else second if cell.second else "{}").format(value)


def _signs(cell: WideCell) -> str:
    return cell.sign + ("†" if cell.wrong else "")


def _counted(row: WideRow) -> Sequence[str]:
    return [counts(row.n), counts(row.unscored)] if row.n else ["", ""]
