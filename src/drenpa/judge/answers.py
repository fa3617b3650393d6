"""Which questions are asked, and the answers: sampled in fixed chunks, each kept as it is done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from drenpa.config import BaselineConfig
from drenpa.core.endpoint import EndpointError, Reply, spread
from drenpa.core.errors import ConfigError, DataError, ScoringError
from drenpa.core.knowledge import KINDS
from drenpa.core.progress import track
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Record
from drenpa.core.roles import Draft, Finish, Generator, Sampling
from drenpa.core.store import Store, content_key
from drenpa.judge.client import chat_client

CHUNK = 32  # questions answered at once; part of every answer's random stream, so it stays fixed


@dataclass(frozen=True)
class Answer:
    """One sampled answer to one item."""

    item: str
    sample: int
    text: str
    finish: Finish


def answer_instruction(prompt: str, language: str) -> str:
    """Return the instruction that every question of the benchmark is answered under.

    prompt: `benchmark.prompt`, as `load_prompt` finds it.
    raises: PromptError when there is none; ConfigError when it has a slot, which nothing fills.
    """
    found = load_prompt(prompt, language)
    if found.slots:
        raise ConfigError(
            f"benchmark.prompt: {found.name} is given as it is and cannot have the slot "
            f"{{{found.slots[0]}}}"
        )
    return found.text


def choose_items(records: Sequence[Record], per_kind: int) -> list[Record]:
    """Return the benchmark's items, at most `per_kind` of each kind (0: all), by kind and id.

    The choice depends on the items' ids alone, never on a seed: each kind's languages and sources
    are drawn from in proportion, and a smaller choice is part of every larger one.

    raises: DataError when there is no item.
    """
    if not records:
        raise DataError(
            "the corpus has no benchmark question; give corpus.benchmark a file of them"
        )
    chosen: list[Record] = []
    for kind in KINDS:
        strata: dict[tuple[str, str], list[Record]] = {}
        for record in sorted(records, key=_hashed):
            if record.kind == kind:
                strata.setdefault((record.language, record.source), []).append(record)
        placed = [
            ((number + 0.5) / len(stratum), _hashed(record), record)
            for stratum in strata.values()
            for number, record in enumerate(stratum)
        ]
        placed.sort(key=lambda entry: entry[:2])
        taken = [record for _, _, record in (placed[:per_kind] if per_kind else placed)]
        chosen += sorted(taken, key=lambda record: record.id)
    return chosen


def sample_answers(
    items: Sequence[Record],
    load_generator: Callable[[], Generator],
    *,
    samples: int,
    sampling: Sampling,
    store: Store,
    origin: Mapping[str, Any],
    label: str = "answers",
) -> list[Answer]:
    """Return `samples` answers to each item, by item; the model is loaded only if any is missing.

    origin: all that the answers depend on beside the questions and the sampling: model, revision,
            instruction, code. A chunk whose content the store has is not sampled again.
    """
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    keys = [
        content_key(
            "answers",
            [dict(origin), asdict(sampling), samples, number, [item.question for item in chunk]],
        )
        for number, chunk in enumerate(chunks)
    ]
    done = {n: found for n, key in enumerate(keys) if (found := store.get(key)) is not None}
    missing = [number for number in range(len(chunks)) if number not in done]
    generator = load_generator() if missing else None
    with track(label, len(items)) as progress:
        progress.resume_at(sum(len(chunk) for n, chunk in enumerate(chunks) if n in done))
        for number in missing:
            assert generator is not None
            chunk = chunks[number]
            drafts = generator.generate(
                [item.question for item in chunk], group=samples, sampling=sampling, key=(number,)
            )
            done[number] = [[[draft.text, draft.finish] for draft in group] for group in drafts]
            store.put(keys[number], done[number])
            progress.advance(len(chunk))
    return [
        Answer(item.id, place, text, finish)
        for number, chunk in enumerate(chunks)
        for item, group in zip(chunk, done[number], strict=True)
        for place, (text, finish) in enumerate(group)
    ]


class EndpointGenerator:
    """Answers questions through an endpoint; the `Generator` role for a model elsewhere."""

    def __init__(self, config: BaselineConfig, instruction: str, store: Store) -> None:
        """raises: ConfigError when the endpoint's settings lack something."""
        self._client = chat_client(config, f"benchmark.baselines.{config.name}", store)
        self._concurrency = config.concurrency
        self._instruction = instruction

    @property
    def identity(self) -> dict[str, Any]:
        """What its answers depend on beside the questions and the sampling."""
        return {**self._client.identity, "instruction": self._instruction}

    def check_room(self, questions: Sequence[str], max_new_tokens: int) -> None:
        """Nothing is known of a server's room: it says itself what is too long."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        group: int,
        sampling: Sampling,
        key: tuple[int, ...] = (),  # noqa: ARG002
    ) -> list[list[Draft]]:
        """Return [P][G] answers, without tokens and probabilities.

        `key` is no part of a request: the same question is the same wherever it stands.

        raises: ScoringError when an answer did not come; those that did are kept.
        """

        def ask(place: tuple[str, int]) -> Reply | EndpointError:
            question, number = place
            messages = [{"role": "user", "content": question}]
            if self._instruction:
                messages.insert(0, {"role": "system", "content": self._instruction})
            try:
                return self._client.ask(
                    messages,
                    turn=(sampling.seed, number),
                    temperature=sampling.temperature,
                    max_tokens=sampling.max_new_tokens,
                )
            except EndpointError as error:
                return error

        places = [(question, number) for question in prompts for number in range(group)]
        found = dict(spread(ask, places, self._concurrency, self._client.stopped))
        faults = [reply for reply in found.values() if isinstance(reply, EndpointError)]
        if faults:
            raise ScoringError(
                f"{self._client.host}: {len(faults)} of {len(places)} answers did not come "
                f"({faults[-1]}); those that did are kept: run again to ask for the rest"
            )
        drafts = [
            Draft(reply.text, (), (), reply.finish)
            for place in range(len(places))
            if isinstance(reply := found[place], Reply)
        ]
        return [drafts[start : start + group] for start in range(0, len(drafts), group)]


def _hashed(record: Record) -> str:
    return hashlib.sha256(record.id.encode()).hexdigest()
