"""A fake of the part of vLLM that drenpa calls: the same names, arguments and answers, no server.

It reads the backbone and the handed-over adapter from their folders, as vLLM does, and draws with
drenpa's own sampler. What it is asked with is checked as strictly as vLLM would, and remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from drenpa.config import EngineConfig
from drenpa.core.roles import Sampling
from drenpa.engine.adapters import load_adapter, load_backbone
from drenpa.engine.prefix import PrefixGroup
from drenpa.engine.sample import sample

ENGINE = EngineConfig(device="cpu", dtype="float32")


@dataclass(frozen=True)
class SamplingParams:
    n: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    max_tokens: int
    seed: int
    logprobs: int
    ignore_eos: bool
    stop_token_ids: list[int]
    detokenize: bool


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass(frozen=True)
class Logprob:
    logprob: float


@dataclass(frozen=True)
class CompletionOutput:
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]]
    finish_reason: str


@dataclass(frozen=True)
class RequestOutput:
    outputs: list[CompletionOutput]


@dataclass
class LLM:
    model: str
    dtype: str
    enable_lora: bool
    max_loras: int
    max_lora_rank: int
    max_model_len: int
    gpu_memory_utilization: float
    enable_prefix_caching: bool
    logprobs_mode: str
    generation_config: str
    seed: int
    finish: str | None = None  # what it wrongly says of every answer
    calls: list[tuple[list[dict[str, Any]], list[SamplingParams], LoRARequest]] = field(
        default_factory=list
    )
    _known: dict[int, Any] = field(default_factory=dict)

    def generate(
        self,
        prompts: list[dict[str, list[int]]],
        sampling_params: list[SamplingParams],
        *,
        lora_request: LoRARequest,
        use_tqdm: bool,
    ) -> list[RequestOutput]:
        assert self.enable_lora
        assert self.logprobs_mode == "processed_logprobs"
        self.calls.append((prompts, sampling_params, lora_request))
        if lora_request.lora_int_id not in self._known:  # like vLLM, by id and never again
            base, _ = load_backbone(Path(self.model), ENGINE)
            adapted = load_adapter(base, Path(lora_request.lora_path), "served")
            self._known[lora_request.lora_int_id] = adapted.eval()
        network = self._known[lora_request.lora_int_id]
        return [
            RequestOutput([self._answer(network, prompt["prompt_token_ids"], params)])
            for prompt, params in zip(prompts, sampling_params, strict=True)
        ]

    def _answer(self, network: Any, ids: list[int], params: SamplingParams) -> CompletionOutput:
        assert params.n == 1
        assert params.ignore_eos
        assert len(ids) + params.max_tokens <= self.max_model_len
        row = sample(
            network,
            [PrefixGroup(tuple(ids[:-1]), ((ids[-1],),))],
            Sampling(params.max_tokens, params.temperature, seed=params.seed),
            stop_ids=params.stop_token_ids,
        )[0][0]
        # vLLM keeps the stop token among the ids.
        tokens = [*row.tokens, *row.stop]
        told = [
            {token: Logprob(logprob)} for token, logprob in zip(tokens, row.logprobs, strict=True)
        ]
        return CompletionOutput(tokens, told, self.finish or row.finish)


def fake_vllm() -> dict[str, ModuleType]:
    """Return the modules to put into `sys.modules`."""
    modules = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    modules["vllm"].LLM = LLM  # type: ignore[attr-defined]
    modules["vllm"].SamplingParams = SamplingParams  # type: ignore[attr-defined]
    modules["vllm"].lora = modules["vllm.lora"]  # type: ignore[attr-defined]
    modules["vllm.lora"].request = modules["vllm.lora.request"]  # type: ignore[attr-defined]
    modules["vllm.lora.request"].LoRARequest = LoRARequest  # type: ignore[attr-defined]
    return modules
