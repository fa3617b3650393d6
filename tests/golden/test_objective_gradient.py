"""The gradient of the whole RL loss against central differences, in float64.

The log-probabilities come from a tiny language model and the loss is P10 plus P11, off policy, so
that ratios, clips and the divergence all take part. The difference quotient knows nothing of
autograd.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import GPT2Config, GPT2LMHeadModel

from drenpa.grpo.objective import (
    Objective,
    advantages,
    normalise_rewards,
    pair_loss,
    pairs_in,
    policy_loss,
)

STEP = 1e-6  # error of a central difference: STEP^2 of truncation, 1e-16/STEP of rounding
OBJECTIVE = Objective(kl_coef=0.3, pair_coef=0.7, pair_beta=0.5, clip_low=0.2, clip_high=0.3)
PROMPTS, GROUP, PROMPT_TOKENS, ANSWER_TOKENS = 2, 3, 3, 4


def answer_logprobs(model, weights, tokens_NT) -> Tensor:
    """[N, answer tokens] log-probabilities of the answers in [N, prompt + answer] rows."""
    logits = functional_call(model, weights, (tokens_NT,)).logits[:, PROMPT_TOKENS - 1 : -1]
    picked = tokens_NT[:, PROMPT_TOKENS:].unsqueeze(2)
    return logits.log_softmax(-1).gather(2, picked).squeeze(2)


@pytest.fixture(scope="module")
def step():
    """A model, its weights, and the loss of one step as a function of the weights."""
    # GPT-2, because it computes in the precision of its weights throughout: the norms of Llama and
    # Qwen pass through float32, whose rounding would drown the difference.
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 61}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.5)).double().eval()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    source = torch.Generator().manual_seed(3)
    rows = PROMPTS * GROUP
    tokens_NT = torch.randint(3, 61, (rows, PROMPT_TOKENS + ANSWER_TOKENS), generator=source)
    lengths_N = torch.tensor([4, 2, 1, 3, 4, 4])
    mask_NT = torch.arange(ANSWER_TOKENS) < lengths_N.unsqueeze(1)
    frozen_NT = answer_logprobs(model, weights, tokens_NT)

    def near(size):
        noise = torch.randn(frozen_NT.shape, generator=source, dtype=torch.float64)
        return frozen_NT + size * noise

    old_NT, reference_NT = near(0.3), near(0.5)
    rewards_PG = normalise_rewards(torch.tensor([[0.1, 0.9, 0.4], [2.0, -1.0, -1.0]]).double())
    weights_P = torch.tensor([4.0, 1.0], dtype=torch.float64)
    advantages_N = advantages(rewards_PG, weights_P, OBJECTIVE).flatten()

    def loss(weights) -> Tensor:
        new_NT = answer_logprobs(model, weights, tokens_NT)
        policy = policy_loss(new_NT, old_NT, reference_NT, advantages_N, mask_NT, OBJECTIVE)
        pairs = pair_loss(new_NT, reference_NT, rewards_PG, weights_P, mask_NT, OBJECTIVE)
        return policy.loss / rows + OBJECTIVE.pair_coef * pairs / pairs_in(rewards_PG)

    clipped = policy_loss(frozen_NT, old_NT, reference_NT, advantages_N, mask_NT, OBJECTIVE).clipped
    assert 0 < clipped < rows  # the clip binds on some tokens and not on others
    return weights, loss


@pytest.mark.parametrize("seed", range(6))
def test_the_gradient_along_a_direction_through_all_weights_is_the_difference_quotient(step, seed):
    weights, loss = step
    source = torch.Generator().manual_seed(seed)
    direction = {
        name: torch.randn(weight.shape, generator=source, dtype=torch.float64)
        for name, weight in weights.items()
    }
    free = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    gradients = torch.autograd.grad(loss(free), list(free.values()))
    analytic = sum(
        (gradient * direction[name]).sum().item()
        for name, gradient in zip(free, gradients, strict=True)
    )

    def at(size):
        return loss({name: w + size * direction[name] for name, w in weights.items()}).item()

    numeric = (at(STEP) - at(-STEP)) / (2 * STEP)
    assert abs(analytic) > 1e-2  # there is something to agree on
    assert analytic == pytest.approx(numeric, rel=1e-6)


def test_every_answer_token_has_the_gradient_of_its_difference_quotient():
    source = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    old_NT = -normal(6, 4).abs()
    reference_NT = old_NT + 0.3 * normal(6, 4)
    mask_NT = torch.arange(4) < torch.tensor([4, 2, 1, 3, 4, 4]).unsqueeze(1)
    rewards_PG = normal(2, 3)
    weights_P = torch.tensor([4.0, 1.0], dtype=torch.float64)
    advantages_N = advantages(rewards_PG, weights_P, OBJECTIVE).flatten()

    def loss(new_NT):
        policy = policy_loss(new_NT, old_NT, reference_NT, advantages_N, mask_NT, OBJECTIVE)
        pairs = pair_loss(new_NT, reference_NT, rewards_PG, weights_P, mask_NT, OBJECTIVE)
        return policy.loss + pairs

    new_NT = (old_NT + 0.3 * normal(6, 4)).requires_grad_()
    assert torch.autograd.gradcheck(loss, (new_NT,), eps=1e-6, atol=1e-8, rtol=1e-6)
