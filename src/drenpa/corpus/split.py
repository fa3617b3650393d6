"""Divide a corpus so that nothing crosses: what hangs together stays together.

Records hang together when they come from one source, are near-duplicates, share a run of eight
units (words, Chinese characters, Tibetan syllables), or one quotes the other's answer or nearly
says it. A random split of such data leaks: on a public set of 2,007 Tibetan question-answer pairs
from 821 articles, 79 % of test items shared an article with train and 51 % of test answers stood
word for word in a train passage. What a split still shares, `leakage` tells.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from drenpa.core.records import Record
from drenpa.corpus.deduplicate import Links, similar_groups
from drenpa.corpus.leakage import FORMULA, NEAR, Quoted, is_telling, runs_of


@dataclass(frozen=True)
class Tie:
    """Why two records, given by their places, hang together."""

    first: int
    second: int
    why: Literal["source", "near", "run", "quoted"]


def ties(records: Sequence[Record], *, threshold: float = NEAR) -> list[Tie]:
    """Return ties that make up the components, as few as it takes: a spanning forest.

    threshold: the similarity from which two records, or two questions, are near-duplicates.
    A run, or an answer, that stands in more than ten records is a formula ("in the sense of article
    … of the law …"): it links nothing, or it would make one lump of a whole genre.
    """
    links = Links(len(records))
    kept = []
    for tie in _all_ties(records, threshold):
        if links.find(tie.first) != links.find(tie.second):
            links.join(tie.first, tie.second)
            kept.append(tie)
    return kept


def components(records: Sequence[Record], *, threshold: float = NEAR) -> list[tuple[int, ...]]:
    """Return the groups of records that hang together, as places; every record is in one group."""
    return tied_groups(len(records), ties(records, threshold=threshold))


def tied_groups(size: int, ties: Sequence[Tie]) -> list[tuple[int, ...]]:
    """Return the groups that the ties make of `size` records, each record in one."""
    links = Links(size)
    for tie in ties:
        links.join(tie.first, tie.second)
    return links.groups()


def _all_ties(records: Sequence[Record], threshold: float) -> Iterator[Tie]:
    by_source: dict[str, int] = {}
    for place, record in enumerate(records):
        if record.source:
            yield Tie(by_source.setdefault(record.source, place), place, "source")
    for texts in (
        [record.question for record in records],
        [f"{record.question}\n{record.answer or ''}" for record in records],
    ):
        for first, *others in similar_groups(texts, threshold=threshold):
            for place in others:
                yield Tie(first, place, "near")
    yield from _said_alike(records, threshold)
    hashes_R, owners_R = runs_of((record.question, record.answer or "") for record in records)
    starts = np.flatnonzero(np.append(True, hashes_R[1:] != hashes_R[:-1]))[: len(hashes_R)]
    ends = np.append(starts[1:], len(hashes_R))[: len(starts)]
    linking = np.flatnonzero((ends - starts > 1) & (ends - starts <= FORMULA))
    for start, end in zip(starts[linking], ends[linking], strict=True):
        first, *others = owners_R[start:end].tolist()
        for place in others:
            yield Tie(first, place, "run")
    quoted = Quoted({place: record.answer or "" for place, record in enumerate(records)})
    holders: dict[int, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        for said in quoted.within(record.question) | quoted.within(record.answer or ""):
            holders[said].append(place)
    for said, places in sorted(holders.items()):
        if len(places) <= FORMULA:
            for place in places:
                yield Tie(min(said, place), max(said, place), "quoted")


def _said_alike(records: Sequence[Record], threshold: float) -> Iterator[Tie]:
    """Tie records of which one nearly says what another says or asks, unless more than ten do."""
    said = [(p, r.answer) for p, r in enumerate(records) if r.answer and is_telling(r.answer)]
    texts = [*enumerate(record.question for record in records), *said]
    for group in similar_groups([text for _, text in texts], threshold=threshold):
        first, *others = sorted({texts[place][0] for place in group})
        if len(others) < FORMULA:
            for place in others:
                yield Tie(first, place, "near")


def chosen_groups(
    groups: Sequence[Collection[int]],
    strata: Sequence[Hashable],
    names: Sequence[str],
    *,
    share: float,
    seed: int,
) -> set[int]:
    """Choose whole groups so that each stratum gives about `share` of its members, or all strata
    together do, where most of them are too small to give one.

    groups: disjoint groups of places; strata, names: one per place.
    share:  from 0 to 1; a group is taken when it brings the strata closer to it. Between 0 and 1
            neither part stays empty where a group of one can be moved.
    The order in which groups are tried hangs on the seed and on names, not on places.
    """
    wanted: dict[Hashable, float] = defaultdict(float)
    for group in groups:
        for place in group:
            wanted[strata[place]] += share
    lacking = dict(wanted)
    chosen: list[Collection[int]] = []
    left: list[Collection[int]] = []
    for group in sorted(groups, key=lambda group: _draw(seed, min(names[p] for p in group))):
        counts = Counter(strata[place] for place in group)
        gain = sum(
            abs(lacking[stratum]) - abs(lacking[stratum] - count)
            for stratum, count in counts.items()
        )
        (chosen if gain > 0 else left).append(group)
        if gain > 0:
            _give(lacking, counts)
    if 2 * sum(map(len, chosen)) < sum(wanted.values()):
        while fitting := [group for group in left if _is_due(group, strata, lacking)]:
            most = max(fitting, key=lambda group: _lack(group, strata, lacking))
            left.remove(most)
            chosen.append(most)
            _give(lacking, Counter(strata[place] for place in most))
    for empty, full in ((chosen, left), (left, chosen)):
        single = next((group for group in full if len(group) == 1), None)
        if 0 < share < 1 and not empty and len(full) > 1 and single is not None:
            full.remove(single)
            empty.append(single)
    return {place for group in chosen for place in group}


def _give(lacking: dict[Hashable, float], counts: Counter[Hashable]) -> None:
    for stratum, count in counts.items():
        lacking[stratum] -= count


def _lack(
    group: Collection[int], strata: Sequence[Hashable], lacking: dict[Hashable, float]
) -> float:
    """What the strata of a group still lack, the mean over its members."""
    return round(sum(lacking[strata[place]] for place in group) / len(group), 9)


def _is_due(
    group: Collection[int], strata: Sequence[Hashable], lacking: dict[Hashable, float]
) -> bool:
    """Whether a group brings all together closer to the share, and its strata lack something."""
    short = round(sum(lacking.values()), 9)
    return len(group) < 2 * short and _lack(group, strata, lacking) > 0


def _draw(seed: int, name: str) -> tuple[str, str]:
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "replace")).hexdigest(), name
