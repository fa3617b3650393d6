"""Notes made full: what a busy person scribbled becomes the critique that the critic learns.

A strong model writes each note out under a strict instruction. What it writes must pass the
faithfulness gate: a critique that says more than its sources goes back with what is wrong, and
after some tries the note is queued for a person and stands in as it is; so is one that the model's
service refuses to look at, or that leaves the model no room. Every reply is kept under
the whole request, so that a broken run, or another one with the same rankings, pays for nothing
twice. Without a writer the note itself is the critique. All of it is counted and told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from drenpa.config import EngineConfig, ExpandConfig
from drenpa.core.artefacts import counted, write_text
from drenpa.core.endpoint import Endpoint, Reply
from drenpa.core.errors import ScoringError
from drenpa.core.progress import track
from drenpa.core.prompts import Prompt, load_prompt
from drenpa.core.records import Candidate, Ranking
from drenpa.critic.cache import ReplyCache, Request, key_of
from drenpa.critic.client import EndpointWriter, LocalWriter, Writer
from drenpa.critic.examples import dump_lines
from drenpa.critic.faithful import CHECK_SLOTS, unfaithful, unsupported_claims

SLOTS = ("question", "answer", "note")
RETRY_SLOTS = ("faults",)
TRIES = 3
JOURNAL = "expand.jsonl"
"""In a run's folder; the replies and the queue stand beside it."""


def queue_of(journal: Path) -> Path:
    """Where the notes that wait for a person stand."""
    return journal.with_name(f"{journal.stem}-queue.jsonl")


Origin = Literal["given", "expanded", "note", "queued", "none"]
"""Where a critique comes from: the file, a model, the person's own note (no writer), the note
because nothing that the model wrote was faithful to it or it wrote nothing, or nowhere."""

Place = tuple[str, str]
"""A ranking's id and a candidate's."""

__all__ = [
    "JOURNAL",
    "SLOTS",
    "Endpoint",
    "EndpointWriter",
    "Expanded",
    "Expansion",
    "LocalWriter",
    "Writer",
    "cost_of_expansion",
    "expand_notes",
    "queue_of",
    "writers_of",
]


@dataclass
class Expansion:
    """What became of one note, for `expand.jsonl`.

    attempts: request key, raw reply and its faults, in order; the last one was taken if it has no
              fault.
    refused:  whether the last one was refused, so that nothing more is asked.
    """

    place: Place
    question: str
    answer: str
    note: str
    messages: list[dict[str, str]]
    attempts: list[dict[str, object]] = field(default_factory=list)
    critique: str = ""
    refused: bool = False


@dataclass(frozen=True)
class Expanded:
    """Critiques by (ranking id, candidate id), and how many came from where."""

    critiques: Mapping[Place, str]
    origins: Mapping[str, int]


@dataclass(frozen=True)
class Cost:
    """What an expansion would take at most, in its first round; each further try costs as much
    again for the notes that need it.

    known: requests whose replies are kept already.
    """

    notes: int
    known: int
    input_tokens: int
    output_tokens: int
    money: float
    spent: float


def writers_of(
    config: ExpandConfig, engine: EngineConfig | None = None
) -> tuple[Writer, Writer | None]:
    """Return the writer that a recipe names, and the model that checks what it writes.

    engine: how a model on this machine is run.
    raises: ConfigError when a client or a key is missing.
    """

    def writer(model: str) -> Writer:
        if config.writer == "local":
            return LocalWriter(model, max_tokens=config.max_tokens, engine=engine)
        return EndpointWriter(Endpoint.of(config, model=model), max_tokens=config.max_tokens)

    return writer(config.model), writer(config.checker) if config.checker else None


def expand_notes(
    rankings: Sequence[Ranking],
    questions: Mapping[str, str],
    prompt: Prompt,
    *,
    writer: Writer | None,
    journal: Path,
    concurrency: int = 4,
    tries: int = TRIES,
    checker: Writer | None = None,
    language: str = "en",
) -> Expanded:
    """Give every candidate a critique: its own, its note made full, or the note as it is.

    questions: record id to question, for the rankings' records.
    prompt:    the strict instruction, with the slots of `SLOTS`.
    writer:    None leaves notes as they are.
    journal:   `expand.jsonl`, where the provenance of each expansion is written. Beside it stand
               `expand.sqlite` with the replies, and `expand-queue.jsonl` with the notes that a
               person must write out.
    tries:     how often a critique is asked for before its note is queued.
    checker:   a second model that checks claim by claim what has passed the gate.
    language:  of the prompts for trying again and for checking.
    raises:    ScoringError when a service failed for good; what it wrote is kept.
    """
    found: dict[Place, Expansion] = {}
    if writer is not None:
        found = {e.place: e for e in _wanted(rankings, questions, prompt)}
        gate = _Gate(
            writer=writer,
            checker=checker,
            retry=load_prompt("expand_retry", language, slots=RETRY_SLOTS),
            check=load_prompt("expand_check", language, slots=CHECK_SLOTS),
            tries=tries,
            concurrency=concurrency,
        )
        with ReplyCache(journal.with_suffix(".sqlite")) as cache:
            try:
                gate.expand(list(found.values()), cache)
            finally:
                _write_journal(list(found.values()), writer, checker, prompt, journal)
    critiques: dict[Place, str] = {}
    origins: list[Origin] = []
    for ranking in rankings:
        for candidate in ranking.candidates:
            place = ranking.id, candidate.id
            critiques[place], origin = _choose(candidate, found.get(place))
            origins.append(origin)
    return Expanded(critiques, counted(origins))


def cost_of_expansion(
    rankings: Sequence[Ranking],
    questions: Mapping[str, str],
    prompt: Prompt,
    *,
    writer: Writer,
    journal: Path,
) -> Cost:
    """Return what the first round would take at most, without asking for anything."""
    requests = {
        key_of(request): request
        for expansion in _wanted(rankings, questions, prompt)
        for request in (writer.request(expansion.messages),)
    }
    known, spent = 0, 0.0
    file = journal.with_suffix(".sqlite")
    if file.is_file():
        with ReplyCache(file) as cache:
            spent = cache.spent()
            missing = [request for request in requests.values() if cache.get(request) is None]
    else:
        missing = list(requests.values())
    known = len(requests) - len(missing)
    most = [writer.most(request) for request in missing]
    return Cost(
        notes=len(requests),
        known=known,
        input_tokens=sum(tokens for tokens, _, _ in most),
        output_tokens=sum(tokens for _, tokens, _ in most),
        money=sum(money for _, _, money in most),
        spent=spent,
    )


@dataclass(frozen=True)
class _Gate:
    """Asks, looks at what came, and asks again.

    refused: why a request got no reply and will get none, by its key. It is not kept: a later run
             asks once more.
    """

    writer: Writer
    checker: Writer | None
    retry: Prompt
    check: Prompt
    tries: int
    concurrency: int
    refused: dict[str, str] = field(default_factory=dict)

    def expand(self, expansions: Sequence[Expansion], cache: ReplyCache) -> None:
        """Fill in the critiques; those left empty had no faithful reply.

        Whatever breaks off, all the attempts are filled in whose replies are kept.
        """
        try:
            while missing := [m for e in expansions if (m := self._follow(e, cache)) is not None]:
                for asked, label in (
                    (self.writer, "expand notes"),
                    (self.checker, "check critiques"),
                ):
                    requests = [request for who, request in missing if who is asked]
                    if asked is not None and requests:
                        ask(asked, requests, cache, self.concurrency, label, self.refused)
        finally:
            for expansion in expansions:
                self._follow(expansion, cache)

    def _follow(self, e: Expansion, cache: ReplyCache) -> tuple[Writer, Request] | None:
        """Take a note as far as the replies reach that are kept.

        returns: whose reply to what is missing; None when nothing more is to be asked.
        """
        while not e.critique and not e.refused and len(e.attempts) < self.tries:
            request = self.writer.request(e.messages)
            reply = cache.get(request)
            if reply is None:
                if not self._refuses(e, request, "", "The model gave no reply"):
                    return self.writer, request
                continue
            faults = unfaithful(e.question, e.answer, e.note, reply.text)
            if reply.finish == "length":
                faults.append("The critique was cut off; it is too long.")
            if self.checker is not None and not faults:
                check = self._check(self.checker, e, reply)
                found = cache.get(check)
                if found is None:
                    told = "The checking model gave no reply"
                    if not self._refuses(e, check, reply.text, told):
                        return self.checker, check
                    continue
                faults = _objections(found)
            e.attempts.append({"key": key_of(request), "raw": reply.text, "faults": faults})
            if not faults:
                e.critique = reply.text
                continue
            told = "\n".join(f"- {fault}" for fault in faults)
            e.messages += [
                {"role": "assistant", "content": reply.text or "…"},
                {"role": "user", "content": self.retry.fill({"faults": told})},
            ]
        return None

    def _refuses(self, e: Expansion, request: Request, raw: str, told: str) -> bool:
        """Note on an expansion that a request was refused, if it was."""
        key = key_of(request)
        e.refused = key in self.refused
        if e.refused:
            faults = [f"{told}: {self.refused[key]}"]
            e.attempts.append({"key": key, "raw": raw, "faults": faults})
        return e.refused

    def _check(self, checker: Writer, e: Expansion, reply: Reply) -> Request:
        """The request to the second model about what has no fault yet."""
        shown = {"question": e.question, "answer": e.answer, "note": e.note}
        text = self.check.fill({**shown, "critique": reply.text})
        return checker.request([{"role": "user", "content": text}])


def _objections(reply: Reply) -> list[str]:
    """What the second model finds wrong, as faults."""
    claims = unsupported_claims(reply.text)
    if claims is None:
        return ["The checking model's reply could not be read."]
    return [f"No source supports this: {claim}" for claim in claims]


def ask(
    writer: Writer,
    requests: Sequence[Request],
    cache: ReplyCache,
    at_once: int,
    label: str,
    refused: dict[str, str],
) -> None:
    """Bring a reply to each request into the cache, where it is not; equal requests are asked once.

    refused: is given why a request will get none, by its key.
    raises:  ScoringError when some could not be answered; those that were are in the cache.
    """
    missing = {key_of(request): request for request in requests if cache.get(request) is None}
    if not missing:
        return
    asked = list(missing.values())
    with track(label, len(asked)) as progress:

        def keep(place: int, reply: Reply) -> None:
            cache.put(asked[place], reply)
            progress.advance()

        found = writer.send(asked, keep, at_once=at_once, spent=cache.spent(), lose=cache.lose)
    refused |= {key_of(asked[place]): why for place, why in found.items()}
    left = [key for key, request in missing.items() if cache.get(request) is None]
    if lost := set(left) - refused.keys():
        raise ScoringError(
            f"{writer.name} left {len(lost)} of {len(asked)} requests without a reply; what it "
            "wrote is kept: run again to go on"
        )


def _wanted(
    rankings: Sequence[Ranking], questions: Mapping[str, str], prompt: Prompt
) -> Iterator[Expansion]:
    """Yield every candidate that has a note and no critique."""
    for ranking in rankings:
        for candidate in ranking.candidates:
            note = candidate.note.strip()
            if not note or candidate.critique.strip():
                continue
            question = questions[ranking.record]
            shown = {"question": question, "answer": candidate.answer, "note": note}
            message = {"role": "user", "content": prompt.fill(shown)}
            place = ranking.id, candidate.id
            yield Expansion(place, question, candidate.answer, note, [message])


def _choose(candidate: Candidate, expansion: Expansion | None) -> tuple[str, Origin]:
    critique, note = candidate.critique.strip(), candidate.note.strip()
    if critique:
        return critique, "given"
    if not note:
        return "", "none"
    if expansion is None:
        return note, "note"
    return (expansion.critique, "expanded") if expansion.critique else (note, "queued")


def _write_journal(
    expansions: Sequence[Expansion],
    writer: Writer,
    checker: Writer | None,
    prompt: Prompt,
    journal: Path,
) -> None:
    """Write where each expansion comes from, and which notes wait for a person."""
    rows = [
        {
            "ranking": e.place[0],
            "candidate": e.place[1],
            "note": e.note,
            "critique": e.critique,
            "model": writer.name,
            "prompt": prompt.name,
            "prompt_key": key_of({"prompt": prompt.text}),
            "checker": checker.name if checker else "",
            "attempts": e.attempts,
        }
        for e in expansions
        if e.attempts
    ]
    queue = [
        {
            "ranking": e.place[0],
            "candidate": e.place[1],
            "question": e.question,
            "answer": e.answer,
            "note": e.note,
            "attempts": e.attempts,
        }
        for e in expansions
        if e.attempts and not e.critique
    ]
    write_text(journal, dump_lines(rows))
    write_text(queue_of(journal), dump_lines(queue))
