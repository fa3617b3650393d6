"""A report small enough to work out on paper.

Three questions of kind foundation, each from a source of its own; one seed, one sample. Scores, the
same in all five dimensions:

    question   base   sft    difference in points (of 2)
    a          0.0    1.0    +50
    b          0.5    1.0    +25
    c          1.0    1.6    +30

base: 1.5 of 6 = 25.0 %. sft: 3.6 of 6 = 60.0 %. Difference: 35.0 points.
Signs: of the 2³ ways to flip the three differences only +++ and −−− lie as far out: p = 2/8.
Holm: foundation is the only kind asked, so its p stands alone and stays 0.25.
Spread: deviations 15, −10, −5 → sqrt((225 + 100 + 25) / 2) = 13.2288 points.
Smallest: (1.959964 + 0.841621) · 13.2288 / sqrt(3) = 21.397 points.
The bootstrap's ends lie between the smallest and the largest difference, 25 and 50, so above 0.
"""

from __future__ import annotations

import pytest
from tests.verdict_rows import verdict

from drenpa.report.formats import to_markdown
from drenpa.report.notes import headline
from drenpa.report.table import ResultTable, make_table

BASE = {"a": 0.0, "b": 0.5, "c": 1.0}
SFT = {"a": 1.0, "b": 1.0, "c": 1.6}


@pytest.fixture(scope="module")
def table() -> ResultTable:
    rows = [verdict("base", item, score) for item, score in BASE.items()]
    rows += [verdict("sft", item, score) for item, score in SFT.items()]
    return make_table(rows, resamples=500)


def test_the_cells_are_those_worked_out(table: ResultTable) -> None:
    cells = table.row("tiny", "foundation", "mean")
    assert [(cell.strategy, cell.percent, cell.n, cell.unscored) for cell in cells] == [
        ("base", 25.0, 3, 0),
        ("sft", 60.0, 3, 0),
    ]


def test_the_difference_is_that_worked_out(table: ResultTable) -> None:
    found = table.comparison("tiny", "sft", "base", "foundation")
    assert found is not None
    assert found.points == pytest.approx(35.0)
    assert (found.p_value, found.p_holm) == (0.25, 0.25)
    assert found.spread == pytest.approx(13.2288, abs=1e-4)
    assert found.smallest == pytest.approx(21.397, abs=1e-3)
    assert found.low is not None
    assert found.high is not None
    # Student of 2 at 97.5 %: 4.3027 · 13.2288 / √3 = 32.862 to either side.
    assert found.low == pytest.approx(35.0 - 32.862, abs=1e-3)
    assert found.high == pytest.approx(35.0 + 32.862, abs=1e-3)
    assert found.beats


def test_the_words_and_the_table_say_the_same(table: ResultTable) -> None:
    assert headline(table, "tiny").startswith(
        "From base to sft the score goes from 25.0 to 60.0 per cent: +35.0 points (95\u00a0% "
    )
    lines = to_markdown(table, "by hand").splitlines()
    row = next(line for line in lines if line.startswith("| foundation | mean"))
    assert "| 25.0 (" in row
    assert "| **60.0**" in row
    assert row.endswith("| 3 | 0 |")
    empty = next(line for line in lines if line.startswith("| connection | mean"))
    assert empty == "| connection | mean | – | – | 0 | 0 |"
