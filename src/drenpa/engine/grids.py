"""Where decoding keeps one layer's keys and values: prefixes once per group, own tokens per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drenpa.engine.shared import Span


@dataclass(frozen=True)
class Move:
    """Which parts of old grids live on in new ones, the same for every layer.

    groups:  the old groups that become the first of the new.
    old, new: (groups, places) of each row before and after.
    old_columns, new_columns: what is copied of each row, and where to.
    """

    groups: list[int]
    old: tuple[list[int], list[int]]
    new: tuple[list[int], list[int]]
    old_columns: slice
    new_columns: slice


@dataclass(frozen=True)
class Newcomers:
    """One group's rows on their way from a packed pass to the grids, right-aligned at the column to
    be written next.

    prefix: the packed positions of what they share.
    own_RT: [R, T] the packed positions of their own tokens, padded on the left with their first.
    """

    group: int
    prefix: slice
    own_RT: Tensor

    @classmethod
    def of(cls, group: int, span: Span, device: torch.device) -> Newcomers:
        """Find a group's tokens in the packed sequence."""
        longest = max(span.lengths)
        own, at = [], span.start + span.prefix
        for length in span.lengths:
            own.append([at + max(0, t - longest + length) for t in range(longest)])
            at += length
        prefix = slice(span.start, span.start + span.prefix)
        return cls(group, prefix, torch.tensor(own, device=device))


@dataclass(frozen=True)
class Grids:
    """One layer's keys and values: the prefixes of M groups, and the own tokens of G places in
    each.

    kp: [M, Hkv, D, P], vp: [M, Hkv, P, D], ko: [M, Hkv, G, D, C], vo: [M, Hkv, G, C, D]. Keys lie
        with their tokens
    last, as the products want them. What nothing was written to is zero.
    """

    kp: Tensor
    vp: Tensor
    ko: Tensor
    vo: Tensor

    @classmethod
    def empty(
        cls, groups: int, places: int, prefix: int, columns: int, like: tuple[Tensor, Tensor]
    ) -> Grids:
        """Return grids of zeros; `like` is any key [.., Hkv, D] and value [.., Hkv, D]."""
        k, v = like
        heads = k.shape[-2]
        return cls(
            k.new_zeros(groups, heads, k.shape[-1], prefix),
            v.new_zeros(groups, heads, prefix, v.shape[-1]),
            k.new_zeros(groups, heads, places, k.shape[-1], columns),
            v.new_zeros(groups, heads, places, columns, v.shape[-1]),
        )

    @property
    def like(self) -> tuple[Tensor, Tensor]:
        """A key and a value of this layer, for `empty`."""
        return self.ko[0, :, 0, :, 0], self.vo[0, :, 0, 0]

    def take_over(self, old: Grids, move: Move) -> None:
        """Copy from `old` the groups and rows that live on."""
        count, size = len(move.groups), old.kp.shape[3]
        size = min(size, self.kp.shape[3])
        self.kp[:count, :, :, :size] = old.kp[move.groups][..., :size]
        self.vp[:count, :, :size] = old.vp[move.groups][:, :, :size]
        (old_m, old_i), (new_m, new_i) = move.old, move.new
        self.ko[..., move.new_columns][new_m, :, new_i] = old.ko[..., move.old_columns][
            old_m, :, old_i
        ]
        self.vo[..., move.new_columns, :][new_m, :, new_i] = old.vo[..., move.old_columns, :][
            old_m, :, old_i
        ]

    def take_in(
        self, newcomers: Sequence[Newcomers], column: int, k_SHD: Tensor, v_SHD: Tensor
    ) -> None:
        """Copy newcomers' keys and values from a packed pass; `column` is to be written next."""
        for group in newcomers:
            m, size = group.group, group.prefix.stop - group.prefix.start
            self.kp[m, :, :, :size] = k_SHD[group.prefix].permute(1, 2, 0)
            self.vp[m, :, :size] = v_SHD[group.prefix].permute(1, 0, 2)
            rows, tokens = group.own_RT.shape
            self.ko[m, :, :rows, :, column - tokens : column] = k_SHD[group.own_RT].permute(
                2, 0, 3, 1
            )
            self.vo[m, :, :rows, column - tokens : column] = v_SHD[group.own_RT].permute(2, 0, 1, 3)

    def write(self, column: int | Tensor, k_CHD: Tensor, v_CHD: Tensor) -> None:
        """Write the keys and values [M·G, Hkv, D] of one token of every place.

        column: a number, or a tensor [1] that a recorded step reads it from.
        """
        groups, heads, places = self.ko.shape[:3]
        k = k_CHD.reshape(groups, places, heads, -1).transpose(1, 2)
        v = v_CHD.reshape(groups, places, heads, -1).transpose(1, 2)
        if isinstance(column, Tensor):
            self.ko.index_copy_(4, column, k[..., None])
            self.vo.index_copy_(3, column, v[..., None, :])
        else:
            self.ko[..., column] = k
            self.vo[..., column, :] = v
