"""Recorded decoding steps give what steps run one by one give.

Where there is no GPU, operations are recorded as PyTorch traces them: as in a CUDA graph nothing of
the Python around them is left, and they read and write the arrays they were recorded on.
"""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.properties.test_engine_decode import GROUP, RAGGED, assert_same_rows
from tests.tiny_models import FAMILIES, tiny_model, with_lora
from torch.fx.experimental.proxy_tensor import make_fx

from drenpa.config import EngineConfig
from drenpa.core.roles import Sampling
from drenpa.engine import sample as sampling_module
from drenpa.engine.adapters import matrix_precision
from drenpa.engine.decode import SharedBatch
from drenpa.engine.lora import fuse_adapters
from drenpa.engine.replay import recorded, recorder_for, warn_unrecorded
from drenpa.engine.sample import sample

CPU = torch.device("cpu")
_LLAMA = tiny_model("llama", initializer_range=0.2)


class Traced:
    """Records as traces, and counts recordings and replays."""

    def __init__(self):
        self.recordings = self.replays = 0

    def __call__(self, work):
        self.recordings += 1
        trace = make_fx(work)()

        def replay():
            self.replays += 1
            return trace()

        return replay


def rows_of(model, groups, sampling, recorder=None, **told):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_module, "recorder_for", lambda device: recorder)
        # Little room ahead: grids are outgrown after a few tokens.
        patch.setattr(sampling_module, "SharedBatch", partial(SharedBatch, room=12))
        return sample(model, groups, sampling, close_id=2, **told)


@pytest.mark.parametrize("family", FAMILIES)
def test_replayed_rows_are_rows(family):
    model = tiny_model(family, initializer_range=0.2)
    sampling = Sampling(max_new_tokens=20, seed=5)
    traced = Traced()
    told = {"stop_ids": [3, 4]}
    assert_same_rows(
        rows_of(model, RAGGED, sampling, **told),
        rows_of(model, RAGGED, sampling, traced, **told),
    )
    assert 0 < traced.recordings < traced.replays


@given(
    groups=st.lists(GROUP, min_size=1, max_size=4),
    max_rows=st.integers(3, 12),
    seed=st.integers(0, 99),
    stops=st.integers(0, 6),
)
@settings(max_examples=8, deadline=None)
def test_replayed_rows_join_leave_and_outgrow_the_grids(groups, max_rows, seed, stops):
    sampling = Sampling(max_new_tokens=22, seed=seed)
    told = {"stop_ids": range(3, 3 + stops), "max_rows": max_rows}
    assert_same_rows(
        rows_of(_LLAMA, groups, sampling, **told),
        rows_of(_LLAMA, groups, sampling, Traced(), **told),
    )


def test_adapters_in_bfloat16_are_replayed():
    model = with_lora(tiny_model("qwen2", initializer_range=0.2))
    fuse_adapters(model)
    sampling = Sampling(max_new_tokens=20, seed=2)
    traced = Traced()
    with matrix_precision(EngineConfig(device="cpu"), CPU):
        expected = rows_of(model, RAGGED, sampling, stop_ids=[])
        found = rows_of(model, RAGGED, sampling, traced, stop_ids=[])
    assert [r.tokens[:5] for g in found for r in g] == [r.tokens[:5] for g in expected for r in g]
    assert traced.replays > 10


def failing(work):
    raise RuntimeError("no graph here\nand more about it")


def elsewhere(work):
    return lambda: torch.zeros_like(work())


@pytest.mark.parametrize("recorder", [failing, elsewhere])
def test_a_recording_that_fails_or_differs_is_told_and_done_without(recorder):
    warn_unrecorded.cache_clear()
    sampling = Sampling(max_new_tokens=12, seed=1)
    expected = rows_of(_LLAMA, RAGGED, sampling, stop_ids=[3])
    with pytest.warns(UserWarning, match=r"not recorded, because (no graph here|a replay was off)"):
        found = rows_of(_LLAMA, RAGGED, sampling, recorder, stop_ids=[3])
    assert_same_rows(expected, found)


def test_nothing_is_recorded_without_cuda_or_when_told_not_to():
    assert recorder_for(CPU) is None
    traced = Traced()
    sampling = Sampling(max_new_tokens=12, seed=1)
    rows_of(_LLAMA, RAGGED, sampling, traced, stop_ids=[], cuda_graphs=False)
    assert traced.recordings == 0


def test_a_recording_hands_back_what_the_work_gave():
    state = torch.zeros(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected, replay = recorded(lambda: state + 1, Traced())
    assert torch.equal(expected, torch.ones(3))
    state += 4
    assert replay is not None
    assert torch.equal(replay(), torch.full((3,), 5.0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("family", FAMILIES)
def test_cuda_graphs_replay_rows(family):
    model = tiny_model(family, initializer_range=0.2).cuda()
    sampling = Sampling(max_new_tokens=70, temperature=0.0, seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graphs = sample(model, RAGGED, sampling, stop_ids=[3, 4], close_id=2)
    eager = sample(model, RAGGED, sampling, stop_ids=[3, 4], close_id=2, cuda_graphs=False)
    assert_same_rows(eager, graphs)
