"""Many requests to a chat model at once: behind any OpenAI-compatible endpoint, or on this machine.

The client keeps to a pace and to a sum of money, tries again what may yet succeed, and hands every
reply over the moment it is there.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from drenpa.core.errors import ConfigError, ScoringError
from drenpa.core.waiting import retry_after_s
from drenpa.critic.cache import Reply, Request

Keep = Callable[[int, Reply], None]
"""Is handed (place among the requests, reply) as replies come in."""

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
AGAIN = frozenset({408, 409, 425, 429})  # besides these, every server fault is tried again
FOR_ALL = frozenset({401, 402, 403, 404})  # every further request would meet them as well
BYTES_A_TOKEN = 3
"""UTF-8 bytes a token has at least, on the average of a text: English has four and more, Chinese
and Tibetan about one sign of three bytes."""
LOCAL_ROWS = 8


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible service and the model there that makes notes full.

    base_url:   empty for the client's own default.
    key_env:    the environment variable that holds the key; keys are never written anywhere.
    retries:    how often a request is tried again after a full queue, a fault or a timeout.
    requests_per_minute: 0 for no limit.
    price_in, price_out: of a million tokens, in any currency; 0 where it costs nothing.
    max_cost:   what all replies together may cost, those of earlier runs in the same folder
                included; 0 for no limit.
    max_tokens: of one reply.
    """

    model: str
    base_url: str = ""
    key_env: str = "OPENAI_API_KEY"
    timeout_s: float = 60.0
    retries: int = 5
    requests_per_minute: int = 0
    price_in: float = 0.0
    price_out: float = 0.0
    max_cost: float = 0.0
    max_tokens: int = 300


class Writer(Protocol):
    """Answers requests."""

    name: str

    def request(self, messages: Sequence[dict[str, str]]) -> Request:
        """Return everything that decides the reply to a conversation."""
        ...

    def send(self, requests: Sequence[Request], keep: Keep, *, at_once: int, spent: float) -> None:
        """Ask, and hand every reply to `keep` as it comes.

        spent:  what was spent before, of the sum that may be.
        raises: ScoringError when some requests could not be answered; what was is kept.
        """
        ...

    def most(self, request: Request) -> tuple[int, int, float]:
        """Return the most input tokens, output tokens and money that a request may take."""
        ...


class EndpointWriter:
    """A writer behind an OpenAI-compatible endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        """raises: ConfigError when the client or the key is missing, or a setting is impossible."""
        try:
            import openai  # noqa: F401 - told here, before anything is prepared
        except ImportError:
            raise ConfigError(
                "expanding notes at an endpoint needs the openai client: pip install 'drenpa[api]'"
            ) from None
        key = os.environ.get(endpoint.key_env, "")
        if not key and not _on_this_machine(endpoint.base_url):
            raise ConfigError(
                f"expanding notes with {endpoint.model} needs a key in the environment variable "
                f"{endpoint.key_env}, which is not set"
            )
        if endpoint.max_cost and not (endpoint.price_in or endpoint.price_out):
            raise ConfigError(
                f"expanding notes with {endpoint.model}: max_cost is {endpoint.max_cost:g}, but "
                "without price_in and price_out nothing is known to cost anything; give the prices"
            )
        self.name = endpoint.model
        self.endpoint = endpoint
        self._key = key

    def request(self, messages: Sequence[dict[str, str]]) -> Request:
        """Return the request's body, and where it is sent."""
        return {
            "at": self.endpoint.base_url,
            "model": self.name,
            "messages": list(messages),
            "temperature": 0.0,
            "max_tokens": self.endpoint.max_tokens,
        }

    def send(self, requests: Sequence[Request], keep: Keep, *, at_once: int, spent: float) -> None:
        """Ask the service; see `Writer.send`."""
        purse = _Purse(self.endpoint.max_cost, spent)
        failures = _finished(self._send(requests, keep, at_once, purse))
        if failures:
            told = failures[0].replace(self._key, "…") if self._key else failures[0]
            raise ScoringError(
                f"{self.name} left {len(failures)} of {len(requests)} requests without a reply "
                f"({told}); what it wrote is kept and not paid for again: run again to go on"
            )

    def most(self, request: Request) -> tuple[int, int, float]:
        """Return the most input tokens, output tokens and money that a request may take."""
        text = "".join(str(message["content"]) for message in request["messages"])
        tokens = len(text.encode()) // BYTES_A_TOKEN + 8 * len(request["messages"])
        return tokens, self.endpoint.max_tokens, self._cost(tokens, self.endpoint.max_tokens)

    def _cost(self, input_tokens: int, output_tokens: int) -> float:
        endpoint = self.endpoint
        return (input_tokens * endpoint.price_in + output_tokens * endpoint.price_out) / 1e6

    async def _send(
        self, requests: Sequence[Request], keep: Keep, at_once: int, purse: _Purse
    ) -> list[str]:
        """Let `at_once` workers take the requests in turn; return why some have no reply."""
        import openai

        waiting = iter(enumerate(requests))
        failures: list[str] = []
        pace = _Pace(self.endpoint.requests_per_minute)
        over = False

        async def work(client: Any) -> None:
            nonlocal over
            for place, request in waiting:
                if over:
                    failures.append("not asked, since those before it failed")
                    continue
                try:
                    keep(place, await self._ask(client, request, pace, purse))
                except _NoReplyError as reason:
                    failures.insert(0, str(reason))
                    over = over or reason.for_all

        async with openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self.endpoint.base_url or None,
            timeout=self.endpoint.timeout_s,
            max_retries=0,
        ) as client:
            await asyncio.gather(*(work(client) for _ in range(max(1, at_once))))
        return failures

    async def _ask(self, client: Any, request: Request, pace: _Pace, purse: _Purse) -> Reply:
        """Ask until there is a reply or no more hope.

        raises: _NoReplyError.
        """
        import openai

        held = self.most(request)[2]
        for attempt in range(self.endpoint.retries + 1):
            purse.hold(held)
            await pace.turn()
            try:
                answer = await client.chat.completions.create(
                    **{name: value for name, value in request.items() if name != "at"}
                )
            except openai.APITimeoutError as error:
                purse.settle(held, held)  # the service may have written, and charge for it
                why, wait = f"{type(error).__name__}", _backoff(attempt)
            except openai.APIConnectionError as error:
                purse.settle(held, 0.0)
                why, wait = f"{type(error).__name__}: {error}", _backoff(attempt)
            except openai.APIStatusError as error:
                purse.settle(held, 0.0)
                status = error.status_code
                why = f"status {status}: {error.message}"
                if status in FOR_ALL or getattr(error, "code", None) == "insufficient_quota":
                    raise _NoReplyError(why, for_all=True) from None
                if status not in AGAIN and status < 500:
                    raise _NoReplyError(why, for_all=False) from None
                told = retry_after_s(
                    error.response.headers.get("retry-after", ""), datetime.now(UTC)
                )
                if told is not None:
                    pace.pause(told)
                wait = _backoff(attempt) if told is None else told * (1 + 0.1 * random.random())
            except openai.OpenAIError as error:
                purse.settle(held, 0.0)
                raise _NoReplyError(f"{type(error).__name__}: {error}", for_all=False) from None
            else:
                reply = self._reply(answer)
                purse.settle(held, reply.cost)
                return reply
            if attempt < self.endpoint.retries:
                await asyncio.sleep(wait)
        raise _NoReplyError(why, for_all=False)

    def _reply(self, answer: Any) -> Reply:
        usage = answer.usage
        tokens = (usage.prompt_tokens or 0, usage.completion_tokens or 0) if usage else (0, 0)
        choice = answer.choices[0] if answer.choices else None
        return Reply(
            text=(choice.message.content or "").strip() if choice else "",
            finish=(choice.finish_reason or "stop") if choice else "stop",
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cost=self._cost(*tokens),
        )


class LocalWriter:
    """A model on this machine as a writer; it costs nothing but time."""

    def __init__(self, model: str, *, max_tokens: int = 300) -> None:
        """model: a policy's artefact, a model's folder, or its name; loaded when it is needed."""
        self.name = model
        self.max_tokens = max_tokens
        self._policy: Any = None

    def request(self, messages: Sequence[dict[str, str]]) -> Request:
        """Return the conversation and the settings."""
        return {
            "at": "this machine",
            "model": self.name,
            "messages": list(messages),
            "temperature": 0.0,
            "max_tokens": self.max_tokens,
        }

    def send(self, requests: Sequence[Request], keep: Keep, *, at_once: int, spent: float) -> None:  # noqa: ARG002
        """Write the replies, some rows at a time."""
        from drenpa.core.roles import Sampling
        from drenpa.engine.loop import in_chunks
        from drenpa.engine.policy import load_policy

        if self._policy is None:
            self._policy = load_policy(self.name)
        sampling = Sampling(max_new_tokens=self.max_tokens, temperature=0.0)
        for part in in_chunks(list(enumerate(requests)), LOCAL_ROWS):
            texts = [_as_one_turn(request["messages"]) for _, request in part]
            self._policy.check_room(texts, self.max_tokens)
            drafts = self._policy.generate(texts, group=1, sampling=sampling)
            for (place, _), (draft,) in zip(part, drafts, strict=True):
                keep(place, Reply(draft.text.strip(), draft.finish))

    def most(self, request: Request) -> tuple[int, int, float]:
        """Return the most tokens that a request may take; no money."""
        text = _as_one_turn(request["messages"])
        return len(text.encode()) // BYTES_A_TOKEN, self.max_tokens, 0.0


class _NoReplyError(Exception):
    """A request that will have no reply; `for_all` when no other one would either."""

    def __init__(self, why: str, *, for_all: bool) -> None:
        super().__init__(why)
        self.for_all = for_all


class _Purse:
    """What may still be spent. Before a request is sent, the most it may cost is held back."""

    def __init__(self, limit: float, spent: float) -> None:
        self.limit = limit
        self.spent = spent
        self.held = 0.0

    def hold(self, most: float) -> None:
        """raises: _NoReplyError when the sum might be passed."""
        if self.limit and self.spent + self.held + most > self.limit:
            raise _NoReplyError(
                f"max_cost {self.limit:g}: {self.spent:.4g} is spent, {self.held:.4g} is held back "
                f"for requests under way, and the next may cost {most:.4g}; raise it to go on",
                for_all=True,
            )
        self.held += most

    def settle(self, most: float, cost: float) -> None:
        """Replace what was held back by what it cost."""
        self.held -= most
        self.spent += cost


class _Pace:
    """Spreads requests evenly over time; a service that asks for patience is given it by all."""

    def __init__(self, per_minute: int) -> None:
        self.gap_s = 60.0 / per_minute if per_minute else 0.0
        self.next = 0.0

    async def turn(self) -> None:
        """Wait for one's turn."""
        now = time.monotonic()
        mine = max(now, self.next)
        self.next = mine + self.gap_s
        if mine > now:
            await asyncio.sleep(mine - now)

    def pause(self, seconds: float) -> None:
        """Let nobody begin for a while."""
        self.next = max(self.next, time.monotonic() + seconds)


def _finished(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """Run to the end, in a thread beside the loop where one is running, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _backoff(attempt: int) -> float:
    """Twice as long each time, drawn by lot so that many clients do not come back together."""
    return random.uniform(0.5, 1.0) * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt)


def _as_one_turn(messages: Sequence[dict[str, str]]) -> str:
    """A conversation as one message, for a model that is asked once."""
    return "\n\n".join(message["content"] for message in messages)


def _on_this_machine(base_url: str) -> bool:
    """A server of one's own needs no key."""
    return urlsplit(base_url).hostname in {"localhost", "127.0.0.1", "::1"}
