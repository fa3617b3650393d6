"""Cells, intervals and tests against closed forms and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from drenpa.core.errors import ShapeError
from drenpa.core.records import Verdict
from drenpa.core.statistics import (
    Scored,
    cell_percent,
    detectable_difference,
    holm,
    interval,
    paired_difference,
    scored_of,
    unscored_of,
)


def scored(
    scores: list[float],
    items: list[str] | None = None,
    clusters: list[str] | None = None,
    seeds: list[int] | None = None,
) -> Scored:
    """By default each score is an item and a cluster of its own, of one seed."""
    names = items or [f"q{number}" for number in range(len(scores))]
    return Scored(
        scores=tuple(scores),
        items=tuple(names),
        clusters=tuple(clusters or names),
        seeds=tuple(seeds or [1] * len(scores)),
    )


def verdict(item: str, **scores: float) -> Verdict:
    reason = "" if len(scores) == 5 else "not said"
    return Verdict.model_validate(
        {
            "item": item,
            "kind": "foundation",
            "cluster": item,
            "strategy": "sft",
            "model": "m",
            "seed": 1,
            "sample": 0,
            "question": "q",
            "model_answer": "a",
            "judge": "j",
            "scores": scores,
            "unscored": reason,
        }
    )


def test_a_cell_is_the_share_of_the_points_that_could_be_had() -> None:
    # P12 by hand: scores 2, 2, 1, 0 of at most 8 points in all are 5/8.
    assert cell_percent([2, 2, 1, 0]) == 62.5
    assert interval(scored([2, 2, 1, 0])).percent == 62.5
    assert math.isnan(cell_percent([]))


def test_samples_of_one_item_count_as_one_item() -> None:
    # q0 averages to 1, q1 is 2: the cell is 1.5 of 2, however often q0 was sampled.
    found = interval(scored([0, 2, 1, 1, 2], items=["q0"] * 4 + ["q1"]))
    assert found.percent == 75.0
    assert (found.answers, found.items, found.clusters) == (5, 2, 2)


def test_unscored_answers_are_left_out_and_counted() -> None:
    rows = [
        verdict("q0", relevance=2, safety=2, quality=2, satisfaction=2, richness=2),
        verdict("q1", relevance=1),
    ]
    assert interval(scored_of(rows, "richness")).percent == 100.0
    assert interval(scored_of(rows, "relevance")).percent == 75.0
    assert unscored_of(rows)["richness"] == 1
    assert unscored_of(rows)["relevance"] == 0


def test_the_mean_of_several_columns_is_the_mean_of_their_cells() -> None:
    columns = [scored([2, 0, 1, 1]), scored([2, 2, 2, 0]), scored([0, 0, 0, 2])]
    assert interval(columns).percent == pytest.approx((50 + 75 + 25) / 3)


def test_columns_that_move_together_have_a_wider_mean_than_columns_that_cancel() -> None:
    up, down = [0.0, 2.0] * 15, [2.0, 0.0] * 15
    together = interval([scored(up), scored(up)])
    against = interval([scored(up), scored(down)])
    assert together.high - together.low > 20
    assert against.high - against.low == pytest.approx(0)


def test_with_one_score_per_cluster_the_interval_is_close_to_students() -> None:
    scores = np.random.default_rng(3).integers(0, 3, 60).astype(float)
    found = interval(scored(scores.tolist()), resamples=20000)
    low, high = stats.t.interval(
        0.95, 59, loc=50 * scores.mean(), scale=50 * scores.std(ddof=1) / math.sqrt(60)
    )
    assert found.low == pytest.approx(low, abs=1.0)
    assert found.high == pytest.approx(high, abs=1.0)


def test_items_that_repeat_within_a_cluster_add_no_certainty() -> None:
    few = [0.0, 2.0, 1.0, 2.0, 0.0, 2.0, 2.0, 1.0]
    one_each = interval(scored(few))
    ten_each = interval(
        scored(
            [score for score in few for _ in range(10)],
            items=[f"q{c}-{i}" for c in range(8) for i in range(10)],
            clusters=[f"c{c}" for c in range(8) for _ in range(10)],
        )
    )
    assert ten_each.percent == one_each.percent
    assert ten_each.low == pytest.approx(one_each.low, abs=2)
    assert ten_each.high == pytest.approx(one_each.high, abs=2)


def test_seeds_that_disagree_widen_the_interval() -> None:
    items = [f"q{number}" for number in range(30)] * 3
    clusters = items
    seeds = [1] * 30 + [2] * 30 + [3] * 30
    agree = interval(scored([1.0] * 90, items, clusters, seeds))
    disagree = interval(scored([0.0] * 30 + [1.0] * 30 + [2.0] * 30, items, clusters, seeds))
    assert (agree.low, agree.high) == (50.0, 50.0)
    assert (disagree.low, disagree.high) == (0.0, 100.0)
    assert disagree.seeds == 3


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2, 0.3, 0.5])
def test_with_several_seeds_p_and_the_interval_tell_the_same(shift: float) -> None:
    draw = np.random.default_rng(7)
    items = [f"q{number}" for number in range(20)] * 3
    seeds = [1] * 20 + [2] * 20 + [3] * 20
    ours = draw.normal(shift, 0.3, 60) + np.repeat([-0.1, 0.0, 0.1], 20)
    found = paired_difference(
        scored(ours.tolist(), items, items, seeds), scored([0.0] * 60, items, items, seeds)
    )
    assert 0 < found.p_value <= 1
    assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
    at_its_level = paired_difference(
        scored(ours.tolist(), items, items, seeds),
        scored([0.0] * 60, items, items, seeds),
        level=1 - found.p_value,
    )
    nearest = min(abs(at_its_level.low), abs(at_its_level.high))
    assert nearest == pytest.approx(0.0, abs=1e-6)


def test_one_cluster_says_nothing_about_others() -> None:
    found = interval(scored([0, 1, 2], clusters=["only"] * 3))
    assert found.percent == 50.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_nothing_scored_is_not_a_number_rather_than_0() -> None:
    assert math.isnan(interval(scored([])).percent)
    assert math.isnan(paired_difference(scored([1], items=["a"]), scored([1], items=["b"])).points)


def held(
    clusters: int, seeds: int, seed_spread: float, *, tables: int = 300, resamples: int = 1000
) -> float:
    """How often the interval of a simulated table holds the truth, 50 per cent: cluster means
    uniform on [0.5, 1.5], four items each with noise, seeds that shift every score."""
    generator = np.random.default_rng(11)
    names = [f"c{c}" for c in range(clusters) for _ in range(4)] * seeds
    items = [f"q{number}" for number in range(4 * clusters)] * seeds
    owners = [seed for seed in range(seeds) for _ in range(4 * clusters)]
    inside = 0
    for _ in range(tables):
        means = generator.uniform(0.5, 1.5, clusters)
        of_items = (means[:, None] + generator.uniform(-0.5, 0.5, (clusters, 4))).ravel()
        shifts = generator.normal(0, seed_spread, seeds)
        scores = [of_items + shift + generator.normal(0, 0.2, len(of_items)) for shift in shifts]
        found = interval(
            scored(np.concatenate(scores).tolist(), items, names, owners), resamples=resamples
        )
        inside += found.low <= 50 <= found.high
    return inside / tables


CASES = [(4, 1, 0), (6, 1, 0), (12, 1, 0), (30, 1, 0), (30, 3, 0.3), (30, 5, 0.1)]


@pytest.mark.parametrize(("clusters", "seeds", "seed_spread"), CASES)
def test_intervals_hold_the_truth_about_95_times_in_100(
    clusters: int, seeds: int, seed_spread: float
) -> None:
    # 300 tables: two standard errors of the count itself are 2.5 of 100.
    assert held(clusters, seeds, seed_spread) == pytest.approx(0.95, abs=0.045)


@pytest.mark.slow
@pytest.mark.parametrize(("clusters", "seeds", "seed_spread"), CASES)
def test_intervals_hold_the_truth_95_times_in_100_give_or_take_two(
    clusters: int, seeds: int, seed_spread: float
) -> None:
    assert held(clusters, seeds, seed_spread, tables=2000) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(("clusters", "seeds"), [(30, 3), (12, 2)])
def test_intervals_of_two_or_three_seeds_are_rather_too_wide(clusters: int, seeds: int) -> None:
    assert 0.94 <= held(clusters, seeds, 0.1) < 1


def test_the_jackknife_of_single_scores_is_students_interval() -> None:
    scores = [0.0, 0.5, 1.0, 1.5, 0.5, 0.0, 1.0]
    found = interval(scored(scores))
    low, high = stats.t.interval(
        0.95, 6, loc=50 * np.mean(scores), scale=50 * np.std(scores, ddof=1) / math.sqrt(7)
    )
    assert found.low == pytest.approx(low)
    assert found.high == pytest.approx(high)


def test_a_paired_difference_sees_what_the_unpaired_intervals_cannot() -> None:
    theirs = [0.0, 1.0] * 20
    ours = [score + (0.1 if place % 4 else 0.2) for place, score in enumerate(theirs)]
    found = paired_difference(scored(ours), scored(theirs))
    assert found.points == pytest.approx(6.25)
    assert 5 < found.low < 6.25 < found.high < 7.5
    assert found.p_value < 0.001
    assert interval(scored(ours)).low < interval(scored(theirs)).high


def test_a_paired_difference_uses_only_the_items_that_both_have() -> None:
    found = paired_difference(
        scored([2, 1, 0], items=["a", "b", "c"]), scored([1, 1, 2], items=["b", "a", "d"])
    )
    assert found.points == 25.0
    assert found.items == 2


def test_sign_flips_agree_with_the_exact_permutation_test_of_scipy() -> None:
    ours = [2.0, 1.5, 1.0, 2.0, 0.5, 1.0, 1.5]
    theirs = [1.0, 1.5, 0.5, 1.0, 1.0, 0.0, 1.0]
    expected = stats.permutation_test(
        (np.array(ours), np.array(theirs)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    assert paired_difference(scored(ours), scored(theirs)).p_value == pytest.approx(expected)


def test_under_no_difference_small_p_values_are_as_rare_as_they_promise() -> None:
    generator = np.random.default_rng(5)
    small = 0
    for number in range(200):
        differences = generator.normal(0, 1, 25)
        found = paired_difference(
            scored(differences.tolist()), scored([0.0] * 25), resamples=50, seed=number
        )
        small += found.p_value < 0.05
    assert 2 <= small <= 20


def test_thirty_items_see_about_20_points_two_sided_and_18_one_sided() -> None:
    # (1.95996 + 0.84162) · 40 / √30 = 20.46 and (1.64485 + 0.84162) · 40 / √30 = 18.16
    assert detectable_difference(30) == pytest.approx(20.46, abs=0.01)
    assert detectable_difference(30, sides=1) == pytest.approx(18.16, abs=0.01)
    assert detectable_difference(30, design_effect=4) == pytest.approx(40.92, abs=0.01)
    assert detectable_difference(0) == math.inf


def test_the_detectable_difference_is_found_about_as_often_as_it_says() -> None:
    # Simulated paired t-tests at the difference that 30 items should see with power 0.8.
    generator = np.random.default_rng(2)
    differences = generator.normal(detectable_difference(30), 40.0, (2000, 30))
    found = stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05
    assert float(np.mean(found)) == pytest.approx(0.79, abs=0.03)


def test_holm_agrees_with_the_textbook() -> None:
    # Sorted p: .005 .01 .03 .04 times 4, 3, 2, 1 → .02 .03 .06 .04, then never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ShapeError, match="must be as long"):
        Scored((1.0,), ("a", "b"), ("a",), (1,))
