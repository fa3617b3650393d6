"""The ledger: what was found out about each record, when, about which model; only ever added to.

Each line is one observation of one record and the state it leaves the record in. The present is
never stored: it is the past played again (`replay`), so any earlier moment can be had as well, and
a state without the observation behind it cannot arise.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError

from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Identifier, Record, Row

State = Literal["known", "learned", "external", "forgotten", "contradicted", "demoted"]
STATES: tuple[State, ...] = get_args(State)
IN_WEIGHTS: frozenset[State] = frozenset({"known", "learned"})
"""The states in which the model may answer without the store."""

Share = Annotated[float, Field(ge=0, le=1)]


class Entry(Row):
    """One observation of one record.

    at:     when, ISO 8601 in UTC.
    model:  the digest of the model it was observed of.
    wording: `fingerprint` of the record as it then was; it tells whether the record has changed.
    answer: `answer_fingerprint` of the same: whether its answer has; empty in ledgers begun before
            answers were told apart.
    known:  what the probe said, from 0 to 1.
    state:  `known` before any training of ours; `learned` through it; `external`: not in the
            weights; `forgotten`: was in them and is no longer; `contradicted`: the weights say
            something else; `demoted`: was in them, and they may no longer be asked.
    reason: why this state, in words.
    """

    at: str
    model: Identifier
    record: Identifier
    wording: Identifier
    answer: str = ""
    known: Share
    state: State
    reason: str


class Standing(Row):
    """Where a record stands after all that the ledger holds of it.

    since:   when it came into its state.
    last:    when it was last observed.
    probes:  how often it was observed.
    changes: how often its answer was found to be another one than before.
    steady:  how often it was found unchanged since the last such change.
    """

    record: Identifier
    wording: Identifier
    answer: str
    state: State
    known: Share
    model: Identifier
    since: str
    last: str
    probes: int
    changes: int
    steady: int

    def has_answer(self, wording: str, answer: str) -> bool:
        """Whether a record with these fingerprints has the answer that was observed last; where
        the ledger does not say, the whole wording must be the same."""
        return answer == self.answer if answer and self.answer else wording == self.wording


def fingerprint(record: Record) -> str:
    """Tell one wording of a record from another: a hash of its question and answer."""
    return _hashed(record.question, record.answer)


def answer_fingerprint(record: Record) -> str:
    """Tell one answer of a record from another: a hash of it."""
    return _hashed(record.answer)


def _hashed(*texts: str | None) -> str:
    told = json.dumps(texts, ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def replay(entries: Iterable[Entry]) -> dict[str, Standing]:
    """Play the observations in order; return each record's standing, by its id."""
    standings: dict[str, Standing] = {}
    for entry in entries:
        before = standings.get(entry.record)
        standings[entry.record] = _first(entry) if before is None else _next(before, entry)
    return standings


def _first(entry: Entry) -> Standing:
    observed = entry.model_dump(exclude={"at", "reason"})
    return Standing(**observed, since=entry.at, last=entry.at, probes=1, changes=0, steady=0)


def _next(before: Standing, entry: Entry) -> Standing:
    same_state = before.state == entry.state
    same_answer = before.has_answer(entry.wording, entry.answer)
    return Standing(
        **entry.model_dump(exclude={"at", "reason"}),
        since=before.since if same_state else entry.at,
        last=entry.at,
        probes=before.probes + 1,
        changes=before.changes + (not same_answer),
        steady=before.steady + 1 if same_answer else 0,
    )


def read_ledger(path: Path) -> list[Entry]:
    """Read a ledger; a last line that a kill cut short does not count, an empty file is a ledger.

    raises: ArtefactError when there is no such file; DataError when a whole line is not an entry.
    """
    if not path.is_file():
        raise ArtefactError(f"{path}: no such ledger; run the memory stage that makes it")
    lines = path.read_bytes().split(b"\n")[:-1]
    entries: list[Entry] = []
    faults: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(Entry.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "line"
            faults.append(
                f"{path}:{number}: {field}: {first['msg']}; "
                "a ledger is never edited: put the file back as it was"
            )
    if faults:
        raise DataError(faults)
    return entries


def append_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Add observations at the end of a ledger, all in one write, and force them to disk.

    What a kill left of a last line is cut off first, so that nothing is glued to it.

    raises: DataError when time runs backwards: an entry is older than the one before it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    before = path.read_bytes()
    whole = before.rfind(b"\n") + 1
    latest = Entry.model_validate_json(before[:whole].splitlines()[-1]).at if whole else ""
    for entry in entries:
        if entry.at < latest:
            raise DataError(
                f"{path}: an entry of {entry.at} cannot follow one of {latest}; "
                "set the clock right or give the time of the probe"
            )
        latest = entry.at
    text = "".join(entry.model_dump_json() + "\n" for entry in entries)
    with path.open("r+b") as file:
        file.truncate(whole)
        file.seek(whole)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
