"""Adapters over one backbone: several roles, one set of weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from drenpa.config import EngineConfig, LoraConfig
from drenpa.core.errors import ModelError
from drenpa.engine.adapters import (
    adapter_names,
    add_adapter,
    load_adapter,
    load_backbone,
    matrix_precision,
    merge_adapter,
    recompute_activations,
    save_adapter,
    seed_of,
    trainable_parameters,
    use_adapter,
)
from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.prefix import PrefixGroup, suffix_states

ENGINE = EngineConfig(device="cpu", dtype="float32")
LORA = LoraConfig(rank=2, alpha=4)
IDS = torch.tensor([[72, 101, 108, 108, 111]])


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def teach(model, name, *, seed=0):
    """Give an adapter weights that do something."""
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in model.named_parameters():
        if f".{name}." in key and "lora_B" in key:
            parameter.data.normal_(std=0.5, generator=generator)


@pytest.fixture
def backbone(tiny_folder):
    return load_backbone(tiny_folder("llama"), ENGINE)[0]


def test_a_backbone_is_frozen_and_in_the_engines_precision(tiny_folder):
    for dtype in ("float32", "bfloat16"):
        model, _ = load_backbone(tiny_folder("llama"), EngineConfig(device="cpu", dtype=dtype))
        assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
        assert not trainable_parameters(model)
        assert not model.training


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_an_adapter_is_float32_over_a_bfloat16_backbone_on_every_linear_layer(tiny_folder, family):
    engine = EngineConfig(device="cpu", dtype="bfloat16")
    model = add_adapter(load_backbone(tiny_folder(family), engine)[0], LORA, "policy", seed=1)

    trained = trainable_parameters(model)
    assert {p.dtype for _, p in trained} == {torch.float32}
    assert all("lora_" in name for name, _ in trained)
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name, _ in trained}
    assert layers == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }


def test_a_fresh_adapter_changes_nothing_yet(tiny_folder, backbone):
    before = logits(backbone)

    assert torch.equal(logits(add_adapter(backbone, LORA, "policy", seed=1)), before)


def test_the_same_seed_and_name_give_the_same_adapter_whatever_happened_before(tiny_folder):
    def weights(seed, name, *, draws=0):
        torch.rand(draws)
        model = add_adapter(load_backbone(tiny_folder("llama"), ENGINE)[0], LORA, name, seed=seed)
        return [p.detach().clone() for n, p in trainable_parameters(model) if "lora_A" in n]

    def same(one, two):
        return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))

    first = weights(1, "policy")
    assert same(weights(1, "policy", draws=5), first)
    assert not same(weights(2, "policy"), first)
    assert not same(weights(1, "critic"), first)


def test_a_seed_leaves_the_random_numbers_of_others_alone(backbone):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    add_adapter(backbone, LORA, "policy", seed=1)

    assert torch.equal(torch.rand(3), expected)


def test_switching_gives_each_role_its_own_model_and_comes_back(backbone):
    alone = logits(backbone)
    model = add_adapter(backbone, LORA, "critic", seed=1)
    teach(model, "critic", seed=1)
    critic = logits(model)
    model = add_adapter(model, LORA, "policy", seed=1)
    teach(model, "policy", seed=2)
    policy = logits(model)
    trained = [name for name, _ in trainable_parameters(model)]

    with use_adapter(model, "critic"):
        assert torch.equal(logits(model), critic)
        assert not any(p.requires_grad for n, p in model.named_parameters() if ".policy." in n)
    with use_adapter(model, None):
        assert torch.equal(logits(model), alone)
    with pytest.raises(KeyError), use_adapter(model, "critic"):
        raise KeyError

    assert torch.equal(logits(model), policy)
    assert not torch.equal(policy, critic)
    assert [name for name, _ in trainable_parameters(model)] == trained
    assert adapter_names(model) == ["critic", "policy"]
    assert all(".policy." in name for name in trained)


def test_a_plain_model_is_its_own_backbone(backbone):
    with use_adapter(backbone, None):
        assert logits(backbone).isfinite().all()
    assert adapter_names(backbone) == []


def test_a_gradient_survives_a_look_at_the_reference(backbone):
    # In a loss the reference runs between the policy's forward and its backward pass.
    model = add_adapter(backbone, LORA, "policy", seed=1)
    teach(model, "policy")

    def gradients(look):
        model.zero_grad()
        out = model(input_ids=IDS).logits.square().sum()
        if look:
            with torch.no_grad(), use_adapter(model, None):
                model(input_ids=IDS)
        out.backward()
        return [p.grad.clone() for _, p in trainable_parameters(model)]

    for plain, looked in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(plain, looked)
        assert plain.abs().sum() > 0


# peft by itself asks transformers for a property that is going away.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_saved_adapter_is_a_plain_peft_folder_that_says_the_same(tiny_folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = tiny_folder("qwen2")
    model = add_adapter(load_backbone(base, ENGINE)[0], LORA, "policy", seed=1)
    teach(model, "policy")
    save_adapter(model, "policy", tmp_path / "a", base=base)

    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    entries = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert entries["base_model_name_or_path"] == str(base.resolve())
    by_us = load_adapter(load_backbone(base, ENGINE)[0], tmp_path / "a", "policy")
    by_peft = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), tmp_path / "a"
    ).eval()
    assert torch.equal(logits(by_us), logits(model))
    torch.testing.assert_close(logits(by_peft), logits(model))
    assert not trainable_parameters(by_us)


def test_one_adapter_of_several_is_saved_alone(backbone, tiny_folder, tmp_path):
    model = add_adapter(backbone, LORA, "critic", seed=1)
    teach(model, "critic", seed=7)
    model = add_adapter(model, LORA, "policy", seed=1)
    teach(model, "policy", seed=8)
    policy = logits(model)

    save_adapter(model, "policy", tmp_path, base=tiny_folder("llama"))
    again = load_adapter(load_backbone(tiny_folder("llama"), ENGINE)[0], tmp_path, "policy")

    assert torch.equal(logits(again), policy)
    assert not any("critic" in name for name in load_file(tmp_path / "adapter_model.safetensors"))


def test_a_loaded_adapter_can_be_trained_on_in_float32(tiny_folder, tmp_path):
    base = tiny_folder("llama")
    engine = EngineConfig(device="cpu", dtype="bfloat16")
    model = add_adapter(load_backbone(base, engine)[0], LORA, "policy", seed=1)
    teach(model, "policy")
    save_adapter(model, "policy", tmp_path, base=base)

    again = load_adapter(load_backbone(base, engine)[0], tmp_path, "policy", trainable=True)

    before, after = trainable_parameters(model), trainable_parameters(again)
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(before, after, strict=True))
    assert {p.dtype for _, p in after} == {torch.float32}


def test_a_merged_adapter_leaves_a_plain_model_that_answers_the_same(backbone):
    model = add_adapter(backbone, LORA, "policy", seed=1)
    teach(model, "policy")
    expected = logits(model)

    merged = merge_adapter(model, "policy")

    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    assert not any("lora" in name for name, _ in merged.named_parameters())


def test_a_folder_without_an_adapter_and_one_that_does_not_fit_are_refused(tiny_folder, tmp_path):
    base = tiny_folder("llama")
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        load_adapter(load_backbone(base, ENGINE)[0], base, "policy")

    model = add_adapter(load_backbone(base, ENGINE)[0], LORA, "policy", seed=1)
    save_adapter(model, "policy", tmp_path, base=base)
    wider = load_backbone(tiny_folder("llama", hidden_size=32), ENGINE)[0]
    with pytest.raises(ModelError, match="does not fit this backbone"):
        load_adapter(wider, tmp_path, "policy")


@pytest.mark.parametrize("attention", ["shared", "plain"])
@pytest.mark.parametrize("whole", [False, True])
def test_recomputed_activations_leave_the_gradient_as_it_is(tiny_folder, attention, whole):
    groups = [PrefixGroup((72, 101, 108), ((108, 111), (108, 97, 33)))]

    def gradients(recompute):
        model = load_backbone(tiny_folder("qwen3"), ENGINE)[0]
        if whole:
            model.requires_grad_(True)
        else:
            model = add_adapter(model, LORA, "policy", seed=1)
            teach(model, "policy")
        if recompute:
            recompute_activations(model)
        model.train()
        with matrix_precision(EngineConfig(device="cpu"), torch.device("cpu")):
            states = suffix_states(model, groups, attention=attention)
            next_token_logprobs(model, states).logprobs_NT.sum().backward()
        assert (
            any(getattr(m, "gradient_checkpointing", False) for m in model.modules()) == recompute
        )
        return {name: p.grad for name, p in trainable_parameters(model)}

    kept, recomputed = gradients(False), gradients(True)
    for name, gradient in kept.items():
        assert gradient is not None, name
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-4, atol=1e-6)
    assert sum(float(g.abs().sum()) for g in recomputed.values()) > 0


def test_seeds_depend_on_every_part():
    seeds = {seed_of(1, "a"), seed_of(1, "b"), seed_of(2, "a"), seed_of(1), seed_of("1", "a")}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
