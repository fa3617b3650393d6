"""Low-rank adapters as three matrix products a layer, in place of peft's forward.

peft adds an adapter's part to a layer's output out of place, after multiplying it by its scale, and
autograd keeps and sums each of these whole outputs. Here the part is added inside the last product,
and going back its gradient inside the product with the frozen weight: the same numbers up to one
rounding less, in fewer passes over memory. Weights, names, files, switching and merging stay
peft's; a layer that is anything but a plain low-rank one is left to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def fuse_adapters(model: nn.Module) -> None:
    """Give every LoRA layer in `model` that wraps a linear layer the forward of this file.

    Layers that have it keep it, so that it may be called after every adapter that is added.
    """
    from peft.tuners.lora import Linear

    for layer in model.modules():
        if isinstance(layer, Linear) and not isinstance(layer.forward, _Forward):
            layer.forward = _Forward(layer)


@dataclass(frozen=True)
class _Weights:
    """A frozen linear layer and one adapter over it: x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ."""

    weight_OI: Tensor
    bias_O: Tensor | None
    a_RI: Tensor
    b_OR: Tensor
    scale: float

    def rounded(self) -> _Weights:
        """Return them with the adapter in the layer's precision, laid out for few rows."""
        a_RI = self.a_RI.detach().to(self.weight_OI.dtype)
        b_RO = (self.b_OR.detach() * self.scale).to(self.weight_OI.dtype).T.contiguous()
        return _Weights(self.weight_OI, self.bias_O, a_RI, b_RO.T, 1.0)

    def apply(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the layer's output [.., O] and x·Aᵀ [N, R]."""
        out = nn.functional.linear(x, self.weight_OI, self.bias_O)
        low_NR = nn.functional.linear(x.flatten(0, -2), self.a_RI)
        out.view(-1, out.shape[-1]).addmm_(low_NR, self.b_OR.T, alpha=self.scale)
        return out, low_NR


class _Forward:
    """Stands in for the forward of one of peft's layers, which serves what is not plain.

    settled: the weights to use whatever the layer says, within `settled_adapters`.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.peft = layer.forward
        self.settled: _Weights | None = None

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.settled is not None and x.dtype == self.settled.a_RI.dtype:
            return self.settled.apply(x)[0]
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        found = None if args or kwargs else self.weights(dtype)
        if found is None:
            result: Tensor = self.peft(x, *args, **kwargs)
            return result
        x, a_RI, b_OR = x.to(dtype), found.a_RI.to(dtype), found.b_OR.to(dtype)
        whole = _Weights(found.weight_OI, found.bias_O, a_RI, b_OR, found.scale)
        trained = x.requires_grad or a_RI.requires_grad or b_OR.requires_grad
        if trained and torch.is_grad_enabled():
            out: Tensor = _LowRank.apply(x, a_RI, b_OR, whole)
            return out
        return whole.apply(x)[0]

    def weights(self, dtype: torch.dtype) -> _Weights | None:
        """Return what the layer would compute with; None if it is not a frozen linear layer in that
        precision under one plain adapter."""
        layer = self.layer
        names = layer.active_adapters
        if layer.disable_adapters or layer.merged or len(names) != 1:
            return None
        (name,) = names
        base = layer.base_layer
        if name not in layer.lora_A or name in layer.lora_variant or type(base) is not nn.Linear:
            return None
        a, b, dropout = layer.lora_A[name], layer.lora_B[name], layer.lora_dropout[name]
        if b.bias is not None or (dropout.training and type(dropout) is not nn.Identity):
            return None
        watched = base._forward_hooks or base._forward_pre_hooks
        if watched or base.weight.requires_grad or base.weight.dtype != dtype:
            return None
        if a.weight.dtype != dtype and not torch.is_autocast_enabled(a.weight.device.type):
            return None
        return _Weights(base.weight, base.bias, a.weight, b.weight, layer.scaling[name])


class _LowRank(torch.autograd.Function):
    """`_Weights.apply` with gradients for x, A and B; keeps x and x·Aᵀ, as peft does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a_RI: Tensor, b_OR: Tensor, whole: _Weights) -> Tensor:
        out, low_NR = whole.apply(x)
        ctx.save_for_backward(x, whole.weight_OI, a_RI, b_OR, low_NR)
        ctx.scale = whole.scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_OI, a_RI, b_OR, low_NR = ctx.saved_tensors
        grad_NO = grad.flatten(0, -2)
        # Scaled where it is small, and not at the whole gradient.
        grad_low_NR = (grad_NO @ b_OR).mul_(ctx.scale)
        grad_x = grad_a = grad_b = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad_NO @ weight_OI).addmm_(grad_low_NR, a_RI).view_as(x)
        if ctx.needs_input_grad[1]:
            grad_a = grad_low_NR.T @ x.flatten(0, -2)
        if ctx.needs_input_grad[2]:
            grad_b = (grad_NO.T @ low_NR).mul_(ctx.scale)
        return grad_x, grad_a, grad_b, None


@contextmanager
def settled_adapters(model: nn.Module) -> Iterator[None]:
    """Look once which adapter is active in each layer, and round it to the precision of the matrix
    work once; for many passes without gradients, between which nothing is switched or trained.
    """
    device = next(model.parameters()).device.type
    rounds = torch.is_autocast_enabled(device)
    found: list[_Forward] = []
    for layer in model.modules():
        if isinstance(forward := layer.forward, _Forward):
            base = forward.layer.base_layer
            dtype = torch.get_autocast_dtype(device) if rounds else base.weight.dtype
            if weights := forward.weights(dtype):
                forward.settled = weights.rounded()
                found.append(forward)
    try:
        yield
    finally:
        for forward in found:
            forward.settled = None
