"""How much memory a run may hold, and how many rows and groups at once follow from it.

The bound is a sum that is made before the run: weights, gradients and the optimiser's moments,
what a token leaves behind for the backward pass (counted on the model itself, in two short forward
passes), keys and values of the rows that are decoded, the logits of one chunk, and the passing
arrays of one layer. Decoded rows and micro-batches are made as large as the bound allows and no
larger than the recipe asks; what does not fit one at a time is refused.

The results depend on it by rounding alone, and where an adapter drops out (`lora.dropout`) by the
masks, which are drawn for each micro-batch. So a stage that goes on is bounded by the memory that
was free when it began.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from drenpa.config import EngineConfig
from drenpa.core.artefacts import SCRATCH, Work, write_text
from drenpa.core.errors import ConfigError
from drenpa.core.machine import give_freed_memory_back, machine_memory, resident_memory
from drenpa.core.progress import tell
from drenpa.core.roles import Sampling
from drenpa.engine.adapters import matrix_precision, trainable_parameters
from drenpa.engine.attend import BLOCK_ELEMENTS
from drenpa.engine.backbone import Backbone, backbone_of
from drenpa.engine.decode import ROOM
from drenpa.engine.logprobs import CHUNK_TOKENS, KEPT_BYTES
from drenpa.engine.models import pick_dtype
from drenpa.engine.prefix import PrefixGroup, suffix_states
from drenpa.engine.shared import why_unshared

LIBRARY_BYTES = 600e6  # Python, torch and transformers themselves
FREE_SHARE = 0.8  # of what is free is taken where the recipe names no bound
_OPTIMISER_BYTES = 12  # a trained weight's float32 gradient and AdamW's two moments
_HEAD_BYTES = 16  # a vocabulary entry of one position: logits twice, probabilities, one product
_DRAW_BYTES = 16  # likewise where a token is drawn
_SORT_BYTES = 56  # further, where top-p sorts the vocabulary in float64
_TILE_COPIES = 8  # attention weights, their gradients, and contiguous copies of both
_KEPT_COPIES = 3  # weights, mask and product of a layer that keeps them for the backward pass
# Passing arrays of one layer, as counts of [tokens, width]: twice the forward's in the backward.
_WIDE_COPIES, _HIDDEN_COPIES = 5, 8


@dataclass(frozen=True)
class Extent:
    """The longest groups of a run: `rows` rows of `suffix` tokens after `prefix` shared ones."""

    prefix: int
    rows: int
    suffix: int

    def __str__(self) -> str:
        return f"one group of {self.rows} rows, {self.prefix} shared and {self.suffix} own tokens"

    @classmethod
    def of(cls, groups: Sequence[PrefixGroup]) -> Extent:
        """Return the extent that holds all the groups."""
        return cls(
            max(len(group.prefix) for group in groups),
            max(len(group.suffixes) for group in groups),
            max(len(suffix) for group in groups for suffix in group.suffixes),
        )


@dataclass(frozen=True)
class DecodeLimits:
    """What `sample` may hold at once: rows, and tokens whose keys and values are kept."""

    rows: int
    tokens: int


@dataclass(frozen=True)
class Parts:
    """The sum, in bytes.

    weights:     of all networks that are loaded, adapters included, in their own precision.
    optimiser:   gradients and moments of what is trained.
    libraries:   Python, torch and transformers.
    cache:       keys and values of the rows that are decoded.
    activations: what is kept for the backward pass.
    head:        logits and their like of the positions that are projected at once.
    passing:     what one layer makes and drops again.
    """

    weights: float
    optimiser: float
    libraries: float
    cache: float = 0.0
    activations: float = 0.0
    head: float = 0.0
    passing: float = 0.0

    @property
    def total(self) -> float:
        """The bound: head and passing arrays are never held together."""
        held = self.weights + self.optimiser + self.libraries + self.cache + self.activations
        return held + max(self.head, self.passing)

    def __str__(self) -> str:
        named = [
            ("weights", self.weights),
            ("gradients and optimiser", self.optimiser),
            ("libraries", self.libraries),
            ("keys and values", self.cache),
            ("activations", self.activations),
            ("logits or passing arrays", max(self.head, self.passing)),
        ]
        return ", ".join(f"{name} {size / 1e9:.2f}" for name, size in named if size)


def memory_limit(engine: EngineConfig, device: torch.device) -> float:
    """Return how many bytes a process may hold: on CUDA of the device, else of the machine.

    Without `memory_gb`, what this process holds plus four fifths of what is free, both as they were
    at the first call, or in a stage that goes on (`bounded_as_begun`) when it began; processes of
    one launcher share the machine. With it, freed arrays go back to the system at once, which on
    CPU costs about half the speed of training.
    """
    if engine.memory_gb is not None:
        give_freed_memory_back()  # or what was freed would count
        return engine.memory_gb * 1e9
    file = _BEGUN.get()
    if file is None:
        return _free_memory(device)
    if not file.is_file():
        write_text(file, json.dumps(_free_memory(device)))
    return float(json.loads(file.read_text(encoding="utf-8")))


_BEGUN: ContextVar[Path | None] = ContextVar("begun", default=None)


def bounded_as_begun(work: Work) -> Work:
    """Return a stage's work, bounded whenever it goes on as when it began.

    The bound is kept under the stage's `scratch/`, one for each process of a launcher.
    """

    def bounded(out: Path) -> Mapping[str, Any]:
        rank = os.environ.get("RANK", "0")
        token = _BEGUN.set(out / SCRATCH / f"memory-{rank}.json")
        try:
            return work(out)
        finally:
            _BEGUN.reset(token)

    return bounded


@lru_cache
def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.memory_reserved(device) + FREE_SHARE * free
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return resident_memory() + FREE_SHARE * machine_memory()[1] / processes


def decode_limits(
    model: nn.Module, engine: EngineConfig, groups: Sequence[PrefixGroup], sampling: Sampling
) -> DecodeLimits:
    """Return how many rows `sample` may decode at once: `decode_rows`, or fewer if memory is short.

    raises: ConfigError when not even one row fits.
    """
    backbone, extent = backbone_of(model), Extent.of(groups)

    def parts(rows: int) -> Parts:
        return decode_parts(model, engine, extent, sampling, rows)

    asked = min(engine.decode_rows, sum(len(group.suffixes) for group in groups))
    what = (
        f"one row of {extent.prefix + extent.suffix} tokens with {sampling.max_new_tokens} new ones"
    )
    rows = _largest(asked, parts, engine, backbone.device, what)
    shares = _shares(backbone, engine, extent, more=sampling.max_new_tokens + 1)
    return DecodeLimits(rows, _tokens_held(extent, sampling, rows, shares))


def decode_parts(
    model: nn.Module, engine: EngineConfig, extent: Extent, sampling: Sampling, rows: int
) -> Parts:
    """Return the bound of a run that decodes `rows` rows of groups of this extent at once."""
    backbone = backbone_of(model)
    config, each = backbone.config, _bytes_each(backbone, engine)
    shares = _shares(backbone, engine, extent, more=sampling.max_new_tokens + 1)
    a_token = config.num_hidden_layers * _key_value_width(config) * each
    held = _tokens_held(extent, sampling, rows, shares)
    groups = -(-rows // extent.rows)
    if shares:
        encoded = groups * extent.prefix + rows * extent.suffix
        # The packed pass keeps its keys and values until the grids have them.
        cache = held * a_token * (1 + 1 / config.num_hidden_layers) + encoded * a_token
    else:
        encoded = rows * (extent.prefix + extent.suffix)
        cache = held * a_token * (1 + 1 / config.num_hidden_layers)
    drawn = _DRAW_BYTES + (_SORT_BYTES if sampling.top_p < 1 else 0)
    fixed = _fixed(model)
    return Parts(
        *fixed,
        cache=cache,
        head=rows * config.vocab_size * drawn,
        passing=_passing(config, encoded, each)
        + _weights_at_once(config, extent, each, rows, shares) * 2,
    )


def read_limit(
    model: nn.Module, engine: EngineConfig, groups: Sequence[PrefixGroup], asked: int
) -> int:
    """Return how many of these groups one pass without gradients may read: `asked`, or fewer.

    raises: ConfigError when not even one fits.
    """
    extent = Extent.of(groups)

    def parts(count: int) -> Parts:
        return read_parts(model, engine, extent, count)

    return _largest(asked, parts, engine, backbone_of(model).device, str(extent))


def read_parts(model: nn.Module, engine: EngineConfig, extent: Extent, groups: int) -> Parts:
    """Return the bound of a pass without gradients that tells log-probabilities of these groups."""
    backbone = backbone_of(model)
    config, each = backbone.config, _bytes_each(backbone, engine)
    shares = _shares(backbone, engine, extent)
    tokens = _tokens_read(extent, groups, shares)
    suffixes = groups * extent.rows * extent.suffix
    weights = _weights_at_once(config, extent, each, groups * extent.rows, shares)
    return Parts(
        *_fixed(model),
        # Of all tokens, on the grid of rows, and those that reach the head.
        activations=(tokens + 2 * suffixes) * config.hidden_size * 4.0,
        head=min(CHUNK_TOKENS, suffixes) * config.vocab_size * _HEAD_BYTES,
        passing=_passing(config, tokens, each) + weights * 2,
    )


def micro_batch_limit(
    model: nn.Module,
    engine: EngineConfig,
    extent: Extent,
    asked: int,
    *,
    others: Sequence[Any] = (),
) -> int:
    """Return how many groups of this extent an update may hold at once: `asked`, or fewer.

    others: further networks that are loaded beside the model in training.
    raises: ConfigError when not even one group fits.
    """
    kept = _kept_for_backward(model, engine)

    def parts(groups: int) -> Parts:
        return update_parts(model, engine, extent, groups, kept=kept, others=others)

    return _largest(asked, parts, engine, backbone_of(model).device, str(extent))


def update_parts(
    model: nn.Module,
    engine: EngineConfig,
    extent: Extent,
    groups: int,
    *,
    kept: tuple[float, float] | None = None,
    others: Sequence[Any] = (),
) -> Parts:
    """Return the bound of a forward and backward pass over groups of this extent.

    kept: what `_kept_for_backward` counted, where it is known already.
    """
    backbone = backbone_of(model)
    config, each = backbone.config, _bytes_each(backbone, engine)
    once, a_token = kept or _kept_for_backward(model, engine)
    shares = _shares(backbone, engine, extent, training=True)
    tokens = _tokens_read(extent, groups, shares)
    suffixes = groups * extent.rows * extent.suffix
    layers = config.num_hidden_layers
    weights = _weights_at_once(config, extent, each, extent.rows, shares)
    keeping = 0 if shares or not _keeps_weights(config) else layers
    if _recomputes(backbone):
        once, a_token = once / layers, config.hidden_size * each * layers + a_token / layers
        keeping = min(keeping, 1)
    head = min(CHUNK_TOKENS, suffixes) * config.vocab_size * _HEAD_BYTES
    if any(p.requires_grad for p in backbone.head.parameters()):
        head += 2 * config.vocab_size * config.hidden_size * 4
        head += min(KEPT_BYTES, suffixes * config.vocab_size * each)
    # Beside the layers': hidden states on the grid of rows, and what the head pulls them by.
    activations = once + tokens * a_token + suffixes * 4 * config.hidden_size * each
    activations += keeping * groups * weights * _KEPT_COPIES
    passing = 2 * _passing(config, tokens, each) + weights * _TILE_COPIES
    return Parts(*_fixed(model, others), activations=activations, head=head, passing=passing)


def _largest(
    asked: int,
    parts: Callable[[int], Parts],
    engine: EngineConfig,
    device: torch.device,
    what: str,
) -> int:
    limit = memory_limit(engine, device)
    for count in range(asked, 0, -1):
        total = parts(count).total
        if total <= limit:
            if engine.memory_gb is None and total > _free_memory(device):
                _tell_scarce(limit, _free_memory(device))
            return count
    needed = parts(1)
    more = "raise it" if engine.memory_gb is not None else "free some memory, set it to more"
    raise ConfigError(
        f"engine.memory_gb: {limit / 1e9:.2f} GB do not hold {what}, which may take "
        f"{needed.total / 1e9:.2f} ({needed}); {more}, take shorter rows or a smaller group, set "
        "train.gradient_checkpointing, or take a smaller model"
    )


@lru_cache
def _tell_scarce(begun: float, now: float) -> None:
    """Say once that a stage goes on with what may not fit any more."""
    tell(
        f"engine.memory_gb: {now / 1e9:.2f} GB may be held now, and this stage goes on with the "
        f"rows and groups at once that it began with under {begun / 1e9:.2f}; free some, or set it "
        "to take fewer"
    )


_BESIDE: ContextVar[tuple[nn.Module, ...]] = ContextVar("beside", default=())


@contextmanager
def loaded_beside(*networks: nn.Module) -> Iterator[None]:
    """Count these networks, and the moments of what of them is trained, in every bound within the
    block, whichever of them it is for."""
    token = _BESIDE.set(networks)
    try:
        yield
    finally:
        _BESIDE.reset(token)


def _fixed(model: nn.Module, others: Sequence[Any] = ()) -> tuple[float, float, float]:
    """Return the bytes of weights, of gradients and moments, and of the libraries."""
    tensors: dict[int, Tensor] = {}
    trainables: dict[int, int] = {}
    for network in (model, *others, *_BESIDE.get()):
        for tensor in (*network.parameters(), *network.buffers()):
            tensors[tensor.data_ptr()] = tensor
        trainables |= {p.data_ptr(): p.numel() for _, p in trainable_parameters(network)}
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    trained = sum(trainables.values())
    return float(weights), float(_OPTIMISER_BYTES * trained), LIBRARY_BYTES


def _tokens_read(extent: Extent, groups: int, shares: bool) -> int:
    if shares:
        return groups * (extent.prefix + extent.rows * extent.suffix)
    return groups * extent.rows * (extent.prefix + extent.suffix)


def _tokens_held(extent: Extent, sampling: Sampling, rows: int, shares: bool) -> int:
    """Return the tokens of a batch of `rows` rows that begins with whole groups, at its fullest."""
    own = extent.suffix + sampling.max_new_tokens + 1
    if not shares:
        return rows * (extent.prefix + own)
    places = min(rows, extent.rows)
    return -(-rows // places) * (extent.prefix + places * (own + ROOM))


def _shares(
    backbone: Backbone,
    engine: EngineConfig,
    extent: Extent,
    *,
    more: int = 0,
    training: bool = False,
) -> bool:
    longest = extent.prefix + extent.suffix + more
    if engine.attention == "plain":
        return False
    return why_unshared(backbone, longest, training=training) is None


def _keeps_weights(config: Any) -> bool:
    """Say whether the plain path keeps every layer's attention weights for the backward pass: where
    it drops some out, or computes them one by one."""
    dropout: float | None = getattr(config, "attention_dropout", None)
    return bool(dropout) or str(config._attn_implementation).endswith("eager")


def _weights_at_once(config: Any, extent: Extent, each: int, rows: int, shares: bool) -> float:
    """Return the bytes of the attention weights of one tile (shared) or one layer (plain)."""
    whole = extent.prefix + extent.suffix
    if not shares:
        return float(rows * config.num_attention_heads * whole * whole * each)
    queries = max(extent.prefix * extent.prefix, extent.rows * extent.suffix * whole)
    return float(min(BLOCK_ELEMENTS, config.num_attention_heads * queries) * each)


def _passing(config: Any, tokens: int, each: int) -> float:
    """Return the bytes that one layer's forward pass makes beside what it keeps."""
    wide = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return tokens * (_WIDE_COPIES * wide * each + _HIDDEN_COPIES * config.hidden_size * 4.0)


def _key_value_width(config: Any) -> int:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * heads * width)


def _bytes_each(backbone: Backbone, engine: EngineConfig) -> int:
    """Return the bytes of an activation: half of float32 only if the matrix work is in bfloat16."""
    return 2 if pick_dtype(engine.dtype, backbone.device) == "bfloat16" else 4


def _recomputes(backbone: Backbone) -> bool:
    return any(getattr(m, "gradient_checkpointing", False) for m in backbone.trunk.modules())


_SHORT, _LONG = 16, 48  # tokens of the two passes in which is counted what a token leaves behind


def _kept_for_backward(model: nn.Module, engine: EngineConfig) -> tuple[float, float]:
    """Count the bytes that a forward pass keeps for the backward pass: once, and per token.

    Counted without recomputation of activations, over packed rows without a shared part.
    """
    backbone = backbone_of(model)
    training = model.training
    model.train()
    streams = [] if backbone.device.type == "cpu" else [backbone.device]
    try:
        with torch.random.fork_rng(streams), _without_recomputation(backbone):
            counts = [_kept_bytes(model, engine, tokens) for tokens in (_SHORT, _LONG)]
    finally:
        model.train(training)
    a_token = (counts[1] - counts[0]) / (_LONG - _SHORT)
    return max(0.0, counts[0] - a_token * _SHORT), a_token


def _kept_bytes(model: nn.Module, engine: EngineConfig, tokens: int) -> int:
    weights = {tensor.untyped_storage().data_ptr() for tensor in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = backbone_of(model).device
    group = PrefixGroup((0,) * (tokens // 2), ((0,) * (tokens // 2),))
    with saved_tensors_hooks(keep, lambda tensor: tensor), matrix_precision(engine, device):
        states = suffix_states(model, [group], attention=engine.attention)
        found = sum(kept.values())  # while the graph holds them: no address comes twice
    del states
    return found


@contextmanager
def _without_recomputation(backbone: Backbone) -> Iterator[None]:
    switched = [m for m in backbone.trunk.modules() if getattr(m, "gradient_checkpointing", False)]
    _switch(switched, on=False)
    try:
        yield
    finally:
        _switch(switched, on=True)


def _switch(modules: Iterable[Any], *, on: bool) -> None:
    for module in modules:
        module.gradient_checkpointing = on
