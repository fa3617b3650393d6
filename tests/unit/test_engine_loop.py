"""The one training loop, on a model of a few numbers."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import accelerate
import pytest
import torch
from accelerate.state import AcceleratorState
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from drenpa.config import EngineConfig, TrainConfig
from drenpa.core.artefacts import journal_lines
from drenpa.core.errors import ConfigError, TrainingError
from drenpa.engine import loop
from drenpa.engine.adapters import seed_of
from drenpa.engine.loop import (
    LossSum,
    StepWork,
    Trainee,
    from_first_process,
    in_chunks,
    share_of_process,
    train_loop,
)

ENGINE = EngineConfig(device="cpu", dtype="float32", tracker="none")
ROWS = torch.randn(12, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Line(nn.Module):
    """Rows of three numbers to one; `frozen` never changes."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, -1.0, 2.0], dtype=dtype))
        self.frozen = nn.Parameter(torch.ones(1000, dtype=dtype), requires_grad=False)

    def forward(self, rows):
        return rows @ self.weight


def squares(module, micro):
    """Mean square over the step's rows; a micro-batch is (its rows, the count of the step)."""
    rows, count = micro
    total = module(rows).square().sum() / count
    return LossSum(total, {"share": torch.tensor(len(rows) / count)})


def batches(size, *, rows=ROWS, asked=None):
    """A stream of four rows a step, cut into micro-batches."""

    def stream(step):
        if asked is not None:
            asked.append(step)
        mine = rows[(step * 4) % len(rows) :][:4]
        return StepWork([(chunk, len(mine)) for chunk in in_chunks(mine, size)])

    return stream


def train(folder, *, model=None, stream=None, loss=squares, steps=6, engine=ENGINE, **changes):
    model = model or Line()
    config = TrainConfig(
        **{"learning_rate": 0.1, "schedule": "constant", "warmup_share": 0.0, **changes}
    )
    history = train_loop(
        Trainee(model, loss, engine),
        stream or batches(4),
        config,
        steps=steps,
        folder=folder,
        engine=engine,
        seed=1,
        label="test",
    )
    return model, history


# ------------------------------------------------------------------------------------ the update


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_size_of_micro_batches_changes_nothing(tmp_path, size):
    whole, told_whole = train(tmp_path / "whole")
    cut, told_cut = train(tmp_path / "cut", stream=batches(size))

    torch.testing.assert_close(cut.weight, whole.weight, rtol=1e-12, atol=1e-12)
    for one, two in zip(told_cut, told_whole, strict=True):
        for name in ("loss", "grad_norm", "share"):
            assert one[name] == pytest.approx(two[name], rel=1e-6)


def test_one_step_of_adamw_by_hand(tmp_path):
    # One row (1, 0, 0) and the weight (0.5, -1, 2): loss 0.25, gradient (2 * 0.5, 0, 0), norm 1.
    # AdamW's first step is lr * g / (|g| + eps): 0.1 in the first place, none in the others.
    stream = batches(4, rows=torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64))

    model, history = train(tmp_path, stream=stream, steps=1)

    assert history[0]["loss"] == pytest.approx(0.25)
    assert history[0]["grad_norm"] == pytest.approx(1.0)
    assert model.weight.tolist() == pytest.approx([0.4, -1.0, 2.0])


def test_the_loss_is_a_mean_over_the_step_and_not_over_micro_batches(tmp_path):
    # Rows whose values are 1, 1, 1 and 5: the mean square is 28/4 = 7. A mean of the means of the
    # micro-batches (three rows, then one) would be 13.
    rows = torch.tensor([[2.0, 0, 0], [2.0, 0, 0], [2.0, 0, 0], [10.0, 0, 0]], dtype=torch.float64)

    _, history = train(tmp_path, stream=batches(3, rows=rows), steps=1)

    assert history[0]["loss"] == pytest.approx(7.0)
    assert history[0]["share"] == pytest.approx(1.0)


@settings(max_examples=10)
@given(limit=st.floats(0.01, 20.0))
def test_a_gradient_is_clipped_to_the_limit_and_told_as_it_was(tmp_path_factory, limit):
    folder = tmp_path_factory.mktemp("clip")
    before = Line().weight.detach()

    _, history = train(folder, steps=2, max_grad_norm=limit, checkpoint_every=1)

    # AdamW's first moment after one step is (1 - 0.9) times the gradient that it was given.
    saved = torch.load(folder / "scratch" / "checkpoint-00000001" / "optimizer.bin")
    given_ = saved["state"][0]["exp_avg"] / 0.1
    true = 2 * ROWS[:4].T @ (ROWS[:4] @ before) / 4
    assert history[0]["grad_norm"] == pytest.approx(float(true.norm()), rel=1e-6)
    expected = true * min(1.0, limit / float(true.norm()))
    torch.testing.assert_close(given_, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.0, 0.5, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        (
            "cosine",
            [0.0, 0.5] + [0.5 * (1 + math.cos(math.pi * n / 6)) for n in range(6)],
        ),
    ],
)
def test_the_learning_rate_warms_up_and_follows_its_schedule(tmp_path, schedule, rates):
    _, history = train(tmp_path, steps=8, schedule=schedule, warmup_share=0.25)

    assert [row["learning_rate"] for row in history] == pytest.approx([0.1 * r for r in rates])


def test_a_step_without_a_micro_batch_has_a_gradient_of_zero(tmp_path):
    model, history = train(tmp_path, stream=lambda step: StepWork([], {"kept": 0.0}), steps=2)

    assert model.weight.tolist() == [0.5, -1.0, 2.0]
    assert [(row["loss"], row["grad_norm"], row["kept"]) for row in history] == [
        (0.0, 0.0, 0.0)
    ] * 2


def test_a_model_with_nothing_to_train_is_refused(tmp_path):
    model = Line()
    model.weight.requires_grad_(False)

    with pytest.raises(TrainingError, match="nothing is trainable"):
        train(tmp_path, model=model)


def test_the_stream_sees_a_model_at_rest_and_the_loss_one_in_training(tmp_path):
    model, seen = Line(), []

    def stream(step):
        seen.append(("stream", model.training))
        return batches(4)(step)

    def loss(module, micro):
        seen.append(("loss", module.training))
        return squares(module, micro)

    train(tmp_path, model=model, stream=stream, loss=loss, steps=1)

    assert seen == [("stream", False), ("loss", True)]
    assert not model.training


# ------------------------------------------------------------------------------------ precision


def test_float32_weights_keep_an_update_that_bfloat16_would_lose(tmp_path):
    engine = EngineConfig(device="cpu", dtype="bfloat16", tracker="none")
    model = Line(torch.float32)
    before = model.weight.detach().clone()

    def stream(step):
        return StepWork([(ROWS[:4].float(), 4)])

    train(tmp_path, model=model, stream=stream, engine=engine, steps=1, learning_rate=1e-6)

    moved = (model.weight - before).abs()
    assert (moved > 5e-7).all()
    assert (moved < 2e-6).all()
    assert torch.equal(model.weight.bfloat16(), before.bfloat16())  # where it would have rounded


def test_matrix_work_runs_in_the_precision_of_the_engine(tmp_path):
    seen = []

    def loss(module, micro):
        value = module(micro[0])
        seen.append(value.dtype)
        return LossSum(value.float().square().sum())

    for dtype in ("bfloat16", "float32"):
        train(
            tmp_path / dtype,
            model=Line(torch.float32),
            stream=lambda step: StepWork([(ROWS[:4].float(), 4)]),
            loss=loss,
            engine=EngineConfig(device="cpu", dtype=dtype, tracker="none"),
            steps=1,
        )

    assert seen == [torch.bfloat16, torch.float32]


# ----------------------------------------------------------------------------------- checkpoints


def broken_after(steps, stream):
    """A stream that ends with an error, as a kill would."""

    def broken(step):
        if step == steps:
            raise KeyboardInterrupt
        return stream(step)

    return broken


@pytest.mark.parametrize("broken_at", [1, 3, 4, 5])
def test_a_broken_run_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path, broken_at):
    settings_ = {"checkpoint_every": 2, "schedule": "linear", "weight_decay": 0.1}
    whole, told = train(tmp_path / "whole", **settings_)
    asked = []
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stream=broken_after(broken_at, batches(4)), **settings_)

    again, told_again = train(tmp_path / "broken", stream=batches(4, asked=asked), **settings_)

    assert torch.equal(again.weight, whole.weight)
    assert asked == list(range(broken_at - broken_at % 2, 6))
    lines = list(journal_lines(tmp_path / "broken" / "metrics.jsonl"))
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines == told_again
    for one, two in zip(told, told_again, strict=True):
        for name in ("loss", "grad_norm", "learning_rate"):
            assert one[name] == two[name]


def test_random_numbers_go_on_where_the_checkpoint_left_them(tmp_path):
    def noisy(module, micro):
        rows, count = micro
        return LossSum((module(rows) * torch.rand(())).square().sum() / count)

    whole, _ = train(tmp_path / "whole", loss=noisy, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(
            tmp_path / "broken",
            loss=noisy,
            checkpoint_every=2,
            stream=broken_after(5, batches(4)),
        )
    torch.rand(17)  # whatever the next process does before
    again, _ = train(tmp_path / "broken", loss=noisy, checkpoint_every=2)

    assert torch.equal(again.weight, whole.weight)


def test_training_draws_from_another_stream_than_an_adapter_of_its_name(tmp_path):
    drawn = []

    def loss(module, micro):
        drawn.append(torch.rand(4))
        return squares(module, micro)

    train(tmp_path, loss=loss, steps=1)

    first = torch.rand(4, generator=torch.Generator().manual_seed(seed_of(1, "test")))
    assert not torch.equal(drawn[0], first)


def test_a_checkpoint_holds_what_is_trained_and_the_two_newest_are_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stream=broken_after(5, batches(4)), checkpoint_every=1)

    before, checkpoint = sorted((tmp_path / "scratch").iterdir())
    assert (before.name, checkpoint.name) == ("checkpoint-00000004", "checkpoint-00000005")
    assert list(load_file(checkpoint / "trainable.safetensors")) == ["model.weight"]
    assert sum(file.stat().st_size for file in checkpoint.rglob("*")) < 30_000


def test_a_checkpoint_that_a_kill_cut_short_is_not_gone_on_from(tmp_path):
    whole, _ = train(tmp_path / "whole", checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stream=broken_after(3, batches(4)), checkpoint_every=2)
    part = tmp_path / "broken" / "scratch" / "checkpoint.part"
    part.mkdir()
    (part / "trainable.safetensors").write_bytes(b"half")

    again, _ = train(tmp_path / "broken", checkpoint_every=2)

    assert torch.equal(again.weight, whole.weight)
    assert not part.exists()


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-40])


def emptied(file):
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("damage", [cut_short, emptied, Path.unlink])
@pytest.mark.parametrize(
    "name",
    [
        "optimizer.bin",
        "trainable.safetensors",
        "random_states_0.pkl",
        "custom_checkpoint_0.pkl",
        "digests.json",
    ],
)
def test_a_damaged_checkpoint_is_told_and_the_one_before_gone_on_from(
    tmp_path, capsys, name, damage
):
    whole, _ = train(tmp_path / "whole", checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stream=broken_after(5, batches(4)), checkpoint_every=2)
    checkpoint = tmp_path / "broken" / "scratch" / "checkpoint-00000004"
    damage(checkpoint / name)
    asked = []

    again, told = train(tmp_path / "broken", stream=batches(4, asked=asked), checkpoint_every=2)

    assert asked == [2, 3, 4, 5]
    assert torch.equal(again.weight, whole.weight)
    assert [row["step"] for row in told] == [1, 2, 3, 4, 5, 6]
    lines = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert lines == [
        f"test: {checkpoint} is damaged and thrown away; training goes on from before it"
    ]


@pytest.mark.parametrize("file", ["optimizer.bin", "trainable.safetensors"])
def test_a_checkpoint_of_another_torch_is_told_and_kept(tmp_path, file):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stream=broken_after(3, batches(4)), checkpoint_every=2)
    (checkpoint,) = (tmp_path / "scratch").glob("checkpoint-*")
    torch.save({"format": nn.Linear}, checkpoint / file)  # whole, and not what is read today
    digests = json.dumps(loop._digests(checkpoint))
    (checkpoint / loop._DIGESTS).write_text(digests)

    with pytest.raises(TrainingError, match=f"test: {checkpoint} is whole and cannot be read back"):
        train(tmp_path, checkpoint_every=2)
    assert checkpoint.is_dir()


def test_a_run_without_a_whole_checkpoint_begins_anew(tmp_path):
    whole, _ = train(tmp_path / "whole", checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", stream=broken_after(5, batches(4)), checkpoint_every=2)
    for file in (tmp_path / "broken" / "scratch").glob("*/optimizer.bin"):
        cut_short(file)
    asked = []

    again, _ = train(tmp_path / "broken", stream=batches(4, asked=asked), checkpoint_every=2)

    assert asked == list(range(6))
    assert torch.equal(again.weight, whole.weight)


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, fsync, replace = set(), os.fsync, os.replace

    def noting(handle):
        synced.add(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def naming(part, target):
        if Path(target).name == "checkpoint-00000001":
            assert {file.name for file in Path(part).iterdir()} | {"checkpoint.part"} <= synced
            synced.clear()
        replace(part, target)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(os, "replace", naming)
    train(tmp_path, steps=2, checkpoint_every=1)

    assert "scratch" in synced


# ---------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run_at_its_step(tmp_path, value):
    def loss(module, micro):
        result = squares(module, micro)
        bad = len(list(journal_lines(tmp_path / "metrics.jsonl"))) == 3
        return LossSum(result.loss * value) if bad else LossSum(result.loss)

    model = Line()
    with pytest.raises(TrainingError, match=f"^test, step 4: loss is {value}; lower train"):
        train(tmp_path, model=model, loss=loss, checkpoint_every=2)

    assert model.weight.isfinite().all()
    assert [line["step"] for line in journal_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    (checkpoint,) = (tmp_path / "scratch").iterdir()
    kept = load_file(checkpoint / "trainable.safetensors")["model.weight"]
    assert kept.isfinite().all()


def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights_move(tmp_path):
    def loss(module, micro):
        value = squares(module, micro).loss
        return LossSum(value + (module.weight.sum() * 0.0).sqrt())  # 0, with slope 0 * inf

    model = Line()
    with pytest.raises(TrainingError, match="step 1: grad_norm is nan"):
        train(tmp_path, model=model, loss=loss)

    assert model.weight.tolist() == [0.5, -1.0, 2.0]


# ------------------------------------------------------------------------------- what is written


def test_curves_for_tensorboard_are_written_by_default(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    engine = EngineConfig(device="cpu", dtype="float32")
    _, history = train(tmp_path, engine=engine, steps=3)

    events = EventAccumulator(str(tmp_path / "logs" / "drenpa")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        [row["loss"] for row in history]
    )


@pytest.mark.parametrize(
    ("tracker", "said"),
    [
        ("tensorbord", r"^engine\.tracker: 'tensorbord' is none of .* mean 'tensorboard'\?$"),
        ("comet_ml", r"^engine\.tracker: comet_ml is not installed here; pip install comet-ml, or"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused_before_anything_is_written(tmp_path, tracker, said):
    with pytest.raises(ConfigError, match=said):
        train(tmp_path / "run", engine=ENGINE.model_copy(update={"tracker": tracker}))

    assert not (tmp_path / "run").exists()


def test_no_tracker_writes_no_logs(tmp_path):
    train(tmp_path, steps=1)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "scratch"]


def test_what_a_stream_knows_is_logged_beside_what_the_update_shows(tmp_path):
    train(tmp_path, stream=lambda step: StepWork([(ROWS[:4], 4)], {"reward": 7.0}), steps=1)

    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert entry["reward"] == 7.0
    assert {"step", "loss", "grad_norm", "learning_rate", "seconds", "seconds_update"} <= set(entry)


# ------------------------------------------------------------------------------------- processes


@given(count=st.integers(0, 20), world=st.integers(1, 6))
def test_the_shares_of_all_processes_are_the_whole_step_once(count, world):
    items = list(range(count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(world))
        shares = []
        for rank in range(world):
            patch.setenv("RANK", str(rank))
            shares.append(share_of_process(items))

    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_alone_is_the_first():
    assert from_first_process(lambda: "made") == "made"


def test_training_stays_where_the_weights_are(tmp_path, monkeypatch):
    devices = []

    class Seen(accelerate.Accelerator):
        def __init__(self, **told):
            super().__init__(**told)
            devices.append(self.device)

    monkeypatch.setattr(accelerate, "Accelerator", Seen)
    monkeypatch.setattr(accelerate.state, "is_mps_available", lambda: True)  # a Mac
    AcceleratorState._reset_state(reset_partial_state=True)
    model = Line()
    try:
        train(tmp_path, model=model, engine=ENGINE.model_copy(update={"device": "auto"}), steps=1)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert devices == [model.weight.device]


def test_a_loss_over_a_folder_that_is_not_there_makes_it(tmp_path):
    train(tmp_path / "a" / "b", steps=1)

    assert Path(tmp_path / "a" / "b" / "metrics.jsonl").is_file()
