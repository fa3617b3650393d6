"""What a classifier trained on people's kinds is worth, and what it suggests for new items."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from drenpa.core.errors import DataError
from drenpa.corpus.classify import Evaluation, cross_validate, text_of, train_classifier
from drenpa.corpus.formats import Faults, read_entries
from drenpa.corpus.intake import read_records

_TEXTS = ("question", "title", "answer", "text")


def measure_kinds(labelled: Sequence[Path], *, seed: int = 1) -> Evaluation:
    """Evaluate the classifier on records with people's kinds, in five folds.

    Records of one source stand on one side; one without a source stands alone.
    raises: DataError with every fault in the files.
    """
    records = [record for path in labelled for record in read_records(path)]
    return cross_validate(
        [text_of(record) for record in records],
        [record.kind for record in records],
        groups=[record.source or f"record {record.id}" for record in records],
        seed=seed,
    )


def suggest_kinds(labelled: Sequence[Path], items: Path) -> Iterator[dict[str, Any]]:
    """Yield a suggestion for each row of a file: id, label, probability, source `model`, reasons.

    items:  rows with an `id` and texts in `question`, `title`, `answer` or `text`, and tags.
    raises: DataError with every fault in the files, after the rows that could be read.
    """
    records = [record for path in labelled for record in read_records(path)]
    classifier = train_classifier(
        [text_of(record) for record in records], [record.kind for record in records]
    )
    faults = Faults()
    for place, entry in read_entries(items, None, faults):
        tags = entry.get("tags") or ()
        texts = [str(entry[name]) for name in _TEXTS if entry.get(name)]
        if not texts or not entry.get("id"):
            faults.add(place, f"needs an 'id' and one of {', '.join(_TEXTS)}")
            continue
        words = [tags] if isinstance(tags, str) else [str(tag) for tag in tags]
        suggestion = classifier.suggest("\n".join([*texts, *words]))
        yield {
            "id": str(entry["id"]),
            "label": suggestion.label,
            "probability": round(suggestion.probability, 4),
            "source": suggestion.source,
            "reasons": list(suggestion.reasons),
        }
    faults.check()


def tell_kinds(
    labelled: Sequence[Path], items: Path | None, out: Path | None, *, say: Callable[[str], None]
) -> None:
    """Say what the classifier is worth on the labelled records, and write its suggestions.

    raises: DataError, as `suggest_kinds` does, and when items are given without a place to write.
    """
    if (items is None) != (out is None):
        raise DataError("--items and --out belong together")
    found = measure_kinds(labelled)
    say(
        f"{found.n} records in five folds by source: accuracy {found.accuracy:.2f}, macro-F1 "
        f"{found.macro_f1:.2f}, calibration error {found.calibration:.2f}"
    )
    names = sorted({*found.confusion, *(name for row in found.confusion.values() for name in row)})
    say("people say   " + "  ".join(f"{name:>13}" for name in names) + "   suggested")
    for name, row in found.confusion.items():
        say(f"{name:13}" + "  ".join(f"{row.get(other, 0):13}" for other in names))
    if items is not None and out is not None:
        lines = [json.dumps(row, ensure_ascii=False) for row in suggest_kinds(labelled, items)]
        out.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        say(f"{len(lines)} suggestions in {out}")
