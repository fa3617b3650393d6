"""Replies that were paid for, kept under the whole request: what was asked once is not asked
again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from drenpa.core.errors import ArtefactError

Request = Mapping[str, Any]
"""Everything that decides a reply: where it is asked, the model, the messages, the settings."""


@dataclass(frozen=True)
class Reply:
    """What came back.

    text:          trimmed; empty when the service said nothing.
    input_tokens, output_tokens: as the service counted them; 0 where it does not say.
    cost:          in the currency of the prices; 0 without prices.
    """

    text: str
    finish: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class ReplyCache:
    """Replies in one SQLite file; each is on disk before the next is waited for.

    The keys in use are told by `key_of`. No key to a service is ever part of a request.
    """

    def __init__(self, path: Path) -> None:
        """raises: ArtefactError when the file is there and is no such cache."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._rows = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
        try:
            self._rows.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, request TEXT NOT NULL, "
                "reply TEXT NOT NULL, finish TEXT NOT NULL, input_tokens INTEGER NOT NULL, "
                "output_tokens INTEGER NOT NULL, cost REAL NOT NULL, created TEXT NOT NULL)"
            )
            self._rows.commit()
        except sqlite3.DatabaseError as error:
            self._rows.close()
            raise ArtefactError(
                f"{path}: is no cache of replies ({error}); move it away and run again"
            ) from None

    def __enter__(self) -> ReplyCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows.close()

    def get(self, request: Request) -> Reply | None:
        """Return the reply to exactly this request, if there was one."""
        row = self._rows.execute(
            "SELECT reply, finish, input_tokens, output_tokens, cost FROM replies WHERE key = ?",
            (key_of(request),),
        ).fetchone()
        return None if row is None else Reply(*row)

    def put(self, request: Request, reply: Reply) -> None:
        """Keep a reply; it is on disk when this returns."""
        with contextlib.closing(self._rows.cursor()) as cursor:
            cursor.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    key_of(request),
                    _canonical(request),
                    reply.text,
                    reply.finish,
                    reply.input_tokens,
                    reply.output_tokens,
                    reply.cost,
                    datetime.now(UTC).isoformat(timespec="seconds"),
                ),
            )
        self._rows.commit()

    def spent(self) -> float:
        """Return what all the replies in the file cost."""
        return float(self._rows.execute("SELECT TOTAL(cost) FROM replies").fetchone()[0])


def key_of(request: Request) -> str:
    """Return the sha256 of the whole request, whatever the order of its parts.

    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(_canonical(request).encode()).hexdigest()


def _canonical(request: Request) -> str:
    return json.dumps(request, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
