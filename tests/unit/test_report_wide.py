"""The layout of the paper's Table 3."""

from __future__ import annotations

import csv
import io

import pytest
from tests.verdict_rows import verdicts

from drenpa.report.table import make_table
from drenpa.report.wide import WideTable, wide_csv, wide_latex, wide_markdown, wide_table


@pytest.fixture(scope="module")
def two_models() -> WideTable:
    rows = [*verdicts(items=8, model="small"), *verdicts(items=8, gain=0.0, model="large_1%")]
    return wide_table(make_table(rows, resamples=50))


@pytest.fixture(scope="module")
def with_paper() -> WideTable:
    rows = [row for row in verdicts(items=8) if row.strategy != "final"]
    grpo = [row.model_copy(update={"strategy": "grpo"}) for row in rows if row.strategy == "sft"]
    return wide_table(make_table([*rows, *grpo], resamples=50), with_paper=True)


def test_strategies_stand_over_their_models(two_models: WideTable) -> None:
    assert two_models.groups == tuple(
        (strategy, ("small", "large_1%")) for strategy in ("base", "sft", "final")
    )
    assert len(two_models.rows) == 5 * 6  # four kinds and all, five dimensions and their mean


def test_each_model_has_a_best_of_its_own_and_ties_have_none(two_models: WideTable) -> None:
    row = next(r for r in two_models.rows if (r.kind, r.dimension) == ("all", "mean"))
    assert [cell.best for cell in row.cells] == [False] * 4 + [True, False]
    assert row.cells[4].sign == "°"  # p over all kinds is not corrected with the others
    assert row.n == (32,) * 6


def test_a_difference_that_stands_holms_correction_has_an_asterisk(two_models: WideTable) -> None:
    # 8 sources of a kind give p = 2/2⁸ = 0.0078, and 12 tests of means 0.09 at best after Holm's.
    row = next(r for r in two_models.rows if (r.kind, r.dimension) == ("foundation", "mean"))
    assert row.cells[4].sign == "°"
    many = make_table(verdicts(items=14), resamples=50)
    wide = wide_table(many)
    row = next(r for r in wide.rows if (r.kind, r.dimension) == ("foundation", "mean"))
    assert [cell.sign for cell in row.cells] == ["", "", "*"]


def test_the_papers_columns_stand_beside_and_wrong_means_are_marked(with_paper: WideTable) -> None:
    assert with_paper.groups[0] == ("base", ("tiny", "paper 0.5B", "paper 1.5B", "paper 3B"))
    wrong = [
        (row.kind, row.dimension, with_paper.columns[place])
        for row in with_paper.rows
        for place, cell in enumerate(row.cells)
        if cell.wrong
    ]
    assert wrong == [("foundation", "mean", "grpo paper 3B")]
    assert any("is printed, but its five cells give" in note for note in with_paper.footnotes)
    row = with_paper.rows[0]
    assert row.cells[1].percent == 24.1  # foundation, relevance, base, 0.5B as printed
    assert len(row.n) == 3  # ours alone


def test_the_spreadsheet_has_a_column_for_each_and_a_row_for_each(with_paper: WideTable) -> None:
    rows = list(csv.reader(io.StringIO(wide_csv(with_paper))))
    assert rows[0][:4] == ["kind", "dimension", "base tiny", "base paper 0.5B"]
    assert {len(row) for row in rows} == {2 + 3 * 4 + 2}
    assert rows[1][3] == "24.10"
    assert rows[-1][3] == ""  # the paper has no row over all questions


def test_markdown_marks_the_best_and_keeps_names_from_being_markup(two_models: WideTable) -> None:
    text = wide_markdown(two_models, "a|b")
    assert r"base large\_1%" in text
    assert "**" in text
    assert text.startswith("# a\\|b\n")
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| ")}
    assert len(widths) == 1


def test_latex_is_a_table_of_even_rows_without_bare_commands(two_models: WideTable) -> None:
    text = wide_latex(two_models, "50 % \\input{x}")
    assert r"50 \% \textbackslash{}input\{x\}" in text
    assert r"large\_1\%" in text
    assert r"\multicolumn{2}{c}{final}" in text
    assert r"\cmidrule(lr){7-8}" in text
    assert r"$^{\circ}$" in text
    body = [
        line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line
    ]
    assert {line.count("&") for line in body} == {9}
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
