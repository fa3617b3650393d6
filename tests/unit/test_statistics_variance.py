"""The split of the variance against a published table and a simulation."""

from __future__ import annotations

import numpy as np
import pytest

from drenpa.core.variance import Opinion, variance_split

# Shrout and Fleiss 1979, table 2: six targets (rows) rated by four judges.
RATINGS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def of_judges(rows: list[list[float]], seed: int = 1) -> list[Opinion]:
    return [
        Opinion(f"q{item}", seed, f"j{judge}", score)
        for item, row in enumerate(rows)
        for judge, score in enumerate(row)
    ]


def test_the_split_is_that_of_shrout_and_fleiss() -> None:
    # Their mean squares: targets 11.24, judges 32.49, residual 1.02. So targets (11.24 − 1.02)/4,
    # judges (32.49 − 1.02)/6; times 50² for points of per cent.
    found = variance_split(of_judges(RATINGS))
    assert found.item == pytest.approx(2500 * (11.24 - 1.02) / 4, rel=2e-3)
    assert found.judge == pytest.approx(2500 * (32.49 - 1.02) / 6, rel=2e-3)
    assert found.rest == pytest.approx(2500 * 1.02, rel=2e-3)
    assert found.seed is None
    assert (found.items, found.seeds, found.judges) == (6, 1, 4)
    assert found.share("judge") == pytest.approx(5.245 / (2.556 + 5.245 + 1.019), abs=2e-3)


def test_three_ways_are_told_apart_in_a_simulation() -> None:
    # Standard deviations 0.4 (item), 0.3 (seed), 0.2 (judge), 0.1 (rest): in points 20, 15, 10, 5.
    generator = np.random.default_rng(8)
    sums = np.zeros(4)
    for _ in range(300):
        scores = (
            generator.normal(0, 0.4, (15, 1, 1))
            + generator.normal(0, 0.3, (1, 4, 1))
            + generator.normal(0, 0.2, (1, 1, 4))
            + generator.normal(0, 0.1, (15, 4, 4))
        )
        found = variance_split(
            Opinion(f"q{i}", s, f"j{j}", float(score))
            for (i, s, j), score in np.ndenumerate(scores)
        )
        sums += [found.item or 0, found.seed or 0, found.judge or 0, found.rest or 0]
    assert sums / 300 == pytest.approx([400, 225, 100, 25], rel=0.12)


def test_questions_alone_have_a_variance_and_nothing_else_is_known() -> None:
    found = variance_split(Opinion(f"q{n}", 1, "j", score) for n, score in enumerate([0, 1, 2]))
    assert found.item == pytest.approx(2500)
    assert (found.seed, found.judge, found.rest) == (None, None, None)


def test_a_question_that_one_judge_left_out_is_left_out() -> None:
    opinions = [*of_judges(RATINGS), Opinion("new", 1, "j0", 0.0)]
    assert variance_split(opinions) == variance_split(of_judges(RATINGS))


def test_nothing_gives_nothing() -> None:
    assert variance_split([]).parts == {}
