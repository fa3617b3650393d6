"""Who makes notes full: a chat model behind any OpenAI-compatible endpoint, or one on this machine.

Every reply is handed over the moment it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

from drenpa.config import EngineConfig
from drenpa.core.artefacts import model_input
from drenpa.core.endpoint import (
    ChatClient,
    Endpoint,
    EndpointError,
    Lose,
    Purse,
    Reply,
    spread,
)
from drenpa.core.errors import DataError, ScoringError
from drenpa.critic.cache import Request

Keep = Callable[[int, Reply], None]
"""Is handed (place among the requests, reply) as replies come in."""

Refused = Mapping[int, str]
"""Why a request will never get a reply, though others may: by its place among the requests."""

MAX_TOKENS = 300
LOCAL_ROWS = 8


class Writer(Protocol):
    """Answers requests."""

    name: str

    def request(self, messages: Sequence[dict[str, str]]) -> Request:
        """Return everything that decides the reply to a conversation."""
        ...

    def send(
        self, requests: Sequence[Request], keep: Keep, *, at_once: int, spent: float, lose: Lose
    ) -> Refused:
        """Ask, and hand every reply to `keep` as it comes.

        spent:   what was spent before, of the sum that may be.
        lose:    is handed what each try may have cost that brought no reply, from any thread.
        returns: the requests that were refused, each for itself.
        raises:  ScoringError when others could not be answered; what was is kept.
        """
        ...

    def most(self, request: Request) -> tuple[int, int, float]:
        """Return the most input tokens, output tokens and money that a request may take."""
        ...


class EndpointWriter:
    """A writer behind an OpenAI-compatible endpoint."""

    def __init__(self, endpoint: Endpoint, *, max_tokens: int = MAX_TOKENS) -> None:
        """raises: ConfigError when the client or the key is missing, or a setting is impossible."""
        self.name = endpoint.model
        self.endpoint = endpoint
        self.max_tokens = max_tokens
        self._client = ChatClient(endpoint, "critic.expand")

    def request(self, messages: Sequence[dict[str, str]]) -> Request:
        """Return the request's body, and where it is sent."""
        return {
            "at": self.endpoint.base_url,
            "model": self.name,
            "messages": list(messages),
            "temperature": 0.0,
            "max_tokens": self.max_tokens,
        }

    def send(
        self, requests: Sequence[Request], keep: Keep, *, at_once: int, spent: float, lose: Lose
    ) -> Refused:
        """Ask the service; see `Writer.send`."""
        purse = Purse(self.endpoint.max_cost, spent, lose)
        stopped = self._client.stopped

        def asked(request: Request) -> Reply | EndpointError:
            if stopped.is_set():
                return EndpointError("not asked, since those before it failed")
            body = {name: value for name, value in request.items() if name != "at"}
            try:
                return self._client.send(body, purse)
            except EndpointError as fault:
                if fault.for_all:
                    stopped.set()
                return fault

        faults, refused = [], {}
        for place, found in spread(asked, requests, max(1, at_once), stopped):
            if isinstance(found, Reply):
                keep(place, replace(found, text=found.text.strip()))
            elif found.refused:
                refused[place] = _told(found)
            else:
                faults.append(found)
        if faults:
            told = next((fault for fault in faults if fault.for_all), faults[0])
            raise ScoringError(
                f"{self.name} left {len(faults)} of {len(requests)} requests without a reply "
                f"({_told(told)}); what it wrote is kept and not paid for again: run again to go on"
            )
        return refused

    def most(self, request: Request) -> tuple[int, int, float]:
        """Return the most input tokens, output tokens and money that a request may take."""
        return self._client.most(request)


class LocalWriter:
    """A model on this machine as a writer; it costs nothing but time."""

    def __init__(
        self, model: str, *, max_tokens: int = MAX_TOKENS, engine: EngineConfig | None = None
    ) -> None:
        """model: a policy's artefact, a model's folder, or its name; loaded when it is needed."""
        self.name = model
        self.max_tokens = max_tokens
        self.engine = engine or EngineConfig()
        self._policy: Any = None

    @cached_property
    def digest(self) -> str:
        """Which weights these are: what stands at a place may be another model tomorrow."""
        return model_input(self.name)["digest"]

    def request(self, messages: Sequence[dict[str, str]]) -> Request:
        """Return the conversation, the weights and the settings."""
        return {
            "at": "this machine",
            "model": self.name,
            "digest": self.digest,
            "dtype": self.engine.dtype,
            "messages": list(messages),
            "temperature": 0.0,
            "max_tokens": self.max_tokens,
        }

    def send(
        self,
        requests: Sequence[Request],
        keep: Keep,
        *,
        at_once: int,  # noqa: ARG002
        spent: float,  # noqa: ARG002
        lose: Lose,  # noqa: ARG002
    ) -> Refused:
        """Write the replies, some rows at a time; what the model has no room for is refused."""
        from drenpa.core.roles import Sampling
        from drenpa.engine.loop import in_chunks
        from drenpa.engine.policy import load_policy

        if self._policy is None:
            self._policy = load_policy(self.name, engine=self.engine)
        sampling = Sampling(max_new_tokens=self.max_tokens, temperature=0.0)
        texts = [_as_one_turn(request["messages"]) for request in requests]
        refused = self._without_room(texts)
        places = [place for place in range(len(texts)) if place not in refused]
        for part in in_chunks(places, LOCAL_ROWS):
            asked = [texts[place] for place in part]
            drafts = self._policy.generate(asked, group=1, sampling=sampling)
            for place, (draft,) in zip(part, drafts, strict=True):
                keep(place, Reply(draft.text.strip(), draft.finish))
        return refused

    def _without_room(self, texts: Sequence[str]) -> dict[int, str]:
        """Say of each text that leaves no room for a reply how much there is."""
        refused = {}
        for place, text in enumerate(texts):
            try:
                self._policy.check_room([text], self.max_tokens)
            except DataError as fault:
                refused[place] = str(fault)
        return refused

    def most(self, request: Request) -> tuple[int, int, float]:
        """Return the most tokens that a request may take; no money."""
        text = _as_one_turn(request["messages"])
        return len(text.encode()), self.max_tokens, 0.0


def _told(fault: EndpointError) -> str:
    return f"{fault}: {fault.said}" if fault.said else str(fault)


def _as_one_turn(messages: Sequence[dict[str, str]]) -> str:
    """A conversation as one message, for a model that is asked once."""
    return "\n\n".join(message["content"] for message in messages)
