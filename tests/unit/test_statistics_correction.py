"""Corrected means by hand, against the authors' own package, and in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drenpa.core.correction import Pairs, prediction_powered, unconfused
from drenpa.core.errors import ShapeError

NAN = math.nan


def singletons(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def test_a_judge_who_says_nothing_of_people_is_not_heeded() -> None:
    # Judge and people are uncorrelated where both scored: λ = 0, people's mean alone.
    judge, people = [0, 2, 0, 2, 1, 1, 2], [0, 0, 2, 2, NAN, NAN, NAN]
    found = prediction_powered(judge, people, singletons(7))
    assert found.weight == 0
    assert found.percent == 50


def test_a_shifted_judge_is_shifted_back() -> None:
    # The judge always gives 0.5 too much; people scored 4 of 12 answers.
    # Where unseen the judge's mean is 1.25, so true 0.75; where seen people's mean is 1.
    # λ = cov/((1 + 4/8)·var): computed by hand below from the judge's own numbers.
    people = np.array([0, 1, 1, 2, 0, 0, 0.5, 1, 1, 1, 1, 1.5])
    judge = people + 0.5
    seen = np.where(np.arange(12) < 4, people, NAN)
    found = prediction_powered(judge, seen, singletons(12))
    weight = 0.5 / (1.5 * judge.var())
    assert found.weight == pytest.approx(weight)
    assert found.percent == pytest.approx(50 * (weight * 1.25 + 1 - weight * 1.5))
    assert found.low < 50 * people.mean() < found.high


def test_the_corrected_mean_is_that_of_the_authors_package() -> None:
    # ppi_py 0.2.3 gives 0.95 and [0.77963756, 1.12036244] for these columns, by the normal
    # distribution; ours is Student's of 59, with the variance of 60 clusters divided by 59.
    generator = np.random.default_rng(1)
    people = generator.integers(0, 3, 60).astype(float)
    judge = np.clip(people + generator.integers(-1, 2, 60), 0, 2)
    unseen = generator.integers(0, 3, 200).astype(float)
    found = prediction_powered(
        np.concatenate([judge, unseen]), np.append(people, np.full(200, NAN)), singletons(260)
    )
    assert found.percent == pytest.approx(47.5)
    theirs = 50 * (1.12036244 - 0.77963756) / 2
    assert (found.high - found.low) / 2 == pytest.approx(theirs * 2.00100 / 1.95996, rel=0.012)


def test_with_every_answer_scored_by_people_the_judge_is_not_needed() -> None:
    found = prediction_powered([2, 2, 2, 2], [0, 1, 1, 2], singletons(4))
    assert (found.percent, found.weight) == (50, 0)


@pytest.mark.parametrize("labelled", [40, 100])
def test_the_corrected_interval_holds_the_truth_95_times_in_100(labelled: int) -> None:
    # People's true mean is 1 (50 per cent); the judge is 0.3 too kind and noisy; 25 sources of 12
    # answers each share a quarter of the variance; people score a random part.
    generator = np.random.default_rng(3)
    clusters = [f"c{place}" for place in range(25) for _ in range(12)]
    held = biased = 0
    for _ in range(400):
        shared = np.repeat(generator.normal(0, 0.25, 25), 12)
        people = 1 + shared + generator.normal(0, 0.43, 300)
        judge = people + 0.3 + generator.normal(0, 0.3, 300)
        seen = np.full(300, NAN)
        chosen = generator.permutation(300)[:labelled]
        seen[chosen] = people[chosen]
        found = prediction_powered(judge, seen, clusters)
        held += found.low <= 50 <= found.high
        biased += abs(50 * judge.mean() - 50) < abs(found.percent - 50)
    assert held / 400 == pytest.approx(0.95, abs=0.025)
    assert biased / 400 < 0.05


def test_known_confusion_is_undone() -> None:
    # People gave 0, 1, 2 ten times each; the judge takes half of the 0s and of the 1s for one more.
    pairs = [(0, 0)] * 5 + [(1, 0)] * 5 + [(1, 1)] * 5 + [(2, 1)] * 5 + [(2, 2)] * 10
    left, right = zip(*pairs, strict=True)
    # True shares .6, .2, .2 look like .3, .4, .3 to this judge: 1.0 is seen, 0.6 is true.
    judge = [0] * 3 + [1] * 4 + [2] * 3
    found = unconfused([Pairs(judge, left, right, singletons(30))])
    assert found.percent == pytest.approx(30)
    assert found.low < 30 < found.high


def test_a_perfect_judge_is_left_as_it_is() -> None:
    marks = [0, 1, 2] * 10
    pairs = Pairs([2, 2, 1, 0], marks, marks, singletons(30))
    assert unconfused([pairs]).percent == pytest.approx(62.5)
    other = Pairs([0, 0, 0, 1], marks, marks, singletons(30))
    assert unconfused([pairs, other]).percent == pytest.approx((62.5 + 12.5) / 2)


def test_the_undone_confusion_is_near_the_truth_where_the_judge_is_far() -> None:
    generator = np.random.default_rng(12)
    given = np.array([[0.7, 0.3, 0.0], [0.1, 0.5, 0.4], [0.0, 0.1, 0.9]])

    def judged(marks: np.ndarray) -> np.ndarray:
        return np.array([generator.choice(3, p=given[mark]) for mark in marks])

    held, misses = 0, []
    for _ in range(50):
        pairs, truth = generator.integers(0, 3, 150), generator.choice(3, 400, p=[0.5, 0.3, 0.2])
        seen = Pairs(judged(truth), judged(pairs), pairs, singletons(150))
        found = unconfused([seen], resamples=100)
        misses.append(found.percent - 35)
        held += found.low <= 35 <= found.high
    assert abs(np.mean(misses)) < 1.0  # the judge itself is 10 points too kind here
    assert held / 50 >= 0.86


def test_nothing_scored_by_people_leaves_nothing_to_say() -> None:
    assert math.isnan(prediction_powered([1, 2], [NAN, NAN], ["a", "b"]).percent)
    assert math.isnan(unconfused([Pairs([1], [], [], [])]).percent)


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ShapeError):
        prediction_powered([1], [1, 2], ["a"])
    with pytest.raises(ShapeError):
        Pairs([1], [1], [1, 2], ["a"])
