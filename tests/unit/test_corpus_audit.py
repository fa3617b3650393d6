"""When a record is accepted, what is disputed, and how agreement is reported."""

import math

import numpy as np
import pytest

from drenpa.core.agreement import exact_agreement, gwet_ac, krippendorff_alpha, redrawn
from drenpa.core.errors import DataError
from drenpa.corpus.audit import (
    AcceptanceRule,
    Rating,
    audit,
    disputes,
    faults_found,
    majority_kind,
    with_interval,
)


def rating(rater="r", **change):
    scores = {"quality": 2, "diversity": 1, "timeliness": 1, "professionalism": 1}
    return Rating(rater=rater, **{"agrees": True, "kind": "foundation", **scores, **change})


def test_three_decent_ratings_accept():
    assert faults_found([rating(), rating(), rating()]) == []


def test_each_reason_against_is_named():
    low = rating(agrees=False, quality=0, diversity=0)
    assert faults_found([low, low, rating()]) == [
        "question and answer do not agree",
        "quality has a median of 0, below 1",
        "diversity has a median of 0, below 1",
        "the mean score is 0.75, below 1",
    ]


def test_the_bar_can_be_set():
    assert faults_found([rating()] * 3, AcceptanceRule(min_mean=1.5)) == [
        "the mean score is 1.25, below 1.5"
    ]


def test_a_bar_that_no_score_reaches_is_refused():
    with pytest.raises(DataError, match="min_mean: 3 is not a score from 0 to 2"):
        AcceptanceRule(min_mean=3)


def test_kinds_all_different_and_scores_two_apart_are_disputed():
    assert disputes([rating(), rating(kind="profession"), rating()]) == []
    assert disputes([rating(), rating(kind="profession"), rating(kind="connection")]) == [
        "kinds: connection, foundation, profession"
    ]
    assert disputes([rating(), rating(quality=0)]) == ["quality: 2, 0"]


def test_of_equally_many_the_first_kind_in_the_papers_order_holds():
    assert majority_kind([rating(kind="connection"), rating(kind="profession")]) == "profession"


def test_an_audit_counts_scores_and_brackets_every_figure():
    rated = [
        [rating(quality=q), rating(quality=q), rating(quality=max(0, q - 1))] for q in (0, 1, 2)
    ] * 5
    result = audit(rated, resamples=200)
    assert (result.records, result.ratings) == (15, 45)
    quality = result.aspects["quality"]
    assert quality.histogram == {0: 20, 1: 15, 2: 10}
    # of the three pairs of a record all agree where q is 0, one elsewhere: (1 + 1/3 + 1/3)/3
    assert quality.exact.value == pytest.approx(5 / 9)
    for figure in (quality.exact, quality.alpha, quality.ac1, quality.ac2):
        assert figure.low <= figure.value <= figure.high
        assert figure.low < figure.high
    assert math.isnan(result.aspects["diversity"].alpha.value)
    assert result.kind_exact.value == 1.0


def test_nothing_rated_gives_no_figures():
    result = audit([])
    assert result.records == 0
    assert math.isnan(result.kind_exact.value)


def test_the_interval_hangs_on_the_seed_alone():
    ratings = np.array([[0.0, 0], [1, 2], [2, 2], [0, 1]])
    one = with_interval("exact", ratings, resamples=50, seed=1)
    assert one == with_interval("exact", ratings, resamples=50, seed=1)
    assert one.value == 0.5


@pytest.mark.parametrize(
    ("figure", "direct"),
    [
        ("exact", exact_agreement),
        ("alpha", krippendorff_alpha),
        ("ac1", lambda rows: gwet_ac(rows, scale=(0, 1, 2))),
        ("ac2", lambda rows: gwet_ac(rows, weights="ordinal", scale=(0, 1, 2))),
    ],
)
def test_figures_of_drawn_records_are_spread_as_when_each_is_drawn_by_hand(figure, direct):
    draw = np.random.default_rng(3)
    ratings = draw.choice([0.0, 1, 2, math.nan], size=(60, 3), p=[0.1, 0.3, 0.5, 0.1])
    ratings[:, 1] = np.where(draw.random(60) < 0.6, ratings[:, 0], ratings[:, 1])
    by_hand = [direct(ratings[draw.integers(0, 60, 60)]) for _ in range(2000)]
    quick = redrawn(figure, ratings, scale=(0, 1, 2), resamples=2000)
    assert np.mean(quick) == pytest.approx(np.mean(by_hand), abs=0.01)
    assert np.std(quick) == pytest.approx(np.std(by_hand), rel=0.08)
