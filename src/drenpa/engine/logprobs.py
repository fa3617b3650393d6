"""Log-probabilities of given tokens, without ever holding the logits of a whole batch.

At a vocabulary of 152 thousand one token's logits fill 600 kB in float32: only positions that are
asked for reach the output projection, in chunks, and no chunk's logits outlive it. The gradient of
a token's log-probability with respect to its hidden state is known as soon as its logits are, up to
one factor that the loss decides; so the forward pass keeps that gradient instead of the logits.
Where the projection itself is trained, its gradient needs the pull on every logit: that is kept up
to a bound, and beyond it projected again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from drenpa.core.errors import ShapeError
from drenpa.engine.backbone import Backbone, backbone_of
from drenpa.engine.prefix import SuffixStates

CHUNK_TOKENS = 128  # positions that go through the output projection at once
KEPT_BYTES = 1 << 27  # of pulls on logits, kept for the gradient of a projection that is trained


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
    kept_bytes: int = KEPT_BYTES,
) -> TokenLogprobs:
    """Return how probable the model finds each next suffix token, log-softmax in float32,
    differentiable.

    temperature:  logits are divided by it, as they were when the tokens were sampled.
    chunk_tokens: positions that go through the output projection at once; bounds memory and changes
                  nothing else.
    kept_bytes:   held for the gradient of a projection that is trained; what does not fit is
                  computed again.
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
    chosen_K, entropy_K = take(
        hidden_KH, targets_K, _Asked(temperature, entropy, chunk_tokens, kept_bytes)
    )
    if targets_K.numel():
        logprobs_NT = logprobs_NT.masked_scatter(mask_NT, chosen_K)
        entropy_NT = entropy_NT.masked_scatter(mask_NT, entropy_K)
    return TokenLogprobs(logprobs_NT, entropy_NT, mask_NT)


@dataclass(frozen=True)
class _Asked:
    """What is wanted of the projected positions; see `next_token_logprobs`."""

    temperature: float
    entropy: bool
    chunk_tokens: int
    kept_bytes: int


# Hidden states [K, H] and targets [K]; log-probabilities and entropies [K].
_Take = Callable[[Tensor, Tensor, _Asked], tuple[Tensor, Tensor]]


def _plain_head(backbone: Backbone) -> _Take | None:
    """Return the fast way when the head is a matrix and nothing else, or None."""
    head = backbone.head
    watched = bool(head._forward_hooks or head._forward_pre_hooks)
    if type(head) is not nn.Linear or head.bias is not None or backbone.soft_cap or watched:
        return None
    weight_VH: Tensor = head.weight
    if torch.is_autocast_enabled(weight_VH.device.type):
        weight_VH = weight_VH.to(torch.get_autocast_dtype(weight_VH.device.type))

    def take(hidden_KH: Tensor, targets_K: Tensor, asked: _Asked) -> tuple[Tensor, Tensor]:
        hidden_KH = hidden_KH.to(weight_VH.dtype)
        return cast(
            tuple[Tensor, Tensor],
            _ChosenLogprobs.apply(hidden_KH, weight_VH, targets_K, asked),
        )

    return take


def _any_head(backbone: Backbone) -> _Take:
    """Return the way for a head of any kind, for example one with an adapter or a soft cap."""

    def take(hidden_KH: Tensor, targets_K: Tensor, asked: _Asked) -> tuple[Tensor, Tensor]:
        def project(hidden_CH: Tensor, targets_C: Tensor) -> tuple[Tensor, Tensor]:
            scaled_CV = backbone.logits(hidden_CH).float() / asked.temperature
            chosen_C = scaled_CV.log_softmax(-1).gather(1, targets_C[:, None])[:, 0]
            return chosen_C, _entropy(scaled_CV.detach(), asked.entropy)

        size = asked.chunk_tokens
        chunks = list(zip(hidden_KH.split(size), targets_K.split(size), strict=True))
        if torch.is_grad_enabled():
            found = [checkpoint(project, *chunk, use_reentrant=False) for chunk in chunks]
        else:
            found = [project(*chunk) for chunk in chunks]
        chosen, entropies = zip(*found, strict=True)
        return torch.cat(chosen), torch.cat(entropies)

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
        hidden_KH: Tensor,
        weight_VH: Tensor,
        targets_K: Tensor,
        asked: _Asked,
    ) -> tuple[Tensor, Tensor]:
        pulls_hidden, pulls_weight = ctx.needs_input_grad[:2]
        chosen_K = hidden_KH.new_empty(len(targets_K), dtype=torch.float32)
        entropy_K = torch.zeros_like(chosen_K)
        pull_KH = torch.empty_like(hidden_KH) if pulls_hidden else None
        kept = _positions_kept(weight_VH, len(targets_K), asked) if pulls_weight else 0
        pull_DV = weight_VH.new_empty(kept, len(weight_VH))
        for part in _parts(len(targets_K), asked.chunk_tokens):
            targets_C = targets_K[part]
            scaled_CV = _scaled_logits(hidden_KH[part], weight_VH, asked.temperature)
            if not (pulls_hidden or pulls_weight or asked.entropy):
                chosen_K[part] = _chosen(scaled_CV, targets_C)
                continue
            probs_CV = scaled_CV.softmax(-1)
            # The largest logit less the log of its probability: a log-sum-exp at a fraction of its
            # cost, and exact for targets whose own probability is too small for float32.
            log_total_C = scaled_CV.amax(-1) - probs_CV.amax(-1).log()
            chosen_K[part] = scaled_CV.gather(1, targets_C[:, None])[:, 0] - log_total_C
            if asked.entropy:
                entropy_K[part] = log_total_C - (probs_CV * scaled_CV).sum(-1)
            del scaled_CV
            if pull_KH is not None or part.stop <= kept:
                pull_CV = _pull(probs_CV, targets_C, weight_VH.dtype)
                if pull_KH is not None:
                    pull_KH[part] = pull_CV @ weight_VH
                if part.stop <= kept:
                    pull_DV[part] = pull_CV
        ctx.save_for_backward(hidden_KH, weight_VH, targets_K, pull_KH, pull_DV)
        ctx.asked = asked
        ctx.mark_non_differentiable(entropy_K)
        return chosen_K, entropy_K

    @staticmethod
    def backward(ctx: Any, grad_K: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_KH, weight_VH, targets_K, pull_KH, pull_DV = ctx.saved_tensors
        grad_K1 = grad_K[:, None] / ctx.asked.temperature
        grad_hidden = grad_weight = None
        if pull_KH is not None:
            grad_hidden = (pull_KH * grad_K1).to(hidden_KH.dtype)
        if ctx.needs_input_grad[1]:
            drawn_KH = (hidden_KH * grad_K1).to(weight_VH.dtype)
            kept = len(pull_DV)
            grad_weight = pull_DV.T @ drawn_KH[:kept]
            for part in _parts(len(targets_K), ctx.asked.chunk_tokens, kept):
                scaled_CV = _scaled_logits(hidden_KH[part], weight_VH, ctx.asked.temperature)
                probs_CV = scaled_CV.softmax(-1)
                pull_CV = _pull(probs_CV, targets_K[part], weight_VH.dtype)
                grad_weight.addmm_(pull_CV.T, drawn_KH[part])
        return grad_hidden, grad_weight, None, None


def _positions_kept(weight_VH: Tensor, positions: int, asked: _Asked) -> int:
    """Return of how many positions, whole chunks unless all, the pull on the logits is kept."""
    fit = asked.kept_bytes // (weight_VH.element_size() * len(weight_VH))
    return positions if positions <= fit else fit // asked.chunk_tokens * asked.chunk_tokens


def _parts(positions: int, at_once: int, first: int = 0) -> Iterator[slice]:
    for start in range(first, positions, at_once):
        yield slice(start, min(start + at_once, positions))


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
