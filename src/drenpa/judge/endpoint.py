"""A judge behind any OpenAI-compatible endpoint, one JSON verdict an answer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any
from urllib.parse import urlsplit

from drenpa.config import JudgeConfig
from drenpa.core.errors import ConfigError, ScoringError
from drenpa.core.prompts import load_prompt
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.verdict import parse_verdict

MAX_REPLY_TOKENS = 1024
_FOR_ALL = (401, 403, 404)  # statuses that every further request would meet as well


class EndpointJudge:
    """Asks a chat model for a verdict, once more with the error when it cannot be read.

    It is shown the question and the answer as JSON strings, and no reference. Timeouts, full
    queues and server faults are tried again by the client; what still fails is unscored.
    """

    def __init__(self, config: JudgeConfig, language: str = "en") -> None:
        """raises: ConfigError without a model name, a key or the `openai` package."""
        if not config.model:
            raise ConfigError(
                "benchmark.judge.model: name the model that the endpoint is to judge with"
            )
        self._model = config.model
        self._concurrency = config.concurrency
        self._prompt = load_prompt(config.prompt, language, slots=("question", "answer"))
        self._retry = load_prompt("judge_retry", language, slots=("error",))
        self._key_env = config.key_env
        self._client = _client(config)

    @property
    def name(self) -> str:
        """The model and where it was asked; never a key."""
        return f"{self._model} at {self._client.base_url.host}"

    @property
    def card(self) -> str:
        """What it sees."""
        return (
            f"{self.name}, asked with the prompt {self._prompt.name} at temperature 0. It sees "
            "question and answer, no reference, and gives 0, 1 or 2 in each dimension. What it "
            "is worth in a language has to be checked against people who read it."
        )

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        """Yield opinions as replies come in, several requests at a time.

        raises: ScoringError when the endpoint refuses the key or does not know the model.
        """
        pool = ThreadPoolExecutor(self._concurrency)
        try:
            places = {pool.submit(self._opinion, case): n for n, case in enumerate(cases)}
            for future in as_completed(places):
                yield places[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _opinion(self, case: Case) -> Opinion:
        import openai

        shown = {
            "question": json.dumps(case.question, ensure_ascii=False),
            "answer": json.dumps(case.answer, ensure_ascii=False),
        }
        messages = [{"role": "user", "content": self._prompt.fill(shown)}]
        first = Opinion(unscored="not asked")
        try:
            reply = self._reply(messages)
            first = parse_verdict(reply, case.answer)
            if not first.unscored:
                return first
            messages += [
                {"role": "assistant", "content": reply},
                {"role": "user", "content": self._retry.fill({"error": first.unscored})},
            ]
            again = parse_verdict(self._reply(messages), case.answer)
        except openai.APIStatusError as error:
            if error.status_code in _FOR_ALL:
                raise ScoringError(
                    f"judge {self.name}: the endpoint answered {error.status_code}; check the key "
                    f"in ${self._key_env}, benchmark.judge.model and benchmark.judge.base_url"
                ) from None
            again = Opinion(unscored=f"the endpoint answered {error.status_code}")
        except openai.OpenAIError as error:
            again = Opinion(unscored=f"the endpoint failed: {type(error).__name__}")
        return (
            again
            if len(again.scores) >= len(first.scores) and again.scores
            else (first if first.scores else again)
        )

    def _reply(self, messages: Sequence[dict[str, str]]) -> str:
        reply = self._client.chat.completions.create(
            model=self._model,
            messages=list(messages),
            temperature=0,
            max_tokens=MAX_REPLY_TOKENS,
        )
        return (reply.choices[0].message.content or "") if reply.choices else ""


def _client(config: JudgeConfig) -> Any:
    try:
        import openai
    except ImportError:
        raise ConfigError(
            "benchmark.judge.name: openai needs the client; install it with pip install "
            "'drenpa[api]'"
        ) from None
    key = os.environ.get(config.key_env, "")
    if not key and not config.base_url:
        raise ConfigError(
            f"benchmark.judge.key_env: the environment variable {config.key_env} is empty; put "
            "the key there, or name a server of your own with benchmark.judge.base_url"
        )
    if config.base_url and urlsplit(config.base_url).scheme not in {"http", "https"}:
        raise ConfigError(
            f"benchmark.judge.base_url: '{config.base_url}' is no address; write it as "
            "http://host:port/v1"
        )
    return openai.OpenAI(
        api_key=key or "none",
        base_url=config.base_url or None,
        timeout=config.timeout_s,
        max_retries=config.retries,
    )
