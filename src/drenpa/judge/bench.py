"""The benchmark: a policy answers the held-out questions, a judge judges, every verdict is kept.

Answers are sampled and journalled in fixed chunks, verdicts one by one, so that a kill costs at
most one chunk and no request that was already answered.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from drenpa.config import BenchmarkConfig, EngineConfig, JudgeConfig
from drenpa.core.artefacts import (
    SCRATCH,
    Artefact,
    Plan,
    append_line,
    as_input,
    counted,
    file_input,
    journal_lines,
    run_plan,
    write_rows,
)
from drenpa.core.errors import ConfigError, DataError, ScoringError
from drenpa.core.knowledge import DIMENSIONS, KINDS, Dimension
from drenpa.core.progress import track
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Record, Row, Verdict
from drenpa.core.roles import Finish, Generator, Sampling, Scorer
from drenpa.core.statistics import cell_percent, detectable_difference, scored_of, unscored_of
from drenpa.judge.critic_judge import CriticJudge
from drenpa.judge.endpoint import EndpointJudge
from drenpa.judge.judges import Case, Judge, Opinion
from drenpa.judge.offline import OfflineJudge
from drenpa.judge.with_memory import ROUTES, AskablePolicy, OpenMemory, Recall, opened

CHUNK = 32  # questions answered at once; part of every answer's random stream, so it stays fixed
GENERATIONS, VERDICTS = "generations.jsonl", "verdicts.jsonl"
ASSUMED_SPREAD = 40.0  # points, of paired per-item differences, before anything is known

LoadScorer = Callable[[Artefact], Scorer]


@dataclass(frozen=True)
class Answer:
    """One sampled answer to one item."""

    item: str
    sample: int
    text: str
    finish: Finish


def plan_benchmark(
    policy: Artefact | str,
    corpus: Artefact,
    config: BenchmarkConfig,
    *,
    strategy: str,
    model: str,
    engine: EngineConfig | None = None,
    language: str = "en",
    root: Path,
    seed: int = 1,
    critic: Artefact | None = None,
    load_scorer: LoadScorer | None = None,
    recall: Recall | None = None,
) -> Plan:
    """Plan the benchmark of one strategy's policy on the corpus's test questions.

    policy:      its artefact, or the name of a model (for the strategy `base`).
    strategy:    what its verdicts are called by.
    model:       the recipe's model: named in the verdicts, and read by the offline judge unless
                 `config.judge.model` names another.
    language:    of the instruction that the policy answers under and of the judge's prompt.
    critic, load_scorer: needed by the judge `critic` only.
    recall:      a memory that the policy answers with; `routes.parquet` then tells of each item
                 whether it was looked up.
    raises:      ConfigError when the judge lacks what it needs, or several samples are asked for at
                 temperature 0, where they are all the same.
    """
    engine = engine or EngineConfig()
    if config.temperature == 0 and config.samples > 1:
        raise ConfigError(
            f"benchmark.samples: {config.samples} answers at temperature 0 are all the same; set "
            "benchmark.temperature above 0 or samples to 1"
        )
    instruction = load_prompt(config.prompt, language)
    if instruction.slots:
        raise ConfigError(
            f"benchmark.prompt: {instruction.name} is given as it is and cannot have the slot "
            f"{{{instruction.slots[0]}}}"
        )
    inputs = {"corpus": as_input(corpus)}
    if isinstance(policy, Artefact):
        inputs["policy"] = as_input(policy)
    else:
        inputs["policy"] = _model_input(policy)
    if config.judge.name == "offline":
        inputs["judge"] = _model_input(config.judge.model or model)
    if config.judge.name == "critic":
        if critic is None or load_scorer is None:
            raise ConfigError(
                "benchmark.judge.name: critic needs the critic of this run; this strategy has none"
            )
        inputs["judge"] = as_input(critic)
    described = {
        "strategy": strategy,
        "model": model,
        "language": language,
        "seed": seed,
        "dtype": engine.dtype,
        "instruction": instruction.text,
        "benchmark": config.model_dump(
            mode="json", exclude={"strategies": True, "prompt": True, "judge": True}
        ),
        "judge": _described(config.judge, model, language),
    }
    if recall is not None:
        inputs["memory"] = as_input(recall.memory)
        described["recall"] = recall.config.model_dump(mode="json")

    def work(folder: Path) -> Mapping[str, Any]:
        from drenpa.engine.policy import load_policy

        items = choose_items(corpus.rows("benchmark", Record), config.items_per_kind)
        early = EndpointJudge(config.judge, language) if config.judge.name == "openai" else None

        def load_generator(memory: OpenMemory | None) -> Generator:
            loaded = load_policy(policy, engine=engine, instruction=instruction.text)
            asked: AskablePolicy = loaded if memory is None else memory.before(loaded)
            asked.check_room([item.question for item in items], config.max_new_tokens)
            return asked

        routes: Sequence[Row] = ()
        with opened(recall, language) as memory:
            answers = sample_answers(
                items,
                partial(load_generator, memory),
                samples=config.samples,
                sampling=Sampling(config.max_new_tokens, config.temperature, seed=seed),
                journal=folder / SCRATCH / GENERATIONS,
                label=f"{strategy}: answers",
            )
            if memory is not None:
                routes = memory.routes(items)
        gc.collect()
        judge: Judge
        if early is not None:
            judge = early
        elif critic is not None and load_scorer is not None and config.judge.name == "critic":
            judge = CriticJudge(load_scorer(critic))
        else:
            reader = load_policy(config.judge.model or model, engine=engine).language_model
            judge = OfflineJudge(reader, Path(config.judge.model or model).name)
        opinions = judge_answers(
            items,
            answers,
            judge,
            journal=folder / SCRATCH / VERDICTS,
            label=f"{strategy}: verdicts",
        )
        naming = {"strategy": strategy, "model": model, "seed": seed, "judge": judge.name}
        verdicts = _verdicts(items, answers, opinions, naming)
        _fail_above(config.judge.max_unscored, verdicts)
        write_rows(folder / "verdicts.parquet", verdicts)
        told = summarise(verdicts) | {"judge": judge.name, "judge_card": judge.card}
        if recall is not None:
            write_rows(folder / f"{ROUTES}.parquet", routes)
            told["routes"] = counted(row.model_dump()["source"] for row in routes)
        return told

    return Plan(
        kind="verdicts",
        name=f"benchmark-{strategy}",
        root=root,
        config=described,
        inputs=inputs,
        rooms=("engine", "judge") if recall is None else ("engine", "judge", "memory"),
        work=work,
    )


def benchmark(
    policy: Artefact | str, corpus: Artefact, config: BenchmarkConfig, **settings: Any
) -> Artefact:
    """Benchmark a policy; the settings are those of `plan_benchmark`."""
    return run_plan(plan_benchmark(policy, corpus, config, **settings))


def choose_items(records: Sequence[Record], per_kind: int) -> list[Record]:
    """Return the benchmark's items, at most `per_kind` of each kind (0: all), by kind and id.

    The choice depends on the items' ids alone, never on a seed: each kind's languages and sources
    are drawn from in proportion, and a smaller choice is part of every larger one.

    raises: DataError when there is no item.
    """
    if not records:
        raise DataError(
            "the corpus has no benchmark question; give corpus.benchmark a file of them"
        )
    chosen: list[Record] = []
    for kind in KINDS:
        strata: dict[tuple[str, str], list[Record]] = {}
        for record in sorted(records, key=_hashed):
            if record.kind == kind:
                strata.setdefault((record.language, record.source), []).append(record)
        placed = [
            ((number + 0.5) / len(stratum), _hashed(record), record)
            for stratum in strata.values()
            for number, record in enumerate(stratum)
        ]
        placed.sort(key=lambda entry: entry[:2])
        taken = [record for _, _, record in (placed[:per_kind] if per_kind else placed)]
        chosen += sorted(taken, key=lambda record: record.id)
    return chosen


def sample_answers(
    items: Sequence[Record],
    load_generator: Callable[[], Generator],
    *,
    samples: int,
    sampling: Sampling,
    journal: Path,
    label: str = "answers",
) -> list[Answer]:
    """Return `samples` answers to each item, by item; the model is loaded only if any is missing.

    journal: one line per chunk of questions; chunks that are there are not sampled again.
    """
    done = {int(line["chunk"]): line["answers"] for line in journal_lines(journal)}
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    missing = [number for number in range(len(chunks)) if number not in done]
    generator = load_generator() if missing else None
    with track(label, len(items)) as progress:
        progress.resume_at(sum(len(chunk) for n, chunk in enumerate(chunks) if n in done))
        for number in missing:
            assert generator is not None
            chunk = chunks[number]
            drafts = generator.generate(
                [item.question for item in chunk], group=samples, sampling=sampling, key=(number,)
            )
            done[number] = [
                asdict(Answer(item.id, place, draft.text, draft.finish))
                for item, group in zip(chunk, drafts, strict=True)
                for place, draft in enumerate(group)
            ]
            append_line(journal, {"chunk": number, "answers": done[number]})
            progress.advance(len(chunk))
    return [Answer(**entry) for number in range(len(chunks)) for entry in done[number]]


def judge_answers(
    items: Sequence[Record],
    answers: Sequence[Answer],
    judge: Judge,
    *,
    journal: Path,
    label: str = "verdicts",
) -> list[Opinion]:
    """Return the judge's opinion of each answer; equal answers to one question are judged once.

    journal: one line per opinion, by a digest of all that it rests on. What is there is not asked
             again, except what was left unscored.
    """
    by_id = {item.id: item for item in items}
    cases = [_case(by_id[answer.item], answer) for answer in answers]
    keys = [_case_key(judge.name, case) for case in cases]
    known = {
        line["key"]: Opinion(line["scores"], line["thoughts"])
        for line in journal_lines(journal)
        if not line["unscored"]
    }
    wanted = {key: case for key, case in zip(keys, cases, strict=True) if key not in known}
    asked = list(wanted)
    with track(label, len(set(keys))) as progress:
        progress.resume_at(len(set(keys)) - len(asked))
        for place, opinion in judge.judge(list(wanted.values())):
            known[asked[place]] = opinion
            append_line(
                journal,
                {
                    "key": asked[place],
                    "scores": dict(opinion.scores),
                    "thoughts": opinion.thoughts,
                    "unscored": opinion.unscored,
                },
            )
            progress.advance()
    silent = Opinion(unscored="the judge returned no opinion")
    return [known.get(key, silent) for key in keys]


def summarise(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Count what was judged and what was not, and say what so many items can show.

    `detectable_points` is the smallest true paired difference between two strategies that this many
    items show with power 0.8 at two-sided 0.05, if the differences per item spread by
    `ASSUMED_SPREAD` points; several sampled answers an item make the spread smaller.
    """
    kinds = [kind for kind in KINDS if any(verdict.kind == kind for verdict in verdicts)]
    of_kind = {kind: [row for row in verdicts if row.kind == kind] for kind in kinds}
    items = {kind: len({row.item for row in rows}) for kind, rows in of_kind.items()}
    return {
        "items": items,
        "answers": len(verdicts),
        "clusters": len({row.cluster for row in verdicts}),
        "languages": counted(row.language for row in verdicts),
        "truncated": sum(row.finish == "length" for row in verdicts),
        "empty": sum(not row.model_answer.strip() for row in verdicts),
        "unscored": unscored_of(verdicts),
        "unscored_reasons": counted(row.unscored for row in verdicts if row.unscored),
        "percent": {
            kind: {
                dimension: _rounded(cell_percent(scored_of(rows, dimension).scores))
                for dimension in DIMENSIONS
            }
            for kind, rows in of_kind.items()
        },
        "detectable_points": {
            kind: round(detectable_difference(count, spread=ASSUMED_SPREAD), 1)
            for kind, count in (items | {"all": sum(items.values())}).items()
        },
        "detectable_assumes": f"paired, spread {ASSUMED_SPREAD:g}, power 0.8, two-sided 0.05",
    }


def _fail_above(limit: float, verdicts: Sequence[Verdict]) -> None:
    missing: dict[Dimension, int] = unscored_of(verdicts)
    dimension = max(missing, key=lambda name: missing[name])
    if missing[dimension] > limit * len(verdicts):
        reasons = counted(verdict.unscored for verdict in verdicts if verdict.unscored)
        raise ScoringError(
            f"{missing[dimension]} of {len(verdicts)} answers have no score for {dimension}, more "
            f"than benchmark.judge.max_unscored = {limit:g} allows; most often: "
            f"{next(iter(reasons))}. What was scored is kept: run again to ask for the rest"
        )


def _verdicts(
    items: Sequence[Record],
    answers: Sequence[Answer],
    opinions: Sequence[Opinion],
    naming: Mapping[str, Any],
) -> list[Verdict]:
    by_id = {item.id: item for item in items}
    return [
        Verdict(
            item=answer.item,
            kind=by_id[answer.item].kind,
            language=by_id[answer.item].language,
            cluster=by_id[answer.item].source or answer.item,
            sample=answer.sample,
            question=by_id[answer.item].question,
            reference=by_id[answer.item].answer or "",
            model_answer=answer.text,
            finish=answer.finish,
            scores=dict(opinion.scores),
            thoughts=opinion.thoughts,
            unscored=opinion.unscored,
            **naming,
        )
        for answer, opinion in zip(answers, opinions, strict=True)
    ]


def _case(item: Record, answer: Answer) -> Case:
    return Case(item.question, answer.text, item.answer or "", item.language, answer.finish)


def _case_key(judge: str, case: Case) -> str:
    described = json.dumps([judge, asdict(case)], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def _hashed(record: Record) -> str:
    return hashlib.sha256(record.id.encode()).hexdigest()


def _model_input(source: str) -> dict[str, str]:
    """A model as an input: the bytes of a folder or file, the name of anything else."""
    path = Path(source).expanduser()
    if path.exists():
        return file_input(path)
    return {"path": source, "digest": source}


def _described(judge: JudgeConfig, model: str, language: str) -> dict[str, Any]:
    """What of the judge's settings can change a verdict."""
    described: dict[str, Any] = {"name": judge.name, "max_unscored": judge.max_unscored}
    if judge.name == "offline":
        described["model"] = judge.model or model
    if judge.name == "openai":
        prompt = load_prompt(judge.prompt, language, slots=("question", "answer"))
        described |= {"model": judge.model, "base_url": judge.base_url, "prompt": prompt.text}
    return described


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 2)
