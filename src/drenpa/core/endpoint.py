"""A chat model behind any OpenAI-compatible endpoint, and many requests to it at once.

Whatever the server does, a request ends with a reply or a reason, in bounded time and memory. The
client keeps to a pace and to a sum of money, tries again what may yet succeed, waits as long as the
server asks, and leaves a server alone that only fails.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import random
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from threading import Condition, Event, Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from drenpa.core.errors import ConfigError, ScoringError
from drenpa.core.roles import Finish
from drenpa.core.store import Store, content_key
from drenpa.core.text import brief, encodable
from drenpa.core.waiting import retry_after_s

OPENAI = "https://api.openai.com/v1"
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
LONGEST_TOLD_S = 900.0  # a server that asks for more patience is not asked again in this run
LONGEST_BODY = 1 << 20  # bytes of a reply; what is longer is no reply
LONGEST_FAULT = 1 << 14  # bytes that are read of what comes with a fault
GIVE_UP = 24  # requests that fail one after another before no further one is sent
_AGAIN = frozenset({408, 409, 425, 429})  # besides these, every server fault is tried again
_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")
_FOR_ALL = frozenset({401, 402, 403, 404})  # every further request would meet them as well

Item = TypeVar("Item")
Result = TypeVar("Result")
Message = Mapping[str, str]
Lose = Callable[[float], None]
"""Is handed what a try may have cost that brought no reply."""


@dataclass(frozen=True)
class Endpoint:
    """A service, the model there, and how it is asked.

    base_url:   empty for the client's own default (`address_of`).
    key_env:    the environment variable that holds the key; keys are never written anywhere.
    timeout_s:  for a whole reply.
    retries:    how often a request is tried again after a full queue, a fault or a timeout.
    requests_per_minute: 0 for no limit.
    price_in, price_out: of a million tokens, in any currency; 0 where it costs nothing.
    max_cost:   what all replies together may cost, with what was spent before and what tries may
                have cost that brought none; 0 for no limit.
    request:    laid over each request of `ask`; None leaves a key out.
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
    request: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: object, **changes: Any) -> Endpoint:
        """Take what stands under the same names in a part of a recipe."""
        named = {
            f.name: getattr(settings, f.name) for f in fields(cls) if hasattr(settings, f.name)
        }
        return cls(**(named | changes))


def address_of(base_url: str) -> str:
    """Return where a client asks: an empty address means what the environment says, or OpenAI."""
    return base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI


@dataclass(frozen=True)
class Reply:
    """What came back.

    text:   empty when the service said nothing.
    finish: whether the limit of tokens cut it.
    input_tokens, output_tokens: as the service counted them; 0 where it does not say.
    cost:   in the currency of the prices, the most it may be where the service does not count; 0
            without prices.
    """

    text: str
    finish: Finish = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class EndpointError(Exception):
    """This request got no reply; another may, unless the reason holds `for_all`.

    refused: whether the service looked at this very request and will not answer it.
    said:   the service's own words about it, without the key.
    remedy: what a person can do about it; empty where the reason says so itself.
    """

    def __init__(
        self,
        why: str,
        *,
        for_all: bool = False,
        refused: bool = False,
        said: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(why)
        self.for_all = for_all
        self.refused = refused
        self.said = said
        self.remedy = remedy


class Purse:
    """What may still be spent. Before a request is sent, the most it may cost is held back."""

    def __init__(self, limit: float, spent: float, lose: Lose) -> None:
        """limit: 0 for none.

        lose: keeps the cost of what brought no reply, so that a later purse begins with it.
        """
        self.limit = limit
        self.spent = spent
        self._lose = lose
        self._held: list[float] = []
        self._settled = Condition()

    def hold(self, most: float) -> None:
        """Hold a sum back, as soon as what others hold back leaves room for it.

        raises: EndpointError, for all, when there is no room even beside what is spent.
        """
        with self._settled:
            while self.limit and math.fsum([self.spent, *self._held, most]) > self.limit:
                if math.fsum([self.spent, most]) > self.limit:
                    raise EndpointError(
                        f"max_cost {self.limit:g}: {self.spent:.4g} is spent, and the next request "
                        f"may cost {most:.4g}; raise it to go on",
                        for_all=True,
                    )
                self._settled.wait()
            self._held.append(most)

    def settle(self, most: float, cost: float) -> None:
        """Replace what was held back by what it cost."""
        with self._settled:
            self._held.remove(most)
            self.spent += cost
            self._settled.notify_all()

    def lose(self, most: float) -> None:
        """Take what was held back for spent, though no reply came."""
        try:
            if most:
                self._lose(most)
        finally:
            self.settle(most, most)


class ChatClient:
    """Sends chats, from as many threads as there are, and knows which replies it already has.

    place: of its settings in the recipe, for errors.
    store: of the replies of `ask`; without one every request is sent.
    """

    def __init__(self, endpoint: Endpoint, place: str, store: Store | None = None) -> None:
        """raises: ConfigError when the model's name, the key or the `openai` package is missing, or
        a setting is impossible."""
        self._key = _checked_key(endpoint, place)
        self._client = _client(endpoint, place, self._key)
        weakref.finalize(self, self._client.close)  # its connections stay open between requests
        self.endpoint = endpoint
        self._place = place
        self._store = store
        self.stopped = Event()
        self._pace = _Pace(endpoint.requests_per_minute, self.stopped)
        spent = _spent(store) if endpoint.max_cost else 0.0
        self._purse = Purse(endpoint.max_cost, spent, partial(keep_cost, store))
        self._lock = Lock()
        self._failed_in_a_row = 0
        self._last_fault = ""

    @property
    def host(self) -> str:
        """Where it asks; never a key."""
        return str(self._client.base_url.host)

    @property
    def identity(self) -> dict[str, Any]:
        """What of the settings a reply depends on."""
        return {
            "model": self.endpoint.model,
            "base_url": str(self._client.base_url),
            "request": dict(self.endpoint.request),
        }

    def ask(
        self, messages: Sequence[Message], *, turn: Sequence[int] = (), **settings: Any
    ) -> Reply:
        """Return the reply to a chat, from the store or else from the service.

        turn:     which of several replies to the same request is wanted.
        settings: of the request, such as temperature; the endpoint's `request` is laid over them.
        raises:   EndpointError when none comes; ScoringError when none ever will, since the
                  endpoint refuses the key, does not know the model, or the money is spent.
        """
        request = {"model": self.endpoint.model, "messages": list(messages), **settings}
        request |= self.endpoint.request
        request = {name: value for name, value in request.items() if value is not None}
        key = content_key("reply", [str(self._client.base_url), request, list(turn)])
        known = self._store.get(key) if self._store is not None else None
        if known is not None:
            return Reply(**known)
        try:
            reply = self.send(request, self._purse)
        except EndpointError as fault:
            if not fault.for_all:
                raise
            remedy = f"; {fault.remedy}" if fault.remedy else ""
            raise ScoringError(
                f"{self.endpoint.model} at {self.host}: {fault}{remedy}; what came is kept"
            ) from None
        if self._store is not None:
            self._store.put(key, asdict(reply))
        return reply

    def send(self, request: Mapping[str, Any], purse: Purse) -> Reply:
        """Return the service's reply to a request's body, asked for again while there is hope.

        raises: EndpointError when none comes.
        """
        if self._failed_in_a_row >= GIVE_UP:
            raise EndpointError(
                f"not asked: the endpoint failed {GIVE_UP} times in a row, last: {self._last_fault}"
            )
        try:
            reply = self._tried(request, purse)
        except EndpointError as fault:
            with self._lock:
                self._failed_in_a_row += 1
                self._last_fault = str(fault)
            raise
        with self._lock:
            self._failed_in_a_row = 0
        return reply

    def most(self, request: Mapping[str, Any]) -> tuple[int, int, float]:
        """Return the most input tokens, output tokens and money that a request may take.

        A token is taken for one byte, the least it has in byte-level vocabularies: that counts
        English some four times over, Tibetan once to twice.
        """
        text = "".join(str(message["content"]) for message in request["messages"])
        tokens = len(text.encode(errors="replace")) + 8 * len(request["messages"])
        written = _output_limit(request)
        return tokens, written, self._cost(tokens, written)

    def _tried(self, request: Mapping[str, Any], purse: Purse) -> Reply:
        _, written, most = self.most(request)
        if purse.limit and self.endpoint.price_out and not written:
            raise EndpointError(
                f"max_cost {purse.limit:g}: the request has no max_tokens and no "
                "max_completion_tokens, so that its reply may cost any sum; give one of them",
                for_all=True,
            )
        for attempt in range(self.endpoint.retries + 1):
            purse.hold(most)
            try:
                self._pace.turn()
                reply = self._fetch(request)
            except _RetryError as fault:
                if fault.may_cost:
                    purse.lose(most)
                else:
                    purse.settle(most, 0.0)
                last = fault
            except EndpointError:
                purse.settle(most, 0.0)
                raise
            except BaseException:
                purse.lose(most)
                raise
            else:
                purse.settle(most, reply.cost)
                return reply
            if last.wait_s is not None:
                self._pace.pause(last.wait_s)
            if attempt < self.endpoint.retries:
                self._pace.rest(_backoff_s(attempt, last.wait_s))
        raise EndpointError(str(last), said=last.said)

    def _fetch(self, request: Mapping[str, Any]) -> Reply:
        """Ask once.

        raises: _RetryError where another try may help, else EndpointError.
        """
        import openai

        broken = _broken_lines()
        rest = {k: v for k, v in request.items() if k not in ("model", "messages")}
        try:
            with self._client.chat.completions.with_streaming_response.create(
                model=request["model"], messages=request["messages"], extra_body=rest
            ) as response:
                body = _body(response.iter_bytes(), self.endpoint.timeout_s)
                return self._reply(body, self.most(request)[2])
        except _StatusError as error:
            raise self._refusal(error) from None
        except openai.APITimeoutError as error:  # it may have written, and charge for it
            raise _RetryError(
                f"the endpoint failed: {type(error).__name__}", may_cost=True
            ) from None
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, _StatusError):  # as older clients hand it on
                raise self._refusal(error.__cause__) from None
            raise _RetryError(f"the endpoint failed: {type(error).__name__}") from None
        except openai.OpenAIError as error:
            raise EndpointError(f"the endpoint failed: {type(error).__name__}") from None
        except broken as error:
            raise _RetryError(
                f"the reply broke off: {type(error).__name__}", may_cost=True
            ) from None

    def _refusal(self, error: _StatusError) -> EndpointError:
        """What a status that is no success means."""
        why = f"the endpoint answered {error.status_code}"
        said, code = error.told()
        said = brief(said.replace(self._key, "…") if self._key else said)
        if error.status_code in _FOR_ALL or code == "insufficient_quota":
            check = (
                f"check the key in ${self.endpoint.key_env}, {self._place}.model and "
                f"{self._place}.base_url"
            )
            return EndpointError(why, for_all=True, said=said, remedy=check)
        if error.status_code not in _AGAIN and error.status_code < 500:
            return EndpointError(why, refused=True, said=said)
        wait_s = retry_after_s(error.retry_after, datetime.now(UTC))
        if wait_s is not None and wait_s > LONGEST_TOLD_S:
            asks = f"{why} and asks to wait {wait_s:.0f} s"
            return EndpointError(asks, for_all=True, said=said)
        return _RetryError(why, said=said, wait_s=wait_s)

    def _reply(self, body: bytes, most: float) -> Reply:
        try:
            told = json.loads(body)
            choice = told["choices"][0]
            text = choice["message"].get("content") or ""
            if not isinstance(text, str):
                raise TypeError
            text = encodable(text)
            usage = told.get("usage") or {}
            told_written = usage.get("completion_tokens")
            read, written = int(usage.get("prompt_tokens") or 0), int(told_written or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise _RetryError("the endpoint's reply is no chat completion", may_cost=True) from None
        finish: Finish = "length" if choice.get("finish_reason") == "length" else "stop"
        counted = read > 0 and told_written is not None
        return Reply(text, finish, read, written, self._cost(read, written) if counted else most)

    def _cost(self, read: int, written: int) -> float:
        return (read * self.endpoint.price_in + written * self.endpoint.price_out) / 1e6


def _output_limit(request: Mapping[str, Any]) -> int:
    """The most tokens that a reply may have; 0 where nothing says so."""
    return max(0, *(request.get(name) or 0 for name in _OUTPUT_LIMITS))


def _spent(store: Store | None) -> float:
    """What all the replies in a store cost, and what brought none."""
    kept = store.values() if store is not None else ()
    return math.fsum(value["cost"] for value in kept if isinstance(value, dict) and "cost" in value)


def keep_cost(store: Store | None, cost: float) -> None:
    """Keep what a try may have cost that brought no reply, under a key nobody asks for."""
    if store is not None:
        store.put(uuid4().hex, {"cost": cost})


def spread(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    stopped: Event | None = None,
) -> Iterator[tuple[int, Result]]:
    """Yield (place, result) of each item as it is ready, never more than `workers` at once.

    Only a few items beyond these wait in a queue, however many there are. When the reader stops or
    a result is an error, what has not begun is dropped.

    stopped: a client's, set then, so that nobody sits out a wait before its next try.
    """
    pool = ThreadPoolExecutor(workers)
    if stopped is not None:
        stopped.clear()
    try:
        feed = iter(enumerate(items))
        running: dict[Future[Result], int] = {}
        while True:
            for place, item in islice(feed, 2 * workers - len(running)):
                running[pool.submit(work, item)] = place
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BaseException:
        if stopped is not None:
            stopped.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _RetryError(EndpointError):
    """A fault that may pass.

    wait_s:   what the service asks for; None where it does not say.
    may_cost: whether the service may have written, and charge for it.
    """

    def __init__(
        self, why: str, *, said: str = "", wait_s: float | None = None, may_cost: bool = False
    ) -> None:
        super().__init__(why, said=said)
        self.wait_s = wait_s
        self.may_cost = may_cost


class _StatusError(Exception):
    """A status that is no success, and the beginning of what came with it."""

    def __init__(self, status_code: int, retry_after: str, body: bytes) -> None:
        super().__init__(status_code)
        self.status_code = status_code
        self.retry_after = retry_after
        self._body = body

    def told(self) -> tuple[str, str]:
        """Return the service's words and its code for the fault; each may be empty."""
        try:
            fault = json.loads(self._body)["error"]
            return str(fault["message"]), str(fault.get("code") or "")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return self._body.decode(errors="replace"), ""


def _read_fault(seconds: float, response: Any) -> None:
    """Read of a fault what can be of use, where the client would wait for all of it.

    raises: _StatusError.
    """
    if response.status_code < 400:
        return
    deadline = time.monotonic() + seconds
    found = bytearray()
    for piece in response.iter_bytes():
        found += piece
        if len(found) > LONGEST_FAULT or time.monotonic() > deadline:
            break
    retry_after = response.headers.get("retry-after", "")
    raise _StatusError(response.status_code, retry_after, bytes(found[:LONGEST_FAULT]))


class _Pace:
    """Spreads requests evenly over time; a service that asks for patience is given it by all."""

    def __init__(self, per_minute: int, stopped: Event) -> None:
        self._stopped = stopped
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = Lock()

    def turn(self) -> None:
        """Wait for one's turn, and on if patience is asked for meanwhile.

        raises: EndpointError when all is stopped.
        """
        while True:
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._gap_s
                    return
                wait_s = self._next - now
            self.rest(wait_s)

    def rest(self, seconds: float) -> None:
        """Wait.

        raises: EndpointError when all is stopped.
        """
        if self._stopped.wait(seconds):
            raise EndpointError("stopped before its next try")

    def pause(self, seconds: float) -> None:
        """Let nobody begin for a while."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def _backoff_s(attempt: int, told_s: float | None) -> float:
    """As long as was asked for, or twice as long each time; drawn by lot, so that many clients do
    not come back together."""
    if told_s is not None:
        return told_s * random.uniform(1.0, 1.1)
    return random.uniform(0.5, 1.0) * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt)


def _body(pieces: Iterator[bytes], seconds: float) -> bytes:
    """Join the pieces of a reply, but not for ever and not without end."""
    deadline = time.monotonic() + seconds
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) > LONGEST_BODY:
            raise _RetryError(f"the reply is longer than {LONGEST_BODY} bytes", may_cost=True)
        if time.monotonic() > deadline:
            raise _RetryError(f"the reply was not whole after {seconds:g} s", may_cost=True)
    return bytes(found)


def _broken_lines() -> tuple[type[Exception], ...]:
    """Return what the HTTP library under the client raises in the middle of a reply; newer clients
    stand on another one."""
    found = []
    for name in ("httpx", "httpx2"):
        if importlib.util.find_spec(name) is not None:
            found.append(importlib.import_module(name).HTTPError)
    return tuple(found)


def _checked_key(endpoint: Endpoint, place: str) -> str:
    """Return the key, after what can be said of the settings before anything is asked."""
    if not endpoint.model:
        raise ConfigError(f"{place}.model: name the model that the endpoint is to run")
    key = os.environ.get(endpoint.key_env, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"{place}.key_env: what ${endpoint.key_env} holds cannot be a key: it has a character "
            "that no key has, such as a typographic quotation mark; copy the key anew"
        )
    if not key and not endpoint.base_url:
        raise ConfigError(
            f"{place}.key_env: the environment variable {endpoint.key_env} is empty; put the key "
            f"there, or name a server of your own with {place}.base_url"
        )
    if endpoint.base_url and urlsplit(endpoint.base_url).scheme not in {"http", "https"}:
        raise ConfigError(
            f"{place}.base_url: '{endpoint.base_url}' is no address; write it as "
            "http://host:port/v1"
        )
    for name in _OUTPUT_LIMITS:
        limit = endpoint.request.get(name)
        if limit is not None and type(limit) is not int:
            raise ConfigError(
                f"{place}.request.{name}: '{brief(limit)}' is no number of tokens; write one, such "
                "as 512, or null for none"
            )
    if endpoint.max_cost and not (endpoint.price_in or endpoint.price_out):
        raise ConfigError(
            f"{place}.max_cost: is {endpoint.max_cost:g}, but without price_in and price_out "
            "nothing is known to cost anything; give the prices"
        )
    unlimited = "max_tokens" in endpoint.request and not _output_limit(endpoint.request)
    if endpoint.max_cost and endpoint.price_out and unlimited:
        raise ConfigError(
            f"{place}.request: takes max_tokens away, so that a reply may cost any sum, but "
            f"{place}.max_cost is {endpoint.max_cost:g}; give max_completion_tokens beside it"
        )
    return key


def _client(endpoint: Endpoint, place: str, key: str) -> Any:
    try:
        import openai
    except ImportError:
        raise ConfigError(
            f"{place}: an endpoint needs the client; install it with pip install 'drenpa[api]'"
        ) from None
    return openai.OpenAI(
        api_key=key or "none",
        base_url=endpoint.base_url or None,
        timeout=endpoint.timeout_s,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(
            timeout=endpoint.timeout_s,
            event_hooks={"response": [partial(_read_fault, endpoint.timeout_s)]},
        ),
    )
