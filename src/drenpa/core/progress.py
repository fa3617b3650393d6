"""Progress that a person can watch: a bar with the time left on a terminal, a line now and then
elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LINE_EVERY_S = 15.0


@dataclass
class Track:
    """One piece of work of known length; `advance` tells that some of it is done."""

    label: str
    total: int
    done: int = 0
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    _begun_at: int = 0
    _printed: float = 0.0

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count more work as done; `note` is shown beside it."""
        self.done += count
        self.note = note or self.note

    def resume_at(self, done: int) -> None:
        """Start from work done before, which says nothing about speed."""
        self.done = self._begun_at = done

    def line(self) -> str:
        """One line: how far, how long, how long still."""
        spent = time.monotonic() - self.started
        fresh = self.done - self._begun_at
        left = f", {_clock(spent / fresh * (self.total - self.done))} left" if fresh else ""
        return f"{self.label} {self.done}/{self.total} {_clock(spent)}{left}  {self.note}".rstrip()


@contextmanager
def track(label: str, total: int, *, within: bool = False) -> Iterator[Track]:
    """Show progress on standard error while the block runs.

    within: other work is shown around it. A terminal has room for one bar, so this one gets lines.
    """
    work = Track(label, total)
    if sys.stderr.isatty() and not within:
        with _bar(work):
            yield work
    else:
        with _lines(work):
            yield work


@contextmanager
def _bar(work: Track) -> Iterator[None]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(work.label, total=work.total, note="")
        advance = work.advance

        def shown(count: int = 1, note: str = "") -> None:
            advance(count, note)
            progress.update(task, completed=work.done, note=work.note)

        work.advance = shown  # type: ignore[method-assign]
        yield


@contextmanager
def _lines(work: Track) -> Iterator[None]:
    advance = work.advance

    def shown(count: int = 1, note: str = "") -> None:
        advance(count, note)
        now = time.monotonic()
        if now - work._printed >= LINE_EVERY_S or work.done >= work.total:
            work._printed = now
            print(work.line(), file=sys.stderr, flush=True)

    work.advance = shown  # type: ignore[method-assign]
    yield


def tell(what: str) -> None:
    """Say on standard error what has begun that nobody can say the length of.

    A person who waits half a minute for the first line should know what for.
    """
    print(what, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """Write seconds as m:ss or h:mm:ss.

    >>> _clock(75), _clock(3675)
    ('1:15', '1:01:15')
    """
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
