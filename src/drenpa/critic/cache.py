"""Replies that were paid for, kept under the whole request: what was asked once is not asked
again."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drenpa.core.endpoint import Reply, keep_cost
from drenpa.core.store import Closing, Store, content_key

Request = Mapping[str, Any]
"""Everything that decides a reply: where it is asked, the model, the messages, the settings."""


class ReplyCache(Closing):
    """Replies with their requests in a store of their own, so that what they cost can be summed.

    The keys in use are told by `key_of`. No key to a service is ever part of a request.
    """

    def __init__(self, path: Path) -> None:
        """raises: ArtefactError when the file is there and is no such cache."""
        self._store = Store(path)
        _take_over(path, self._store)

    def close(self) -> None:  # noqa: D102
        self._store.close()

    def get(self, request: Request) -> Reply | None:
        """Return the reply to exactly this request, if there was one."""
        kept = self._store.get(key_of(request))
        return None if kept is None else Reply(**kept["reply"])

    def put(self, request: Request, reply: Reply) -> None:
        """Keep a reply; it is on disk when this returns."""
        created = datetime.now(UTC).isoformat(timespec="seconds")
        _keep(self._store, request, reply, created)

    def lose(self, cost: float) -> None:
        """Keep what a try may have cost that brought no reply."""
        keep_cost(self._store, cost)

    def spent(self) -> float:
        """Return what all the replies in the file cost, and what brought none."""
        return math.fsum(kept.get("reply", kept)["cost"] for kept in self._store.values())


def key_of(request: Request) -> str:
    """Return the digest of the whole request, whatever the order of its parts.

    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    True
    """
    return content_key("reply with its request", request)


def _keep(store: Store, request: Request, reply: Reply, created: str) -> None:
    kept = {"request": request, "reply": asdict(reply), "created": created}
    store.put(key_of(request), kept)


def _take_over(path: Path, store: Store) -> None:
    """Bring what an older file has in a table of its own into the store."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'replies'").fetchone():
            return
        rows = database.execute(
            "SELECT request, created, reply, finish, input_tokens, output_tokens, cost FROM replies"
        ).fetchall()
        for request, created, *reply in rows:
            _keep(store, json.loads(request), Reply(*reply), created)
        database.execute("DROP TABLE replies")
        database.commit()
