"""The two stages, from artefact to artefact, with a fake model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.memory_fakes import FakeKnowingModel

from drenpa.config import MemoryConfig
from drenpa.core.artefacts import Artefact, Plan, check_files, run_plan, write_rows
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Record
from drenpa.memory.cycle import (
    LEDGER,
    open_store,
    plan_select,
    plan_update,
    select_memory,
    update_memory,
)
from drenpa.memory.ledger import read_ledger, replay
from drenpa.memory.probe import Probe
from drenpa.memory.select import Decision
from drenpa.memory.store import Passage
from drenpa.memory.update import Change

CONFIG = MemoryConfig()
NAMES = ("ka", "kha", "ga", "nga", "ca", "cha", "ja")


def record(name: str, **changes) -> Record:
    values = {
        "id": name,
        "kind": "foundation",
        "question": f"what is {name}",
        "answer": f"it goes by {name} alone",
    }
    return Record(**(values | changes))


RECORDS = [*(record(name) for name in NAMES), record("news", stability="volatile")]


def corpus(root: Path, records: list[Record]) -> Artefact:
    def work(folder: Path):
        write_rows(folder / "records.parquet", records)
        return {}

    told = [row.model_dump(mode="json") for row in records]
    return run_plan(Plan("corpus", "corpus", root, {"rows": told}, {}, (), work))


def by_heart(*records: Record) -> FakeKnowingModel:
    return FakeKnowingModel({row.question: row.answer or "" for row in records})


def clock(day: int):
    return lambda: f"2026-01-0{day}T00:00:00+00:00"


@pytest.fixture
def selected(tmp_path: Path) -> Artefact:
    model = by_heart(RECORDS[0])
    return select_memory(
        corpus(tmp_path, RECORDS),
        "base",
        CONFIG,
        root=tmp_path,
        load_model=lambda: model,
        clock=clock(1),
    )


def update(
    memory: Artefact, root: Path, records: list[Record], model, day: int, name="trained"
) -> Artefact:
    return update_memory(
        memory,
        corpus(root, records),
        name,
        CONFIG,
        root=root,
        load_model=lambda: model,
        clock=clock(day),
    )


def states(memory: Artefact) -> dict[str, str]:
    return {name: one.state for name, one in replay(read_ledger(memory.path / LEDGER)).items()}


def test_selection_leaves_decisions_probes_a_ledger_and_a_store(selected: Artefact):
    places = {row.record: row.place for row in selected.rows("decisions", Decision)}
    assert places == dict.fromkeys(NAMES, "internalise") | {"ka": "watch", "news": "external"}
    assert [row.record for row in selected.rows("probes", Probe)] == [row.id for row in RECORDS]
    assert states(selected) == dict.fromkeys([*NAMES, "news"], "external") | {"ka": "known"}
    with open_store(selected) as store:
        assert len(store) == len(RECORDS)
        assert store.search("what is nga")[0].passage.id == "nga"
        with pytest.raises(ArtefactError, match="readonly"):
            store.add([Passage(id="x", text="x")], at="2026")
    assert selected.summary["places"] == {"internalise": 6, "external": 1, "watch": 1}
    assert selected.summary["budget_bits"] == 100_000.0
    check_files(selected)


def test_records_that_the_model_cannot_read_are_all_named_before_any_is_probed(tmp_path: Path):
    # A row is a question and an answer: 3 + 5 words, and 5 more with an open book.
    long, longer = (record(name, answer="a " * size) for name, size in (("ka", 30), ("ga", 200)))
    rows = [long if row.id == "ka" else longer if row.id == "ga" else row for row in RECORDS]
    model = FakeKnowingModel(context=50)
    with pytest.raises(DataError) as told:
        select_memory(
            corpus(tmp_path, rows), "base", CONFIG, root=tmp_path, load_model=lambda: model
        )
    assert {fault.split(":")[0] for fault in told.value.faults} == {"record ka", "record ga"}
    assert "laid open before its question, and said after it: it takes 63 words" in str(told.value)
    assert model.calls == []


def test_no_two_blocks_sample_from_the_same_random_streams(tmp_path: Path):
    config = MemoryConfig.model_validate({"probe": {"block": 4, "samples": 2}})
    model = by_heart(RECORDS[0])

    select_memory(
        corpus(tmp_path, RECORDS), "base", config, root=tmp_path, load_model=lambda: model
    )

    assert model.keys == [(0,), (1,)]


def test_a_second_selection_is_skipped(selected: Artefact, tmp_path: Path):
    def load():
        raise AssertionError("the model was loaded again")

    again = select_memory(corpus(tmp_path, RECORDS), "base", CONFIG, root=tmp_path, load_model=load)
    assert again.path == selected.path


def test_after_training_each_record_is_learned_external_forgotten_or_demoted(
    selected: Artefact, tmp_path: Path
):
    # ka was known and is no longer; kha and ga were learned; nga has turned volatile meanwhile.
    now = [row if row.id != "nga" else record("nga", stability="volatile") for row in RECORDS]
    first = update(selected, tmp_path, now, by_heart(*RECORDS[1:4]), 2)
    assert states(first) == {
        "ka": "forgotten",
        "kha": "learned",
        "ga": "learned",
        "nga": "external",
        "ca": "external",
        "cha": "external",
        "ja": "external",
        "news": "external",
    }
    assert first.summary["replay"] == ["ka"]
    changes = {row.record: row for row in first.rows("changes", Change)}
    assert (changes["ka"].before, changes["ka"].action) == ("known", "replay")
    places = {row.record: row.place for row in first.rows("decisions", Decision)}
    assert (places["ka"], places["kha"], places["nga"]) == ("internalise", "watch", "external")
    later = [row if row.id != "ga" else record("ga", stability="personal") for row in now]
    second = update(first, tmp_path, later, by_heart(*RECORDS[:4]), 3, "trained again")
    assert states(second)["ga"] == "demoted"
    assert states(second)["ka"] == "learned"
    assert second.summary["replay"] == []


def test_what_changed_in_the_world_is_in_the_store_at_once_and_comes_back_later(
    selected: Artefact, tmp_path: Path
):
    old = by_heart(*RECORDS[:3])
    learned = update(selected, tmp_path, RECORDS, old, 2)
    fresh = record("kha", answer="since spring it is another thing")
    now = [fresh if row.id == "kha" else row for row in RECORDS]
    changed = update(learned, tmp_path, now, old, 3)
    assert (states(learned)["kha"], states(changed)["kha"]) == ("learned", "contradicted")
    probe = next(row for row in changed.rows("probes", Probe) if row.record == "kha")
    assert (probe.former, probe.former_known) == (RECORDS[1].answer, 1.0)
    with open_store(changed) as store:
        assert store.get("kha").text == fresh.answer
        assert [version.until[:10] for version in store.history("kha")] == ["2026-01-03", ""]
    held = {row.record: row for row in changed.rows("decisions", Decision)}["kha"]
    assert (held.place, held.order) == ("external", 0)
    assert "0 of 2 probes" in held.reason
    steady = update(update(changed, tmp_path, now, old, 4), tmp_path, now, old, 5)
    assert states(steady)["kha"] == "contradicted"
    back = {row.record: row.place for row in steady.rows("decisions", Decision)}["kha"]
    assert back == "internalise"
    retrained = update(steady, tmp_path, now, by_heart(fresh, RECORDS[0]), 6, "retrained")
    assert states(retrained)["kha"] == "learned"


def test_of_former_answers_the_newest_of_what_may_be_in_weights_are_probed(
    selected: Artefact, tmp_path: Path
):
    memory, told = selected, [f"on day {day} it is so" for day in range(2, 8)]
    for day, answer in enumerate(told, 2):
        now = [
            record(row.id, answer=answer, stability=row.stability)
            if row.id in ("kha", "news")
            else row
            for row in RECORDS
        ]
        model = by_heart(RECORDS[0])
        memory = update(memory, tmp_path, now, model, day)
    asked = {answer for call in model.calls for _, answer in call}
    assert asked.isdisjoint({RECORDS[1].answer, RECORDS[-1].answer, *told[:2]})
    assert {*told[2:]} <= asked
    of_kha = [pair for call in model.calls for pair in call if pair[1] == told[2]]
    assert {question for question, _ in of_kha} >= {"what is kha"}


def test_a_former_answer_that_is_too_long_is_told_and_blocks_nothing(
    selected: Artefact, tmp_path: Path
):
    long = record("kha", answer="it goes on " * 9)
    now = [long if row.id == "kha" else row for row in RECORDS]
    grown = update(selected, tmp_path, now, by_heart(), 2)
    shorter = by_heart()
    shorter.context = 40
    after = update(grown, tmp_path, RECORDS, shorter, 3)
    assert after.summary["warnings"] == [
        "record kha: a former answer was not probed: it takes 57 words"
    ]


def test_records_that_come_and_go_come_and_go_in_the_store(selected: Artefact, tmp_path: Path):
    now = [*RECORDS[1:], record("nya")]
    after = update(selected, tmp_path, now, by_heart(), 2)
    assert after.summary["removed"] == ["ka"]
    with open_store(after) as store:
        assert "ka" not in store
        assert "nya" in store
    assert states(after)["ka"] == "known"  # the ledger forgets nothing
    assert b"goes by ka alone" not in (after.path / "store" / "store.sqlite").read_bytes()


def test_the_ledger_of_an_update_begins_with_the_one_before_which_stays_as_it_was(
    selected: Artefact, tmp_path: Path
):
    before = (selected.path / LEDGER).read_bytes()
    after = update(selected, tmp_path, RECORDS, by_heart(), 2)
    assert (after.path / LEDGER).read_bytes().startswith(before)
    assert len(read_ledger(after.path / LEDGER)) == 2 * len(RECORDS)
    check_files(selected)


def test_a_broken_probe_is_taken_up_where_it_stopped(tmp_path: Path):
    rows = [record(f"{name}{n}", source=name) for name in "ab" for n in range(6)]
    told = corpus(tmp_path, rows)
    broken, whole = by_heart(), by_heart()
    ask = broken.logprobs

    def fails_at_the_second_block(pairs):
        if len(broken.calls) == 1:
            raise KeyboardInterrupt
        return ask(pairs)

    broken.logprobs = fails_at_the_second_block
    plan = plan_select(told, "base", CONFIG, root=tmp_path, load_model=lambda: broken)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan)
    run_plan(plan_select(told, "base", CONFIG, root=tmp_path, load_model=lambda: whole))
    assert len(whole.calls) == 1


def test_another_seed_model_or_setting_makes_another_artefact(tmp_path: Path):
    told = corpus(tmp_path, RECORDS)
    plans = [
        plan_select(told, "base", CONFIG, root=tmp_path),
        plan_select(told, "other", CONFIG, root=tmp_path),
        plan_select(told, "base", CONFIG, root=tmp_path, seed=2),
        plan_select(told, "base", MemoryConfig(probe={"block": 5}), root=tmp_path),
        plan_select(told, "base", CONFIG, root=tmp_path, language="bo"),
    ]
    assert len({plan.key for plan in plans}) == len(plans)


def test_an_empty_corpus_is_refused(tmp_path: Path):
    with pytest.raises((DataError, ArtefactError)):
        select_memory(
            corpus(tmp_path, []), "base", CONFIG, root=tmp_path, load_model=FakeKnowingModel
        )


def test_forgotten_must_lie_below_known():
    with pytest.raises(ValueError, match="known and forgotten at once"):
        MemoryConfig(update={"forgotten_below": 0.9})


def test_the_room_is_entered_without_torch():
    code = "import sys, drenpa.memory.cycle, drenpa.memory.recall; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_update_needs_a_memory(tmp_path: Path):
    told = corpus(tmp_path, RECORDS)
    with pytest.raises(ArtefactError, match="is a corpus, but a memory is needed"):
        plan_update(told, told, "trained", CONFIG, root=tmp_path)
