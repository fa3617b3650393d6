"""The vLLM generator against a fake of vLLM's interface; nothing here has met the real one."""

from __future__ import annotations

import sys

import pytest
import torch
from tests.vllm_fake import ENGINE, fake_vllm

from drenpa.config import LoraConfig
from drenpa.core.errors import DataError, ModelError
from drenpa.core.roles import Sampling
from drenpa.engine.adapters import add_adapter, load_backbone
from drenpa.engine.policy import LanguageModel, Policy
from drenpa.engine.vllm_generator import VllmGenerator

QUESTIONS = ["What is red?", "And blue?"]
GREEDY = Sampling(max_new_tokens=8, temperature=0.0)


@pytest.fixture
def policy(tiny_folder):
    model, tokenizer = load_backbone(tiny_folder("llama"), ENGINE)
    model = add_adapter(model, LoraConfig(rank=3, alpha=6), "policy", seed=1)
    stir(model, 1)
    return Policy(LanguageModel(model.eval(), tokenizer, ENGINE), "Be short.")


def stir(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))


@pytest.fixture
def make(policy, tiny_folder, tmp_path, monkeypatch):
    for name, module in fake_vllm().items():
        monkeypatch.setitem(sys.modules, name, module)

    def made(**changes):
        settings = {
            "adapter": "policy",
            "backbone": tiny_folder("llama"),
            "scratch": tmp_path,
            "max_length": 400,
        }
        return VllmGenerator(policy, **(settings | changes))

    return made


def test_greedy_answers_are_those_of_the_policy_itself(make, policy):
    served = make().generate(QUESTIONS, group=2, sampling=GREEDY)
    own = policy.generate(QUESTIONS, group=2, sampling=GREEDY)
    for row, expected in zip(served, own, strict=True):
        for draft, other in zip(row, expected, strict=True):
            assert (draft.text, draft.tokens, draft.finish) == (
                other.text,
                other.tokens,
                other.finish,
            )
            assert draft.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_every_batch_is_sampled_from_the_adapter_as_it_is_by_then(make, policy, tmp_path):
    generator = make()
    before = generator.generate(QUESTIONS, group=1, sampling=GREEDY)
    stir(policy.language_model.model, 2)
    after = generator.generate(QUESTIONS, group=1, sampling=GREEDY)
    own = policy.generate(QUESTIONS, group=1, sampling=GREEDY)
    assert [row[0].tokens for row in after] == [row[0].tokens for row in own]
    assert before != after
    requests = [request for _, _, request in generator._llm.calls]
    assert [request.lora_int_id for request in requests] == [1, 2]
    assert [folder.name for folder in tmp_path.iterdir()] == ["adapter-2"]


def test_every_row_has_a_seed_of_its_own_that_follows_from_seed_and_key(make):
    generator = make()
    sampling = Sampling(max_new_tokens=3, seed=7)
    for key in ((1,), (1,), (2,)):
        generator.generate(QUESTIONS, group=3, sampling=sampling, key=key)
    seeds = [[params.seed for params in settings] for _, settings, _ in generator._llm.calls]
    assert len(set(seeds[0])) == 6
    assert seeds[0] == seeds[1]
    assert not set(seeds[0]) & set(seeds[2])


def test_an_answer_that_stopped_keeps_the_stop_tokens_logprob_and_not_the_token(make, policy):
    sampling = Sampling(max_new_tokens=40, temperature=3.0)
    rows = make().generate(QUESTIONS, group=16, sampling=sampling)
    drafts = [draft for row in rows for draft in row]
    assert {draft.finish for draft in drafts} == {"stop", "length"}
    stops = policy.language_model.chat.stop_ids
    for draft in drafts:
        assert not stops & set(draft.tokens)
        assert len(draft.logprobs) == len(draft.tokens) + (draft.finish == "stop")


def test_filtered_answers_carry_no_logprobs(make):
    filtered = Sampling(max_new_tokens=3, top_k=5)
    assert make().generate(QUESTIONS, group=1, sampling=filtered)[0][0].logprobs == ()


def test_an_answer_that_ends_otherwise_than_said_is_refused(make):
    generator = make()
    generator._llm.finish = "stop"
    with pytest.raises(ModelError, match="not one that drenpa knows"):
        generator.generate(QUESTIONS, group=1, sampling=Sampling(max_new_tokens=1, seed=3))


def test_a_rank_is_rounded_up_to_one_that_vllm_has(make):
    assert make()._llm.max_lora_rank == 8


def test_a_policy_without_that_adapter_is_refused(make):
    with pytest.raises(ModelError, match=r"no such adapter 'other'; set train\.lora"):
        make(adapter="other")


def test_a_question_that_leaves_no_room_is_refused(make):
    with pytest.raises(DataError, match="leaves"):
        make().generate(["long " * 300], group=1, sampling=GREEDY)


def test_nothing_asked_is_nothing_answered(make):
    assert make().generate([], group=2, sampling=GREEDY) == []


def test_without_vllm_the_extra_is_named(policy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match=r"drenpa\[vllm\]"):
        VllmGenerator(policy, adapter="policy", backbone=tmp_path, scratch=tmp_path, max_length=100)
