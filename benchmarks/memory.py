"""The computed memory bound against what a process really held.

    python benchmarks/memory.py MODEL

Every shape runs in a process of its own, which does the work twice and then reads the most memory
it ever held (VmHWM). The bound holds where it is not below the peak; the nearer the better.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# what, prompt, group, new tokens, groups at once
SHAPES = [
    ("update", 128, 8, 64, 1),
    ("update", 128, 8, 64, 4),
    ("update", 256, 8, 128, 4),
    ("recomputed", 256, 8, 128, 4),
    ("all weights", 128, 8, 64, 2),
    ("decode", 128, 8, 64, 4),
    ("decode", 256, 8, 64, 8),
    ("decode", 256, 8, 256, 32),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of a causal language model")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--only", nargs="+", help="kinds of work, for example decode")
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.shape:
        print(json.dumps(one(chosen.model, *json.loads(chosen.shape))))
        return
    rows = []
    for shape in SHAPES:
        if chosen.only and shape[0] not in chosen.only:
            continue
        command = [sys.executable, __file__, chosen.model, "--shape", json.dumps(shape)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        row = rows[-1]
        print(
            f"{row['what']:12} prompt {row['prompt']:4} group {row['group']} new {row['new']:4} "
            f"groups {row['groups']:3}: bound {row['bound_gb']:5.2f} GB, "
            f"peak {row['peak_gb']:5.2f} GB, "
            f"bound / peak {row['bound_gb'] / row['peak_gb']:.2f}  ({row['parts']})",
            flush=True,
        )
        if chosen.json:
            chosen.json.write_text(json.dumps(rows, indent=1))


def one(folder: str, what: str, prompt: int, group: int, new: int, groups: int) -> dict[str, Any]:
    """Do one shape's work in this process; return bound and peak."""
    import torch

    from drenpa.config import EngineConfig, LoraConfig
    from drenpa.core.machine import give_freed_memory_back
    from drenpa.core.roles import Sampling
    from drenpa.engine.adapters import (
        add_adapter,
        load_backbone,
        matrix_precision,
        recompute_activations,
        trainable_parameters,
    )
    from drenpa.engine.logprobs import next_token_logprobs
    from drenpa.engine.memory_bound import Extent, decode_parts, update_parts
    from drenpa.engine.prefix import PrefixGroup, suffix_states
    from drenpa.engine.sample import sample

    give_freed_memory_back()
    engine = EngineConfig(device="cpu", tracker="none")
    model, _ = load_backbone(Path(folder), engine)
    model = (
        model.float().requires_grad_(True)
        if what == "all weights"
        else add_adapter(model, LoraConfig(), "policy", seed=1)
    )
    if what == "recomputed":
        recompute_activations(model)
    optimiser = torch.optim.AdamW([p for _, p in trainable_parameters(model)], lr=1e-6)
    random = torch.Generator().manual_seed(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(10, 1000, (count,), generator=random).tolist())

    sampling = Sampling(max_new_tokens=new)
    if what == "decode":
        asked = [PrefixGroup(tokens(prompt - 1), (tokens(1),) * group) for _ in range(groups)]
        parts = decode_parts(model, engine, Extent.of(asked), sampling, groups * group)
    else:
        asked = [
            PrefixGroup(tokens(prompt - 1), tuple(tokens(1 + new) for _ in range(group)))
            for _ in range(groups)
        ]
        parts = update_parts(model, engine, Extent.of(asked), groups)
    for _ in range(2):
        if what == "decode":
            with matrix_precision(engine, torch.device("cpu")):
                sample(model.eval(), asked, sampling, stop_ids=[], max_rows=groups * group)
            continue
        with matrix_precision(engine, torch.device("cpu")):
            states = suffix_states(model.train(), asked)
            loss = next_token_logprobs(model, states, entropy=True).logprobs_NT.mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    status = Path("/proc/self/status").read_text()
    peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
    return {
        "what": what,
        "prompt": prompt,
        "group": group,
        "new": new,
        "groups": groups,
        "bound_gb": parts.total / 1e9,
        "peak_gb": peak / 1e9,
        "parts": str(parts),
    }


if __name__ == "__main__":
    main()
