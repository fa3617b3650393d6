"""The two memory stages: select before training [P13], update after it [P14].

Both leave a memory artefact:

    decisions.parquet   Decision: where each record goes, and why
    probes.parquet      Probe: what the model was found to know
    changes.parquet     Change: what training did (update only)
    ledger.jsonl        Entry: every observation so far
    store/store.sqlite  the external memory

Every record has a passage in the store, learned ones too: the router needs it to tell which record
a question means, and a forgotten one is answered from it at once.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from drenpa.config import EngineConfig, MemoryConfig
from drenpa.core.artefacts import (
    SCRATCH,
    Artefact,
    Plan,
    append_line,
    as_input,
    counted,
    journal_lines,
    model_input,
    run_plan,
    write_rows,
)
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.progress import track
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Record
from drenpa.core.roles import Generator
from drenpa.memory.ledger import (
    Entry,
    answer_fingerprint,
    append_entries,
    fingerprint,
    read_ledger,
    replay,
)
from drenpa.memory.probe import (
    AnswerLogprobs,
    Probe,
    blocks_of,
    check_room,
    probe_block,
    readable_former,
    sample_block,
)
from drenpa.memory.select import (
    Decision,
    capacity_bits,
    median_demand,
    select,
    why_outside,
)
from drenpa.memory.store import STORE, Store, passage_of
from drenpa.memory.update import (
    compare,
    entries_of,
    first_state,
    held_back,
    replay_queue,
)

LEDGER = "ledger.jsonl"
STORE_FOLDER = "store"
JOURNAL = "probes.jsonl"
FORMER = 3  # of a record's former answers, the newest that are probed


class ProbedModel(AnswerLogprobs, Generator, Protocol):
    """What a stage probes: probabilities, samples, and how many weights there are."""

    parameters: int

    def too_long(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Return for each (question, answer) why the model cannot read it, or an empty text."""
        ...


LoadModel = Callable[[], ProbedModel]
Clock = Callable[[], str]


def now() -> str:
    """Return the time as the ledger writes it, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def plan_select(
    corpus: Artefact,
    policy: Artefact | str,
    config: MemoryConfig,
    *,
    engine: EngineConfig | None = None,
    language: str = "en",
    answer_prompt: str = "answer",
    root: Path,
    seed: int = 1,
    name: str = "select",
    load_model: LoadModel | None = None,
    clock: Clock = now,
) -> Plan:
    """Plan the choice of what a model should remember: probe it, decide, found the store.  [P13]

    policy:        the model before training: its artefact, or a model's name.
    answer_prompt: the instruction under which the model is asked, as in the other stages.
    load_model:    what is probed instead of the policy loaded by the engine.
    clock:         tells the time that the ledger writes.
    """
    engine = engine or EngineConfig()
    instruction = load_prompt(answer_prompt, language).text
    model = as_input(policy) if isinstance(policy, Artefact) else model_input(policy)

    def work(folder: Path) -> Mapping[str, Any]:
        _clear(folder)
        records = _records(corpus)
        load = load_model or _loader(policy, engine, instruction)
        probes, parameters, _ = _probe(records, {}, load, config, folder, seed)
        budget = capacity_bits(parameters, config.select)
        decisions = _decide(records, probes, config, budget, {})
        at = clock()
        entries = [
            Entry(
                at=at,
                model=model["digest"],
                record=record.id,
                wording=fingerprint(record),
                answer=answer_fingerprint(record),
                known=probes[record.id].known,
                state=first_state(decision),
                reason=decision.reason,
            )
            for record, decision in zip(records, decisions, strict=True)
        ]
        append_entries(folder / LEDGER, entries)
        with Store.create(folder / STORE_FOLDER / STORE) as store:
            store.add([passage_of(record) for record in records], at=at)
        _write(folder, decisions, list(probes.values()))
        return _summary(records, decisions, probes, entries, budget, parameters)

    return Plan(
        kind="memory",
        name=name,
        root=root,
        config=_described(config, {"probe", "select"}, engine, instruction, seed, policy),
        inputs={"corpus": as_input(corpus), "policy": model},
        rooms=("memory", "engine"),
        work=work,
    )


def plan_update(
    memory: Artefact,
    corpus: Artefact,
    policy: Artefact | str,
    config: MemoryConfig,
    *,
    engine: EngineConfig | None = None,
    language: str = "en",
    answer_prompt: str = "answer",
    root: Path,
    seed: int = 1,
    name: str = "update",
    load_model: LoadModel | None = None,
    clock: Clock = now,
) -> Plan:
    """Plan the look back after training: probe again, note what was learned, forgotten and
    contradicted, bring the store up to date, decide anew.  [P14]

    memory: what the last select or update left; it is not changed.
    corpus: the records as they are now; what is new there is added, what has gone is taken out of
            the store, what has changed supersedes the passage it was.
    policy: the model after training.
    raises: ArtefactError when `memory` is of another kind.
    """
    if memory.kind != "memory":
        raise ArtefactError(f"{memory.path}: is a {memory.kind}, but a memory is needed here")
    engine = engine or EngineConfig()
    instruction = load_prompt(answer_prompt, language).text
    model = as_input(policy) if isinstance(policy, Artefact) else model_input(policy)

    def work(folder: Path) -> Mapping[str, Any]:
        _clear(folder)
        records = _records(corpus)
        past = read_ledger(memory.path / LEDGER)
        with Store.open(memory.path / STORE_FOLDER / STORE, read_only=True) as older:
            former = _former_answers(older, records, config)
            store = older.copy(folder / STORE_FOLDER / STORE)
        load = load_model or _loader(policy, engine, instruction)
        with store:
            probes, parameters, unread = _probe(records, former, load, config, folder, seed)
            changes = compare(records, replay(past), probes, config)
            at = clock()
            entries = entries_of(changes, records, model=model["digest"], at=at)
            store.supersede([passage_of(record) for record in records], at=at)
            kept = {record.id for record in records}
            gone = [one.id for one in store.passages() if one.record and one.record not in kept]
            store.delete(gone)
        (folder / LEDGER).write_bytes((memory.path / LEDGER).read_bytes())
        append_entries(folder / LEDGER, entries)
        standings = replay([*past, *entries])
        budget = capacity_bits(parameters, config.select)
        decisions = _decide(records, probes, config, budget, held_back(records, standings, config))
        write_rows(folder / "changes.parquet", changes)
        _write(folder, decisions, list(probes.values()))
        return {
            **_summary(records, decisions, probes, entries, budget, parameters),
            "changes": counted(f"{one.before} → {one.after}" for one in changes),
            "actions": counted(one.action for one in changes),
            "replay": replay_queue(standings, decisions),
            "removed": gone,
            "warnings": unread,
        }

    return Plan(
        kind="memory",
        name=name,
        root=root,
        config=_described(config, {"probe", "select", "update"}, engine, instruction, seed, policy),
        inputs={"memory": as_input(memory), "corpus": as_input(corpus), "policy": model},
        rooms=("memory", "engine"),
        work=work,
    )


def select_memory(
    corpus: Artefact, policy: Artefact | str, config: MemoryConfig, *, root: Path, **options: Any
) -> Artefact:
    """Choose what the model should remember; see `plan_select`."""
    return run_plan(plan_select(corpus, policy, config, root=root, **options))


def update_memory(
    memory: Artefact,
    corpus: Artefact,
    policy: Artefact | str,
    config: MemoryConfig,
    *,
    root: Path,
    **options: Any,
) -> Artefact:
    """Look back after training; see `plan_update`."""
    return run_plan(plan_update(memory, corpus, policy, config, root=root, **options))


def open_store(memory: Artefact) -> Store:
    """Open a memory artefact's store to read; to change it, `copy` it elsewhere first."""
    return Store.open(memory.path / STORE_FOLDER / STORE, read_only=True)


def _probe(
    records: Sequence[Record],
    former: Mapping[str, Sequence[str]],
    load: LoadModel,
    config: MemoryConfig,
    folder: Path,
    seed: int,
) -> tuple[dict[str, Probe], int, list[str]]:
    """Probe all records block by block; blocks that a broken run has done are taken from its
    journal.

    returns: the probes, how many weights the model has, and a line about each former answer that it
             cannot read.
    raises: DataError that names every record which the model cannot read, before any is probed.
    """
    journal = folder / SCRATCH / JOURNAL
    done = {
        probe.record: probe for probe in (Probe.model_validate(x) for x in journal_lines(journal))
    }
    model = load()
    blocks = blocks_of(records, config.probe.block)
    check_room(blocks, model.too_long)
    readable, unread = readable_former(blocks, former, model.too_long)
    with track("memory: probes", len(records)) as work:
        for number, block in enumerate(blocks):
            if not all(record.id in done for record in block):
                probes = probe_block(block, model, former=readable)
                if config.probe.samples:
                    probes = sample_block(
                        block, probes, model, config.probe, seed=seed, key=(number,)
                    )
                for probe in probes:
                    append_line(journal, probe.model_dump(mode="json"))
                    done[probe.record] = probe
            work.advance(len(block))
    return {record.id: done[record.id] for record in records}, model.parameters, unread


def _decide(
    records: Sequence[Record],
    probes: Mapping[str, Probe],
    config: MemoryConfig,
    budget: float,
    held: Mapping[str, str],
) -> list[Decision]:
    known = {name: probe.known for name, probe in probes.items()}
    tokens = {name: probe.tokens for name, probe in probes.items()}
    return select(records, known, tokens, config.select, budget_bits=budget, held=held)


def _records(corpus: Artefact) -> list[Record]:
    records = corpus.rows("records", Record)
    if not records:
        raise DataError(f"{corpus.path}: holds no records to remember")
    return records


def _former_answers(
    store: Store, records: Sequence[Record], config: MemoryConfig
) -> dict[str, list[str]]:
    """The newest answers that records had before, as the store's history tells, oldest first.

    A record that stays outside the weights has none: nothing is decided by what they hold of it.
    """
    rare_below = config.select.rare_share * median_demand(records)
    former = {}
    for record in records:
        if why_outside(record, rare_below):
            continue
        newest_first = [version.passage.text for version in store.history(record.id)][::-1]
        others = [text for text in dict.fromkeys(newest_first) if text != record.answer]
        former[record.id] = others[:FORMER][::-1]
    return former


def _clear(folder: Path) -> None:
    """Take away what a broken run left half done; its probes stay."""
    (folder / LEDGER).unlink(missing_ok=True)
    for file in (folder / STORE_FOLDER).glob("*"):
        file.unlink()


def _write(folder: Path, decisions: Sequence[Decision], probes: Sequence[Probe]) -> None:
    write_rows(folder / "decisions.parquet", decisions)
    write_rows(folder / "probes.parquet", probes)


def _summary(
    records: Sequence[Record],
    decisions: Sequence[Decision],
    probes: Mapping[str, Probe],
    entries: Sequence[Entry],
    budget: float,
    parameters: int,
) -> dict[str, Any]:
    return {
        "records": len(records),
        "places": counted(decision.place for decision in decisions),
        "states": counted(entry.state for entry in entries),
        "mean_known": sum(probe.known for probe in probes.values()) / len(probes),
        "parameters": parameters,
        "budget_bits": budget,
        "spent_bits": sum(one.cost for one in decisions if one.place == "internalise"),
    }


def _described(
    config: MemoryConfig,
    parts: set[str],
    engine: EngineConfig,
    instruction: str,
    seed: int,
    policy: Artefact | str,
) -> dict[str, Any]:
    return {
        "memory": config.model_dump(mode="json", include=parts),
        "dtype": engine.dtype,
        "instruction": instruction,
        "policy": policy.name if isinstance(policy, Artefact) else policy,
        "seed": seed,
    }


def _loader(policy: Artefact | str, engine: EngineConfig, instruction: str) -> LoadModel:
    def load() -> ProbedModel:
        from drenpa.memory.asked import load_asked

        return load_asked(policy, engine=engine, instruction=instruction)

    return load
