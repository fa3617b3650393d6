"""Say what this machine has, what is installed, and what a recipe will need of it.

Nothing secret is printed: of a key, only whether it is there.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drenpa.commands.needs import FORMULA, Need, Rows, Shape, model_shape, recipe_needs
from drenpa.commands.power import benchmark_items, foresee, print_power
from drenpa.commands.show import size_text
from drenpa.config import Recipe, load_recipe
from drenpa.core.artefacts import left_out
from drenpa.core.errors import DataError, ModelError
from drenpa.core.fonts import installed_font
from drenpa.core.machine import machine_memory
from drenpa.core.records import Record
from drenpa.pipeline import STAGES
from drenpa.preflight import faults_of

SHOWN_PACKAGES = ("torch", "transformers", "peft", "accelerate")
PROMPT_LANGUAGES = ("en", "zh", "bo")  # in which drenpa brings its instructions
CHARACTERS_A_TOKEN = 3.0  # of a small model's tokenizer, in ASCII
BYTES_A_TOKEN = 1.6  # elsewhere; the starter's Tibetan has 1.3 under SmolLM2, 2.3 under Qwen2.5
PROMPT_TOKENS = 160  # instruction and chat template around a question


@dataclass(frozen=True)
class Machine:
    """What counts here: bytes of memory in all and free, cores, and how fast bfloat16 is.

    bf16_speed: speed of a bfloat16 matrix product over a float32 one, on the device that
                `engine.device: auto` takes.
    gpus:       name and bytes of each.
    """

    cores: int
    memory: float
    available: float
    bf16_speed: float
    gpus: tuple[tuple[str, int], ...]


def examine(
    recipe_path: Path | None,
    console: Console,
    overlays: Sequence[Path] = (),
    settings: Sequence[str] = (),
) -> bool:
    """Print what there is; with a recipe, also what it will need and what speaks against it.

    returns: whether it can run: false where something that the recipe names is missing.
    raises:  ConfigError when the recipe is wrong.
    """
    recipe = load_recipe(recipe_path, overlays, settings) if recipe_path is not None else None
    machine = look_around()
    _print_packages(console)
    _print_machine(machine, recipe, console)
    warnings = [*package_faults(), *_speed_warnings(machine, recipe)]
    faults: list[str] = []
    if recipe is not None:
        against, faults = _print_recipe(recipe, machine, console)
        warnings += against
    console.print()
    for warning in (*warnings, *faults):
        console.print(_plain(f"! {warning}", "bold"))
    if not warnings and not faults:
        console.print(_plain("nothing speaks against it"))
    return not faults


def look_around() -> Machine:
    """Measure the machine; takes well under a second."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    total, available = machine_memory()

    import torch

    gpus = tuple(
        (torch.cuda.get_device_name(n), int(torch.cuda.get_device_properties(n).total_memory))
        for n in range(torch.cuda.device_count())
    )
    return Machine(cores or 1, total, available, _bf16_speed("cuda" if gpus else "cpu"), gpus)


def _bf16_speed(device: str) -> float:
    import torch

    def seconds(dtype: torch.dtype) -> float:
        a, b = (torch.ones(512, 512, device=device, dtype=dtype) for _ in range(2))
        spent = []
        for _ in range(4):
            began = time.perf_counter()
            float((a @ b)[0, 0])  # waits for the device
            spent.append(time.perf_counter() - began)
        return min(spent)

    return seconds(torch.float32) / max(seconds(torch.bfloat16), 1e-9)


def requirements() -> dict[str, list[str]]:
    """Return what drenpa asks for, by extra; "" holds what it always needs."""
    found: dict[str, list[str]] = {"": []}
    for line in importlib.metadata.requires("drenpa") or []:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", marker)
        if not requirement.startswith("drenpa"):
            found.setdefault(extra.group(1) if extra else "", []).append(requirement)
    return found


def unmet(needed: list[str]) -> Iterator[str]:
    """Yield what of some requirements is absent or of another version, with what there is."""
    from packaging.requirements import Requirement

    for line in needed:
        requirement = Requirement(line)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{requirement.name} (absent)"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} (needed: {requirement.specifier})"


def package_faults() -> list[str]:
    """Return what is wrong with what must be installed."""
    return [f"package {fault}; install drenpa again" for fault in unmet(requirements()[""])]


def _print_packages(console: Console) -> None:
    table = _pairs("installed", console)
    table.add_row("drenpa", _plain(importlib.metadata.version("drenpa")))
    table.add_row("python", _plain(f"{platform.python_version()} on {platform.platform()}"))
    for name in SHOWN_PACKAGES:
        try:
            table.add_row(name, _plain(importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            table.add_row(name, _plain("absent"))
    for extra, needed in sorted(requirements().items()):
        if extra:
            missing = list(unmet(needed))
            told = "there" if not missing else f"not there: {', '.join(missing)}"
            table.add_row(_plain(f"extra {extra}"), _plain(told))
    console.print(table)


def _print_machine(machine: Machine, recipe: Recipe | None, console: Console) -> None:
    from drenpa.engine.models import cache_folder, pick_device, pick_dtype

    table = _pairs("this machine", console)
    table.add_row("cores", _plain(machine.cores))
    table.add_row(
        "memory", _plain(f"{size_text(machine.memory)}, {size_text(machine.available)} free")
    )
    for name, size in machine.gpus:
        table.add_row("GPU", _plain(f"{name}, {size_text(size)}"))
    if not machine.gpus:
        table.add_row("GPU", _plain("none that torch can use"))
    table.add_row(
        "bfloat16",
        _plain(f"{machine.bf16_speed:.2g} times the speed of float32 (a product of 512 x 512)"),
    )
    table.add_row(
        "precision", _plain(f"{pick_dtype('auto', pick_device('auto'))} where it is left to drenpa")
    )
    out = recipe.folder if recipe is not None else Path()
    for what, place in (("disk, runs", out), ("disk, models", cache_folder())):
        table.add_row(what, _plain(f"{size_text(_free_disk(place))} free at {place.resolve()}"))
    for language, name in (("bo", "Tibetan"), ("zh", "Chinese")):
        table.add_row(f"fonts, {name}", _plain(_font(language)))
    console.print(table)


def _font(language: str) -> str:
    found = installed_font(language)
    if found is None:
        return "not known (no fc-list here)"
    return found or "none here; reports opened here will lack its letters"


def _print_recipe(
    recipe: Recipe, machine: Machine, console: Console
) -> tuple[list[str], list[str]]:
    """Print what a recipe needs; return what speaks against it, and what forbids it."""
    warnings: list[str] = []
    faults: list[str] = []
    table = _pairs(f"recipe {recipe.name}", console)
    shape, told = _model(recipe)
    table.add_row("model", _plain(told))
    items: list[Record] = []
    try:
        rows = corpus_rows(recipe, token_counter(recipe))
        items = benchmark_items(recipe.corpus)
        table.add_row(
            "corpus",
            _plain(
                f"{rows.records} records, {rows.ranked} rankings with {rows.candidates} answers, "
                f"{rows.items} benchmark items; the longest row has about {rows.longest} tokens"
            ),
        )
    except DataError as error:
        rows = Rows(0, 0, 0, 0, recipe.finetune.train.max_length)
        faults.append(f"the corpus cannot be read:\n{error}")
    console.print(table)
    needs = recipe_needs(recipe, shape, rows)
    if rows.records and not rows.ranked and {"critic", "scalar"} & {need.stage for need in needs}:
        warnings.append(
            "corpus.rankings: no ranking is of one of the records, and a scorer learns from them; "
            "name rankings of your records, or none with [] and no reward that needs them"
        )
    warnings += [f"finetune: {told}" for told in rows.too_long]
    _print_needs(needs, console)
    console.print(_plain(FORMULA, "dim"))
    print_power(foresee(recipe, items), console)
    warnings += recipe_warnings(recipe, shape, needs, machine)
    return warnings, [*faults, *faults_of(recipe, STAGES)]


def _model(recipe: Recipe) -> tuple[Shape | None, str]:
    from drenpa.engine.models import is_local, resolve_model

    if not is_local(recipe.model):
        return None, f"{recipe.model}: not here yet; the first run fetches it"
    if recipe.model.endswith(".gguf"):
        return None, f"{recipe.model}: unpacked by the first run, its size is known then"
    try:
        shape = model_shape(resolve_model(recipe.model))
    except (ModelError, OSError, ValueError, KeyError, AttributeError) as error:
        return None, f"{recipe.model}: {error}"
    return shape, (
        f"{recipe.model}: {shape.parameters / 1e6:.1f} million parameters, {shape.layers} layers, "
        f"hidden {shape.hidden}, wide {shape.wide}, vocabulary {shape.vocabulary}"
    )


def token_counter(recipe: Recipe) -> Callable[[str], int]:
    """Return what counts a text's tokens: the model's tokenizer where it is here, else a guess."""
    from drenpa.engine.models import is_local, load_tokenizer, resolve_model

    if not is_local(recipe.model) or recipe.model.endswith(".gguf"):
        return about_tokens
    try:
        tokenizer = load_tokenizer(resolve_model(recipe.model))
    except ModelError:
        return about_tokens
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def about_tokens(text: str) -> int:
    """Guess how many tokens a text has, from its script.

    >>> about_tokens("the white house"), about_tokens("ཁང་པ་དཀར་པོ")
    (5, 21)
    """
    ascii_characters = sum(character < "\x80" for character in text)
    others = len(text.encode(errors="replace")) - ascii_characters
    return round(ascii_characters / CHARACTERS_A_TOKEN + others / BYTES_A_TOKEN)


def corpus_rows(recipe: Recipe, count: Callable[[str], int] = about_tokens) -> Rows:
    """Count what the recipe's files hold, in the languages that it keeps.

    count:  of a text's tokens.
    raises: DataError when a file is missing or wrong.
    """
    from drenpa.corpus.intake import read_rankings, read_records, source_files

    config = recipe.corpus
    records = [r for file in source_files(config.records, "records") for r in read_records(file)]
    if config.languages:
        records = [r for r in records if r.language in config.languages]
    questions = {record.id: record.question for record in records}
    rankings = [
        ranking
        for file in source_files(config.rankings, "rankings")
        for ranking in read_rankings(file)
        if ranking.record in questions
    ]
    languages = {record.id: record.language for record in records}
    asked = {name: PROMPT_TOKENS + count(question) for name, question in questions.items()}
    lengths = [(r.language, asked[r.id] + count(r.answer or "")) for r in records]
    lengths += [
        (
            languages[ranking.record],
            asked[ranking.record] + count(c.answer) + count(c.critique or c.note),
        )
        for ranking in rankings
        for c in ranking.candidates
    ]
    limit = recipe.finetune.train.max_length
    return Rows(
        records=len(records),
        ranked=len({ranking.record for ranking in rankings}),
        candidates=sum(len(ranking.candidates) for ranking in rankings),
        items=len(benchmark_items(config)),
        longest=max((length for _, length in lengths), default=PROMPT_TOKENS),
        too_long=left_out(
            (language for language, _ in lengths),
            (language for language, length in lengths if length > limit),
            f"about {limit} tokens are too few for them; raise finetune.train.max_length as far as "
            "the model's context goes",
        ),
    )


def _print_needs(needs: list[Need], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("step")
    for column in ("memory", "disk", "updates", "answers"):
        table.add_column(column, justify="right")
    for need in needs:
        table.add_row(
            _plain(need.stage),
            "?" if need.memory is None else size_text(need.memory),
            "?" if need.disk is None else size_text(need.disk),
            f"{need.steps or '–'}",
            f"{need.answers or '–'}",
        )
    disk = sum(need.disk or 0 for need in needs)
    table.add_row(
        "in all",
        "",
        size_text(disk) if all(need.disk is not None for need in needs) else "?",
        str(sum(need.steps for need in needs)),
        str(sum(need.answers for need in needs)),
    )
    console.print(table)


def recipe_warnings(
    recipe: Recipe, shape: Shape | None, needs: list[Need], machine: Machine
) -> Iterator[str]:
    """Yield what speaks against running the recipe here."""
    on_gpu = machine.gpus and recipe.engine.device != "cpu"
    room = float(machine.gpus[0][1]) if on_gpu else machine.available
    tight = [need for need in needs if need.memory is not None and need.memory > room]
    if tight:
        worst = max(tight, key=lambda need: need.memory or 0)
        yield (
            f"{', '.join(need.stage for need in tight)}: may need {size_text(worst.memory or 0)} "
            f"where {size_text(room)} is free; lower train.micro_batch or engine.decode_rows, set "
            "train.gradient_checkpointing, or take a smaller model"
        )
    trains = {
        "finetune": recipe.finetune.train,
        **{
            f"{strategy.name}.{stage.name}": stage.train
            for strategy in recipe.strategies
            for stage in strategy.stages
        },
    }
    whole = [name for name, train in trains.items() if train.lora is None]
    if whole and shape is not None and 16 * shape.parameters > room:
        yield (
            f"{', '.join(whole)}: lora: null trains all weights and needs "
            f"{size_text(16 * shape.parameters)} for them alone; leave lora at its default"
        )
    disk = sum(need.disk or 0 for need in needs)
    if disk > _free_disk(recipe.folder):
        yield (
            f"{recipe.folder}: the run needs about {size_text(disk)} of disk, "
            f"{size_text(_free_disk(recipe.folder))} is free; set out to another folder"
        )
    if recipe.language not in PROMPT_LANGUAGES:
        yield (
            f"language: there are no instructions in '{recipe.language}', only in "
            f"{', '.join(PROMPT_LANGUAGES)}; the English ones are used unless answer_prompt, "
            "critic.prompt and benchmark.prompt name files of yours"
        )


def _speed_warnings(machine: Machine, recipe: Recipe | None) -> Iterator[str]:
    dtype = recipe.engine.dtype if recipe is not None else "auto"
    if dtype == "bfloat16" and machine.bf16_speed < 0.7:
        yield (
            f"bfloat16 runs at {machine.bf16_speed:.2g} times the speed of float32 here; "
            "engine.dtype: auto takes the faster one; float32 needs twice the memory for weights"
        )


def _free_disk(place: Path) -> float:
    """Free bytes where a folder stands or would stand."""
    place = place.resolve()
    while not place.exists():
        place = place.parent
    return float(shutil.disk_usage(place).free)


def _pairs(title: str, console: Console) -> Table:
    console.print()
    console.print(_plain(title, "bold"))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    return table


def _plain(value: object, style: str = "") -> Text:
    return Text(str(value), style)
