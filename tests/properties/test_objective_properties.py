"""What holds of P4 and P6 to P11 for any rewards and any log-probabilities.

The float64 tests compare to 1e-12, relative to the size of what is compared.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from drenpa.grpo.objective import (
    Objective,
    advantages,
    gradient_mass,
    margin_scale,
    normalise_rewards,
    pair_coverage_advantages,
    pair_loss,
    pairs_in,
    policy_loss,
    scale_by_group,
)

PLAIN = Objective(margin_weight=0.0)
rates = st.floats(0.01, 5.0)
weights = st.floats(0.0, 4.0)
rewards = st.floats(-50, 50).map(lambda value: round(value, 3))
seeds = st.integers(0, 2**31 - 1)


@st.composite
def tables(draw, values=rewards, prompts=4, group=6):
    """[P, G] float64 rewards; small whole numbers among them, so that ties and flat rows occur."""
    rows, columns = draw(st.integers(1, prompts)), draw(st.integers(2, group))
    value = st.one_of(values, st.integers(-2, 2).map(float))
    cells = draw(st.lists(value, min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(cells, dtype=torch.float64).view(rows, columns)


@st.composite
def objectives(draw):
    return Objective(
        margin_weight=draw(weights),
        margin_rate=draw(rates),
        pair_floor=draw(st.sampled_from([0.0, 0.5, 5.0])),
        group_scale=draw(st.sampled_from(["std", "none"])),
        kl_coef=draw(st.floats(0, 1)),
        pair_beta=draw(st.floats(0.01, 2)),
    )


@st.composite
def steps(draw):
    """A step of P groups of G rows: log-probabilities old, new and reference, mask, rewards."""
    prompts, group, tokens = (
        draw(st.integers(1, 3)),
        draw(st.integers(2, 4)),
        draw(st.integers(1, 5)),
    )
    source = torch.Generator().manual_seed(draw(seeds))

    def normal(*shape):
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    rows = prompts * group
    old_NT = -normal(rows, tokens).abs() - 0.1
    lengths_N = torch.randint(1, tokens + 1, (rows,), generator=source)
    return {
        "new": old_NT + 0.3 * normal(rows, tokens),
        "old": old_NT,
        "reference": old_NT + 0.3 * normal(rows, tokens),
        "mask": torch.arange(tokens) < lengths_N.unsqueeze(1),
        "rewards": normal(prompts, group),
        "weights": 0.5 + normal(prompts).abs(),
        "group": group,
    }


def same(found, expected, tolerance=1e-12):
    size = max(1.0, float(expected.abs().max()) if expected.numel() else 1.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * size)


def ones(rewards_PG):
    return torch.ones(len(rewards_PG), dtype=rewards_PG.dtype)


# P6 ---------------------------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), weights, rates)
def test_the_margin_scale_lies_between_one_and_one_plus_its_weight(difference, weight, rate):
    scale = margin_scale(torch.tensor(difference, dtype=torch.float64), weight=weight, rate=rate)
    assert 1.0 <= scale.item() <= 1.0 + weight


@given(st.floats(-20, 20), st.floats(-20, 20), weights, rates)
def test_the_margin_scale_is_even_and_grows_with_the_distance(left, right, weight, rate):
    def scale(difference):
        value = torch.tensor(difference, dtype=torch.float64)
        return margin_scale(value, weight=weight, rate=rate).item()

    assert scale(left) == scale(-left)
    near, far = sorted((left, right), key=abs)
    assert scale(near) <= scale(far)


# P4, P7, P8, P9 ---------------------------------------------------------------------------------


def grpo_by_numpy(rewards_PG):
    """Plain GRPO, as the papers have it: the standard score within each group."""
    table = rewards_PG.numpy()
    out = np.zeros_like(table)
    for row, values in enumerate(table):
        if len(set(values.tolist())) > 1:
            out[row] = (values - values.mean()) / values.std()
    return torch.from_numpy(out)


@given(tables(), rates)
def test_no_margin_weight_and_unit_weights_are_plain_grpo(rewards_PG, rate):
    found = advantages(rewards_PG, ones(rewards_PG), Objective(margin_weight=0.0, margin_rate=rate))
    same(found, grpo_by_numpy(rewards_PG))


@given(tables(), rates)
def test_no_margin_weight_and_no_scale_are_the_distance_from_the_groups_mean(rewards_PG, rate):
    objective = Objective(margin_weight=0.0, margin_rate=rate, group_scale="none")
    expected = torch.tensor(
        [[cell - math.fsum(row) / len(row) for cell in row] for row in rewards_PG.tolist()],
        dtype=torch.float64,
    )
    same(advantages(rewards_PG, ones(rewards_PG), objective), expected)


def by_loops(rewards_PG, weights_P, w, k):
    """P4, P7, P8 and P9 again, in plain Python, one pair after another."""
    everything = [cell for row in rewards_PG for cell in row]
    mean = math.fsum(everything) / len(everything)
    spread = math.sqrt(math.fsum((cell - mean) ** 2 for cell in everything) / len(everything))
    out = []
    for row, weight in zip(rewards_PG, weights_P, strict=True):
        if max(row) == min(row):
            out.append([0.0] * len(row))
            continue
        standard = [(cell - mean) / spread for cell in row]
        centre = math.fsum(standard) / len(standard)
        width = math.sqrt(math.fsum((cell - centre) ** 2 for cell in standard) / len(standard))
        line = []
        for mine in standard:
            pushes = []
            for other in standard:
                gap = abs(mine - other)
                strength = (1 + w * (1 - math.exp(-k * gap))) * gap
                pushes.append(strength if mine > other else -strength)
            line.append(weight * math.fsum(pushes) / len(pushes) / width)
        out.append(line)
    return torch.tensor(out, dtype=torch.float64)


@given(tables(), weights, rates, seeds)
def test_the_whole_chain_agrees_with_a_second_writing_of_it(rewards_PG, weight, rate, seed):
    weights_P = torch.rand(
        len(rewards_PG), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    found = advantages(
        normalise_rewards(rewards_PG),
        weights_P,
        Objective(margin_weight=weight, margin_rate=rate),
    )
    expected = by_loops(rewards_PG.tolist(), weights_P.tolist(), weight, rate)
    same(found, expected, tolerance=1e-9)  # two orders of summation, and groups that nearly agree


@given(tables(), weights, rates, st.one_of(st.just(0.0), st.floats(0, 60)))
def test_advantages_of_a_group_sum_to_zero(rewards_PG, weight, rate, floor):
    found = pair_coverage_advantages(rewards_PG, weight=weight, rate=rate, floor=floor)
    bound = 1e-12 * max(1.0, float(found.abs().max())) * rewards_PG.shape[1]
    assert (found.sum(dim=1).abs() <= bound).all()


@given(tables(), objectives())
def test_turning_every_reward_around_turns_every_advantage_around(rewards_PG, objective):
    found = advantages(rewards_PG, ones(rewards_PG), objective)
    same(advantages(-rewards_PG, ones(rewards_PG), objective), -found)


@given(tables(), objectives(), st.floats(-100, 100))
def test_a_shift_of_all_rewards_changes_nothing(rewards_PG, objective, shift):
    rewards_PG = rewards_PG.round(decimals=3)
    shift = round(shift)
    before = advantages(normalise_rewards(rewards_PG), ones(rewards_PG), objective)
    moved_PG = (rewards_PG + shift).round(decimals=3)
    after = advantages(normalise_rewards(moved_PG), ones(rewards_PG), objective)
    same(after, before, tolerance=1e-9)


@given(tables(), objectives(), st.integers(-3, 10))
def test_another_unit_of_the_rewards_changes_nothing(rewards_PG, objective, power):
    # A power of two, so that the scaled rewards are exact.
    before = advantages(normalise_rewards(rewards_PG), ones(rewards_PG), objective)
    scaled_PG = rewards_PG * 2.0**power
    same(advantages(normalise_rewards(scaled_PG), ones(rewards_PG), objective), before)


@given(tables(), objectives(), seeds)
def test_the_order_of_answers_and_of_prompts_is_of_no_account(rewards_PG, objective, seed):
    source = torch.Generator().manual_seed(seed)
    prompts = torch.randperm(rewards_PG.shape[0], generator=source)
    answers = torch.randperm(rewards_PG.shape[1], generator=source)
    weights_P = 1.0 + torch.arange(len(rewards_PG), dtype=torch.float64)
    before = advantages(rewards_PG, weights_P, objective)
    after = advantages(rewards_PG[prompts][:, answers], weights_P[prompts], objective)
    same(after, before[prompts][:, answers])


@given(tables(), objectives())
def test_a_better_answer_is_pushed_no_less_than_a_worse_one(rewards_PG, objective):
    found = advantages(rewards_PG, ones(rewards_PG), objective)
    for row, pushed in zip(rewards_PG, found, strict=True):
        in_order = pushed[row.argsort(stable=True)]
        assert (in_order.diff() >= -1e-12 * max(1.0, float(pushed.abs().max()))).all()


@given(tables(), objectives(), st.floats(0.25, 8))
def test_a_kinds_weight_multiplies_its_advantages_and_does_not_cancel(
    rewards_PG, objective, weight
):
    unit = advantages(rewards_PG, ones(rewards_PG), objective)
    same(advantages(rewards_PG, weight * ones(rewards_PG), objective), weight * unit)


@given(tables(), st.floats(0.25, 8))
def test_a_weight_on_the_rewards_would_have_cancelled(rewards_PG, weight):
    # Why P9 stands after P8: for plain GRPO the same weight on the rewards leaves no trace.
    unit = advantages(rewards_PG, ones(rewards_PG), PLAIN)
    same(advantages(weight * rewards_PG, ones(rewards_PG), PLAIN), unit, tolerance=1e-11)


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6),
    st.integers(1, 5),
    st.integers(2, 17),
    objectives(),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_equal_rewards_earn_exactly_nothing_in_any_precision(
    value, prompts, group, objective, dtype
):
    rewards_PG = torch.full((prompts, group), value, dtype=dtype)
    assert not normalise_rewards(rewards_PG).any()
    assert not advantages(rewards_PG, ones(rewards_PG), objective).any()
    assert pairs_in(rewards_PG) == 0


@given(
    st.floats(width=32, min_value=-100, max_value=100),
    tables(values=st.floats(width=32, min_value=-100, max_value=100)),
    objectives(),
)
def test_a_flat_group_among_others_earns_exactly_nothing_after_p4(value, rewards_PG, objective):
    flat_1G = torch.full((1, rewards_PG.shape[1]), value, dtype=torch.float64)
    both = normalise_rewards(torch.cat([rewards_PG, flat_1G]).float())
    found = advantages(both, torch.ones(len(both)), objective)
    assert not found[-1].any()
    assert torch.isfinite(found).all()


@given(tables(values=st.floats(width=32, min_value=-100, max_value=100)), objectives())
def test_no_finite_rewards_make_an_advantage_that_is_no_number(rewards_PG, objective):
    single_PG = normalise_rewards(rewards_PG.float())
    assert torch.isfinite(single_PG).all()
    assert torch.isfinite(advantages(single_PG, torch.ones(len(single_PG)), objective)).all()


@given(tables())
def test_the_batch_is_standard_after_p4(rewards_PG):
    assume(rewards_PG.unique().numel() > 1)
    found = normalise_rewards(rewards_PG).numpy()
    assert abs(found.mean()) < 1e-9
    assert abs(found.std() - 1) < 1e-9


@given(tables(), objectives())
def test_shares_of_the_push_sum_to_one_where_anything_pushes(rewards_PG, objective):
    found = gradient_mass(advantages(rewards_PG, ones(rewards_PG), objective))
    far_P = rewards_PG.amax(1) - rewards_PG.amin(1)
    spread = ((far_P > 0) & (far_P >= objective.pair_floor)).any()
    assert (found >= 0).all()
    assert abs(found.sum().item() - float(spread)) < 1e-12


@given(tables())
def test_pairs_are_those_that_a_loop_counts(rewards_PG):
    expected = sum(
        row[i] > row[j]
        for row in rewards_PG.tolist()
        for i in range(len(row))
        for j in range(len(row))
    )
    assert pairs_in(rewards_PG) == expected


def test_scaling_by_the_group_sees_no_other_group():
    rewards_PG = torch.tensor([[1.0, 2.0, 4.0], [100.0, -100.0, 0.0]], dtype=torch.float64)
    both = scale_by_group(rewards_PG, rewards_PG)
    alone = torch.cat(
        [scale_by_group(rewards_PG[i : i + 1], rewards_PG[i : i + 1]) for i in (0, 1)]
    )
    same(both, alone)


# P10, P11 ---------------------------------------------------------------------------------------


def whole_loss(step, objective, rows=None, *, pads=0, garbage=0.0):
    """P10 and P11 of some rows of a step, and the gradient in their log-probabilities.

    rows: indices of whole groups; pads: columns of `garbage` put behind, masked out.
    """
    groups = list(range(len(step["rewards"]))) if rows is None else rows
    group = step["group"]
    index = torch.tensor([g * group + i for g in groups for i in range(group)], dtype=torch.long)

    def padded(name):
        table = step[name][index]
        extra = torch.full((len(index), pads), garbage, dtype=table.dtype)
        return torch.cat([table, extra], dim=1)

    mask = torch.cat([step["mask"][index], torch.zeros(len(index), pads, dtype=torch.bool)], dim=1)
    new = padded("new").requires_grad_()
    rewards_PG, weights_P = step["rewards"][groups], step["weights"][groups]
    advantages_N = advantages(rewards_PG, weights_P, objective).flatten()
    policy = policy_loss(new, padded("old"), padded("reference"), advantages_N, mask, objective)
    pairs = pair_loss(new, padded("reference"), rewards_PG, weights_P, mask, objective)
    (policy.loss + pairs).backward()
    values = torch.stack([policy.loss, policy.surrogate, policy.kl, policy.clipped, pairs]).detach()
    return values, new.grad, index


@given(steps(), objectives(), st.integers(1, 4), st.sampled_from([0.0, -1e30, math.nan, math.inf]))
def test_padding_is_of_no_account_whatever_it_holds(step, objective, pads, garbage):
    plain, grad, _ = whole_loss(step, objective)
    filled, wide_grad, _ = whole_loss(step, objective, pads=pads, garbage=garbage)
    same(filled, plain)
    tokens = grad.shape[1]
    same(wide_grad[:, :tokens], grad)
    assert not wide_grad[:, tokens:].any()
    assert not grad[~step["mask"]].any()


@given(steps(), objectives())
def test_micro_batches_add_up_to_the_step(step, objective):
    whole, grad, _ = whole_loss(step, objective)
    parts = [whole_loss(step, objective, [g]) for g in range(len(step["rewards"]))]
    same(sum(values for values, _, _ in parts), whole)
    same(torch.cat([part for _, part, _ in parts]), grad)


@given(steps(), objectives(), st.randoms(use_true_random=False))
def test_the_order_of_groups_does_not_change_the_loss(step, objective, random):
    order = list(range(len(step["rewards"])))
    random.shuffle(order)
    whole, grad, _ = whole_loss(step, objective)
    shuffled, shuffled_grad, index = whole_loss(step, objective, order)
    same(shuffled, whole)
    same(shuffled_grad, grad[index])


@given(steps(), objectives(), seeds)
def test_the_order_of_answers_does_not_change_the_loss(step, objective, seed):
    order = torch.randperm(step["group"], generator=torch.Generator().manual_seed(seed))
    index = torch.cat([g * step["group"] + order for g in range(len(step["rewards"]))])
    moved = {name: step[name][index] for name in ("new", "old", "reference", "mask")}
    moved = {**step, **moved, "rewards": step["rewards"][:, order]}
    whole, grad, _ = whole_loss(step, objective)
    shuffled, shuffled_grad, _ = whole_loss(moved, objective)
    same(shuffled, whole)
    same(shuffled_grad, grad[index])


@given(steps(), objectives())
def test_the_divergence_is_never_negative_and_zero_where_the_models_agree(step, objective):
    values, _, _ = whole_loss(step, objective)
    assert values[2] >= 0
    agreeing, _, _ = whole_loss({**step, "reference": step["new"]}, objective)
    assert agreeing[2] == 0


@given(steps(), st.floats(0.01, 2))
def test_p10_agrees_with_a_second_writing_of_it(step, kl_coef):
    objective = Objective(clip_low=0.1, clip_high=0.25, kl_coef=kl_coef)
    advantages_N = torch.linspace(-2, 2, len(step["new"]), dtype=torch.float64)
    found = policy_loss(
        step["new"], step["old"], step["reference"], advantages_N, step["mask"], objective
    )
    expected = 0.0
    for row, push in enumerate(advantages_N.tolist()):
        length = int(step["mask"][row].sum())
        for token in range(length):  # the mask is a prefix
            new, old, ref = (float(step[n][row, token]) for n in ("new", "old", "reference"))
            ratio = math.exp(new) / math.exp(old)
            gain = push * min(ratio, 1.25) if push > 0 else push * max(ratio, 0.9)
            divergence = math.exp(ref) / math.exp(new) - (ref - new) - 1
            expected += (-gain + kl_coef * divergence) / length
    assert abs(found.loss.item() - expected) < 1e-10


@given(steps(), objectives())
def test_p11_agrees_with_a_second_writing_of_it(step, objective):
    found, _, _ = whole_loss(step, replace(objective, kl_coef=0.0))
    gains = ((step["new"] - step["reference"]) * step["mask"]).sum(dim=1).tolist()
    group, expected = step["group"], 0.0
    for p, row in enumerate(step["rewards"].tolist()):
        for i in range(group):
            for j in range(i):
                best, worst = (i, j) if row[i] > row[j] else (j, i)
                gap = row[best] - row[worst]
                if gap < objective.pair_floor:
                    continue
                strength = 1 + objective.margin_weight * (
                    1 - math.exp(-objective.margin_rate * gap)
                )
                rise = gains[p * group + best] - gains[p * group + worst]
                logit = strength * objective.pair_beta * rise
                expected += step["weights"][p].item() * math.log(1 + math.exp(-logit))
    assert abs(found[4].item() - expected) < 1e-9 * max(1.0, expected)


@given(steps(), objectives(), st.floats(0.25, 8))
def test_a_kinds_weight_multiplies_both_losses(step, objective, weight):
    objective = replace(objective, kl_coef=0.0)
    heavier = {**step, "weights": weight * step["weights"]}
    light, light_grad, _ = whole_loss(step, objective)
    heavy, heavy_grad, _ = whole_loss(heavier, objective)
    same(heavy[[0, 1, 4]], weight * light[[0, 1, 4]], tolerance=1e-11)
    same(heavy_grad, weight * light_grad, tolerance=1e-11)
