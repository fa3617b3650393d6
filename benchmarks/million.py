"""Many synthetic documents through the steps that see every record: `python benchmarks/million.py`.

Makes documents of 40 made-up words, a tenth of them copies of the one before with a word changed,
then cleans each text and looks for near-duplicates, as `drenpa deduplicate` does. Every step runs
in a process of its own; told are CPU seconds, documents a second and the most memory the process
and its workers ever held (VmHWM of the one, the largest of the others).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from drenpa.core.records import Page
from drenpa.corpus.clean import clean_text
from drenpa.corpus.language import identify_language
from drenpa.corpus.stream import deduplicate_files, mapped

WORDS = 40


def make(path: Path, count: int) -> str:
    draw = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    lengths = draw.integers(2, 10, 20_000)
    known = np.array(["".join(draw.choice(letters, length)) for length in lengths])
    with path.open("w") as file:
        words = known[:WORDS]
        for start in range(0, count, 10_000):
            chosen = known[draw.integers(0, len(known), (min(10_000, count - start), WORDS))]
            for number, fresh in enumerate(chosen, start):
                if number % 10 == 9:
                    fresh = np.append(words[:-1], fresh[-1])
                words = fresh
                text = " ".join(words)
                file.write(f'{{"id": "p{number:08}", "text": "{text}  \\u200b."}}\n')
    return f"{path.stat().st_size / 1e6:.0f} MB"


def cleaned(lines: list[str]) -> list[str]:
    rows = []
    for line in lines:
        page = Page.model_validate_json(line)
        text = clean_text(page.text)
        tags = (identify_language(text),)
        rows.append(page.model_copy(update={"text": text, "tags": tags}).model_dump_json())
    return rows


def clean(path: Path, out: Path, workers: int) -> str:
    def lines() -> Iterator[str]:
        with path.open() as file:
            yield from file

    count = 0
    with out.open("w") as file:
        for rows in mapped(cleaned, lines(), workers=workers):
            count += len(rows)
            file.writelines(f"{row}\n" for row in rows)
    return f"{count} rows"


def deduplicate(path: Path, out: Path, workers: int) -> str:
    found = deduplicate_files([path], out, workers=workers)
    return f"{found.kept} of {found.rows} stay, {found.clusters} clusters"


def measured(pipe: object, work: Callable[..., str], arguments: tuple[object, ...]) -> None:
    start = time.monotonic()
    told = work(*arguments)
    ours, theirs = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    pipe.send(
        {
            "told": told,
            "wall_s": round(time.monotonic() - start, 1),
            "cpu_s": round(sum(u.ru_utime + u.ru_stime for u in (ours, theirs)), 1),
            "peak_mb": round(ours.ru_maxrss / 1024),
            "worker_peak_mb": round(theirs.ru_maxrss / 1024),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    parser.add_argument("--json", type=Path, help="write every figure here")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=chosen.folder))
    raw, clean_rows = folder / "raw.jsonl", folder / "clean.jsonl"
    steps: list[tuple[str, Callable[..., str], tuple[object, ...]]] = [
        ("make", make, (raw, chosen.count)),
        ("clean", clean, (raw, clean_rows, chosen.workers)),
        ("deduplicate", deduplicate, (clean_rows, folder / "out", chosen.workers)),
    ]
    figures = {}
    context = multiprocessing.get_context("spawn")
    for name, work, arguments in steps:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=measured, args=(there, work, arguments))
        process.start()
        there.close()
        row = figures[name] = here.recv()
        process.join()
        print(
            f"{name:12} {row['told']:44} {row['cpu_s']:7.1f} CPU s  {row['wall_s']:7.1f} s  "
            f"{chosen.count / row['cpu_s']:7.0f} documents a CPU second  "
            f"peak {row['peak_mb']} MB, of a worker {row['worker_peak_mb']} MB",
            flush=True,
        )
    shutil.rmtree(folder)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
