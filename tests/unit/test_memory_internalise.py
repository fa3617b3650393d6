"""The part of a corpus that is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from drenpa.core.artefacts import Artefact, Plan, run_plan, write_rows
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Candidate, Ranking, Record
from drenpa.memory.internalise import plan_internalise
from drenpa.memory.select import Decision

PLACES = {"a": "internalise", "b": "external", "c": "watch", "d": "internalise"}
KINDS = {"a": "foundation", "b": "profession", "c": "connection", "d": "foundation"}


def record(name: str) -> Record:
    return Record(id=name, kind=KINDS[name], question=f"what is {name}", answer=f"{name} it is")


def ranking(name: str) -> Ranking:
    candidates = tuple(Candidate(id=f"c{n}", answer=f"answer {n}", rank=n) for n in (1, 2))
    return Ranking(id=f"rank-{name}", record=name, candidates=candidates, split="held_out")


def decision(name: str) -> Decision:
    return Decision(
        record=name,
        kind=KINDS[name],
        place=PLACES[name],
        known=0.5,
        cost=1,
        value=1,
        order=1,
        reason=f"because of {name}",
    )


def artefact(root: Path, kind: str, **tables) -> Artefact:
    def work(folder: Path):
        for name, rows in tables.items():
            write_rows(folder / f"{name}.parquet", rows)
        return {}

    return run_plan(Plan(kind, kind, root, {}, {}, (), work))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Artefact, Artefact]:
    """A memory and the corpus it decides about."""
    memory = artefact(tmp_path, "memory", decisions=[decision(name) for name in PLACES])
    corpus = artefact(
        tmp_path,
        "corpus",
        records=[record(name) for name in PLACES],
        rankings=[ranking("a"), ranking("b"), ranking("c")],
        benchmark=[record("b")],
    )
    return memory, corpus


def test_only_what_is_internalised_is_trained_and_the_benchmark_stays_whole(made, tmp_path):
    taught = run_plan(plan_internalise(*made, root=tmp_path, asked=["foundation"]))

    assert taught.kind == "corpus"
    assert [row.id for row in taught.rows("records", Record)] == ["a", "d"]
    assert taught.rows("rankings", Ranking) == [ranking("a")]
    assert [row.id for row in taught.rows("benchmark", Record)] == ["b"]
    assert taught.summary["places"] == {"internalise": 2, "external": 1, "watch": 1}
    assert taught.summary["records"]["total"] == 2
    assert taught.summary["records"]["kind"] == {"foundation": 2}
    assert taught.summary["rankings"] == {
        "train": {"total": 0, "questions": 0, "pairs": 0},
        "held_out": {"total": 1, "questions": 1, "pairs": 1},
    }


def test_a_kind_that_a_stage_asks_for_and_that_has_nothing_left_is_told_with_the_reason(
    made, tmp_path
):
    plan = plan_internalise(*made, root=tmp_path, asked=["foundation", "profession"])

    with pytest.raises(DataError, match="leaves no profession to train") as raised:
        run_plan(plan)

    assert "of its 1 records most are outside because: because of b" in str(raised.value)
    assert len(raised.value.faults) == 1


def test_a_kind_that_the_corpus_has_not_is_told_as_such(made, tmp_path):
    with pytest.raises(DataError, match="there are none in the corpus"):
        run_plan(plan_internalise(*made, root=tmp_path, asked=["metacognition"]))


def test_a_selection_that_leaves_nothing_is_refused(made, tmp_path):
    memory = artefact(tmp_path / "none", "memory", decisions=[decision("b"), decision("c")])

    with pytest.raises(DataError, match="leaves nothing to train: of 2 records"):
        run_plan(plan_internalise(memory, made[1], root=tmp_path))


def test_decisions_are_asked_of_a_memory_alone(made, tmp_path):
    with pytest.raises(ArtefactError, match="is a corpus, but a memory is needed"):
        plan_internalise(made[1], made[1], root=tmp_path)
