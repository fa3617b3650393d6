"""A decoding step that is recorded once and replayed.

A GPU is done with a small model's step before Python has asked for its thousand kernels. A CUDA
graph asks for all of them at once; in return every array must stay where it is and keep its shape,
and nothing may be read back. `decode.SharedBatch` keeps to that when it is given a recorder, and
holds the first replay of every recording against the same step run as usual.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

Work = Callable[[], Tensor]
"""A computation on arrays that are given once: what it reads and returns stays where it is."""
Recorder = Callable[[Work], Work]
"""Returns what runs the same operations on the same arrays again."""

TOLERANCE = 0.02  # of the largest hidden state; a replay of the same kernels is far nearer
SETTLED_AFTER = 4  # steps over the same rows, before a recording can be hoped to pay


def recorder_for(device: torch.device) -> Recorder | None:
    """Return what records on this device; None where there is nothing to gain."""
    return record_on_cuda if device.type == "cuda" else None


def record_on_cuda(work: Work) -> Work:
    """Record `work` as a CUDA graph."""
    here = torch.cuda.current_stream()
    side = torch.cuda.Stream()
    side.wait_stream(here)
    with torch.cuda.stream(side):
        work()  # libraries choose their kernels and take their workspaces before the recording
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = work()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def recorded(work: Work, recorder: Recorder) -> tuple[Tensor, Work | None]:
    """Run `work` and record it; return what it gave, and the replay.

    returns: None for the replay, with a warning, when recording failed or the first replay gave
             something else.
    """
    expected = work().clone()
    try:
        with _nothing_remembered(expected.device):
            replay = recorder(work)
        found = replay()
    except RuntimeError as error:
        warn_unrecorded(str(error).partition("\n")[0])
        return expected, None
    off = (found.float() - expected.float()).abs().amax()
    if not bool(off <= TOLERANCE * expected.float().abs().amax()):
        warn_unrecorded(f"a replay was off by {float(off):.3g}")
        return expected, None
    return expected, replay


def _nothing_remembered(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which autocast keeps no weights that it has rounded: they would lie in
    the recording's memory and be taken for alive after it."""
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    dtype = torch.get_autocast_dtype(device.type)
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)


@lru_cache(maxsize=64)
def warn_unrecorded(reason: str) -> None:
    """Say once for each reason that decoding goes on without recordings."""
    warnings.warn(
        f"decoding steps are not recorded, because {reason}; "
        "they give the same, slower (engine.cuda_graphs: false says so from the start)",
        stacklevel=3,
    )
