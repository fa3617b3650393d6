"""Attention of rows to a prefix they share and to themselves, with its gradient, in plain matrix
products.

One product per group takes the queries of all its rows to the shared keys, one batched product
takes each row to its own keys, and one softmax in float32 spans both: what two log-sum-exps would
merge is never apart. Query heads that share a key head stand side by side as if they were tokens,
so keys are not repeated. Nothing but queries, keys and values is kept for the backward pass, which
computes the weights again, block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Weights held at once, over all heads: 32 MB in bfloat16.
BLOCK_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class RowBlock:
    """R rows of one group in a packed sequence of S tokens.

    prefix:  first and one-past-last token of what they share; equal when they share nothing.
    grid_RT: [R, T] the packed position of every token, rows padded on the right with their own last
             token.
    tokens:  the packed positions of the rows' tokens (they lie together), and
    cells_K: [K] where each of these stands in the flattened grid; None when no row is padded.
    """

    prefix: slice
    grid_RT: Tensor
    tokens: slice
    cells_K: Tensor | None

    @classmethod
    def of(
        cls, prefix: int, size: int, start: int, lengths: Sequence[int], device: torch.device
    ) -> RowBlock:
        """Lay out rows of the given lengths that stand one after the other from `start`."""
        longest = max(lengths)
        grid: list[list[int]] = []
        cells: list[int] = []
        at = start
        for r, length in enumerate(lengths):
            grid.append([at + min(t, length - 1) for t in range(longest)])
            cells.extend(range(r * longest, r * longest + length))
            at += length
        ragged = len(cells) < len(lengths) * longest
        return cls(
            slice(prefix, prefix + size),
            torch.tensor(grid, device=device),
            slice(start, at),
            torch.tensor(cells, device=device) if ragged else None,
        )

    def spread(self, x_SHD: Tensor, heads: int) -> Tensor:
        """Return [heads, R, T, H/heads, D]: the rows' part of a packed tensor on the grid."""
        rows, longest = self.grid_RT.shape
        if self.cells_K is None:
            x_RTHD = x_SHD[self.tokens].reshape(rows, longest, *x_SHD.shape[1:])
        else:
            x_RTHD = x_SHD[self.grid_RT]
        x_RThHD = x_RTHD.unflatten(2, (heads, -1))
        return x_RThHD.permute(2, 0, 1, 3, 4)

    def gather(self, x_hRTHD: Tensor) -> Tensor:
        """Return [K, H, D]: the rows' tokens without padding, `spread` undone."""
        x_KHD = x_hRTHD.permute(1, 2, 0, 3, 4).flatten(2, 3).flatten(0, 1)
        return x_KHD if self.cells_K is None else x_KHD[self.cells_K]


def grouped_attention(
    q_SHD: Tensor,
    k_SHD: Tensor,
    v_SHD: Tensor,
    blocks: Sequence[RowBlock],
    scale: float,
    cap: float | None = None,
) -> Tensor:
    """Return [S, Hq, D]: every token attends to its row's prefix and, causally, to its row.

    q_SHD:  [S, Hq, D] queries; k_SHD and v_SHD: [S, Hkv, D] keys and values, Hkv a divisor of Hq.
    blocks: rows that cover every packed token once.
    cap:    Gemma's bound: scores become cap · tanh(score / cap).
    """
    return _GroupedAttention.apply(q_SHD, k_SHD, v_SHD, blocks, scale, cap)


@dataclass(frozen=True)
class _Tile:
    """Some rows and some of their query tokens, few enough for their weights to be held at once."""

    rows: slice
    queries: slice


def _tiles(block: RowBlock, heads: int) -> Iterator[_Tile]:
    rows, longest = block.grid_RT.shape
    keys = block.prefix.stop - block.prefix.start + longest
    queries = max(1, min(longest, BLOCK_ELEMENTS // (heads * keys)))
    if queries < longest or longest > 512:
        # Short runs of queries, because a causal row's later keys need not be multiplied at all.
        queries = min(queries, 256)
    together = max(1, BLOCK_ELEMENTS // (heads * keys * queries))
    for row in range(0, rows, together):
        for query in range(0, longest, queries):
            yield _Tile(
                slice(row, min(row + together, rows)), slice(query, min(query + queries, longest))
            )


def joint_scores(
    q: Tensor, kp: Tensor, ko: Tensor, scale: float, cap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Return scores [B, R·X, P+U] of queries over their prefix and, beside them, their own keys.

    q:  [B, R, X, D] X queries of each of R rows that share a prefix.
    kp: [B, D, P] the prefix's keys; ko: [B, R, D, U] the rows' own keys; both with tokens last.
    returns: also the slope of the cap at each score, None without a cap.
    """
    shared = kp.shape[2]
    scores = q.new_empty(q.shape[0], q.shape[1] * q.shape[2], shared + ko.shape[3])
    nothing = q.new_zeros(1, 1, 1)
    on_prefix, on_own = joint_parts(scores, shared, q.shape[1])
    if shared:
        torch.baddbmm(nothing, q.flatten(1, 2), kp, beta=0, alpha=scale, out=on_prefix)
    torch.baddbmm(nothing, q.flatten(0, 1), ko.flatten(0, 1), beta=0, alpha=scale, out=on_own)
    if cap is None:
        return scores, None
    bent = torch.tanh(scores / cap)
    return bent * cap, 1 - bent * bent


def joint_values(weights: Tensor, vp: Tensor, vo: Tensor) -> Tensor:
    """Return [B, R·X, D]: values [B, P, D] and [B, R, U, D] mixed by weights [B, R·X, P+U]."""
    on_prefix, on_own = joint_parts(weights, vp.shape[1], vo.shape[1])
    mixed = torch.bmm(on_own, vo.flatten(0, 1)).view(*weights.shape[:2], -1)
    return torch.baddbmm(mixed, on_prefix, vp) if vp.shape[1] else mixed


def joint_parts(x: Tensor, shared: int, rows: int) -> tuple[Tensor, Tensor]:
    """Split [B, R·X, P+U] into views: the prefix's [B, R·X, P], the rows' own [B·R, X, U]."""
    own = x.view(x.shape[0] * rows, -1, x.shape[-1])[..., shared:]
    return x[..., :shared], own


def _weights(
    q: Tensor, kp: Tensor, ko: Tensor, first: int, scale: float, cap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Return causal weights of queries [h, R, T, r, D] that begin at each row's token `first`."""
    h, rows, tokens, r, _ = q.shape
    scores, slope = joint_scores(
        q.flatten(2, 3), kp.transpose(1, 2), ko.transpose(2, 3), scale, cap
    )
    _, on_own = joint_parts(scores, kp.shape[1], rows)
    future = torch.full((tokens, ko.shape[2]), -math.inf, device=q.device, dtype=q.dtype)
    on_own.view(h * rows, tokens, r, -1).add_(future.triu_(first + 1)[:, None])
    return scores.softmax(-1), slope


class _GroupedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_SHD: Tensor,
        k_SHD: Tensor,
        v_SHD: Tensor,
        blocks: Sequence[RowBlock],
        scale: float,
        cap: float | None,
    ) -> Tensor:
        ctx.save_for_backward(q_SHD, k_SHD, v_SHD)
        ctx.blocks, ctx.scale, ctx.cap = blocks, scale, cap
        out_SHD = q_SHD.new_empty(*q_SHD.shape[:2], v_SHD.shape[2])
        for block in blocks:
            q, ko, vo, kp, vp = _operands(block, q_SHD, k_SHD, v_SHD)
            out = q.new_empty(*q.shape[:4], vo.shape[-1])
            for tile in _tiles(block, q_SHD.shape[1]):
                part = q[:, tile.rows, tile.queries]
                seen = slice(0, tile.queries.stop)
                weights, _ = _weights(
                    part, kp, ko[:, tile.rows, seen], tile.queries.start, scale, cap
                )
                mixed = joint_values(weights, vp, vo[:, tile.rows, seen])
                out[:, tile.rows, tile.queries] = mixed.view(*part.shape[:4], -1)
            out_SHD[block.tokens] = block.gather(out)
        return out_SHD

    @staticmethod
    def backward(ctx: Any, grad_SHD: Tensor) -> tuple[Tensor | None, ...]:
        q_SHD, k_SHD, v_SHD = ctx.saved_tensors
        dq_SHD = torch.empty_like(q_SHD, memory_format=torch.contiguous_format)
        dk_SHD = torch.zeros(k_SHD.shape, device=k_SHD.device)
        dv_SHD = torch.zeros(v_SHD.shape, device=v_SHD.device)
        heads = k_SHD.shape[1]
        for block in ctx.blocks:
            q, ko, vo, kp, vp = _operands(block, q_SHD, k_SHD, v_SHD)
            do = _spread_grad(block, grad_SHD, heads)
            dq = torch.empty_like(q)
            dko = torch.zeros(ko.shape, device=ko.device)
            dvo = torch.zeros(vo.shape, device=vo.device)
            dkp = torch.zeros(kp.shape, device=kp.device)
            dvp = torch.zeros(vp.shape, device=vp.device)
            for tile in _tiles(block, q_SHD.shape[1]):
                part, dpart = q[:, tile.rows, tile.queries], do[:, tile.rows, tile.queries]
                seen = slice(0, tile.queries.stop)
                ko_tile, vo_tile = ko[:, tile.rows, seen], vo[:, tile.rows, seen]
                weights, slope = _weights(part, kp, ko_tile, tile.queries.start, ctx.scale, ctx.cap)
                shared, rows = kp.shape[1], part.shape[1]
                part_all, dpart_all = part.flatten(1, 3), dpart.flatten(1, 3)
                part_own = part.flatten(2, 3).flatten(0, 1)
                dpart_own = dpart.flatten(2, 3).flatten(0, 1)
                dw = torch.empty_like(weights)
                dw_prefix, dw_own = joint_parts(dw, shared, rows)
                torch.bmm(dpart_own, vo_tile.flatten(0, 1).transpose(1, 2), out=dw_own)
                if shared:
                    torch.bmm(dpart_all, vp.transpose(1, 2), out=dw_prefix)
                ds = torch._softmax_backward_data(dw, weights, -1, dw.dtype)
                if slope is not None:
                    ds = ds.mul_(slope)
                # Transposed below: contiguous copies make these products three times as fast.
                ds_prefix, ds_own = (x.contiguous() for x in joint_parts(ds, shared, rows))
                w_prefix, w_own = (x.contiguous() for x in joint_parts(weights, shared, rows))
                dvo[:, tile.rows, seen] += torch.bmm(w_own.transpose(1, 2), dpart_own).view(
                    vo_tile.shape
                )
                dko[:, tile.rows, seen] += torch.bmm(ds_own.transpose(1, 2), part_own).view(
                    ko_tile.shape
                )
                if shared:
                    dvp += torch.bmm(w_prefix.transpose(1, 2), dpart_all)
                    dkp += torch.bmm(ds_prefix.transpose(1, 2), part_all)
                d = joint_values(ds, kp, ko_tile)
                dq[:, tile.rows, tile.queries] = d.view(part.shape).mul_(ctx.scale)
            dq_SHD[block.tokens] = block.gather(dq)
            dk_SHD[block.tokens] += block.gather(dko[:, :, :, None]).mul_(ctx.scale)
            dv_SHD[block.tokens] += block.gather(dvo[:, :, :, None])
            dk_SHD[block.prefix] += dkp.transpose(0, 1).mul_(ctx.scale)
            dv_SHD[block.prefix] += dvp.transpose(0, 1)
        return dq_SHD, dk_SHD.to(k_SHD.dtype), dv_SHD.to(v_SHD.dtype), None, None, None


def _operands(
    block: RowBlock, q_SHD: Tensor, k_SHD: Tensor, v_SHD: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return queries [h, R, T, r, D], own keys and values [h, R, T, D], the prefix's [h, P, D]."""
    heads = k_SHD.shape[1]
    q = block.spread(q_SHD, heads).contiguous()
    ko = block.spread(k_SHD, heads)[:, :, :, 0].contiguous()
    vo = block.spread(v_SHD, heads)[:, :, :, 0].contiguous()
    kp = k_SHD[block.prefix].transpose(0, 1)
    vp = v_SHD[block.prefix].transpose(0, 1)
    return q, ko, vo, kp, vp


def _spread_grad(block: RowBlock, grad_SHD: Tensor, heads: int) -> Tensor:
    """Return the gradient [h, R, T, r, D] on the grid, zero at padding, which no loss has seen."""
    do = block.spread(grad_SHD, heads)
    if block.cells_K is None:
        return do.contiguous()
    real = torch.zeros(block.grid_RT.numel(), device=do.device, dtype=do.dtype)
    real[block.cells_K] = 1
    return do * real.view(1, *block.grid_RT.shape, 1, 1)
