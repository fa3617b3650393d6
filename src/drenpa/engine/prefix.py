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
from drenpa.engine.backbone import Backbone, backbone_of
from drenpa.engine.shared import (
    PackedLayout,
    UnsharedModelError,
    run_trunk,
    warn_unshared,
    why_unshared,
)

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
    model: nn.Module, groups: Sequence[PrefixGroup], *, attention: Attention = "shared"
) -> SuffixStates:
    """Run the trunk once over all groups; return the states of the suffixes, differentiable.

    model:     a transformers causal LM or a peft model around one. Which adapter is active,
               autocast, gradient checkpointing and train or eval mode are the caller's business.
    attention: "shared" computes each prefix once, in one sequence without padding; a model whose
               attention cannot do so takes the plain path, with one warning. "plain" repeats each
               prefix for each of its rows in one right-padded batch through the unmodified model.
    raises:    ShapeError without groups; ModelError for a model that has no trunk and head.
    """
    if not groups:
        raise ShapeError("suffix_states needs at least one group of rows")
    backbone = backbone_of(model)
    tokens_NT, mask_NT = pad_right(
        [suffix for group in groups for suffix in group.suffixes], backbone.device
    )
    if attention == "shared" and can_share(backbone, groups):
        try:
            return SuffixStates(_shared_states(backbone, groups, mask_NT), tokens_NT, mask_NT)
        except UnsharedModelError as reason:
            warn_unshared(type(backbone.trunk).__name__, str(reason))
    return SuffixStates(_plain_states(backbone, groups, mask_NT), tokens_NT, mask_NT)


def can_share(backbone: Backbone, groups: Sequence[PrefixGroup], more_tokens: int = 0) -> bool:
    """Tell whether the model can share prefixes of rows that grow by `more_tokens`, or warn."""
    longest = max(len(g.prefix) + len(suffix) for g in groups for suffix in g.suffixes)
    reason = why_unshared(backbone, longest + more_tokens, training=backbone.trunk.training)
    if reason is not None:
        warn_unshared(type(backbone.trunk).__name__, reason)
    return reason is None


def _shared_states(backbone: Backbone, groups: Sequence[PrefixGroup], mask_NT: Tensor) -> Tensor:
    layout = PackedLayout(
        [group.prefix for group in groups], [group.suffixes for group in groups], backbone.device
    )
    states_SH = run_trunk(backbone, layout.ids_1S, layout.positions_1S, layout)[0]
    suffixes_KH = torch.cat([states_SH[block.tokens] for block in layout.blocks[1::2]])
    hidden_NTH = suffixes_KH.new_zeros(*mask_NT.shape, suffixes_KH.shape[-1])
    return hidden_NTH.masked_scatter(mask_NT[..., None], suffixes_KH)


def _plain_states(backbone: Backbone, groups: Sequence[PrefixGroup], mask_NT: Tensor) -> Tensor:
    rows = [group.prefix + suffix for group in groups for suffix in group.suffixes]
    ids_NS, real_NS = pad_right(rows, backbone.device)
    states_NSH = backbone.trunk(
        input_ids=ids_NS, attention_mask=real_NS.long(), use_cache=False
    ).last_hidden_state
    starts_N = torch.tensor(
        [len(group.prefix) for group in groups for _ in group.suffixes], device=backbone.device
    )
    columns_T = torch.arange(mask_NT.shape[1], device=backbone.device)
    columns_NT = (starts_N[:, None] + columns_T).clamp(max=ids_NS.shape[1] - 1)
    columns_NTH = columns_NT[..., None].expand(-1, -1, states_NSH.shape[-1])
    return cast(Tensor, states_NSH).gather(1, columns_NTH) * mask_NT[..., None]


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
