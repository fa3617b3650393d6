from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.verdict_rows import verdict

from drenpa.core.knowledge import DIMENSIONS, KINDS
from drenpa.core.records import Verdict
from drenpa.report.formats import to_csv
from drenpa.report.table import make_table

SCORES = st.dictionaries(st.sampled_from(DIMENSIONS), st.sampled_from([0.0, 0.5, 1.0, 2.0]))


@st.composite
def some_verdicts(draw: st.DrawFn) -> list[Verdict]:
    """Verdicts of one to three strategies on a few questions, some dimensions unscored."""
    strategies = ("base", "sft", "final")[: draw(st.integers(1, 3))]
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    return [
        verdict(strategy, f"i{place}", draw(SCORES), kind=kind, seed=seed)
        for strategy in strategies
        for place, kind in enumerate(kinds)
        for seed in (1, 2)
    ]


@given(some_verdicts())
@settings(max_examples=25)
def test_scored_and_unscored_answers_add_up_in_every_cell(rows: list[Verdict]) -> None:
    table = make_table(rows, resamples=10)
    for cell in (*table.cells, *table.overall):
        asked = [
            row for row in rows if row.strategy == cell.strategy and cell.kind in ("all", row.kind)
        ]
        assert cell.n + cell.unscored == len(asked)
        assert (cell.percent is None) or 0 <= cell.percent <= 100


@given(some_verdicts())
@settings(max_examples=25)
def test_a_mean_is_that_of_its_five_cells_or_absent(rows: list[Verdict]) -> None:
    table = make_table(rows, resamples=10)
    for mean in (cell for cell in table.cells if cell.dimension == "mean"):
        five = [
            table.cell(mean.model, mean.strategy, mean.kind, dimension) for dimension in DIMENSIONS
        ]
        known = [cell.percent for cell in five if cell is not None and cell.percent is not None]
        if len(known) < 5:
            assert mean.percent is None
        else:
            assert mean.percent == pytest.approx(sum(known) / 5, abs=1e-3)


@given(some_verdicts(), st.data())
@settings(max_examples=15)
def test_the_order_of_a_strategys_answers_changes_nothing(
    rows: list[Verdict], data: st.DataObject
) -> None:
    mixed: list[Verdict] = []
    for name in dict.fromkeys(row.strategy for row in rows):
        mixed += data.draw(st.permutations([row for row in rows if row.strategy == name]))
    assert make_table(mixed, resamples=10) == make_table(rows, resamples=10)


@given(some_verdicts())
@settings(max_examples=15)
def test_a_strategy_differs_from_its_own_copy_by_exactly_nothing(rows: list[Verdict]) -> None:
    base = [row for row in rows if row.strategy == "base"]
    copy = [row.model_copy(update={"strategy": "copy"}) for row in base]
    table = make_table([*base, *copy], resamples=10)
    assert {found.points for found in table.comparisons} <= {0.0, None}
    assert not any(found.told_apart for found in table.comparisons)
    assert {mark.best for mark in table.marks} == {""}


@given(some_verdicts())
@settings(max_examples=15)
def test_csv_says_the_same_as_the_table(rows: list[Verdict]) -> None:
    table = make_table(rows, resamples=10)
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    for line, cell in zip(lines, (*table.cells, *table.overall), strict=True):
        assert (line["strategy"], line["kind"]) == (cell.strategy, cell.kind)
        assert (float(line["percent"]) if line["percent"] else None) == cell.percent
        assert (int(line["n"]), int(line["unscored"])) == (cell.n, cell.unscored)
