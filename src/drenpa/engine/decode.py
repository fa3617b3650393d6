"""A batch of rows that grows by one token at a time: the caches behind sampling."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor
from transformers import DynamicCache

from drenpa.engine.attend import joint_scores, joint_values
from drenpa.engine.backbone import Backbone
from drenpa.engine.grids import Grids, Move, Newcomers
from drenpa.engine.prefix import PrefixGroup
from drenpa.engine.replay import SETTLED_AFTER, Recorder, Work, recorded
from drenpa.engine.shared import PackedLayout, run_trunk

ROOM = 64  # columns allocated ahead for each row's own tokens


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

    def tokens_with(self, groups: Sequence[PrefixGroup], more: int) -> int:
        """Return for how many tokens keys and values will be held at most, if the rows of `groups`
        join and every row grows by `more` tokens after its suffix."""
        ...


class PlainBatch:
    """Each row holds its whole prefix in transformers' cache; new rows wait for an empty batch."""

    joins_live_rows = False

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        # transformers 5.24 gave the argument a shorter name.
        taken = inspect.signature(backbone.trunk.forward).parameters
        self._cache_name = "cache" if "cache" in taken else "past_key_values"
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

    def tokens_with(self, groups: Sequence[PrefixGroup], more: int) -> int:  # noqa: D102
        rows = [len(group.prefix) + len(suffix) for group in groups for suffix in group.suffixes]
        return len(rows) * (max(rows) + more)

    def _forward(self, ids_NT: Tensor, positions_NT: Tensor) -> Tensor:
        out = self._backbone.trunk(
            input_ids=ids_NT,
            attention_mask=self._real_NS,
            position_ids=positions_NT,
            use_cache=True,
            **{self._cache_name: self._cache},
        )
        return cast(Tensor, out.last_hidden_state[:, -1])


@dataclass
class _Seat:
    """A row's group and place in the grids, its first column, its tokens so far with the prefix."""

    group: int
    place: int
    start: int
    length: int


@dataclass(frozen=True)
class _Step:
    """What one step's attention needs to know beside the grids.

    columns: the columns that some row may look at.
    at:      the column being written: a number, or a tensor [1] in a recorded step.
    rows_C:  for each place of the grids the row that sits there (any row where none does); None
             when all are taken.
    cells_N: for each row its place; None likewise.
    bias:    [M, 1, G, 1, P+U] minus infinity where a place must not look; None when it may look
             everywhere.
    """

    columns: slice
    at: int | Tensor
    rows_C: Tensor | None
    cells_N: Tensor | None
    bias: Tensor | None


@dataclass
class _Still:
    """A step's arrays over all places of the grids, which stay where they are from step to step.

    An empty place is fed token 0 at position 0 and looks at the column being written; nothing reads
    what comes of it.

    replay: runs the step as it was recorded; None until it is.
    steps:  how many there have been.
    """

    ids_C1: Tensor
    positions_C1: Tensor
    at_1: Tensor
    bias: Tensor
    replay: Work | None = None
    steps: int = 0


class SharedBatch:
    """Each group's prefix is held once; each row holds its own tokens, with room ahead.

    All rows write the same column of the grids at the same step; a row that joined later starts at
    a later column. A row that is dropped leaves the products at once, and the grids when a quarter
    of their places are empty. With a recorder a dropped row stays in the products as long as it
    stays in the grids, and steps between two layouts of the grids are recorded and replayed.
    """

    joins_live_rows = True

    def __init__(
        self, backbone: Backbone, room: int = ROOM, recorder: Recorder | None = None
    ) -> None:
        self.layers_seen = 0
        self._recorder = recorder
        self._still: _Still | None = None
        self._backbone = backbone
        self._room = room
        self._layers: list[Grids] = []
        self._seats: list[_Seat] = []
        self._prefixes: list[int] = []
        self._longest = 0
        self._column = 0
        self._step = _Step(slice(0, 0), 0, None, None, None)

    def admit(self, groups: Sequence[PrefixGroup]) -> Tensor:  # noqa: D102
        device = self._backbone.device
        packed = PackedLayout(
            [group.prefix for group in groups],
            [group.suffixes for group in groups],
            device,
            keep=True,
        )
        states_SH = run_trunk(self._backbone, packed.ids_1S, packed.positions_1S, packed)[0]
        self._rebuild(packed)
        ends = []
        for span in packed.spans:
            at = span.start + span.prefix
            for length in span.lengths:
                at += length
                ends.append(at - 1)
        return states_SH[torch.tensor(ends, device=device)]

    def feed(self, tokens_N: Tensor) -> Tensor:  # noqa: D102
        if self._column == self._layers[0].vo.shape[3]:
            self._rebuild()
        positions_N1 = torch.tensor([seat.length for seat in self._seats], device=tokens_N.device)[
            :, None
        ]
        if self._recorder is not None:
            states_N1H = self._feed_still(tokens_N[:, None], positions_N1, self._recorder)
        else:
            self._step = self._next_step()
            states_N1H = run_trunk(self._backbone, tokens_N[:, None], positions_N1, self)
        self._column += 1
        for seat in self._seats:
            seat.length += 1
        return states_N1H[:, 0]

    def keep(self, rows: Sequence[int]) -> None:  # noqa: D102
        self._seats = [self._seats[row] for row in rows]
        if not self._seats:
            self._layers, self._prefixes, self._column, self._longest = [], [], 0, 0
            self._still = None
            return
        groups, _, places = self._layers[0].ko.shape[:3]
        if len(self._seats) <= 0.75 * groups * places:
            self._rebuild()

    def tokens_with(self, groups: Sequence[PrefixGroup], more: int) -> int:  # noqa: D102
        live = Counter(seat.group for seat in self._seats)
        places = max([*live.values(), *(len(group.suffixes) for group in groups)])
        prefix = max([*(self._prefixes[m] for m in live), *(len(group.prefix) for group in groups)])
        longest = max([self._longest, *(len(s) for group in groups for s in group.suffixes)])
        own = longest + more + self._room
        return (len(live) + len(groups)) * (prefix + places * own)

    def attend(  # noqa: D102
        self,
        layer: int,
        q_NHTD: Tensor,
        k_NHTD: Tensor,
        v_NHTD: Tensor,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        grids, step = self._layers[layer], self._step
        groups, heads, places = grids.ko.shape[:3]
        q, k, v = q_NHTD[:, :, 0], k_NHTD[:, :, 0], v_NHTD[:, :, 0]
        if step.rows_C is not None:
            q, k, v = q[step.rows_C], k[step.rows_C], v[step.rows_C]
        grids.write(step.at, k, v)
        q = q.reshape(groups, places, heads, -1, q.shape[-1]).transpose(1, 2).flatten(0, 1)
        ko = grids.ko[..., step.columns].flatten(0, 1)
        vo = grids.vo[..., step.columns, :].flatten(0, 1)
        scores, _ = joint_scores(q, grids.kp.flatten(0, 1), ko, scale, cap)
        if step.bias is not None:
            scores.view(groups, heads, places, -1, scores.shape[-1]).add_(step.bias)
        mixed = joint_values(scores.softmax(-1), grids.vp.flatten(0, 1), vo)
        out = mixed.view(groups, heads, places, -1, mixed.shape[-1]).transpose(1, 2)
        out = out.reshape(groups * places, 1, -1, mixed.shape[-1])
        return out if step.cells_N is None else out[step.cells_N]

    def _next_step(self) -> _Step:
        """Return what the next token's attention needs; most of it only when rows differ."""
        grids, device = self._layers[0], self._backbone.device
        groups, _, places = grids.ko.shape[:3]
        first = min(seat.start for seat in self._seats)
        columns = slice(first, self._column + 1)
        rows_C = cells_N = bias = None
        if len(self._seats) < groups * places:
            cells_N = self._cells()
            rows_C = torch.zeros(groups * places, dtype=torch.long, device=device)
            rows_C[cells_N] = torch.arange(len(self._seats), device=device)
        uneven = any(seat.start != first for seat in self._seats)
        if uneven or any(size != grids.kp.shape[3] for size in self._prefixes):
            bias = self._bias(columns, first)
        return _Step(columns, self._column, rows_C, cells_N, bias)

    def _cells(self) -> Tensor:
        """Return [N] where each row sits among all places."""
        places = self._layers[0].ko.shape[2]
        cells = [seat.group * places + seat.place for seat in self._seats]
        return torch.tensor(cells, device=self._backbone.device)

    def _bias(self, columns: slice, empty: int) -> Tensor:
        """Return [M, 1, G, 1, P+U]: minus infinity where a place must not look.

        empty: the first column that a place may look at where no row sits.
        """
        grids, device = self._layers[0], self._backbone.device
        groups, _, places = grids.ko.shape[:3]
        starts = torch.full((groups, places), empty)
        for seat in self._seats:
            starts[seat.group, seat.place] = seat.start
        sizes_M = torch.tensor(self._prefixes)
        off_prefix = torch.arange(grids.kp.shape[3]) >= sizes_M[:, None]
        off_own = torch.arange(columns.start, columns.stop) < starts[..., None]
        off = torch.cat([off_prefix[:, None].expand(-1, places, -1), off_own], dim=-1).to(device)
        bias = torch.zeros(off.shape, dtype=grids.ko.dtype, device=device)
        return bias.masked_fill_(off, float("-inf"))[:, None, :, None]

    def _feed_still(self, tokens_N1: Tensor, positions_N1: Tensor, recorder: Recorder) -> Tensor:
        """Feed one token to every place of the grids; return the rows' states [N, 1, H]."""
        still = self._still = self._still or self._new_still()
        cells_N = self._cells()
        still.ids_C1[cells_N] = tokens_N1
        still.positions_C1[cells_N] = positions_N1
        still.at_1.fill_(self._column)
        still.bias[..., self._layers[0].kp.shape[3] + self._column] = 0
        still.steps += 1

        def work() -> Tensor:
            return run_trunk(self._backbone, still.ids_C1, still.positions_C1, self)

        if still.replay is not None:
            states_C1H = still.replay()
        elif still.steps <= SETTLED_AFTER:
            states_C1H = work()
        else:
            states_C1H, still.replay = recorded(work, recorder)
            if still.replay is None:
                self._recorder = None
        return states_C1H[cells_N]

    def _new_still(self) -> _Still:
        """Return arrays for the grids as they are now; columns open one after the other."""
        device = self._backbone.device
        groups, _, places, _, width = self._layers[0].ko.shape
        ids_C1 = torch.zeros(groups * places, 1, dtype=torch.long, device=device)
        at_1 = torch.zeros(1, dtype=torch.long, device=device)
        bias = self._bias(slice(0, width), self._column)
        bias[..., self._layers[0].kp.shape[3] + self._column :] = float("-inf")
        self._step = _Step(slice(0, width), at_1, None, None, bias)
        return _Still(ids_C1, torch.zeros_like(ids_C1), at_1, bias)

    def _rebuild(self, joining: PackedLayout | None = None) -> None:
        """Copy what live rows need into new grids with room ahead; let the rows of `joining` in."""
        self._still = None
        spans = joining.spans if joining else []
        old_groups = list(dict.fromkeys(seat.group for seat in self._seats))
        first = min((seat.start for seat in self._seats), default=self._column)
        written = self._column - first
        column = max([written, *(max(span.lengths) for span in spans)])
        old = _positions(self._seats)
        for m, group in enumerate(old_groups):
            for i, seat in enumerate(s for s in self._seats if s.group == group):
                seat.group, seat.place, seat.start = m, i, seat.start - first + column - written

        old_columns, columns = slice(first, self._column), slice(column - written, column)
        move = Move(old_groups, old, _positions(self._seats), old_columns, columns)
        newcomers = [
            Newcomers.of(m, span, self._backbone.device)
            for m, span in enumerate(spans, start=len(old_groups))
        ]
        for one, span in zip(newcomers, spans, strict=True):
            self._seats.extend(
                _Seat(one.group, i, column - length, span.prefix + length)
                for i, length in enumerate(span.lengths)
            )
        self._prefixes = [self._prefixes[m] for m in old_groups] + [span.prefix for span in spans]
        self._longest = max([self._longest, *(max(span.lengths) for span in spans)])
        self._column = column
        self._layers = self._new_layers(move, newcomers, joining)

    def _new_layers(
        self, move: Move, newcomers: Sequence[Newcomers], joining: PackedLayout | None
    ) -> list[Grids]:
        places = 1 + max(seat.place for seat in self._seats)
        kept = joining.kept if joining and joining.kept else []
        likes = kept or [grids.like for grids in self._layers]
        layers = []
        for layer, like in enumerate(likes):
            grids = Grids.empty(
                len(self._prefixes), places, max(self._prefixes), self._column + self._room, like
            )
            if move.groups:
                grids.take_over(self._layers[layer], move)
                # The old grids go before the next layer's new ones come.
                self._layers[layer] = grids
            if newcomers:
                grids.take_in(newcomers, self._column, *like)
            layers.append(grids)
        return layers


def _positions(seats: Sequence[_Seat]) -> tuple[list[int], list[int]]:
    return [seat.group for seat in seats], [seat.place for seat in seats]
