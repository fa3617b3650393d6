"""A memory put before a policy: each question is answered from the weights or with passages.

The policy with its memory is a `Generator` like the policy alone, so a benchmark can ask both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from drenpa.config import RecallConfig
from drenpa.core.artefacts import Artefact
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Identifier, Record, Row
from drenpa.core.roles import Draft, Sampling
from drenpa.memory.cycle import LEDGER, open_store
from drenpa.memory.ledger import Standing, read_ledger, replay
from drenpa.memory.recall import Route, prompt_on, route
from drenpa.memory.store import Store

if TYPE_CHECKING:
    from drenpa.engine.policy import Policy


class Routed(Row):
    """By which route one question was answered.

    passages: ids of those that the model was shown, best first; none from the weights.
    reason:   why this route.
    """

    item: Identifier
    source: Literal["weights", "store"]
    passages: tuple[str, ...] = ()
    reason: str


class Lookup:
    """An open memory: its store, where each record stands, and when the store is asked."""

    def __init__(
        self,
        store: Store,
        standings: Mapping[str, Standing],
        config: RecallConfig,
        *,
        language: str = "en",
    ) -> None:
        self.store = store
        self.standings = standings
        self.config = config
        self.language = language

    def route(self, question: str) -> Route:
        """Decide where the answer to a question comes from."""
        return route(question, self.store, self.standings, self.config)

    def prompt(self, question: str) -> str:
        """Return what the model is asked: the question, below its passages if it has any."""
        return prompt_on(self.route(question), question, self.config, language=self.language)

    def before(self, policy: Policy) -> RecallingPolicy:
        """Put this memory before a policy."""
        return RecallingPolicy(policy, self)

    def routes(self, items: Sequence[Record]) -> list[Routed]:
        """Return how each item's question is answered."""
        chosen = [(item, self.route(item.question)) for item in items]
        return [
            Routed(
                item=item.id,
                source=way.source,
                passages=tuple(hit.passage.id for hit in way.hits),
                reason=way.reason,
            )
            for item, way in chosen
        ]


class RecallingPolicy:
    """A policy with a memory before it; the `Generator` role."""

    def __init__(self, policy: Policy, lookup: Lookup) -> None:
        self._policy = policy
        self.lookup = lookup

    def check_room(self, questions: Sequence[str], max_new_tokens: int) -> None:
        """Check that each question with its passages leaves room for an answer.

        raises: DataError that names every question that does not.
        """
        try:
            self._policy.check_room([self.lookup.prompt(q) for q in questions], max_new_tokens)
        except DataError as error:
            raise DataError(
                f"{error}\nthe passages that are looked up count as well: lower "
                "memory.recall.passages or memory.recall.max_passage_units"
            ) from error

    def generate(
        self, prompts: Sequence[str], *, group: int, sampling: Sampling, key: tuple[int, ...] = ()
    ) -> list[list[Draft]]:
        """Return [P][G] answers, each question by its route."""
        asked = [self.lookup.prompt(question) for question in prompts]
        return self._policy.generate(asked, group=group, sampling=sampling, key=key)

    def answer(
        self, question: str, *, temperature: float = 0.0, max_new_tokens: int = 256, seed: int = 0
    ) -> str:
        """Return one answer to one question, by its route."""
        asked = self.lookup.prompt(question)
        return self._policy.answer(
            asked, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed
        )


@contextmanager
def open_lookup(memory: Artefact, config: RecallConfig, language: str = "en") -> Iterator[Lookup]:
    """Open a memory artefact to be asked, for a `with`.

    language: of the prompt that shows passages.
    raises:   ArtefactError when it is no memory.
    """
    if memory.kind != "memory":
        raise ArtefactError(f"{memory.path}: is a {memory.kind}, but a memory is needed here")
    standings = replay(read_ledger(memory.path / LEDGER))
    with open_store(memory) as store:
        yield Lookup(store, standings, config, language=language)
