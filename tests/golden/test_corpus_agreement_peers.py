"""Agreement statistics against independent implementations, on random ratings with gaps."""

import math

import numpy as np
import pytest

from drenpa.corpus.audit import exact_agreement, gwet_ac, krippendorff_alpha


def random_ratings(seed, skew):
    draw = np.random.default_rng(seed)
    ratings = draw.choice([0.0, 1, 2], size=(40, 3), p=skew)
    follow = draw.random((40, 3)) < 0.5
    ratings = np.where(follow, ratings[:, :1], ratings)
    ratings[draw.random((40, 3)) < 0.1] = math.nan
    return ratings


CASES = [(seed, skew) for seed in range(5) for skew in ([0.3, 0.3, 0.4], [0.05, 0.1, 0.85])]


@pytest.mark.parametrize(("seed", "skew"), CASES)
@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_is_that_of_the_package_krippendorff(seed, skew, level):
    krippendorff = pytest.importorskip("krippendorff", reason="pip install 'drenpa[agreement]'")
    ratings = random_ratings(seed, skew)
    peer = krippendorff.alpha(reliability_data=ratings.T, level_of_measurement=level)
    assert krippendorff_alpha(ratings, level=level) == pytest.approx(peer, abs=1e-9)


@pytest.mark.parametrize(("seed", "skew"), CASES)
@pytest.mark.parametrize("weights", ["identity", "ordinal"])
def test_gwets_coefficients_are_those_of_the_package_irrcac(seed, skew, weights):
    raw = pytest.importorskip("irrCAC.raw", reason="pip install 'drenpa[agreement]'")
    pandas = pytest.importorskip("pandas")
    ratings = random_ratings(seed, skew)
    ratings = ratings[~np.isnan(ratings).all(axis=1)]
    # the categories are named, since with a recent pandas it takes a gap for one of them
    frame = pandas.DataFrame(ratings)
    peer = raw.CAC(frame, weights=weights, categories=[0.0, 1.0, 2.0], digits=12).gwet()["est"]
    ours = gwet_ac(ratings, weights=weights)
    assert ours == pytest.approx(peer["coefficient_value"], abs=1e-9)
    if weights == "identity":
        assert exact_agreement(ratings) == pytest.approx(peer["pa"], abs=1e-9)
