"""What test items and training still share: near-duplicates, quoted answers, runs of units.

Three ways in which a test item can be known beforehand, the plainest first: its question or answer
nearly stands in training; its answer stands word for word within a training text; it shares a run
of eight units (words, Chinese characters, Tibetan syllables) with one. A run that stands in more
than ten records is a formula of the genre ("in the sense of article … of the law …"); it is told of
and is no leak.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from drenpa.core.records import Ranking, Record
from drenpa.core.text import units
from drenpa.corpus.deduplicate import Words, best_matches, scrambled

Name = TypeVar("Name", bound=Hashable)
Way = Literal["near", "quoted", "run"]

RUN = 8  # units
FORMULA = 10  # a run that stands in more records is a formula of the genre and links nothing
NEAR = 0.8  # the similarity from which two texts are near-duplicates
_START, _LONG = 3, 12  # an answer of fewer units, or signs, may stand within a text by chance


@dataclass(frozen=True)
class SharedRun:
    """A run of units that stands in a test item and in a train item.

    holders: how many items, of test and train together, have it.
    """

    test: str
    train: str
    run: str
    holders: int

    @property
    def formula(self) -> bool:
        """Whether so many have it that it tells nothing."""
        return self.holders > FORMULA


@dataclass(frozen=True)
class Leak:
    """How one test item is known beforehand, and through which training item."""

    test: str
    train: str
    way: Way
    text: str


@dataclass(frozen=True)
class Leakage:
    """What an audit of a split found.

    items:    test items looked at.
    leaks:    one for each item that leaks, the plainest.
    formulas: of each item that shares only formulas, the rarest.
    sources:  test items whose source has training records as well.
    """

    items: int
    leaks: tuple[Leak, ...]
    formulas: tuple[SharedRun, ...]
    sources: tuple[str, ...]

    @property
    def share(self) -> float:
        """The share of test items that leak."""
        return len(self.leaks) / self.items if self.items else 0.0

    def count(self, way: Way) -> int:
        """How many items leak in this way."""
        return sum(leak.way == way for leak in self.leaks)

    def summary(self, shown: int) -> dict[str, Any]:
        """The audit as plain values, with the first few leaks in full."""
        return {
            "benchmark_items": self.items,
            "leaking": len(self.leaks),
            "near": self.count("near"),
            "quoted": self.count("quoted"),
            "run": self.count("run"),
            "formula_only": len(self.formulas),
            "same_source": len(self.sources),
            "examples": [vars(leak) for leak in self.leaks[:shown]],
        }


def audit_leakage(
    test: Sequence[Record],
    train: Sequence[Record],
    rankings: Sequence[Ranking] = (),
    *,
    threshold: float = NEAR,
) -> Leakage:
    """Look for everything of the test items that training texts hold.

    rankings: count with the record they rank; candidates, notes and critiques are training texts.
    """
    texts: dict[str, list[str]] = {row.id: [row.question, row.answer or ""] for row in train}
    for ranking in rankings:
        texts.setdefault(ranking.record, []).extend(_ranking_texts(ranking))
    leaks: dict[str, Leak] = {}

    def note(leak: Leak) -> None:
        leaks.setdefault(leak.test, leak)

    owners = [name for name in sorted(texts) for _ in texts[name]]
    held = [text for name in sorted(texts) for text in texts[name]]
    asked = [record.question for record in train]
    for item, match in zip(
        test, best_matches([t.question for t in test], asked, threshold=threshold), strict=True
    ):
        if match:
            note(Leak(item.id, train[match.index].id, "near", asked[match.index]))
    answered = [item for item in test if is_telling(item.answer or "")]
    for item, match in zip(
        answered,
        best_matches([item.answer or "" for item in answered], held, threshold=threshold),
        strict=True,
    ):
        if match:
            note(Leak(item.id, owners[match.index], "near", held[match.index]))
    quoted = Quoted({item.id: item.answer or "" for item in test})
    for name, text in zip(owners, held, strict=True):
        for found in sorted(quoted.within(text)):
            note(Leak(found, name, "quoted", quoted.answers[found]))
    runs = shared_runs({item.id: [item.question, item.answer or ""] for item in test}, texts)
    for run in runs:
        if not run.formula:
            note(Leak(run.test, run.train, "run", run.run))
    sources = {record.source for record in train} - {""}
    return Leakage(
        items=len(test),
        leaks=tuple(leaks[name] for name in sorted(leaks)),
        formulas=tuple(run for run in runs if run.formula and run.test not in leaks),
        sources=tuple(sorted(item.id for item in test if item.source in sources)),
    )


def _ranking_texts(ranking: Ranking) -> list[str]:
    return [text for c in ranking.candidates for text in (c.answer, c.note, c.critique) if text]


def is_telling(text: str) -> bool:
    """Whether a text is long enough not to stand somewhere by chance: three units, twelve signs.

    >>> is_telling("in 1959"), is_telling("The yak carries them.")
    (False, True)
    """
    pieces = units(text)
    return len(pieces) >= _START and sum(map(len, pieces)) >= _LONG


class Quoted(Generic[Name]):
    """Finds which of many answers stand in a text, compared by units: case, punctuation and
    spelling variants hide nothing."""

    def __init__(self, answers: Mapping[Name, str]) -> None:
        self.answers = answers
        self._whole: dict[str, list[Name]] = defaultdict(list)
        self._begun: dict[tuple[str, ...], list[tuple[Name, list[str]]]] = defaultdict(list)
        for name, answer in answers.items():
            pieces = units(answer)
            if pieces:
                self._whole[" ".join(pieces)].append(name)
            if is_telling(answer):
                self._begun[tuple(pieces[:_START])].append((name, pieces))

    def within(self, text: str) -> set[Name]:
        """Return the answers that stand in the text word for word; short ones are passed over."""
        pieces = units(text)
        return {
            name
            for start in range(len(pieces) - _START + 1)
            for name, answer in self._begun.get(tuple(pieces[start : start + _START]), ())
            if pieces[start : start + len(answer)] == answer
        }

    def being(self, text: str) -> set[Name]:
        """Return the answers, however short, that are the whole text."""
        return set(self._whole.get(" ".join(units(text)), ()))


def text_runs(text: str, length: int = RUN) -> set[str]:
    """Return every run of `length` units in the text; a shorter text has none.

    >>> sorted(text_runs("one two, three", 2))
    ['one two', 'two three']
    """
    pieces = units(text)
    return {" ".join(pieces[start : start + length]) for start in range(len(pieces) - length + 1)}


def run_hashes(text: str, length: int = RUN) -> Words:
    """Return a hash of each run of `length` units, in the order of the text; 64 bits a run."""
    hashes_W = np.fromiter(map(_unit_hash, units(text)), dtype=np.uint64)
    runs_R = np.zeros(max(0, len(hashes_W) - length + 1), dtype=np.uint64)
    for place in range(length):
        runs_R = scrambled(runs_R + hashes_W[place : place + len(runs_R)])
    return runs_R


@lru_cache(maxsize=1 << 17)
def _unit_hash(unit: str) -> int:
    data = unit.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def runs_of(texts: Iterable[Iterable[str]], length: int = RUN) -> tuple[Words, NDArray[np.int64]]:
    """Return every item's runs as sorted hashes, and beside each the item's number.

    An item has each of its runs once; items with one run in common stand side by side, ascending.
    """
    found: list[Words] = []
    for item in texts:
        runs = [run_hashes(text, length) for text in item]
        found.append(np.unique(np.concatenate([*runs, np.empty(0, dtype=np.uint64)])))
    hashes_R = np.concatenate([*found, np.empty(0, dtype=np.uint64)])
    owners_R = np.repeat(np.arange(len(found)), [len(runs_R) for runs_R in found])
    order_R = np.argsort(hashes_R, kind="stable")
    return hashes_R[order_R], owners_R[order_R]


def shared_runs(
    test: Mapping[str, Iterable[str]], train: Mapping[str, Iterable[str]], length: int = RUN
) -> list[SharedRun]:
    """Return, for each test item that shares a run with train, the rarest such run and the first
    train item that has it.

    test, train: id → texts.
    """
    names = sorted(train)
    known_R, owners_R = runs_of((train[name] for name in names), length)
    asked = sorted(test)
    asked_R, _ = runs_of((test[name] for name in asked), length)
    found = []
    for name in asked:
        best: SharedRun | None = None
        for text in test[name]:
            runs_R = run_hashes(text, length)
            firsts_R = np.searchsorted(known_R, runs_R, side="left")
            lasts_R = np.searchsorted(known_R, runs_R, side="right")
            for start in np.flatnonzero(lasts_R > firsts_R):
                first, last, run = int(firsts_R[start]), int(lasts_R[start]), runs_R[start]
                others = np.searchsorted(asked_R, run, "right") - np.searchsorted(asked_R, run)
                holders = last - first + int(others)
                if best is None or holders < best.holders:
                    shown = " ".join(units(text)[start : start + length])
                    best = SharedRun(name, names[owners_R[first]], shown, holders)
        if best is not None:
            found.append(best)
    return found
