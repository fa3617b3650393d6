"""The two roles that stages play for each other: who writes answers, and who scores them.

A stage asks for a `Generator` or a `Scorer` and never for a class: the policy may be a local model
with an adapter or a server, the critic may be small, large, or a plain scalar head. Everything here
is plain values, so no torch is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    temperature 0 is greedy. top_k 0, top_p 1 and min_p 0 switch the filters off. Each row draws
    from its own random stream, seeded by (seed, the row's key), so the batch around a row changes
    nothing but rounding.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Draft:
    """One sampled answer.

    tokens:   the sampled token ids, without the stop token.
    logprobs: the log-probability of each sampled token, and of the stop token last when `finish` is
              "stop", under the distribution at `temperature` before top-k, top-p and min-p.
    finish:   "stop" when the model ended by itself, "length" when the limit cut it.
    stop:     the stop token that was drawn, of the several that a model may have; empty when the
              limit cut it, and from a server that tells no tokens.
    """

    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Finish
    stop: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scores:
    """A scorer's judgement of Q questions with G answers each, as nested tuples [Q][G].

    rewards:   a float, or NaN where the answer could not be scored (counted by the caller, never
               taken as 0).
    critiques: the reasons written before the score; "" from a scorer that writes none.
    seconds:   wall time spent, for the logs.
    """

    rewards: tuple[tuple[float, ...], ...]
    critiques: tuple[tuple[str, ...], ...]
    seconds: float = field(default=0.0, compare=False)


class Generator(Protocol):
    """Writes `group` answers to each conversation prompt."""

    def generate(
        self, prompts: Sequence[str], *, group: int, sampling: Sampling, key: tuple[int, ...] = ()
    ) -> list[list[Draft]]:
        """Return [P][G] drafts. `key` joins the seed of every row's random stream (for example the
        training step)."""
        ...


class Scorer(Protocol):
    """Scores the answers of each question, reasons first where it can."""

    def score(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> Scores:
        """Return rewards and critiques as [Q][G] for `answers` given as [Q][G] texts."""
        ...
