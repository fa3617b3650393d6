"""A local model as judge: the score it would most likely give, read from its probabilities.

A small model that is asked for JSON writes something else. Asked for one digit, it need not write
at all: the probabilities of 0, 1 and 2 at that place give an expected score, finer than a digit and
the same every time. The five dimensions are five short endings of one prompt, whose long beginning
is computed once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.prompts import load_prompt
from drenpa.core.text import units
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.offline import EMPTY, PMI_RAMP, ramp
from drenpa.judge.probability import MARK, ScoringModel, Shares, Support, supports
from drenpa.judge.rubric import rubric_line

BATCH = 4  # cases in one forward pass


class LocalJudge:
    """Scores by expected value over the digits; relevance is half that and half conditional PMI."""

    sees = DIMENSIONS

    def __init__(
        self,
        model: ScoringModel,
        model_name: str,
        identity: Mapping[str, Any] | None = None,
        language: str = "en",
    ) -> None:
        """model_name: as it stands in every verdict; identity: what tells its bytes from others'.

        language: of the prompt.
        """
        self._model = model
        self._model_name = model_name
        self._model_identity = identity or {"model": model_name}
        self._prompt = load_prompt(
            "judge_score", language, slots=("question", "answer", "dimension")
        )
        self._lines = [rubric_line(dimension, language) for dimension in DIMENSIONS]

    @property
    def name(self) -> str:
        """The model, and that its probabilities are read."""
        return f"probabilities of {self._model_name}"

    @property
    def card(self) -> str:
        """What it looks at and how far it goes."""
        return (
            f"{self.name}: in each dimension the mean of 0, 1 and 2 under the probabilities that "
            "the model gives these digits; relevance is half that and half conditional PMI, how "
            "much more probable the question makes the answer. No reference is seen. Small models "
            "are poor judges and read few languages: docs/benchmark.md says how poor."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, the prompt and the rubric."""
        return {
            "judge": "local",
            "prompt": self._prompt.text,
            "rubric": self._lines,
            **self._model_identity,
        }

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        """Yield an opinion on each case; one that is too long for the model is unscored."""
        written = [place for place, case in enumerate(cases) if units(case.answer)]
        for place, case in enumerate(cases):
            if not units(case.answer):
                yield place, Opinion(EMPTY, "The answer is empty.")
        for start in range(0, len(written), BATCH):
            places = written[start : start + BATCH]
            chosen = [cases[place] for place in places]
            shares = self._model.digit_shares([(self._message(c), self._lines) for c in chosen])
            read = supports(chosen, self._model)
            for place, of_digits, support in zip(places, shares, read, strict=True):
                yield place, _opinion(of_digits, support)

    def _message(self, case: Case) -> str:
        """The prompt with a mark where the dimension goes; a mark in the texts is dropped."""
        return self._prompt.fill(
            {
                "question": json.dumps(case.question.replace(MARK, ""), ensure_ascii=False),
                "answer": json.dumps(case.answer.replace(MARK, ""), ensure_ascii=False),
                "dimension": MARK,
            }
        )


def _opinion(of_digits: Shares | str, support: Support | str) -> Opinion:
    if isinstance(of_digits, str) or isinstance(support, str):
        reason = of_digits if isinstance(of_digits, str) else support
        return Opinion(unscored=f"question and answer cannot be read: {reason}")
    scores: dict[Dimension, float] = {
        dimension: one + 2 * two
        for dimension, (_, one, two) in zip(DIMENSIONS, of_digits, strict=True)
    }
    expected = scores["relevance"]
    scores["relevance"] = expected / 2 + ramp(support.pmi, PMI_RAMP)
    told = f"pmi {support.pmi:.2f}; expected relevance {expected:.2f}"
    return Opinion({name: round(score, 4) for name, score in scores.items()}, told)
