"""Agreement of judge and people against published tables and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from drenpa.core.agreement import confusion, spearman, weighted_kappa


def test_weighted_kappa_of_a_table_worked_by_hand() -> None:
    # 10 answers; squared distances observed: 2·1 + 1·1 + 1·4 = 7 of 10 answers.
    # Rows 4, 3, 3; columns 4, 4, 2. Expected: (4·4·0 + 4·4·1 + 4·2·4 + 3·4·1 + 3·4·0 + 3·2·1
    # + 3·4·4 + 3·4·1 + 3·2·0) / 10 = (16 + 32 + 12 + 6 + 48 + 12) / 10 = 12.6. κ = 1 − 7/12.6.
    table = [[3, 1, 0], [0, 2, 1], [1, 1, 1]]
    observed = 1 + 1 + 4 + 1
    assert observed == 7
    assert weighted_kappa(table) == pytest.approx(1 - 7 / 12.6)


def test_weighted_kappa_is_one_for_agreement_and_minus_one_for_the_opposite() -> None:
    assert weighted_kappa(np.diag([2, 3, 4])) == 1.0
    assert weighted_kappa([[0, 0, 5], [0, 0, 0], [5, 0, 0]]) == -1.0
    assert math.isnan(weighted_kappa([[0, 0, 0], [0, 9, 0], [0, 0, 0]]))


def test_weighted_kappa_of_equal_margins_is_the_intraclass_correlation_of_numbers() -> None:
    # Fleiss and Cohen 1973: with quadratic weights κ is 1 − mean squared difference over
    # (both variances and the squared difference of the means).
    generator = np.random.default_rng(4)
    people = generator.integers(0, 3, 400)
    judge = np.clip(people + generator.integers(-1, 2, 400), 0, 2)
    spread = judge.var() + people.var() + (judge.mean() - people.mean()) ** 2
    expected = 1 - np.mean((judge - people) ** 2) / spread
    assert weighted_kappa(confusion(judge, people)) == pytest.approx(expected)


def test_rank_correlation_agrees_with_scipy_on_ties() -> None:
    generator = np.random.default_rng(6)
    one, other = generator.integers(0, 3, 50), generator.normal(size=50).round(1)
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)
    assert math.isnan(spearman([1, 1, 1], [0, 1, 2]))


def test_a_score_between_marks_is_counted_at_the_nearest() -> None:
    assert confusion([0.4, 1.6], [0, 1]).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
