"""Recall: does the model answer from its weights, or with passages from the store?

The router asks the store which passage the question means, and the ledger where that passage's
record stands. Passages are other people's words: they reach the model as quoted data, one line
each, that can neither end its own quotation nor bring in a slot or a control character.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from drenpa.config import RecallConfig
from drenpa.core.prompts import load_prompt
from drenpa.core.text import units
from drenpa.memory.ledger import IN_WEIGHTS, Standing
from drenpa.memory.store import Hit, Store

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Route:
    """Where an answer comes from, with which passages, and why."""

    source: Literal["weights", "store"]
    hits: tuple[Hit, ...]
    reason: str


def route(
    question: str, store: Store, standings: Mapping[str, Standing], config: RecallConfig
) -> Route:
    """Decide whether the question is answered from the weights or with passages.

    The passage that fits best decides, if it covers the question: a volatile or personal one, one
    that is not a record's, and one whose record is not in the weights are shown to the model; a
    record that the model knows needs no passage.
    """
    found = store.search(question, limit=max(4 * config.passages, 10))
    fitting = [hit for hit in found if hit.cover >= config.min_cover]
    if not fitting:
        best = f"the best covers {found[0].cover:.2f}" if found else "nothing shares a word with it"
        return Route("weights", (), f"no passage covers the question: {best}")
    shown = tuple(fitting[: config.passages])
    passage = fitting[0].passage
    if passage.stability in ("volatile", "personal"):
        return Route("store", shown, f"{passage.id} is {passage.stability}")
    standing = standings.get(passage.record)
    if standing is None:
        return Route("store", shown, f"{passage.id} is in no ledger")
    if standing.state in IN_WEIGHTS:
        return Route("weights", (), f"{passage.id} is {standing.state}: {standing.known:.2f}")
    return Route("store", shown, f"{passage.id} is {standing.state}")


def recall_prompt(
    question: str, hits: Sequence[Hit], config: RecallConfig, *, language: str = "en"
) -> str:
    """Return the question with its passages quoted above it, as one user message."""
    folder = Path(str(resources.files("drenpa.memory"))) / "prompts"
    file = folder / f"recall.{language}.md"
    if not file.is_file():
        file = folder / "recall.en.md"
    prompt = load_prompt(str(file), slots=("passages", "question"))
    lines = [_quoted(number, hit, config) for number, hit in enumerate(hits, 1)]
    return prompt.fill({"passages": "\n".join(lines), "question": question})


def prompt_on(chosen: Route, question: str, config: RecallConfig, *, language: str = "en") -> str:
    """Return what the model is asked on a route: the question, below its passages if it has any."""
    if chosen.source == "weights":
        return question
    return recall_prompt(question, chosen.hits, config, language=language)


def _quoted(number: int, hit: Hit, config: RecallConfig) -> str:
    """One passage as a line of data; one that holds only for a time says since when."""
    text = _shortened(_plain(hit.passage.text), config.max_passage_units)
    dated = hit.passage.stability in ("volatile", "personal") and hit.since
    since = f" ({_plain(hit.since)})" if dated else ""
    return f"[{number}]{since} {json.dumps(text, ensure_ascii=False)}"


def _plain(text: str) -> str:
    """The text on one line, without control characters and without signs that turn its order."""
    kept = (
        " " if unicodedata.category(sign) in ("Cc", "Zl", "Zp") else sign
        for sign in text
        if sign not in _BIDI
    )
    return " ".join("".join(kept).split())


def _shortened(text: str, limit: int) -> str:
    """At most `limit` units of the text, cut where a unit ends, with a sign that it was cut."""
    if len(units(text)) <= limit:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(units(text[:middle])) <= limit else (low, middle - 1)
    cut = text[:low]
    if text[low : low + 1].isalnum() and " " in cut:
        cut = cut.rsplit(" ", 1)[0]
    return cut.rstrip() + " …"
