"""inspect_ai (the UK AI Security Institute's harness): task, scorer, metric, and logs both ways.

Inspect finds these by the package's entry point: `inspect eval drenpa/benchmark -T folder=…`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalSample,
    EvalSpec,
    read_eval_log,
    recompute_metrics,
    write_eval_log,
)
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
)
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState, generate

from drenpa.adapters.bench_folder import open_bench
from drenpa.adapters.scoring import Mark, Marker, row, scores_of
from drenpa.core.artefacts import Artefact
from drenpa.core.errors import DataError
from drenpa.core.knowledge import DIMENSIONS, KINDS
from drenpa.core.records import Verdict
from drenpa.core.roles import Finish
from drenpa.judge.answers import Answer
from drenpa.judge.ladder import members_of

SCORER = "five_dimensions"
_MARK, _LIMIT = "mark", "max_unscored"


@task
def benchmark(folder: str) -> Task:
    """Ask the questions of a bench folder and let its judge score the answers.

    folder: what `drenpa adapter write` wrote.
    """
    bench = open_bench(folder)
    settings = bench.settings
    samples = [
        Sample(
            id=item.id,
            input=[
                ChatMessageSystem(content=settings.instruction),
                ChatMessageUser(content=item.question),
            ],
            metadata={"kind": item.kind, "language": item.language, "source": item.source},
        )
        for item in bench.items.values()
    ]
    return Task(
        name=settings.name,
        dataset=MemoryDataset(samples, name=settings.name),
        solver=generate(),
        scorer=five_dimensions(folder),
        epochs=Epochs(settings.samples, "mean"),
        config=GenerateConfig(max_tokens=settings.max_new_tokens, temperature=settings.temperature),
    )


@metric(scores="unreduced")
def cells() -> Metric:
    """The cells of every kind, over all epochs, with the mean of the five and what is unscored."""

    def figures(scores: list[SampleScore]) -> dict[str, float]:
        told: dict[str, float] = {}
        for kind in KINDS:
            chosen = [score for score in scores if (score.sample_metadata or {})["kind"] == kind]
            if not chosen:
                continue
            found = [score.score.metadata for score in chosen]
            marks = [Mark.from_json(entry[_MARK]) for entry in found]
            items = {mark.item: [m for m in marks if m.item == mark.item] for mark in marks}
            made = row([scores_of(item) for item in items.values()], found[0][_LIMIT])
            told |= {f"{kind} {name}": value for name, value in made.items()}
            told[f"{kind} unscored"] = sum(bool(mark.unscored) for mark in marks)
        return told

    return figures


@scorer(metrics=[cells()])
def five_dimensions(folder: str) -> Scorer:
    """Score an answer with the judge that a bench folder names.

    The judges are loaded with the first answer; only endpoints judge several answers at a time.
    """
    bench = open_bench(folder)
    config = bench.settings.judge
    networked = all(member.name == "openai" for member in members_of(config))
    markers: list[Marker] = []
    loading = anyio.Lock()
    at_once = anyio.CapacityLimiter(config.concurrency if networked else 1)

    async def score(state: TaskState, target: Target) -> Score:  # noqa: ARG001
        async with loading:
            if not markers:
                markers.append(await anyio.to_thread.run_sync(Marker, bench))
        answer = Answer(
            str(state.sample_id), state.epoch - 1, state.output.completion, _finish(state.output)
        )
        judging = partial(markers[0].mark, [answer], show=False)
        (mark,) = await anyio.to_thread.run_sync(judging, limiter=at_once)
        return _score(mark, config.max_unscored)

    return score


def read_log(path: Path) -> list[Mark]:
    """Return the marks in a log, of Inspect's either format.

    raises: DataError when a sample of the log was not scored by `five_dimensions`.
    """
    log = read_eval_log(str(path), resolve_attachments=True)
    marks = []
    for sample in log.samples or []:
        found = next(
            (
                (score.metadata or {}).get(_MARK)
                for name, score in (sample.scores or {}).items()
                if name.rpartition("/")[2] == SCORER
            ),
            None,
        )
        if found is None:
            raise DataError(
                f"{path}: sample '{sample.id}', epoch {sample.epoch}, has no score of {SCORER}; "
                f"`inspect eval-retry` runs what failed, `inspect score --scorer drenpa/{SCORER}` "
                "judges what was only answered"
            )
        marks.append(Mark.from_json(found))
    return marks


def write_log(verdicts: Artefact, path: Path, *, max_unscored: float = 1.0) -> Path:
    """Write a benchmark's verdicts as a log, for `inspect view` and Inspect's own analysis.

    References stay out of it.
    """
    rows = verdicts.rows("verdicts", Verdict)
    config = verdicts.config
    instruction = str(config.get("instruction", ""))
    log = EvalLog(
        status="success",
        eval=EvalSpec(
            created=verdicts.created,
            task=f"drenpa/{verdicts.name}",
            task_args={"strategy": config.get("strategy"), "seed": config.get("seed")},
            dataset=EvalDataset(
                name=verdicts.name,
                samples=len({verdict.item for verdict in rows}),
                sample_ids=sorted({verdict.item for verdict in rows}),
            ),
            model=f"drenpa/{rows[0].model}" if rows else "drenpa/none",
            config=EvalConfig(
                epochs=1 + max((verdict.sample for verdict in rows), default=0),
                epochs_reducer=["mean"],
            ),
            packages={"drenpa": verdicts.version},
            metadata={"judge": verdicts.summary.get("judge", ""), "key": verdicts.key},
            scorers=[{"name": SCORER, "metrics": [{"name": "drenpa/cells"}]}],
        ),
        samples=[_sample(verdict, instruction, max_unscored) for verdict in rows],
    )
    recompute_metrics(log)
    write_eval_log(log, str(path))
    return path


def _sample(verdict: Verdict, instruction: str, max_unscored: float) -> EvalSample:
    asked: Sequence[Any] = [
        *([ChatMessageSystem(content=instruction)] if instruction else []),
        ChatMessageUser(content=verdict.question),
    ]
    mark = Mark(
        verdict.item,
        verdict.sample,
        verdict.model_answer,
        verdict.finish,
        verdict.judge,
        verdict.scores,
        verdict.thoughts,
        verdict.unscored,
    )
    return EvalSample(
        id=verdict.item,
        epoch=verdict.sample + 1,
        input=list(asked),
        target="",
        messages=[*asked, ChatMessageAssistant(content=verdict.model_answer)],
        output=ModelOutput.from_content(
            verdict.model,
            verdict.model_answer,
            stop_reason="max_tokens" if verdict.finish == "length" else "stop",
        ),
        scores={SCORER: _score(mark, max_unscored)},
        metadata={
            "kind": verdict.kind,
            "language": verdict.language,
            "source": verdict.cluster,
        },
    )


def _score(mark: Mark, max_unscored: float) -> Score:
    """A mark as Inspect's score: a dimension that is unscored is NaN, as Inspect has it."""
    return Score(
        value={name: mark.scores.get(name, math.nan) for name in DIMENSIONS},
        answer=mark.answer,
        explanation=mark.thoughts,
        reason="grader_failed" if mark.unscored else None,
        metadata={_MARK: mark.as_json(), _LIMIT: max_unscored},
    )


def _finish(output: ModelOutput) -> Finish:
    return "length" if output.stop_reason in ("max_tokens", "model_length") else "stop"
