"""kill -9 in the middle of every training stage: the run goes on to the very same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny_run import ROUND, write_tiny_run

from drenpa.core.artefacts import MANIFEST, journal_lines

LORA = {"rank": 2, "alpha": 4, "dropout": 0.1}  # dropout draws from a stream that must go on too
TRAIN = {"learning_rate": 0.01, "micro_batch": 1, "checkpoint_every": 3, "lora": LORA}
WEIGHTS = {
    "finetune": "model/model.safetensors",
    "critic": "model/adapter_model.safetensors",
    "reinforce-memory-main": "model/adapter_model.safetensors",
}


def recipe_of(folder: Path, model: Path, **changes: object) -> Path:
    """Twelve steps of fine-tuning and of the critic, eight of reinforcement learning."""
    return write_tiny_run(
        folder,
        model,
        engine={"dtype": "bfloat16", "tracker": "tensorboard"},
        finetune={"batch": 3, "epochs": 2, "critique_share": 0.5, "train": TRAIN},
        critic={"batch": 1, "epochs": 2, "own_epochs": 1, "train": TRAIN},
        strategies=[
            {"name": "memory", "stages": [{**ROUND, "name": "main", "steps": 8, "train": TRAIN}]}
        ],
        **changes,
    )


def finished(run: Path, stem: str) -> Path:
    (folder,) = [path.parent for path in run.glob(f"{stem}-??????????/{MANIFEST}")]
    return folder


def newest_checkpoint(run: Path, stem: str) -> int:
    """How many steps the newest checkpoint of an unfinished stage holds; 0 without one."""
    found = run.glob(f"{stem}-*.partial/scratch/checkpoint-*")
    return max((int(path.name.rpartition("-")[2]) for path in found), default=0)


def steps_logged(run: Path, stem: str) -> list[int]:
    return [
        line["step"]
        for path in run.glob(f"{stem}-*.partial/metrics.jsonl")
        for line in journal_lines(path)
    ]


def at_a_checkpoint(run: Path, stem: str) -> bool:
    logged = steps_logged(run, stem)
    return newest_checkpoint(run, stem) >= 3 and logged[-1:] == [newest_checkpoint(run, stem)]


def between_checkpoints(run: Path, stem: str) -> bool:
    logged = steps_logged(run, stem)
    return newest_checkpoint(run, stem) >= 3 and logged[-1] > newest_checkpoint(run, stem)


def test_a_run_killed_twice_in_every_stage_ends_with_the_weights_of_an_unbroken_one(
    drenpa, tiny_chat, tmp_path
):
    model = tiny_chat("llama")
    whole = drenpa.run("reinforce", recipe_of(tmp_path / "whole", model))
    assert whole.status == 0, whole.said
    recipe, run = recipe_of(tmp_path / "broken", model), tmp_path / "broken" / "run"

    for stem in WEIGHTS:
        drenpa.start("reinforce", recipe).kill_when(lambda stem=stem: at_a_checkpoint(run, stem))
        drenpa.start("reinforce", recipe).kill_when(
            lambda stem=stem: between_checkpoints(run, stem)
        )
        assert not list(run.glob(f"{stem}-*/{MANIFEST}"))
    last = drenpa.run("reinforce", recipe)

    assert last.status == 0, last.said
    for stem, file in WEIGHTS.items():
        unbroken, broken = finished(tmp_path / "whole" / "run", stem), finished(run, stem)
        assert (broken / file).read_bytes() == (unbroken / file).read_bytes(), stem
        steps = [line["step"] for line in journal_lines(broken / "metrics.jsonl")]
        assert steps == list(range(1, len(steps) + 1))
        assert not (broken / "scratch").exists()
    unbroken, broken = (
        [line["groups"] for line in journal_lines(finished(place, stem) / "samples.jsonl")]
        for place in (tmp_path / "whole" / "run", run)
    )
    assert broken == unbroken  # every step's answers, once, and the same
    assert len(broken) == 8


@pytest.mark.slow
def test_another_process_on_another_day_trains_the_same_weights(drenpa, tiny_chat, tmp_path):
    model = tiny_chat("qwen2")
    here = drenpa.run("reinforce", recipe_of(tmp_path / "here", model))
    assert here.status == 0, here.said
    recipe = recipe_of(tmp_path / "there", model)
    there = subprocess.run(
        [sys.executable, "-c", "from drenpa.cli import main; main()", "reinforce", str(recipe)],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
    )
    assert there.returncode == 0, there.stderr
    for stem, file in WEIGHTS.items():
        one, two = (finished(tmp_path / place / "run", stem) / file for place in ("here", "there"))
        assert one.read_bytes() == two.read_bytes(), stem


@pytest.mark.slow
def test_a_kill_between_the_last_step_and_the_end_trains_no_new_answers(
    drenpa, tiny_chat, tmp_path
):
    recipe = recipe_of(tmp_path, tiny_chat("llama"))
    run, stem = tmp_path / "run", "reinforce-memory-main"

    drenpa.start("reinforce", recipe).kill_when(lambda: steps_logged(run, stem)[-1:] == [8])
    (journal,) = run.glob(f"{stem}-*.partial/samples.jsonl")
    paid = journal.read_bytes()
    outcome = drenpa.run("reinforce", recipe)

    assert outcome.status == 0, outcome.said
    assert (finished(run, stem) / "samples.jsonl").read_bytes() == paid
    assert [json.loads(line)["step"] for line in paid.splitlines()] == list(range(8))
