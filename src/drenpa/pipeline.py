"""From a recipe to a report: the stages in order, each skipped when it is done already.

This is the one place that knows all stages. They do not know each other: what one needs of another
is an artefact, and the critic reaches reinforcement learning as a `Scorer`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drenpa.config import (
    RECALL,
    BaselineConfig,
    LoraConfig,
    MemoryConfig,
    RecallConfig,
    Recipe,
    ReportConfig,
    StageConfig,
)
from drenpa.core.artefacts import MANIFEST, Artefact, Plan, finished, open_artefact, point, run_plan
from drenpa.core.errors import ArtefactError, ConfigError, did_you_mean
from drenpa.core.knowledge import KINDS
from drenpa.grpo.stages import check_gate
from drenpa.preflight import check_recipe

StageName = Literal["curate", "finetune", "critic", "reinforce", "memory", "benchmark", "report"]
SELECT, INTERNALISED = "memory-select", "internalised"
PAPER_ORDER = ("base", "sft", "grpo", "memory", "multistage", "final")
STAGES: tuple[StageName, ...] = (
    "curate",
    "finetune",
    "critic",
    "reinforce",
    "memory",
    "benchmark",
    "report",
)


@dataclass(frozen=True)
class Step:
    """One piece of a run.

    name:  unique within the run, such as `reinforce-memory-main`.
    stage: which subcommand it belongs to.
    needs: the names of the steps whose artefacts it is made from.
    plan:  makes the plan, given those artefacts by name.
    strategy: whose step it is; empty where all share it.
    round: of reinforcement learning, the stage whose gate is asked when it is done.
    """

    name: str
    stage: StageName
    needs: tuple[str, ...]
    plan: Callable[[Mapping[str, Artefact]], Plan]
    strategy: str = ""
    round: StageConfig | None = None


@dataclass(frozen=True)
class Told:
    """What is said of a step before it runs: `done`, `will run`, or `waits` for steps before it."""

    step: Step
    state: Literal["done", "will run", "waits"]
    folder: Path | None
    config: Mapping[str, Any] | None


def steps_of(recipe: Recipe) -> list[Step]:
    """Return the steps of a recipe, each after those it needs.

    raises: ConfigError when the stages' adapters do not fit each other.
    """
    _check_adapters(recipe)
    _check_rankings(recipe)
    steps = [_curate(recipe)]
    if recipe.memory is not None:
        steps += [_select(recipe, recipe.memory), _internalise(recipe)]
    steps.append(_finetune(recipe))
    parts = {
        part for _, stage in _stages(recipe) for part, weight in stage.reward.items() if weight
    }
    alone = not recipe.strategies and bool(recipe.corpus.rankings)
    if "critic" in parts or judging_critic(recipe) or alone:
        steps.append(_critic(recipe, "critic"))
    if "scalar" in parts:
        steps.append(_critic(recipe, "scalar"))
    last = {"sft": "finetune"}
    for strategy in recipe.strategies:
        start = last[strategy.start]
        for stage in strategy.stages:
            step = _reinforce(recipe, strategy.name, stage, start)
            steps.append(step)
            start = step.name
        last[strategy.name] = start
    if recipe.memory is not None:
        steps += [_update(recipe, recipe.memory, name, last[name]) for name in _remembering(recipe)]
    for name in recipe.strategy_names():
        steps.append(_benchmark(recipe, name, last.get(name.removesuffix(RECALL), "")))
    steps += [_benchmark(recipe, model.name, model) for model in recipe.benchmark.baselines]
    steps.append(_report(recipe, steps))
    return steps


def run_recipe(
    recipe: Recipe,
    *,
    until: StageName = "report",
    strategy: str | None = None,
    tell: Callable[[str], None] = print,
) -> dict[str, Artefact]:
    """Run a recipe's stages up to and with `until`, and return the artefacts by step name.

    strategy: for `reinforce` and `benchmark`, only what this strategy needs.
    tell:     is given a line about each step.
    raises:   ConfigError of what `check_recipe` finds before the first stage that is not done;
              DrenpaError of whichever stage finds a fault; what was done before it stays done.
    """
    made: dict[str, Artefact] = {}
    checked = False
    steps = _wanted(recipe, until, strategy)
    for number, step in enumerate(steps):
        plan = step.plan(made)
        done = plan.done
        if not (done or checked):
            check_recipe(recipe, {later.stage for later in steps[number:]}, fetch=True)
            checked = True
        tell(f"{'done already' if done else 'running':12}  {plan.folder}")
        made[step.name] = run_plan(plan)
        if not done or step.stage == until:
            for line in _told(step, made[step.name]):
                tell(f"{'':12}  {line}")
        if step.round is not None:
            check_gate(step.round, made[step.name].summary["gate"])
        if step.stage == "report" and os.environ.get("RANK", "0") == "0":
            point(recipe.folder / "report", made[step.name].path)
    return made


def foretell(
    recipe: Recipe, *, until: StageName = "report", strategy: str | None = None
) -> Iterator[Told]:
    """Say of each step whether it is done or will run, without running or fetching anything."""
    from drenpa.engine.models import is_local

    made: dict[str, Artefact] = {}
    for step in _wanted(recipe, until, strategy):
        fetches = step.stage in ("finetune", "benchmark") and not is_local(recipe.model)
        if fetches or any(need not in made for need in step.needs):
            yield Told(step, "waits", None, None)
            continue
        plan = step.plan(made)
        if plan.done:
            made[step.name] = run_plan(plan)
        yield Told(step, "done" if plan.done else "will run", plan.folder, plan.config)


def pooled_report(folders: Sequence[Path], out: Path) -> Artefact:
    """Write one report over all finished benchmarks in some runs' folders: other seeds or models.

    Of benchmarks with the same strategy, seed and model the newest counts. Curves and critics are
    the newest of the first folder that has them.

    raises: ArtefactError when a folder holds no finished benchmark.
    """
    from drenpa.report.build import plan_report

    verdicts: list[Artefact] = []
    training: dict[str, Artefact] = {}
    for folder in folders:
        found = finished(folder)
        if not any(artefact.kind == "verdicts" for artefact in found):
            raise ArtefactError(f"{folder}: holds no finished benchmark; run its recipe first")
        verdicts += (artefact for artefact in found if artefact.kind == "verdicts")
        newest = {a.name: a for a in found if a.kind in ("policy", "critic")}
        training = newest | training
    order = list(dict.fromkeys(artefact.config["strategy"] for artefact in verdicts))
    order.sort(key=lambda name: PAPER_ORDER.index(name) if name in PAPER_ORDER else 99)
    columns = {
        (artefact.config["strategy"], artefact.config["seed"], artefact.config["model"]): artefact
        for artefact in sorted(verdicts, key=lambda artefact: artefact.created)
    }
    chosen = sorted(columns.items(), key=lambda entry: (order.index(entry[0][0]), entry[0][1:]))
    plan = plan_report(
        [artefact for _, artefact in chosen],
        training,
        ReportConfig(title=", ".join(folder.name for folder in folders)),
        name="report",
        root=out,
    )
    made = run_plan(plan)
    point(out / "report", made.path)
    return made


def newest_policy(folder: Path) -> Artefact:
    """Return the policy that was finished last in a run's folder.

    raises: ArtefactError when there is none.
    """
    return _newest(folder, "policy")


def newest_memory(place: Path) -> Artefact:
    """Return a memory: the one at a place, or the one that was finished last in a run's folder.

    raises: ArtefactError when there is none.
    """
    if (place / MANIFEST).is_file():
        return open_artefact(place, "memory")
    return _newest(place, "memory")


def past_memory(recipe: Recipe, place: str) -> Artefact:
    """Return the memory of a former run that a recipe carries on.

    raises: ConfigError when the place is the recipe's own run, whose memory would be another after
            each, or holds no memory.
    """
    if Path(place).resolve().is_relative_to(recipe.folder.resolve()):
        raise ConfigError(
            f"memory.past: {place} is this recipe's own run; name a former run's folder, and give "
            "this recipe another `name` or `out`"
        )
    try:
        return newest_memory(Path(place))
    except ArtefactError as error:
        raise ConfigError(f"memory.past: {error}") from error


def trained_on(memory: Artefact) -> tuple[list[Artefact], list[str]]:
    """Return the corpora that a memory and those before it were made from, the last one first, and
    a line about each that is not there any more."""
    found: dict[str, Artefact] = {}
    lost: list[str] = []
    older: Artefact | None = memory
    while older is not None:
        one, older = older, None
        for name in ("corpus", "memory"):
            try:
                made = open_artefact(one.input_path(name)) if name in one.inputs else None
            except ArtefactError as error:
                lost.append(
                    f"what the model of memory.past was trained on before is not all known, and "
                    f"may stand in the benchmark: {error}"
                )
                continue
            if name == "memory":
                older = made
            elif made is not None:
                found.setdefault(made.digest, made)
    return list(found.values()), lost


def _newest(folder: Path, kind: Literal["policy", "memory"]) -> Artefact:
    found = [artefact for artefact in finished(folder) if artefact.kind == kind]
    if not found:
        raise ArtefactError(f"{folder}: holds no finished {kind}; run its recipe first")
    return found[-1]


def memory_of(policy: Artefact) -> Artefact | None:
    """Return the memory that was last brought up to date for a policy, if one stands beside it."""
    beside = [
        artefact
        for artefact in finished(policy.path.parent)
        if artefact.kind == "memory" and artefact.inputs["policy"]["digest"] == policy.digest
    ]
    return beside[-1] if beside else None


def recall_settings(memory: Artefact) -> RecallConfig:
    """Return how a memory was last asked by a benchmark beside it; the defaults if by none."""
    asked = _last_recall(memory)
    return RecallConfig() if asked is None else RecallConfig.model_validate(asked["recall"])


def recall_language(memory: Artefact, policy: Artefact) -> str:
    """Return the language of the prompt that shows passages: that of the last benchmark beside a
    memory that asked it, or else the one that its policy was trained under."""
    told = [_last_recall(memory) or {}, policy.config]
    with suppress(ArtefactError):  # it was trained upon nothing of ours, or that is gone
        told.append(open_artefact(policy.input_path("backbone")).config)
    return next((str(config["language"]) for config in told if config.get("language")), "en")


def _last_recall(memory: Artefact) -> Mapping[str, Any] | None:
    told = [
        artefact.config
        for artefact in finished(memory.path.parent)
        if artefact.inputs.get("memory", {}).get("digest") == memory.digest
        and "recall" in artefact.config
    ]
    return told[-1] if told else None


_NOTHING: dict[StageName, str] = {
    "critic": "no strategy and no judge asks for a critic, and corpus.rankings is empty; give it "
    "rankings",
    "reinforce": "the recipe has no strategies; add one, for example strategies: "
    "[{name: memory, stages: [{name: main}]}]",
    "memory": "the recipe has no memory; give it the part `memory: {}`, or run it with "
    "--set memory={}",
}
"""Why a command has nothing to do for a recipe, and what would change that."""


def _wanted(recipe: Recipe, until: StageName, strategy: str | None) -> list[Step]:
    """The steps up to a stage; with a strategy, only those that its last step needs."""
    steps = {step.name: step for step in steps_of(recipe)}
    goals = [step for step in steps.values() if until in (step.stage, "report")]
    if not goals:
        raise ConfigError(f"{recipe.name}: {_NOTHING[until]}")
    if strategy is not None:
        known = dict.fromkeys(goal.strategy for goal in goals if goal.strategy)
        goals = [goal for goal in goals if goal.strategy == strategy]
        if not goals:
            raise ConfigError(
                f"--strategy {strategy}: {until} has nothing to do for it; the recipe has "
                f"{', '.join(known) or 'none'}{did_you_mean(strategy, known)}"
            )
    wanted: set[str] = set()
    open_names = [goal.name for goal in goals]
    while open_names:
        name = open_names.pop()
        if name not in wanted:
            wanted.add(name)
            open_names += steps[name].needs
    return [step for step in steps.values() if step.name in wanted]


def _check_adapters(recipe: Recipe) -> None:
    """Find, before anything runs, what the stages themselves would refuse after hours."""
    faults = [
        f"{name}.train.lora: a critic is an adapter over its backbone; give it one"
        for name, part in (("critic", recipe.critic), ("scalar", recipe.scalar))
        if part.train.lora is None
    ]
    last: dict[str, LoraConfig | Literal["fresh"] | None] = {"sft": "fresh"}
    for strategy in recipe.strategies:
        before = last[strategy.start]
        for stage in strategy.stages:
            lora = stage.train.lora
            place = f"strategies.{strategy.name}.{stage.name}.train.lora"
            if before is None and lora is not None:
                faults.append(f"{place}: the stage before trains whole weights; set it to null too")
            if (
                isinstance(before, LoraConfig)
                and lora is not None
                and (before.rank, before.alpha) != (lora.rank, lora.alpha)
            ):
                faults.append(
                    f"{place}: rank {lora.rank}, alpha {lora.alpha:g}, but it goes on training an "
                    f"adapter of rank {before.rank}, alpha {before.alpha:g}; write the same"
                )
            before = lora
        last[strategy.name] = before
    if faults:
        raise ConfigError("\n".join(faults))


def _check_rankings(recipe: Recipe) -> None:
    """Find a scorer that has nothing to learn from before the model is fine-tuned for it."""
    if recipe.corpus.rankings:
        return
    faults = [
        f"strategies.{strategy}.{stage.name}.reward: the {part} learns from ranked answers, and "
        "corpus.rankings is empty; give it rankings, or reward only `finished`"
        for strategy, stage in _stages(recipe)
        for part, weight in stage.reward.items()
        if weight and part in ("critic", "scalar")
    ]
    if judging_critic(recipe):
        faults.append(
            "benchmark.judge: the critic learns from ranked answers, and corpus.rankings is empty; "
            "give it rankings, or take another judge"
        )
    if faults:
        raise ConfigError("\n".join(faults))


def _stages(recipe: Recipe) -> Iterator[tuple[str, StageConfig]]:
    for strategy in recipe.strategies:
        for stage in strategy.stages:
            yield strategy.name, stage


def _told(step: Step, artefact: Artefact) -> list[str]:
    """What should be known of a stage before the next one takes hours."""
    if step.stage == "curate":
        from drenpa.corpus.curate import told

        return told(artefact)
    return [f"warning: {warning}" for warning in artefact.summary.get("warnings", ())]


def _titled(config: ReportConfig, name: str) -> ReportConfig:
    return config if config.title else config.model_copy(update={"title": name})


def _curate(recipe: Recipe) -> Step:
    def plan(_made: Mapping[str, Artefact]) -> Plan:
        from drenpa.corpus.curate import plan_curate

        past: list[Artefact] = []
        lost: list[str] = []
        if recipe.memory is not None and recipe.memory.past:
            past, lost = trained_on(past_memory(recipe, recipe.memory.past))
        return plan_curate(
            recipe.corpus, root=recipe.folder, seed=recipe.seed, past=past, lost=lost
        )

    return Step("curate", "curate", (), plan)


def _taught(recipe: Recipe) -> str:
    """The step whose corpus is trained: all that was curated, or what a selection left of it."""
    return "curate" if recipe.memory is None else INTERNALISED


def _remembering(recipe: Recipe) -> list[str]:
    """The trained strategies whose memory is brought up to date: those that a column recalls with,
    and the last one, which is talked to."""
    trained = ["sft", *(strategy.name for strategy in recipe.strategies)]
    wanted = {name.removesuffix(RECALL) for name in recipe.strategy_names() if RECALL in name}
    return [name for name in trained if name in wanted or name == trained[-1]]


def _memory_of(strategy: str) -> str:
    """The step whose memory a strategy answers with; that of the untrained model is the first."""
    return SELECT if strategy == "base" else f"memory-update-{strategy}"


def _probing(recipe: Recipe, name: str) -> dict[str, Any]:
    """What both memory stages are told of the recipe."""
    return {
        "name": name,
        "language": recipe.language,
        "answer_prompt": recipe.answer_prompt,
        "engine": recipe.engine,
        "root": recipe.folder,
        "seed": recipe.seed,
    }


def _select(recipe: Recipe, config: MemoryConfig) -> Step:
    def plan(made: Mapping[str, Artefact]) -> Plan:
        from drenpa.memory.cycle import plan_select, plan_update

        settings = _probing(recipe, SELECT)
        if config.past:
            past = past_memory(recipe, config.past)
            return plan_update(past, made["curate"], recipe.model, config, **settings)
        return plan_select(made["curate"], recipe.model, config, **settings)

    return Step(SELECT, "memory", ("curate",), plan, "base")


def _internalise(recipe: Recipe) -> Step:
    asked = [kind for kind in KINDS if any(stage.mix[kind] for _, stage in _stages(recipe))]

    def plan(made: Mapping[str, Artefact]) -> Plan:
        from drenpa.memory.internalise import plan_internalise

        return plan_internalise(
            made[SELECT], made["curate"], asked=asked, name=INTERNALISED, root=recipe.folder
        )

    return Step(INTERNALISED, "memory", (SELECT, "curate"), plan)


def _update(recipe: Recipe, config: MemoryConfig, strategy: str, policy: str) -> Step:
    name = _memory_of(strategy)

    def plan(made: Mapping[str, Artefact]) -> Plan:
        from drenpa.memory.cycle import plan_update

        settings = _probing(recipe, name)
        return plan_update(made[SELECT], made["curate"], made[policy], config, **settings)

    return Step(name, "memory", (SELECT, "curate", policy), plan, strategy)


def _finetune(recipe: Recipe) -> Step:
    corpus = _taught(recipe)

    def plan(made: Mapping[str, Artefact]) -> Plan:
        from drenpa.critic.lots import lots_of
        from drenpa.finetune.train import plan_finetune

        # Of all that was curated, as the scorers' training draws them.
        lots = [lots_of(made["curate"], c, recipe.seed) for c in (recipe.critic, recipe.scalar)]
        return plan_finetune(
            made[corpus],
            recipe.finetune,
            model=recipe.model,
            language=recipe.language,
            answer_prompt=recipe.answer_prompt,
            critique_prompt=recipe.critic.prompt,
            engine=recipe.engine,
            root=recipe.folder,
            seed=recipe.seed,
            watched=frozenset().union(*(lot.watched for lot in lots)),
            apart=frozenset().union(*(lot.apart for lot in lots)),
        )

    return Step("finetune", "finetune", tuple(dict.fromkeys((corpus, "curate"))), plan)


def _critic(recipe: Recipe, name: Literal["critic", "scalar"]) -> Step:
    def plan(made: Mapping[str, Artefact]) -> Plan:
        from drenpa.critic.train import plan_train_critic

        return plan_train_critic(
            made["curate"],
            made["finetune"],
            recipe.critic if name == "critic" else recipe.scalar,
            name=name,
            language=recipe.language,
            engine=recipe.engine,
            root=recipe.folder,
            seed=recipe.seed,
        )

    return Step(name, "critic", ("curate", "finetune"), plan)


def _reinforce(recipe: Recipe, strategy: str, stage: StageConfig, start: str) -> Step:
    parts = tuple(part for part, w in stage.reward.items() if w and part in ("critic", "scalar"))
    corpus = _taught(recipe)

    def plan(made: Mapping[str, Artefact]) -> Plan:
        from drenpa.critic.score import load_critic
        from drenpa.grpo.train import plan_reinforce
        from drenpa.report.watch import watch_checkpoint

        return plan_reinforce(
            made[start],
            made["finetune"],
            made[corpus],
            {part: made[part] for part in parts},
            stage,
            load_scorer=load_critic,
            strategy=strategy,
            language=recipe.language,
            answer_prompt=recipe.answer_prompt,
            engine=recipe.engine,
            root=recipe.folder,
            seed=recipe.seed,
            at_checkpoint=watch_checkpoint,
        )

    needs = dict.fromkeys((corpus, "finetune", *parts, start))
    name = f"reinforce-{strategy}-{stage.name}"
    return Step(name, "reinforce", tuple(needs), plan, strategy, stage)


def _benchmark(recipe: Recipe, name: str, answering: str | BaselineConfig) -> Step:
    """A column of the table.

    answering: the step whose policy answers, or a model from elsewhere, which needs nothing of the
               run but its corpus; empty for the recipe's model as it came.
    """
    judge = judging_critic(recipe)
    recalling = recipe.memory if name.endswith(RECALL) else None
    memory = _memory_of(name.removesuffix(RECALL))
    policy = answering if isinstance(answering, str) else ""
    maybe = (policy, *judge, memory if recalling is not None else "")
    needs = dict.fromkeys(("curate", *filter(None, maybe)))

    def plan(made: Mapping[str, Artefact]) -> Plan:
        from drenpa.critic.score import load_critic
        from drenpa.judge.bench import plan_benchmark
        from drenpa.judge.with_memory import Recall
        from drenpa.memory.lookup import open_lookup

        return plan_benchmark(
            made[policy] if policy else answering or recipe.model,
            made["curate"],
            recipe.benchmark,
            strategy=name,
            model=recipe.model,
            engine=recipe.engine,
            language=recipe.language,
            root=recipe.folder,
            seed=recipe.seed,
            critic=made["critic"] if judge else None,
            load_scorer=load_critic if judge else None,
            recall=Recall(made[memory], recalling.recall, open_lookup) if recalling else None,
        )

    return Step(f"benchmark-{name}", "benchmark", tuple(needs), plan, name)


def judging_critic(recipe: Recipe) -> tuple[Literal["critic"], ...]:
    """The critic's step, where it judges alone or on a panel."""
    judge = recipe.benchmark.judge
    return ("critic",) if "critic" in (judge.name, *(m.name for m in judge.members)) else ()


def _report(recipe: Recipe, steps: Sequence[Step]) -> Step:
    verdicts = [step.name for step in steps if step.stage == "benchmark"]
    training = [step.name for step in steps if step.stage in ("finetune", "critic", "reinforce")]

    def plan(made: Mapping[str, Artefact]) -> Plan:
        from drenpa.report.build import plan_report

        return plan_report(
            [made[name] for name in verdicts],
            {name: made[name] for name in training},
            _titled(recipe.report, recipe.name),
            name="report",
            root=recipe.folder,
        )

    return Step("report", "report", (*verdicts, *training), plan)
