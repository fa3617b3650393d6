"""How long the records are in a model's own tokens, and what a length limit would cost each kind.

Tibetan takes several times the tokens of the same text in Chinese or English on most tokenizers, so
a limit that is ample for one language leaves out much of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from drenpa.core.knowledge import KINDS
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Record
from drenpa.engine.chat import Chat, Message


@dataclass(frozen=True)
class Lengths:
    """The lengths of some records, in tokens of the whole training row.

    over:  how many are longer than the limit; training leaves such rows out.
    lost:  share of all tokens that stand beyond the limit, which cutting would lose.
    """

    records: int
    median: float
    p95: int
    longest: int
    over: int
    lost: float


def measure_lengths(
    records: Iterable[Record], count: Callable[[Record], int], *, limit: int = 1024
) -> dict[str, Lengths]:
    """Return the lengths of each kind and language, `kind/language`, and of `all`.

    count: tokens of a record's row, as `row_counter` makes it.
    """
    found: dict[str, list[int]] = {}
    for record in records:
        tokens = count(record)
        for group in ("all", f"{record.kind}/{record.language}"):
            found.setdefault(group, []).append(tokens)
    order: list[str] = [*KINDS, "all"]
    groups = sorted(found, key=lambda group: (order.index(group.split("/")[0]), group))
    return {group: _lengths(found[group], limit) for group in groups}


def row_counter(
    model: str, *, prompt: str = "answer", language: str = "en"
) -> Callable[[Record], int]:
    """Return what counts the tokens of a record as fine-tuning lays it out: instruction, question,
    answer, end.

    model:    a folder, a hub id or a shipped name, whose tokenizer and chat template are used.
    prompt, language: the instruction, as `load_prompt` finds it.
    raises:   ModelError when there is no such tokenizer.
    """
    from drenpa.engine.models import load_tokenizer, resolve_model

    chat = Chat(load_tokenizer(Path(resolve_model(model))))
    instruction = load_prompt(prompt, language).text

    def count(record: Record) -> int:
        given = chat.prompt([Message("system", instruction), Message("user", record.question)])
        return len(given) + len(chat.text(record.answer or "")) + 1

    return count


def _lengths(tokens: list[int], limit: int) -> Lengths:
    tokens = sorted(tokens)
    return Lengths(
        records=len(tokens),
        median=median(tokens),
        p95=tokens[max(0, -(-95 * len(tokens) // 100) - 1)],
        longest=tokens[-1],
        over=sum(count > limit for count in tokens),
        lost=sum(max(0, count - limit) for count in tokens) / sum(tokens),
    )
