"""What a difference of scores is worth: recovered where it is known, and judged on unseen pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drenpa.critic.calibrate import (
    MOST_LOSS,
    Judgements,
    _mean,
    calibration,
    counted_margin,
    cross_fitted,
    fit_slope,
)


def judged(differences, preferred, clusters=None, spread=1.0):
    names = clusters or [str(n) for n in range(len(differences))]
    return Judgements(
        np.asarray(differences, float), np.asarray(preferred, float), tuple(names), spread
    )


def drawn(temperature, pairs=1600, seed=0, weight=0.0):
    """Pairs whose people prefer as the temperature says."""
    generator = np.random.default_rng(seed)
    d_N = generator.normal(size=pairs) * 2
    odds_N = counted_margin(d_N, weight, 0.5) / temperature
    y_N = (generator.random(pairs) < 1 / (1 + np.exp(-odds_N))).astype(float)
    return judged(d_N, y_N, [str(n // 4) for n in range(pairs)])


def test_the_slope_of_pairs_that_are_alike_is_the_log_odds_over_the_difference():
    # 300 of 400 pairs that are 2 apart are right: log(3) / 2; the added pair hardly moves it.
    found = fit_slope(np.full(400, 2.0), np.repeat([1.0, 0.0], [300, 100]))
    assert found == pytest.approx(math.log(3) / 2, rel=0.01)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_recovered(temperature):
    found = calibration(drawn(temperature))
    assert found["temperature"] == pytest.approx(temperature, rel=0.1)
    assert found["error"] < 0.04
    assert found["loss"]["calibrated"]["mean"] <= found["loss"]["raw"]["mean"] + 1e-3


def test_overconfident_scores_lose_less_when_calibrated():
    found = calibration(drawn(4.0))
    assert found["loss"]["calibrated"]["high"] < found["loss"]["raw"]["low"]
    assert found["loss"]["calibrated"]["mean"] < math.log(2)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.sampled_from([0.0, 0.5, 1.0])), min_size=1),
    st.floats(0.1, 10),
)
def test_scores_in_another_unit_have_the_temperature_of_that_unit(rows, unit):
    d_N, y_N = (np.asarray(column) for column in zip(*rows, strict=True))
    slope = fit_slope(d_N, y_N)
    assert slope >= 0
    assert fit_slope(d_N * unit, y_N) * unit == pytest.approx(slope, rel=1e-6, abs=1e-9)
    assert fit_slope(-d_N, 1 - y_N) >= 0


def test_a_critic_that_is_always_right_is_not_infinitely_sure():
    assert 0 < fit_slope(np.linspace(1, 2, 50), np.ones(50)) < 10


def test_differences_that_say_nothing_or_the_opposite_have_no_temperature():
    assert fit_slope(np.zeros(5), np.ones(5)) == 0.0
    assert fit_slope(np.ones(50), np.zeros(50)) == 0.0
    assert calibration(judged([1.0] * 20, [0.0] * 20))["temperature"] is None


def test_no_pair_is_judged_by_a_fit_that_saw_its_cluster():
    seen = []

    def fit(d_N, y_N):
        seen.append(set(d_N.tolist()))
        return lambda held_N: np.where([d in seen[-1] for d in held_N.tolist()], 100.0, 0.0)

    differences = [float(n // 3) for n in range(30)]  # a cluster is three equal differences
    found = cross_fitted(judged(differences, [1.0] * 30, [f"c{n // 3}" for n in range(30)]), fit)
    assert len(seen) == 5
    assert found.tolist() == [0.5] * 30


def test_confidence_bounds_keep_fewer_pairs_that_are_right_more_often():
    rows = calibration(drawn(1.0))["bounds"]
    kept = [row["kept"] for row in rows]
    assert kept == sorted(kept, reverse=True)
    right = [row["right"] for row in rows]
    assert right == sorted(right)
    assert right[-1] > 0.9
    # σ(δ / 1) = 0.9 at δ = log 9.
    assert rows[-1]["difference"] == pytest.approx(math.log(9), rel=0.1)
    assert rows[-1]["pair_floor"] == rows[-1]["difference"]  # the answers' scores spread by 1


def test_a_confidence_becomes_a_floor_in_the_unit_that_rewards_have_after_p4():
    pairs = drawn(2.0)
    pairs = judged(pairs.differences_N, pairs.preferred_N, list(pairs.clusters), spread=4.0)
    for row in calibration(pairs)["bounds"]:
        chance = 1 / (1 + math.exp(-4.0 * row["pair_floor"] / calibration(pairs)["temperature"]))
        assert chance == pytest.approx(row["confidence"])
    even = judged([1.0, -1.0] * 20, [1.0] * 40)
    assert {row["pair_floor"] for row in calibration(even)["bounds"]} == {None}


def test_the_bins_hold_every_pair_once():
    found = calibration(drawn(1.0, pairs=1003))
    assert sum(row["pairs"] for row in found["bins"]) == 1003
    confidences = [row["confidence"] for row in found["bins"]]
    assert confidences == sorted(confidences)
    assert all(row["low"] <= row["right"] <= row["high"] for row in found["bins"])


def test_a_share_and_its_interval_never_leave_0_and_1():
    generator = np.random.default_rng(0)
    d_N = generator.normal(0, 2, 80)
    y_N = (generator.random(80) < 1 / (1 + np.exp(-d_N))).astype(float)
    found = calibration(judged(d_N, y_N, [str(n % 8) for n in range(80)]))  # 8: the jackknife
    rows = [*found["bins"], *found["bounds"]]
    assert all(0 <= row["low"] <= row["right"] <= row["high"] <= 1 for row in rows)
    assert any(row["right"] < row["high"] == 1 for row in rows)


def test_a_mean_is_held_within_what_its_values_can_be():
    # Two clusters: mean ½, each left out in turn 0.4 away from it, so the variance is ½ · 2 · 0.4²
    # and the reach of Student's t with one degree 12.706 · 0.4 = 5.0825.
    values_N, clusters = np.array([0.1, 0.9]), ["a", "b"]
    share = _mean(values_N, clusters)
    loss = _mean(values_N, clusters, most=MOST_LOSS)
    assert share == pytest.approx({"mean": 0.5, "low": 0.0, "high": 1.0})
    assert loss == pytest.approx({"mean": 0.5, "low": 0.0, "high": 5.5825}, abs=1e-4)


def test_the_margin_is_for_p6_where_certainty_grows_as_p6_says_and_not_otherwise():
    straight = calibration(drawn(1.5, pairs=2400))["margin"]
    assert straight["paper_minus_plain"]["mean"] > -1e-3
    curved = calibration(drawn(6.0, pairs=2400, weight=4.0))["margin"]
    assert curved["paper_minus_plain"]["high"] < 0
    assert curved["weight"] > 0


def test_s_of_d_times_d_by_hand():
    # d = 2, w = k = 0.5: 2 · (1 + 0.5 (1 − e^−1)) = 2.632121
    assert counted_margin(np.array([2.0, -2.0]), 0.5, 0.5).tolist() == pytest.approx(
        [2.632121, -2.632121], abs=1e-6
    )


@pytest.mark.parametrize("pairs", [0, 1, 9])
def test_too_few_pairs_are_counted_and_nothing_is_made_of_them(pairs):
    found = calibration(judged([1.0] * pairs, [1.0] * pairs))
    assert found == {"pairs": pairs, "groups": pairs}
