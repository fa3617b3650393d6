"""Many synthetic documents through the steps that see every record: `python benchmarks/million.py`.

Makes documents of 40 made-up words, a tenth of them copies of the one before with a word changed,
then does with them what `drenpa clean` and `drenpa deduplicate` do. Every step runs in a process of
its own; told are CPU seconds, documents a second and the most memory the process and its workers
ever held (VmHWM of the one, the largest of the others).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from drenpa.corpus.clean_pages import Cleaning, clean_into
from drenpa.corpus.stream import deduplicate_files

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


def clean(path: Path, out: Path, workers: int) -> str:
    pages = clean_into([str(path)], out, Cleaning(), workers=workers)["pages"]
    return f"{pages['kept']} of {pages['read']} pages are kept"


def deduplicate(folder: Path, out: Path, workers: int) -> str:
    found = deduplicate_files([folder / "pages.jsonl"], out, workers=workers)
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
    raw, pages = folder / "raw.jsonl", folder / "clean"
    steps: list[tuple[str, Callable[..., str], tuple[object, ...]]] = [
        ("make", make, (raw, chosen.count)),
        ("clean", clean, (raw, pages, chosen.workers)),
        ("deduplicate", deduplicate, (pages, folder / "out", chosen.workers)),
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
