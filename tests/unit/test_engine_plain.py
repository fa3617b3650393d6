"""The plain path: the oracle that the shared-prefix attention is held against."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from tests.tiny_models import FAMILIES, VOCABULARY, tiny_model, with_lora

from drenpa.core.errors import ConfigError, ModelError, ShapeError
from drenpa.core.roles import Sampling
from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.prefix import PrefixGroup, suffix_states
from drenpa.engine.sample import sample

GROUPS = [
    PrefixGroup((5, 6, 7), ((8, 9, 10), (11,))),
    PrefixGroup((12,), ((13, 14), (15, 16, 17, 18), (8,))),
]


def _rows(groups):
    return [(g.prefix, s) for g in groups for s in g.suffixes]


@pytest.mark.parametrize("family", FAMILIES)
def test_suffix_states_are_those_of_each_row_by_itself(family):
    model = tiny_model(family)
    states = suffix_states(model, GROUPS, attention="plain")
    assert states.hidden_NTH.shape == (5, 4, 24)
    for n, (prefix, suffix) in enumerate(_rows(GROUPS)):
        alone = model.base_model(torch.tensor([prefix + suffix])).last_hidden_state[0]
        got = states.hidden_NTH[n, : len(suffix)]
        torch.testing.assert_close(got, alone[len(prefix) :], atol=1e-5, rtol=1e-5)
        assert states.tokens_NT[n].tolist() == list(suffix) + [0] * (4 - len(suffix))
        assert states.mask_NT[n].tolist() == [True] * len(suffix) + [False] * (4 - len(suffix))


@pytest.mark.parametrize("family", FAMILIES)
def test_logprobs_are_those_of_the_whole_model(family):
    model = tiny_model(family)
    states = suffix_states(model, GROUPS, attention="plain")
    found = next_token_logprobs(model, states, temperature=0.7, entropy=True, chunk_tokens=2)
    assert found.logprobs_NT.shape == found.entropy_NT.shape == found.mask_NT.shape == (5, 3)
    for n, (prefix, suffix) in enumerate(_rows(GROUPS)):
        logits = model(torch.tensor([prefix + suffix])).logits[0, len(prefix) : -1]
        expected = (logits.float() / 0.7).log_softmax(-1)
        for t, token in enumerate(suffix[1:]):
            assert found.logprobs_NT[n, t].item() == pytest.approx(
                expected[t, token].item(), abs=1e-5
            )
            entropy = -(expected[t].exp() * expected[t]).sum().item()
            assert found.entropy_NT[n, t].item() == pytest.approx(entropy, abs=1e-4)
        assert found.mask_NT[n].sum() == len(suffix) - 1
        assert (found.logprobs_NT[n, len(suffix) - 1 :] == 0).all()


@pytest.mark.parametrize("kept", [0, 4 * 4 * VOCABULARY, 1 << 27])
def test_neither_the_chunk_size_nor_what_is_kept_changes_value_or_gradient(kept):
    """`kept` holds the pulls of no position, of four in float32 (two chunks of two), of all."""
    model = tiny_model()

    def run(chunk, kept=1 << 27):
        model.zero_grad()
        states = suffix_states(model, GROUPS)
        found = next_token_logprobs(model, states, chunk_tokens=chunk, kept_bytes=kept)
        found.logprobs_NT.square().sum().backward()
        return found.logprobs_NT.detach(), [p.grad.clone() for p in model.parameters()]

    one, whole = run(2, kept), run(1000)
    torch.testing.assert_close(one[0], whole[0])
    for left, right in zip(one[1], whole[1], strict=True):
        assert (left - right).norm() <= 1e-5 * right.norm()


def test_a_token_that_is_all_but_impossible_still_has_a_finite_logprob():
    model = tiny_model()
    states = suffix_states(model, [PrefixGroup((3,), ((4, 5),))])
    with torch.no_grad():
        # Logits 0 everywhere but 300 at token 7.
        model.lm_head.weight.zero_()
        direction = states.hidden_NTH[0, 0]
        model.lm_head.weight[7] = 300 * direction / direction.square().sum()
    found = next_token_logprobs(model, states).logprobs_NT
    assert found.item() == pytest.approx(-300, rel=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_bare_head_and_a_wrapped_head_agree(frozen):
    outcomes = []
    for hooked in (True, False):
        model = tiny_model()
        model.lm_head.weight.requires_grad_(not frozen)
        if hooked:
            model.lm_head.register_forward_hook(lambda *_: None)
        states = suffix_states(model, GROUPS)
        found = next_token_logprobs(model, states, temperature=0.7, entropy=True, chunk_tokens=3)
        found.logprobs_NT.square().sum().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        assert len(grads) == len(list(model.parameters())) - frozen
        outcomes.append([found.logprobs_NT.detach(), found.entropy_NT, *grads])
    for left, right in zip(*outcomes, strict=True):
        assert (left - right).norm() <= 1e-5 * right.norm()


def test_entropy_is_zero_unless_asked_and_never_carries_gradient():
    model = tiny_model()
    states = suffix_states(model, GROUPS)
    assert (next_token_logprobs(model, states).entropy_NT == 0).all()
    assert not next_token_logprobs(model, states, entropy=True).entropy_NT.requires_grad


def test_suffixes_of_one_token_have_no_logprobs():
    model = tiny_model()
    states = suffix_states(model, [PrefixGroup((3, 4), ((5,), (6,)))])
    assert next_token_logprobs(model, states).logprobs_NT.shape == (2, 0)


def test_the_adapter_counts_when_it_is_on_and_not_when_it_is_off():
    bare = suffix_states(tiny_model(), GROUPS).hidden_NTH
    model = with_lora(tiny_model())
    assert not torch.allclose(suffix_states(model, GROUPS).hidden_NTH, bare, atol=1e-2)
    with model.disable_adapter():
        torch.testing.assert_close(suffix_states(model, GROUPS).hidden_NTH, bare)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_rows_are_those_of_generate(family):
    model = tiny_model(family)
    got = sample(model, GROUPS, Sampling(max_new_tokens=6, temperature=0), stop_ids=[2])
    flat = [row for rows in got for row in rows]
    for row, (prefix, suffix) in zip(flat, _rows(GROUPS), strict=True):
        ids = torch.tensor([prefix + suffix])
        whole = model.generate(
            ids, max_new_tokens=6, do_sample=False, eos_token_id=2, pad_token_id=0
        )
        expected = whole[0, ids.shape[1] :].tolist()
        assert row.finish == ("stop" if 2 in expected else "length")
        assert row.tokens == [token for token in expected if token != 2]


def test_sampled_logprobs_are_those_of_a_second_pass():
    model = tiny_model()
    sampling = Sampling(max_new_tokens=7, temperature=0.8, seed=3)
    stop = 9
    results = sample(model, GROUPS, sampling, stop_ids=[stop])
    assert {row.finish for rows in results for row in rows} == {"stop", "length"}
    for group, rows in zip(GROUPS, results, strict=True):
        for suffix, row in zip(group.suffixes, rows, strict=True):
            drawn = (*row.tokens, stop) if row.finish == "stop" else tuple(row.tokens)
            again = PrefixGroup(group.prefix + suffix[:-1], ((suffix[-1], *drawn),))
            found = next_token_logprobs(model, suffix_states(model, [again]), temperature=0.8)
            assert row.logprobs == pytest.approx(found.logprobs_NT[0].tolist(), abs=1e-4)


def test_the_batch_around_a_row_changes_nothing():
    model = tiny_model()
    sampling = Sampling(max_new_tokens=8, seed=11)
    together = sample(model, GROUPS, sampling, stop_ids=[9], key=(4,))
    apart = sample(model, GROUPS, sampling, stop_ids=[9], key=(4,), max_rows=1)
    other = sample(model, GROUPS, sampling, stop_ids=[9], key=(5,))
    tokens = [[row.tokens for row in rows] for rows in together]
    assert tokens == [[row.tokens for row in rows] for rows in apart]
    assert tokens != [[row.tokens for row in rows] for rows in other]


@pytest.mark.parametrize("stop", [9, 60])
def test_the_closing_state_is_that_of_the_row_encoded_again(stop):
    model = tiny_model()
    close = 3
    results = sample(
        model, GROUPS, Sampling(max_new_tokens=5, seed=1), stop_ids=[stop], close_id=close
    )
    for group, rows in zip(GROUPS, results, strict=True):
        for suffix, row in zip(group.suffixes, rows, strict=True):
            again = torch.tensor([[*group.prefix, *suffix, *row.tokens, close]])
            expected = model.base_model(again).last_hidden_state[0, -1]
            torch.testing.assert_close(row.closing_state, expected, atol=1e-4, rtol=1e-4)


def test_a_stop_token_drawn_first_leaves_an_empty_row_with_one_logprob():
    model = tiny_model()
    every = range(61)
    row = sample(model, [GROUPS[0]], Sampling(max_new_tokens=5), stop_ids=every, close_id=3)[0][0]
    assert (row.tokens, row.finish, len(row.logprobs)) == ([], "stop", 1)
    assert row.closing_state is not None


def test_tokens_are_drawn_as_often_as_the_model_says():
    model = tiny_model(initializer_range=0.1)
    prompt = (5, 6, 7)
    draws = 4000
    group = PrefixGroup(prompt[:-1], ((prompt[-1],),) * draws)
    rows = sample(model, [group], Sampling(max_new_tokens=1), stop_ids=[], max_rows=1000)[0]
    counts = Counter(row.tokens[0] for row in rows)
    probs = model(torch.tensor([prompt])).logits[0, -1].softmax(-1).tolist()
    chi2 = sum((counts[v] - draws * p) ** 2 / (draws * p) for v, p in enumerate(probs))
    # 61 cells: mean 60, standard deviation sqrt(120); five of these are far beyond chance.
    assert chi2 < 60 + 5 * math.sqrt(120)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2.0}, "min_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_impossible_sampling_is_refused_by_name(change, fault):
    with pytest.raises(ConfigError, match=fault):
        sample(tiny_model(), GROUPS, Sampling(**change), stop_ids=[])


def test_empty_groups_are_refused():
    for prefix, suffixes in [((), ((1,),)), ((1,), ()), ((1,), ((1,), ()))]:
        with pytest.raises(ShapeError, match="shared token"):
            PrefixGroup(prefix, suffixes)
    with pytest.raises(ShapeError, match="at least one group"):
        suffix_states(tiny_model(), [])


def test_models_without_trunk_and_head_are_refused():
    with pytest.raises(ModelError, match="AutoModelForCausalLM"):
        suffix_states(torch.nn.Linear(2, 2), GROUPS)
    model = tiny_model()
    model.config.logit_scale = 0.5
    with pytest.raises(ModelError, match="logit_scale"):
        suffix_states(model, GROUPS)
