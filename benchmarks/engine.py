"""Shared prefixes against what users have today: `python benchmarks/engine.py --model FOLDER`.

Each row names what was done and the ratio of the peer's process CPU seconds to drenpa's (more is
better): both sides do the same work in one process, take turns, and the median of the rounds
counts. Wall time stands beside it, and means little on a machine that others use. Peak memory is
what a side added to the process while it ran.

With `--device cuda` wall seconds count, the device waited for, and peak memory is the device's.
Speed does not ask what weights say: a `--model` of SHAPED has random ones and is not fetched.

decode   one sampled continuation per row                    vs `generate`
update   log-probabilities of completions, forward and back  vs a padded batch, head on completions
critic   a critique and the state its score is read at       vs `generate`, then a second forward
adapted  the first two under a low-rank adapter              vs the same with peft's own layers
step     a whole step of reinforcement learning              vs TRL's GRPOTrainer; see `step.py`

Beside a decode row stands the physical limit: the seconds of its matrix products alone, done in
a row with no attention weights, norms, sampling or Python between them; and on a GPU how many times
as long it takes without recorded steps.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from step import Shape, has_trl, step_ratio
from step import line as step_line
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, Qwen2Config

from drenpa.config import EngineConfig, LoraConfig
from drenpa.core.roles import Sampling
from drenpa.engine.adapters import add_adapter, matrix_precision
from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.models import pick_device, pick_dtype, resolve_model
from drenpa.engine.prefix import PrefixGroup, suffix_states
from drenpa.engine.sample import sample

SHAPED: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
    },
    "qwen2.5-3b": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
    },
}
MATRIX_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
PAGE = 4096


@dataclass(frozen=True)
class Side:
    """Medians of one side: process CPU seconds, wall seconds, megabytes added at the peak."""

    cpu: float
    wall: float
    peak_mb: float


def measure(work: Callable[[], Any], device: torch.device) -> Side:
    gc.collect()
    return (_measure_gpu if device.type == "cuda" else _measure_cpu)(work)


def _measure_gpu(work: Callable[[], Any]) -> Side:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    torch.cuda.synchronize()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Side(cpu, wall, (torch.cuda.max_memory_allocated() - before) / 1e6)


def _measure_cpu(work: Callable[[], Any]) -> Side:
    # Otherwise the peak would hide in memory that earlier work freed and the process still holds.
    ctypes.CDLL(None).malloc_trim(0)
    before, peak, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], resident() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    done.set()
    watcher.join()
    return Side(cpu, wall, peak[0] / 1e6)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def duel(
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    rounds: int,
    device: torch.device,
    warm_up: bool = False,
) -> dict[str, Any]:
    """Let both sides take turns; return the ratio and the medians."""
    sides: dict[str, list[Side]] = {"drenpa": [], "peer": []}
    for turn in range(-warm_up, rounds):
        order = [("drenpa", ours), ("peer", peer)]
        for name, work in order if turn % 2 == 0 else order[::-1]:
            side = measure(work, device)
            if turn >= 0:
                sides[name].append(side)
    middle = {
        name: Side(*(statistics.median(column) for column in zip(*map(_values, runs), strict=True)))
        for name, runs in sides.items()
    }
    ratio = seconds(middle["peer"], device) / seconds(middle["drenpa"], device)
    return {"ratio": ratio, **{name: asdict(side) for name, side in middle.items()}}


def seconds(side: Side, device: torch.device) -> float:
    """What counts: a processor may be shared, a GPU is waited for."""
    return side.wall if device.type == "cuda" else side.cpu


def _values(side: Side) -> tuple[float, float, float]:
    return side.cpu, side.wall, side.peak_mb


def matmul_share(work: Callable[[], Any], device: torch.device) -> float:
    """Return the share of matrix products in the time that operators take."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as trace:
        work()
    rows = trace.key_averages()
    took = {
        row.key: row.self_device_time_total if on_gpu else row.self_cpu_time_total for row in rows
    }
    return sum(took.get(key, 0.0) for key in MATRIX_PRODUCTS) / sum(took.values())


def products_seconds(model: Any, prompts: int, prompt: int, rows: int, new: int) -> float:
    """Return the seconds of the matrix products of a decode: prompts once, then `new` tokens.

    The products with the rows' own keys and values are taken at their mean length.
    """
    config, head = model.config, model.get_output_embeddings()
    linears = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    kinds = {(m.in_features, m.out_features) for m in [*linears, head]}
    width = config.hidden_size // config.num_attention_heads
    kv = config.num_key_value_heads
    share = config.num_attention_heads // kv

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=model.dtype, device=model.device)

    given = {(i, n): random(n, i) for i, _ in kinds for n in (rows, prompts * prompt)}
    group = rows // prompts
    queries = random(prompts * kv, group * share, width)
    keys, values = random(prompts * kv, width, prompt), random(prompts * kv, prompt, width)
    on_prefix = random(prompts * kv, group * share, prompt)
    one = random(rows * kv, share, width)
    own_keys, own_values = random(rows * kv, width, new // 2), random(rows * kv, new // 2, width)
    on_own = random(rows * kv, share, new // 2)

    def products() -> None:
        for linear in linears:
            nn.functional.linear(given[linear.in_features, prompts * prompt], linear.weight)
        for _ in range(new):
            for linear in [*linears, head]:
                nn.functional.linear(given[linear.in_features, rows], linear.weight)
            for _ in range(config.num_hidden_layers):
                torch.bmm(queries, keys)
                torch.bmm(one, own_keys)
                torch.bmm(on_prefix, values)
                torch.bmm(on_own, own_values)

    with torch.no_grad():
        return seconds(measure(products, model.device), model.device)


class Bench:
    def __init__(self, model: Any, rounds: int) -> None:
        self.model = model
        self.rounds = rounds
        self.device: torch.device = model.device
        self.random = torch.Generator().manual_seed(0)

    def tokens(self, count: int) -> tuple[int, ...]:
        high = self.model.config.vocab_size - 1
        return tuple(torch.randint(10, high, (count,), generator=self.random).tolist())

    def groups(self, rows: int, group: int, prompt: int) -> list[PrefixGroup]:
        prompts = [self.tokens(prompt) for _ in range(rows // group)]
        return [PrefixGroup(ids[:-1], (ids[-1:],) * group) for ids in prompts]

    def generate(self, groups: list[PrefixGroup], new: int) -> Tensor:
        rows = [g.prefix + s for g in groups for s in g.suffixes]
        ids = torch.tensor(rows, device=self.device)
        with torch.no_grad():
            return self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                pad_token_id=0,
            )

    def decode(self, prompt: int, rows: int, new: int) -> dict[str, Any]:
        groups = self.groups(rows, 8, prompt)

        def ours(new: int = new, *, recorded: bool = True) -> None:
            sampling = Sampling(max_new_tokens=new)
            told = {"max_rows": rows, "cuda_graphs": recorded}
            sample(self.model, groups, sampling, stop_ids=[], **told)

        self.generate(groups, 2)  # both sides come to the clock warm
        share = matmul_share(lambda: ours(min(new, 16), recorded=False), self.device)
        found = duel(ours, lambda: self.generate(groups, new), self.rounds, self.device)
        if self.device.type == "cuda":
            found["recording_ratio"] = duel(
                ours, lambda: ours(recorded=False), self.rounds, self.device
            )["ratio"]
        limit = statistics.median(
            products_seconds(self.model, len(groups), prompt, rows, new) for _ in range(self.rounds)
        )
        shape = {"prompt": prompt, "rows": rows, "new": new}
        return {**shape, "matmul_share": share, "limit": limit, **found}

    def update(self, prompt: int, group: int, completion: int) -> dict[str, Any]:
        ids = self.tokens(prompt)
        rows = tuple((ids[-1], *self.tokens(completion)) for _ in range(group))
        shared = [PrefixGroup(ids[:-1], rows)]
        padded = torch.tensor([ids[:-1] + row for row in rows], device=self.device)

        def ours() -> None:
            states = suffix_states(self.model, shared)
            next_token_logprobs(self.model, states).logprobs_NT.mean().backward()
            self.model.zero_grad()

        def peer() -> None:
            hidden = self.model.model(input_ids=padded, use_cache=False).last_hidden_state
            logits = self.model.lm_head(hidden[:, prompt - 1 : -1])
            chosen = logits.float().log_softmax(-1).gather(2, padded[:, prompt:, None])
            chosen.mean().backward()
            self.model.zero_grad()

        found = duel(ours, peer, self.rounds, self.device, warm_up=True)
        return {"prompt": prompt, "group": group, "completion": completion, **found}

    def critic(self, prompt: int, rows: int, answer: int, critique: int) -> dict[str, Any]:
        groups = [
            PrefixGroup(self.tokens(prompt), tuple(self.tokens(answer) for _ in range(8)))
            for _ in range(rows // 8)
        ]
        close = 2
        self.generate(groups, 2)  # both sides come to the clock warm
        sample(self.model, groups, Sampling(max_new_tokens=2), stop_ids=[], close_id=close)
        sampling = Sampling(max_new_tokens=critique)

        def peer() -> None:
            written = self.generate(groups, critique)
            closed = torch.cat([written, torch.full_like(written[:, :1], close)], dim=1)
            with torch.no_grad():
                self.model.model(input_ids=closed, use_cache=False)

        found = duel(
            lambda: sample(self.model, groups, sampling, stop_ids=[], close_id=close),
            peer,
            self.rounds,
            self.device,
        )
        shape = {"prompt": prompt, "rows": rows, "answer": answer, "critique": critique}
        return {**shape, **found}

    def adapted(self, prompt: int, rows: int, new: int) -> dict[str, Any]:
        dtype = str(self.model.dtype).removeprefix("torch.")
        engine = EngineConfig(device=self.device.type, dtype=dtype, tracker="none")
        lora = LoraConfig(rank=16, alpha=32)
        model = add_adapter(copy.deepcopy(self.model), lora, "policy", seed=1)
        layers = [layer for layer in model.modules() if "forward" in vars(layer)]
        ours = [layer.forward for layer in layers]
        groups = self.groups(rows, 8, prompt)
        answers = [
            PrefixGroup(g.prefix, tuple((*s, *self.tokens(new)) for s in g.suffixes))
            for g in groups[: max(1, len(groups) // 2)]
        ]

        def decode() -> None:
            with matrix_precision(engine, self.device):
                sample(model, groups, Sampling(max_new_tokens=new), stop_ids=[], max_rows=rows)

        def update() -> None:
            with matrix_precision(engine, self.device):
                states = suffix_states(model, answers)
                next_token_logprobs(model, states).logprobs_NT.mean().backward()
            model.zero_grad()

        def with_peft(work: Callable[[], None]) -> Callable[[], None]:
            def peer() -> None:
                for layer in layers:
                    del layer.forward
                work()
                for layer, forward in zip(layers, ours, strict=True):
                    layer.forward = forward

            return peer

        decoded = duel(decode, with_peft(decode), self.rounds, self.device, warm_up=True)
        updated = duel(update, with_peft(update), self.rounds, self.device, warm_up=True)
        shape = {"prompt": prompt, "rows": rows, "new": new}
        return {**shape, **decoded, "update": updated}


SHAPES: dict[str, list[tuple[int, ...]]] = {
    "decode": [(p, n, 64) for p in (64, 128, 256, 512) for n in (8, 32, 64)],
    "update": [(64, 8, 64), (128, 8, 64), (256, 8, 64), (128, 4, 64), (128, 16, 64), (128, 8, 128)],
    "critic": [(192, 8, 64, 64), (192, 32, 64, 64), (320, 32, 128, 64)],
    "adapted": [(128, 32, 64)],
    # prompt; whether activations are computed again going back, as is TRL's default
    "step": [(128, 0), (256, 0), (128, 1), (256, 1)],
}
QUICK: dict[str, list[tuple[int, ...]]] = {
    "decode": [(128, 32, 64), (256, 64, 64)],
    "update": [(128, 8, 64)],
    "critic": [(192, 32, 64, 64)],
    "adapted": [(128, 32, 64)],
    "step": [(128, 0)],
}


def load(name: str, dtype: str, device: torch.device) -> Any:
    """Return a model by name or folder, or one of SHAPED with random weights."""
    precision = getattr(torch, dtype)
    if name in SHAPED:
        torch.manual_seed(0)
        config = Qwen2Config(
            vocab_size=151936, num_key_value_heads=2, tie_word_embeddings=True, **SHAPED[name]
        )
        model = AutoModelForCausalLM.from_config(config, dtype=precision)
    else:
        model = AutoModelForCausalLM.from_pretrained(resolve_model(name), dtype=precision)
    return model.to(device).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        default="smollm2-135m",
        help=f"a model's name or folder, or {' or '.join(SHAPED)}",
    )
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=["auto", "bfloat16", "float32"], default="auto")
    parser.add_argument("--parts", nargs="+", choices=sorted(SHAPES), default=sorted(SHAPES))
    parser.add_argument("--quick", action="store_true", help="one or two shapes of each part")
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has TRL")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    device = pick_device(chosen.device)
    dtype = pick_dtype(chosen.dtype, device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"
    threads = f"{chosen.threads} thread{'s' * (chosen.threads > 1)}"
    print(f"{chosen.model} in {dtype} on {where}, {threads}")
    bench = Bench(load(chosen.model, dtype, device), chosen.rounds)
    results: dict[str, Any] = {
        "model": chosen.model,
        "device": where,
        "threads": chosen.threads,
        "rounds": chosen.rounds,
        "dtype": dtype,
    }
    for part in [part for part in chosen.parts if part != "step"]:
        results[part] = []
        for shape in (QUICK if chosen.quick else SHAPES)[part]:
            row = getattr(bench, part)(*shape)
            results[part].append(row)
            print(line(part, row, device), flush=True)
            write(chosen.json, results)
    if "step" not in chosen.parts:
        return
    results["step"] = []
    if chosen.model in SHAPED or device.type == "cuda":
        print("step   left out: it is measured on the processor, with a real model")
    elif not has_trl(chosen.peer_python):
        print("step   left out: no TRL here; pip install 'drenpa[parity]', or --peer-python PATH")
    else:
        for prompt, recompute in (QUICK if chosen.quick else SHAPES)["step"]:
            asked = Shape(prompt, recompute=bool(recompute), threads=chosen.threads, dtype=dtype)
            try:
                row = step_ratio(
                    resolve_model(chosen.model),
                    asked,
                    chosen.rounds,
                    peer_python=chosen.peer_python,
                )
            except SystemExit as error:  # one side did not fit into memory, mostly
                print(
                    f"step    prompt={prompt}: left out, {str(error).splitlines()[0]}", flush=True
                )
                continue
            results["step"].append(row)
            print(step_line(row), flush=True)
            write(chosen.json, results)
    write(chosen.json, results)


def write(file: Path | None, results: dict[str, Any]) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(results, indent=1))


def line(part: str, row: dict[str, Any], device: torch.device) -> str:
    ours, peer = (Side(**row[side]) for side in ("drenpa", "peer"))
    shape = " ".join(f"{k}={v}" for k, v in row.items() if isinstance(v, int))
    more = ""
    if "matmul_share" in row:
        more = (
            f", matrix products {row['matmul_share']:.0%}, limit {row['limit']:.2g} s "
            f"({row['limit'] / seconds(ours, device):.0%})"
        )
    if "recording_ratio" in row:
        more += f"; recorded steps {row['recording_ratio']:.2f}x"
    if "update" in row:
        more += f"; update {row['update']['ratio']:.2f}x"
    took = f"{seconds(peer, device):.3g} / {seconds(ours, device):.3g} s"
    clock = "wall" if device.type == "cuda" else "cpu"
    return (
        f"{part:8}{shape:42} {row['ratio']:5.2f}x {clock} ({took}), "
        f"peak {peer.peak_mb:.0f} / {ours.peak_mb:.0f} MB{more}"
    )


if __name__ == "__main__":
    main()
