"""What a split leaks, at random and by components: `python benchmarks/leakage.py DOCUMENTS`.

DOCUMENTS is JSON Lines with `id` and `text`. Each document gives a few records, as question makers
do it: the question is a sentence, the answer that sentence and the next, so records of one document
overlap. A fifth is set apart twice, at random and by what hangs together, and the audit says of
each how much of the test stands in train.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
import time
from pathlib import Path

from drenpa.core.records import Record
from drenpa.core.text import units
from drenpa.corpus.clean import clean_text
from drenpa.corpus.leakage import audit_leakage
from drenpa.corpus.split import chosen_groups, components
from drenpa.corpus.tibetan import join_segmented, sentences

SHARE = 0.2


def records_of(name: str, text: str, most: int, sources: bool) -> list[Record]:
    found = [part for part in sentences(text) if len(units(part)) >= 8]
    return [
        Record(
            id=f"{name}-{number}",
            kind="foundation",
            question=first,
            answer=f"{first} {second}",
            language="bo",
            source=name if sources else "",
        )
        for number, (first, second) in enumerate(itertools.pairwise(found))
        if number < most
    ]


def told(what: str, test: list[Record], train: list[Record]) -> str:
    found = audit_leakage(test, train)
    return (
        f"{what:34} test {len(test):5}  leaks {found.share:6.1%}  (near {found.count('near')}, "
        f"quoted {found.count('quoted')}, run {found.count('run')}), same source "
        f"{len(found.sources) / len(test):6.1%}, formula only {len(found.formulas)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("documents", type=Path)
    parser.add_argument("--most", type=int, default=4, help="records of a document")
    parser.add_argument("--documents-used", type=int, default=600)
    chosen = parser.parse_args()
    opened = gzip.open if chosen.documents.suffix == ".gz" else open
    with opened(chosen.documents, "rt", encoding="utf-8") as file:
        rows = [
            json.loads(line) for line, _ in zip(file, range(chosen.documents_used), strict=False)
        ]
    for sources in (True, False):
        records = [
            record
            for number, row in enumerate(rows)
            for record in records_of(
                f"d{number}", join_segmented(clean_text(row["text"])), chosen.most, sources
            )
        ]
        named = "named" if sources else "not named"
        print(f"{len(records)} records of {len(rows)} documents, sources {named}")
        start = time.process_time()
        groups = components(records)
        spent = time.process_time() - start
        largest = max(map(len, groups))
        print(f"  {len(groups)} components, the largest {largest}, in {spent:.1f} CPU s")
        draw = random.Random(1)
        at_random = set(draw.sample(range(len(records)), round(SHARE * len(records))))
        by_groups = chosen_groups(
            groups, ["x"] * len(records), [record.id for record in records], share=SHARE, seed=1
        )
        for what, places in (("  at random", at_random), ("  by components", by_groups)):
            test = [record for place, record in enumerate(records) if place in places]
            train = [record for place, record in enumerate(records) if place not in places]
            print(told(what, test, train))


if __name__ == "__main__":
    main()
