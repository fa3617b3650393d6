"""Verdicts that were given before, by people or by a judge whose run is replayed.

A recording is JSON Lines: `question`, `answer`, `scores`, and optionally `judge` and `thoughts`.
A verdict is found by the texts themselves, so a recording fits any run that gives the same answers
and can be attached to no other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DataError
from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.records import Row, Verdict
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.panel import combine

PEOPLE = "human"
"""How the name of a judge begins that is a person; reports and cards look for it."""


class Recorded(Row):
    """One verdict on one answer to one question."""

    question: str
    answer: str
    scores: dict[Dimension, Annotated[float, Field(ge=0, le=2)]]
    judge: str = ""
    thoughts: str = ""


class RecordedJudge:
    """Gives the verdicts of a file; of several on one answer, their mean."""

    def __init__(self, file: Path) -> None:
        """raises: DataError when the file is no recording."""
        self._file = file
        self._digest = ""
        self._opinions: dict[tuple[str, str], list[Opinion]] = {}
        judges: dict[str, None] = {}
        for row in read_recording(file):
            self._opinions.setdefault((row.question, row.answer), []).append(_opinion(row))
            judges[row.judge or file.name] = None
        self._judges = tuple(judges)
        scored = {d for group in self._opinions.values() for one in group for d in one.scores}
        self._sees = tuple(d for d in DIMENSIONS if d in scored)
        self._digest = hashlib.sha256(file.read_bytes()).hexdigest()

    @property
    def name(self) -> str:
        """Who gave the verdicts; people are called so first, and so is the critic that judges its
        own pupil: by its name the report tells a circle."""
        people = [name for name in self._judges if name.startswith(PEOPLE)]
        if people and len(people) == len(self._judges):
            return "; ".join(people)
        told = "; ".join(sorted(self._judges, key=lambda name: not name.startswith("critic")))
        return f"{told} (recorded)" if told.startswith("critic") else f"recorded: {told}"

    @property
    def card(self) -> str:
        """That nothing is judged anew."""
        return (
            f"{self.name}. The verdicts were read from a recording and belong to exactly the "
            "answers that were judged then; any other answer is unscored."
        )

    @property
    def sees(self) -> tuple[Dimension, ...]:
        """Whatever the recording scores at all."""
        return self._sees

    @property
    def identity(self) -> Mapping[str, Any]:
        """The file's bytes."""
        return {"judge": "recorded", "file": self._digest}

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        """Yield the recorded opinion on each case."""
        for place, case in enumerate(cases):
            found = self._opinions.get((case.question, case.answer))
            if found is None:
                yield place, Opinion(unscored=f"this answer does not stand in {self._file.name}")
            else:
                yield place, combine(found)


def read_recording(file: Path) -> list[Recorded]:
    """Read a recording.

    raises: DataError that names each line that is none.
    """
    rows, faults = [], []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as a recording ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(Recorded.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(key) for key in first["loc"]) or "line"
            faults.append(f"{file}:{number}: {place}: {first['msg']}")
    if not rows and not faults:
        faults.append(f"{file}: holds no verdict")
    if faults:
        raise DataError(faults)
    return rows


def write_recording(file: Path, rows: Iterable[Recorded]) -> int:
    """Write a recording and return how many verdicts it holds."""
    lines = [json.dumps(row.model_dump(exclude_defaults=True), ensure_ascii=False) for row in rows]
    write_text(file, "".join(line + "\n" for line in lines))
    return len(lines)


def recording_of(verdicts: Iterable[Verdict]) -> list[Recorded]:
    """Return verdicts as a recording, equal answers to one question once for each judge."""
    found = {
        (row.judge, row.question, row.model_answer): Recorded(
            question=row.question,
            answer=row.model_answer,
            scores=row.scores,
            judge=row.judge,
            thoughts=row.thoughts,
        )
        for row in verdicts
    }
    return list(found.values())


def _opinion(row: Recorded) -> Opinion:
    missing = [dimension for dimension in DIMENSIONS if dimension not in row.scores]
    told = f"the recording leaves out {', '.join(missing)}" if missing else ""
    return Opinion(row.scores, row.thoughts, told)
