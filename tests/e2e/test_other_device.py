"""Everything on another device than the processor: a pretended one, and a real one if there is."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.pretended_device import MixedDevicesError, pretended_device
from tests.properties.test_engine_decode import RAGGED
from tests.tiny_models import FAMILIES, tiny_model, with_lora
from tests.tiny_run import ROUND, tiny_rows, write_tiny_run
from torch import nn

from drenpa.core.artefacts import MANIFEST
from drenpa.core.roles import Sampling
from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.lora import fuse_adapters
from drenpa.engine.prefix import suffix_states
from drenpa.engine.sample import sample

DEVICES = [
    "pretended",
    pytest.param(
        "real",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
        ],
    ),
]
COMMAND = "from drenpa.cli import main; main()"
FILTERED = Sampling(max_new_tokens=8, seed=5, temperature=0.8, top_k=40, top_p=0.95, min_p=0.01)


@pytest.mark.parametrize(
    "mix",
    [
        lambda there, here: there + here,
        lambda there, here: torch.cat([there, here]),
        lambda there, here: there.copy_(here).add_(here),
        lambda there, here: nn.functional.linear(here, there[None]),
        lambda there, here: here[there.long()],
        lambda there, here: there.numpy() + here,
    ],
)
def test_numbers_of_two_devices_do_not_mix(mix):
    with pretended_device():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        assert (there * 2 + 1).to("cpu").tolist() == [3, 3, 3]
        assert there[torch.tensor([0])].device.type == "cuda"
        with pytest.raises(MixedDevicesError):
            mix(there, here)


def on(device: str) -> AbstractContextManager[None]:
    return pretended_device() if device == "pretended" else nullcontext()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("attention", ["shared", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_and_gradients_are_those_of_the_processor(family, attention, device):
    def work(model):
        fuse_adapters(model)
        rows = sample(model, RAGGED, FILTERED, stop_ids=[3], close_id=2, attention=attention)
        states = suffix_states(model, RAGGED, attention=attention)
        found = next_token_logprobs(model, states, entropy=True)
        (found.logprobs_NT.sum() + found.entropy_NT.sum()).backward()
        tensors = [found.logprobs_NT.detach(), found.entropy_NT]
        tensors += [row.closing_state for group in rows for row in group]
        tensors += [p.grad for p in model.parameters() if p.requires_grad]
        return [row.tokens for group in rows for row in group], tensors

    tokens, expected = work(with_lora(tiny_model(family, initializer_range=0.2)))
    with on(device):
        found_tokens, found = work(with_lora(tiny_model(family, initializer_range=0.2)).to("cuda"))
        assert all(tensor.device.type == "cuda" for tensor in found)
        found = [tensor.cpu() for tensor in found]
    assert found_tokens == tokens
    rounding = 1e-5 if device == "pretended" else 1e-4  # another device has other kernels
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=rounding, rtol=rounding)


@pytest.mark.parametrize("device", DEVICES)
def test_a_whole_run_is_that_of_the_processor(drenpa, tiny_chat, tmp_path, device):
    rows = tiny_rows()
    rows["records"][0]["stability"] = "volatile"
    train = {**ROUND["train"], "checkpoint_every": 1, "gradient_checkpointing": True}
    stage = {**ROUND, "name": "main", "reward": {"critic": 1, "scalar": 1}, "train": train}
    recipe, there = (
        write_tiny_run(
            tmp_path / place,
            tiny_chat("llama"),
            rows=rows,
            engine={"device": place},
            strategies=[{"name": "final", "stages": [stage]}],
            memory={"select": {"bits_per_parameter": 2}},
            benchmark={"strategies": ["base", "final", "final+recall"]},
        )
        for place in ("cpu", "cuda")
    )
    here = drenpa.run("run", recipe)
    assert here.status == 0, here.said
    program = ["-m", "tests.pretended_device"] if device == "pretended" else ["-c", COMMAND]
    done = subprocess.run(
        [sys.executable, *program, "run", str(there)],
        cwd=Path(__file__).parents[2],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    weights = sorted((tmp_path / "cpu" / "run").glob("*/**/*.safetensors"))
    stems = {path.relative_to(tmp_path / "cpu" / "run").parts[0][:-11] for path in weights}
    assert stems == {"critic", "finetune", "reinforce-final-main", "scalar"}
    for path in weights:
        folder, *rest = path.relative_to(tmp_path / "cpu" / "run").parts
        (manifest,) = (tmp_path / "cuda" / "run").glob(f"{folder[:-11]}-??????????/{MANIFEST}")
        expected, found = load_file(path), load_file(manifest.parent.joinpath(*rest))
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, atol=1e-3, rtol=1e-3, msg=name)
