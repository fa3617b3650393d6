"""A policy that vLLM samples from, while its adapter is trained here; needs the extra `vllm`.

vLLM holds the frozen backbone once more and is given the adapter anew before every batch of
answers, as a folder under a new id, since it keeps adapters by id. Its kernels and ours round
differently, so that the answers come from a policy slightly other than the one in training: the
log-probabilities that come back with them say how much, for the objective to correct.

Written against vLLM's documented interface and tested against a stand-in; never run with vLLM
itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drenpa.core.errors import ModelError
from drenpa.core.roles import Draft, Finish, Sampling
from drenpa.engine.adapters import save_adapter, seed_of
from drenpa.engine.draw import check_sampling
from drenpa.engine.models import pick_dtype
from drenpa.engine.policy import Policy

# The ranks that vLLM has kernels for.
_RANKS = (8, 16, 32, 64, 128, 256, 512)


class VllmGenerator:
    """Answers questions as `policy` would; the `Generator` role on a GPU beside the trainer.

    policy:    whose prompts, stop tokens and adapter these are.
    adapter:   the adapter's name on the policy's model.
    backbone:  the folder of the weights that the adapter stands on.
    scratch:   where the adapter is handed over.
    max_length: tokens of a prompt and its answer.
    gpu_share: of the GPU's memory that vLLM may take; the trainer needs the rest.
    raises:    ModelError when vLLM is not installed, or there is no such adapter.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        adapter: str,
        backbone: Path,
        scratch: Path,
        max_length: int,
        gpu_share: float = 0.4,
        seed: int = 0,
    ) -> None:
        vllm = import_vllm()
        config = getattr(policy.language_model.model, "peft_config", {}).get(adapter)
        if config is None or config.r > _RANKS[-1]:
            raise ModelError(
                f"vLLM is handed the policy as an adapter of rank {_RANKS[-1]} at most, and the "
                f"model has no such adapter '{adapter}'; set train.lora, or sample without vLLM"
            )
        self._policy = policy
        self._adapter = adapter
        self._backbone = backbone
        self._scratch = scratch
        self._handed_over = 0
        self._vllm = vllm
        self._llm = vllm.LLM(
            model=str(backbone),
            dtype=pick_dtype(policy.language_model.engine.dtype, policy.language_model.device),
            enable_lora=True,
            max_loras=1,
            max_lora_rank=next(rank for rank in _RANKS if rank >= config.r),
            max_model_len=max_length,
            gpu_memory_utilization=gpu_share,
            enable_prefix_caching=True,  # a group's prompt is read once
            logprobs_mode="processed_logprobs",  # at the sampling temperature
            generation_config="vllm",  # no sampling defaults from the model's folder
            seed=seed,
        )

    def generate(
        self, prompts: Sequence[str], *, group: int, sampling: Sampling, key: tuple[int, ...] = ()
    ) -> list[list[Draft]]:
        """Return [P][G] drafts from the adapter as it is now.

        Under top-k, top-p or min-p the drafts carry no log-probabilities: vLLM's are those after
        the filter.
        """
        if not prompts:
            return []
        check_sampling(sampling)
        self._policy.check_room(prompts, sampling.max_new_tokens)
        asked, settings = [], []
        for p, prompt in enumerate(prompts):
            ids = list(self._policy.prompt_ids(prompt))
            for g in range(group):
                asked.append({"prompt_token_ids": ids})
                settings.append(self._settings(sampling, seed_of(sampling.seed, *key, p, g)))
        outputs = self._llm.generate(
            asked, settings, lora_request=self._hand_over(), use_tqdm=False
        )
        filtered = sampling.top_k > 0 or sampling.top_p < 1 or sampling.min_p > 0
        drafts = [self._draft(output.outputs[0], keep=not filtered) for output in outputs]
        return [drafts[at : at + group] for at in range(0, len(drafts), group)]

    def _settings(self, sampling: Sampling, seed: int) -> Any:
        return self._vllm.SamplingParams(
            n=1,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            max_tokens=sampling.max_new_tokens,
            seed=seed,
            logprobs=0,  # of the sampled token alone
            # Answers end where the policy's own sampling ends them, and nowhere else.
            ignore_eos=True,
            stop_token_ids=sorted(self._policy.language_model.chat.stop_ids),
            detokenize=False,
        )

    def _hand_over(self) -> Any:
        """Write the adapter under a new number, drop the one before, and return what names it."""
        last = self._scratch / f"adapter-{self._handed_over}"
        self._handed_over += 1
        folder = self._scratch / f"adapter-{self._handed_over}"
        save_adapter(self._policy.language_model.model, self._adapter, folder, base=self._backbone)
        shutil.rmtree(last, ignore_errors=True)
        number = self._handed_over
        return self._vllm.lora.request.LoRARequest(f"policy-{number}", number, str(folder))

    def _draft(self, output: Any, *, keep: bool) -> Draft:
        chat = self._policy.language_model.chat
        tokens = tuple(output.token_ids)
        stopped = bool(tokens) and tokens[-1] in chat.stop_ids
        if (output.finish_reason == "stop") != stopped:
            raise ModelError(
                f"vLLM says that an answer ended by '{output.finish_reason}', but its last token "
                f"is {'a' if stopped else 'no'} stop token; this vLLM is not one that drenpa knows"
            )
        finish: Finish = "stop" if stopped else "length"
        logprobs = tuple(
            float(told[token].logprob) for token, told in zip(tokens, output.logprobs, strict=True)
        )
        written, stop = (tokens[:-1], tokens[-1:]) if stopped else (tokens, ())
        return Draft(chat.decode(written), written, logprobs if keep else (), finish, stop)


def import_vllm() -> Any:
    """Return the library.

    raises: ModelError when it is not installed.
    """
    try:
        import vllm
        import vllm.lora.request
    except ImportError as error:
        raise ModelError(
            f"vLLM cannot be imported ({error}); pip install 'drenpa[vllm]' on a machine with a GPU"
        ) from error
    return vllm
