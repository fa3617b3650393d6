"""Adapters as three products a layer give what peft's own forward gives."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from peft.tuners.lora import Linear
from torch import nn

from drenpa.config import EngineConfig, LoraConfig
from drenpa.engine.adapters import (
    add_adapter,
    load_backbone,
    matrix_precision,
    merge_adapter,
    recompute_activations,
    trainable_parameters,
    use_adapter,
)
from drenpa.engine.lora import _Forward, settled_adapters

CPU = torch.device("cpu")
WIDE = EngineConfig(device="cpu", dtype="float32")
HALF = EngineConfig(device="cpu", dtype="bfloat16")
IDS = torch.tensor([[72, 101, 108, 108, 111], [72, 105, 33, 33, 33]])


def adapted(folder, engine=WIDE, rank=3, alpha=5.0, dropout=0.0):
    """Return a model under an adapter that changes what it says."""
    lora = LoraConfig(rank=rank, alpha=alpha, dropout=dropout)
    model = add_adapter(load_backbone(folder, engine)[0], lora, "policy", seed=1)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def layers(model):
    return [m for m in model.modules() if isinstance(m, Linear)]


def as_peft_does(model):
    """Return a copy with peft's own forward in every layer."""
    other = copy.deepcopy(model)
    for layer in layers(other):
        del layer.forward
    return other


def said(model, engine=WIDE):
    with torch.no_grad(), matrix_precision(engine, CPU):
        return model(input_ids=IDS).logits.float()


def gradients(model, engine):
    with matrix_precision(engine, CPU):
        model(input_ids=IDS).logits.float().log_softmax(-1)[..., 7].sum().backward()
    return {name: p.grad for name, p in trainable_parameters(model)}


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2"])
def test_outputs_and_gradients_are_peft_s(tiny_folder, family):
    model = adapted(tiny_folder(family))
    other = as_peft_does(model)
    assert all(isinstance(layer.forward, _Forward) for layer in layers(model))
    assert not any(isinstance(layer.forward, _Forward) for layer in layers(other))
    torch.testing.assert_close(said(model), said(other), rtol=1e-5, atol=1e-5)

    model.train(), other.train()
    ours, theirs = gradients(model, WIDE), gradients(other, WIDE)
    assert ours
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-6)


def test_in_bfloat16_it_is_no_further_from_float32_than_peft_is(tiny_folder):
    folder = tiny_folder("llama")
    model = adapted(folder, HALF)
    exact = gradients(adapted(folder), WIDE)
    ours = gradients(copy.deepcopy(model), HALF)
    theirs = gradients(as_peft_does(model), HALF)

    def off(found):
        return sum(float((found[n] - exact[n]).square().sum()) for n in exact) ** 0.5

    assert all(g.dtype == torch.float32 for g in ours.values())
    assert off(ours) <= 1.1 * off(theirs)


def test_a_frozen_first_layer_still_hands_gradients_down(tiny_folder):
    # With the embeddings frozen the first layer's input needs no gradient; under checkpointing and
    # in later layers it does.
    model = adapted(tiny_folder("qwen2"))
    other = as_peft_does(model)
    recompute_activations(model)
    model.train(), other.train()
    theirs = gradients(other, WIDE)
    for name, gradient in gradients(model, WIDE).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-5, atol=1e-6)


def test_one_matrix_of_an_adapter_may_be_trained_alone(tiny_folder):
    model = adapted(tiny_folder("llama"))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    other = as_peft_does(model)
    theirs = gradients(other, WIDE)
    ours = gradients(model, WIDE)
    assert theirs
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-6)


def test_what_is_not_plain_is_left_to_peft(tiny_folder):
    folder = tiny_folder("llama")
    layer = layers(adapted(folder))[0]
    assert layer.forward.weights(torch.float32) is not None
    assert layer.forward.weights(torch.bfloat16) is None

    def refused(change):
        model = adapted(folder)
        with change(model) or nullcontext():
            return layers(model)[0].forward.weights(torch.float32) is None

    assert refused(lambda m: m.disable_adapter())
    assert refused(lambda m: m.merge_adapter())
    assert refused(lambda m: layers(m)[0].base_layer.requires_grad_(True) and None)
    assert refused(
        lambda m: layers(m)[0].base_layer.register_forward_hook(lambda *_: None) and None
    )
    dropping = adapted(folder, dropout=0.5)
    assert layers(dropping)[0].forward.weights(torch.float32) is not None
    dropping.train()
    assert layers(dropping)[0].forward.weights(torch.float32) is None
    assert not torch.equal(said(dropping), said(dropping))


def test_the_backbone_and_the_merged_model_say_what_they_did(tiny_folder):
    folder = tiny_folder("llama")
    plain = load_backbone(folder, WIDE)[0].eval()
    model = adapted(folder)
    expected = said(model)
    with use_adapter(model, None):
        assert torch.equal(said(model), said(plain))
    torch.testing.assert_close(said(merge_adapter(model, "policy")), expected, rtol=1e-4, atol=1e-4)


def test_settled_adapters_answer_alike_and_are_settled_for_the_block_alone(tiny_folder):
    model = adapted(tiny_folder("llama"), HALF)
    model = add_adapter(model, LoraConfig(rank=2, alpha=4), "critic", seed=2)
    model.set_adapter("policy")
    before = {k: p.detach().clone() for k, p in model.named_parameters()}
    expected = said(model, HALF)
    with matrix_precision(HALF, CPU), settled_adapters(model):
        assert all(layer.forward.settled for layer in layers(model))
        # The scale, 5/3, is rounded with B and not after the product.
        torch.testing.assert_close(said(model, HALF), expected, rtol=0.05, atol=0.02)
    assert not any(layer.forward.settled for layer in layers(model))
    assert all(torch.equal(p, before[k]) for k, p in model.named_parameters())
    assert torch.equal(said(model, HALF), expected)

    with use_adapter(model, None), settled_adapters(model):
        assert not any(layer.forward.settled for layer in layers(model))
    with pytest.raises(ZeroDivisionError), settled_adapters(model):
        raise ZeroDivisionError
    assert not any(layer.forward.settled for layer in layers(model))
    with settled_adapters(nn.Linear(2, 2)):
        pass
