"""Pair accuracy: what counts, what does not, and how it is told by source, kind and language."""

from __future__ import annotations

import math

import pytest

from drenpa.critic.accuracy import Order, accuracy, accuracy_table
from drenpa.critic.examples import Example


def example(name="q", ranks=(1, 2, 3), kind="foundation", language="en"):
    letters = tuple("abcdef"[: len(ranks)])
    return Example(name, name, kind, language, letters, letters, tuple(ranks), letters)


def test_a_ranking_in_the_right_order_is_right_in_every_pair():
    found = accuracy([Order(example(), (2.0, 1.0, 0.0)), Order(example("r"), (9.0, 8.0, 7.0))])
    assert (found["accuracy"], found["pairs"], found["questions"]) == (1.0, 6, 2)
    assert found["all_pairs"] == 1.0


def test_pairs_count_alike_and_equal_scores_one_half():
    # (a, b) right, (a, c) even, (b, c) wrong: 1.5 of 3; and 1 of 1 in the second: 2.5 of 4.
    orders = [Order(example(), (1.0, 0.0, 1.0)), Order(example("r", (2, 1)), (0.0, 1.0))]
    found = accuracy(orders)
    assert found["accuracy"] == 0.625
    assert found["all_pairs"] == 0.5


def test_answers_of_equal_rank_are_no_pair():
    assert accuracy([Order(example(ranks=(1, 2, 2)), (3.0, 2.0, 1.0))])["pairs"] == 2


def test_an_answer_without_a_score_is_counted_and_not_judged():
    found = accuracy([Order(example(), (2.0, math.nan, 0.0))])
    assert (found["accuracy"], found["pairs"], found["unscored"]) == (1.0, 1, 2)
    assert found["all_pairs"] == 0.0


def test_nothing_to_judge_is_no_figure():
    found = accuracy([])
    assert found["accuracy"] is None
    assert found["low"] is None
    assert found["all_pairs"] is None


def test_the_interval_holds_the_figure_and_draws_whole_questions_again():
    right, wrong = (2.0, 1.0, 0.0), (0.0, 1.0, 2.0)
    orders = [Order(example(f"q{n}"), right if n % 4 else wrong) for n in range(24)]
    found = accuracy(orders)
    assert found["accuracy"] == 0.75
    assert found["low"] < 0.75 < found["high"]
    # 24 questions that are right or wrong as a whole: 0.75 +- 2.07 * sqrt(0.75 * 0.25 / 23).
    # If pairs were drawn alone, the interval would be narrower by the root of three.
    assert found["high"] - found["low"] == pytest.approx(2 * 2.07 * 0.0903, rel=0.15)


def test_the_table_tells_every_source_by_kind_and_by_language():
    examples = [example("q"), example("r", kind="connection", language="zh")]
    rows = {"own": [(2.0, 1.0, 0.0), (0.0, 1.0, 2.0)], "none": [(0.0, 1.0, 2.0)] * 2}
    table = accuracy_table(examples, rows, used="own")
    assert (table["own"]["accuracy"], table["none"]["accuracy"]) == (0.5, 0.0)
    assert table["by_kind"]["foundation"]["own"]["accuracy"] == 1.0
    assert table["by_kind"]["connection"]["own"]["accuracy"] == 0.0
    assert table["by_language"]["zh"]["own"]["pairs"] == 3
    assert table["used"] == "own"
    assert "gold" not in table


def test_gap_and_use_are_told_of_the_same_pairs_everywhere():
    examples = [example("q"), example("r", kind="connection")]
    right, wrong, unknown = (2.0, 1.0, 0.0), (0.0, 1.0, 2.0), (math.nan,) * 3
    rows = {"gold": [right, unknown], "own": [wrong, right], "shuffled": [wrong, wrong]}
    table = accuracy_table(examples, rows, used="own")
    # Gold is known of the first ranking only, where own is wrong in all three pairs.
    assert (table["gap"]["difference"], table["gap"]["pairs"]) == (1.0, 3)
    assert (table["use"]["difference"], table["use"]["pairs"]) == (0.5, 6)
    assert table["by_kind"]["connection"]["use"]["difference"] == 1.0
    assert table["by_kind"]["connection"]["gap"]["difference"] is None
    assert table["by_language"]["en"]["gap"] == table["gap"]
    assert "gap" not in accuracy_table(examples, {"none": [right, right]}, used="none")
