from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.verdict_rows import STRATEGIES, verdict, verdicts

from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.knowledge import DIMENSIONS, KINDS
from drenpa.report.table import COLUMNS, Cell, make_table, read_table, table_files


def test_a_cell_is_the_sum_of_scores_over_twice_their_number() -> None:
    rows = [verdict(item="a", score=2.0), verdict(item="b", score=1.0), verdict(item="c", score=1)]
    cell = make_table(rows, resamples=50).cell("tiny", "base", "foundation", "quality")
    assert cell is not None
    assert cell.percent == pytest.approx(100 * 4 / 6, abs=1e-4)
    assert (cell.n, cell.unscored) == (3, 0)


def test_the_mean_is_that_of_the_five_cells() -> None:
    scores = {"relevance": 2, "safety": 2, "quality": 1, "satisfaction": 0, "richness": 0}
    table = make_table([verdict(score=scores)], resamples=50)
    cell = table.cell("tiny", "base", "foundation", "mean")
    assert cell is not None
    assert cell.percent == pytest.approx(50.0)


def test_an_unscored_dimension_is_counted_and_neither_zero_nor_dropped() -> None:
    part = {name: 2.0 for name in DIMENSIONS if name != "richness"}
    rows = [verdict(item="a", score=2.0), verdict(item="b", score=part)]
    table = make_table(rows, resamples=50)
    richness = table.cell("tiny", "base", "foundation", "richness")
    mean = table.cell("tiny", "base", "foundation", "mean")
    safety = table.cell("tiny", "base", "foundation", "safety")
    assert richness is not None
    assert mean is not None
    assert safety is not None
    assert (richness.percent, richness.n, richness.unscored) == (100.0, 1, 1)
    assert (mean.percent, mean.n, mean.unscored) == (100.0, 1, 1)
    assert (safety.n, safety.unscored) == (2, 0)


def test_questions_of_one_source_leave_no_interval() -> None:
    rows = [verdict(item=item, score=1.0, cluster="one book") for item in "abc"]
    cell = make_table(rows, resamples=50).cells[0]
    assert cell.percent == 50.0
    assert (cell.low, cell.high) == (None, None)


def test_every_kind_and_dimension_has_a_cell_even_where_nothing_was_asked() -> None:
    table = make_table([verdict()], resamples=50)
    assert [(c.kind, c.dimension) for c in table.cells] == [(k, d) for k in KINDS for d in COLUMNS]
    empty = table.cell("tiny", "base", "connection", "mean")
    assert empty == Cell("base", "tiny", "connection", "mean", None, 0, 0, None, None)


def test_all_questions_count_once_whatever_their_kind() -> None:
    rows = [verdict(item="a", score=2.0)]
    rows += [verdict(item=item, score=0.0, kind="connection") for item in "bcd"]
    cell = make_table(rows, resamples=50).cell("tiny", "base", "all", "mean")
    assert cell is not None
    assert (cell.percent, cell.n) == (25.0, 4)


def test_each_strategy_is_compared_with_the_one_before_and_with_the_first() -> None:
    table = make_table(verdicts(), resamples=50)
    assert table.pairs("tiny") == [("sft", "base"), ("final", "sft"), ("final", "base")]


def test_a_gain_on_every_question_is_told_apart_and_marked() -> None:
    table = make_table(verdicts(gain=0.6), resamples=200)
    found = table.comparison("tiny", "final", "base")
    assert found is not None
    assert found.points == pytest.approx(30.0)  # 0.6 of 2
    assert (found.low, found.high) == (pytest.approx(30.0), pytest.approx(30.0))
    assert found.beats
    mark = table.mark("tiny", "all", "mean")
    assert (mark.best, mark.second, mark.overlap) == ("final", "", False)  # base and sft tie


def test_strategies_that_do_not_differ_get_no_bold_print() -> None:
    table = make_table(verdicts(gain=0.0), resamples=200)
    assert {mark.best for mark in table.marks} == {""}
    assert not any(comparison.told_apart for comparison in table.comparisons)


def test_a_best_that_luck_explains_gets_no_bold_print() -> None:
    ups = [1.0, -0.9, 0.8, -0.7, 0.6, -0.5]
    rows = [verdict("base", f"i{n}", 1.0) for n in range(6)]
    rows += [verdict("sft", f"i{n}", 1.0 + up) for n, up in enumerate(ups)]
    table = make_table(rows, resamples=400)
    sft, base = (table.cell("tiny", name, "foundation", "mean") for name in ("sft", "base"))
    assert sft is not None
    assert base is not None
    assert (sft.percent or 0) > (base.percent or 0)
    assert table.mark("tiny", "foundation", "mean").best == ""


def test_the_second_is_underlined_where_it_stands_above_the_worst() -> None:
    lifts = {"base": 0.0, "sft": 0.4, "final": 0.8}
    rows = [
        verdict(name, f"i{n}", 0.2 + 0.1 * n + lift)
        for name, lift in lifts.items()
        for n in range(8)
    ]
    mark = make_table(rows, resamples=200).mark("tiny", "foundation", "quality")
    assert (mark.best, mark.second) == ("final", "sft")
    assert mark.overlap  # questions differ by more than the strategies do


def test_holm_corrects_the_means_of_the_four_kinds_and_apart_from_them_their_cells() -> None:
    table = make_table(verdicts(), resamples=50)
    for found in table.comparisons:
        assert (found.p_holm is not None) == (found.kind != "all")
        if found.p_holm is not None:
            assert found.p_value is not None
            assert found.p_holm >= found.p_value


def test_models_are_compared_with_themselves_only() -> None:
    rows = verdicts() + verdicts(model="other")[:24]  # the other model has base alone
    table = make_table(rows, resamples=50)
    assert table.models == ("tiny", "other")
    assert table.strategies_of("other") == ["base"]
    assert table.pairs("other") == []
    assert table.cell("other", "final", "all", "mean") is None


def test_the_smallest_visible_difference_follows_from_questions_and_spread() -> None:
    rows = [verdict("base", f"i{n}", 1.0) for n in range(4)]
    rows += [verdict("sft", f"i{n}", 1.0 + up) for n, up in enumerate((0.5, -0.5, 0.5, -0.5))]
    found = make_table(rows, resamples=50).comparison("tiny", "sft", "base", "foundation")
    assert found is not None
    # Differences of ±25 points: standard deviation 25·sqrt(4/3) = 28.8675. Two-sided 5 %, power
    # 80 %: (1.95996 + 0.84162) · 28.8675 / sqrt(4) = 40.437.
    assert found.spread == pytest.approx(28.8675, abs=1e-3)
    assert found.smallest == pytest.approx(40.437, abs=0.01)


def test_an_answer_judged_twice_by_one_judge_is_refused() -> None:
    with pytest.raises(DataError, match="answer 0 to 'i1' is judged twice by a made-up judge"):
        make_table([verdict(), verdict()])


def test_two_judges_of_one_answer_are_averaged_and_named() -> None:
    rows = [verdict(score=2.0), verdict(score=1.0, judge="another")]
    table = make_table(rows, resamples=50)
    assert table.cells[0].percent == 75.0
    assert table.judges == ("a made-up judge", "another")


def test_no_verdict_is_an_error() -> None:
    with pytest.raises(DataError, match="run the benchmark first"):
        make_table([])


def test_table_json_is_the_list_of_cells_with_these_fields(tmp_path: Path) -> None:
    table = make_table(verdicts(), resamples=50)
    for name, text in table_files(table).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    cells = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert len(cells) == len(STRATEGIES) * 4 * 6
    fields = "strategy model kind dimension percent n unscored low high"
    assert all(list(cell) == fields.split() for cell in cells)
    assert {cell["kind"] for cell in cells} == set(KINDS)
    assert read_table(tmp_path) == table


def test_a_damaged_table_says_which_folder(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("[{}]", encoding="utf-8")
    with pytest.raises(ArtefactError, match=tmp_path.name):
        read_table(tmp_path)
