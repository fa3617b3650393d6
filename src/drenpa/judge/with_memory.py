"""A policy that may look things up before it answers, as the benchmark sees it.

What a memory is, the judge's room does not know: it is handed one with the way to open it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from drenpa.config import RecallConfig
from drenpa.core.artefacts import Artefact
from drenpa.core.records import Record, Row
from drenpa.core.roles import Generator

if TYPE_CHECKING:
    from drenpa.engine.policy import Policy

ROUTES = "routes"


class AskablePolicy(Generator, Protocol):
    """A policy, with a memory before it or without."""

    def check_room(self, questions: Sequence[str], max_new_tokens: int) -> None:
        """Raise DataError that names every question that leaves no room for an answer."""
        ...


class OpenMemory(Protocol):
    """A memory under its settings, open to be asked."""

    def before(self, policy: Policy) -> AskablePolicy:
        """Put it before the policy that answers."""
        ...

    def routes(self, items: Sequence[Record]) -> Sequence[Row]:
        """Say of each item where its answer comes from; each row has a `source`."""
        ...


@dataclass(frozen=True)
class Recall:
    """What a policy may look things up in: an artefact, how it is asked, how it is opened.

    open: is given the two and the language of its prompt.
    """

    memory: Artefact
    config: RecallConfig
    open: Callable[[Artefact, RecallConfig, str], AbstractContextManager[OpenMemory]]


def opened(recall: Recall | None, language: str) -> AbstractContextManager[OpenMemory | None]:
    """Open a memory where there is one."""
    if recall is None:
        return nullcontext()
    return recall.open(recall.memory, recall.config, language)
