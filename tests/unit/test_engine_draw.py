"""Drawing a token: filters, the inverse cumulative distribution, streams."""

from __future__ import annotations

import math

import pytest
import torch

from drenpa.core.roles import Sampling
from drenpa.engine.draw import draw_tokens, row_stream

# Probabilities 0.5, 0.3, 0.15, 0.05 at tokens 2, 0, 3, 1.
LOGITS = torch.tensor([[0.3, 0.05, 0.5, 0.15]]).log()


def reachable(sampling: Sampling, logits=LOGITS, points=2001) -> dict[int, float]:
    """The share of the unit interval that leads to each token."""
    uniforms = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    tokens, _ = draw_tokens(logits.expand(points, -1), uniforms, sampling)
    values, counts = tokens.unique(return_counts=True)
    return dict(zip(values.tolist(), (counts / points).tolist(), strict=True))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), {2: 0.5, 0: 0.3, 3: 0.15, 1: 0.05}),
        (Sampling(top_k=2), {2: 0.625, 0: 0.375}),
        (Sampling(top_k=99), {2: 0.5, 0: 0.3, 3: 0.15, 1: 0.05}),
        # 0.5 is below 0.6, so the token that crosses it stays too.
        (Sampling(top_p=0.6), {2: 0.625, 0: 0.375}),
        (Sampling(top_p=0.3), {2: 1.0}),
        # The floor is 0.25 of 0.5.
        (Sampling(min_p=0.25), {2: 0.5 / 0.95, 0: 0.3 / 0.95, 3: 0.15 / 0.95}),
        # top-k leaves 0.5/0.95, 0.3/0.95, 0.15/0.95: two of them cross 0.8.
        (Sampling(top_k=3, top_p=0.8), {2: 0.625, 0: 0.375}),
        # Squared and renormalised: 0.25, 0.09, 0.0225, 0.0025 of 0.365.
        (Sampling(temperature=0.5), {2: 0.6849, 0: 0.2466, 3: 0.0616, 1: 0.0068}),
    ],
)
def test_each_filter_leaves_the_shares_worked_out_by_hand(sampling, expected):
    assert reachable(sampling) == pytest.approx(expected, abs=2e-3)


def test_the_logprob_is_taken_before_the_filters_and_at_the_temperature():
    _, logprobs = draw_tokens(
        LOGITS, torch.tensor([0.1], dtype=torch.float64), Sampling(top_k=1, temperature=0.5)
    )
    assert logprobs.item() == pytest.approx(math.log(0.25 / 0.365), abs=1e-5)


def test_greedy_takes_the_largest_and_reports_temperature_one():
    tokens, logprobs = draw_tokens(
        LOGITS, torch.tensor([0.99], dtype=torch.float64), Sampling(temperature=0)
    )
    assert tokens.tolist() == [2]
    assert logprobs.item() == pytest.approx(math.log(0.5), abs=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_token_of_no_probability_is_never_drawn(uniform):
    logits = torch.full((1, 1000), -math.inf)
    logits[0, [17, 300, 700]] = 0.0
    tokens, _ = draw_tokens(logits, torch.tensor([uniform], dtype=torch.float64), Sampling())
    assert tokens.item() in (17, 300, 700)


def test_streams_differ_between_neighbouring_rows_and_repeat_with_their_key():
    firsts = {
        row_stream(0, (step, g, r)).random()
        for step in range(3)
        for g in range(4)
        for r in range(5)
    }
    assert len(firsts) == 60


def test_greedy_takes_the_first_of_equals_wherever_it_stands():
    logits = torch.zeros(3, 300)
    logits[0, [5, 200]] = 1.0
    logits[1, [130, 131, 299]] = 2.0
    tokens, _ = draw_tokens(logits, torch.zeros(3, dtype=torch.float64), Sampling(temperature=0))
    assert tokens.tolist() == [5, 130, 0]
