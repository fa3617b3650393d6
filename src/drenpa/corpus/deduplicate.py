"""Find texts that are the same, or nearly: exact keys, then MinHash sketches, then the true
similarity.

Two texts are compared by their keys (`comparison_key`): units in lower case, without punctuation.
Their similarity is the Jaccard index of the sets of five-character pieces of the keys. Sketches
only propose pairs; each proposal is checked with the true index, so nothing is called a duplicate
by chance, and with the bands used here a pair of similarity 0.8 is missed less than once in
ten million. Nothing depends on the order of the texts.

Source: Broder, On the resemblance and containment of documents, 1997; Leskovec, Rajaraman, Ullman,
Mining of Massive Datasets, section 3.4.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drenpa.core.text import units

Words = NDArray[np.uint64]

PIECE = 5  # characters
_BANDS, _ROWS = 32, 4
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Match:
    """The most similar of the texts compared against, and how similar it is, from 0 to 1."""

    index: int
    similarity: float


def comparison_key(text: str) -> str:
    """Return what of a text is compared: its units, without case, punctuation or spelling variants.

    >>> comparison_key("བོད་ཡིག །") == comparison_key("བོད་ཡིག")
    True
    """
    return " ".join(units(text))


def similarity(text: str, other: str) -> float:
    """Return the Jaccard index of the two texts' pieces, from 0 to 1.

    >>> similarity("Why does rain fall?", "why does RAIN fall")
    1.0
    """
    return _jaccard(_pieces(comparison_key(text)), _pieces(comparison_key(other)))


def similar_groups(texts: Sequence[str], *, threshold: float = 0.8) -> list[tuple[int, ...]]:
    """Return the groups of two and more texts that are linked by pairs of at least `threshold`.

    returns: the places of the texts, ascending within a group; groups by their first place.
    """
    keys = [comparison_key(text) for text in texts]
    places: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    distinct = list(places)
    links = Links(len(distinct))
    for first, second, _ in _similar_pairs(distinct, threshold):
        links.join(first, second)
    groups = [
        tuple(sorted(place for index in group for place in places[distinct[index]]))
        for group in links.groups()
    ]
    return sorted(group for group in groups if len(group) > 1)


def best_matches(
    texts: Sequence[str], against: Sequence[str], *, threshold: float = 0.8
) -> list[Match | None]:
    """Return for each text its most similar one in `against`, or None when none reaches
    `threshold`.

    Of equally similar ones it is the first.
    """
    ours = [comparison_key(text) for text in texts]
    theirs: dict[str, int] = {}
    for place, text in enumerate(against):
        theirs.setdefault(comparison_key(text), place)
    distinct = sorted({*ours, *theirs})
    wanted = set(ours)
    best = {key: Match(place, 1.0) for key, place in theirs.items() if key in wanted}
    for first, second, found in _similar_pairs(distinct, threshold):
        for here, there in ((first, second), (second, first)):
            if distinct[there] not in theirs or distinct[here] not in wanted:
                continue
            match, known = Match(theirs[distinct[there]], found), best.get(distinct[here])
            if known is None or (found, -match.index) > (known.similarity, -known.index):
                best[distinct[here]] = match
    return [best.get(key) for key in ours]


class Links:
    """Which of n things hang together: disjoint sets, joined pair by pair."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, index: int) -> int:
        """Return the representative of the set that holds `index`."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, first: int, second: int) -> None:
        """Make one set of the two; its representative is the smaller of theirs."""
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[high] = low

    def groups(self) -> list[tuple[int, ...]]:
        """Return all sets, members ascending, by their first member."""
        found: dict[int, list[int]] = defaultdict(list)
        for index in range(len(self._parent)):
            found[self.find(index)].append(index)
        return [tuple(members) for members in found.values()]


def _similar_pairs(keys: Sequence[str], threshold: float) -> Iterable[tuple[int, int, float]]:
    """Yield (first, second, similarity) for each pair of distinct keys that reaches the
    threshold."""
    pieces = [_pieces(key) for key in keys]
    for first, second in sorted(_proposed(pieces)):
        smaller, larger = sorted((len(pieces[first]), len(pieces[second])))
        if smaller < threshold * larger:
            continue
        found = _jaccard(pieces[first], pieces[second])
        if found >= threshold:
            yield first, second, found


def _proposed(pieces: Sequence[Words]) -> set[tuple[int, int]]:
    """Return the pairs whose sketches agree in all rows of some band."""
    numbers_K = np.arange(1, _BANDS * _ROWS + 1, dtype=np.uint64)
    factors_K, offsets_K = _mixed(numbers_K) | np.uint64(1), _mixed(_mixed(numbers_K))
    proposed: set[tuple[int, int]] = set()
    buckets: dict[bytes, list[int]] = defaultdict(list)
    for index, words_W in enumerate(pieces):
        if not len(words_W):
            continue
        sketch_K = (words_W[:, None] * factors_K[None, :] + offsets_K[None, :]).min(axis=0)
        for band, rows in enumerate(sketch_K.reshape(_BANDS, _ROWS)):
            buckets[bytes([band]) + rows.tobytes()].append(index)
    for bucket in buckets.values():
        proposed.update(itertools.combinations(bucket, 2))
    return proposed


def _pieces(key: str) -> Words:
    """Return the sorted hashes of a key's pieces; a short key is one piece, an empty one has
    none."""
    signs_C = np.frombuffer(key.encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint64)
    if not len(signs_C):
        return signs_C
    width = min(PIECE, len(signs_C))
    windows_WP = np.lib.stride_tricks.sliding_window_view(signs_C, width)
    hashes_W = np.zeros(len(windows_WP), dtype=np.uint64)
    for place in range(width):
        hashes_W = _mixed(hashes_W + windows_WP[:, place] + np.uint64(1))
    return np.unique(hashes_W)


def _mixed(values: Words) -> Words:
    """Scramble 64-bit words (the finaliser of SplitMix64)."""
    values = values + _MULTIPLIER
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _jaccard(first_W: Words, second_W: Words) -> float:
    shared = len(np.intersect1d(first_W, second_W, assume_unique=True))
    total = len(first_W) + len(second_W) - shared
    return shared / total if total else 1.0
