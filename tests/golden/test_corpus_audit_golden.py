"""Agreement statistics against published examples and against figures worked by hand."""

import math

import numpy as np
import pytest

from drenpa.core.agreement import exact_agreement, gwet_ac, krippendorff_alpha
from drenpa.core.errors import ShapeError

N = math.nan
# Krippendorff, Computing Krippendorff's alpha-reliability (2011), example C: 12 units, 4 observers.
# The same data are `cac.raw4raters` of Gwet's irrCAC.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
).T


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_agrees_with_krippendorffs_own_example(level, published):
    assert krippendorff_alpha(PUBLISHED, level=level) == pytest.approx(published, abs=5e-4)


def test_ac1_and_exact_agreement_agree_with_gwets_own_package():
    assert gwet_ac(PUBLISHED) == pytest.approx(0.77544, abs=5e-6)
    assert exact_agreement(PUBLISHED) == pytest.approx(0.81818, abs=5e-6)


def test_ac2_worked_by_hand():
    # two raters, three records: (0,0) (0,1) (2,2); categories 0 1 2
    # ordinal weights: same 1, neighbours 1 - 1/3 = 2/3, ends 0
    # observed: (1 + 2/3 + 1)/3 = 8/9
    # prevalence: 0: 3/6, 1: 1/6, 2: 2/6; sum of p(1-p) = 1/4 + 5/36 + 2/9 = 11/18
    # sum of weights: 3 + 4 * 2/3 = 17/3; expected = (17/3)/(3*2) * 11/18 = 187/324
    # AC2 = (8/9 - 187/324)/(1 - 187/324) = (288 - 187)/(324 - 187) = 101/137
    ratings = [[0, 0], [0, 1], [2, 2]]
    assert gwet_ac(ratings, weights="ordinal") == pytest.approx(101 / 137)


def test_ordinal_alpha_worked_by_hand():
    # the same ratings; totals: 0: 3, 1: 1, 2: 2, n = 6; middles: 1.5, 3.5, 5
    # squared distances: 01: 4, 12: 2.25, 02: 12.25
    # observed: one record of two raters disagrees, both ways round: 2*4/(2-1)/6 = 4/3
    # expected: 2*(3*1*4 + 1*2*2.25 + 3*2*12.25)/(6*5) = 2*90/30 = 6; alpha = 1 - (4/3)/6 = 7/9
    assert krippendorff_alpha([[0, 0], [0, 1], [2, 2]]) == pytest.approx(7 / 9)


def test_skewed_scores_part_alpha_and_ac2():
    # 46 of 50 records agree, 45 of them on 2
    ratings = [[2, 2]] * 45 + [[2, 1]] * 4 + [[1, 1]]
    assert exact_agreement(ratings) == pytest.approx(0.92)
    assert krippendorff_alpha(ratings) < 0.35
    assert gwet_ac(ratings, weights="ordinal") > 0.9


def test_perfect_agreement_is_one_and_a_single_category_says_nothing():
    assert krippendorff_alpha([[0, 0], [1, 1]]) == 1.0
    assert gwet_ac([[0, 0], [1, 1]], weights="ordinal") == 1.0
    assert math.isnan(krippendorff_alpha([[2, 2], [2, 2]]))
    assert math.isnan(gwet_ac([[2, 2], [2, 2]]))
    assert gwet_ac([[2, 2], [2, 2]], scale=(0, 1, 2)) == 1.0  # another could have been given
    assert math.isnan(exact_agreement([[2, N], [N, 1]]))


def test_a_list_of_ratings_without_records_is_refused():
    with pytest.raises(ShapeError, match=r"\[records, raters\]"):
        exact_agreement([1, 2, 3])
