"""Log-probabilities of given tokens, without ever holding the logits of a whole batch.

At a vocabulary of 152 thousand one token's logits fill 600 kB in float32: only positions that are
asked for reach the output projection, in chunks, and no chunk's logits outlive it. The gradient of
a token's log-probability with respect to its hidden state is known as soon as its logits are, up to
one factor that the loss decides; so the forward pass keeps that gradient instead of the logits, and
the backward pass projects again only for the gradient of the projection itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from drenpa.core.errors import ShapeError
from drenpa.engine.backbone import Backbone, backbone_of
from drenpa.engine.prefix import SuffixStates

CHUNK_TOKENS = 128  # positions that go through the output projection at once


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
    chunk_tokens: int = CHUNK_TOKENS,
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
    take = _plain_head(backbone) or _any_head(backbone)
    chunks = [
        take(hidden_CH, targets_C, temperature, entropy)
        for hidden_CH, targets_C in zip(
            hidden_KH.split(chunk_tokens), targets_K.split(chunk_tokens), strict=True
        )
    ]
    if targets_K.numel():
        logprobs_NT = logprobs_NT.masked_scatter(mask_NT, torch.cat([chunk[0] for chunk in chunks]))
        entropy_NT = entropy_NT.masked_scatter(mask_NT, torch.cat([chunk[1] for chunk in chunks]))
    return TokenLogprobs(logprobs_NT, entropy_NT, mask_NT)


# Hidden states [C, H], targets [C], temperature, whether entropies are asked for; log-probabilities
# and entropies [C].
_Take = Callable[[Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]


def _plain_head(backbone: Backbone) -> _Take | None:
    """Return the fast way when the head is a matrix and nothing else, or None."""
    head = backbone.head
    watched = bool(head._forward_hooks or head._forward_pre_hooks)
    if type(head) is not nn.Linear or head.bias is not None or backbone.soft_cap or watched:
        return None
    weight_VH: Tensor = head.weight
    if torch.is_autocast_enabled(weight_VH.device.type):
        weight_VH = weight_VH.to(torch.get_autocast_dtype(weight_VH.device.type))

    def take(
        hidden_CH: Tensor, targets_C: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        hidden_CH = hidden_CH.to(weight_VH.dtype)
        return cast(
            tuple[Tensor, Tensor],
            _ChosenLogprobs.apply(hidden_CH, weight_VH, targets_C, temperature, entropy),
        )

    return take


def _any_head(backbone: Backbone) -> _Take:
    """Return the way for a head of any kind, for example one with an adapter or a soft cap."""

    def take(
        hidden_CH: Tensor, targets_C: Tensor, temperature: float, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        def project(hidden_CH: Tensor) -> tuple[Tensor, Tensor]:
            scaled_CV = backbone.logits(hidden_CH).float() / temperature
            chosen_C = scaled_CV.log_softmax(-1).gather(1, targets_C[:, None])[:, 0]
            return chosen_C, _entropy(scaled_CV.detach(), entropy)

        if not torch.is_grad_enabled():
            return project(hidden_CH)
        return cast(tuple[Tensor, Tensor], checkpoint(project, hidden_CH, use_reentrant=False))

    return take


def _entropy(scaled_CV: Tensor, asked: bool) -> Tensor:
    """Return entropies [C] in nats of softmax distributions, or zeros when not asked."""
    if not asked:
        return scaled_CV.new_zeros(len(scaled_CV))
    probs_CV = scaled_CV.softmax(-1)
    return scaled_CV.logsumexp(-1) - (probs_CV * scaled_CV).sum(-1)


class _ChosenLogprobs(torch.autograd.Function):
    """Log-probabilities of targets under softmax(W·h / temperature), and entropies, detached."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_CH: Tensor,
        weight_VH: Tensor,
        targets_C: Tensor,
        temperature: float,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        scaled_CV = _scaled_logits(hidden_CH, weight_VH, temperature)
        if not (ctx.needs_input_grad[0] or ctx.needs_input_grad[1] or entropy):
            return _chosen(scaled_CV, targets_C), torch.zeros_like(targets_C, dtype=torch.float32)
        probs_CV = scaled_CV.softmax(-1)
        # The largest logit less the log of its probability: a log-sum-exp at a fraction of its
        # cost, and exact for targets whose own probability is too small for float32.
        log_total_C = scaled_CV.amax(-1) - probs_CV.amax(-1).log()
        chosen_C = scaled_CV.gather(1, targets_C[:, None])[:, 0] - log_total_C
        entropy_C = torch.zeros_like(chosen_C)
        if entropy:
            entropy_C = log_total_C - (probs_CV * scaled_CV).sum(-1)
        del scaled_CV
        pull_CH = hidden_CH
        if ctx.needs_input_grad[0]:
            pull_CH = _pull(probs_CV, targets_C, weight_VH.dtype) @ weight_VH
        ctx.save_for_backward(hidden_CH, weight_VH, targets_C, pull_CH)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy_C)
        return chosen_C, entropy_C

    @staticmethod
    def backward(ctx: Any, grad_C: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_CH, weight_VH, targets_C, pull_CH = ctx.saved_tensors
        grad_C1 = grad_C[:, None] / ctx.temperature
        grad_hidden = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_hidden = (pull_CH * grad_C1).to(hidden_CH.dtype)
        if ctx.needs_input_grad[1]:
            probs_CV = _scaled_logits(hidden_CH, weight_VH, ctx.temperature).softmax(-1)
            pull_CV = _pull(probs_CV, targets_C, weight_VH.dtype)
            grad_weight = pull_CV.T @ (hidden_CH * grad_C1).to(weight_VH.dtype)
        return grad_hidden, grad_weight, None, None, None


def _chosen(scaled_CV: Tensor, targets_C: Tensor) -> Tensor:
    """Return log-probabilities [C] in place of the logits: no second [C, V] is held."""
    top_C1 = scaled_CV.amax(-1, keepdim=True)
    above_C1 = scaled_CV.gather(1, targets_C[:, None]) - top_C1
    return (above_C1 - scaled_CV.sub_(top_C1).exp_().sum(-1, keepdim=True).log())[:, 0]


def _scaled_logits(hidden_CH: Tensor, weight_VH: Tensor, temperature: float) -> Tensor:
    logits_CV = (hidden_CH @ weight_VH.T).float()
    return logits_CV if temperature == 1 else logits_CV / temperature


def _pull(probs_CV: Tensor, targets_C: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the gradient [C, V] of the targets' log-probabilities by scaled logits.

    Uses up `probs_CV`. It is formed in float32 before it is rounded: near certainty one minus the
    probability is what matters.
    """
    pull_CV = probs_CV.neg_()
    pull_CV[torch.arange(len(targets_C), device=targets_C.device), targets_C] += 1
    return pull_CV.to(dtype)
