"""The trunk and the head of a causal language model, whatever wraps them.

The engine runs the trunk (tokens to final hidden states) and the head (hidden states to logits)
apart, because only some positions need logits and the head of a small model is a third of its work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from drenpa.core.errors import ModelError

# Factors that some families apply to their logits outside the head. A model that uses one of them
# is refused, because log-probabilities without it would be wrong; Gemma's soft cap is applied
# below.
_UNKNOWN_LOGIT_FACTORS = ("logit_scale", "logits_scaling", "output_multiplier_scale")


@dataclass(frozen=True)
class Backbone:
    """A causal language model taken apart.

    trunk:    token ids to hidden states after the last norm.
    head:     the output projection, [.., H] to [.., V].
    config:   the text model's transformers configuration.
    soft_cap: the bound of Gemma's tanh on logits, or None.
    """

    trunk: nn.Module
    head: nn.Module
    config: Any
    soft_cap: float | None

    @property
    def device(self) -> torch.device:
        """Where the token ids must be."""
        return next(self.trunk.parameters()).device

    def logits(self, hidden_NH: Tensor) -> Tensor:
        """Return next-token logits [.., V] of hidden states [.., H], in the model's precision."""
        logits = cast(Tensor, self.head(hidden_NH))
        if self.soft_cap is None:
            return logits
        return torch.tanh(logits / self.soft_cap) * self.soft_cap


def backbone_of(model: nn.Module) -> Backbone:
    """Take apart a transformers causal LM, or the one inside a peft model; its adapters stay where
    they are.

    raises: ModelError when `model` is neither, is an encoder-decoder, learns prompt tokens instead
            of weights, or scales its logits in a way that is not known here.
    """
    causal: Any = model
    if hasattr(model, "get_base_model"):
        if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
            raise ModelError(
                f"{type(model).__name__}: adapters that learn prompt tokens do not work; use LoRA"
            )
        causal = cast(Any, model).get_base_model()
    head = causal.get_output_embeddings() if hasattr(causal, "get_output_embeddings") else None
    trunk = getattr(causal, "base_model", None)
    if head is None or trunk is None or trunk is causal:
        raise ModelError(
            f"{type(causal).__name__} is not a causal language model with a trunk and a head; "
            "load it with AutoModelForCausalLM"
        )
    config = causal.config.get_text_config()
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{type(causal).__name__} is an encoder-decoder; a decoder-only model is needed"
        )
    for name in _UNKNOWN_LOGIT_FACTORS:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ModelError(
                f"{type(causal).__name__}: config.{name} = {getattr(config, name)} scales logits "
                "in an unknown way; use a model of the Llama, Qwen or Gemma families"
            )
    return Backbone(trunk, head, config, getattr(config, "final_logit_softcapping", None))
