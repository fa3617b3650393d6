"""The store: what has been replied, answered and judged, under a digest of all that it rests on.

A run that goes on after a kill, a second run, another strategy that gives the same answer: each
asks here first, so nothing is computed or paid for twice. Nothing can be misaligned either, since
no place in a list leads to a value, only the whole content that the value follows from.

One SQLite file in WAL mode: an entry is there as soon as `put` returns, whatever then happens to
the process; a power cut may cost the last entries, never the file.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, Self

from drenpa.core.errors import ArtefactError

BUSY_S = 60.0  # to wait for another process that writes


def content_key(kind: str, content: Any) -> str:
    """Return the digest of plain JSON values, apart for each kind of entry."""
    described = json.dumps([kind, content], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(described.encode(errors="surrogatepass")).hexdigest()


class Closing:
    """What is closed at the end of its `with` block."""

    def close(self) -> None:
        """Let go of what is held."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Store(Closing):
    """Plain JSON values by key, shared by threads and processes."""

    def __init__(self, path: Path) -> None:
        """raises: ArtefactError when the file cannot be opened as a store."""
        self._path = path
        self._lock = Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL) "
                "WITHOUT ROWID"
            )
        except (sqlite3.Error, OSError) as error:
            raise ArtefactError(
                f"{path}: cannot be opened as a store of what was answered ({error}); name another "
                "file, or move this one away"
            ) from error

    def get(self, key: str) -> Any:
        """Return the value under a key, or None."""
        with self._lock:
            row = self._run("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, value: Any) -> None:
        """Keep a value, in place of an older one."""
        with self._lock:
            self._run(
                "INSERT OR REPLACE INTO entries VALUES (?, ?)",
                (key, json.dumps(value)),
            )

    def values(self) -> Iterator[Any]:
        """Yield every value, in no order that means anything."""
        with self._lock:
            rows = self._run("SELECT value FROM entries", ()).fetchall()
        return (json.loads(value) for (value,) in rows)

    def __len__(self) -> int:
        with self._lock:
            return int(self._run("SELECT count(*) FROM entries", ()).fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def _run(self, statement: str, values: tuple[str, ...]) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as error:
            raise ArtefactError(
                f"{self._path}: the store of what was answered failed ({error}); what is in it is "
                "kept: mend the place, or name another file"
            ) from error
