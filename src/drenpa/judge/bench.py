"""The benchmark: a policy answers the held-out questions, judges judge, every verdict is kept.

Answers are kept in fixed chunks and opinions one by one, under their content, in one store for the
whole run: a kill costs at most one chunk, and nothing is judged or paid for twice.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from drenpa.config import BaselineConfig, BenchmarkConfig, EngineConfig, JudgeConfig
from drenpa.core.artefacts import (
    Artefact,
    Plan,
    as_input,
    code_version,
    counted,
    model_input,
    run_plan,
    write_rows,
)
from drenpa.core.endpoint import address_of
from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.progress import track
from drenpa.core.records import Record, Row, Verdict, Vote, identifier
from drenpa.core.roles import Generator, Sampling
from drenpa.core.store import Store, content_key
from drenpa.judge.answers import (
    Answer,
    EndpointGenerator,
    answer_instruction,
    choose_items,
    sample_answers,
)
from drenpa.judge.judges import Case, Judge, Opinion
from drenpa.judge.ladder import (
    LoadScorer,
    Setting,
    check_judges,
    judge_described,
    judge_inputs,
    load_judge,
    members_of,
    revision_of,
)
from drenpa.judge.panel import combine, panel_card, panel_name
from drenpa.judge.summary import fail_above, reading_rates, summarise
from drenpa.judge.with_memory import ROUTES, AskablePolicy, OpenMemory, Recall, opened

STORE = "benchmark-store.sqlite"


def plan_benchmark(
    policy: Artefact | str | BaselineConfig,
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

    policy:      its artefact, the name of a model (for the strategy `base`), or a baseline.
    strategy:    what its verdicts are called by.
    model:       the recipe's model: named in the verdicts, and read by the judges that read a
                 model's probabilities and name no other.
    language:    of the instruction that the policy answers under and of the judge's prompt.
    critic, load_scorer: needed by the judge `critic` only.
    recall:      a memory that the policy answers with; `routes.parquet` then tells of each item
                 whether it was looked up.
    raises:      ConfigError when the judge lacks what it needs.
    """
    engine = engine or EngineConfig()
    instruction = answer_instruction(config.prompt, language)
    setting = Setting(model, language, engine, critic, load_scorer)
    inputs = {"corpus": as_input(corpus), "policy": _policy_input(policy)}
    inputs |= judge_inputs(config.judge, setting)
    described = {
        "strategy": strategy,
        "model": model,
        "language": language,
        "seed": seed,
        "dtype": engine.dtype,
        "instruction": instruction,
        "benchmark": config.model_dump(
            mode="json",
            exclude={"strategies", "prompt", "judge", "baselines", "store"},
        ),
        "judge": judge_described(config.judge, setting),
    }
    if isinstance(policy, BaselineConfig):
        described["baseline"] = {
            **policy.model_dump(mode="json", include={"model", "request", "endpoint"}),
            "base_url": address_of(policy.base_url) if policy.endpoint else "",
        }
    if recall is not None:
        inputs["memory"] = as_input(recall.memory)
        described["recall"] = recall.config.model_dump(mode="json")

    def work(folder: Path) -> Mapping[str, Any]:
        items = choose_items(corpus.rows("benchmark", Record), config.items_per_kind)
        check_judges(config.judge, setting)
        place = Path(config.store) if config.store else root / STORE
        routes: Sequence[Row] = ()
        with Store(place) as store, opened(recall, language) as memory:
            answerer = _Answerer(policy, engine, instruction, memory)
            sampling = Sampling(config.max_new_tokens, config.temperature, seed=seed)
            origin = answerer.origin(store)
            if recall is not None:
                origin |= {
                    "memory": recall.memory.digest,
                    "recall": described["recall"],
                    "language": language,  # of the prompt that shows passages
                    "recall_code": code_version(("memory",)),
                }
            answers = sample_answers(
                items,
                partial(answerer.load, items, config.max_new_tokens, store),
                samples=config.samples,
                sampling=sampling,
                store=store,
                origin=origin,
                label=f"{strategy}: answers",
            )
            if memory is not None:
                routes = memory.routes(items)
            gc.collect()
            panel = ask_judges(
                items, answers, config.judge, setting, store, label=f"{strategy}: verdicts"
            )
        naming: dict[str, Any] = {"strategy": strategy, "model": model, "seed": seed}
        verdicts = [
            Verdict(**fields, **naming, judge=identifier(panel.name))
            for fields in _fields(items, answers, panel.opinions)
        ]
        votes = [
            Vote(
                **fields,
                **naming,
                judge=identifier(ballot.judge),
                repeat=ballot.repeat,
                read=opinion.read,
            )
            for ballot in panel.ballots
            for fields, opinion in zip(
                _fields(items, answers, ballot.opinions), ballot.opinions, strict=True
            )
        ]
        fail_above(config.judge.max_unscored, verdicts, panel.sees)
        write_rows(folder / "verdicts.parquet", verdicts)
        write_rows(folder / "votes.parquet", votes)
        told = summarise(verdicts) | {
            "judge": panel.name,
            "judge_card": panel.card,
            "replies": reading_rates(votes),
            "answered_by": _answered_by(policy),
        }
        if recall is not None:
            write_rows(folder / f"{ROUTES}.parquet", routes)
            told["routes"] = counted(row.model_dump()["source"] for row in routes)
        return told

    rooms = ["engine", "judge"]
    rooms += ["critic"] if any(m.name == "critic" for m in members_of(config.judge)) else []
    rooms += ["memory"] if recall is not None else []
    return Plan(
        kind="verdicts",
        name=f"benchmark-{strategy}",
        root=root,
        config=described,
        inputs=inputs,
        rooms=tuple(rooms),
        work=work,
    )


def benchmark(
    policy: Artefact | str | BaselineConfig,
    corpus: Artefact,
    config: BenchmarkConfig,
    **settings: Any,
) -> Artefact:
    """Benchmark a policy; the settings are those of `plan_benchmark`."""
    return run_plan(plan_benchmark(policy, corpus, config, **settings))


@dataclass(frozen=True)
class Ballot:
    """What one judge said of every answer, once."""

    judge: str
    repeat: int
    opinions: Sequence[Opinion]


@dataclass(frozen=True)
class Panel:
    """All that was said: by whom, each ballot, and the one opinion of each answer.

    sees: the dimensions that at least one of the judges is meant to score.
    """

    name: str
    card: str
    sees: tuple[Dimension, ...]
    ballots: Sequence[Ballot]
    opinions: Sequence[Opinion]


def ask_judges(
    items: Sequence[Record],
    answers: Sequence[Answer],
    config: JudgeConfig,
    setting: Setting,
    store: Store,
    *,
    label: str = "verdicts",
) -> Panel:
    """Ask the judge, or each of a panel in turn, as often as it is to be asked.

    Judges are loaded one after the other, so that no two local models are in memory at once.
    """
    ballots: list[Ballot] = []
    votes: list[list[Opinion]] = []
    judges: list[_Known] = []
    for member in members_of(config):
        judge = load_judge(member, setting, store)
        judges.append(_Known(judge.name, judge.card, tuple(judge.sees)))
        said: list[list[Opinion]] = []
        for repeat in range(member.repeats):
            told = f"{label} of {judge.name}" if config.members else label
            opinions = judge_answers(items, answers, judge, store=store, repeat=repeat, label=told)
            ballots.append(Ballot(judge.name, repeat, opinions))
            said.append(opinions)
        # A judge that is asked three times has one vote.
        votes.append([combine(of_one) for of_one in zip(*said, strict=True)])
        del judge
        gc.collect()
    return Panel(
        panel_name([known.name for known in judges], [m.repeats for m in members_of(config)]),
        panel_card([known.card for known in judges]),
        tuple(name for name in DIMENSIONS if any(name in known.sees for known in judges)),
        ballots,
        [combine(of_one) for of_one in zip(*votes, strict=True)],
    )


def judge_answers(
    items: Sequence[Record],
    answers: Sequence[Answer],
    judge: Judge,
    *,
    store: Store,
    repeat: int = 0,
    label: str = "verdicts",
) -> list[Opinion]:
    """Return the judge's opinion of each answer; equal answers to one question are judged once.

    store: of opinions, under a digest of all that each rests on. What is there is not asked again;
           what was left unscored is not kept.
    """
    by_id = {item.id: item for item in items}
    cases = [_case(by_id[answer.item], answer, repeat) for answer in answers]
    ground = [dict(judge.identity), code_version(("engine", "judge"))]
    keys = [content_key("opinion", [*ground, asdict(case)]) for case in cases]
    known: dict[str, Opinion] = {}
    wanted: dict[str, Case] = {}
    for key, case in zip(keys, cases, strict=True):
        if key not in known and key not in wanted:
            kept = store.get(key)
            if kept is None:
                wanted[key] = case
            else:
                known[key] = Opinion(**kept)
    asked = list(wanted)
    with track(label, len(known) + len(asked)) as progress:
        progress.resume_at(len(known))
        for place, opinion in judge.judge(list(wanted.values())):
            known[asked[place]] = opinion
            if opinion.scores and not _open(opinion, judge):
                store.put(asked[place], asdict(opinion))
            progress.advance()
    silent = Opinion(unscored="the judge returned no opinion")
    return [known.get(key, silent) for key in keys]


@dataclass(frozen=True)
class _Known:
    name: str
    card: str
    sees: tuple[Dimension, ...]


@dataclass(frozen=True)
class _Answerer:
    """Whoever answers: where it comes from, and how it is loaded."""

    policy: Artefact | str | BaselineConfig
    engine: EngineConfig
    instruction: str
    memory: OpenMemory | None

    def origin(self, store: Store) -> dict[str, Any]:
        """Return all that its answers depend on beside questions and sampling."""
        source = _local(self.policy)
        if isinstance(source, BaselineConfig):
            return EndpointGenerator(source, self.instruction, store).identity
        return {
            "revision": revision_of(source),
            "instruction": self.instruction,
            "dtype": self.engine.dtype,
            "code": code_version(("engine",)),
        }

    def load(self, items: Sequence[Record], max_new_tokens: int, store: Store) -> Generator:
        """Load it, and check that every question leaves room for an answer."""
        from drenpa.engine.policy import load_policy

        source = _local(self.policy)
        asked: AskablePolicy
        if isinstance(source, BaselineConfig):
            asked = EndpointGenerator(source, self.instruction, store)
        else:
            loaded = load_policy(source, engine=self.engine, instruction=self.instruction)
            asked = loaded if self.memory is None else self.memory.before(loaded)
        asked.check_room([item.question for item in items], max_new_tokens)
        return asked


def _local(policy: Artefact | str | BaselineConfig) -> Artefact | str | BaselineConfig:
    """The name of a baseline on this machine; any other policy as it is."""
    if isinstance(policy, BaselineConfig) and not policy.endpoint:
        return policy.model
    return policy


def _policy_input(policy: Artefact | str | BaselineConfig) -> dict[str, str]:
    source = _local(policy)
    if isinstance(source, Artefact):
        return as_input(source)
    if isinstance(source, str):
        return model_input(source)
    return {"path": _answered_by(source), "digest": _answered_by(source)}


def _answered_by(policy: Artefact | str | BaselineConfig) -> str:
    if isinstance(policy, Artefact):
        return policy.path.name
    if isinstance(policy, str):
        return policy
    return f"{policy.model} @ {address_of(policy.base_url)}" if policy.endpoint else policy.model


def _fields(
    items: Sequence[Record], answers: Sequence[Answer], opinions: Sequence[Opinion]
) -> list[dict[str, Any]]:
    by_id = {item.id: item for item in items}
    return [
        {
            "item": answer.item,
            "kind": by_id[answer.item].kind,
            "language": by_id[answer.item].language,
            "cluster": by_id[answer.item].source or answer.item,
            "sample": answer.sample,
            "question": by_id[answer.item].question,
            "reference": by_id[answer.item].answer or "",
            "model_answer": answer.text,
            "finish": answer.finish,
            "scores": dict(opinion.scores),
            "thoughts": opinion.thoughts,
            "unscored": opinion.unscored,
        }
        for answer, opinion in zip(answers, opinions, strict=True)
    ]


def _case(item: Record, answer: Answer, repeat: int) -> Case:
    return Case(item.question, answer.text, item.answer or "", item.language, answer.finish, repeat)


def _open(opinion: Opinion, judge: Judge) -> bool:
    """Whether a score is missing that the judge was meant to give."""
    return any(dimension not in opinion.scores for dimension in judge.sees)
