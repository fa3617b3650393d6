"""Find texts that are the same, or nearly: exact keys, then MinHash sketches, then the true
similarity.

Two texts are compared by their keys (`comparison_key`): units in lower case, without punctuation.
Their similarity is the Jaccard index of the sets of five-character pieces of the keys. Sketches
only propose pairs; each proposal is checked with the true index, so nothing is called a duplicate
by chance, and the sketches are cut into bands so that a pair right at the threshold is missed less
than once in a million. Nothing depends on the order of the texts.

Texts made from one template propose nearly every pair, each in many bands. So of a crowded bucket
the pieces that texts share are counted for all of them at once (`_Holders`), and counted again in
the next band rather than remembered: memory does not grow with the pairs.

Source: Broder, On the resemblance and containment of documents, 1997; Leskovec, Rajaraman, Ullman,
Mining of Massive Datasets, section 3.4.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from drenpa.core.text import units

Words = NDArray[np.uint64]
Halves = NDArray[np.uint32]
Pieces = Callable[[int], Words]  # of the text at a place, sorted

PIECE = 5  # characters
HASHES = 128  # of a sketch
_MISSED = 1e-6  # pairs at the threshold that no band proposes
_BATCH = 1 << 15  # pieces sketched at once: they stay in the processor's cache
_FEW = 64  # pairs of a bucket that are compared one by one
_FIRST = 8  # texts of a crowded bucket are compared with all of it before the others are
_TEXTS = 1 << 13  # whose pieces are in memory
_PAIRS = 1 << 17  # whose similarity is remembered
_COMMON = 8  # a piece is common when one in so many texts of a bucket holds it
_PADDING = "\U0010ffff"  # stands in no key
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
    return jaccard(piece_set(comparison_key(text)), piece_set(comparison_key(other)))


def similar_groups(texts: Sequence[str], *, threshold: float = 0.8) -> list[tuple[int, ...]]:
    """Return the groups of two and more texts that are linked by pairs of at least `threshold`.

    returns: the places of the texts, ascending within a group; groups by their first place.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        places[comparison_key(text)].append(place)
    distinct = list(places)
    links = Links(len(distinct))
    link_similar(
        band_hashes(distinct, threshold), lambda index: piece_set(distinct[index]), threshold, links
    )
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
    sets = lru_cache(maxsize=_TEXTS)(lambda index: piece_set(distinct[index]))
    alike = lru_cache(maxsize=_PAIRS)(lambda first, second: jaccard(sets(first), sets(second)))

    def offer(index: int, other: int, found: float) -> None:
        match, known = Match(theirs[distinct[other]], found), best.get(distinct[index])
        if known is None or (found, -match.index) > (known.similarity, -known.index):
            best[distinct[index]] = match

    for bucket in _buckets(band_hashes(distinct, threshold)):
        there = [index for index in bucket if distinct[index] in theirs]
        here = [index for index in bucket if distinct[index] in wanted] if there else []
        if len(here) * len(there) > _FEW:
            for index, others_H, found_H in _near(here, there, sets, threshold):
                for place in np.flatnonzero(found_H == found_H.max()).tolist():
                    offer(index, int(others_H[place]), float(found_H[place]))
            continue
        for index, other in product(here, there):
            if index != other and (found := alike(index, other)) >= threshold:
                offer(index, other, found)
    return [best.get(key) for key in ours]


class Links:
    """Which of n things hang together: disjoint sets, joined pair by pair."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._parent: dict[int, int] = {}  # of those that are not alone

    def find(self, index: int) -> int:
        """Return the representative of the set that holds `index`."""
        parent = self._parent
        above = parent.get(index, index)
        while above != index:
            parent[index] = parent.get(above, above)
            index = parent[index]
            above = parent.get(index, index)
        return index

    def join(self, first: int, second: int) -> None:
        """Make one set of the two; its representative is the smaller of theirs."""
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[low], self._parent[high] = low, low

    def groups(self) -> list[tuple[int, ...]]:
        """Return all sets, members ascending, by their first member."""
        return self._gathered(range(self._size))

    def joined(self) -> list[tuple[int, ...]]:
        """Return the sets of two and more, members ascending, by their first member."""
        return [group for group in self._gathered(sorted(self._parent)) if len(group) > 1]

    def _gathered(self, indices: Iterable[int]) -> list[tuple[int, ...]]:
        found: dict[int, list[int]] = defaultdict(list)
        for index in indices:
            found[self.find(index)].append(index)
        return [tuple(members) for members in found.values()]


def band_shape(threshold: float) -> tuple[int, int]:
    """Return bands and rows of a sketch: the most rows with which a pair right at the threshold is
    missed less than once in a million.

    >>> band_shape(0.8)
    (32, 4)
    """
    rows = max(
        (
            rows
            for rows in range(1, HASHES + 1)
            if (1 - threshold**rows) ** (HASHES // rows) <= _MISSED
        ),
        default=1,
    )
    return HASHES // rows, rows


def band_hashes(keys: Sequence[str], threshold: float = 0.8) -> Words:
    """Sketch every key and hash each band of its sketch.

    returns: [B, N], one column a key; keys that agree in a row are proposed as near-duplicates. An
             empty key has no pieces and gets a column of zeros, which proposes nothing.
    """
    bands, rows = band_shape(threshold)
    hashes_BN = np.zeros((bands, len(keys)), dtype=np.uint64)
    for start, stop in _batches(keys):
        filled = [place for place in range(start, stop) if keys[place]]
        if not filled:
            continue
        hashes_T, starts_M = _hashed_pieces([keys[place] for place in filled])
        sketch_KM = _minima((hashes_T >> np.uint64(32)).astype(np.uint32), starts_M)
        rows_BRM = sketch_KM[: bands * rows].astype(np.uint64).reshape(bands, rows, -1)
        band_BM = np.zeros((bands, len(filled)), dtype=np.uint64)
        for row in range(rows):
            band_BM = scrambled(band_BM + rows_BRM[:, row])
        hashes_BN[:, filled] = band_BM
    return hashes_BN


def link_similar(bands_BN: Iterable[Words], pieces: Pieces, threshold: float, links: Links) -> None:
    """Join what the bands propose and the true similarity confirms; bands may come one at a time.

    Pairs that hang together already are passed over: the groups are the same, and a thousand copies
    of one page take some thousand comparisons, not half a million.
    """
    sets = lru_cache(maxsize=_TEXTS)(pieces)
    alike = lru_cache(maxsize=_PAIRS)(
        lambda first, second: _reaches(sets(first), sets(second), threshold)
    )

    def join_near(some: Sequence[int], bucket: Sequence[int]) -> None:
        for index, others_H, _ in _near(some, bucket, sets, threshold):
            for root in set(map(links.find, others_H.tolist())):
                links.join(index, root)

    def outside(bucket: Sequence[int]) -> list[int]:
        """Those that do not hang together with the most."""
        roots = list(map(links.find, bucket))
        ((largest, _),) = Counter(roots).most_common(1)
        return [index for index, root in zip(bucket, roots, strict=True) if root != largest]

    for bucket in _buckets(bands_BN):
        if len(set(map(links.find, bucket))) == 1:
            continue
        some = outside(bucket)
        if len(some) * len(bucket) > _FEW and len(some) > _FIRST:
            join_near(bucket[:_FIRST], bucket)
            some = outside(bucket)
            if len(some) > _FIRST:
                join_near(some, bucket)
                continue
        for first, second in product(some, bucket):
            if links.find(first) != links.find(second) and alike(*sorted((first, second))):
                links.join(first, second)


def _reaches(first_W: Words, second_W: Words, threshold: float) -> bool:
    """Whether the Jaccard index of two sorted sets reaches the threshold; none is empty."""
    smaller, larger = sorted((len(first_W), len(second_W)))
    return smaller / larger >= threshold and jaccard(first_W, second_W) >= threshold


def _near(
    some: Sequence[int], bucket: Sequence[int], sets: Pieces, threshold: float
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """Yield each of `some` with those of the bucket that reach the threshold with it [H], and their
    similarities [H]; in several parts where the bucket is large, and only where there are any."""
    for start in range(0, len(bucket), _TEXTS):
        part_C = np.array(bucket[start : start + _TEXTS])
        holders = _Holders([sets(index) for index in part_C.tolist()])
        for index in some:
            found_C = holders.similarities(sets(index))
            reached_H = np.flatnonzero(found_C >= threshold)
            if len(reached_H):
                yield index, part_C[reached_H], found_C[reached_H]


class _Holders:
    """Which of C texts hold which of V pieces, so as to compare a text with all of them at once.

    A common piece is a bit of each text's mask, 64 to a word [W, C]; a rare one has the list of its
    holders.
    """

    def __init__(self, sets: Sequence[Words]) -> None:
        self._sizes_C = np.array([len(pieces_W) for pieces_W in sets])
        pieces_T = np.concatenate(sets)
        order_T = np.argsort(pieces_T, kind="stable")
        pieces_T = pieces_T[order_T]
        self._owners_T = np.repeat(np.arange(len(sets)), self._sizes_C)[order_T]
        starts_V = np.flatnonzero(np.append(True, pieces_T[1:] != pieces_T[:-1]))
        self._pieces_V = pieces_T[starts_V]
        self._starts_V = np.append(starts_V, len(pieces_T))
        counts_V = np.diff(self._starts_V)
        common_V = counts_V * _COMMON >= len(sets)
        self._bits_V = np.where(common_V, np.cumsum(common_V) - 1, -1)
        bits_T = np.repeat(self._bits_V, counts_V)
        owners_T, bits_T = self._owners_T[bits_T >= 0], bits_T[bits_T >= 0]
        self._masks_WC = np.zeros((int(common_V.sum()) // 64 + 1, len(sets)), dtype=np.uint64)
        np.bitwise_or.at(self._masks_WC, (bits_T >> 6, owners_T), _bit_of(bits_T))

    def similarities(self, pieces_W: Words) -> NDArray[np.float64]:
        """Return the Jaccard index of a sorted set with each text's [C]; none is empty."""
        places_W = np.searchsorted(self._pieces_V, pieces_W)
        places_W[places_W == len(self._pieces_V)] = 0
        held_W = places_W[self._pieces_V[places_W] == pieces_W]
        bits_W = self._bits_V[held_W]
        common_W, rare_W = bits_W[bits_W >= 0], held_W[bits_W < 0]
        mask_W = np.zeros(len(self._masks_WC), dtype=np.uint64)
        np.bitwise_or.at(mask_W, common_W >> 6, _bit_of(common_W))
        shared_C = np.zeros(len(self._sizes_C), dtype=np.intp)
        for word in np.flatnonzero(mask_W):
            shared_C += count_bits(self._masks_WC[word] & mask_W[word])
        if len(rare_W):
            holders = [
                self._owners_T[start:stop]
                for start, stop in zip(
                    self._starts_V[rare_W].tolist(),
                    self._starts_V[rare_W + 1].tolist(),
                    strict=True,
                )
            ]
            shared_C += np.bincount(np.concatenate(holders), minlength=len(shared_C))
        found_C: NDArray[np.float64] = shared_C / (len(pieces_W) + self._sizes_C - shared_C)
        return found_C


def _bit_of(numbers: NDArray[np.intp]) -> Words:
    """The bit of each number in its word of 64."""
    return np.left_shift(np.uint64(1), (numbers & 63).astype(np.uint64))


def count_bits(words: Words) -> NDArray[np.uint8]:
    """Return how many bits of each word are set."""
    if hasattr(np, "bitwise_count"):  # since NumPy 2
        return np.bitwise_count(words)
    return count_bits_plainly(words)


def count_bits_plainly(words: Words) -> NDArray[np.uint8]:
    """Count the bits by sums of ever wider fields, as NumPy 1 has no count of its own."""
    for shift, fields in (
        (1, 0x5555555555555555),
        (2, 0x3333333333333333),
        (4, 0x0F0F0F0F0F0F0F0F),
    ):
        low = np.uint64(fields)
        words = (words & low) + ((words >> np.uint64(shift)) & low)
    return ((words * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)


def jaccard(first_W: Words, second_W: Words) -> float:
    """Return the Jaccard index of two sorted sets; two empty ones are alike."""
    shared = len(np.intersect1d(first_W, second_W, assume_unique=True))
    total = len(first_W) + len(second_W) - shared
    return shared / total if total else 1.0


def piece_set(key: str) -> Words:
    """Return the sorted hashes of a key's pieces; a short key is one piece, an empty one has
    none."""
    return np.unique(_hashed_pieces([key])[0]) if key else np.empty(0, dtype=np.uint64)


def _buckets(bands_BN: Iterable[Words]) -> Iterator[list[int]]:
    """Yield the places of two and more keys that agree in a band."""
    for band_N in bands_BN:
        if not len(band_N):
            continue
        order_N = np.argsort(band_N, kind="stable")
        sorted_N = band_N[order_N]
        ends = np.flatnonzero(np.append(sorted_N[1:] != sorted_N[:-1], True)) + 1
        starts = np.append(0, ends[:-1])
        for place in np.flatnonzero((ends - starts > 1) & (sorted_N[starts] != 0)):
            yield order_N[starts[place] : ends[place]].tolist()


def _batches(keys: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Cut the keys into runs of about as many pieces as the cache holds."""
    start = pieces = 0
    for place, key in enumerate(keys):
        pieces += len(key)
        if pieces >= _BATCH:
            yield start, place + 1
            start, pieces = place + 1, 0
    if start < len(keys):
        yield start, len(keys)


def _hashed_pieces(keys: Sequence[str]) -> tuple[Words, NDArray[np.intp]]:
    """Return the hashes of all keys' pieces, one key after the other, and where each key's begin.

    keys: none is empty; a key shorter than a piece is filled up to one.
    """
    filled = [key if len(key) >= PIECE else key.ljust(PIECE, _PADDING) for key in keys]
    signs_C = np.frombuffer("".join(filled).encode("utf-32-le", "replace"), dtype="<u4")
    signs_C = signs_C.astype(np.uint64)
    hashes_C = np.zeros(len(signs_C) - PIECE + 1, dtype=np.uint64)
    for place, factor in enumerate(scrambled(np.arange(1, PIECE + 1, dtype=np.uint64))):
        hashes_C += signs_C[place : place + len(hashes_C)] * factor
    lengths_N = np.fromiter(map(len, filled), dtype=np.intp, count=len(filled))
    ends_N = np.cumsum(lengths_N)
    whole_C = np.ones(len(signs_C), dtype=bool)
    for back in range(1, PIECE):  # these would reach into the next key
        whole_C[ends_N - back] = False
    starts_N = ends_N - lengths_N - (PIECE - 1) * np.arange(len(filled))
    return scrambled(hashes_C[whole_C[: len(hashes_C)]]), starts_N


def _minima(hashes_T: Halves, starts_N: NDArray[np.intp]) -> Halves:
    """The sketch [K, N]: the least of each key's pieces under each of K orders."""
    numbers_K = np.arange(1, HASHES + 1, dtype=np.uint64)
    high = np.uint64(32)
    factors_K = (scrambled(numbers_K) >> high).astype(np.uint32) | np.uint32(1)
    offsets_K = (scrambled(scrambled(numbers_K)) >> high).astype(np.uint32)
    sketch_KN = np.empty((HASHES, len(starts_N)), dtype=np.uint32)
    ordered_T = np.empty_like(hashes_T)
    for number, (factor, offset) in enumerate(zip(factors_K, offsets_K, strict=True)):
        np.multiply(hashes_T, factor, out=ordered_T)
        np.add(ordered_T, offset, out=ordered_T)
        np.minimum.reduceat(ordered_T, starts_N, out=sketch_KN[number])
    return sketch_KN


def scrambled(values: Words) -> Words:
    """Scramble 64-bit words (the finaliser of SplitMix64)."""
    values = values + _MULTIPLIER
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
