"""Log-probabilities of given tokens, without ever holding the logits of a whole batch.

At a vocabulary of 152 thousand one token's logits fill 600 kB in float32: only positions that are
asked for reach the output projection, in chunks, and the backward pass computes each chunk again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from drenpa.core.errors import ShapeError
from drenpa.engine.backbone import Backbone, backbone_of
from drenpa.engine.prefix import SuffixStates


@dataclass(frozen=True)
class TokenLogprobs:
    """One value for each suffix token but the first, which has no predecessor among the suffix
    states.

    logprobs_NT: [N, T-1] float32, the log-probability of suffix token t+1 in column t; 0 where
                 masked.
    entropy_NT:  [N, T-1] float32 in nats, of the distribution that token was drawn from; detached;
                 zeros unless asked.
    mask_NT:     [N, T-1] true where both tokens are real.
    """

    logprobs_NT: Tensor
    entropy_NT: Tensor
    mask_NT: Tensor


def next_token_logprobs(
    model: nn.Module,
    states: SuffixStates,
    *,
    temperature: float = 1.0,
    entropy: bool = False,
    chunk_tokens: int = 1024,
) -> TokenLogprobs:
    """Return how probable the model finds each next suffix token, log-softmax in float32,
    differentiable.

    temperature:  logits are divided by it, as they were when the tokens were sampled.
    chunk_tokens: positions that go through the output projection at once; bounds memory and changes
                  nothing else.
    raises:       ShapeError when temperature or chunk_tokens is not positive.
    """
    if temperature <= 0 or chunk_tokens < 1:
        raise ShapeError(
            f"temperature and chunk_tokens must be positive, got {temperature} and {chunk_tokens}; "
            "the log-probabilities of greedy decoding are those at temperature 1"
        )
    backbone = backbone_of(model)
    mask_NT = states.mask_NT[:, 1:]
    hidden_KH = states.hidden_NTH[:, :-1][mask_NT]
    targets_K = states.tokens_NT[:, 1:][mask_NT]
    logprobs_NT = torch.zeros(mask_NT.shape, device=mask_NT.device)
    entropy_NT = torch.zeros(mask_NT.shape, device=mask_NT.device)
    chunks = [
        _chunk_logprobs(backbone, hidden_CH, targets_C, temperature, entropy)
        for hidden_CH, targets_C in zip(
            hidden_KH.split(chunk_tokens), targets_K.split(chunk_tokens), strict=True
        )
    ]
    if targets_K.numel():
        logprobs_NT = logprobs_NT.masked_scatter(mask_NT, torch.cat([chunk[0] for chunk in chunks]))
        entropy_NT = entropy_NT.masked_scatter(mask_NT, torch.cat([chunk[1] for chunk in chunks]))
    return TokenLogprobs(logprobs_NT, entropy_NT, mask_NT)


def _chunk_logprobs(
    backbone: Backbone, hidden_CH: Tensor, targets_C: Tensor, temperature: float, entropy: bool
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and entropies [C]; backward computes the logits again."""

    def project(hidden_CH: Tensor) -> tuple[Tensor, Tensor]:
        scaled_CV = backbone.logits(hidden_CH).float() / temperature
        logprobs_CV = torch.log_softmax(scaled_CV, dim=-1)
        chosen_C = logprobs_CV.gather(1, targets_C[:, None])[:, 0]
        if not entropy:
            return chosen_C, torch.zeros_like(chosen_C)
        with torch.no_grad():
            return chosen_C, torch.special.entr(logprobs_CV.exp()).sum(-1)

    if not torch.is_grad_enabled():
        return project(hidden_CH)
    return cast(tuple[Tensor, Tensor], checkpoint(project, hidden_CH, use_reentrant=False))
