"""Stand-ins for what judges lean on: a language model without a model, a judge without a view."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.text import content_units, units
from drenpa.judge.judges import Case, Opinion


@dataclass
class FakeLanguageModel:
    """Satisfies `judge.probability.LanguageModel` with a table of which words go with which.

    A unit costs 4 nats; 1 if it was said before in the answer; and 2 less if the context holds it
    or a word of the same field. So a question lends probability to answers of its field.
    """

    fields: Sequence[frozenset[str]] = ()
    longest: int = 100_000  # characters it can read
    calls: list[list[tuple[str, str]]] = field(default_factory=list)

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        self.calls.append(list(pairs))
        return [self._one(context, continuation) for context, continuation in pairs]

    def too_long(self, text: str) -> str:
        return f"{len(text)} of {self.longest}" if len(text) > self.longest else ""

    def _one(self, context: str, continuation: str) -> tuple[float, int]:
        near = set(content_units(context.removeprefix("Question:").removesuffix("Answer:")))
        for words in self.fields:
            if near & words:
                near |= words
        total, said = 0.0, set[str]()
        for unit in units(continuation):
            known = set(content_units(unit)) & near or unit in near
            total -= 1.0 if unit in said else 2.0 if known else 4.0
            said.add(unit)
        return total, len(units(continuation))


def all_twos(case: Case) -> Opinion:
    """What a `FakeJudge` thinks unless it is told otherwise."""
    return Opinion(dict.fromkeys(DIMENSIONS, 2.0), "fine")


@dataclass
class FakeJudge:
    """Satisfies `Judge`; remembers the cases it was given, and stops after `stop_after` of them."""

    opinion: Callable[[Case], Opinion] = all_twos
    stop_after: int | None = None
    name: str = "a fake judge"
    sees: tuple[Dimension, ...] = DIMENSIONS
    card: str = "It has no view of its own."
    seen: list[Case] = field(default_factory=list)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"judge": self.name}

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        for n, case in reversed(list(enumerate(cases))):
            if self.stop_after is not None and len(self.seen) >= self.stop_after:
                raise KeyboardInterrupt
            self.seen.append(case)
            yield n, self.opinion(case)
