"""The result table as Markdown, CSV and LaTeX. Rows are kind × dimension, columns strategies, as in
the paper's Table 3."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import asdict, fields

from drenpa.report.table import COLUMNS, ROW_KINDS, Cell, ResultTable

ABSENT = "–"

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}

MOST_BESIDE = 3  # strategies whose intervals fit beside their scores on a page

LATEX_HEAD = r"""% \usepackage{booktabs,graphicx}
% Names in Tibetan or Chinese: XeLaTeX or LuaLaTeX with \usepackage{fontspec} and before \input
% \newfontfamily\bofont{Noto Serif Tibetan} \newfontfamily\zhfont{Noto Serif CJK SC}
\providecommand{\bofont}{}\providecommand{\zhfont}{}"""

_OTHER_FONTS = (("bofont", "\u0f00-\u0fff"), ("zhfont", "\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"))

LEGEND = (
    "Scores in per cent of the highest possible, with 95 % intervals for new questions from new "
    "sources. Bold: the best of its row; underlined: the second. Neither is marked where the row's "
    "best is not told apart from its worst. ≈: the best's interval overlaps the second's. "
    "n: answers scored, one figure where all columns agree."
)


def percent(value: float | None) -> str:
    """Write a score.

    >>> percent(45.25), percent(None)
    ('45.2', '–')
    """
    return ABSENT if value is None else f"{value:.1f}"


def points(value: float | None) -> str:
    """Write a difference with its sign.

    >>> points(-0.31), points(4.0), points(0.01)
    ('−0.3', '+4.0', '0.0')
    """
    if value is None:
        return ABSENT
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def limits(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """Write an interval's two ends, or nothing where there is none.

    >>> limits(-1.0, 2.0, signed=True), limits(1.0, 2.0), limits(None, None)
    ('−1.0 to +2.0', '1.0 to 2.0', '')
    """
    if low is None or high is None:
        return ""
    write = points if signed else percent
    return f"{write(low)} to {write(high)}"


def counts(values: Sequence[int]) -> str:
    """Write one count where all columns agree, and all of them where they do not.

    >>> counts([40, 40]), counts([40, 38])
    ('40', '40/38')
    """
    return str(values[0]) if len(set(values)) == 1 else "/".join(map(str, values))


def span(values: Sequence[int]) -> str:
    """Write the range of counts, or the one count where all agree.

    >>> span([40, 38, 40]), span([40, 40])
    ('38–40', '40')
    """
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"


def heading(table: ResultTable, strategy: str) -> str:
    """Write a strategy's name, flagged where its own critic judged it."""
    return f"{strategy} ‡" if table.circular else strategy


def judged(table: ResultTable) -> str:
    """Say who judged, and that it was circular where it was."""
    flag = " ‡ The critic that gave the reward in training also judged." if table.circular else ""
    return f"Judged by: {'; '.join(table.judges)}.{flag}"


def to_csv(table: ResultTable) -> str:
    """Return every cell, the overall ones last, a line each; an absent figure is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Cell)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(cell) for cell in (*table.cells, *table.overall))
    return text.getvalue()


def to_markdown(table: ResultTable, title: str) -> str:
    """Return the table and the differences in Markdown."""
    parts = [f"# {plain_markdown(title)}"]
    for model in table.models:
        strategies = table.strategies_of(model)
        parts.append(f"## {plain_markdown(model)}")
        head = [
            "kind",
            "dimension",
            *(plain_markdown(heading(table, name)) for name in strategies),
            "n",
            "unscored",
        ]
        lines = [pipes(head), pipes(["---", "---", *["---:"] * (len(head) - 2)])]
        for kind in ROW_KINDS:
            for dimension in COLUMNS:
                row = table.row(model, kind, dimension)
                mark = table.mark(model, kind, dimension)
                written = [
                    _markdown_cell(cell, mark.best, mark.second, mark.overlap) for cell in row
                ]
                lines.append(pipes([kind, dimension, *written, *_row_counts(row)]))
        parts.append("\n".join(lines))
        parts.append(f"{LEGEND} {plain_markdown(judged(table))}")
        if table.pairs(model):
            parts.append(_markdown_differences(table, model))
    return "\n\n".join(parts) + "\n"


def to_latex(table: ResultTable, title: str) -> str:
    r"""Return the table for a paper, an interval beside each score, or beneath it where there are
    many.

    It needs the packages booktabs and graphicx, which makes a table of many strategies as narrow as
    the page, and for names in Tibetan or Chinese what `LATEX_HEAD` says.
    """
    parts = [LATEX_HEAD]
    for model in table.models:
        strategies = table.strategies_of(model)
        names = [latex(heading(table, name)) for name in strategies]
        beneath = len(strategies) > MOST_BESIDE
        size = r"\scriptsize\renewcommand{\arraystretch}{0.85}" if beneath else r"\footnotesize"
        lines = [
            *latex_begin(f"{title}: {model}. {LEGEND} {judged(table)}", len(strategies), size),
            " & ".join(["kind", "dimension", *names, "$n$", "unscored"]) + r" \\",
        ]
        for kind in ROW_KINDS:
            lines.append(r"\midrule")
            for place, dimension in enumerate(COLUMNS):
                row = table.row(model, kind, dimension)
                mark = table.mark(model, kind, dimension)
                written = [_latex_cell(cell, mark.best, mark.second, mark.overlap) for cell in row]
                ends = [_latex_ends(cell) for cell in row]
                if not beneath:
                    written = [" ".join(both).strip() for both in zip(written, ends, strict=True)]
                lead = kind if place == 0 else ""
                lines.append(" & ".join([lead, dimension, *written, *_row_counts(row)]) + r" \\")
                if beneath and any(ends):
                    lines[-1] += r"[0.2ex]"
                    lines.append(" & ".join(["", "", *ends, "", ""]) + r" \\")
        lines += LATEX_END
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def latex_begin(caption: str, columns: int, size: str = r"\footnotesize") -> list[str]:
    """Return how a table with that many columns of scores begins; it is never wider than the
    text."""
    return [
        r"\begin{table}",
        rf"\centering{size}\setlength{{\tabcolsep}}{{4pt}}",
        rf"\caption{{{latex(caption)}}}",
        r"\smallskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{ll{'r' * (columns + 2)}}}",
        r"\toprule",
    ]


LATEX_END = (r"\bottomrule", r"\end{tabular}}", r"\end{table}")


def _row_counts(row: Sequence[Cell]) -> list[str]:
    return [counts([cell.n for cell in row]), counts([cell.unscored for cell in row])]


def _markdown_cell(cell: Cell, best: str, second: str, overlap: bool) -> str:
    value = percent(cell.percent)
    if cell.strategy == best:
        value = f"**{value}**{' ≈' if overlap else ''}"
    elif cell.strategy == second:
        value = f"<u>{value}</u>"
    ends = limits(cell.low, cell.high)
    return f"{value} ({ends})" if ends else value


def _markdown_differences(table: ResultTable, model: str) -> str:
    head = ["strategy", "against", *ROW_KINDS]
    lines = [pipes(head), pipes(["---", "---", *["---:"] * len(ROW_KINDS)])]
    for strategy, against in table.pairs(model):
        written = []
        for kind in ROW_KINDS:
            found = table.comparison(model, strategy, against, kind)
            ends = limits(found.low, found.high, signed=True) if found else ""
            value = points(found.points if found else None)
            if found and found.told_apart:
                value = f"**{value}**"
            written.append(f"{value} ({ends})" if ends else value)
        lines.append(pipes([plain_markdown(strategy), plain_markdown(against), *written]))
    return (
        "Differences of the means, in points, on the same questions; bold where the 95 % interval "
        "leaves 0 out.\n\n" + "\n".join(lines)
    )


def _latex_cell(cell: Cell, best: str, second: str, overlap: bool) -> str:
    value = percent(cell.percent).replace(ABSENT, "--")
    if cell.strategy == best:
        value = rf"\textbf{{{value}}}" + (r"$^{\approx}$" if overlap else "")
    elif cell.strategy == second:
        value = rf"\underline{{{value}}}"
    return value


def _latex_ends(cell: Cell) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return rf"{{\tiny {percent(cell.low)}--{percent(cell.high)}}}"


def pipes(entries: Sequence[str]) -> str:
    """Write a row of a Markdown table."""
    return "| " + " | ".join(entries) + " |"


def plain_markdown(text: str) -> str:
    r"""Keep a name from being read as markup.

    >>> plain_markdown("a|b_c\n<i>")
    'a\\|b\\_c \\<i\\>'
    """
    return re.sub(r"([\\`*_{}\[\]<>#|&])", r"\\\1", " ".join(text.split()))


def latex(text: str) -> str:
    r"""Keep a name from being read as a command.

    >>> latex("50 % of a_b \\input{x}")
    '50 \\% of a\\_b \\textbackslash{}input\\{x\\}'
    >>> latex("the 中文 one")
    'the {\\zhfont 中文} one'
    """
    escaped = "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
    for font, signs in _OTHER_FONTS:
        run = rf"[{signs}](?:[{signs} ]*[{signs}])?"
        escaped = re.sub(run, rf"{{\\{font} \g<0>}}", escaped)
    return (
        escaped.replace("≈", r"$\approx$")
        .replace("–", "--")
        .replace("‡", r"\ddag{}")
        .replace("°", r"$^\circ$")
        .replace("†", r"$\dagger$")
    )
