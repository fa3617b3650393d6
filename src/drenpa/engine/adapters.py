"""One backbone, several roles: low-rank adapters that are switched on and off over one set of
weights.

The policy is an adapter, the critic is another, and the reference is the backbone with adapters
off. Adapters are float32 whatever the backbone's precision: an update of 1e-7 would round away in
bfloat16.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from drenpa.config import EngineConfig, LoraConfig
from drenpa.core.artefacts import check_sizes
from drenpa.core.errors import ModelError
from drenpa.engine.lora import fuse_adapters
from drenpa.engine.models import (
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    quiet,
    writing_weights,
)


def load_backbone(folder: Path, engine: EngineConfig) -> tuple[Any, Any]:
    """Return a frozen model and its tokenizer, on the engine's device in the engine's precision.

    raises: ArtefactError when a file of an artefact's was cut short; ModelError otherwise.
    """
    check_sizes(folder)
    device = pick_device(engine.device)
    model = load_model(
        folder,
        dtype=pick_dtype(engine.dtype, device),
        device=device,
        trust_remote_code=engine.trust_remote_code,
    )
    model.requires_grad_(False)
    return model, load_tokenizer(folder)


def in_float32(engine: EngineConfig) -> EngineConfig:
    """Return the engine that loads weights as masters: what is trained is held in nothing less."""
    return engine.model_copy(update={"dtype": "float32"})


def matrix_precision(engine: EngineConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which matrix work runs in the engine's precision.

    Sampling, reference and update all run in it: in bfloat16 two ways to compute one
    log-probability differ by far more than an update changes it.
    """
    if pick_dtype(engine.dtype, device) == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def add_adapter(model: Any, lora: LoraConfig, name: str, *, seed: int) -> Any:
    """Add a fresh adapter on every linear layer of the transformer's blocks, and make it the active
    one.

    returns: the peft model (the same one when `model` is one already). The same seed and name give
             the same initial weights.
    """
    from peft import LoraConfig as PeftLora
    from peft import PeftModel, get_peft_model

    config = PeftLora(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed_of(seed, name))
        if isinstance(model, PeftModel):
            model.add_adapter(name, config)
        else:
            model = get_peft_model(model, config, adapter_name=name)
    model.set_adapter(name)
    _master_precision(model, name)
    return model


def load_adapter(model: Any, folder: Path, name: str, *, trainable: bool = False) -> Any:
    """Load an adapter that `save_adapter` wrote, and make it the active one.

    raises: ArtefactError when a file of an artefact's was cut short; ModelError when the folder
            holds none that fits.
    """
    from peft import PeftModel

    check_sizes(folder)
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise ModelError(f"{folder}: no {weights.name} in it")
    try:
        with quiet():
            if isinstance(model, PeftModel):
                model.load_adapter(
                    str(folder), adapter_name=name, is_trainable=trainable, torch_device="cpu"
                )
            else:
                model = PeftModel.from_pretrained(
                    model,
                    str(folder),
                    adapter_name=name,
                    is_trainable=trainable,
                    torch_device="cpu",  # left alone, peft reads it to a device that it guesses
                )
    except SafetensorError as error:
        raise ModelError(f"{weights}: is damaged ({error}); make or fetch it again") from error
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: its adapter does not fit this backbone ({error})") from error
    model.set_adapter(name, inference_mode=not trainable)
    _master_precision(model, name)
    return model


def set_dropout(model: Any, name: str, share: float) -> None:
    """Let one adapter drop out another share than it was loaded with."""
    model.peft_config[name].lora_dropout = share
    for layer in model.modules():
        if name in getattr(layer, "lora_dropout", ()):
            layer.lora_dropout[name] = nn.Dropout(share) if share else nn.Identity()


def save_adapter(model: Any, name: str, folder: Path, *, base: Path) -> None:
    """Write one adapter as an ordinary peft folder that names its base model's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with writing_weights(folder):
        model.save_pretrained(str(folder), selected_adapters=[name], save_embedding_layers=False)
    nested = folder / name
    if nested.is_dir():  # peft puts any adapter but `default` into a folder of its name
        for file in nested.iterdir():
            shutil.move(str(file), folder / file.name)
        nested.rmdir()
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    entries = json.loads(file.read_text(encoding="utf-8"))
    entries["base_model_name_or_path"] = str(base.resolve())
    entries["target_modules"] = sorted(entries["target_modules"])
    file.write_text(json.dumps(entries, indent=2, sort_keys=True), encoding="utf-8")


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Let a model work without dropout within the block, and go back to how it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@contextmanager
def use_adapter(model: Any, name: str | None) -> Iterator[None]:
    """Switch to the adapter `name` within the block; None is the backbone alone.

    The adapter that was active before, and what of it was trainable, come back after the block.
    """
    if name is None:
        if hasattr(model, "disable_adapter"):
            with model.disable_adapter():
                yield
        else:
            yield
        return
    before = model.active_adapter
    trainable = [p for p in model.parameters() if p.requires_grad]
    model.set_adapter(name, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter(before, inference_mode=True)
        for parameter in trainable:
            parameter.requires_grad_(True)


def merge_adapter(model: Any, name: str) -> Any:
    """Return the backbone with one adapter's weights added in float32, and no adapters left."""
    model.set_adapter(name)
    model.get_base_model().float()
    return model.merge_and_unload(adapter_names=[name])


def recompute_activations(model: Any) -> None:
    """Keep few activations for the backward pass and compute the rest again there.

    The gradient stays what it is, the memory shrinks, and a step takes longer.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # transformers renames it in version 5.
    enable = getattr(base, "activation_checkpointing_enable", base.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


def trainable_parameters(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the named parameters that training changes, in a fixed order."""
    return [(name, p) for name, p in module.named_parameters() if p.requires_grad]


def seed_of(*parts: object) -> int:
    """Return a seed that depends on all parts, the same on every machine.

    >>> seed_of(1, "policy") == seed_of(1, "policy"), seed_of(1, "a") == seed_of(1, "b")
    (True, False)
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _master_precision(model: Any, name: str) -> None:
    for key, parameter in model.named_parameters():
        if f".{name}." in key and "lora_" in key:
            parameter.data = parameter.data.float()
    for layer in model.modules():
        if hasattr(layer, "_cast_input_dtype"):
            layer._cast_input_dtype = _as_it_is
    fuse_adapters(model)


def _as_it_is(x: Any, dtype: torch.dtype) -> Any:
    """Stand in for peft's widening of what goes into an adapter to the adapter's float32.

    Autocast rounds it back at once: the detour changes no number, and in training every copy is
    kept for the backward pass.
    """
    if x is None or torch.is_autocast_enabled(x.device.type):
        return x
    return x.to(dtype)


def adapter_names(model: Any) -> Sequence[str]:
    """Return the names of the adapters on a model; none for a plain one."""
    return list(getattr(model, "peft_config", {}))
