"""The shared-prefix attention says the same as the plain path, in values and in gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import FAMILIES, VOCABULARY, tiny_model, with_lora

from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.prefix import PrefixGroup, suffix_states

TOKEN = st.integers(3, VOCABULARY - 1)


def rows(smallest, largest):
    return st.lists(TOKEN, min_size=smallest, max_size=largest).map(tuple)


GROUP = st.builds(PrefixGroup, rows(1, 9), st.lists(rows(1, 6), min_size=1, max_size=4).map(tuple))
GROUPS = st.lists(GROUP, min_size=1, max_size=3)
RAGGED = [
    PrefixGroup((5, 6, 7), ((8, 9, 10), (11,))),
    PrefixGroup((12,), ((13, 14), (15, 16, 17, 18), (8,))),
    PrefixGroup((20, 21, 22, 23, 24), ((25, 26, 27, 28),)),
]


def outcome(model, groups, attention):
    """Log-probabilities and the gradient of a lopsided loss on them."""
    model.zero_grad()
    found = next_token_logprobs(model, suffix_states(model, groups, attention=attention))
    lopsided = torch.linspace(0.5, 2.0, max(1, found.logprobs_NT.numel()))
    loss = (found.logprobs_NT.flatten() * lopsided[: found.logprobs_NT.numel()]).sum()
    states = suffix_states(model, groups, attention=attention)
    (loss + (states.hidden_NTH.square() * 0.01).sum()).backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return states.hidden_NTH.detach(), found.logprobs_NT.detach(), grads


def assert_same(model, groups):
    plain = outcome(model, groups, "plain")
    shared = outcome(model, groups, "shared")
    torch.testing.assert_close(shared[0], plain[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shared[1], plain[1], atol=1e-5, rtol=1e-5)
    assert len(shared[2]) == len(plain[2]) > 0
    whole = sum(g.double().square().sum() for g in plain[2]).sqrt()
    apart = sum((a - b).double().square().sum() for a, b in zip(shared[2], plain[2], strict=True))
    assert apart.sqrt() <= 1e-5 * whole


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_equals_plain_in_every_family(family):
    assert_same(tiny_model(family), RAGGED)


@given(groups=GROUPS)
@settings(max_examples=40, deadline=None)
def test_shared_equals_plain_for_any_shape(groups):
    assert_same(_LLAMA, groups)


_LLAMA = tiny_model("llama", initializer_range=0.2)


@pytest.mark.parametrize("on", [True, False])
def test_shared_equals_plain_with_an_adapter_on_and_off(on):
    model = with_lora(tiny_model("qwen2"))
    if on:
        assert_same(model, RAGGED)
        return
    with model.disable_adapter(), torch.no_grad():
        plain = suffix_states(model, RAGGED, attention="plain").hidden_NTH
        shared = suffix_states(model, RAGGED, attention="shared").hidden_NTH
    torch.testing.assert_close(shared, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_gradient_checkpointing_changes_nothing(family):
    model = tiny_model(family)
    before = outcome(model, RAGGED, "shared")
    model.train()
    after = outcome(model, RAGGED, "shared")
    assert_same(model, RAGGED)
    for left, right in zip(before[2], after[2], strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("elements", [1, 50, 700])
def test_the_tiling_changes_nothing(monkeypatch, elements):
    monkeypatch.setattr("drenpa.engine.attend.BLOCK_ELEMENTS", elements)
    assert_same(tiny_model("qwen3"), RAGGED)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_serves_others_as_before(family):
    model = tiny_model(family)
    ids = torch.tensor([[3, 4, 5, 6], [0, 7, 8, 9]])
    mask = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]])
    before = model(ids, attention_mask=mask).logits
    suffix_states(model, RAGGED)
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, before, atol=0, rtol=0)
    assert "drenpa" not in model.config.to_json_string()
