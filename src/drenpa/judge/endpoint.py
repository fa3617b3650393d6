"""A judge behind any OpenAI-compatible endpoint, one JSON verdict an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from drenpa.config import JudgeConfig
from drenpa.core.endpoint import EndpointError, spread
from drenpa.core.errors import PromptError
from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.prompts import Prompt, load_prompt
from drenpa.core.store import Store
from drenpa.judge.client import chat_client
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.rubric import order_of, reply_example, reply_schema, rubric_lines
from drenpa.judge.verdict import parse_verdict

MAX_REPLY_TOKENS = 1024
NEEDED, OFFERED = ("question", "answer"), ("dimensions", "reply")
"""Slots of a judge's prompt: those it must have, and those it may have."""


class EndpointJudge:
    """Asks a chat model for a verdict, once more with the error when it cannot be read.

    It is shown the question and the answer as JSON strings, and no reference. Which dimension the
    rubric begins with follows from the question and the repeat, so that every strategy's answer to
    a question is judged under the same order and no dimension always comes first.
    """

    sees = DIMENSIONS

    def __init__(
        self, config: JudgeConfig, language: str = "en", store: Store | None = None
    ) -> None:
        """store: of replies already paid for.

        raises: ConfigError without a model name, a key or the `openai` package; PromptError when
                the prompt has other slots.
        """
        self._client = chat_client(config, "benchmark.judge", store)
        self._config = config
        self._language = language
        self._prompt = judge_prompt(config.prompt, language)
        self._retry = load_prompt("judge_retry", language, slots=("error", "reply"))

    @property
    def name(self) -> str:
        """The model and where it was asked; never a key."""
        return f"{self._config.model} at {self._client.host}"

    @property
    def card(self) -> str:
        """What it sees."""
        return (
            f"{self.name}, asked with the prompt {self._prompt.name} at temperature 0. It sees "
            "question and answer, no reference, and gives 0, 1 or 2 in each dimension. What it "
            "is worth in a language has to be checked against people who read it."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, where it is, and every word it is asked with."""
        return {
            "judge": "openai",
            **self._client.identity,
            "prompts": [self._prompt.text, self._retry.text],
            "rubric": rubric_lines(DIMENSIONS, self._language),
            "structured": self._config.structured,
            "rotate": self._config.rotate,
        }

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        """Yield opinions as replies come in, several requests at a time.

        raises: ScoringError when the endpoint refuses the key or does not know the model.
        """
        return spread(self._opinion, cases, self._config.concurrency, self._client.stopped)

    def _opinion(self, case: Case) -> Opinion:
        order = self._order(case)
        shown = {
            "question": json.dumps(case.question, ensure_ascii=False),
            "answer": json.dumps(case.answer, ensure_ascii=False),
            "dimensions": rubric_lines(order, self._language),
            "reply": reply_example(order),
        }
        wanted = {slot: shown[slot] for slot in self._prompt.slots}
        messages = [{"role": "user", "content": self._prompt.fill(wanted)}]
        first = Opinion(unscored="not asked")
        try:
            reply = self._reply(messages, order, case.repeat)
            first = parse_verdict(reply, case.answer)
            if not first.unscored:
                return first
            error = {"error": first.unscored, "reply": shown["reply"]}
            messages += [
                {"role": "assistant", "content": reply},
                {"role": "user", "content": self._retry.fill(error)},
            ]
            again = parse_verdict(self._reply(messages, order, case.repeat), case.answer)
            again = replace(again, read="asked again")
        except EndpointError as fault:
            again = Opinion(unscored=str(fault))
        if len(again.scores) >= len(first.scores):
            return again
        return first

    def _order(self, case: Case) -> tuple[Dimension, ...]:
        if not self._config.rotate:
            return DIMENSIONS
        digest = hashlib.sha256(case.question.encode(errors="surrogatepass")).digest()
        return order_of(digest[0] + case.repeat)

    def _reply(
        self, messages: Sequence[dict[str, str]], order: Sequence[Dimension], repeat: int
    ) -> str:
        settings: dict[str, Any] = {"temperature": 0, "max_tokens": MAX_REPLY_TOKENS}
        if self._config.structured:
            schema = {"name": "verdict", "strict": True, "schema": reply_schema(order)}
            settings["response_format"] = {"type": "json_schema", "json_schema": schema}
        return self._client.ask(messages, turn=(repeat,), **settings).text


def judge_prompt(name: str, language: str) -> Prompt:
    """Load a judge's prompt.

    raises: PromptError when it does not show question and answer, or has a slot nobody fills.
    """
    prompt = load_prompt(name, language)
    missing = [slot for slot in NEEDED if slot not in prompt.slots]
    unknown = [slot for slot in prompt.slots if slot not in (*NEEDED, *OFFERED)]
    if missing or unknown:
        fault = f"it lacks {{{missing[0]}}}" if missing else f"nothing fills {{{unknown[0]}}}"
        raise PromptError(
            f"prompt {prompt.name}: {fault}; a judge's prompt has the slots {{question}} and "
            "{answer}, and may have {dimensions} and {reply}"
        )
    return prompt
