"""Fakes of the roles in `drenpa.core.roles`: no model, no randomness.

Each one remembers what it was asked in `calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from drenpa.core.roles import Draft, Finish, Sampling, Scores


def fake_draft(text: str, *, finish: Finish = "stop") -> Draft:
    """Return a draft whose tokens are the text's bytes, each with the log-probability -1."""
    tokens = tuple(text.encode())
    ends = 1 if finish == "stop" else 0
    return Draft(text, tokens, (-1.0,) * (len(tokens) + ends), finish)


def numbered_answer(prompt: str, number: int) -> str:
    """What a `FakeGenerator` says unless it is told otherwise."""
    return f"answer {number} to {prompt}"


@dataclass
class FakeGenerator:
    """Satisfies `Generator`: answers are a function of the prompt and the answer's number."""

    answer: Callable[[str, int], str] = numbered_answer
    finish: Finish = "stop"
    calls: list[tuple[tuple[str, ...], int, Sampling, tuple[int, ...]]] = field(
        default_factory=list
    )

    def generate(
        self, prompts: Sequence[str], *, group: int, sampling: Sampling, key: tuple[int, ...] = ()
    ) -> list[list[Draft]]:
        self.calls.append((tuple(prompts), group, sampling, key))
        return [
            [fake_draft(self.answer(prompt, n), finish=self.finish) for n in range(group)]
            for prompt in prompts
        ]


def longer_is_better(question: str, answer: str) -> float:
    """What a `FakeScorer` thinks unless it is told otherwise: one point a character."""
    return float(len(answer))


@dataclass
class FakeScorer:
    """Satisfies `Scorer`: the reward is a function of question and answer; NaN means unscored."""

    reward: Callable[[str, str], float] = longer_is_better
    critique: Callable[[str, str], str] = lambda question, answer: f"It has {len(answer)} letters."
    calls: list[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]] = field(default_factory=list)

    def score(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> Scores:
        self.calls.append((tuple(questions), tuple(tuple(group) for group in answers)))
        pairs = list(zip(questions, answers, strict=True))
        return Scores(
            rewards=tuple(tuple(self.reward(q, a) for a in group) for q, group in pairs),
            critiques=tuple(tuple(self.critique(q, a) for a in group) for q, group in pairs),
        )
