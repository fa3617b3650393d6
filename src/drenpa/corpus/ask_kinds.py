"""Suggestions of kinds by a language model behind an endpoint, kept so that none is paid twice.

A model's reply is a suggestion like any other: what cannot be read suggests nothing and says why,
and how often the model agrees with people is told before anything is written.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drenpa.core.endpoint import ChatClient, Endpoint, EndpointError, spread
from drenpa.core.errors import DataError
from drenpa.core.knowledge import KINDS
from drenpa.core.prompts import Prompt, load_prompt
from drenpa.core.records import Record
from drenpa.core.store import Store
from drenpa.core.text import brief
from drenpa.corpus.classify import evaluate
from drenpa.corpus.intake import read_records
from drenpa.corpus.kinds import tell_worth, texts_of, write_suggestions

SLOTS = ("material",)
LONGEST = 4000  # characters of a text that are shown to the model
REPLY_TOKENS = 200
NO_REPLY = "no reply: "  # begins the reason where a request failed
CHECKED = 100  # people's records that the model is held against, at most

Texts = Mapping[str, str]


@dataclass(frozen=True)
class Asking:
    """Whom to ask, and how.

    language: of the prompt.
    workers:  requests at a time.
    """

    endpoint: Endpoint
    language: str = "en"
    workers: int = 4


def tell_asked_kinds(
    labelled: Sequence[Path],
    items: Path | None,
    out: Path | None,
    asking: Asking,
    *,
    say: Callable[[str], None],
    dry_run: bool = False,
) -> int:
    """Say how often a language model agrees with people's kinds, and write what it suggests; return
    how many requests got no reply.

    labelled: records with people's kinds; at most `CHECKED` of them are asked about. May be empty.
    out:      the file of suggestions; replies are kept beside it, so that a run goes on after a
              stop and a second one asks nothing.
    raises:   DataError with every fault in the files; ConfigError when the endpoint cannot be
              asked, ScoringError when it never answers.
    """
    if (items is None) != (out is None):
        raise DataError("--items and --out belong together")
    records = [record for path in labelled for record in read_records(path)]
    checked = random.Random(1).sample(records, min(CHECKED, len(records)))
    rows = list(texts_of(items)) if items is not None else []
    if not checked and not rows:
        raise DataError("there is nothing to ask: name RECORDS, or --items and --out, or both")
    prompt = load_prompt("kind", asking.language, slots=SLOTS)
    probe = ChatClient(asking.endpoint, "--llm")
    asked = [*(_texts_of_record(record) for record in checked), *(texts for _, texts in rows)]
    tokens = sum(probe.most(_request(prompt, texts))[0] for texts in asked)
    say(
        f"{len(asked)} requests to {asking.endpoint.model} at {probe.host}: at most {tokens} "
        f"tokens in, {REPLY_TOKENS * len(asked)} out"
    )
    if dry_run:
        return 0
    beside = out or labelled[0]
    replied: list[dict[str, Any]] = []
    with Store(beside.with_name(beside.name + ".replies.db")) as store:
        client = ChatClient(asking.endpoint, "--llm", store)
        if checked:
            texts = [(record.id, _texts_of_record(record)) for record in checked]
            replied += (found := list(ask_kinds(client, texts, asking, prompt)))
            labels = [row["label"] for row in found]
            tell_worth(
                evaluate([record.kind for record in checked], labels), say, how="asked about"
            )
        if out is not None:
            replied += (suggested := list(ask_kinds(client, rows, asking, prompt)))
            silent = sum(not row["label"] for row in suggested)
            write_suggestions(suggested, out)
            say(f"{len(suggested)} lines in {out}, {silent} of them suggest nothing and say why")
    missing = sum(str(reason).startswith(NO_REPLY) for row in replied for reason in row["reasons"])
    if missing:
        say(f"{missing} of {len(replied)} requests got no reply; run again to ask these alone")
    return missing


def ask_kinds(
    client: ChatClient, items: Sequence[tuple[str, Texts]], asking: Asking, prompt: Prompt
) -> Iterator[dict[str, Any]]:
    """Yield a suggestion for each item, in order: id, label, source `llm NAME`, reasons.

    raises: ScoringError when no request will ever get a reply.
    """

    def ask(item: tuple[str, Texts]) -> tuple[str, str]:
        request = _request(prompt, item[1])
        messages = request.pop("messages")
        try:
            return read_kind(client.ask(messages, **request).text)
        except EndpointError as error:
            return "", f"{NO_REPLY}{error}"

    replies = dict(spread(ask, items, asking.workers, client.stopped))
    for place, (name, _) in enumerate(items):
        label, reason = replies[place]
        yield {
            "id": name,
            "label": label,
            "source": f"llm {asking.endpoint.model}",
            "reasons": [reason] if reason else [],
        }


def read_kind(reply: str) -> tuple[str, str]:
    """Return the kind and the reason in a reply; no kind, and why, where it names none.

    The last JSON object that names a kind counts, whatever stands around it.

    >>> read_kind('I think: {"reason": "a tool", "kind": "Profession"}.')
    ('profession', 'a tool')
    >>> read_kind("It is a profession.")
    ('', 'the reply names no kind: It is a profession.')
    """
    found = ("", f"the reply names no kind: {brief(reply, 80)}")
    decoder = json.JSONDecoder()
    place = reply.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(reply, place)
        except (ValueError, RecursionError):
            value, end = None, place + 1
        if isinstance(value, dict):
            kind = str(value.get("kind", "")).strip().casefold()
            reason = brief(value.get("reason") or "", 200)
            if kind in KINDS:
                found = (kind, reason)
            elif kind == "" and "kind" in value:
                found = ("", reason or "it says that none fits")
        place = reply.find("{", end)
    return found


def _request(prompt: Prompt, texts: Texts) -> dict[str, Any]:
    material = json.dumps(
        {name: text[:LONGEST] for name, text in texts.items()}, ensure_ascii=False, indent=1
    )
    return {
        "messages": [{"role": "user", "content": prompt.fill({"material": material})}],
        "temperature": 0,
        "max_tokens": REPLY_TOKENS,
    }


def _texts_of_record(record: Record) -> dict[str, str]:
    texts = {"question": record.question, "answer": record.answer or ""}
    return {name: text for name, text in texts.items() if text}
