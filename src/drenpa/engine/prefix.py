"""Rows that share a beginning: the value every forward pass of drenpa is made of.

G answers share a prompt; G critiques share the critic's instruction and the question; K ranked
answers share both. A `PrefixGroup` says so once, and sampling, critique scoring and the update all
take groups. How the shared part is held in memory is this file's secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from drenpa.core.errors import ShapeError
from drenpa.engine.backbone import backbone_of

Attention = Literal["shared", "plain"]


@dataclass(frozen=True)
class PrefixGroup:
    """Rows that begin alike: row g is `prefix` followed by `suffixes[g]`.

    raises: ShapeError when the prefix, the list of suffixes or a suffix is empty.
    """

    prefix: tuple[int, ...]
    suffixes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.prefix or not self.suffixes or not all(self.suffixes):
            raise ShapeError(
                "a PrefixGroup needs a shared token and rows of at least one token each, got "
                f"{len(self.prefix)} shared and rows of {[len(s) for s in self.suffixes]}; "
                "put the last prompt token first in each suffix"
            )


@dataclass(frozen=True)
class SuffixStates:
    """What the trunk says at the suffix positions; N counts the rows of all groups in order, T the
    longest suffix.

    hidden_NTH: [N, T, H] hidden states after the last norm, zero where padded (rows are padded on
                the right).
    tokens_NT:  [N, T] the suffix tokens, 0 where padded.
    mask_NT:    [N, T] true on real suffix tokens.
    """

    hidden_NTH: Tensor
    tokens_NT: Tensor
    mask_NT: Tensor


def suffix_states(
    model: nn.Module, groups: Sequence[PrefixGroup], *, attention: Attention = "plain"
) -> SuffixStates:
    """Run the trunk once over all groups; return the states of the suffixes, differentiable.

    model:     a transformers causal LM or a peft model around one. Which adapter is active,
               autocast, gradient checkpointing and train or eval mode are the caller's business.
    attention: "plain" repeats each prefix for each of its rows in one right-padded batch through
               the unmodified model.
    raises:    ShapeError without groups; ModelError for a model that has no trunk and head.
    """
    if not groups:
        raise ShapeError("suffix_states needs at least one group of rows")
    backbone = backbone_of(model)
    suffixes = [suffix for group in groups for suffix in group.suffixes]
    tokens_NT, mask_NT = pad_right(suffixes, backbone.device)
    rows = [group.prefix + suffix for group in groups for suffix in group.suffixes]
    ids_NS, real_NS = pad_right(rows, backbone.device)
    states_NSH = backbone.trunk(
        input_ids=ids_NS, attention_mask=real_NS.long(), use_cache=False
    ).last_hidden_state
    starts_N = torch.tensor(
        [len(group.prefix) for group in groups for _ in group.suffixes], device=backbone.device
    )
    columns_T = torch.arange(tokens_NT.shape[1], device=backbone.device)
    columns_NT = (starts_N[:, None] + columns_T).clamp(max=ids_NS.shape[1] - 1)
    columns_NTH = columns_NT[..., None].expand(-1, -1, states_NSH.shape[-1])
    hidden_NTH = cast(Tensor, states_NSH).gather(1, columns_NTH) * mask_NT[..., None]
    return SuffixStates(hidden_NTH, tokens_NT, mask_NT)


def pad_right(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return token ids [N, T] padded with 0 on the right, and the mask [N, T] of real tokens.

    >>> ids, mask = pad_right([[5, 6], [7]], torch.device("cpu"))
    >>> ids.tolist(), mask.tolist()
    ([[5, 6], [7, 0]], [[True, True], [True, False]])
    """
    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    lengths_N = torch.tensor([len(row) for row in rows])
    ids_NT = nn.utils.rnn.pad_sequence(ids, batch_first=True).to(device)
    mask_NT = (torch.arange(ids_NT.shape[1]) < lengths_N[:, None]).to(device)
    return ids_NT, mask_NT
