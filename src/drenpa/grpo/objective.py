"""All the mathematics of the reinforcement learning, P4 and P6 to P11, tensors in and tensors out.

Read it beside the paper. One step samples G answers to each of P questions and scores them:

    rewards [P, G]  --normalise_rewards-->        r~                                     P4
                    --pair_coverage_advantages--> A_i = 1/G sum_j s(d_ij) d_ij           P6, P7
                    --scale_by_group-->           A_i / spread of the group              P8
                    --weight_by_kind-->           weight(kind) A_i                       P9
    log-probabilities [N, T] --policy_loss-->     clipped ratio x A + KL                 P10
                             --pair_loss-->       logistic loss over all pairs           P11

Plain GRPO is the special case margin_weight = 0 with all kind weights 1. Nothing here knows a
model, a tokenizer or a file.

Axes: P prompts (questions), G answers in a group, N = P*G rows with the answers of a group side by
side, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from drenpa.core.errors import ShapeError


@dataclass(frozen=True)
class Objective:
    """The parameters that make one objective into every variant.

    margin_weight, margin_rate: w and k of P6. w = 0 is plain GRPO.
    pair_floor:                 pairs whose rewards differ by less, after P4, count for nothing.
    group_scale:                what P8 divides by: the group's standard deviation, or nothing.
    clip_low, clip_high:        the ratio is held within [1 - clip_low, 1 + clip_high].
    kl_coef:                    weight of the divergence from the reference, per token.
    pair_coef, pair_beta:       weight and inverse temperature of P11; 0 leaves it out.
    importance_cap:             bound of a token's weight where another engine sampled it.
    """

    margin_weight: float = 0.5
    margin_rate: float = 0.5
    pair_floor: float = 0.0
    group_scale: Literal["std", "none"] = "std"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.001
    pair_coef: float = 0.0
    pair_beta: float = 0.1
    importance_cap: float = 2.0


def normalise_rewards(rewards: Tensor) -> Tensor:
    """Centre the rewards of a whole batch and divide by their spread.  [P4]

    rewards: any shape, at least one value; all of them are one batch.
    returns: the same shape, in standard deviations of the batch; exactly zero when all are equal.
    raises:  ShapeError without values; ValueError when one is not finite.
    """
    if rewards.numel() == 0:
        raise ShapeError("rewards must hold at least one value")
    if not torch.isfinite(rewards).all():
        raise ValueError("rewards must be finite: take unscored answers out before this")
    if rewards.amax() == rewards.amin():
        return torch.zeros_like(rewards)
    return (rewards - rewards.mean()) / rewards.std(correction=0)


def margin_scale(difference: Tensor, *, weight: float, rate: float) -> Tensor:
    """Return s(d) = 1 + w (1 - exp(-k |d|)): how much a pair counts whose rewards differ by d.
    [P6]

    returns: the shape of `difference`, within [1, 1 + weight], even in d and growing with |d|.
    """
    return 1.0 - weight * torch.expm1(-rate * difference.abs())


def pair_coverage_advantages(
    rewards_PG: Tensor, *, weight: float, rate: float, floor: float = 0.0
) -> Tensor:
    """Return A_i = 1/G sum_j s(d_ij) d_ij with d_ij = r_i - r_j: every pair takes part.  [P7]

    rewards_PG: [P, G] normalised rewards, G >= 2.
    floor:      pairs with |d| below it are left out, where a scorer's small differences are noise.
    returns:    [P, G]; each row sums to zero, a row of equal rewards is exactly zero, and with
                weight 0 it is r_i - mean(r).
    raises:     ShapeError unless rewards_PG is [P, G] with G >= 2.
    """
    _check_groups(rewards_PG)
    difference_PGG = rewards_PG.unsqueeze(2) - rewards_PG.unsqueeze(1)
    scale_PGG = margin_scale(difference_PGG, weight=weight, rate=rate)
    counted_PGG = difference_PGG.abs() >= floor
    return (scale_PGG * difference_PGG * counted_PGG).mean(dim=2)


def scale_by_group(
    advantages_PG: Tensor, rewards_PG: Tensor, *, scale: Literal["std", "none"] = "std"
) -> Tensor:
    """Divide each prompt's advantages by the spread of its rewards.  [P8]

    rewards_PG: [P, G] the rewards that the advantages were made from.
    returns:    [P, G]; a row of equal rewards is exactly zero under either scale.
    raises:     ShapeError unless both are [P, G] with G >= 2.
    """
    _check_groups(rewards_PG)
    if advantages_PG.shape != rewards_PG.shape:
        raise ShapeError(
            f"advantages_PG {tuple(advantages_PG.shape)} and rewards_PG {tuple(rewards_PG.shape)} "
            "must have one shape"
        )
    flat_P1 = flat_groups(rewards_PG).unsqueeze(1)
    advantages_PG = advantages_PG.masked_fill(flat_P1, 0.0)
    if scale == "none":
        return advantages_PG
    spread_P1 = rewards_PG.std(dim=1, keepdim=True, correction=0)
    return advantages_PG / spread_P1.masked_fill(flat_P1, 1.0)


def weight_by_kind(advantages_PG: Tensor, weights_P: Tensor) -> Tensor:
    """Multiply each prompt's advantages by the weight of its kind of knowledge.  [P9]

    It comes after P8 on purpose: a group has one kind, so that a weight on its rewards would cancel
    when they are divided by their spread.

    raises: ShapeError unless there is one weight for each prompt.
    """
    _check_weights(weights_P, advantages_PG)
    return weights_P.unsqueeze(1) * advantages_PG


def advantages(rewards_PG: Tensor, weights_P: Tensor, objective: Objective) -> Tensor:
    """Return what each answer's log-probability is pushed by: P7, then P8, then P9.

    rewards_PG: [P, G] rewards after P4 over the batch.
    weights_P:  [P] kind weights.
    returns:    [P, G].
    """
    covered_PG = pair_coverage_advantages(
        rewards_PG,
        weight=objective.margin_weight,
        rate=objective.margin_rate,
        floor=objective.pair_floor,
    )
    scaled_PG = scale_by_group(covered_PG, rewards_PG, scale=objective.group_scale)
    return weight_by_kind(scaled_PG, weights_P)


def flat_groups(rewards_PG: Tensor) -> Tensor:
    """Return [P] true where a group's rewards are all equal, so that it carries no signal.

    Equality is tested on the values: a computed spread of equal float32 rewards need not be zero.
    """
    return rewards_PG.amax(dim=1) == rewards_PG.amin(dim=1)


@dataclass(frozen=True)
class PolicyLoss:
    """P10 over some of a step's rows, as sums over rows: add micro-batches, divide once by the
    step's rows.

    loss:      scalar with gradient: surrogate + kl_coef * kl.
    surrogate: scalar, minus the clipped surrogate.
    kl:        scalar, nats per token averaged over each row's tokens.
    clipped:   scalar, share of each row's tokens on which the clip binds.
    importance: scalar, the weight of each row's tokens, 1 where none is corrected.
    """

    loss: Tensor
    surrogate: Tensor
    kl: Tensor
    clipped: Tensor
    importance: Tensor


def policy_loss(
    logprobs_NT: Tensor,
    old_logprobs_NT: Tensor,
    reference_logprobs_NT: Tensor,
    advantages_N: Tensor,
    mask_NT: Tensor,
    objective: Objective,
    sampled_logprobs_NT: Tensor | None = None,
) -> PolicyLoss:
    """Clipped ratio times advantage, plus the divergence from the reference.  [P10]

    Each row is averaged over its own tokens; rows are summed, so that a sum over micro-batches is
    the sum over the batch. The divergence is estimated per token by e^d - d - 1 with
    d = log pi_ref - log pi, which is never negative and has the right mean.

    logprobs_NT:           [N, T] of the policy in training, with gradient.
    old_logprobs_NT:       [N, T] of the policy that sampled; `logprobs_NT.detach()` when on-policy.
    reference_logprobs_NT: [N, T] of the frozen reference.
    advantages_N:          [N] one a row.
    mask_NT:               [N, T] true on completion tokens; what the others hold is of no account.
    sampled_logprobs_NT:   [N, T] by another engine that sampled from the old policy and rounds
                           differently; NaN where it told none. Each token's gain is weighed by
                           old / sampled probability, cut at `importance_cap`: truncated importance
                           sampling.
    raises:                ShapeError when the axes do not agree.
    """
    _check_rows(logprobs_NT, old_logprobs_NT, reference_logprobs_NT, mask_NT, rows=advantages_N)
    importance_NT = torch.ones_like(old_logprobs_NT)
    if sampled_logprobs_NT is not None:
        _check_rows(logprobs_NT, sampled_logprobs_NT, rows=advantages_N)
        off_NT = (old_logprobs_NT - sampled_logprobs_NT).nan_to_num(0.0).masked_fill(~mask_NT, 0.0)
        importance_NT = off_NT.exp().clamp(max=objective.importance_cap).detach()
    log_ratio_NT = (logprobs_NT - old_logprobs_NT).masked_fill(~mask_NT, 0.0)
    ratio_NT = log_ratio_NT.exp()
    held_NT = ratio_NT.clamp(1.0 - objective.clip_low, 1.0 + objective.clip_high)
    advantages_N1 = advantages_N.unsqueeze(1)
    gain_NT = torch.minimum(ratio_NT * advantages_N1, held_NT * advantages_N1)
    drift_NT = (reference_logprobs_NT - logprobs_NT).masked_fill(~mask_NT, 0.0)
    kl_NT = torch.expm1(drift_NT) - drift_NT
    surrogate = -_row_means(importance_NT * gain_NT, mask_NT).sum()
    kl = _row_means(kl_NT, mask_NT).sum()
    binds_NT = (held_NT * advantages_N1 < ratio_NT * advantages_N1).to(gain_NT.dtype)
    return PolicyLoss(
        loss=surrogate + objective.kl_coef * kl,
        surrogate=surrogate.detach(),
        kl=kl.detach(),
        clipped=_row_means(binds_NT, mask_NT).sum().detach(),
        importance=_row_means(importance_NT, mask_NT).sum(),
    )


def pair_loss(
    logprobs_NT: Tensor,
    reference_logprobs_NT: Tensor,
    rewards_PG: Tensor,
    weights_P: Tensor,
    mask_NT: Tensor,
    objective: Objective,
) -> Tensor:
    """Logistic loss over every pair of a group whose rewards differ, the better answer first.
    [P11]

    -weight(kind) log sigmoid( s(d_ij) beta [ (log pi - log pi_ref)(o_i) - (log pi - log
    pi_ref)(o_j) ] ) for r_i > r_j, with log pi(o) the sum over the answer's tokens. Pairs nearer
    than the floor are left out.

    rewards_PG: [P, G] rewards after P4; N = P*G and the rows of a group stand side by side.
    returns:    scalar, the sum over all pairs; divide by `pairs_in` of the whole step.
    raises:     ShapeError when the axes do not agree.
    """
    _check_rows(logprobs_NT, reference_logprobs_NT, mask_NT, rows=rewards_PG.flatten())
    _check_groups(rewards_PG)
    _check_weights(weights_P, rewards_PG)
    gained_NT = (logprobs_NT - reference_logprobs_NT).masked_fill(~mask_NT, 0.0)
    gained_PG = gained_NT.sum(dim=1).view_as(rewards_PG)
    reward_gap_PGG = rewards_PG.unsqueeze(2) - rewards_PG.unsqueeze(1)
    gained_gap_PGG = gained_PG.unsqueeze(2) - gained_PG.unsqueeze(1)
    scale_PGG = margin_scale(
        reward_gap_PGG, weight=objective.margin_weight, rate=objective.margin_rate
    )
    loss_PGG = -functional.logsigmoid(scale_PGG * objective.pair_beta * gained_gap_PGG)
    counted_PGG = _counted(rewards_PG, objective.pair_floor)
    return (weights_P.view(-1, 1, 1) * loss_PGG * counted_PGG).sum()


@dataclass(frozen=True)
class StepCounts:
    """What a whole step's losses are divided by, over all its micro-batches and processes.

    rows:  all scored answers, those of groups without signal included: a step in which few groups
           differ makes a small move.
    kept:  the answers that go through the model.
    pairs: the pairs that count.
    """

    rows: int
    kept: int
    pairs: int


@dataclass(frozen=True)
class StepLoss:
    """A micro-batch's part of a step's loss, and parts of the step's means over the kept
    answers."""

    loss: Tensor
    kl: Tensor
    clipped: Tensor
    importance: Tensor
    pair_loss: Tensor


def step_loss(
    logprobs_NT: Tensor,
    old_logprobs_NT: Tensor,
    reference_logprobs_NT: Tensor,
    advantages_PG: Tensor,
    rewards_PG: Tensor,
    weights_P: Tensor,
    mask_NT: Tensor,
    counts: StepCounts,
    objective: Objective,
    sampled_logprobs_NT: Tensor | None = None,
) -> StepLoss:
    """P10 over the step's rows, plus `pair_coef` times P11 over the step's pairs.

    Takes what `policy_loss` and `pair_loss` take, for whole groups; the parts of all micro-batches
    add up to the step's loss.
    """
    policy = policy_loss(
        logprobs_NT,
        old_logprobs_NT,
        reference_logprobs_NT,
        advantages_PG.flatten(),
        mask_NT,
        objective,
        sampled_logprobs_NT,
    )
    loss = policy.loss / counts.rows
    pairs = torch.zeros_like(policy.kl)
    if objective.pair_coef > 0:
        pairs = pair_loss(
            logprobs_NT, reference_logprobs_NT, rewards_PG, weights_P, mask_NT, objective
        ) / max(counts.pairs, 1)
        loss = loss + objective.pair_coef * pairs
    return StepLoss(
        loss=loss,
        kl=policy.kl / max(counts.kept, 1),
        clipped=policy.clipped / max(counts.kept, 1),
        importance=policy.importance / max(counts.kept, 1),
        pair_loss=pairs.detach(),
    )


def pairs_in(rewards_PG: Tensor, floor: float = 0.0) -> int:
    """Count the pairs whose rewards differ, and by no less than the floor, over all groups.

    >>> rewards_PG = torch.tensor([[0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    >>> pairs_in(rewards_PG), pairs_in(rewards_PG, floor=1.5)
    (2, 0)
    """
    _check_groups(rewards_PG)
    return int(_counted(rewards_PG, floor).sum())


def gradient_mass(advantages_PG: Tensor) -> Tensor:
    """Return [P] how much of the step's push each prompt has: the sum of |A|, as a share of all.

    All zero when no group carries signal.
    """
    mass_P = advantages_PG.abs().sum(dim=1)
    total = mass_P.sum()
    return mass_P / total if total > 0 else mass_P


def _counted(rewards_PG: Tensor, floor: float) -> Tensor:
    """Return [P, G, G] true at (p, i, j) where answer i is better than answer j by the floor."""
    gap_PGG = rewards_PG.unsqueeze(2) - rewards_PG.unsqueeze(1)
    return (gap_PGG > 0) & (gap_PGG >= floor)


def _row_means(values_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Average each row over its own tokens; a row without tokens counts as zero."""
    return values_NT.masked_fill(~mask_NT, 0.0).sum(dim=1) / mask_NT.sum(dim=1).clamp(min=1)


def _check_groups(rewards_PG: Tensor) -> None:
    if rewards_PG.ndim != 2 or rewards_PG.shape[1] < 2:
        raise ShapeError(
            f"rewards_PG must be [prompts, answers >= 2], got {tuple(rewards_PG.shape)}"
        )


def _check_weights(weights_P: Tensor, rows_PG: Tensor) -> None:
    if weights_P.shape != rows_PG.shape[:1]:
        raise ShapeError(
            f"weights_P must be [{rows_PG.shape[0]}], one a prompt, got {tuple(weights_P.shape)}"
        )


def _check_rows(*tables_NT: Tensor, rows: Tensor) -> None:
    shapes = {tuple(table.shape) for table in tables_NT}
    if len(shapes) != 1 or tables_NT[0].ndim != 2 or rows.shape != tables_NT[0].shape[:1]:
        raise ShapeError(
            f"log-probabilities and mask must all be [rows, tokens] with one value a row, got "
            f"{sorted(shapes)} and {tuple(rows.shape)}"
        )
