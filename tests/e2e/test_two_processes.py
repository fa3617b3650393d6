"""Two processes under a launcher make the update, and the artefacts, that one makes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_run import ROUND, write_tiny_run

from drenpa.core.artefacts import MANIFEST, journal_lines

LORA = {"rank": 2, "alpha": 4}
TRAIN = {"learning_rate": 0.001, "micro_batch": 1, "checkpoint_every": 3, "lora": LORA}
WEIGHTS = {
    "finetune": "model/model.safetensors",
    "critic": "model/adapter_model.safetensors",
    "reinforce-memory-main": "model/adapter_model.safetensors",
}


def recipe_of(folder: Path, model: Path) -> Path:
    """Steps whose rows two processes cannot share evenly, and a round of one group a step."""
    return write_tiny_run(
        folder,
        model,
        finetune={"batch": 5, "critique_share": 0.5, "train": TRAIN},
        critic={"batch": 3, "train": TRAIN},
        strategies=[
            {
                "name": "memory",
                "stages": [{**ROUND, "name": "main", "steps": 4, "prompts": 1, "train": TRAIN}],
            }
        ],
    )


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def launched(drenpa, *argv: object):
    """Run a command in two processes, with the environment that a launcher gives them."""
    port = free_port()
    both = [
        drenpa.start(
            *argv,
            env={
                "RANK": rank,
                "LOCAL_RANK": rank,
                "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "ACCELERATE_USE_CPU": "true",
            },
        )
        for rank in ("0", "1")
    ]
    return [one.wait() for one in both]


def finished(run: Path, stem: str) -> Path:
    (folder,) = [path.parent for path in run.glob(f"{stem}-??????????/{MANIFEST}")]
    return folder


def assert_same_weights(one: Path, two: Path) -> None:
    for stem, file in WEIGHTS.items():
        a, b = (load_file(finished(run, stem) / file) for run in (one, two))
        assert set(a) == set(b)
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5, msg=f"{stem} {name}")


def test_a_run_in_two_processes_makes_each_artefact_once_with_the_same_weights(
    drenpa, tiny_chat, tmp_path
):
    model = tiny_chat("llama")
    alone = drenpa.run("reinforce", recipe_of(tmp_path / "alone", model))
    assert alone.status == 0, alone.said

    both = launched(drenpa, "reinforce", recipe_of(tmp_path / "both", model))

    assert [one.status for one in both] == [0, 0], "\n".join(one.said for one in both)
    one, two = tmp_path / "alone" / "run", tmp_path / "both" / "run"
    assert_same_weights(one, two)
    for stem in WEIGHTS:
        pairs = [journal_lines(finished(run, stem) / "metrics.jsonl") for run in (one, two)]
        for a, b in zip(*pairs, strict=True):
            assert set(a) == set(b)
            for name in {"step", "loss", "grad_norm", "kl", "entropy", "pair_accuracy"} & set(a):
                assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-6), (stem, name)
    a, b = (
        [line["groups"] for line in journal_lines(finished(run, stem) / "samples.jsonl")]
        for run in (one, two)
    )
    assert [group["record"] for step in a for group in step] == [
        group["record"] for step in b for group in step
    ]
    assert len(b) == 4  # written by one process, not by each


LOOP = """
import sys
from pathlib import Path

import torch
from torch import nn

from drenpa.config import EngineConfig, TrainConfig
from drenpa.engine.loop import LossSum, StepWork, Trainee, share_of_process, train_loop

ENGINE = EngineConfig(device="cpu", dtype="float32", tracker="none")
ROWS = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
SIZES = [7, 1, 4, 2]  # rows of each step: seven and one are not shared evenly


def stream(step):
    rows = list(ROWS[: SIZES[step]])
    return StepWork([(row, len(rows)) for row in share_of_process(rows)])


def loss(module, micro):
    row, count = micro
    value = module(row).square().sum() / count
    return LossSum(value, {"value": value.detach()})


torch.manual_seed(1)
model = nn.Linear(5, 3)
config = TrainConfig(learning_rate=0.1, schedule="linear", warmup_share=0.5, max_grad_norm=0.5)
history = train_loop(
    Trainee(model, loss, ENGINE), stream, config,
    steps=4, folder=Path(sys.argv[1]), engine=ENGINE, seed=1, label="test",
)
from drenpa.engine.loop import rank_and_world

torch.save([model.state_dict(), history], Path(sys.argv[1]) / f"rank-{rank_and_world()[0]}.pt")
"""


def test_a_launcher_gives_the_update_of_one_process(tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(LOOP, encoding="utf-8")
    # `--multi_gpu` only says that there are several; `--cpu` would start them through MPI alone.
    accelerate = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launcher = [*accelerate, "--num_processes", "2", "--main_process_port", free_port()]
    for name, command in (("one", [sys.executable]), ("two", launcher)):
        (tmp_path / name).mkdir()
        done = subprocess.run(
            [*command, str(script), str(tmp_path / name)],
            env={**os.environ, "ACCELERATE_USE_CPU": "true"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    (alone, told), (first, told_first), (second, told_second) = (
        torch.load(tmp_path / file) for file in ("one/rank-0.pt", "two/rank-0.pt", "two/rank-1.pt")
    )
    for name in alone:
        torch.testing.assert_close(first[name], alone[name], rtol=1e-6, atol=1e-7)
        assert torch.equal(first[name], second[name])
    for a, b, c in zip(told, told_first, told_second, strict=True):
        for key in ("loss", "value", "grad_norm", "learning_rate"):
            assert b[key] == pytest.approx(a[key], rel=1e-5)
            assert c[key] == b[key]
