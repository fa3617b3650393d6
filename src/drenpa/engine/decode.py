"""A batch of rows that grows by one token at a time: the caches behind sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from drenpa.engine.backbone import Backbone
from drenpa.engine.prefix import PrefixGroup


class DecodeBatch(Protocol):
    """Rows with a live cache, in the order in which they were admitted, less those dropped."""

    joins_live_rows: bool

    def admit(self, groups: Sequence[PrefixGroup]) -> Tensor:
        """Take in the rows of `groups`; return [n, H] the final hidden state at each one's end."""
        ...

    def feed(self, tokens_N: Tensor) -> Tensor:
        """Append one token to every row; return [N, H] the final hidden states at these tokens."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row but these, given in ascending order."""
        ...


class PlainBatch:
    """Each row holds its whole prefix in transformers' cache; new rows wait for an empty batch."""

    joins_live_rows = False

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._cache = DynamicCache()
        self._real_NS = torch.empty(0, 0, dtype=torch.long)

    def admit(self, groups: Sequence[PrefixGroup]) -> Tensor:  # noqa: D102
        rows = [group.prefix + suffix for group in groups for suffix in group.suffixes]
        width = max(len(row) for row in rows)
        device = self._backbone.device
        ids_NS = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
        self._real_NS = torch.tensor(
            [[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device
        )
        self._cache = DynamicCache(config=self._backbone.config)
        return self._forward(ids_NS, (self._real_NS.cumsum(-1) - 1).clamp(min=0))

    def feed(self, tokens_N: Tensor) -> Tensor:  # noqa: D102
        self._real_NS = torch.cat([self._real_NS, torch.ones_like(self._real_NS[:, :1])], dim=1)
        return self._forward(tokens_N[:, None], self._real_NS.sum(-1, keepdim=True) - 1)

    def keep(self, rows: Sequence[int]) -> None:  # noqa: D102
        rows_N = torch.tensor(rows, dtype=torch.long, device=self._real_NS.device)
        self._real_NS = self._real_NS[rows_N]
        self._cache.batch_select_indices(rows_N)

    def _forward(self, ids_NT: Tensor, positions_NT: Tensor) -> Tensor:
        out = self._backbone.trunk(
            input_ids=ids_NT,
            attention_mask=self._real_NS,
            position_ids=positions_NT,
            past_key_values=self._cache,
            use_cache=True,
        )
        return cast(Tensor, out.last_hidden_state[:, -1])
