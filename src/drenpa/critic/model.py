"""The critic as a module: a language model that writes critiques, and a head that scores.

One class serves both scorers. The critic writes before it scores; the plain scalar scorer has the
same head and reads it at the end token right after the cue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from drenpa.engine.backbone import backbone_of
from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.prefix import Attention, PrefixGroup, SuffixStates, suffix_states


@dataclass(frozen=True)
class Reading:
    """What one forward pass over whole rows gives.

    scores_N: [N] float32, read at each row's last token.
    states:   the suffix states, for the critiques' log-probabilities.
    """

    scores_N: Tensor
    states: SuffixStates


class CriticModel(nn.Module):
    """A backbone, whose adapter is the caller's business, and the scalar head in float32.

    The head starts at zero, so that all answers start equal, and has no bias: only differences of
    scores are ever trained or used.
    """

    def __init__(self, model: Any, *, attention: Attention) -> None:
        super().__init__()
        self.model = model
        self.attention = attention
        backbone = backbone_of(model)
        self.head = nn.Linear(backbone.config.hidden_size, 1, bias=False, device=backbone.device)
        nn.init.zeros_(self.head.weight)

    def read(self, groups: Sequence[PrefixGroup]) -> Reading:
        """Encode rows, each shared prefix once, and score them at their last token."""
        states = suffix_states(self.model, groups, attention=self.attention)
        last_N = states.mask_NT.sum(dim=1) - 1
        rows_N = torch.arange(len(last_N), device=last_N.device)
        return Reading(self.scores(states.hidden_NTH[rows_N, last_N]), states)

    def scores(self, hidden_NH: Tensor) -> Tensor:
        """Return the scores [N] of hidden states [N, H], in float32 under any autocast."""
        with torch.autocast(hidden_NH.device.type, enabled=False):
            return cast(Tensor, self.head(hidden_NH.float()))[:, 0]

    def critique_logprobs(self, states: SuffixStates, critique_NT: Tensor) -> Tensor:
        """Return [N, T-1] log-probabilities; column t is suffix token t+1, zero off the critiques.

        critique_NT: [N, T] true on critique tokens; only these reach the output projection.
        """
        chosen = SuffixStates(states.hidden_NTH, states.tokens_NT, critique_NT)
        return next_token_logprobs(self.model, chosen).logprobs_NT
