"""Notes made full: what a busy person scribbled becomes the critique that the critic learns.

With an endpoint, a strong model writes each note out under a strict instruction; every reply is
journalled as it comes, so that a broken run, or another one with the same rankings, does not pay
for it again. Without one, or where a reply is empty, the note itself is the critique. All of it is
counted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from drenpa.core.artefacts import append_line, counted, journal_lines
from drenpa.core.errors import ConfigError, ScoringError
from drenpa.core.progress import track
from drenpa.core.prompts import Prompt
from drenpa.core.records import Candidate, Ranking

SLOTS = ("question", "answer", "note")

Origin = Literal["given", "expanded", "note", "empty reply", "none"]
"""Where a critique comes from: the file, a model, the person's own note (no endpoint), the note
because the model's reply was empty, or nowhere."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible service and the model there that makes notes full.

    base_url: empty for the client's own default.
    key_env:  the environment variable that holds the key; keys are never written anywhere.
    """

    model: str
    base_url: str = ""
    key_env: str = "OPENAI_API_KEY"
    concurrency: int = 4
    timeout_s: float = 60.0
    retries: int = 3


@dataclass(frozen=True)
class Expanded:
    """Critiques by (ranking id, candidate id), and how many came from where."""

    critiques: Mapping[tuple[str, str], str]
    origins: Mapping[str, int]


class Writer(Protocol):
    """Answers one instruction."""

    name: str

    def write(self, instruction: str) -> str:
        """Return the reply's text; empty when there was none."""
        ...


class EndpointWriter:
    """A writer behind an OpenAI-compatible endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        """raises: ConfigError when the client or the key is missing."""
        try:
            import openai
        except ImportError:
            raise ConfigError(
                "expanding notes at an endpoint needs the openai client: pip install 'drenpa[api]'"
            ) from None
        key = os.environ.get(endpoint.key_env)
        if not key:
            raise ConfigError(
                f"expanding notes with {endpoint.model} needs a key in the environment variable "
                f"{endpoint.key_env}, which is not set"
            )
        self.name = endpoint.model
        self._key = key
        self._client = openai.OpenAI(
            api_key=key,
            base_url=endpoint.base_url or None,
            timeout=endpoint.timeout_s,
            max_retries=endpoint.retries,
        )

    def write(self, instruction: str) -> str:
        """Return the reply's text; the client itself tries again and honours Retry-After.

        raises: ScoringError when the service fails for good.
        """
        import openai

        try:
            reply = self._client.chat.completions.create(
                model=self.name,
                messages=[{"role": "user", "content": instruction}],
                temperature=0.0,
            )
        except openai.OpenAIError as error:
            told = str(error).replace(self._key, "…")  # some services repeat the key they refuse
            raise ScoringError(
                f"{self.name} could not expand a note ({told}); what it wrote so far is kept and "
                "not paid for again: repair the endpoint and run again"
            ) from None
        return (reply.choices[0].message.content or "").strip() if reply.choices else ""


def expand_notes(
    rankings: Sequence[Ranking],
    questions: Mapping[str, str],
    prompt: Prompt,
    *,
    writer: Writer | None,
    journal: Path,
    concurrency: int = 4,
) -> Expanded:
    """Give every candidate a critique: its own, its note made full, or the note as it is.

    questions: record id to question, for the rankings' records.
    prompt:    the strict instruction, with the slots of `SLOTS`.
    writer:    None leaves notes as they are.
    journal:   where replies are kept, keyed by the whole request.
    """
    replies = {entry["key"]: str(entry["critique"]) for entry in journal_lines(journal)}
    wanted: dict[tuple[str, str], str] = {}
    if writer is not None:
        for ranking, candidate in _noted(rankings):
            wanted[ranking.id, candidate.id] = prompt.fill(
                {
                    "question": questions[ranking.record],
                    "answer": candidate.answer,
                    "note": candidate.note.strip(),
                }
            )
        _ask(writer, prompt, wanted, replies, journal, concurrency)
    critiques: dict[tuple[str, str], str] = {}
    origins: list[Origin] = []
    for ranking in rankings:
        for candidate in ranking.candidates:
            place = ranking.id, candidate.id
            reply = None
            if writer is not None and place in wanted:
                reply = replies[_key(writer, prompt, wanted[place])]
            critiques[place], origin = _choose(candidate, reply)
            origins.append(origin)
    return Expanded(critiques, counted(origins))


def _noted(rankings: Sequence[Ranking]) -> Iterator[tuple[Ranking, Candidate]]:
    for ranking in rankings:
        for candidate in ranking.candidates:
            if candidate.note.strip() and not candidate.critique.strip():
                yield ranking, candidate


def _choose(candidate: Candidate, reply: str | None) -> tuple[str, Origin]:
    critique, note = candidate.critique.strip(), candidate.note.strip()
    if critique:
        return critique, "given"
    if not note:
        return "", "none"
    if reply is None:
        return note, "note"
    return (reply, "expanded") if reply else (note, "empty reply")


def _ask(
    writer: Writer,
    prompt: Prompt,
    wanted: Mapping[tuple[str, str], str],
    replies: dict[str, str],
    journal: Path,
    concurrency: int,
) -> None:
    """Fill `replies` with what is missing, each journalled as soon as it is there."""
    missing = {_key(writer, prompt, text): text for text in wanted.values()}
    missing = {key: text for key, text in missing.items() if key not in replies}
    if not missing:
        return
    with (
        track("expand notes", len(missing)) as progress,
        ThreadPoolExecutor(max_workers=concurrency) as pool,
    ):
        running = {pool.submit(writer.write, text): key for key, text in missing.items()}
        failure: ScoringError | None = None
        for done in as_completed(running):
            if done.cancelled():
                continue
            try:
                reply = done.result()
            except ScoringError as error:
                # Requests under way are paid for: they are waited for and kept, the others dropped.
                failure = failure or error
                for request in running:
                    request.cancel()
                continue
            key = running[done]
            replies[key] = reply
            entry = {"key": key, "critique": reply, "model": writer.name, "prompt": prompt.name}
            append_line(journal, entry)
            progress.advance()
    if failure is not None:
        raise failure


def _key(writer: Writer, prompt: Prompt, instruction: str) -> str:
    request = json.dumps([writer.name, prompt.name, instruction], ensure_ascii=False)
    return hashlib.sha256(request.encode()).hexdigest()
