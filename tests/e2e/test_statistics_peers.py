"""Our statistics beside statsmodels and SciPy, wherever they have the same quantity."""

from __future__ import annotations

import json
import math
import subprocess
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.environments import own_environment
from tests.verdict_rows import verdict

from drenpa.core.agreement import confusion, weighted_kappa
from drenpa.core.composites import length_slope
from drenpa.core.statistics import (
    FEW_CLUSTERS,
    Scored,
    _expanded_tail,
    detectable_difference,
    holm,
    interval,
)
from drenpa.core.variance import Opinion, variance_split

pytestmark = pytest.mark.slow

PEER = """
import json, sys
import numpy as np, pandas
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower

given = json.load(sys.stdin)
told = {"holm": [list(multipletests(p, method="holm")[1]) for p in given["p_values"]]}
told["kappa"] = [
    float(cohens_kappa(np.array(t), wt="quadratic", return_results=False)) for t in given["tables"]
]
told["detectable"] = [
    40 * NormalIndPower().solve_power(
        nobs1=n, alpha=0.05, power=power, ratio=0,
        alternative="two-sided" if sides == 2 else "larger",
    )
    for n, power, sides in given["powers"]
]
frame = pandas.DataFrame(given["clustered"])
groups = {"groups": frame["cluster"]}
found = ols("score ~ 1", frame).fit(cov_type="cluster", cov_kwds=groups, use_t=True)
told["clustered"] = [found.params.iloc[0], *found.conf_int().iloc[0]]
frame = pandas.DataFrame(given["lengths"])
found = ols("score ~ length + C(item) + C(strategy)", frame).fit(
    cov_type="cluster", cov_kwds={"groups": frame["cluster"], "use_correction": False}
)
told["slope"] = [found.params["length"], found.bse["length"]]
frame = pandas.DataFrame(given["crossed"])
table = anova_lm(ols("score ~ C(item) + C(judge)", frame).fit())
told["squares"] = dict(zip(("item", "judge", "rest"), table["mean_sq"]))
print(json.dumps(told))
"""

P_VALUES = [[0.01, 0.04, 0.03, 0.005], [0.9, 0.8], [0.2] * 5, [1e-9, 0.5, 0.049, 0.05, 0.051, 1.0]]
POWERS = [(30, 0.8, 2), (30, 0.8, 1), (200, 0.9, 2), (12, 0.5, 1)]
CLUSTERS, EACH = 8, 4


@pytest.fixture(scope="module")
def material() -> dict[str, Any]:
    draw = np.random.default_rng(7)
    tables = []
    for _ in range(4):
        people = draw.integers(0, 3, 60)
        tables.append(confusion(np.clip(people + draw.integers(-1, 2, 60), 0, 2), people).tolist())
    shared = draw.normal(1.0, 0.3, CLUSTERS).repeat(EACH)
    scores = np.clip(shared + draw.normal(0, 0.2, CLUSTERS * EACH), 0, 2)
    clusters = [f"c{number // EACH:02}" for number in range(CLUSTERS * EACH)]
    rows = [
        {
            "item": f"q{item}",
            "strategy": strategy,
            "cluster": f"c{item // 3}",
            "words": int(draw.integers(5, 200)),
            "worth": float(draw.uniform(0.4, 1.6)),
        }
        for item in range(24)
        for strategy in ("base", "sft", "final")
    ]
    crossed = [
        {"item": item, "judge": judge, "score": float(draw.uniform(0, 2))}
        for item in range(9)
        for judge in range(4)
    ]
    return {
        "p_values": P_VALUES,
        "tables": tables,
        "powers": POWERS,
        "clustered": {"score": scores.tolist(), "cluster": clusters},
        "rows": rows,
        "lengths": [
            {**row, "length": math.log2(1 + row["words"]), "score": 50 * row["worth"]}
            for row in rows
        ],
        "crossed": crossed,
    }


@pytest.fixture(scope="module")
def peer(material: dict[str, Any]) -> dict[str, Any]:
    python = own_environment("statsmodels", "statsmodels==0.15.0")
    done = subprocess.run(
        [python, "-c", PEER], input=json.dumps(material), capture_output=True, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def columns(scores: list[float], clusters: list[str]) -> Scored:
    items = tuple(f"q{number}" for number in range(len(scores)))
    return Scored(tuple(scores), items, tuple(clusters), (1,) * len(scores))


def test_holm_is_that_of_statsmodels(peer: dict[str, Any]) -> None:
    for p_values, expected in zip(P_VALUES, peer["holm"], strict=True):
        assert holm(p_values) == pytest.approx(expected, abs=1e-12)


def test_quadratic_kappa_is_that_of_statsmodels(
    material: dict[str, Any], peer: dict[str, Any]
) -> None:
    for table, expected in zip(material["tables"], peer["kappa"], strict=True):
        assert weighted_kappa(table) == pytest.approx(expected, abs=1e-12)


def test_what_can_be_seen_is_what_statsmodels_power_says(peer: dict[str, Any]) -> None:
    for (items, power, sides), expected in zip(POWERS, peer["detectable"], strict=True):
        ours = detectable_difference(items, power=power, sides=sides)  # type: ignore[arg-type]
        # theirs counts the two-sided test's other tail too, which is next to nothing
        assert ours == pytest.approx(expected, rel=1e-4)


def test_the_jackknife_of_equal_clusters_is_the_cluster_robust_interval_of_statsmodels(
    material: dict[str, Any], peer: dict[str, Any]
) -> None:
    assert CLUSTERS < FEW_CLUSTERS
    ours = interval(columns(**{f"{name}s": v for name, v in material["clustered"].items()}))
    middle, low, high = (50 * value for value in peer["clustered"])
    assert (ours.percent, ours.low, ours.high) == pytest.approx((middle, low, high), abs=1e-9)


def test_the_length_slope_is_that_of_a_regression_with_questions_and_strategies(
    material: dict[str, Any], peer: dict[str, Any]
) -> None:
    rows = [
        verdict(
            row["strategy"],
            row["item"],
            row["worth"],
            cluster=row["cluster"],
            model_answer="word " * row["words"],
        )
        for row in material["rows"]
    ]
    ours = length_slope(rows)
    slope, error = peer["slope"]
    count = len({row["cluster"] for row in material["rows"]})
    reach = stats.t.ppf(0.975, count - 1) * error * math.sqrt(count / (count - 1))
    assert ours.points == pytest.approx(slope, abs=1e-6)
    assert (ours.low, ours.high) == pytest.approx((slope - reach, slope + reach), abs=1e-6)


def test_the_split_of_the_spread_is_that_of_the_mean_squares_of_statsmodels(
    material: dict[str, Any], peer: dict[str, Any]
) -> None:
    ours = variance_split(
        Opinion(f"q{row['item']}", 1, f"j{row['judge']}", row["score"])
        for row in material["crossed"]
    )
    squares = {name: 2500 * value for name, value in peer["squares"].items()}
    assert ours.item == pytest.approx(max(0, (squares["item"] - squares["rest"]) / 4))
    assert ours.judge == pytest.approx(max(0, (squares["judge"] - squares["rest"]) / 9))
    assert ours.rest == pytest.approx(squares["rest"])


def test_the_cluster_bootstrap_is_that_of_scipy_on_sums_and_counts() -> None:
    draw = np.random.default_rng(3)
    sizes = draw.integers(1, 7, 20)
    clusters = [f"c{number:02}" for number, size in enumerate(sizes) for _ in range(size)]
    worth = np.repeat(draw.normal(1, 0.3, 20), sizes)
    scores = np.clip(worth + draw.normal(0, 0.3, len(worth)), 0, 2)
    ours = interval(columns(scores.tolist(), clusters), resamples=20_000)
    ends = np.cumsum(sizes)
    sums = np.array([part.sum() for part in np.split(scores, ends[:-1])])
    theirs = stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis: 50 * s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        confidence_level=1 - 2 * _expanded_tail(0.025, 20),
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.25)
