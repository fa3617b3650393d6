"""Work on files of any size: batches through all cores, in order, with a few of them in memory.

`mapped` is the one place that knows where batches are worked on: in this process, in processes on
this machine, or on a Ray cluster. Results come in the order of the input, so they are the same
whatever the engine and the number of workers.

`deduplicate_files` finds near-duplicates among more rows than fit into memory. Sketches go to disk,
one file a band; a band at a time is sorted; proposals are checked on the texts themselves, read
again from where they stand. In memory are numbers alone: where each row stands, one band, and what
hangs together.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DataError
from drenpa.corpus.deduplicate import (
    Links,
    Words,
    band_hashes,
    band_shape,
    comparison_key,
    jaccard,
    link_similar,
    piece_set,
)

Item = TypeVar("Item")
Result = TypeVar("Result")
Engine = Literal["local", "ray"]

BATCH = 1024  # rows
_AHEAD = 3  # batches under way for each worker
TEXT_FIELDS = ("text", "question", "answer")


def mapped(
    work: Callable[[list[Item]], Result],
    items: Iterable[Item],
    *,
    batch: int = BATCH,
    workers: int = 0,
    engine: Engine = "local",
) -> Iterator[Result]:
    """Apply `work` to batches of the items on many cores; yield its results in order.

    work:    a function at the top of a module, or a `partial` of one: it is sent to the workers.
    workers: processes, or tasks of a cluster at a time; 0 is one for each core.
    raises:  DataError when the engine is not installed.
    """
    source = iter(items)
    batches = iter(lambda: list(itertools.islice(source, batch)), [])
    if engine == "ray":
        yield from _on_ray(work, batches, workers)
        return
    workers = workers or _cores()
    if workers == 1:
        yield from map(work, batches)
        return
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(workers) as pool:
        for part in batches:
            waiting.append(pool.submit(work, part))
            if len(waiting) >= _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _cores() -> int:
    """The cores that this process may use; not every system can say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _on_ray(
    work: Callable[[list[Item]], Result], batches: Iterable[list[Item]], workers: int
) -> Iterator[Result]:
    """The same on a Ray cluster: the one that runs, or one on this machine."""
    try:
        import ray
    except ImportError:
        raise DataError("the engine `ray` needs an extra: pip install 'drenpa[ray]'") from None
    if not ray.is_initialized():
        ray.init(num_cpus=workers or None, include_dashboard=False, log_to_driver=False)
    ahead = _AHEAD * (workers or int(ray.cluster_resources().get("CPU", 1)))
    task = ray.remote(work if not isinstance(work, partial) else _called)
    given = () if not isinstance(work, partial) else (ray.put(work),)
    waiting: deque[Any] = deque()
    for part in batches:
        waiting.append(task.remote(*given, part))
        if len(waiting) >= ahead:
            yield ray.get(waiting.popleft())
    while waiting:
        yield ray.get(waiting.popleft())


def _called(work: Callable[[list[Item]], Result], part: list[Item]) -> Result:
    return work(part)


@dataclass(frozen=True)
class Deduplicated:
    """What came of looking for near-duplicates in files.

    rows:     that were read; faults: lines that are no rows, and where.
    kept:     rows that stay; exact: copies but for case, punctuation and spelling variants; near:
              other near-duplicates.
    clusters: groups of rows that hang together.
    """

    rows: int
    kept: int
    exact: int
    near: int
    clusters: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class _Index:
    """Where each row stands: the file's number, the line's, and the byte at which it begins."""

    files: Sequence[IO[bytes]]
    owners_N: NDArray[np.int64]
    lines_N: NDArray[np.int64]
    starts_N: NDArray[np.int64]
    faults: list[tuple[int, int]]

    def raw(self, place: int) -> bytes:
        """The line of a row, as it stands in its file."""
        file = self.files[self.owners_N[place]]
        file.seek(self.starts_N[place])
        line: bytes = file.readline()
        return line.rstrip(b"\r\n")

    def row(self, place: int) -> tuple[str, str]:
        """The id and the text of a row."""
        found = _id_and_text(self.raw(place))
        if found is None:
            raise DataError(f"{self.files[self.owners_N[place]].name}: changed while it was read")
        return found


def deduplicate_files(
    paths: Sequence[Path],
    folder: Path,
    *,
    threshold: float = 0.8,
    workers: int = 0,
    engine: Engine = "local",
) -> Deduplicated:
    """Copy the rows of JSON Lines files into a new folder, one of each group of near-duplicates.

    paths:  rows with an `id` and a `text`, or a `question` and an `answer`.
    folder: gets `rows.jsonl`, the rows that stay, byte for byte and in order; `clusters.jsonl`,
            the groups with the similarity of each copy to the row that stays; `faults.txt`.
    Of a group the row with the first id stays, whatever the order of rows and files.
    raises: DataError when a file is missing, the folder holds something, or no row could be read.
    """
    missing = [f"{path}: no such file" for path in paths if not path.is_file()]
    if missing:
        raise DataError(missing)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is there already; give the folder a new name")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch, ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        sketches = _Sketches(Path(scratch), threshold)
        index = sketches.fill(files, workers, engine)
        faults = [
            f"{paths[file]}:{line}: no row with an id and a text" for file, line in index.faults
        ]
        rows = len(index.starts_N)
        if not rows:
            raise DataError([*faults[:20], "no row could be read"])
        links, exact = sketches.linked(index)
        stays_N = np.ones(rows, dtype=bool)
        clusters = 0
        with (folder / "clusters.jsonl").open("w", encoding="utf-8") as out:
            for group in links.joined():
                first, *copies = sorted(group, key=lambda place: (index.row(place), place))
                stays_N[copies] = False
                clusters += 1
                told = _cluster(index, first, copies)
                out.write(json.dumps(told, ensure_ascii=False) + "\n")
        with (folder / "rows.jsonl").open("wb") as kept:
            for place in np.flatnonzero(stays_N):
                kept.write(index.raw(int(place)) + b"\n")
    write_text(folder / "faults.txt", "".join(f"{fault}\n" for fault in faults))
    stay = int(stays_N.sum())
    return Deduplicated(rows, stay, exact, rows - stay - exact, clusters, tuple(faults))


def _cluster(index: _Index, first: int, copies: Sequence[int]) -> dict[str, Any]:
    name, text = index.row(first)
    ours = piece_set(comparison_key(text))

    def copy(place: int) -> dict[str, Any]:
        other, said = index.row(place)
        return {
            "id": other,
            "file": index.files[index.owners_N[place]].name,
            "line": int(index.lines_N[place]),
            "similarity": round(jaccard(ours, piece_set(comparison_key(said))), 3),
        }

    return {"kept": name, "text": text[:200], "copies": [copy(place) for place in copies]}


class _Sketches:
    """The sketches of all rows on disk: a file of digests, and a file for each band."""

    def __init__(self, folder: Path, threshold: float) -> None:
        self._threshold = threshold
        self._digests = folder / "digests"
        self._bands = [folder / f"band-{band}" for band in range(band_shape(threshold)[0])]

    def fill(self, files: Sequence[IO[bytes]], workers: int, engine: Engine) -> _Index:
        """Sketch every line of the files on many cores; return where the rows stand."""
        positions = array("q")

        def lines() -> Iterator[bytes]:
            for owner, file in enumerate(files):
                start = 0
                for number, line in enumerate(file, 1):
                    positions.extend((owner, number, start))
                    start += len(line)
                    yield line

        good: list[NDArray[np.bool_]] = []
        work = partial(_sketched, threshold=self._threshold)
        with ExitStack() as stack:
            digests = stack.enter_context(self._digests.open("wb"))
            bands = [stack.enter_context(path.open("wb")) for path in self._bands]
            for batch in mapped(work, lines(), workers=workers, engine=engine):
                good.append(batch.good_L)
                digests.write(batch.digests_N2.tobytes())
                for file, band_N in zip(bands, batch.bands_BN, strict=True):
                    file.write(band_N.tobytes())
        good_L = np.concatenate([*good, np.empty(0, dtype=bool)])
        places_L3 = np.frombuffer(positions, dtype=np.int64).reshape(-1, 3)
        rows_N3, bad_M3 = places_L3[good_L], places_L3[~good_L]
        return _Index(
            files=files,
            owners_N=rows_N3[:, 0],
            lines_N=rows_N3[:, 1],
            starts_N=rows_N3[:, 2],
            faults=[(int(owner), int(number)) for owner, number, _ in bad_M3],
        )

    def linked(self, index: _Index) -> tuple[Links, int]:
        """Return which rows hang together, and how many are the same as an earlier one."""
        digests_N2 = np.fromfile(self._digests, dtype=np.uint64).reshape(-1, 2)
        order_N = np.lexsort((digests_N2[:, 1], digests_N2[:, 0]))
        sorted_N2 = digests_N2[order_N]
        again_N = np.append(False, (sorted_N2[1:] == sorted_N2[:-1]).all(axis=1))
        links = Links(len(order_N))
        for place in np.flatnonzero(again_N):
            links.join(int(order_N[place - 1]), int(order_N[place]))
        copies_M = order_N[again_N]

        def pieces(place: int) -> Words:
            return piece_set(comparison_key(index.row(place)[1]))

        def bands() -> Iterator[Words]:
            for path in self._bands:
                band_N = np.fromfile(path, dtype=np.uint64)
                band_N[copies_M] = 0  # the first of them speaks for all
                yield band_N

        link_similar(bands(), pieces, self._threshold, links)
        return links, len(copies_M)


@dataclass(frozen=True)
class _Batch:
    """What one batch of lines leaves: which lines are rows [L], and of these the digests [N, 2] of
    their keys and the hashes of their bands [B, N]."""

    good_L: NDArray[np.bool_]
    digests_N2: Words
    bands_BN: Words


def _sketched(lines: list[bytes], threshold: float) -> _Batch:
    found = [_id_and_text(line) for line in lines]
    keys = [comparison_key(row[1]) for row in found if row is not None]
    digests = b"".join(
        blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest() for key in keys
    )
    return _Batch(
        good_L=np.array([row is not None for row in found], dtype=bool),
        digests_N2=np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2),
        bands_BN=band_hashes(keys, threshold),
    )


def _id_and_text(line: bytes) -> tuple[str, str] | None:
    """The id and the text of a row, or None where the line is none."""
    try:
        row = json.loads(line)
        texts = [row[name] for name in TEXT_FIELDS if row.get(name)]
        return (str(row["id"]), "\n".join(texts)) if texts else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
