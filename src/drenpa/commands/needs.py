"""What a recipe will need, before anything runs: memory of each stage, disk, steps, answers.

Rough on purpose, and said so where it is shown. The activation figures were fitted to the growth of
memory with rows on two models (SmolLM2-135M, Qwen2.5-Coder-0.5B) with adapters in bfloat16 on a
processor, to within a tenth; other families may differ by half.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from drenpa.config import CriticConfig, Recipe, StageConfig, TrainConfig

ADAPTER_BYTES = 16  # float32 weight, gradient and AdamW's two moments
LOGIT_BYTES = 12  # float32 logits, their gradient and one copy
LOGIT_TOKENS = 1024  # tokens whose logits stand in memory at once
HIDDEN_BYTES, WIDE_BYTES = 64, 8  # a token and layer, kept for the backward pass: measured
ROOM_BYTES = 600e6  # Python, torch and transformers themselves
FORMULA = (
    "memory = weights (parameters x bytes each) + 16 bytes a trained float32 weight (itself, its "
    "gradient, AdamW's two moments) + activations (tokens of a micro-batch x layers x (64 hidden "
    "+ 8 wide) bytes, doubled in float32) + logits (at most 1024 tokens x vocabulary x 12 bytes) "
    "+ 0.6 GB; every row is taken to be as long as the longest, so this is usually too high"
)


@dataclass(frozen=True)
class Shape:
    """A model in numbers.

    adapted: the sum over the blocks' linear layers of inputs + outputs; times the rank, it is the
             weights of an adapter.
    wide:    the width inside the feed-forward part.
    """

    parameters: int
    adapted: int
    layers: int
    hidden: int
    wide: int
    vocabulary: int
    kv_width: int


@dataclass(frozen=True)
class Rows:
    """What the corpus files hold, before cleaning.

    longest:  tokens of the longest row, roughly, prompt and critique included.
    too_long: of each language, which rows fine-tuning may have to leave out.
    """

    records: int
    ranked: int
    candidates: int
    items: int
    longest: int
    too_long: Sequence[str] = ()


@dataclass(frozen=True)
class Need:
    """What one stage needs.

    memory, disk: bytes; None while the model's shape is not known.
    steps, answers: updates of weights, and answers sampled.
    """

    stage: str
    memory: float | None
    disk: float | None
    steps: int
    answers: int


def model_shape(folder: Path) -> Shape:
    """Read a model's shape from its config.json, without its weights."""
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
    head = model.get_output_embeddings()
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    return Shape(
        parameters=sum(p.numel() for p in model.parameters()),
        adapted=sum(m.in_features + m.out_features for m in linear),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        wide=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
        kv_width=heads * width,
    )


def recipe_needs(recipe: Recipe, shape: Shape | None, rows: Rows) -> list[Need]:
    """Return what each step of a recipe needs, in order."""
    probes = _probes(recipe, shape, rows)
    return [
        *probes[:1],
        _finetune(recipe, shape, rows),
        *_critics(recipe, shape, rows),
        *_stages(recipe, shape, rows),
        *probes[1:],
        *_benchmarks(recipe, shape, rows),
    ]


def training_memory(
    shape: Shape, train: TrainConfig, rows: int, tokens: int, *, bytes_each: int, others: int = 0
) -> float:
    """Return the bytes that one training stage holds at most, by `FORMULA`.

    rows, tokens: of a micro-batch, and of its longest row.
    bytes_each:   of a frozen weight: 2 in bfloat16, 4 in float32.
    others:       adapters held beside the one in training.
    """
    count = rows * tokens
    kept = (HIDDEN_BYTES * shape.hidden + WIDE_BYTES * shape.wide) * bytes_each / 2
    layers = 1.0 if train.gradient_checkpointing else float(shape.layers)
    activations = count * (layers * kept + shape.layers * shape.hidden * bytes_each)
    logits = min(count, LOGIT_TOKENS) * shape.vocabulary * LOGIT_BYTES
    if train.lora is None:
        weights = shape.parameters * (ADAPTER_BYTES + others * bytes_each)
    else:
        adapter = shape.adapted * train.lora.rank
        weights = shape.parameters * bytes_each + adapter * (ADAPTER_BYTES + 4 * others)
    return weights + activations + logits + ROOM_BYTES


def trained_weights(shape: Shape, train: TrainConfig) -> int:
    """Return how many weights a training stage changes."""
    return shape.parameters if train.lora is None else shape.adapted * train.lora.rank


def _probes(recipe: Recipe, shape: Shape | None, rows: Rows) -> list[Need]:
    """The memory's stages: every answer of a block read after each of its questions."""
    from drenpa.pipeline import INTERNALISED, steps_of

    if recipe.memory is None:
        return []
    probe = recipe.memory.probe
    memory = None
    if shape is not None:
        each = _bytes_each(recipe)
        count = (probe.block + 1) * probe.block * rows.longest
        layer = count * (4 * shape.hidden + 3 * shape.wide) * each
        logits = min(count, LOGIT_TOKENS) * shape.vocabulary * LOGIT_BYTES
        memory = shape.parameters * each + layer + logits + ROOM_BYTES
        if probe.samples:
            memory = max(memory, _sampling_memory(recipe, shape, probe.max_new_tokens, rows))
    return [
        Need(step.name, memory, 2e6 + 4e3 * rows.records, 0, rows.records * probe.samples)
        for step in steps_of(recipe)
        if step.stage == "memory" and step.name != INTERNALISED
    ]


def _finetune(recipe: Recipe, shape: Shape | None, rows: Rows) -> Need:
    config = recipe.finetune
    critiques = rows.candidates * (1 - recipe.corpus.held_out) * config.critique_share
    steps = math.ceil((rows.records + critiques) / config.batch) * config.epochs
    if shape is None:
        return Need("finetune", None, None, steps, 0)
    each = _bytes_each(recipe)
    tokens = min(config.train.max_length, rows.longest)
    memory = training_memory(
        shape, config.train, min(config.train.micro_batch, config.batch), tokens, bytes_each=each
    )
    saved = 4 if config.train.lora is None else each
    disk = shape.parameters * saved + _checkpoint(shape, config.train)
    return Need("finetune", memory, disk, steps, 0)


def _critics(recipe: Recipe, shape: Shape | None, rows: Rows) -> Iterator[Need]:
    from drenpa.pipeline import steps_of

    for name in [step.name for step in steps_of(recipe) if step.stage == "critic"]:
        config: CriticConfig = recipe.critic if name == "critic" else recipe.scalar
        questions = rows.ranked * (1 - recipe.corpus.held_out)
        epochs = config.epochs + (config.own_epochs if config.critique_weight else 0)
        steps = math.ceil(questions / config.batch) * epochs
        if shape is None:
            yield Need(name, None, None, steps, 0)
            continue
        answers = math.ceil(rows.candidates / max(rows.ranked, 1))
        count = min(config.train.micro_batch, config.batch) * answers
        tokens = min(config.train.max_length, rows.longest)
        memory = training_memory(shape, config.train, count, tokens, bytes_each=_bytes_each(recipe))
        disk = 4 * trained_weights(shape, config.train) + _checkpoint(shape, config.train)
        yield Need(name, memory, disk, steps, 0)


def _stages(recipe: Recipe, shape: Shape | None, rows: Rows) -> Iterator[Need]:
    for strategy in recipe.strategies:
        for stage in strategy.stages:
            name = f"reinforce-{strategy.name}-{stage.name}"
            answers = stage.steps * stage.prompts * stage.group
            if shape is None:
                yield Need(name, None, None, stage.steps, answers)
                continue
            memory = max(
                _reinforce_memory(recipe, shape, stage, rows),
                _sampling_memory(recipe, shape, stage.max_new_tokens, rows),
            )
            disk = 4 * trained_weights(shape, stage.train) + _checkpoint(shape, stage.train)
            yield Need(name, memory, disk, stage.steps, answers)


def _reinforce_memory(recipe: Recipe, shape: Shape, stage: StageConfig, rows: Rows) -> float:
    tokens = stage.max_new_tokens + rows.longest // stage.group  # a group shares its question
    count = min(stage.train.micro_batch, stage.prompts) * stage.group
    others = sum(1 for part, weight in stage.reward.items() if weight and part != "finished")
    if stage.train.lora is None:
        others = 1 + int(stage.reset_reference)  # the critics' backbone, and a reference of its own
    return training_memory(
        shape, stage.train, count, tokens, bytes_each=_bytes_each(recipe), others=others
    )


def _sampling_memory(recipe: Recipe, shape: Shape, new_tokens: int, rows: Rows) -> float:
    """Weights, keys and values of the rows decoded at once, and their logits."""
    each = _bytes_each(recipe)
    count = recipe.engine.decode_rows
    cache = count * (new_tokens + rows.longest) * shape.layers * 2 * shape.kv_width * each
    return shape.parameters * each + cache + count * shape.vocabulary * LOGIT_BYTES + ROOM_BYTES


def _benchmarks(recipe: Recipe, shape: Shape | None, rows: Rows) -> Iterator[Need]:
    config = recipe.benchmark
    items = min(rows.items, 4 * config.items_per_kind) if config.items_per_kind else rows.items
    for name in recipe.strategy_names():
        memory = (
            None if shape is None else _sampling_memory(recipe, shape, config.max_new_tokens, rows)
        )
        yield Need(f"benchmark-{name}", memory, 2e6, 0, items * config.samples)


def _checkpoint(shape: Shape, train: TrainConfig) -> float:
    """Weights and AdamW's two moments, three times: two stay while the next is written."""
    return 3 * 12 * trained_weights(shape, train)


def _bytes_each(recipe: Recipe) -> int:
    from drenpa.engine.models import pick_device, pick_dtype

    engine = recipe.engine
    return 2 if pick_dtype(engine.dtype, pick_device(engine.device)) == "bfloat16" else 4
