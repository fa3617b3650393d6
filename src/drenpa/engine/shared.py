"""The shared-prefix attention: the hook into transformers, and the layout of one pass over whole
rows.

transformers lets a library register an attention function by name, and hands keyword arguments of
the trunk down to it. `run_trunk` registers ours around the one that the model had, and passes a
*layout*: the object that knows which token may look at which. Without a layout the function calls
the model's own attention, so that the model can be used as before, and a layer that gradient
checkpointing computes again sees the same layout as the first time.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from drenpa.core.errors import ModelError
from drenpa.engine.attend import RowBlock, grouped_attention
from drenpa.engine.backbone import Backbone

_NAME = "drenpa_shared/"
# Keyword arguments by which a family asks for something that the layouts do not do.
_FOREIGN = ("s_aux", "position_bias", "head_mask", "sinks")


class UnsharedModelError(ModelError):
    """The model's attention cannot share prefixes; the plain path serves it."""


class Layout(Protocol):
    """Which token may look at which, and where keys and values are kept."""

    layers_seen: int

    def attend(
        self,
        layer: int,
        q_NHTD: Tensor,
        k_NHTD: Tensor,
        v_NHTD: Tensor,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        """Return [N, T, Hq, D] the attention of one layer's new queries, keys and values."""
        ...


def why_unshared(backbone: Backbone, longest: int, *, training: bool) -> str | None:
    """Return why rows of `longest` tokens cannot share prefixes in this model, or None.

    training: whether it is asked of a model in training mode, in which some drop out.
    """
    trunk, config = backbone.trunk, backbone.config
    if not getattr(trunk, "_supports_attention_backend", False):
        return "its attention cannot be replaced"
    causal: bool = getattr(config, "is_causal", True)
    window: int | None = getattr(config, "sliding_window", None)
    if getattr(config, "use_sliding_window", True) is False:
        window = None
    spans = {"full_attention": None, "sliding_attention": window}
    spans["chunked_attention"] = getattr(config, "attention_chunk_size", None)
    default = "full_attention" if window is None else "sliding_attention"
    for kind in set(getattr(config, "layer_types", None) or [default]):
        if kind not in spans:
            return f"it has layers of type {kind}"
        span = spans[kind]
        if span is not None and longest > span:
            return f"some rows are longer than its window of {span} tokens"
    if any(name.endswith("sinks") for name, _ in trunk.named_parameters()):
        return "its attention has sinks"
    if getattr(config, "num_kv_shared_layers", 0):
        return "its layers share keys and values"
    if getattr(config, "use_bidirectional_attention", False) or not causal:
        return "its attention looks ahead"
    dropout: float | None = getattr(config, "attention_dropout", None)
    if training and dropout:
        return "it drops attention weights in training"
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in [ropes, *(r for r in ropes.values() if isinstance(r, dict))]:
        if rope.get("rope_type", "default") in ("dynamic", "longrope"):
            return "its positions depend on the length of the batch"
    return None


@lru_cache(maxsize=64)
def warn_unshared(model: str, reason: str) -> None:
    """Say once for each model and reason that the plain path takes over."""
    warnings.warn(
        f"{model}: prefixes are not shared, because {reason}; "
        "the plain path gives the same results, slower",
        stacklevel=3,
    )


def run_trunk(backbone: Backbone, ids_NT: Tensor, positions_NT: Tensor, layout: Layout) -> Tensor:
    """Return the final hidden states [N, T, H] of tokens at the given positions, attending as the
    layout says.

    raises: UnsharedModelError when the model asks its attention for something the layouts do not
            do, or when not every layer of it went through them.
    """
    _install(backbone)
    layout.layers_seen = 0
    out = backbone.trunk(
        input_ids=ids_NT,
        position_ids=positions_NT,
        # Masks of four axes are taken as they are: this one only keeps the trunk from building its
        # own.
        attention_mask=torch.zeros(1, 1, 1, 1, device=ids_NT.device),
        use_cache=False,
        drenpa_layout=layout,
    )
    if layout.layers_seen != backbone.config.num_hidden_layers:
        raise UnsharedModelError(
            f"{layout.layers_seen} of {backbone.config.num_hidden_layers} layers of "
            f"{type(backbone.trunk).__name__} attend through the shared prefix"
        )
    return cast(Tensor, out.last_hidden_state)


def _install(backbone: Backbone) -> None:
    """Register our attention around the model's own under a name that tells both, and select it."""
    own = backbone.config._attn_implementation
    if own is not None and own.startswith(_NAME):
        return
    name = f"{_NAME}{own or 'eager'}"
    AttentionInterface.register(name, _attend)
    if own in ALL_MASK_ATTENTION_FUNCTIONS:
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[own])
    backbone.config._attn_implementation = name


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """What transformers calls in every layer, with heads before tokens: [N, H, T, D]."""
    layout: Layout | None = kwargs.pop("drenpa_layout", None)
    if layout is None:
        own = module.config._attn_implementation.removeprefix(_NAME)
        if own == "eager":
            function = vars(sys.modules[type(module).__module__])["eager_attention_forward"]
        else:
            function = ALL_ATTENTION_FUNCTIONS[own]
        return cast(
            tuple[Tensor, Tensor | None],
            function(module, query, key, value, attention_mask, **kwargs),
        )
    asked = [name for name in _FOREIGN if kwargs.get(name) is not None]
    if asked:
        raise UnsharedModelError(f"its attention needs {', '.join(asked)}")
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = kwargs.get("scaling")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    layout.layers_seen += 1
    out = layout.attend(module.layer_idx, query, key, value, scale, kwargs.get("softcap"))
    return out, None


@dataclass(frozen=True)
class Span:
    """Where a group lies in the packed sequence: its prefix, then its rows one after the other."""

    start: int
    prefix: int
    lengths: tuple[int, ...]


class PackedLayout:
    """All tokens of all groups in one sequence without padding: each prefix once, then its rows.

    Rows look at their prefix and at themselves, prefixes at themselves. With `keep`, the keys and
    values of every layer stay in `kept`, [S, Hkv, D] each, for decoding to go on from.
    """

    def __init__(
        self,
        prefixes: Sequence[Sequence[int]],
        suffixes: Sequence[Sequence[Sequence[int]]],
        device: torch.device,
        *,
        keep: bool = False,
    ) -> None:
        self.layers_seen = 0
        self.kept: list[tuple[Tensor, Tensor]] | None = [] if keep else None
        self.spans: list[Span] = []
        ids: list[int] = []
        positions: list[int] = []
        for prefix, rows in zip(prefixes, suffixes, strict=True):
            self.spans.append(Span(len(ids), len(prefix), tuple(len(row) for row in rows)))
            ids.extend(prefix)
            positions.extend(range(len(prefix)))
            for row in rows:
                ids.extend(row)
                positions.extend(range(len(prefix), len(prefix) + len(row)))
        self.ids_1S = torch.tensor([ids], device=device)
        self.positions_1S = torch.tensor([positions], device=device)

    @cached_property
    def blocks(self) -> list[RowBlock]:
        """The prefixes as rows without a prefix, and the rows of each group."""
        device = self.ids_1S.device
        blocks = []
        for span in self.spans:
            blocks.append(RowBlock.of(0, 0, span.start, (span.prefix,), device))
            rows = span.start + span.prefix
            blocks.append(RowBlock.of(span.start, span.prefix, rows, span.lengths, device))
        return blocks

    def attend(  # noqa: D102
        self,
        layer: int,  # noqa: ARG002
        q_NHTD: Tensor,
        k_NHTD: Tensor,
        v_NHTD: Tensor,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        q_SHD, k_SHD, v_SHD = (x[0].transpose(0, 1) for x in (q_NHTD, k_NHTD, v_NHTD))
        if self.kept is not None:
            self.kept.append((k_SHD, v_SHD))
        return grouped_attention(q_SHD, k_SHD, v_SHD, self.blocks, scale, cap)[None]
