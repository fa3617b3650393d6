"""The values that pass between stages: frozen, typed, the same in memory, in JSON Lines and in
Parquet.

A field that a file may leave out has a default here; a field that it must not know (an unknown key)
is an error that `read_rows` in `corpus.intake` turns into `file:line: field: what is wrong`.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from drenpa.core.knowledge import Dimension, Kind, Stability

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
LONGEST_ID = 200  # characters
Identifier = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_ID)
]
Split = Literal["train", "held_out", "test"]


def identifier(name: str) -> Identifier:
    """Return a name as an identifier: one that is too long ends in a hash of all of it.

    >>> identifier("page-1"), len(identifier("a" * 1000))
    ('page-1', 193)
    """
    if len(name) <= LONGEST_ID:
        return name
    return f"{name[:160]}…{hashlib.sha256(name.encode()).hexdigest()[:32]}"


class Row(BaseModel):
    """The parent of every value that is a row of an artefact."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        str_min_length=0,  # any bound makes pydantic refuse lone surrogates, which no file can hold
    )


class Page(Row):
    """A page as it came in, before cleaning."""

    id: Identifier
    text: str
    url: str = ""
    fetched: str = ""
    source: str = ""
    tags: tuple[str, ...] = ()


class Record(Row):
    """One piece of knowledge: a question and its answer, of one kind.

    source:    where it comes from; items of one source are never split between train and test by
               chance, and the benchmark's intervals treat them as one cluster.
    stability: how fast it goes out of date; volatile and personal knowledge belongs in external
               memory [P13].
    demand:    how often it is asked, as any non-negative number on one scale throughout the corpus
               [P13].
    answer:    None only where it is withheld, as in a released test split.
    """

    id: Identifier
    kind: Kind
    question: Text
    answer: Text | None = None
    language: str = "en"
    source: str = ""
    stability: Stability = "timeless"
    demand: float = Field(default=1.0, ge=0)
    tags: tuple[str, ...] = ()
    split: Split = "train"


class Candidate(Row):
    """One of several answers to a question, with its rank (1 is best), a person's note and the note
    made full.

    critique: what the critic learns to write; where it is empty, `critic.expand` makes it from the
              note.
    """

    id: Identifier
    answer: Text
    rank: int = Field(ge=1)
    note: str = ""
    critique: str = ""


class Ranking(Row):
    """One person's order of the candidate answers to one record's question."""

    id: Identifier
    record: Identifier
    annotator: str = ""
    candidates: tuple[Candidate, ...] = Field(min_length=2)
    split: Split = "train"

    @model_validator(mode="after")
    def _candidates_are_distinct(self) -> Ranking:
        ids = [candidate.id for candidate in self.candidates]
        if len(set(ids)) < len(ids):
            raise ValueError(f"candidate ids repeat: {', '.join(sorted(ids))}; give each its own")
        return self


class Verdict(Row):
    """What one judge said of one answer of one strategy's model.

    scores:   each dimension from 0 to 2; a dimension the judge could not score is absent, never 0.
    unscored: why dimensions are absent; empty when all five are there.
    model_answer, sample: the answer judged, and which of several sampled answers to the question it
                          is.
    cluster:  the source that the item shares with others, for clustered intervals.
    """

    item: Identifier
    kind: Kind
    language: str = "en"
    cluster: str
    strategy: str
    model: str
    seed: int
    sample: int = Field(ge=0)
    question: Text
    reference: str = ""
    model_answer: str
    finish: Literal["stop", "length"] = "stop"
    judge: Identifier
    scores: dict[Dimension, Annotated[float, Field(ge=0, le=2)]]
    thoughts: str = ""
    unscored: str = ""

    @model_validator(mode="after")
    def _a_missing_score_has_a_reason(self) -> Verdict:
        if len(self.scores) < 5 and not self.unscored:
            raise ValueError("scores lack a dimension and `unscored` gives no reason")
        return self


class Vote(Verdict):
    """One judge's one opinion of one answer; a verdict is the mean of its votes.

    repeat: which of several opinions of the same judge it is.
    read:   how a judge's reply was read: "as asked", "mended", or "asked again"; "" where there
            was no reply to read.
    """

    repeat: int = Field(default=0, ge=0)
    read: Literal["", "as asked", "mended", "asked again"] = ""
