"""The watch over reward hacking, on courses that are known."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.verdict_rows import training_artefact, verdict

from drenpa.commands.watch import watch_with_judge
from drenpa.config import Recipe
from drenpa.core.artefacts import Artefact, Plan, as_input, run_plan, write_rows
from drenpa.core.errors import ArtefactError, ConfigError
from drenpa.core.records import Record
from drenpa.report.watch import (
    RewardAlarm,
    Sampled,
    Signal,
    Watch,
    print_watch,
    watch_checkpoint,
    watch_folder,
    watch_json,
    watch_stage,
    watch_stages,
)


def course(first: float, last: float, noise: float, steps: int = 24) -> list[float]:
    generator = np.random.default_rng(1)
    return [float(x) for x in np.linspace(first, last, steps) + generator.normal(0, noise, steps)]


def metrics(**courses: list[float]) -> list[dict[str, float]]:
    names = list(courses)
    return [
        {"step": step, **dict(zip(names, values, strict=True))}
        for step, values in enumerate(zip(*courses.values(), strict=True), start=1)
    ]


RECORD = Record(id="r", kind="foundation", question="Why?", answer="Ice floats on water.")


def stage(
    root: Path,
    lines: list[dict[str, float]],
    texts: list[str] | None = None,
    record: Record = RECORD,
) -> Artefact:
    """A finished stage, its start and its corpus; one sampled text for each step."""

    def corpus(folder: Path) -> dict[str, Any]:
        write_rows(folder / "records.parquet", [record])
        return {}

    def work(folder: Path) -> dict[str, Any]:
        written = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(written, encoding="utf-8")
        samples = [
            {
                "step": step,
                "groups": [
                    {
                        "record": "r",
                        "question": record.question,
                        "answers": [{"text": text, "finish": "stop"}],
                    }
                ],
            }
            for step, text in enumerate(texts or [])
        ]
        written = "".join(json.dumps(line) + "\n" for line in samples)
        (folder / "samples.jsonl").write_text(written, encoding="utf-8")
        (folder / "weights").write_text("after", encoding="utf-8")
        return {}

    made = made_of(root, "corpus", "corpus", corpus, {})
    start = training_artefact(root, "finetune", [])
    inputs = {"corpus": as_input(made), "start": as_input(start)}
    return made_of(root, "policy", "reinforce-x", work, inputs)


def made_of(
    root: Path, kind: Any, name: str, work: Any, inputs: dict[str, Any], **config: Any
) -> Artefact:
    return run_plan(
        Plan(kind=kind, name=name, root=root, config=config, inputs=inputs, rooms=(), work=work)
    )


def benchmark(
    root: Path, digest: str, name: str, scores: list[float], judge: str = "ann", **config: Any
) -> Artefact:
    rows = [verdict(name, f"q{number}", score, judge=judge) for number, score in enumerate(scores)]

    def work(folder: Path) -> dict[str, Any]:
        write_rows(folder / "verdicts.parquet", rows)
        return {}

    inputs = {"policy": {"path": "gone", "digest": digest}}
    return made_of(
        root, "verdicts", f"benchmark-{name}", work, inputs, strategy=name, judge=judge, **config
    )


# docs/results.md: reward .37 → 3.72, tokens 50 → 64, cut off .41 → .99 over 24 steps.
HACKED = metrics(
    reward=course(0.37, 3.72, 0.3), length=course(50, 64, 1), truncated=course(0.41, 0.99, 0.05)
)


def test_a_reward_that_rises_with_answers_cut_off_raises_an_alarm(tmp_path: Path) -> None:
    found = watch_stage("grpo", stage(tmp_path, HACKED))
    assert found.alarm
    assert "ALARM" in found.note
    assert "share cut off rose" in found.note
    assert "nothing independent" in found.note


def test_a_reward_that_rises_with_an_independent_figure_raises_none(tmp_path: Path) -> None:
    texts = ["No idea at all, friend."] * 12 + ["Ice floats on water."] * 12
    found = watch_stage("grpo", stage(tmp_path, HACKED, texts))
    assert not found.alarm
    assert "likeness to the references rose" in found.note


def test_a_reward_that_rises_while_likeness_falls_raises_an_alarm(tmp_path: Path) -> None:
    lines = metrics(reward=course(0, 3, 0.2))
    texts = ["Ice floats on water."] * 12 + ["No idea at all, friend."] * 12
    assert watch_stage("grpo", stage(tmp_path, lines, texts)).alarm


def test_a_reward_that_does_not_rise_raises_none(tmp_path: Path) -> None:
    lines = metrics(reward=course(1, 1, 0.3), truncated=course(0.1, 0.9, 0.05))
    found = watch_stage("grpo", stage(tmp_path, lines))
    assert not found.alarm
    assert "reward did not move" in found.note


@pytest.mark.parametrize(("gain", "alarm"), [(0.4, False), (0.0, True), (-0.3, True)])
def test_an_independent_judge_before_and_after_decides(
    tmp_path: Path, gain: float, alarm: bool
) -> None:
    policy = stage(tmp_path, metrics(reward=course(0, 3, 0.2)))
    before = [0.6 + 0.1 * (number % 5) for number in range(20)]
    after = [score + gain + 0.05 * (n % 3 - 1) for n, score in enumerate(before)]
    verdicts = [
        benchmark(tmp_path, policy.inputs["start"]["digest"], "sft", before),
        benchmark(tmp_path, policy.digest, "x", after),
    ]
    (found,) = watch_stages({"x": policy}, verdicts)
    assert found.alarm is alarm
    assert any(signal.name == "benchmark, %" for signal in found.signals)


LOW = [0.6 + 0.1 * (number % 5) for number in range(20)]
SAME = [score + 0.05 * (number % 3 - 1) for number, score in enumerate(LOW)]
HIGH = [score + 0.5 for score in SAME]
FELL = [score - 0.5 for score in SAME]


@pytest.fixture
def rising(tmp_path: Path) -> Artefact:
    return stage(tmp_path, metrics(reward=course(0, 3, 0.2)))


def started(policy: Artefact) -> str:
    return policy.inputs["start"]["digest"]


def test_what_the_memory_adds_to_the_answers_is_no_gain_of_the_policy(
    tmp_path: Path, rising: Artefact
) -> None:
    verdicts = [
        benchmark(tmp_path, started(rising), "sft", LOW),
        benchmark(tmp_path, rising.digest, "x", SAME),
        benchmark(tmp_path, rising.digest, "x+recall", HIGH, recall={"passages": 3}),
    ]
    (found,) = watch_stages({"x": rising}, verdicts)
    assert found.alarm
    assert "benchmark, % did not move" in found.note


@pytest.mark.parametrize("name", ["critic judges its own pupil", "critic, ann"])
def test_a_benchmark_by_the_critic_beside_another_decides_nothing(
    tmp_path: Path, rising: Artefact, name: str
) -> None:
    benchmark(tmp_path, started(rising), "sft", LOW)
    benchmark(tmp_path, rising.digest, "x", SAME)
    benchmark(tmp_path, started(rising), "sft", LOW, judge=name)
    benchmark(tmp_path, rising.digest, "x", HIGH, judge=name)
    (found,) = watch_folder(tmp_path)
    assert found.alarm
    assert "benchmark, % did not move" in found.note


def test_two_judges_are_not_compared_with_each_other(tmp_path: Path, rising: Artefact) -> None:
    verdicts = [
        benchmark(tmp_path, started(rising), "sft", LOW, judge="strict"),
        benchmark(tmp_path, rising.digest, "x", HIGH, judge="kind"),
    ]
    (found,) = watch_stages({"x": rising}, verdicts)
    assert not any(signal.name == "benchmark, %" for signal in found.signals)
    verdicts.append(benchmark(tmp_path, rising.digest, "x", FELL, judge="strict"))
    (found,) = watch_stages({"x": rising}, verdicts)
    assert "benchmark, % fell" in found.note


def test_of_a_column_benchmarked_twice_the_newer_counts(tmp_path: Path, rising: Artefact) -> None:
    before = benchmark(tmp_path, started(rising), "sft", LOW)
    older, newer = (
        replace(benchmark(tmp_path, rising.digest, "x", scores, items=n), created=f"2026-0{n}-01")
        for n, scores in ((1, HIGH), (2, FELL))
    )
    (found,) = watch_stages({"x": rising}, [newer, older, before])
    assert "benchmark, % fell" in found.note


def test_loops_in_the_sampled_answers_are_a_sign(tmp_path: Path) -> None:
    loop = "go on and on now " * 8
    texts = ["A short and honest answer."] * 8 + [loop] * 16
    found = watch_stage("x", stage(tmp_path, metrics(reward=course(0, 3, 0.2)), texts))
    assert [signal.name for signal in found.signs] == ["share in loops"]
    assert found.alarm


def test_few_steps_are_not_judged(tmp_path: Path) -> None:
    found = watch_stage("x", stage(tmp_path, HACKED[:5]))
    assert not found.alarm
    assert "too few" in found.note


def test_noise_alone_rings_about_once_in_forty() -> None:
    from drenpa.report.watch import _over_thirds

    generator = np.random.default_rng(2)
    rung = sum(
        _over_thirds("reward", "reward", generator.normal(0, 1, 24).tolist()).course == "up"
        for _ in range(1000)
    )
    assert 10 <= rung <= 45


def test_a_stage_that_still_trains_is_watched_by_its_folder(tmp_path: Path) -> None:
    stage(tmp_path, HACKED)  # the corpus beside it
    folder = tmp_path / "reinforce-y-0123456789.partial"
    folder.mkdir()
    written = "".join(json.dumps(line) + "\n" for line in HACKED)
    (folder / "metrics.jsonl").write_text(written + '{"step": 25, "rew', encoding="utf-8")
    found = watch_folder(tmp_path)
    assert [watch.stage for watch in found] == ["reinforce-x", folder.name]
    assert watch_folder(folder)[0].steps == 24
    assert watch_folder(folder)[0].alarm


def test_a_folder_without_a_reward_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no stage of reinforcement learning"):
        watch_folder(tmp_path)


def test_the_alarm_is_printed_and_told_as_json() -> None:
    reward = Signal("reward", "reward", 0, 3, 2.5, 3.5)
    flat = Signal("benchmark, %", "independent", 50, 50, -2, 2)
    watch = Watch("grpo", 24, (reward, flat))
    text = io.StringIO()
    print_watch([watch], Console(file=text, width=120))
    assert "grpo: ALARM, the reward rises alone: reward rose (0 to 3); benchmark, %" in (
        text.getvalue()
    )
    (told,) = json.loads(watch_json([watch]))
    assert told["alarm"]
    assert told["signals"][1]["course"] == "level"


def test_what_a_judge_says_of_the_samples_is_independent_of_the_reward(tmp_path: Path) -> None:
    texts = [f"answer {step}" for step in range(24)]
    made = stage(tmp_path, metrics(reward=course(0, 4, 0.3)), texts)
    asked: list[Sampled] = []

    def rising(answers: Sequence[Sampled]) -> list[float]:
        asked.extend(answers)
        return [2.0 * int(one.answer.split()[1]) for one in answers]

    def level(answers: Sequence[Sampled]) -> list[float]:
        return [50.0 + place % 2 for place, _ in enumerate(answers)]

    def silent(answers: Sequence[Sampled]) -> list[float]:
        return [math.nan] * len(answers)

    for judge, alarm in ((rising, False), (level, True)):
        found = watch_stage("s", made, ask_judge=judge)
        (signal,) = (s for s in found.signals if s.name == "judge, %")
        assert signal.role == "independent"
        assert found.alarm is alarm
    assert not [s for s in watch_stage("s", made, ask_judge=silent).signals if "judge" in s.name]
    # four of the first eight steps and four of the last eight
    assert [int(one.answer.split()[1]) for one in asked] == [0, 2, 5, 7, 16, 18, 21, 23]
    assert asked[0] == Sampled("Why?", "answer 0", "stop", "Ice floats on water.", "en")


def test_at_a_checkpoint_the_alarm_is_written_down_and_rings_once(tmp_path: Path) -> None:
    courses = metrics(reward=course(0, 4, 0.3), truncated=course(0, 0.8, 0.05))
    lines = [json.dumps(line) + "\n" for line in courses]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(lines[:4]), encoding="utf-8")
    assert not watch_checkpoint(tmp_path, 4).alarm  # too early to tell
    file.write_text("".join(lines[:16]), encoding="utf-8")
    with pytest.warns(RewardAlarm, match="step 16: .*ALARM"):
        watch_checkpoint(tmp_path, 16)
    file.write_text("".join(lines), encoding="utf-8")
    assert watch_checkpoint(tmp_path, 24).alarm
    told = [json.loads(line) for line in (tmp_path / "watch.jsonl").read_text().splitlines()]
    assert [(line["step"], line["alarm"]) for line in told] == [(4, False), (16, True), (24, True)]


def test_a_recipes_judge_looks_at_the_samples_unless_it_is_the_reward_itself(
    tmp_path: Path,
) -> None:
    texts = ["Ice floats."] * 12 + ["Ice floats on water."] * 12
    made = stage(tmp_path, metrics(reward=course(0, 4, 0.3)), texts)
    settings = {"name": "w", "out": str(tmp_path), "benchmark": {"judge": {"name": "reference"}}}
    (found,) = watch_with_judge(made.path, Recipe.model_validate(settings))
    (signal,) = (s for s in found.signals if s.name == "judge, %")
    assert signal.first < signal.last == 100
    assert not found.alarm
    settings["benchmark"] = {"judge": {"name": "critic"}}
    with pytest.raises(ConfigError, match="critic cannot watch"):
        watch_with_judge(made.path, Recipe.model_validate(settings))


def test_a_recipes_judge_judges_each_answer_in_the_language_of_its_record(tmp_path: Path) -> None:
    answer = "因为冰的密度比水小，所以浮在水面上。"
    record = Record(
        id="r", kind="foundation", language="zh", question="冰为什么浮在水上？", answer=answer
    )
    made = stage(tmp_path, metrics(reward=course(0, 4, 0.3)), [answer] * 24, record)
    asked: list[Sampled] = []

    def ask(answers: Sequence[Sampled]) -> list[float]:
        asked.extend(answers)
        return [math.nan] * len(answers)

    watch_folder(made.path, ask)
    assert {one.language for one in asked} == {"zh"}
    # An English recipe; `rules` scores only what breaks one, and Chinese to a Chinese question does
    # not.
    settings = {"name": "w", "out": str(tmp_path), "benchmark": {"judge": {"name": "rules"}}}
    (found,) = watch_with_judge(made.path, Recipe.model_validate(settings))
    assert not [signal for signal in found.signals if signal.name == "judge, %"]
