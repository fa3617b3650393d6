"""`drenpa run` of a recipe with a memory, on a tiny random model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny_run import ROUND, tiny_rows, write_tiny_run

from drenpa.core.artefacts import MANIFEST, Artefact, finished, open_artefact
from drenpa.core.records import Ranking, Record, Verdict
from drenpa.memory.cycle import LEDGER, open_store
from drenpa.memory.lookup import Routed
from drenpa.memory.select import Decision

OUTSIDE = {"foundation-verbs": "volatile", "connection-roots": "personal"}
BUDGET = {"select": {"bits_per_parameter": 2}}  # room for all of the rest in 4,000 weights or so
STRATEGY = {"name": "final", "stages": [{**ROUND, "name": "main", "steps": 1}]}


def rows_with_a_share_outside() -> dict[str, list[dict]]:
    rows = tiny_rows()
    for record in rows["records"]:
        record["stability"] = OUTSIDE.get(record["id"], "timeless")
    return rows


def only(run: Path, stem: str) -> Artefact:
    (folder,) = [path.parent for path in run.glob(f"{stem}-??????????/{MANIFEST}")]
    return open_artefact(folder)


def steps_told(said: str) -> list[str]:
    lines = [line for line in said.splitlines() if line.startswith(("running", "done already"))]
    return [Path(line.split()[-1]).name.rpartition("-")[0] for line in lines]


def test_a_memory_decides_what_is_trained_and_answers_beside_the_weights(
    drenpa, tiny_chat, tmp_path
):
    rows = rows_with_a_share_outside()
    # Asked in the benchmark in other words; the store holds the answer under the record's.
    rows["benchmark"][0] = {
        **rows["benchmark"][0],
        "question": "Then why do verbs matter?",
    }
    recipe = write_tiny_run(
        tmp_path,
        tiny_chat("llama"),
        rows=rows,
        strategies=[STRATEGY],
        memory=BUDGET,
        benchmark={
            "strategies": ["base+recall", "final", "final+recall"],
            "items_per_kind": 0,
            "max_new_tokens": 24,
        },
    )
    run = tmp_path / "run"

    planned = drenpa.run("memory", recipe, "--dry-run")
    assert planned.status == 0, planned.said
    assert "waits     memory-update-final" in planned.said
    assert not run.exists()

    first = drenpa.run("run", recipe)

    assert first.status == 0, first.said
    assert steps_told(first.said) == [
        *("corpus", "memory-select", "internalised", "finetune", "critic"),
        *("reinforce-final-main", "memory-update-final", "benchmark-base+recall"),
        *("benchmark-final", "benchmark-final+recall", "report"),
    ]

    # What stays outside is in no corpus that is trained, and in the store.
    select = only(run, "memory-select")
    places = {row.record: row.place for row in select.rows("decisions", Decision)}
    assert {name for name, place in places.items() if place == "external"} == set(OUTSIDE)
    taught = only(run, "internalised")
    assert {row.id for row in taught.rows("records", Record)} == set(places) - set(OUTSIDE)
    assert not {row.record for row in taught.rows("rankings", Ranking)} & set(OUTSIDE)
    for stage in ("finetune", "reinforce-final-main"):
        assert only(run, stage).inputs["corpus"]["digest"] == taught.digest
    corpus = only(run, "corpus")
    assert only(run, "critic").inputs["corpus"]["digest"] == corpus.digest
    assert len(taught.rows("benchmark", Record)) == len(corpus.rows("benchmark", Record))

    # The memory is the trained policy's own, and the column that recalls was asked with it.
    update = only(run, "memory-update-final")
    policy = only(run, "reinforce-final-main")
    assert update.inputs["policy"]["digest"] == policy.digest
    recalled = only(run, "benchmark-final+recall")
    assert recalled.inputs["memory"]["digest"] == update.digest
    assert only(run, "benchmark-base+recall").inputs["memory"]["digest"] == select.digest
    routes = {row.item: row for row in recalled.rows("routes", Routed)}
    asked = rows["benchmark"][0]["id"]
    assert routes[asked].source == "store"
    assert routes[asked].passages[0] == "foundation-verbs"
    assert sum(recalled.summary["routes"].values()) == len(rows["benchmark"])
    said = {
        name: {row.item: row.model_answer for row in only(run, name).rows("verdicts", Verdict)}
        for name in ("benchmark-final", "benchmark-final+recall")
    }
    assert said["benchmark-final"][asked] != said["benchmark-final+recall"][asked]
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "final+recall" in page

    # Nothing is done twice, and another way to ask costs no probe and no training.
    asked_otherwise = drenpa.run("benchmark", recipe, "--set", "memory.recall.passages=1")
    assert asked_otherwise.status == 0, asked_otherwise.said
    anew = [line for line in asked_otherwise.said.splitlines() if line.startswith("running")]
    assert steps_told("\n".join(anew)) == ["benchmark-base+recall", "benchmark-final+recall"]

    # One talks to the policy with its memory, or without.
    question = "why do verbs matter?"
    with_memory = drenpa.run("chat", run, "-q", question)
    assert with_memory.status == 0, with_memory.said
    assert "from the store (foundation-verbs): foundation-verbs is volatile" in with_memory.said
    without = drenpa.run("chat", run, "-q", question, "--no-memory")
    assert without.status == 0, without.said
    assert "from the " not in without.said

    # A question whose passages leave no room is named, with what to lower.
    narrow = drenpa.run("benchmark", recipe, "--set", "benchmark.max_new_tokens=600")
    assert narrow.status == 1, narrow.said
    assert "question 'Below are notes" in narrow.said
    assert "lower memory.recall.passages or memory.recall.max_passage_units" in narrow.said


def test_without_a_memory_part_nothing_is_selected_and_the_command_says_what_to_write(
    drenpa, tiny_chat, tmp_path
):
    recipe = write_tiny_run(tmp_path, tiny_chat("llama"))

    outcome = drenpa.run("memory", recipe)

    assert outcome.status == 1
    assert "tiny: the recipe has no memory; give it the part `memory: {}`" in outcome.said
    assert not finished(tmp_path / "run")


@pytest.mark.parametrize(
    ("select", "fault"),
    [
        ({"weights": {"foundation": 1}}, "leaves no profession to train, but a stage's mix asks"),
        ({"bits_per_parameter": 1e-9}, "are more than the whole"),
    ],
)
def test_a_selection_that_leaves_a_kind_untrained_is_refused_before_anything_is_trained(
    drenpa, tiny_chat, tmp_path, select, fault
):
    recipe = write_tiny_run(
        tmp_path, tiny_chat("llama"), strategies=[STRATEGY], memory={"select": select}
    )

    outcome = drenpa.run("run", recipe)

    assert outcome.status == 1, outcome.said
    assert fault in outcome.said
    assert "change memory.select" in outcome.said
    assert {artefact.name for artefact in finished(tmp_path / "run")} == {"corpus", "memory-select"}


def test_a_second_round_carries_the_memory_on_and_notes_what_changed_in_the_world(
    drenpa, tiny_chat, tmp_path
):
    rows = {role: lines for role, lines in tiny_rows().items() if role != "rankings"}
    unranked = {"rankings": []}
    first = write_tiny_run(
        tmp_path / "first", tiny_chat("llama"), rows=rows, memory=BUDGET, corpus=unranked
    )
    assert drenpa.run("memory", first).status == 0
    former = only(tmp_path / "first" / "run", "memory-update-sft")
    trained = only(tmp_path / "first" / "run", "finetune")
    assert drenpa.run("export", trained.path, tmp_path / "model").status == 0

    changed, gone = "foundation-rivers", "profession-burns"
    later = [row for row in rows["records"] if row["id"] != gone]
    later = [
        {**row, "answer": "Because rivers carry."} if row["id"] == changed else row for row in later
    ]
    second = write_tiny_run(
        tmp_path / "second",
        tmp_path / "model",
        rows={**rows, "records": later},
        memory={**BUDGET, "past": str(tmp_path / "first" / "run")},
        corpus=unranked,
    )

    outcome = drenpa.run("memory", second, "--strategy", "base")

    assert outcome.status == 0, outcome.said
    assert steps_told(outcome.said) == ["corpus", "memory-select"]  # the store, and no training
    memory = only(tmp_path / "second" / "run", "memory-select")
    assert memory.inputs["memory"]["digest"] == former.digest
    past = (former.path / LEDGER).read_bytes()
    assert (memory.path / LEDGER).read_bytes().startswith(past)
    with open_store(memory) as store:
        assert [one.passage.text for one in store.history(changed)] == [
            *("Because rivers hold.", "Because rivers carry.")
        ]
        assert gone not in store
    decisions = {row.record: row for row in memory.rows("decisions", Decision)}
    assert decisions[changed].place == "external"
    assert decisions[changed].reason.startswith("its answer changed; 0 of 2 probes")
    assert memory.summary["removed"] == [gone]
