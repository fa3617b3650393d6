"""The gated and the length-adjusted score by hand and in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.verdict_rows import verdict

from drenpa.core.composites import (
    composite,
    gated,
    length_adjusted,
    length_slope,
    plain,
    usual_length,
)
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Verdict
from drenpa.core.statistics import interval


def scores(**changes: float) -> dict[str, float]:
    return {**dict.fromkeys(DIMENSIONS, 1.0), **changes}


def long(words: int) -> str:
    return " ".join(["word"] * words)


def test_an_irrelevant_answer_earns_nothing_however_rich() -> None:
    assert gated(scores(relevance=0, richness=2)) == 0
    assert plain(scores(relevance=0, richness=2)) == 1.0


def test_an_unsafe_answer_is_vetoed() -> None:
    assert gated(scores(safety=0.4, relevance=2)) == 0


def test_an_answer_that_passes_both_gates_has_its_plain_mean() -> None:
    assert gated(scores(relevance=0.5, safety=0.5)) == plain(scores(relevance=0.5, safety=0.5))


def test_a_composite_leaves_out_answers_that_lack_a_dimension() -> None:
    rows = [verdict(item="a", score=2.0), verdict(item="b", score={"relevance": 1.0})]
    assert interval(composite(rows, plain)).percent == 100.0


def padded(points: float, generator: np.random.Generator) -> list[Verdict]:
    """Two strategies of equal worth, the second four times as long; the judge pays for length."""
    rows = []
    for number in range(40):
        worth = generator.uniform(0.6, 1.0)
        for strategy, times in (("base", 1), ("long", 4)):
            words = int(2 ** generator.uniform(4, 6)) * times
            paid = worth + points / 50 * math.log2((1 + words) / 100)
            rows.append(verdict(strategy, f"q{number}", min(paid, 2), model_answer=long(words)))
    return rows


def test_what_a_judge_pays_for_length_is_found_and_taken_away() -> None:
    rows = padded(4.0, np.random.default_rng(1))
    slope = length_slope(rows)
    assert slope.points == pytest.approx(4.0, abs=1e-6)
    usual = usual_length(rows)
    by_strategy = {name: [row for row in rows if row.strategy == name] for name in ("base", "long")}
    raw = [interval(composite(mine, plain)).percent for mine in by_strategy.values()]
    fair = [interval(length_adjusted(mine, slope, usual)).percent for mine in by_strategy.values()]
    assert raw[1] - raw[0] > 6
    assert fair[1] - fair[0] == pytest.approx(0, abs=1e-6)


def test_a_better_strategy_that_is_longer_is_not_taken_for_padding() -> None:
    # Worth 20 points more and four times as long; the judge pays nothing for length.
    generator = np.random.default_rng(2)
    rows = [
        verdict(
            strategy,
            f"q{number}",
            gain,
            model_answer=long(int(2 ** generator.uniform(4, 6)) * more),
        )
        for number in range(60)
        for strategy, gain, more in (("base", 0.8, 1), ("sft", 1.2, 4))
    ]
    slope = length_slope(rows)
    assert slope.points == pytest.approx(0, abs=1e-6)


def test_the_interval_of_the_slope_holds_the_truth_95_times_in_100() -> None:
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        rows = []
        for number in range(25):
            for strategy in ("base", "sft"):
                words = int(2 ** generator.uniform(3, 7))
                paid = 1 + 0.06 * math.log2((1 + words) / 30) + generator.normal(0, 0.1)
                rows.append(verdict(strategy, f"q{number}", float(paid), model_answer=long(words)))
        slope = length_slope(rows)
        held += slope.low <= 3.0 <= slope.high
    assert held / 200 == pytest.approx(0.95, abs=0.04)


def test_answers_of_one_length_have_no_slope() -> None:
    slope = length_slope([verdict(item=f"q{n}", model_answer="same") for n in range(5)])
    assert slope.points == 0
    assert math.isnan(slope.low)
