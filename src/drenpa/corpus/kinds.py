"""What a classifier trained on people's kinds is worth, what it suggests for new items, and how
suggestions, its own or anybody's, get into the rounds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from drenpa.core.errors import DataError
from drenpa.core.knowledge import Kind
from drenpa.core.records import Identifier, Record, Row
from drenpa.core.text import brief
from drenpa.corpus.annotate import Step, Store, accepted_records
from drenpa.corpus.classify import (
    Classifier,
    Evaluation,
    cross_validate,
    text_of,
    train_classifier,
)
from drenpa.corpus.formats import Faults, read_entries
from drenpa.corpus.intake import Located, read_records, read_rows
from drenpa.corpus.rounds import Item, KindSuggestion

TEXTS = ("question", "title", "answer", "text")


class SuggestedKind(Row):
    """A line of a file of suggestions; an empty label suggests nothing."""

    id: Identifier
    label: Annotated[Kind | None, BeforeValidator(lambda label: label or None)] = None
    source: Identifier
    probability: float | None = Field(default=None, ge=0, le=1)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """What became of suggestions for the items of a store.

    taken:   items that stand with this suggestion now.
    decided: items that are past round 1, or whose kind came with them; they stay as they are.
    empty:   lines that suggest nothing.
    refused: a line for each that was refused, `file:line: why`.
    """

    taken: int
    decided: int
    empty: int
    refused: tuple[str, ...] = ()


def measure_kinds(labelled: Sequence[Path], *, seed: int = 1) -> Evaluation:
    """Evaluate the classifier on records with people's kinds, in five folds.

    Records of one source stand on one side; one without a source stands alone.
    raises: DataError with every fault in the files.
    """
    return _measured(_read(labelled), seed=seed)


def suggest_kinds(labelled: Sequence[Path], items: Path) -> Iterator[dict[str, Any]]:
    """Yield a suggestion for each row of a file: id, label, probability, source `model`, reasons.

    items:  rows with an `id` and texts in `question`, `title`, `answer` or `text`, and tags.
    raises: DataError with every fault in the files, after the rows that could be read.
    """
    classifier = _trained(_read(labelled))
    for name, texts in texts_of(items):
        suggestion = classifier.suggest("\n".join(texts.values()))
        yield {
            "id": name,
            "label": suggestion.label,
            "probability": round(suggestion.probability, 4),
            "source": suggestion.source,
            "reasons": list(suggestion.reasons),
        }


def texts_of(items: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the id and the texts of each row of a file, its tags as the last of them.

    raises: DataError with every fault in the file, after the rows that could be read.
    """
    faults = Faults()
    for place, entry in read_entries(items, None, faults):
        tags = entry.get("tags") or ()
        texts = {name: str(entry[name]) for name in TEXTS if entry.get(name)}
        if not texts or not entry.get("id"):
            faults.add(place, f"needs an 'id' and one of {', '.join(TEXTS)}")
            continue
        if tags:
            words = [tags] if isinstance(tags, str) else [str(tag) for tag in tags]
            texts["tags"] = "\n".join(words)
        yield str(entry["id"]), texts
    faults.check()


def tell_kinds(
    labelled: Sequence[Path], items: Path | None, out: Path | None, *, say: Callable[[str], None]
) -> None:
    """Say what the classifier is worth on the labelled records, and write its suggestions.

    raises: DataError, as `suggest_kinds` does, and when items are given without a place to write.
    """
    if (items is None) != (out is None):
        raise DataError("--items and --out belong together")
    tell_worth(measure_kinds(labelled), say)
    if items is not None and out is not None:
        say(f"{write_suggestions(suggest_kinds(labelled, items), out)} suggestions in {out}")


def write_suggestions(rows: Iterable[Mapping[str, Any]], out: Path) -> int:
    """Write suggestions as JSON Lines; return how many."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def tell_worth(
    found: Evaluation, say: Callable[[str], None], *, how: str = "in five folds by source"
) -> None:
    """Say how suggestions agree with people: macro-F1, confusion, and how often they are right for
    how sure they are."""
    told = f", calibration error {found.calibration:.2f}" if found.bins else ""
    say(
        f"{found.n} records {how}: accuracy {found.accuracy:.2f}, macro-F1 {found.macro_f1:.2f}"
        + told
    )
    names = sorted({*found.confusion, *(name for row in found.confusion.values() for name in row)})
    say("people say   " + "  ".join(f"{name or 'nothing':>13}" for name in names) + "   suggested")
    for name, row in found.confusion.items():
        say(f"{name:13}" + "  ".join(f"{row.get(other, 0):13}" for other in names))
    for part in found.bins:
        say(f"of {part.n} suggestions {part.claimed:.2f} sure, {part.right:.2f} were right")


def take_suggestions(store: Store, path: Path, actor: str) -> Taken:
    """Take a file of suggestions into the rounds, each with its source; a line at fault is refused
    and the rest goes on.

    Only items of round 1 whose kind nobody has decided take one; a later suggestion replaces an
    earlier one, and both stay in the history.
    """
    faults = Faults()
    taken = _take(store, read_rows(path, SuggestedKind, faults), actor, faults)
    return Taken(taken.taken, taken.decided, taken.empty, tuple(faults.lines))


def suggest_from_accepted(store: Store, actor: str, *, say: Callable[[str], None]) -> Taken:
    """Train the classifier on the store's own accepted items, say what it is worth, and suggest a
    kind for each item of round 1 whose kind nobody has decided.

    raises: DataError unless accepted items of two kinds are there.
    """
    items = store.items()
    records = accepted_records(items)
    classifier = _trained(records)
    tell_worth(_measured(records), say)
    found = []
    for item in items:
        if item.may_be_suggested:
            text = "\n".join([item.question, item.answer, *item.tags])
            suggestion = classifier.suggest(text)
            row = SuggestedKind(
                id=item.id,
                label=suggestion.label,  # type: ignore[arg-type]  # one of the records' kinds
                source=suggestion.source,
                probability=round(suggestion.probability, 4),
                reasons=suggestion.reasons,
            )
            found.append(Located(row, item.id))
    return _take(store, found, actor, Faults())


def _take(
    store: Store, entries: Sequence[Located[SuggestedKind]], actor: str, faults: Faults
) -> Taken:
    known = {item.id: item for item in store.items()}
    steps, places, decided, empty, there = [], [], 0, 0, 0
    for entry in entries:
        item = known.get(entry.row.id)
        if item is None:
            faults.add(entry.place, f"field 'id': the store has no item '{brief(entry.row.id)}'")
        elif entry.row.label is None:
            empty += 1
        elif not item.may_be_suggested:
            decided += 1
        elif _stands(item, suggestion := _suggestion(entry, faults)):
            there += 1
        elif suggestion is not None:
            content = suggestion.model_dump(mode="json")
            steps.append(Step(item.id, "suggest", actor, content, item.version))
            places.append(entry.place)
    refused = store.act_all(steps)
    for place, refusal in zip(places, refused, strict=True):
        if refusal is not None:
            faults.add(place, str(refusal))
    return Taken(there + sum(refusal is None for refusal in refused), decided, empty)


def _suggestion(entry: Located[SuggestedKind], faults: Faults) -> KindSuggestion | None:
    row = entry.row
    try:
        return KindSuggestion(
            kind=row.label,  # type: ignore[arg-type]  # it is not empty
            source=row.source,
            probability=row.probability,
            reasons=row.reasons,
        )
    except ValueError:
        faults.add(entry.place, f"field 'source': '{row.source}' decides, it does not suggest")
        return None


def _stands(item: Item, suggestion: KindSuggestion | None) -> bool:
    return item.suggestion is not None and item.suggestion == suggestion


def _read(labelled: Sequence[Path]) -> list[Record]:
    return [record for path in labelled for record in read_records(path)]


def _trained(records: Sequence[Record]) -> Classifier:
    return train_classifier([text_of(r) for r in records], [r.kind for r in records])


def _measured(records: Sequence[Record], *, seed: int = 1) -> Evaluation:
    return cross_validate(
        [text_of(record) for record in records],
        [record.kind for record in records],
        groups=[record.source or f"record {record.id}" for record in records],
        seed=seed,
    )
