from __future__ import annotations

import csv
import io
import re

from tests.verdict_rows import verdict, verdicts

from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Verdict
from drenpa.report.formats import to_csv, to_latex, to_markdown
from drenpa.report.table import make_table


def test_csv_holds_every_cell_and_leaves_absent_figures_empty() -> None:
    table = make_table([verdict(cluster="one book")], resamples=50)
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(lines) == len(table.cells) + len(table.overall) == 30
    assert lines[0]["percent"] == "50.0"
    assert lines[0]["low"] == lines[0]["high"] == ""
    assert [line["kind"] for line in lines[-6:]] == ["all"] * 6


def test_a_comma_and_a_quote_in_a_model_name_survive_csv() -> None:
    table = make_table([verdict(model='a "big", model')], resamples=50)
    assert next(csv.DictReader(io.StringIO(to_csv(table))))["model"] == 'a "big", model'


def test_markdown_rows_all_have_the_columns_of_their_head() -> None:
    text = to_markdown(make_table(verdicts(), resamples=50), "a | b")
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    for part in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in part.splitlines()}
        assert len(widths) == 1
    assert text.startswith("# a \\| b\n")


def test_markdown_marks_the_best_and_prints_its_interval() -> None:
    part = {name: 1.0 for name in DIMENSIONS if name != "richness"}
    rows = [*verdicts(gain=0.6), verdict("final", "x", part)]
    text = to_markdown(make_table(rows, resamples=50), "t")
    line = next(line for line in text.splitlines() if line.startswith("| foundation | richness"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    # 0.2, 0.3, 0.4, 0.5, 0.2, 0.3 are 1.9 of 12, that is 15.8 %; 30 points more are 45.8 %.
    assert cells[2].startswith("15.8 (")
    assert cells[4].startswith("**45.8**")
    assert cells[5:] == ["6", "0/0/1"]


def test_latex_escapes_names_and_balances_its_braces() -> None:
    table = make_table(verdicts(model=r"a_b & 50 % \input{x} #1 ~^$"), resamples=50)
    text = to_latex(table, "t")
    assert r"a\_b \& 50 \% \textbackslash{}input\{x\} \#1" in text
    assert r"\input{" not in text
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if r"\\" in line]
    assert len(rows) == 1 + 5 * 6
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {6}  # 2 + 3 strategies + 2


def test_intervals_of_many_strategies_stand_beneath_where_there_are_any() -> None:
    def rows_of(found: list[Verdict]) -> int:
        text = to_latex(make_table(found, resamples=50), "t")
        body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
        return sum(r"\\" in line for line in body.splitlines())

    names = [f"s{number}" for number in range(4)]
    assert rows_of([verdict(name, cluster="one book") for name in names]) == 1 + 30
    assert (
        rows_of(
            [
                *verdicts(),
                *(row.model_copy(update={"strategy": "fourth"}) for row in verdicts()[:24]),
            ]
        )
        == 1 + 2 * 30
    )


def test_a_critic_as_judge_flags_every_column() -> None:
    table = make_table(verdicts(judge="critic judges its own pupil"), resamples=50)
    markdown, latex = to_markdown(table, "t"), to_latex(table, "t")
    assert "| base ‡ | sft ‡ | final ‡ |" in markdown
    assert "The critic that gave the reward in training also judged" in markdown
    assert r"final \ddag{}" in latex
    assert "‡" not in to_markdown(make_table(verdicts(), resamples=50), "t")
