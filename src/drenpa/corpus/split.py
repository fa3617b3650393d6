"""Divide a corpus so that nothing crosses: what hangs together stays together.

Records hang together when they come from one source, are near-duplicates, share a run of eight
units (words, Chinese characters, Tibetan syllables), or one quotes the other's answer. A random
split of such data leaks: on a public set of 2,007 Tibetan question-answer pairs from 821 articles,
79 % of test items shared an article with train and 51 % of test answers stood word for word in a
train passage. What a split still shares, `leakage` tells.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from drenpa.core.records import Record
from drenpa.corpus.deduplicate import Links, similar_groups
from drenpa.corpus.leakage import FORMULA, NEAR, Quoted, runs_of


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


def chosen_groups(
    groups: Sequence[Collection[int]],
    strata: Sequence[Hashable],
    names: Sequence[str],
    *,
    share: float,
    seed: int,
) -> set[int]:
    """Choose whole groups so that each stratum gives about `share` of its members.

    groups: disjoint groups of places; strata, names: one per place.
    share:  from 0 to 1; a group is taken when it brings the strata closer to it.
    The order in which groups are tried hangs on the seed and on names, not on places.
    """
    members = [place for group in groups for place in group]
    wanted: dict[Hashable, float] = defaultdict(float)
    for place in members:
        wanted[strata[place]] += share
    lacking = dict(wanted)
    chosen: set[int] = set()
    for group in sorted(groups, key=lambda group: _draw(seed, min(names[p] for p in group))):
        counts: dict[Hashable, int] = defaultdict(int)
        for place in group:
            counts[strata[place]] += 1
        gain = sum(
            abs(lacking[stratum]) - abs(lacking[stratum] - count)
            for stratum, count in counts.items()
        )
        if gain > 0:
            chosen.update(group)
            for stratum, count in counts.items():
                lacking[stratum] -= count
    return chosen


def _draw(seed: int, name: str) -> tuple[str, str]:
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "replace")).hexdigest(), name
