"""Near-duplicates against datasketch, on planted copies: `python benchmarks/dedup.py`.

Documents of made-up words, some copied with a share of their words changed. Both sides get the same
texts in one process, take turns, and look for pairs of Jaccard similarity 0.7 over five-character
pieces; the median of the rounds counts, in process CPU seconds. What each planted share of changes
leaves of the similarity is printed, since a copy below 0.7 should not be found.

Then questions of one template, nearly all of them just below the threshold of 0.8 to each other, by
ours alone.

recall      planted copies found together with their original, of those that are 0.7 alike or more
precision   found pairs that are 0.7 alike or more, of all found pairs

datasketch is used as its documentation shows: a MinHash of 128 permutations for each text, an LSH
index at the threshold, a query for each text. It proposes and does not check; a second row checks
its proposals with the true similarity, as ours always does.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from datasketch import MinHash, MinHashLSH

from drenpa.corpus.deduplicate import PIECE, comparison_key, similar_groups, similarity

THRESHOLD = 0.7
Pairs = set[tuple[int, int]]


def planted(count: int, words: int, copies: int, changed: float, seed: int) -> list[str]:
    """`count` texts, then copies of the first ones with a share of words changed."""
    draw = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    known = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(20_000)]
    texts = [draw.choices(known, k=words) for _ in range(count)]
    for number in range(copies):
        copy = list(texts[number])
        for place in draw.sample(range(words), round(changed * words)):
            copy[place] = draw.choice(known)
        texts.append(copy)
    return [" ".join(text) for text in texts]


def templated(count: int, seed: int) -> list[str]:
    """Questions that differ in one made-up word."""
    draw = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(6, 12))) for _ in range(count)]
    return [
        f"What does the Tibetan word {word} mean, and how is it used in a sentence?"
        for word in words
    ]


def ours(texts: list[str]) -> Pairs:
    groups = similar_groups(texts, threshold=THRESHOLD)
    return {pair for group in groups for pair in combinations(group, 2)}


def theirs(texts: list[str]) -> Pairs:
    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    sketches = []
    for place, text in enumerate(texts):
        key = comparison_key(text)
        pieces = {key[start : start + PIECE] for start in range(len(key) - PIECE + 1)}
        sketch = MinHash(num_perm=128)
        sketch.update_batch([piece.encode() for piece in pieces])
        index.insert(place, sketch)
        sketches.append(sketch)
    return {
        (min(place, other), max(place, other))
        for place, sketch in enumerate(sketches)
        for other in index.query(sketch)
        if other != place
    }


def theirs_checked(texts: list[str]) -> Pairs:
    return {(a, b) for a, b in theirs(texts) if similarity(texts[a], texts[b]) >= THRESHOLD}


SIDES: dict[str, Callable[[list[str]], Pairs]] = {
    "drenpa": ours,
    "datasketch": theirs,
    "datasketch, checked": theirs_checked,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--words", type=int, default=100)
    parser.add_argument("--copies", type=int, default=300)
    parser.add_argument("--templated", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every figure here")
    chosen = parser.parse_args()
    rows = []
    for changed in (0.02, 0.05, 0.10):
        texts = planted(chosen.texts, chosen.words, chosen.copies, changed, seed=7)
        alike = [similarity(texts[n], texts[chosen.texts + n]) for n in range(chosen.copies)]
        wanted = {(n, chosen.texts + n) for n in range(chosen.copies) if alike[n] >= THRESHOLD}
        print(
            f"{changed:.0%} of words changed: similarity {min(alike):.2f} to {max(alike):.2f}, "
            f"{len(wanted)} of {chosen.copies} copies reach {THRESHOLD}"
        )
        spent: dict[str, list[float]] = {side: [] for side in SIDES}
        found: dict[str, Pairs] = {}
        for _ in range(chosen.rounds):
            for side, work in SIDES.items():
                start = time.process_time()
                found[side] = work(texts)
                spent[side].append(time.process_time() - start)
        for side, pairs in found.items():
            true = sum(similarity(texts[a], texts[b]) >= THRESHOLD for a, b in pairs)
            row = {
                "changed": changed,
                "side": side,
                "recall": len(pairs & wanted) / len(wanted),
                "precision": true / len(pairs) if pairs else 1.0,
                "cpu_s": statistics.median(spent[side]),
                "texts_per_s": len(texts) / statistics.median(spent[side]),
            }
            rows.append(row)
            print(
                f"  {side:20} recall {row['recall']:.3f}  precision {row['precision']:.3f}  "
                f"{row['cpu_s']:6.2f} s  {row['texts_per_s']:7.0f} texts a second"
            )
    questions = templated(chosen.templated, seed=7)
    start = time.process_time()
    groups = similar_groups(questions)
    spent_s = time.process_time() - start
    rows.append({"templated": len(questions), "groups": len(groups), "cpu_s": spent_s})
    print(f"{len(questions)} questions of one template: {len(groups)} groups, {spent_s:.1f} s")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
