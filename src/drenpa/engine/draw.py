"""Draw the next token of each row from its logits, each row from a random stream of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor, nn

from drenpa.core.errors import ConfigError
from drenpa.core.roles import Sampling


def check_sampling(sampling: Sampling) -> None:
    """Refuse values that no distribution has.

    raises: ConfigError with every fault found, a line each.
    """
    faults = []
    if sampling.max_new_tokens < 1:
        faults.append(f"max_new_tokens must be at least 1, got {sampling.max_new_tokens}")
    if not sampling.temperature >= 0:
        faults.append(f"temperature must be 0 (greedy) or positive, got {sampling.temperature}")
    if sampling.top_k < 0:
        faults.append(f"top_k must be 0 (off) or positive, got {sampling.top_k}")
    if not 0 < sampling.top_p <= 1:
        faults.append(f"top_p must be above 0 and at most 1 (off), got {sampling.top_p}")
    if not 0 <= sampling.min_p <= 1:
        faults.append(f"min_p must be from 0 (off) to 1, got {sampling.min_p}")
    if faults:
        raise ConfigError("\n".join(faults))


def row_stream(seed: int, key: Sequence[int]) -> Random:
    """Return a stream of numbers that depends on the seed and the key alone, whatever else is
    drawn.

    >>> row_stream(1, (2, 3)).random() == row_stream(1, (2, 3)).random()
    True
    >>> row_stream(1, (2, 3)).random() == row_stream(1, (3, 2)).random()
    False
    """
    digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=16).digest()
    return Random(int.from_bytes(digest, "little"))


def draw_tokens(logits_NV: Tensor, uniforms_N: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Return one token [N] for each row and its log-probability [N] (float32) before any filter.

    logits_NV:  [N, V] in any precision; the work is done in float32.
    uniforms_N: [N] float64 in [0, 1); row n's token is the inverse of its cumulative distribution
                at uniforms_N[n].

    Filters apply in the usual order: temperature, top-k, top-p, min-p, each to what the one before
    left, renormalised. Greedy decoding (temperature 0) takes the largest logit and reports its
    log-probability at temperature 1.
    """
    if sampling.temperature == 0:
        tokens_N = _first_largest(logits_NV)
    # Weights up to a factor: in place, for an array of this size costs as much as the work on it.
    weights_NV = logits_NV.to(torch.float32, copy=True)
    if sampling.temperature not in (0, 1):
        weights_NV.div_(sampling.temperature)
    weights_NV.sub_(weights_NV.amax(-1, keepdim=True)).exp_()
    total_N = weights_NV.sum(-1)
    if sampling.temperature != 0:
        tokens_N = _inverse_cdf(_filtered(weights_NV, sampling), uniforms_N)
    return tokens_N, (weights_NV.gather(1, tokens_N[:, None])[:, 0] / total_N).log()


def _filtered(weights_NV: Tensor, sampling: Sampling) -> Tensor:
    """Return weights [N, V], which need not sum to 1, with the filtered tokens at zero."""
    vocabulary = weights_NV.shape[1]
    if 0 < sampling.top_k < vocabulary:
        kept_NK, at_NK = weights_NV.topk(sampling.top_k, dim=-1)
        weights_NV = torch.zeros_like(weights_NV).scatter(1, at_NK, kept_NK)
    if sampling.top_p < 1:
        sorted_NV, at_NV = weights_NV.sort(dim=-1, descending=True, stable=True)
        before_NV = sorted_NV.double().cumsum(-1) - sorted_NV
        total_N1 = sorted_NV.double().sum(-1, keepdim=True)
        kept_NV = sorted_NV.masked_fill(before_NV >= sampling.top_p * total_N1, 0.0)
        weights_NV = torch.zeros_like(weights_NV).scatter(1, at_NV, kept_NV)
    if sampling.min_p > 0:
        floor_N1 = sampling.min_p * weights_NV.amax(-1, keepdim=True)
        weights_NV = weights_NV.masked_fill(weights_NV < floor_N1, 0.0)
    return weights_NV


# The vocabulary is walked in blocks first, because a walk token by token over all of it, be it a
# cumulative sum or the search for the largest, takes longer on a CPU than the softmax itself.
_BLOCK = 128


def _first_largest(logits_NV: Tensor) -> Tensor:
    """Return [N] the first token with the largest logit."""
    padded_NBW = _in_blocks(logits_NV, float("-inf"))
    block_N = padded_NBW.amax(-1).argmax(-1)
    inside_NW = padded_NBW[torch.arange(len(block_N), device=block_N.device), block_N]
    return block_N * _BLOCK + inside_NW.argmax(-1)


def _in_blocks(x_NV: Tensor, fill: float) -> Tensor:
    rows, vocabulary = x_NV.shape
    if missing := -vocabulary % _BLOCK:  # padding by nothing would copy
        x_NV = nn.functional.pad(x_NV, (0, missing), value=fill)
    return x_NV.view(rows, -1, _BLOCK)


def _inverse_cdf(weights_NV: Tensor, uniforms_N: Tensor) -> Tensor:
    """Return for each row the first token whose cumulative weight exceeds uniform × total."""
    padded_NBW = _in_blocks(weights_NV, 0.0)
    blocks_NB = padded_NBW.sum(-1).double().cumsum(-1)
    goal_N1 = uniforms_N[:, None].to(blocks_NB) * blocks_NB[:, -1:]
    block_N1 = _first_above(blocks_NB, goal_N1)
    start_N1 = torch.where(block_N1 > 0, blocks_NB.gather(1, (block_N1 - 1).clamp(min=0)), 0.0)
    inside_NW = padded_NBW.gather(1, block_N1[..., None].expand(-1, 1, _BLOCK))[:, 0].double()
    return (block_N1 * _BLOCK + _first_above(inside_NW.cumsum(-1), goal_N1 - start_N1))[:, 0]


def _first_above(cumulative_NC: Tensor, goal_N1: Tensor) -> Tensor:
    """Return [N, 1] the first column whose cumulative weight exceeds the goal, and never one that
    adds no weight.

    Rounding can leave the goal at or above the last cumulative weight: then the last column with
    weight is meant.
    """
    last_N1 = torch.searchsorted(cumulative_NC, cumulative_NC[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(cumulative_NC, goal_N1, right=True), last_N1)
