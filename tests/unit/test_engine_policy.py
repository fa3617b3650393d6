"""A policy answers, a language model tells probabilities, and what does not fit is refused."""

from __future__ import annotations

import json
import math

import pytest
import torch
from tests.tiny import END_OF_TEXT

from drenpa.config import EngineConfig, LoraConfig
from drenpa.core.artefacts import Plan, as_input, run_plan
from drenpa.core.errors import ArtefactError, ConfigError, DataError, ModelError
from drenpa.core.roles import Sampling
from drenpa.engine.adapters import add_adapter, load_backbone, save_adapter
from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.memory_bound import Extent, read_parts
from drenpa.engine.policy import LanguageModel, load_policy, model_folders
from drenpa.engine.prefix import PrefixGroup, suffix_states

ENGINE = EngineConfig(device="cpu", dtype="float32")


@pytest.fixture
def policy(tiny_folder):
    return load_policy(tiny_folder("llama"), engine=ENGINE, instruction="Be brief.")


def artefact(root, name, kind, write, inputs=()):
    def work(folder):
        write(folder)
        return {}

    return run_plan(
        Plan(
            kind=kind,
            name=name,
            root=root,
            config={},
            inputs={key: as_input(value) for key, value in dict(inputs).items()},
            rooms=(),
            work=work,
        )
    )


# -------------------------------------------------------------------------------------- answers


def test_answers_come_by_question_and_number_within_the_limit(policy):
    sampling = Sampling(max_new_tokens=5, temperature=1.0, seed=3)

    drafts = policy.generate(["Why?", "How so?"], group=3, sampling=sampling, key=(1,))

    assert [len(group) for group in drafts] == [3, 3]
    for draft in (draft for group in drafts for draft in group):
        assert len(draft.tokens) <= 5
        assert (draft.finish == "length") == (len(draft.logprobs) == len(draft.tokens))
        assert all(value <= 0 for value in draft.logprobs)
        assert draft.text == policy.language_model.chat.decode(draft.tokens)


def test_the_same_seed_and_key_give_the_same_answers_and_another_key_others(policy):
    def texts(seed, key):
        sampling = Sampling(max_new_tokens=8, temperature=1.0, seed=seed)
        return [d.tokens for d in policy.generate(["Why?"], group=4, sampling=sampling, key=key)[0]]

    assert texts(1, (1,)) == texts(1, (1,))
    assert texts(1, (1,)) != texts(1, (2,))
    assert texts(1, (1,)) != texts(2, (1,))
    assert len(set(texts(1, (1,)))) > 1


def test_an_answer_says_which_of_two_stop_tokens_was_drawn(tiny_folder):
    policy = load_policy(tiny_folder("llama", eos=END_OF_TEXT), engine=ENGINE)
    room = policy.language_model
    sampling = Sampling(max_new_tokens=40, temperature=1.0, seed=3)

    (drafts,) = policy.generate(["Why?"], group=64, sampling=sampling)

    assert {draft.stop for draft in drafts} == {(), *((stop,) for stop in room.chat.stop_ids)}
    prompt = policy.prompt_ids("Why?")
    rows = tuple((prompt[-1], *draft.tokens, *draft.stop) for draft in drafts)
    with torch.no_grad():
        told = next_token_logprobs(
            room.model, suffix_states(room.model, [PrefixGroup(prompt[:-1], rows)])
        )
    for draft, logprobs_T in zip(drafts, told.logprobs_NT.tolist(), strict=True):
        assert (draft.finish == "stop") == bool(draft.stop)
        assert draft.logprobs == pytest.approx(logprobs_T[: len(draft.logprobs)], abs=1e-4)


def test_the_instruction_stands_before_the_question(policy, tiny_folder):
    text = policy.language_model.tokenizer.decode(policy.prompt_ids("Why?"))

    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    bare = load_policy(tiny_folder("llama"), engine=ENGINE)
    assert "system" not in bare.language_model.tokenizer.decode(bare.prompt_ids("Why?"))


def test_a_greedy_answer_is_that_of_plain_generation(policy):
    ids = torch.tensor([policy.prompt_ids("Why?")])
    model = policy.language_model.model
    plain = model.generate(ids, do_sample=False, max_new_tokens=6, use_cache=False)

    sampling = Sampling(max_new_tokens=6, temperature=0.0)
    (draft,) = policy.generate(["Why?"], group=1, sampling=sampling)[0]

    said = plain[0, ids.shape[1] :].tolist()
    assert list(draft.tokens) == said[: len(draft.tokens)]
    assert policy.answer("Why?", max_new_tokens=6) == draft.text


def test_a_question_that_leaves_no_room_is_named_with_the_numbers(policy):
    room = policy.language_model.context
    overhead = len(policy.prompt_ids(""))
    fits = "x" * (room - overhead - 4)

    assert room == 512
    policy.check_room([fits], max_new_tokens=4)
    with pytest.raises(DataError) as caught:
        policy.answer("Why " + fits, max_new_tokens=4)

    (fault,) = caught.value.faults
    assert fault.startswith("question 'Why")
    assert f"{room} tokens, which leaves 0 of the model's {room} for an answer of up to 4" in fault


def test_every_question_without_room_is_told_at_once(policy):
    long = "x" * 600

    with pytest.raises(DataError) as caught:
        policy.check_room(["a" + long, "short", "b" + long], max_new_tokens=4)

    assert len(caught.value.faults) == 2


# ----------------------------------------------------------------------------- log-probabilities


def test_a_continuations_logprob_is_the_sum_over_its_tokens_in_the_whole_text(policy):
    room = policy.language_model
    pairs = [("Why is", " it so?"), ("", "Because."), ("Why is", " that"), ("Why is", "")]

    found = room.logprobs(pairs)

    for (context, text), (total, count) in zip(pairs, found, strict=True):
        head, tail = room.chat.text(context), room.chat.text(text)
        assert count == len(tail)
        start = room.chat.end_id  # this tokenizer has no beginning of its own
        ids = torch.tensor([[start, start, *head, *tail]])
        with torch.no_grad():
            logprobs = room.model(input_ids=ids).logits[0].log_softmax(-1)
        expected = sum(
            float(logprobs[place - 1, ids[0, place]])
            for place in range(ids.shape[1] - count, ids.shape[1])
        )
        assert total == pytest.approx(expected, abs=1e-4)


def test_little_memory_changes_no_logprob_and_too_little_is_refused(policy):
    room = policy.language_model
    pairs = [(f"Context {n}", f" and {n} more") for n in range(5)]

    def within(memory):
        engine = ENGINE.model_copy(update={"memory_gb": memory / 1e9})
        return LanguageModel(room.model, room.tokenizer, engine).logprobs(pairs)

    one = read_parts(room.model, ENGINE, Extent(10, 1, 12), 1).total + 1
    assert [n for _, n in within(one)] == [n for _, n in room.logprobs(pairs)]
    assert [x for x, _ in within(one)] == pytest.approx([x for x, _ in room.logprobs(pairs)])
    with pytest.raises(ConfigError, match="one group of 1 rows"):
        within(one / 2)


def test_texts_that_the_model_cannot_read_are_named_with_the_numbers(policy):
    room = policy.language_model
    fits = "x" * (room.context - 2)

    ((total, tokens),) = room.logprobs([(fits, "y")])
    assert (tokens, math.isfinite(total)) == (1, True)
    with pytest.raises(DataError) as caught:
        room.logprobs([("x" + fits, "y"), ("short", "y"), ("", "z" + fits + "yz")])

    assert len(caught.value.faults) == 2
    assert f"it is 513 tokens, and the model reads {room.context}" in caught.value.faults[0]


def test_logprobs_do_not_depend_on_what_else_is_asked(policy):
    pairs = [(f"Context {n}", f" and {n} more") for n in range(11)]

    together = policy.language_model.logprobs(pairs)

    for pair, (total, count) in zip(pairs, together, strict=True):
        ((alone, same),) = policy.language_model.logprobs([pair])
        assert count == same
        assert total == pytest.approx(alone, abs=1e-4)


def test_nothing_asked_is_nothing_told(policy):
    assert policy.language_model.logprobs([]) == []
    assert policy.generate([], group=2, sampling=Sampling()) == []


# ------------------------------------------------------------------------------------ where it is


def test_a_policy_is_its_adapter_over_its_backbone(tiny_folder, tmp_path):
    base = tiny_folder("llama")
    model, tokenizer = load_backbone(base, ENGINE)

    def whole(folder):
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")

    backbone = artefact(tmp_path, "finetune", "policy", whole)
    adapted = add_adapter(model, LoraConfig(rank=2), "policy", seed=1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    policy = artefact(
        tmp_path,
        "reinforce",
        "policy",
        lambda folder: save_adapter(adapted, "policy", folder / "model", base=base),
        {"backbone": backbone},
    )

    assert model_folders(backbone) == (backbone.path / "model", None)
    assert model_folders(policy) == (backbone.path / "model", policy.path / "model")
    assert model_folders(str(policy.path)) == model_folders(policy)
    assert model_folders(policy.path / "model") == (base.resolve(), policy.path / "model")
    room = LanguageModel(adapted.eval(), tokenizer, ENGINE)
    asked = [("Why", " so?")]
    ((expected, _),) = room.logprobs(asked)
    for place in (policy, policy.path, policy.path / "model"):
        ((found, _),) = load_policy(place, engine=ENGINE).language_model.logprobs(asked)
        assert found == pytest.approx(expected, abs=1e-5)
    ((other, _),) = load_policy(backbone, engine=ENGINE).language_model.logprobs(asked)
    assert not math.isclose(other, expected, abs_tol=1e-3)


def test_what_is_no_policy_is_refused_by_name(tmp_path):
    critic = artefact(tmp_path, "critic", "critic", lambda folder: None)
    with pytest.raises(ArtefactError, match="is a critic, but a policy is needed here"):
        load_policy(critic.path)
    nameless = tmp_path / "adapter"
    nameless.mkdir()
    (nameless / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="names no base model"):
        load_policy(nameless)
