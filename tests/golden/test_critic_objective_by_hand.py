"""P1 to P3 against numbers worked by hand.

Scores are in units of L = ln 3, because sigmoid(n L) = 3^n / (3^n + 1):

    d    -ln sigmoid(d)
    -2L  ln 10
    -L   ln 4
    0    ln 2
    L    ln 4/3
    2L   ln 10/9
"""

import math

import pytest
import torch

from drenpa.core.errors import ShapeError
from drenpa.critic.objective import (
    critic_loss,
    critique_loss,
    pairs_in,
    pairs_right,
    score_loss,
)

L = math.log(3)


def t(values):
    return torch.tensor(values, dtype=torch.float64)


def test_p1_sums_over_the_critiques_tokens_and_looks_at_no_others():
    logprobs_NT = t([[-1.0, -2.0, -4.0], [-8.0, -16.0, float("-inf")]])
    critique_NT = torch.tensor([[False, True, True], [True, False, False]])
    assert critique_loss(logprobs_NT, critique_NT).item() == 2 + 4 + 8


def test_p2_takes_every_pair_of_a_ranking_the_better_one_first():
    # Ranks 2, 1, 3 with scores L, 0, -L: the pairs are (second, first): 0 - L,
    # (second, third): 0 + L, (first, third): L + L. 4 * 4/3 * 10/9 = 160/27.
    loss = score_loss(t([[L, 0.0, -L]]), torch.tensor([[2, 1, 3]]))
    assert loss.item() == pytest.approx(math.log(160 / 27), rel=1e-12)


def test_p2_forms_no_pair_of_equal_ranks_and_none_with_padding():
    # Ranks 1, 2, 2: only the two pairs with the first, 2L and L. 10/9 * 4/3 = 40/27.
    # The fourth place is padded and holds no number.
    scores_QK = t([[2 * L, 0.0, L, float("nan")]])
    ranks_QK = torch.tensor([[1, 2, 2, 0]])
    assert score_loss(scores_QK, ranks_QK).item() == pytest.approx(math.log(40 / 27), rel=1e-12)
    assert pairs_in(ranks_QK) == 2
    assert pairs_right(scores_QK, ranks_QK).item() == 2.0


def test_a_margin_asks_for_a_lead_for_each_rank_between_two_answers():
    # Ranks 1, 2, 3 with scores 2L, L, 0 and a margin of L: leads of L, L and 2L are asked for and
    # are there to the bit, so each pair costs ln 2. Nothing is asked across ties and padding.
    loss = score_loss(t([[2 * L, L, 0.0]]), torch.tensor([[1, 2, 3]]), margin=L)
    assert loss.item() == pytest.approx(3 * math.log(2), rel=1e-12)
    tied = score_loss(t([[0.0, 0.0, 5.0]]), torch.tensor([[1, 1, 0]]), margin=L)
    assert tied.item() == 0.0


def test_p2_gives_a_gradient_that_padding_does_not_spoil():
    scores_QK = t([[0.0, 0.0, float("nan")]]).requires_grad_()
    score_loss(scores_QK, torch.tensor([[2, 1, 0]])).backward()
    # d/dx -ln sigmoid(x) = -1/2 at 0, towards the second answer.
    assert scores_QK.grad.tolist() == [[0.5, -0.5, 0.0]]


def test_equal_scores_count_as_half_right():
    assert pairs_right(t([[1.0, 1.0, 0.0]]), torch.tensor([[1, 2, 3]])).item() == 2.5


def test_p3_divides_each_sum_by_its_own_count_and_adds_with_weights():
    # 6/3 = 2 nats a token, 10/4 = 2.5 nats a pair.
    both = critic_loss(t(6.0), t(10.0), tokens=3, pairs=4)
    weighted = critic_loss(
        t(6.0), t(10.0), tokens=3, pairs=4, critique_weight=0.5, score_weight=2.0
    )
    assert both.item() == 4.5
    assert weighted.item() == 6.0


def test_p3_of_a_step_without_true_critiques_or_without_pairs_is_the_other_loss():
    assert critic_loss(t(0.0), t(10.0), tokens=0, pairs=4).item() == 2.5
    assert critic_loss(t(6.0), t(0.0), tokens=3, pairs=0).item() == 2.0


def test_p4_inside_p2_would_be_constant_and_teach_nothing():
    """Why the objective does not normalise: with one pair, P4 makes the scores plus and minus 1."""

    def normalised(raw_QK):
        return (raw_QK - raw_QK.mean()) / raw_QK.std(correction=0)

    ranks_QK = torch.tensor([[1, 2]])
    trapped, free = [], []
    for pair in ([3.0, 1.0], [0.2, -0.7], [50.0, 10.0]):
        raw_QK = t([pair]).requires_grad_()
        loss = score_loss(normalised(raw_QK), ranks_QK)
        loss.backward()
        trapped.append((loss.item(), raw_QK.grad.abs().max().item()))
        raw_QK = t([pair]).requires_grad_()
        score_loss(raw_QK, ranks_QK).backward()
        free.append(raw_QK.grad.abs().max().item())
    # -ln sigmoid(2), whatever the scores.
    assert [value for value, _ in trapped] == pytest.approx([0.12692801104297263] * 3, rel=1e-9)
    assert max(slope for _, slope in trapped) < 1e-15
    assert free[:2] == pytest.approx([1 / (1 + math.exp(2)), 1 / (1 + math.exp(0.9))], rel=1e-9)


def test_tables_of_different_shape_are_refused():
    with pytest.raises(ShapeError, match="questions, answers"):
        score_loss(t([[1.0, 2.0]]), torch.tensor([[1, 2, 3]]))
    with pytest.raises(ShapeError, match="rows, tokens"):
        critique_loss(t([[1.0, 2.0]]), torch.tensor([[True]]))
