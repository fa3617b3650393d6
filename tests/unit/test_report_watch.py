"""The watch over reward hacking, on courses that are known."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.verdict_rows import training_artefact, verdict

from drenpa.core.artefacts import Artefact, Plan, as_input, run_plan, write_rows
from drenpa.core.errors import ArtefactError
from drenpa.core.records import Record
from drenpa.report.watch import (
    Signal,
    Watch,
    print_watch,
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


def stage(root: Path, lines: list[dict[str, float]], texts: list[str] | None = None) -> Artefact:
    """A finished stage, its start and its corpus; one sampled text for each step."""

    def corpus(folder: Path) -> dict[str, Any]:
        record = Record(id="r", kind="foundation", question="Why?", answer="Ice floats on water.")
        write_rows(folder / "records.parquet", [record])
        return {}

    def work(folder: Path) -> dict[str, Any]:
        written = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(written, encoding="utf-8")
        samples = [
            {"step": step, "groups": [{"record": "r", "answers": [{"text": text}]}]}
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


def made_of(root: Path, kind: Any, name: str, work: Any, inputs: dict[str, Any]) -> Artefact:
    return run_plan(
        Plan(kind=kind, name=name, root=root, config={}, inputs=inputs, rooms=(), work=work)
    )


def benchmark(root: Path, digest: str, name: str, scores: list[float]) -> Artefact:
    rows = [verdict(name, f"q{number}", score) for number, score in enumerate(scores)]

    def work(folder: Path) -> dict[str, Any]:
        write_rows(folder / "verdicts.parquet", rows)
        return {}

    inputs = {"policy": {"path": "gone", "digest": digest}}
    return made_of(root, "verdicts", f"benchmark-{name}", work, inputs)


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
