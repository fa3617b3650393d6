"""Rankings as the critic learns from them: each with its question, and every answer with its
critique."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drenpa.core.artefacts import Artefact
from drenpa.core.errors import DataError
from drenpa.core.knowledge import Kind
from drenpa.core.records import Ranking, Record
from drenpa.critic.lots import folded


@dataclass(frozen=True)
class Example:
    """One ranking: K answers to one question, best rank 1, with the critiques people gave.

    critiques: empty where an answer has neither critique nor note.
    """

    id: str
    question: str
    kind: Kind
    language: str
    candidates: tuple[str, ...]
    answers: tuple[str, ...]
    ranks: tuple[int, ...]
    critiques: tuple[str, ...]


@dataclass(frozen=True)
class Examples:
    """What is trained on and what is only measured on; no question stands in both."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


def read_examples(corpus: Artefact, critiques: Mapping[tuple[str, str], str]) -> Examples:
    """Join a corpus's rankings with their questions and with the critiques.

    critiques: (ranking id, candidate id) to the full critique.
    raises:    DataError when a ranking's record is missing, a question stands on both sides of the
               split, or nothing is left to train on.
    """
    records = {record.id: record for record in corpus.rows("records", Record)}
    rankings = corpus.rows("rankings", Ranking)
    faults = [
        f"{corpus.path}: ranking '{ranking.id}' is of record '{ranking.record}', which is not there"
        for ranking in rankings
        if ranking.record not in records
    ]
    if faults:
        raise DataError(faults)
    examples = {
        split: tuple(
            _example(ranking, records[ranking.record], critiques)
            for ranking in rankings
            if ranking.split == split
        )
        for split in ("train", "held_out")
    }
    known = {folded(example.question) for example in examples["train"]}
    both = [e.id for e in examples["held_out"] if folded(e.question) in known]
    if both:
        raise DataError(
            f"{corpus.path}: the questions of {', '.join(both)} are held out and trained on as "
            "well; give all rankings of one question one split"
        )
    if not any(len(set(example.ranks)) > 1 for example in examples["train"]):
        raise DataError(
            f"{corpus.path}: no ranking to train on tells a better from a worse answer; add "
            "rankings or lower corpus.held_out"
        )
    return Examples(examples["train"], examples["held_out"])


def _example(ranking: Ranking, record: Record, critiques: Mapping[tuple[str, str], str]) -> Example:
    return Example(
        id=ranking.id,
        question=record.question,
        kind=record.kind,
        language=record.language,
        candidates=tuple(candidate.id for candidate in ranking.candidates),
        answers=tuple(candidate.answer for candidate in ranking.candidates),
        ranks=tuple(candidate.rank for candidate in ranking.candidates),
        critiques=tuple(critiques[ranking.id, candidate.id] for candidate in ranking.candidates),
    )


def pairs_of(ranks: Sequence[int]) -> list[tuple[int, int]]:
    """Return the places (better, worse) of every pair of unequal rank.

    >>> pairs_of([2, 1, 2])
    [(1, 0), (1, 2)]
    """
    return [
        (better, worse)
        for better, high in enumerate(ranks)
        for worse, low in enumerate(ranks)
        if high < low
    ]


def dump_lines(rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
