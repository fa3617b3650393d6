"""Agreement statistics against independent implementations, on random ratings with gaps.

The package irrCAC brings pandas; it is asked in an environment of its own.
"""

import json
import math
import subprocess

import numpy as np
import pytest
from tests.environments import own_environment

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
    krippendorff = pytest.importorskip("krippendorff")
    ratings = random_ratings(seed, skew)
    peer = krippendorff.alpha(reliability_data=ratings.T, level_of_measurement=level)
    assert krippendorff_alpha(ratings, level=level) == pytest.approx(peer, abs=1e-9)


PEER = """
import json, sys
import pandas
from irrCAC.raw import CAC
for rows in json.load(sys.stdin):
    found = []
    for weights in ("identity", "ordinal"):
        # the categories are named, since with a recent pandas it takes a gap for one of them
        frame = pandas.DataFrame(rows, dtype=float)
        asked = CAC(frame, weights=weights, categories=[0.0, 1.0, 2.0], digits=12)
        est = asked.gwet()["est"]
        found += [est["coefficient_value"], est["pa"]]
    print(json.dumps(found))
"""


@pytest.mark.slow
def test_gwets_coefficients_are_those_of_the_package_irrcac():
    python = own_environment("irrcac", "irrCAC==0.4.4")
    sets = [random_ratings(seed, skew) for seed, skew in CASES]
    sets = [ratings[~np.isnan(ratings).all(axis=1)] for ratings in sets]
    plain = [
        [[None if math.isnan(v) else v for v in row] for row in ratings.tolist()]
        for ratings in sets
    ]
    done = subprocess.run(
        [python, "-W", "ignore", "-c", PEER],
        input=json.dumps(plain),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for ratings, (ac1, exact, ac2, _) in zip(sets, told, strict=True):
        assert gwet_ac(ratings, weights="identity") == pytest.approx(ac1, abs=1e-9)
        assert gwet_ac(ratings, weights="ordinal") == pytest.approx(ac2, abs=1e-9)
        assert exact_agreement(ratings) == pytest.approx(exact, abs=1e-9)
