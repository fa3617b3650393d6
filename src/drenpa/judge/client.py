"""A client for OpenAI-compatible endpoints that assumes the worst of them.

Whatever a server does, each request ends in a reply or a reason, in bounded time and memory, and a
reply that came whole is kept under the request's own content before anyone reads it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

from drenpa.config import EndpointConfig
from drenpa.core.errors import ConfigError, ScoringError
from drenpa.core.roles import Finish
from drenpa.core.store import Store, content_key

LONGEST_BODY = 1 << 20  # bytes of a reply; what is longer is no reply
GIVE_UP = 24  # requests that fail one after another before no further one is sent
_FOR_ALL = (401, 403, 404)  # statuses that every further request would meet as well

Item = TypeVar("Item")
Result = TypeVar("Result")
Message = Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """What the model wrote, and whether the limit of tokens cut it."""

    text: str
    finish: Finish


class EndpointError(Exception):
    """This request got no reply; another may."""


class ChatClient:
    """Sends chats, retries what may pass, and knows which replies it already has.

    place: of its settings in the recipe, for errors.
    store: of replies; without one every request is sent.
    """

    def __init__(self, config: EndpointConfig, place: str, store: Store | None = None) -> None:
        """raises: ConfigError without a model name, a key or the `openai` package."""
        if not config.model:
            raise ConfigError(f"{place}.model: name the model that the endpoint is to run")
        self._config = config
        self._place = place
        self._store = store
        self._client = _client(config, place)
        weakref.finalize(self, self._client.close)  # its connections stay open between requests
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
            "model": self._config.model,
            "base_url": str(self._client.base_url),
            "request": dict(self._config.request),
        }

    def ask(
        self, messages: Sequence[Message], *, turn: Sequence[int] = (), **settings: Any
    ) -> Reply:
        """Return the reply to a chat.

        turn:     which of several replies to the same request is wanted.
        settings: of the request, such as temperature; the recipe's `request` is laid over them.
        raises:   EndpointError when none comes; ScoringError when the endpoint refuses the key or
                  does not know the model, so that none will.
        """
        request = {"model": self._config.model, "messages": list(messages), **settings}
        request |= self._config.request
        request = {name: value for name, value in request.items() if value is not None}
        key = content_key("reply", [str(self._client.base_url), request, list(turn)])
        known = self._store.get(key) if self._store is not None else None
        if known is not None:
            return Reply(**known)
        if self._failed_in_a_row >= GIVE_UP:
            raise EndpointError(
                f"not asked: the endpoint failed {GIVE_UP} times in a row, last: {self._last_fault}"
            )
        try:
            reply = self._fetch(request)
        except EndpointError as fault:
            with self._lock:
                self._failed_in_a_row += 1
                self._last_fault = str(fault)
            raise
        with self._lock:
            self._failed_in_a_row = 0
        if self._store is not None:
            self._store.put(key, asdict(reply))
        return reply

    def _fetch(self, request: Mapping[str, Any]) -> Reply:
        import openai

        broken = _broken_lines()
        fault = EndpointError("not asked")
        rest = {k: v for k, v in request.items() if k not in ("model", "messages")}
        for _ in range(self._config.retries + 1):
            try:
                # The client retries timeouts, full queues (as long as Retry-After says) and server
                # faults; what breaks in the middle of a reply is retried here.
                with self._client.chat.completions.with_streaming_response.create(
                    model=request["model"], messages=request["messages"], extra_body=rest
                ) as response:
                    return _reply(_body(response.iter_bytes(), self._config.timeout_s))
            except openai.APIStatusError as error:
                if error.status_code in _FOR_ALL:
                    raise ScoringError(
                        f"{self._config.model} at {self.host}: the endpoint answered "
                        f"{error.status_code}; check the key in ${self._config.key_env}, "
                        f"{self._place}.model and {self._place}.base_url"
                    ) from None
                raise EndpointError(f"the endpoint answered {error.status_code}") from None
            except openai.OpenAIError as error:
                raise EndpointError(f"the endpoint failed: {type(error).__name__}") from None
            except broken as error:
                fault = EndpointError(f"the reply broke off: {type(error).__name__}")
            except EndpointError as error:
                fault = error
        raise fault


def spread(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[int, Result]]:
    """Yield (place, result) of each item as it is ready, never more than `workers` at once.

    Only a few items beyond these wait in a queue, however many there are. When the reader stops or
    a result is an error, what has not begun is dropped.
    """
    pool = ThreadPoolExecutor(workers)
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
    finally:
        pool.shutdown(cancel_futures=True)


def _body(pieces: Iterator[bytes], seconds: float) -> bytes:
    """Join the pieces of a reply, but not for ever and not without end."""
    deadline = time.monotonic() + seconds
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) > LONGEST_BODY:
            raise EndpointError(f"the reply is longer than {LONGEST_BODY} bytes")
        if time.monotonic() > deadline:
            raise EndpointError(f"the reply was not whole after {seconds:g} s")
    return bytes(found)


def _reply(body: bytes) -> Reply:
    try:
        choice = json.loads(body)["choices"][0]
        text = choice["message"].get("content") or ""
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise EndpointError("the endpoint's reply is no chat completion") from None
    return Reply(text, "length" if choice.get("finish_reason") == "length" else "stop")


def _broken_lines() -> tuple[type[Exception], ...]:
    """Return what the HTTP library under the client raises in the middle of a reply; newer clients
    stand on another one."""
    found = []
    for name in ("httpx", "httpx2"):
        if importlib.util.find_spec(name) is not None:
            found.append(importlib.import_module(name).HTTPError)
    return tuple(found)


def _client(config: EndpointConfig, place: str) -> Any:
    try:
        import openai
    except ImportError:
        raise ConfigError(
            f"{place}: an endpoint needs the client; install it with pip install 'drenpa[api]'"
        ) from None
    key = os.environ.get(config.key_env, "")
    if not key and not config.base_url:
        raise ConfigError(
            f"{place}.key_env: the environment variable {config.key_env} is empty; put the key "
            f"there, or name a server of your own with {place}.base_url"
        )
    if config.base_url and urlsplit(config.base_url).scheme not in {"http", "https"}:
        raise ConfigError(
            f"{place}.base_url: '{config.base_url}' is no address; write it as http://host:port/v1"
        )
    return openai.OpenAI(
        api_key=key or "none",
        base_url=config.base_url or None,
        timeout=config.timeout_s,
        max_retries=config.retries,
    )
