"""The one training loop: supervised fine-tuning, critic and reinforcement learning all run in it.

Reinforcement learning is supervised training on a stream that the policy writes. The loop asks a
stream for each step's work, runs the micro-batches, clips, steps, logs and checkpoints, and knows
no algorithm. What it is made of is Accelerate's (processes, state, trackers), transformers'
(schedules) and PyTorch's (optimiser); it owns only their order.

A stream is deterministic in the step and the weights: all randomness is seeded from the recipe's
seed and the step. So a killed run goes on from its last checkpoint to the very weights that an
unbroken run reaches, on the same machine and cut into the same micro-batches
(`memory_bound.bounded_as_begun`).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Generic, TypeVar, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from drenpa.config import EngineConfig, TrainConfig
from drenpa.core.artefacts import SCRATCH, append_line, file_input, journal_lines, write_text
from drenpa.core.errors import ConfigError, TrainingError, did_you_mean
from drenpa.core.progress import Track, tell, track
from drenpa.core.text import brief
from drenpa.engine.adapters import matrix_precision, seed_of, trainable_parameters
from drenpa.engine.models import writing_weights

M = TypeVar("M")
Item = TypeVar("Item")
METRICS = "metrics.jsonl"
_DIGESTS = "digests.json"  # of a checkpoint's files: a damaged one is known before it is read
_UNREADABLE = (
    RuntimeError,
    ValueError,
    KeyError,
    AttributeError,
    OSError,
    UnpicklingError,
    SafetensorError,
)
_CHECKPOINTS = 2  # are kept: the older one for when the newer one is damaged


@dataclass(frozen=True)
class StepWork(Generic[M]):
    """One step's work for this process.

    micro_batches: this process's share; empty when it has none.
    metrics:       what is known before the update, over all processes.
    """

    micro_batches: Sequence[M]
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LossSum:
    """A micro-batch's part of the step's loss.

    loss:    scalar with gradient, already divided by the count of the whole step (all micro-batches
             of all processes), so that the parts add up to the step's loss.
    metrics: detached parts of step means, which likewise add up.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Trainee(nn.Module, Generic[M]):
    """A model together with its loss, as one module whose forward pass is the whole computation.

    Wrapped as a whole by data-parallel and sharded training, which see one forward pass however
    often the loss runs the model.
    """

    def __init__(
        self, model: nn.Module, loss: Callable[[nn.Module, M], LossSum], engine: EngineConfig
    ) -> None:
        super().__init__()
        self.model = model
        self._loss = loss
        self._engine = engine

    def forward(self, micro_batch: M | None) -> LossSum:
        """Return the loss of a micro-batch; of None, zero with a gradient of zero."""
        parameters = [parameter for _, parameter in trainable_parameters(self)]
        if micro_batch is None:
            return LossSum(sum((p.sum() * 0.0 for p in parameters), torch.zeros(())))
        with matrix_precision(self._engine, parameters[0].device):
            return self._loss(self.model, micro_batch)


def check_tracker(engine: EngineConfig) -> None:
    """Find, before anything is trained, that the tracker is none of Accelerate's or not installed.

    raises: ConfigError.
    """
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import LoggerType

    name, known = engine.tracker, ["none", *LoggerType.list()]
    if name not in known:
        raise ConfigError(
            f"engine.tracker: '{name}' is none of {', '.join(known)}{did_you_mean(name, known)}"
        )
    if name not in ("none", "all", *map(str, get_available_trackers())):
        raise ConfigError(
            f"engine.tracker: {name} is not installed here; pip install {name.replace('_', '-')}, "
            "or set it to tensorboard or none"
        )


def share_of_process(items: Sequence[Item]) -> list[Item]:
    """Return this process's share of a step's items: every world-size-th, from its rank on."""
    rank, world = rank_and_world()
    return list(items[rank::world])


def rank_and_world() -> tuple[int, int]:
    """Return this process's rank and how many there are, as the launcher set them."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def from_first_process(make: Callable[[], Item]) -> Item:
    """Return what `make` makes in the first process, there and in all the others.

    For what costs much and must be one and the same everywhere, such as sampled answers.
    """
    rank, world = rank_and_world()
    if world == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    made: list[Any] = [make() if rank == 0 else None]
    broadcast_object_list(made)
    return cast(Item, made[0])


def in_chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield the items in runs of at most `size`.

    >>> list(in_chunks([1, 2, 3], 2))
    [[1, 2], [3]]
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]


def train_loop(
    trainee: Trainee[M],
    stream: Callable[[int], StepWork[M] | None],
    config: TrainConfig,
    *,
    steps: int,
    folder: Path,
    engine: EngineConfig,
    seed: int,
    label: str,
    at_checkpoint: Callable[[Path, int], object] | None = None,
) -> list[dict[str, float]]:
    """Train for at most `steps` steps; return each step's metrics, which stand in `metrics.jsonl`.

    stream: gives the work of a step, or None to end here; called in order, with the weights as they
            are by then.
    folder: where metrics and, under `scratch/`, the two newest checkpoints are kept; the newest one
            that is whole is gone on from.
    at_checkpoint: called by the first process after each checkpoint, with the folder and how many
            steps were made.
    raises: TrainingError when a loss or gradient is not finite; ConfigError for a tracker that is
            not there.
    """
    from accelerate import Accelerator
    from transformers import get_scheduler

    check_tracker(engine)
    scratch = folder / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed_of(seed, label, "training"))  # apart from an adapter's first weights
    tracker = None if engine.tracker == "none" else engine.tracker
    parameters = [parameter for _, parameter in trainable_parameters(trainee)]
    if not parameters:
        raise TrainingError(f"{label}: nothing is trainable; set train.lora or train all weights")
    # Left alone, Accelerate would go to devices that drenpa does not use, such as a Mac's.
    on_cpu = parameters[0].device.type == "cpu"
    accelerator = Accelerator(cpu=on_cpu, log_with=tracker, project_dir=str(folder / "logs"))
    optimiser = torch.optim.AdamW(
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.95)
    )
    schedule = get_scheduler(
        "constant_with_warmup" if config.schedule == "constant" else config.schedule,
        optimiser,
        num_warmup_steps=round(config.warmup_share * steps),
        num_training_steps=steps,
    )
    module, prepared = accelerator.prepare(trainee, optimiser)
    accelerator.register_for_checkpointing(schedule)
    _keep_only_trainables(accelerator, trainee)
    start = _resume(accelerator, scratch, label)
    history = _history(folder / METRICS, start)
    if tracker is not None:
        accelerator.init_trackers("drenpa", config=_flat(config.model_dump()))
    shown = track(label, steps) if rank_and_world()[0] == 0 else nullcontext(Track(label, steps))
    with shown as progress:
        progress.resume_at(start)
        for step in range(start, steps):
            began = time.perf_counter()
            trainee.eval()
            work = stream(step)
            if work is None:
                break
            streamed = time.perf_counter()
            trainee.train()
            metrics = _update(
                accelerator, module, prepared, work, config, f"{label}, step {step + 1}"
            )
            metrics |= {"learning_rate": schedule.get_last_lr()[0]}
            schedule.step()
            metrics |= {
                "seconds": time.perf_counter() - began,
                "seconds_update": time.perf_counter() - streamed,
            }
            entry = {"step": step + 1, **work.metrics, **metrics}
            history.append(entry)
            if accelerator.is_main_process:
                append_line(folder / METRICS, entry)
                accelerator.log({k: v for k, v in entry.items() if k != "step"}, step=step + 1)
            if (step + 1) % config.checkpoint_every == 0 and step + 1 < steps:
                _checkpoint(accelerator, scratch, step + 1)
                if at_checkpoint is not None and accelerator.is_main_process:
                    at_checkpoint(folder, step + 1)
            progress.advance(note=f"loss {metrics['loss']:.4f}")
    trainee.eval()
    accelerator.wait_for_everyone()
    for open_tracker in accelerator.trackers:
        open_tracker.finish()
    return history


def _update(
    accelerator: Any,
    module: nn.Module,
    optimiser: Any,
    work: StepWork[M],
    config: TrainConfig,
    place: str,
) -> dict[str, float]:
    """Run one step's micro-batches and move the weights once."""
    micro_batches: list[M | None] = list(work.micro_batches) or [None]
    totals: dict[str, Tensor] = {}
    world = accelerator.num_processes
    for number, micro_batch in enumerate(micro_batches):
        last = number == len(micro_batches) - 1
        with nullcontext() if last else accelerator.no_sync(module):
            result: LossSum = module(micro_batch)
            accelerator.backward(result.loss * world)  # data parallelism averages over processes
        parts = {"loss": result.loss.detach(), **result.metrics}
        for name, value in parts.items():
            totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value.float()
    norm = accelerator.clip_grad_norm_(module.parameters(), config.max_grad_norm)
    metrics = _over_processes({name: float(value) for name, value in totals.items()})
    metrics["grad_norm"] = float(norm)
    for name in ("loss", "grad_norm"):
        if not math.isfinite(metrics[name]):
            raise TrainingError(
                f"{place}: {name} is {metrics[name]}; lower train.learning_rate or look at the "
                "rows of this step; the last checkpoint is kept"
            )
    optimiser.step()
    optimiser.zero_grad()
    return metrics


def _over_processes(parts: Mapping[str, float]) -> dict[str, float]:
    """Add metrics up over all processes, by name: one without a micro-batch knows only its loss."""
    from accelerate.utils import gather_object

    totals: dict[str, float] = {}
    for part in gather_object([dict(parts)]) if rank_and_world()[1] > 1 else [parts]:
        for name, value in part.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals


def _keep_only_trainables(accelerator: Any, trainee: nn.Module) -> None:
    """Save and load only what training changes; the frozen backbone has a folder of its own."""
    from safetensors.torch import load_file, save_file

    def save(_models: list[Any], weights: list[Any], folder: str) -> None:
        weights.clear()
        if accelerator.is_main_process:
            tensors = {n: p.detach().contiguous() for n, p in trainable_parameters(trainee)}
            save_file(tensors, Path(folder) / "trainable.safetensors")

    def load(models: list[Any], folder: str) -> None:
        models.clear()
        tensors = load_file(Path(folder) / "trainable.safetensors")
        for name, parameter in trainable_parameters(trainee):
            parameter.data.copy_(tensors[name])

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _checkpoint(accelerator: Any, scratch: Path, step: int) -> None:
    """Save the state after `step` steps, whole or not at all, and keep the one before."""
    target, part = scratch / f"checkpoint-{step:08}", scratch / "checkpoint.part"
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
    accelerator.wait_for_everyone()
    with writing_weights(part):
        accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_text(part / _DIGESTS, json.dumps(_digests(part)))
        _force_to_disk(*part.iterdir(), part)
        os.replace(part, target)
        _force_to_disk(scratch)
        for old in sorted(scratch.glob("checkpoint-*"))[:-_CHECKPOINTS]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _resume(accelerator: Any, scratch: Path, label: str) -> int:
    """Load the newest checkpoint that is whole and return how many steps it holds; 0 without one.

    What is damaged, as by a power cut, is told and thrown away.
    raises: TrainingError when a whole one cannot be read, as by another version of torch.
    """
    found = from_first_process(lambda: _newest_whole(scratch, label))
    if found is None:
        return 0
    try:
        accelerator.load_state(str(found))
    except _UNREADABLE as error:
        raise TrainingError(
            f"{label}: {found} is whole and cannot be read back ({brief(error, most=200)}); "
            f"install the torch and accelerate that wrote it, or delete {scratch} to train anew"
        ) from error
    return int(found.name.rpartition("-")[2])


def _newest_whole(scratch: Path, label: str) -> Path | None:
    for place in sorted(scratch.glob("checkpoint-*"), reverse=True):
        told = place / _DIGESTS
        # Bytes, for what a damaged disk holds need not be text.
        if told.is_file() and told.read_bytes() == json.dumps(_digests(place)).encode():
            return place
        tell(f"{label}: {place} is damaged and thrown away; training goes on from before it")
        shutil.rmtree(place)
    return None


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.name != _DIGESTS)
    return {path.name: file_input(path)["digest"] for path in files}


def _force_to_disk(*places: Path) -> None:
    for place in places:
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _history(path: Path, start: int) -> list[dict[str, float]]:
    """Keep the metrics of the steps that the checkpoint holds, and forget those after it."""
    kept = [entry for entry in journal_lines(path) if entry["step"] <= start]
    if path.is_file() and rank_and_world()[0] == 0:
        write_text(path, "".join(json.dumps(entry) + "\n" for entry in kept))
    return kept


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a config for trackers, which take plain values only."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = (
                value if isinstance(value, str | int | float | bool) else str(value)
            )
    return flat
