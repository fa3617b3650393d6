"""A policy as an ordinary Hugging Face folder: merged weights or the adapter alone, with a card.

Merging is done in float32 and saved so, because saving in bfloat16 rounds a part of the training
away. How much was measured on SmolLM2-135M with rank-16 adapters after 20 steps: at learning rate
4e-4, 46 % of the adapted weights still differ from where they began and 1.7 % of the next-token
choices change; at the paper's 5e-7, 0.1 % differ and nothing of the training is left. In float32
no choice changes in either case. Who wants files of half the size may ask for bfloat16; the card
then says how many weights fell back.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from drenpa.card import Story, Weights, model_card, tell_story
from drenpa.core.artefacts import (
    MANIFEST,
    Artefact,
    check_files,
    open_artefact,
    whole_folder,
    write_text,
)
from drenpa.core.errors import ArtefactError
from drenpa.engine.adapters import load_adapter, merge_adapter
from drenpa.engine.chat import FALLBACK_TEMPLATE, Chat
from drenpa.engine.models import Dtype, load_model, load_tokenizer
from drenpa.engine.policy import model_folders

Form = Literal["merged", "adapter"]
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
CARD, TOKENIZER = "README.md", "tokenizer_config.json"


@dataclass(frozen=True)
class Rounding:
    """What saving in a coarser format left of the training.

    adapted: weights in the matrices that the adapter changes.
    kept:    of these, how many differ from the backbone's after rounding.
    """

    adapted: int
    kept: int


def export_policy(
    policy: Artefact | Path | str,
    folder: Path | str,
    form: Form = "merged",
    *,
    dtype: Dtype = "float32",
    base: str = "",
    report: Path | None = None,
) -> Path:
    """Write a policy's artefact as a folder that plain transformers (or peft) loads.

    form:   `merged` writes a whole model; `adapter` writes the adapter alone, to be loaded over the
            fine-tuned model, which is exported by itself.
    dtype:  of merged weights. A policy that is a whole model already keeps the precision it has
            unless bfloat16 is asked for.
    base:   what the adapter names as its base model, such as a hub id; the default is the folder of
            the fine-tuned model on this machine.
    report: a report's folder whose figures go into the card; by default the one beside the
            artefact, if its verdicts are about this very policy.
    raises: ArtefactError when the folder is there already or cannot be written, when the artefact
            is no policy, when a file of it or of its backbone was altered, or when an adapter is
            asked of one that has none.
    """
    artefact = policy if isinstance(policy, Artefact) else open_artefact(policy, "policy")
    if artefact.kind != "policy":
        raise ArtefactError(f"{artefact.path}: is a {artefact.kind}, but a policy is needed here")
    target = Path(folder)
    _refuse_existing(target)
    backbone, adapter = model_folders(artefact)
    if form == "adapter" and adapter is None:
        raise ArtefactError(
            f"{artefact.path}: is a whole model and has no adapter; leave out --adapter"
        )
    check_files(artefact)
    if form == "merged" and adapter is not None:
        check_files(open_artefact(backbone.parent, "policy"))
    story = tell_story(artefact, report)
    try:
        with whole_folder(target) as part:
            if form == "adapter" and adapter is not None:
                _write_adapter(adapter, part, base)
                weights = Weights("adapter", "float32", base or backbone.parent.name, "")
            else:
                rounding = _write_merged(backbone, adapter, part, dtype)
                weights = Weights("merged", *_told(part, rounding))
            chat = _write_template(part, backbone)
            weights = replace(weights, takes_system=chat.takes_system)
            _tell_transformers_4(part)
            _write_card(part, story, weights)
    except OSError as error:
        raise ArtefactError(
            f"{target}: cannot be written ({error.strerror or error}); make room or name another "
            "folder"
        ) from error
    return target


def _refuse_existing(target: Path) -> None:
    if target.is_symlink() or (
        target.exists() and not (target.is_dir() and not any(target.iterdir()))
    ):
        raise ArtefactError(f"{target}: is there already; name a folder that does not exist yet")


def _write_adapter(adapter: Path, part: Path, base: str) -> None:
    for file in sorted(adapter.iterdir()):
        if file.is_file() and file.name not in (CARD, MANIFEST):
            shutil.copyfile(file, part / file.name)
    if base:
        file = part / ADAPTER_FILES[0]
        entries = json.loads(file.read_text(encoding="utf-8"))
        write_text(file, json.dumps(entries | {"base_model_name_or_path": base}, indent=2))


def _write_merged(
    backbone: Path, adapter: Path | None, part: Path, dtype: Dtype
) -> Rounding | None:
    """Write backbone and adapter as one model; return what rounding did, where it was asked for."""
    rounding = None
    if adapter is None and dtype == "float32":
        shutil.copytree(backbone, part, dirs_exist_ok=True)
        return None
    model = load_model(backbone, dtype="float32", device=torch.device("cpu"))
    if adapter is not None:
        before = {}
        if dtype == "bfloat16":
            before = {name: weight.clone() for name, weight in model.state_dict().items()}
        model = merge_adapter(load_adapter(model, adapter, "policy"), "policy")
        if dtype == "bfloat16":
            rounding = _rounding(before, model.state_dict())
    model.to(getattr(torch, dtype)).save_pretrained(part)
    load_tokenizer(backbone).save_pretrained(part)
    return rounding


def _write_template(part: Path, backbone: Path) -> Chat:
    """Write the chat template under which a policy was trained whose tokenizer brings none.

    returns: how the exported folder is talked to.
    """
    own = (part / TOKENIZER).is_file()
    chat = Chat(load_tokenizer(part if own else backbone))
    if own and not chat.has_template:
        write_text(part / "chat_template.jinja", FALLBACK_TEMPLATE)
    return chat


_ROPE = ("rope_theta", "partial_rotary_factor")


def _tell_transformers_4(part: Path) -> None:
    """Say in the words of transformers 4 too what it would else take a default for, in silence.

    Version 5 writes the rotary base, and the share of a head that is turned, under
    `rope_parameters`, where 4 does not look and takes 10,000 and the family's own share; and it
    names a tokenizer class that 4 does not know. Version 5 reads both spellings.
    """
    config, tokenizer = part / "config.json", part / TOKENIZER
    if config.is_file():
        entries = json.loads(config.read_text(encoding="utf-8"))
        rope = entries.get("rope_parameters") or {}
        told = {key: rope[key] for key in _ROPE if key in rope and key not in entries}
        if "rope_theta" in told and rope.get("rope_type", "default") != "default":
            told["rope_scaling"] = {k: v for k, v in rope.items() if k not in _ROPE}
        if told:
            write_text(config, json.dumps(entries | told, indent=2, ensure_ascii=False) + "\n")
    if tokenizer.is_file():
        entries = json.loads(tokenizer.read_text(encoding="utf-8"))
        if entries.get("tokenizer_class") == "TokenizersBackend":
            told = {"tokenizer_class": "PreTrainedTokenizerFast"}
            write_text(tokenizer, json.dumps(entries | told, indent=2, ensure_ascii=False) + "\n")


def _rounding(before: dict[str, Any], after: dict[str, Any]) -> Rounding:
    adapted = kept = 0
    for name, weight in after.items():
        if not torch.equal(weight, before[name]):
            adapted += weight.numel()
            kept += int((weight.bfloat16() != before[name].bfloat16()).sum())
    return Rounding(adapted, kept)


def _told(part: Path, rounding: Rounding | None) -> tuple[str, str, str]:
    """The precision of the weights in a folder, no base, and what there is to say of rounding."""
    entries = json.loads((part / "config.json").read_text(encoding="utf-8"))
    dtype = str(entries.get("dtype") or entries.get("torch_dtype") or "unknown")
    if rounding is None:
        return dtype, "", ""
    share = rounding.kept / max(rounding.adapted, 1)
    return (
        dtype,
        "",
        "The weights were rounded to bfloat16 after merging: of the "
        f"{rounding.adapted:,} weights in the matrices that training moved, {share:.1%} still "
        "differ from the fine-tuned model's; the others fell back to where they began.",
    )


def _write_card(part: Path, story: Story, weights: Weights) -> None:
    write_text(part / CARD, model_card(story, weights))
