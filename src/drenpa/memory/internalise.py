"""What is trained: the part of a corpus that a selection gives to the weights.  [P13]

It is a corpus like any other, so the training stages need not know that there was a selection.
Records that stay outside are left out with the rankings of their answers: what belongs to one
person or changes every day does not reach the weights through a critique either. The benchmark
stays whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from drenpa.core.artefacts import Artefact, Plan, as_input, counted, write_rows
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.knowledge import Kind
from drenpa.core.records import Ranking, Record
from drenpa.memory.select import Decision, internalised


def plan_internalise(
    memory: Artefact,
    corpus: Artefact,
    *,
    root: Path,
    asked: Sequence[Kind] = (),
    name: str = "internalised",
) -> Plan:
    """Plan the corpus that is trained, from the decisions of a memory.

    memory: what a select or update of this very corpus left.
    asked:  the kinds that the training stages will ask for.
    raises: ArtefactError when `memory` is of another kind; its work raises DataError when a kind
            that is asked for has no record left, before anything is trained for nothing.
    """
    if memory.kind != "memory":
        raise ArtefactError(f"{memory.path}: is a {memory.kind}, but a memory is needed here")

    def work(folder: Path) -> Mapping[str, Any]:
        decisions = memory.rows("decisions", Decision)
        chosen = set(internalised(decisions))
        records = [row for row in corpus.rows("records", Record) if row.id in chosen]
        rankings = [row for row in corpus.rows("rankings", Ranking) if row.record in chosen]
        _check_kinds(asked, records, decisions, memory)
        write_rows(folder / "records.parquet", records)
        write_rows(folder / "rankings.parquet", rankings)
        write_rows(folder / "benchmark.parquet", corpus.rows("benchmark", Record))
        return {
            "records": {
                "total": len(records),
                "kind": counted(row.kind for row in records),
                "language": counted(row.language for row in records),
                "stability": counted(row.stability for row in records),
            },
            "benchmark": corpus.summary.get("benchmark", {}),
            "rankings": {
                split: _ranked([row for row in rankings if row.split == split])
                for split in ("train", "held_out")
            },
            "places": counted(decision.place for decision in decisions),
        }

    return Plan(
        kind="corpus",
        name=name,
        root=root,
        config={},
        inputs={"memory": as_input(memory), "corpus": as_input(corpus)},
        rooms=("memory",),
        work=work,
    )


def _ranked(rankings: Sequence[Ranking]) -> dict[str, int]:
    return {
        "total": len(rankings),
        "questions": len({row.record for row in rankings}),
        "pairs": sum(
            one.rank != two.rank for row in rankings for one, two in combinations(row.candidates, 2)
        ),
    }


def _check_kinds(
    asked: Sequence[Kind],
    records: Sequence[Record],
    decisions: Sequence[Decision],
    memory: Artefact,
) -> None:
    left = {record.kind for record in records}
    faults = [
        f"memory.select leaves no {kind} to train, but a stage's mix asks for it; of its "
        f"{sum(one.kind == kind for one in decisions)} records most are outside because: "
        f"{_most_told(kind, decisions)}. Take the kind out of the mix, or see {memory.path} and "
        "change memory.select"
        for kind in asked
        if kind not in left
    ]
    if not records and not faults:
        raise DataError(
            f"memory.select leaves nothing to train: of {len(decisions)} records "
            f"{counted(one.place for one in decisions)}; see {memory.path} and change memory.select"
        )
    if faults:
        raise DataError(faults)


def _most_told(kind: Kind, decisions: Sequence[Decision]) -> str:
    reasons = counted(one.reason for one in decisions if one.kind == kind)
    return next(iter(reasons), "there are none in the corpus")
