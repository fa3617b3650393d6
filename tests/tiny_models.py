"""Tiny random models of the families that the engine serves, in float32 and without dropout."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf

VOCABULARY = 61
FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.5,
}
_CLASSES: dict[str, tuple[Any, Any]] = {
    "llama": (hf.LlamaConfig, hf.LlamaForCausalLM),
    "qwen2": (hf.Qwen2Config, hf.Qwen2ForCausalLM),
    "qwen3": (hf.Qwen3Config, hf.Qwen3ForCausalLM),
    "gemma2": (hf.Gemma2Config, hf.Gemma2ForCausalLM),
    "gemma3": (hf.Gemma3TextConfig, hf.Gemma3ForCausalLM),
    "mistral": (hf.MistralConfig, hf.MistralForCausalLM),
}


def tiny_model(family: str = "llama", *, seed: int = 0, **changes: Any) -> Any:
    """Return a causal LM with random weights, in eval mode; `changes` go to its config."""
    config_class, model_class = _CLASSES[family]
    shape = dict(_SHAPE)
    if family == "gemma2":
        # A small cap, so that a forgotten one shows.
        shape |= {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model_class(config_class(**(shape | changes))).eval()


def with_lora(model: Any, *, seed: int = 0) -> Any:
    """Return a peft model around `model` whose LoRA already differs from nothing."""
    import warnings

    import peft

    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"])
    with warnings.catch_warnings():
        # peft still asks transformers for a property that is going away.
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = peft.get_peft_model(model, config)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.3)
    return wrapped.eval()
