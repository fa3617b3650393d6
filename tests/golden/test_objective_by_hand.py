"""P4 and P6 to P11 against numbers worked by hand.

Rewards are in units of L = ln 2 and the rate k is 1/2, because then exp(-k |d|) is a power of two:

    d    exp(-d/2)   s(d) = 1 + 1/2 (1 - exp(-d/2))
    0    1           1
    2L   1/2         1.25
    4L   1/4         1.375
    6L   1/8         1.4375
"""

import math

import pytest
import torch

from drenpa.core.errors import ShapeError
from drenpa.grpo.objective import (
    Objective,
    advantages,
    flat_groups,
    gradient_mass,
    margin_scale,
    normalise_rewards,
    pair_coverage_advantages,
    pair_loss,
    pairs_in,
    policy_loss,
    scale_by_group,
    weight_by_kind,
)

L = math.log(2)
HALF = {"weight": 0.5, "rate": 0.5}


def t(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def close(found, expected):
    torch.testing.assert_close(found, t(expected), rtol=1e-12, atol=1e-12)


# P4 ---------------------------------------------------------------------------------------------


def test_p4_centres_and_scales_the_whole_batch_and_not_each_row():
    # Mean (2+4+4+4+5+5+7+9)/8 = 5. Squared deviations 9+1+1+1+0+0+4+16 = 32, 32/8 = 4, spread 2.
    rewards_PG = t([[2, 4, 4, 4], [5, 5, 7, 9]])
    close(normalise_rewards(rewards_PG), [[-1.5, -0.5, -0.5, -0.5], [0.0, 0.0, 1.0, 2.0]])


def test_p4_gives_exact_zeros_where_float32_means_round():
    # The float32 mean of many 0.1s is not the float32 0.1, so centring alone leaves a remainder
    # that a division by a tiny spread would blow up.
    rewards = torch.full((7, 3), 0.1, dtype=torch.float32)
    assert torch.equal(normalise_rewards(rewards), torch.zeros(7, 3))


def test_p4_of_one_value_is_zero():
    assert normalise_rewards(t([3.0])).tolist() == [0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_p4_refuses_rewards_that_are_no_numbers(bad):
    with pytest.raises(ValueError, match="finite"):
        normalise_rewards(t([1.0, bad]))


def test_p4_refuses_an_empty_batch():
    with pytest.raises(ShapeError, match="at least one"):
        normalise_rewards(torch.empty(0))


# P6 ---------------------------------------------------------------------------------------------


def test_p6_is_one_at_zero_and_closes_half_the_way_every_two_l():
    close(
        margin_scale(t([0.0, 2 * L, -2 * L, 4 * L, 6 * L, -6 * L]), **HALF),
        [1.0, 1.25, 1.25, 1.375, 1.4375, 1.4375],
    )


def test_p6_ends_at_one_plus_the_weight():
    close(margin_scale(t([1e9, -1e9, math.inf]), weight=0.5, rate=0.5), [1.5, 1.5, 1.5])


def test_p6_knows_weight_and_rate_apart():
    # rate 1, d = 2L: exp(-2L) = 1/4, so s = 1 + 2 (3/4) = 2.5.
    close(margin_scale(t([2 * L]), weight=2.0, rate=1.0), [2.5])


# P7 ---------------------------------------------------------------------------------------------

# Rewards 0, 2L, 6L. The products s(d) d in units of L are, for d = 2L: 1.25 x 2 = 2.5; for d = 4L:
# 1.375 x 4 = 5.5; for d = 6L: 1.4375 x 6 = 8.625. Hence, over G = 3,
#   A_0 = (-2.5 - 8.625)/3 = -11.125/3
#   A_1 = (2.5 - 5.5)/3    = -3/3
#   A_2 = (8.625 + 5.5)/3  = 14.125/3
COVERED = [-11.125 * L / 3, -3 * L / 3, 14.125 * L / 3]


def test_p7_sums_every_scaled_difference_of_a_group():
    rewards_PG = t([[0.0, 2 * L, 6 * L], [6 * L, 0.0, 2 * L], [L, L, L]])
    close(
        pair_coverage_advantages(rewards_PG, **HALF),
        [COVERED, [COVERED[2], COVERED[0], COVERED[1]], [0.0, 0.0, 0.0]],
    )


def test_p7_without_margin_weight_is_the_distance_from_the_mean():
    # Mean of 1, 2, 6 is 3.
    close(pair_coverage_advantages(t([[1, 2, 6]]), weight=0.0, rate=0.5), [[-2.0, -1.0, 3.0]])


def test_p7_leaves_out_pairs_nearer_than_the_floor():
    # Plain differences of 3, 1, 0: d = 2, 3, 1. Without d = 1 the sums are 5, -2, -3.
    table_PG = t([[3.0, 1.0, 0.0]])
    found_PG = pair_coverage_advantages(table_PG, weight=0.0, rate=1.0, floor=1.5)
    close(found_PG, [[5 / 3, -2 / 3, -1.0]])
    close(pair_coverage_advantages(table_PG, weight=0.0, rate=1.0, floor=9.0), [[0.0, 0.0, 0.0]])


def test_p7_lets_the_middle_answer_lose_more_to_the_best_than_it_gains_from_the_worst():
    # 2L lies nearer to 0 than to 6L; plain GRPO gives it 2L - 8L/3 = -2L/3, the margin scale -L.
    plain = pair_coverage_advantages(t([[0.0, 2 * L, 6 * L]]), weight=0.0, rate=0.5)
    close(plain[0, 1], -2 * L / 3)
    close(pair_coverage_advantages(t([[0.0, 2 * L, 6 * L]]), **HALF)[0, 1], -L)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 2, 2)])
def test_p7_and_p8_refuse_what_is_no_table_of_groups(shape):
    rewards = torch.zeros(shape)
    with pytest.raises(ShapeError, match=r"\[prompts, answers >= 2\]"):
        pair_coverage_advantages(rewards, **HALF)
    with pytest.raises(ShapeError, match=r"\[prompts, answers >= 2\]"):
        scale_by_group(rewards, rewards)


# P8 ---------------------------------------------------------------------------------------------


def test_p8_divides_each_row_by_its_own_spread():
    # Row 0: mean 3, deviations all 3, spread 3. Row 1: mean 5, spread 2 (see P4).
    rewards_PG = t([[0, 0, 6, 6, 0, 6, 0, 6], [2, 4, 4, 4, 5, 5, 7, 9]])
    advantages_PG = t([[-6, -3, 3, 6, 0, 9, 0, -9], [2, 4, 6, 8, -2, -4, -6, -8]])
    close(
        scale_by_group(advantages_PG, rewards_PG),
        [[-2, -1, 1, 2, 0, 3, 0, -3], [1, 2, 3, 4, -1, -2, -3, -4]],
    )


@pytest.mark.parametrize("scale", ["std", "none"])
def test_p8_gives_a_row_of_equal_rewards_exact_zeros_whatever_its_advantages(scale):
    rewards_PG = torch.tensor([[0.1] * 7, [0.0] * 6 + [1.0]], dtype=torch.float32)
    noise_PG = torch.full((2, 7), 1e-8)
    found_PG = scale_by_group(noise_PG, rewards_PG, scale=scale)
    assert found_PG[0].tolist() == [0.0] * 7
    assert (found_PG[1] != 0).all()


def test_p8_leaves_the_size_alone_when_it_is_told_to():
    advantages_PG = t([[-6.0, 6.0]])
    assert torch.equal(scale_by_group(advantages_PG, t([[0, 9]]), scale="none"), advantages_PG)


def test_p8_refuses_rewards_of_another_shape():
    with pytest.raises(ShapeError, match="one shape"):
        scale_by_group(torch.zeros(2, 3), torch.zeros(3, 2))


# P9 ---------------------------------------------------------------------------------------------


def test_p9_multiplies_each_prompts_row_by_its_weight():
    close(weight_by_kind(t([[-1, 1], [-2, 2]]), t([4.0, 0.5])), [[-4, 4], [-1, 1]])


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), ()])
def test_p9_refuses_any_other_number_of_weights(shape):
    with pytest.raises(ShapeError, match="one a prompt"):
        weight_by_kind(torch.zeros(2, 3), torch.ones(shape))


def test_p7_p8_p9_follow_each_other():
    # Rewards 0, 2L, 6L: mean 8L/3, deviations (-8, -2, 10) L/3, squares (64 + 4 + 100)/9 = 168/9,
    # their mean 56/9, spread sqrt(56) L/3. So A / spread = (-11.125, -3, 14.125) / sqrt(56), and a
    # foundation question (4) weighs four times a connection question (1).
    root = math.sqrt(56)
    row = [-11.125 / root, -3 / root, 14.125 / root]
    found = advantages(t([[0.0, 2 * L, 6 * L]] * 2), t([4.0, 1.0]), Objective())
    close(found, [[4 * a for a in row], row])


def test_a_group_without_spread_is_told_from_one_with_the_smallest_spread():
    above = torch.nextafter(torch.tensor(0.1), torch.tensor(1.0)).item()
    rewards_PG = torch.tensor([[0.1, 0.1, 0.1], [0.1, 0.1, above]], dtype=torch.float32)
    assert flat_groups(rewards_PG).tolist() == [True, False]


def test_gradient_mass_is_each_prompts_share_of_the_push():
    close(gradient_mass(t([[-3, 3], [-1, 1], [0, 0]])), [0.75, 0.25, 0.0])


def test_gradient_mass_is_zero_when_nothing_pushes():
    assert gradient_mass(torch.zeros(2, 2)).tolist() == [0.0, 0.0]


# P10 --------------------------------------------------------------------------------------------

# Two rows; row 0 has two tokens, row 1 has one and a pad. Clip at [0.8, 1.2], kl_coef 0.1.
#
#   row 0, A = 2:  ratio 3/2 -> min(3.0, 2.4) = 2.4, the clip binds
#                  ratio 1/2 -> min(1.0, 1.6) = 1.0
#   row 1, A = -1: ratio 1/2 -> min(-0.5, -0.8) = -0.8, the clip binds
#   surrogate = -[ (2.4 + 1.0)/2 - 0.8 ] = -0.9        clipped = 1/2 + 1 = 1.5
#
#   d = log ref - log pi: row 0 has ln 2 and 0, row 1 has -ln 2
#   e^d - d - 1:          1 - ln 2 and 0;           ln 2 - 1/2
#   kl = (1 - ln 2)/2 + ln 2 - 1/2 = (ln 2)/2
#   loss = -0.9 + 0.1 (ln 2)/2
#
# Gradient of the loss, a token at a time. Where the clip binds the surrogate gives none, otherwise
# it gives -A ratio / T_row; the divergence gives 0.1 (1 - e^d) / T_row.
#   row 0: 0 + 0.1 (1 - 2)/2 = -0.05;  -(2 x 1/2)/2 + 0 = -0.5      row 1: 0 + 0.1 (1 - 1/2) = 0.05
OLD_NT = [[-1.0, -2.0], [-3.0, -9.0]]
RATIOS_NT = [[1.5, 0.5], [0.5, 7.0]]
DRIFT_NT = [[L, 0.0], [-L, 5.0]]
MASK_NT = torch.tensor([[True, True], [True, False]])


def _by_hand():
    old_NT = t(OLD_NT)
    logprobs_NT = (old_NT + t(RATIOS_NT).log()).requires_grad_()
    reference_NT = logprobs_NT.detach() + t(DRIFT_NT)
    found = policy_loss(
        logprobs_NT, old_NT, reference_NT, t([2.0, -1.0]), MASK_NT, Objective(kl_coef=0.1)
    )
    return logprobs_NT, found


def test_p10_clips_averages_over_tokens_and_sums_over_rows():
    _, found = _by_hand()
    close(found.surrogate, -0.9)
    close(found.clipped, 1.5)
    close(found.kl, L / 2)
    close(found.loss, -0.9 + 0.1 * L / 2)


def test_p10_pushes_each_token_by_its_advantage_unless_the_clip_binds():
    logprobs_NT, found = _by_hand()
    found.loss.backward()
    close(logprobs_NT.grad, [[-0.05, -0.5], [0.05, 0.0]])


def test_p10_on_policy_is_the_plain_policy_gradient():
    # All ratios are 1 and the reference agrees: the gradient is -A / T_row, the loss -sum A.
    logprobs_NT = t([[-1.0, -2.0, -3.0], [-1.0, -1.0, -1.0]]).requires_grad_()
    mask_NT = torch.tensor([[True, True, True], [True, True, False]])
    frozen_NT = logprobs_NT.detach()
    found = policy_loss(logprobs_NT, frozen_NT, frozen_NT, t([3.0, -4.0]), mask_NT, Objective())
    found.loss.backward()
    close(found.loss.detach(), 1.0)
    close(found.kl, 0.0)
    close(found.clipped, 0.0)
    close(logprobs_NT.grad, [[-1.0, -1.0, -1.0], [2.0, 2.0, 0.0]])


def test_p10_has_a_clip_of_its_own_on_either_side():
    # A = 1 and ratios 1.25 and 0.5: the upper bound 1.3 does not bind and the lower never does for
    # a positive A. For A = -1 the lower bound 0.9 binds on 0.5: -0.9; 1.25 is not held.
    old_NT = torch.zeros(2, 2, dtype=torch.float64)
    logprobs_NT = t([[1.25, 0.5], [1.25, 0.5]]).log()
    mask_NT = torch.ones(2, 2, dtype=torch.bool)
    objective = Objective(clip_low=0.1, clip_high=0.3, kl_coef=0.0)
    found = policy_loss(logprobs_NT, old_NT, logprobs_NT, t([1.0, -1.0]), mask_NT, objective)
    close(found.surrogate, -((1.25 + 0.5) / 2 + (-1.25 - 0.9) / 2))
    close(found.clipped, 0.5)


def test_p10_counts_a_row_without_tokens_as_nothing():
    logprobs_NT = t([[-1.0], [-1.0]]).requires_grad_()
    mask_NT = torch.tensor([[True], [False]])
    frozen_NT = logprobs_NT.detach()
    found = policy_loss(logprobs_NT, frozen_NT, frozen_NT, t([1.0, 5.0]), mask_NT, Objective())
    found.loss.backward()
    close(found.loss.detach(), -1.0)
    close(logprobs_NT.grad, [[-1.0], [0.0]])


@pytest.mark.parametrize("odd", range(4))
def test_p10_refuses_axes_that_do_not_agree(odd):
    tables = [torch.zeros(2, 3) for _ in range(3)] + [torch.ones(2, 3, dtype=torch.bool)]
    tables[odd] = tables[odd][:, :2]
    logprobs, old, reference, mask = tables
    with pytest.raises(ShapeError, match=r"\[rows, tokens\]"):
        policy_loss(logprobs, old, reference, torch.zeros(2), mask, Objective())


def test_p10_refuses_another_number_of_advantages():
    zeros, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ShapeError, match="one value a row"):
        policy_loss(zeros, zeros, zeros, torch.zeros(3), mask, Objective())


# P11 --------------------------------------------------------------------------------------------

# One group with rewards 2L, 0, 0; beta 0.8, so s(2L) beta = 1.25 x 0.8 = 1. The log-ratios against
# the reference, summed over tokens, are ln 3, 0 and ln 3.
#   pair (0, 1): x = ln 3, sigmoid(x) = 3/4, loss ln 4/3     pair (0, 2): x = 0, 1/2, loss ln 2
#   answers 1 and 2 are equal and form no pair. The sum is ln 8/3; a weight of 4 makes it 4 ln 8/3.
# Gradient towards a log-ratio: -4 (1 - sigmoid) for the better one, plus for the worse:
#   answer 0: -4 (1/4 + 1/2) = -3;  answer 1: 4/4 = 1;  answer 2: 4/2 = 2, on each token alike.
L3 = math.log(3)
RISES_NT = [[L3 / 2, L3 / 2], [L3, -L3], [L3, 40.0]]
PAIR_MASK_NT = torch.tensor([[True, True], [True, True], [True, False]])


def test_p11_adds_a_logistic_loss_for_every_pair_whose_rewards_differ():
    reference_NT = t([[-1.0, -2.0], [-3.0, -4.0], [-5.0, -6.0]])
    logprobs_NT = (reference_NT + t(RISES_NT)).requires_grad_()
    loss = pair_loss(
        logprobs_NT,
        reference_NT,
        t([[2 * L, 0.0, 0.0]]),
        t([4.0]),
        PAIR_MASK_NT,
        Objective(pair_beta=0.8),
    )
    loss.backward()
    close(loss.detach(), 4 * math.log(8 / 3))
    close(logprobs_NT.grad, [[-3.0, -3.0], [1.0, 1.0], [2.0, 0.0]])


def test_p11_leaves_out_pairs_nearer_than_the_floor():
    # Rewards 3, 1, 0: of the three pairs only (0, 1) and (0, 2) are 1.5 apart, ln 2 each.
    zeros_NT, mask_NT = torch.zeros(3, 1, dtype=torch.float64), torch.ones(3, 1, dtype=torch.bool)
    table_PG, objective = t([[3.0, 1.0, 0.0]]), Objective(pair_floor=1.5)
    loss = pair_loss(zeros_NT, zeros_NT, table_PG, t([1.0]), mask_NT, objective)
    close(loss, 2 * math.log(2))
    assert pairs_in(table_PG, objective.pair_floor) == 2


def test_p11_keeps_groups_apart_and_weighs_each_by_its_kind():
    # Each group is a pair with x = 0, hence ln 2, weighted 4 and 1; the third group is flat.
    zeros_NT = torch.zeros(6, 1, dtype=torch.float64)
    mask_NT = torch.ones(6, 1, dtype=torch.bool)
    loss = pair_loss(
        zeros_NT,
        zeros_NT,
        t([[0, 5], [9, 8], [7, 7]]),
        t([4.0, 1.0, 100.0]),
        mask_NT,
        Objective(),
    )
    close(loss, 5 * L)


def test_pairs_are_counted_where_rewards_differ():
    # 3 of 3; 2 of 3; none.
    assert pairs_in(t([[1, 2, 3], [1, 1, 2], [4, 4, 4]])) == 5


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, 1.0], [[1.0], [1.0]]])
def test_p11_refuses_any_other_number_of_weights(weights):
    zeros, mask = torch.zeros(4, 1), torch.ones(4, 1, dtype=torch.bool)
    with pytest.raises(ShapeError, match="one a prompt"):
        pair_loss(zeros, zeros, torch.zeros(2, 2), torch.tensor(weights), mask, Objective())


def test_p11_refuses_rows_that_do_not_make_up_the_groups():
    zeros, mask = torch.zeros(5, 1), torch.ones(5, 1, dtype=torch.bool)
    with pytest.raises(ShapeError, match="one value a row"):
        pair_loss(zeros, zeros, torch.zeros(2, 2), torch.ones(2), mask, Objective())


def test_the_recipe_and_the_objective_have_the_same_parameters_and_defaults():
    from dataclasses import asdict

    from drenpa.config import ObjectiveConfig

    assert ObjectiveConfig().model_dump() == asdict(Objective())


def test_tokens_of_another_engine_weigh_as_much_as_the_policy_finds_them_likelier_up_to_the_cap():
    logprobs = torch.log(torch.tensor([[0.5, 0.5, 0.5, 0.5]])).requires_grad_()
    sampled = torch.log(torch.tensor([[0.25, 0.1, 0.5, 0.5]]))
    sampled[0, 2] = float("nan")  # not told
    mask = torch.tensor([[True, True, True, False]])
    told = policy_loss(
        logprobs,
        logprobs.detach(),
        logprobs.detach(),
        torch.tensor([3.0]),
        mask,
        Objective(importance_cap=4.0),
        sampled,
    )
    # Ratios of 1, weights 0.5/0.25 = 2, 0.5/0.1 = 5 cut at 4, and 1: a mean of 7/3, times 3.
    assert float(told.surrogate) == pytest.approx(-7.0)
    assert float(told.importance) == pytest.approx(7 / 3)
    told.loss.backward()
    assert logprobs.grad.tolist()[0] == pytest.approx([-2.0, -4.0, -1.0, 0.0])
