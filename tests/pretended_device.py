"""A second device where there is none: what lies there cannot be mixed with what lies here.

Numbers are kept in main memory and worked on by the CPU, but they say that they lie on `cuda:0`, an
operation on numbers from both sides is an error as it is on a GPU, and Python sees a machine with
one GPU. What this cannot find: kernels that differ, streams, recordings, and speed.

Started as a program, it runs `drenpa` on such a machine: `python tests/pretended_device.py run
recipe.yaml`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

THERE = torch.device("cuda:0")
ROOM = 8 << 30  # bytes that the device says are free
PROPERTIES = SimpleNamespace(name="pretended", total_memory=ROOM, major=7, minor=5)


class MixedDevicesError(RuntimeError):
    """An operation had numbers from both sides."""


class There(Tensor):
    """Numbers that say they lie on the other device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        made: There = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=inner.device,
        )
        made.inner = inner
        return made

    def __repr__(self, **_: Any) -> str:
        return f"There({self.inner!r})"

    device = property(lambda self: THERE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = There(self.inner.detach().clone())
        if isinstance(self, nn.Parameter):
            copied = nn.Parameter(copied, self.requires_grad)
        return memo.setdefault(id(self), copied)

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        raise MixedDevicesError("numpy cannot read what lies on another device")

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        _refuse_mixtures(func, args, kwargs)
        out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if "out" in kwargs:
            return kwargs["out"]
        if func._schema.is_mutable and func._schema.name.endswith("_"):
            return args[0]
        return tree_map(_wrapped, out)


_aten = torch.ops.aten
_COPIES = {_aten.copy_}
_TAKE_PLACES_FROM_HERE = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_TAKE_NO_SCALAR_FROM_HERE = {_aten.cat, _aten.stack, _aten.gather, _aten.index_copy_, _aten.mm}


def _refuse_mixtures(func: Any, args: Any, kwargs: Any) -> None:
    """Refuse what a GPU refuses: it takes single numbers from here, and places to look at."""
    name = func.overloadpacket
    if name in _COPIES:
        return
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    for leaf in leaves:
        if isinstance(leaf, There) or (leaf.dim() == 0 and name not in _TAKE_NO_SCALAR_FROM_HERE):
            continue
        if name in _TAKE_PLACES_FROM_HERE and leaf is not args[0] and not leaf.is_floating_point():
            continue
        told = ", ".join(f"{x.device} {tuple(x.shape)}" for x in leaves)
        raise MixedDevicesError(f"{func}: {told}")


def _inner(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, There) else leaf


def _wrapped(leaf: Any) -> Any:
    return There(leaf) if isinstance(leaf, Tensor) else leaf


class _Go(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return There(x.detach().clone())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Tensor:
        return grad.inner


class _Come(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Tensor:
        return x.inner.detach().clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return There(grad)


def moved(x: Tensor, device: object) -> Tensor:
    """Return x where the device says; itself when it is there."""
    there = _is_there(device)
    if there == isinstance(x, There):
        return x
    return _Go.apply(x) if there else _Come.apply(x)


def _is_there(device: Any) -> bool:
    return isinstance(device, int) or torch.device(device).type == THERE.type


class _Rerouted(TorchFunctionMode):
    """Takes what is asked of `cuda` to the pretended device, before torch looks for a real one."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in _ROUTES and args and isinstance(args[0], Tensor):
            return _ROUTES[name](self, *args, **kwargs)
        device = kwargs.get("device")
        if device is None:
            return func(*args, **kwargs)
        if _is_there(device):
            return _wrapped_once(func(*args, **{**kwargs, "device": "cpu"}))
        return tree_map(_inner, func(*args, **kwargs))


def _wrapped_once(out: Any) -> Any:
    return out if isinstance(out, There) else _wrapped(out)


def _to(_: Any, x: Tensor, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
    rest = list(args)
    if rest and isinstance(rest[0], Tensor):
        device, rest[0] = rest[0].device, rest[0].dtype
    elif rest and isinstance(rest[0], str | torch.device):
        device = rest.pop(0)
    if device is not None:
        x = moved(x, device)
    return x.to(*rest, **kwargs) if rest or kwargs else x


def _backward(mode: Any, root: Tensor, gradient: Any = None, **kwargs: Any) -> Any:
    """Run the backward pass with the mode still on; within a handler it is off."""
    gradient = torch.ones_like(root) if gradient is None else gradient
    with mode:
        return _engine_run_backward(
            (root,),
            (gradient,),
            bool(kwargs.get("retain_graph")),
            bool(kwargs.get("create_graph")),
            (),
            allow_unreachable=True,
            accumulate_grad=True,
        )


_ROUTES: dict[str, Callable[..., Any]] = {
    "to": _to,
    "type_as": lambda _, x, other: moved(x, other.device).to(other.dtype),
    "cpu": lambda _, x: moved(x, "cpu"),
    "cuda": lambda _, x: moved(x, THERE),
    "backward": _backward,
}


def _move_module(module: nn.Module) -> None:
    """Put weights and buffers there, those that are shared still shared."""
    gone: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and not isinstance(weight, There):
                there = nn.Parameter(There(weight.detach().clone()), weight.requires_grad)
                part._parameters[name] = gone.setdefault(id(weight), there)
        for name, buffer in part._buffers.items():
            if buffer is not None and not isinstance(buffer, There):
                part._buffers[name] = There(buffer.detach().clone())


@contextmanager
def pretended_device() -> Iterator[None]:
    """Be on a machine with a GPU of this kind."""
    own = nn.Module.to

    def to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        asked = (*args, *kwargs.values())
        for dtype in (x for x in asked if isinstance(x, torch.dtype)):
            own(module, dtype)
        if any(isinstance(x, str | torch.device) and _is_there(x) for x in asked):
            _move_module(module)
        return module

    machine: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: "pretended",
        "get_device_properties": lambda device=None: PROPERTIES,
        "is_bf16_supported": lambda including_emulation=True: False,
        "mem_get_info": lambda device=None: (ROOM, ROOM),
        "memory_reserved": lambda device=None: 0,
        "get_rng_state": lambda device=None: torch.zeros(1),
        "get_rng_state_all": list,
        "set_rng_state": lambda state, device=None: None,
        "set_rng_state_all": lambda states: None,
        "_lazy_init": lambda: None,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, stand_in in machine.items():
            patch.setattr(torch.cuda, name, stand_in)
        patch.setattr(nn.Module, "to", to)
        # What would be recorded is run again.
        patch.setattr("drenpa.engine.sample.recorder_for", lambda device: lambda work: work)
        with _Rerouted():
            yield


if __name__ == "__main__":
    from drenpa.cli import main

    with pretended_device():
        sys.exit(main())
