"""Sampling: many rows at once, each with its own random stream, joining and leaving the batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from random import Random

import torch
from torch import Tensor, nn

from drenpa.core.errors import ConfigError
from drenpa.core.roles import Finish, Sampling
from drenpa.engine.backbone import Backbone, backbone_of
from drenpa.engine.decode import DecodeBatch, PlainBatch, SharedBatch
from drenpa.engine.draw import check_sampling, draw_tokens, row_stream
from drenpa.engine.lora import settled_adapters
from drenpa.engine.prefix import Attention, PrefixGroup, can_share
from drenpa.engine.replay import recorder_for
from drenpa.engine.shared import UnsharedModelError, warn_unshared


@dataclass
class SampledRow:
    """What one row continued with.

    tokens:        the sampled token ids, without the stop token.
    logprobs:      of each sampled token, and of the stop token last when `finish` is "stop", at the
                   sampling temperature before any filter (at temperature 1 when decoding is
                   greedy).
    finish:        "stop" when a stop token was drawn, "length" when `max_new_tokens` cut the row.
    closing_state: [H] float32 final hidden state at `close_id`, fed after the last of `tokens`;
                   None without one.
    stop:          the stop token that was drawn; empty when the row was cut.
    """

    tokens: list[int]
    logprobs: list[float]
    finish: Finish
    closing_state: Tensor | None
    stop: tuple[int, ...] = ()


@dataclass
class _LiveRow:
    """A row in the making; once it has ended, `ending` holds tokens still to be fed, not drawn."""

    row: SampledRow
    stream: Random
    ended: bool = False
    ending: deque[int] = field(default_factory=deque)


@torch.no_grad()
def sample(
    model: nn.Module,
    groups: Sequence[PrefixGroup],
    sampling: Sampling,
    *,
    stop_ids: Collection[int],
    close_id: int | None = None,
    key: tuple[int, ...] = (),
    attention: Attention = "shared",
    max_rows: int = 64,
    max_tokens: int | None = None,
    cuda_graphs: bool = True,
    told: Callable[[int], None] | None = None,
) -> list[list[SampledRow]]:
    """Continue every row until a stop token or `max_new_tokens`; return rows as [group][row].

    stop_ids: tokens that end a row; they are drawn like others, and not kept.
    close_id: when given, it is fed after each row's end from the live cache, and its hidden state
              comes back: the critic's score is read there, at the same position as in training.
    key:      joins sampling.seed, the group's index and the row's index as the seed of the row's
              random stream, so that max_rows and the rows around it change nothing but rounding.
    max_rows: rows in the batch at once; the others wait for a place.
    max_tokens: tokens whose keys and values are held at once, rows at their full length and room
              ahead included; None does not ask. Some rows of one group are always let in.
    cuda_graphs: on CUDA, record steps over the same rows and replay them.
    told:     called with how many rows have just left the batch.
    raises:   ConfigError for impossible sampling values or max_rows; ModelError for a model without
              trunk and head.

    Call it with the model in eval mode: dropout is the caller's business.
    """
    check_sampling(sampling)
    if max_rows < 1:
        raise ConfigError(f"max_rows must be at least 1, got {max_rows}")
    backbone = backbone_of(model)
    share = attention == "shared" and can_share(backbone, groups, sampling.max_new_tokens + 1)
    recorder = recorder_for(backbone.device) if cuda_graphs else None
    batch = SharedBatch(backbone, recorder=recorder) if share else PlainBatch(backbone)
    run = _Run(backbone, batch, sampling, frozenset(stop_ids), close_id)
    results, waiting = _plan(groups, sampling.seed, key, max_rows)
    with settled_adapters(model):
        while waiting or run.live:
            run.admit(_next_in_line(waiting, run, max_rows, max_tokens))
            before = len(run.live)
            run.step()
            if told is not None and len(run.live) < before:
                told(before - len(run.live))
    return results


_Cohort = tuple[PrefixGroup, list[_LiveRow]]


def _plan(
    groups: Sequence[PrefixGroup], seed: int, key: tuple[int, ...], max_rows: int
) -> tuple[list[list[SampledRow]], deque[_Cohort]]:
    """Return empty results [group][row] and the cohorts that fill them, max_rows or fewer each."""
    results: list[list[SampledRow]] = []
    waiting: deque[_Cohort] = deque()
    for g, group in enumerate(groups):
        live = [
            _LiveRow(SampledRow([], [], "length", None), row_stream(seed, (*key, g, r)))
            for r in range(len(group.suffixes))
        ]
        results.append([one.row for one in live])
        for at in range(0, len(live), max_rows):
            part = PrefixGroup(group.prefix, group.suffixes[at : at + max_rows])
            waiting.append((part, live[at : at + max_rows]))
    return results, waiting


def _next_in_line(
    waiting: deque[_Cohort], run: _Run, max_rows: int, max_tokens: int | None
) -> list[_Cohort]:
    """Take the cohorts that fit, first come first served; none while live rows cannot be joined."""
    taken: list[_Cohort] = []
    if run.live and not run.batch.joins_live_rows:
        return taken
    places = max_rows - len(run.live)
    while waiting and len(waiting[0][1]) <= places:
        if (run.live or taken) and max_tokens is not None:
            groups = [group for group, _ in (*taken, waiting[0])]
            if run.tokens_with(groups) > max_tokens:
                break
        places -= len(waiting[0][1])
        taken.append(waiting.popleft())
    return taken


class _Run:
    """The rows in the batch and the hidden state each of them goes on from."""

    def __init__(
        self,
        backbone: Backbone,
        batch: DecodeBatch,
        sampling: Sampling,
        stop_ids: frozenset[int],
        close_id: int | None,
    ) -> None:
        self.batch = batch
        self.live: list[_LiveRow] = []
        self._backbone = backbone
        self._sampling = sampling
        self._stop_ids = stop_ids
        self._close_id = close_id
        self._hidden_NH = torch.empty(0)

    def tokens_with(self, groups: Sequence[PrefixGroup]) -> int:
        """Return what the batch would hold with these groups when every row is at its longest."""
        return self.batch.tokens_with(groups, self._sampling.max_new_tokens + 1)

    def admit(self, cohorts: Sequence[_Cohort]) -> None:
        """Encode the rows of `cohorts` and let them join."""
        if not cohorts:
            return
        groups = [group for group, _ in cohorts]
        try:
            hidden_NH = self.batch.admit(groups)
        except UnsharedModelError as reason:
            # Seen in the first pass or never: no row is live yet.
            warn_unshared(type(self._backbone.trunk).__name__, str(reason))
            self.batch = PlainBatch(self._backbone)
            hidden_NH = self.batch.admit(groups)
        self._hidden_NH = torch.cat([self._hidden_NH, hidden_NH]) if self.live else hidden_NH
        self.live.extend(row for _, rows in cohorts for row in rows)

    def step(self) -> None:
        """Draw a token for every row still writing, drop rows that are done, feed the others."""
        self._draw([n for n, row in enumerate(self.live) if not row.ended])
        staying = [n for n, row in enumerate(self.live) if not (row.ended and not row.ending)]
        if len(staying) < len(self.live):
            self.batch.keep(staying)
            self.live = [self.live[n] for n in staying]
        if not self.live:
            return
        fed = [row.ending.popleft() if row.ended else row.row.tokens[-1] for row in self.live]
        self._hidden_NH = self.batch.feed(torch.tensor(fed, device=self._backbone.device))
        for n, row in enumerate(self.live):
            if row.ended and not row.ending:
                row.row.closing_state = self._hidden_NH[n].float().clone()

    def _draw(self, writing: list[int]) -> None:
        if not writing:
            return
        hidden_NH = self._hidden_NH
        if len(writing) < len(self.live):
            hidden_NH = hidden_NH[torch.tensor(writing, device=hidden_NH.device)]
        uniforms_N = torch.tensor(
            [self.live[n].stream.random() for n in writing],
            dtype=torch.float64,
            device=hidden_NH.device,
        )
        tokens_N, logprobs_N = draw_tokens(
            self._backbone.logits(hidden_NH), uniforms_N, self._sampling
        )
        for n, token, logprob in zip(writing, tokens_N.tolist(), logprobs_N.tolist(), strict=True):
            self._take(self.live[n], token, logprob)

    def _take(self, live: _LiveRow, token: int, logprob: float) -> None:
        """Add a drawn token to its row; if it ends the row, say what is still to be fed."""
        row = live.row
        row.logprobs.append(logprob)
        if token in self._stop_ids:
            row.finish, row.stop, live.ended = "stop", (token,), True
        else:
            row.tokens.append(token)
            live.ended = len(row.tokens) == self._sampling.max_new_tokens
        if live.ended and self._close_id is not None:
            live.ending.extend(
                [self._close_id] if row.finish == "stop" else [row.tokens[-1], self._close_id]
            )
