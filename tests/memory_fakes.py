"""A fake of the model that the memory stages probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.fakes import fake_draft

from drenpa.core.roles import Draft, Sampling


@dataclass
class FakeKnowingModel:
    """Knows some answers by heart; tokens are words.

    A word costs 4 nats, 1 less where the question has it too; in an answer known to this question
    it costs `recited` nats, and 0.5 where the answer stands in the context.

    knows:   question → the answer that it says.
    context: how many words it reads at most.
    keys:    of the random streams that answers were sampled from.
    """

    knows: Mapping[str, str] = field(default_factory=dict)
    recited: float = 0.5
    parameters: int = 1_000_000
    context: int = 1_000
    calls: list[tuple[tuple[str, str], ...]] = field(default_factory=list)
    keys: list[tuple[int, ...]] = field(default_factory=list)

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        self.calls.append(tuple(pairs))
        return [(-sum(self._costs(*pair)), len(pair[1].split())) for pair in pairs]

    def too_long(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        lengths = [len(f"{question} {answer}".split()) for question, answer in pairs]
        return [f"it takes {n} words" if n > self.context else "" for n in lengths]

    def _costs(self, context: str, answer: str) -> list[float]:
        words = answer.split()
        if answer in context:
            return [0.5] * len(words)
        if self.knows.get(context) == answer:
            return [self.recited] * len(words)
        return [3.0 if word in context.split() else 4.0 for word in words]

    def generate(
        self, prompts: Sequence[str], *, group: int, sampling: Sampling, key: tuple[int, ...] = ()
    ) -> list[list[Draft]]:
        self.keys.append(key)
        return [[fake_draft(self.knows.get(prompt, "?"))] * group for prompt in prompts]
