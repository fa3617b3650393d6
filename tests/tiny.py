"""Tiny random Hugging Face folders with a byte-level tokenizer: real files, no network.

A folder holds what a downloaded model's folder holds (config, safetensors, tokenizer) in some tens
of kilobytes. The tokenizer knows every byte, so that any text in any language has ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from tests.tiny_models import tiny_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

Family = Literal["llama", "qwen2", "qwen3"]
FAMILIES: tuple[Family, ...] = ("llama", "qwen2", "qwen3")

END_OF_TEXT, TURN_START, TURN_END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIAL = (END_OF_TEXT, TURN_START, TURN_END, PAD)

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_tokenizer(
    *,
    template: str | None = CHATML,
    pad: bool = True,
    eos: str | None = TURN_END,
    merges: Sequence[tuple[str, str]] = (),
) -> Any:
    """Return a tokenizer over bytes, with four special tokens behind them.

    template: its chat template; None leaves it without one.
    pad:      whether it names a pad token.
    eos:      the special token it names as its end, or None.
    merges:   pairs that byte-pair encoding joins, in order; without any, a byte is a token.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(left + right for left, right in merges)]
    core = Tokenizer(
        models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=list(merges))
    )
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    named = {"eos_token": eos, "pad_token": PAD if pad else None}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        **{name: token for name, token in named.items() if token is not None},
    )
    tokenizer.chat_template = template
    return tokenizer


def save_tiny_folder(
    folder: Path,
    family: Family = "llama",
    *,
    template: str | None = CHATML,
    pad: bool = True,
    eos: str | None = TURN_END,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """Write a tiny random model of `family` with its tokenizer into `folder`, and return it.

    changes: go to the model's config, as in `tiny_model`.
    """
    tokenizer = byte_tokenizer(template=template, pad=pad, eos=eos)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.1,
    }
    model = tiny_model(family, seed=seed, **(shape | changes))
    # Token 0 is a byte here, and must not be asked for by generation's defaults.
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = None
    model.to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
