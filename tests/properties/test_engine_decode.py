"""Sampling over shared prefixes draws what the plain path draws, however rows join and leave."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import FAMILIES, VOCABULARY, tiny_model, with_lora

from drenpa.core.roles import Sampling
from drenpa.engine.backbone import backbone_of
from drenpa.engine.decode import SharedBatch
from drenpa.engine.prefix import PrefixGroup, suffix_states
from drenpa.engine.sample import sample
from drenpa.engine.shared import warn_unshared

TOKEN = st.integers(3, VOCABULARY - 1)


def rows(smallest, largest):
    return st.lists(TOKEN, min_size=smallest, max_size=largest).map(tuple)


GROUP = st.builds(PrefixGroup, rows(1, 9), st.lists(rows(1, 5), min_size=1, max_size=5).map(tuple))
RAGGED = [
    PrefixGroup((5, 6, 7), ((8, 9, 10), (11,), (12, 13))),
    PrefixGroup((12,), ((13, 14), (15, 16, 17, 18), (8,))),
    PrefixGroup((20, 21, 22, 23, 24), ((25, 26, 27, 28),)),
]
EVEN = [PrefixGroup((5, 6, 7), ((8,),) * 3), PrefixGroup((9, 10, 11), ((12,),) * 3)]


def assert_same_rows(left, right):
    for rows_left, rows_right in zip(left, right, strict=True):
        for a, b in zip(rows_left, rows_right, strict=True):
            assert a.tokens == b.tokens
            assert a.finish == b.finish
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
            if a.closing_state is None:
                assert b.closing_state is None
            else:
                torch.testing.assert_close(a.closing_state, b.closing_state, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("groups", [RAGGED, EVEN], ids=["ragged", "even"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_shared_rows_are_plain_rows(family, groups, temperature):
    model = tiny_model(family)
    sampling = Sampling(max_new_tokens=12, temperature=temperature, seed=5)
    stops = range(3, 9)
    both = [
        sample(model, groups, sampling, stop_ids=stops, close_id=2, attention=attention)
        for attention in ("plain", "shared")
    ]
    assert_same_rows(*both)


@given(
    groups=st.lists(GROUP, min_size=1, max_size=4),
    max_rows=st.integers(1, 8),
    seed=st.integers(0, 99),
    stops=st.integers(0, 12),
)
@settings(max_examples=40, deadline=None)
def test_rows_are_the_same_however_they_share_the_batch(groups, max_rows, seed, stops):
    sampling = Sampling(max_new_tokens=9, seed=seed)
    stop_ids = range(3, 3 + stops)
    alone = sample(
        _LLAMA, groups, sampling, stop_ids=stop_ids, close_id=2, attention="plain", max_rows=1
    )
    mixed = sample(_LLAMA, groups, sampling, stop_ids=stop_ids, close_id=2, max_rows=max_rows)
    assert_same_rows(alone, mixed)


class MeasuredBatch(SharedBatch):
    """A `SharedBatch` that remembers the most tokens its grids ever had room for."""

    most = 0

    def feed(self, tokens_N):
        states = super().feed(tokens_N)
        grids = self._layers[0]
        groups, _, places, _, columns = grids.ko.shape
        MeasuredBatch.most = max(self.most, groups * (grids.kp.shape[3] + places * columns))
        return states


@given(
    groups=st.lists(GROUP, min_size=2, max_size=6),
    max_rows=st.integers(5, 12),
    max_tokens=st.integers(400, 2000),
    stops=st.integers(0, 30),
)
@settings(max_examples=40, deadline=None)
def test_the_grids_hold_no_more_tokens_than_allowed(groups, max_rows, max_tokens, stops):
    MeasuredBatch.most = 0
    sampling = Sampling(max_new_tokens=9, seed=1)
    told = {"stop_ids": range(3, 3 + stops), "close_id": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drenpa.engine.sample.SharedBatch", MeasuredBatch)
        tight = sample(_LLAMA, groups, sampling, max_rows=max_rows, max_tokens=max_tokens, **told)
    one = max(
        SharedBatch(backbone_of(_LLAMA)).tokens_with([group], sampling.max_new_tokens + 1)
        for group in groups
    )
    assert 0 < MeasuredBatch.most <= max(max_tokens, one)
    assert_same_rows(tight, sample(_LLAMA, groups, sampling, **told))


_LLAMA = tiny_model("llama", initializer_range=0.2)


def test_the_grids_grow_and_rows_go_on():
    model = tiny_model("qwen3", initializer_range=0.2)
    batch = SharedBatch(backbone_of(model), room=3)
    tokens = torch.randint(3, VOCABULARY, (7, 11), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        batch.admit(RAGGED)
        fed = torch.stack([batch.feed(tokens[:, t]) for t in range(11)], dim=1)
    at = 0
    for group in RAGGED:
        for suffix in group.suffixes:
            longer = [PrefixGroup(group.prefix, ((*suffix, *tokens[at].tolist()),))]
            expected = suffix_states(model, longer, attention="plain").hidden_NTH[0, -11:]
            torch.testing.assert_close(fed[at], expected, atol=1e-4, rtol=1e-4)
            at += 1


@pytest.mark.parametrize("on", [True, False])
def test_shared_rows_are_plain_rows_with_an_adapter(on):
    model = with_lora(tiny_model("qwen2"))
    sampling = Sampling(max_new_tokens=8, seed=2)

    def both():
        return [
            sample(model, RAGGED, sampling, stop_ids=[4], attention=a) for a in ("plain", "shared")
        ]

    if on:
        assert_same_rows(*both())
    else:
        with model.disable_adapter():
            assert_same_rows(*both())


def test_a_window_that_binds_takes_the_plain_path_with_one_warning():
    warn_unshared.cache_clear()
    model = tiny_model("mistral", sliding_window=6)
    short = [PrefixGroup((5, 6), ((7,), (8,)))]
    suffix_states(model, short)
    with pytest.warns(UserWarning, match="window of 6") as seen:
        shared = suffix_states(model, RAGGED).hidden_NTH
    assert len(seen) == 1
    suffix_states(model, RAGGED)  # warnings are errors: it says nothing the second time
    plain = suffix_states(model, RAGGED, attention="plain").hidden_NTH
    torch.testing.assert_close(shared, plain, atol=0, rtol=0)
    # Short rows may share at first, and would outgrow the window while they are sampled.
    rows = sample(model, short, Sampling(max_new_tokens=9, seed=1), stop_ids=[])
    assert_same_rows(
        rows,
        sample(model, short, Sampling(max_new_tokens=9, seed=1), stop_ids=[], attention="plain"),
    )
