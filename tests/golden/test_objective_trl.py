"""Plain GRPO, the special case, against TRL's own trainer on the same rows.

TRL pins its neighbours tightly, so it is an extra (`pip install drenpa[parity]`); without it these
tests are skipped and say so. TRL samples, scores, masks and computes its loss by itself; we are
given its tokens, its rewards and its reference, and must find its advantages, its loss and its
gradient.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from drenpa.grpo.objective import Objective, advantages, policy_loss

pytest.importorskip("trl", reason="TRL is not installed: pip install drenpa[parity]")
# TRL and what it imports warn about each other's age.
pytestmark = pytest.mark.filterwarnings("ignore")

PROMPTS, GROUP, BETA = 2, 4, 0.3


def score(completions: list[str], **_: Any) -> list[float]:
    """Some reward that differs within a group: what the letters come to."""
    return [float(sum(text.encode()) % 97) / 10 for text in completions]


@pytest.fixture(scope="module")
def trainer(tiny_folder, tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        folder = str(tiny_folder("llama"))
        return GRPOTrainer(
            model=folder,
            reward_funcs=score,
            args=GRPOConfig(
                output_dir=str(tmp_path_factory.mktemp("trl")),
                per_device_train_batch_size=PROMPTS * GROUP,
                num_generations=GROUP,
                max_completion_length=6,
                beta=BETA,
                epsilon=0.2,
                epsilon_high=0.3,
                loss_type="grpo",
                scale_rewards="none",
                use_bias_correction_kl=False,  # TRL's own default weighs P10's estimator anew
                use_cpu=True,
                bf16=False,
                report_to=[],
                seed=0,
                model_init_kwargs={"dtype": "float32"},
            ),
            train_dataset=Dataset.from_list([{"prompt": "ab"}, {"prompt": "cde"}]),
        )


@pytest.fixture(scope="module")
def step(trainer):
    """What TRL sampled, scored and masked, and the rewards that it got."""
    prompts = [{"prompt": p} for p in ("ab", "cde") for _ in range(GROUP)]
    trainer.model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        inputs = trainer._generate_and_score_completions(prompts)
    texts = trainer.processing_class.batch_decode(
        inputs["completion_ids"], skip_special_tokens=True
    )
    return inputs, torch.tensor(score(texts)).view(PROMPTS, GROUP)


def logprobs(model, inputs) -> Tensor:
    """[N, T] from the model's logits, without TRL."""
    tokens = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    width = inputs["completion_ids"].shape[1]
    logits = model(input_ids=tokens, attention_mask=mask).logits[:, -width - 1 : -1]
    picked = inputs["completion_ids"].unsqueeze(2)
    return logits.log_softmax(-1).gather(2, picked).squeeze(2)


def test_unscaled_advantages_are_trls(step):
    inputs, rewards_PG = step
    assert rewards_PG.amax(1).gt(rewards_PG.amin(1)).all()
    found = advantages(
        rewards_PG, torch.ones(PROMPTS), Objective(margin_weight=0.0, group_scale="none")
    )
    torch.testing.assert_close(found.flatten(), inputs["advantages"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("drift", [0.0, 0.4])
def test_loss_and_gradient_are_trls(trainer, step, drift):
    inputs, _ = step
    source = torch.Generator().manual_seed(1)
    model = trainer.model
    with torch.no_grad():
        now_NT = logprobs(model, inputs)
    shape = now_NT.shape
    old_NT = now_NT + drift * torch.randn(shape, generator=source)
    reference_NT = now_NT + drift * torch.randn(shape, generator=source)
    inputs = {**inputs, "old_per_token_logps": old_NT, "ref_per_token_logps": reference_NT}

    model.zero_grad()
    trainer.current_gradient_accumulation_steps = 1
    theirs = trainer._compute_loss(model, inputs)
    theirs.backward()
    their_gradient = {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}

    model.zero_grad()
    found = policy_loss(
        logprobs(model, inputs),
        old_NT,
        reference_NT,
        inputs["advantages"],
        inputs["completion_mask"].bool(),
        Objective(kl_coef=BETA, clip_low=0.2, clip_high=0.3),
    )
    ours = found.loss / len(old_NT)
    ours.backward()

    assert (found.clipped > 0) == (drift > 0)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert their_gradient
    largest = max(gradient.abs().max() for gradient in their_gradient.values())
    assert largest > 1e-3
    for name, weight in model.named_parameters():
        if name in their_gradient:
            torch.testing.assert_close(
                weight.grad, their_gradient[name], rtol=1e-4, atol=1e-6 * float(largest)
            )
