"""A fake critic: it writes and scores by plain rules, so that every figure is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from drenpa.core.roles import Finish
from drenpa.critic.score import Written

Rule = Callable[[str, str, str], float]


class FakeCritic:
    """Satisfies what evaluation and card use of `Critic`. A character is a token.

    says:  (question, answer, sample seed) to the critique it writes.
    finds: (question, answer, critique) to the score.
    """

    def __init__(
        self,
        says: Callable[[str, str, int], str],
        finds: Rule,
        *,
        writes: bool = True,
        limit: int = 40,
    ) -> None:
        self.says = says
        self.finds = finds
        self.writes = writes
        self.layout = SimpleNamespace(
            max_critique_tokens=limit, critique=lambda text: tuple(map(ord, text[:limit]))
        )
        device = SimpleNamespace(type="a fake device")
        self.model = SimpleNamespace(head=SimpleNamespace(weight=SimpleNamespace(device=device)))
        self.written: list[tuple[str, str]] = []

    def write(
        self,
        questions: Sequence[str],
        answers: Sequence[Sequence[str]],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        key: tuple[int, ...] = (),
    ) -> list[list[Written]]:
        rows = []
        for question, row in zip(questions, answers, strict=True):
            rows.append([])
            for answer in row:
                self.written.append((question, answer))
                text = self.says(question, answer, seed if temperature else -1)
                ids = self.layout.critique(text)
                score = self.finds(question, answer, text)
                finish: Finish = "stop" if len(ids) == len(text) else "length"
                rows[-1].append(Written(text, ids, finish, score))
        return rows

    def reread(
        self,
        questions: Sequence[str],
        answers: Sequence[Sequence[str]],
        critiques: Sequence[Sequence[Sequence[int]]],
    ) -> list[list[float]]:
        return [
            [
                self.finds(question, answer, "".join(map(chr, ids)))
                for answer, ids in zip(row, given, strict=True)
            ]
            for question, row, given in zip(questions, answers, critiques, strict=True)
        ]
