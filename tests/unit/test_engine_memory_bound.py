from __future__ import annotations

import json

import pytest
import torch
from tests.tiny_models import FAMILIES, tiny_model, with_lora
from torch import nn
from torch.profiler import ProfilerActivity, profile

from drenpa.config import EngineConfig, LoraConfig
from drenpa.core import machine
from drenpa.core.errors import ConfigError
from drenpa.core.roles import Sampling
from drenpa.engine import memory_bound
from drenpa.engine.adapters import add_adapter, recompute_activations
from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.memory_bound import (
    LIBRARY_BYTES,
    DecodeLimits,
    Extent,
    Parts,
    _kept_bytes,
    _kept_for_backward,
    bounded_as_begun,
    decode_limits,
    decode_parts,
    loaded_beside,
    memory_limit,
    micro_batch_limit,
    read_limit,
    read_parts,
    update_parts,
)
from drenpa.engine.prefix import PrefixGroup, suffix_states
from drenpa.engine.sample import sample

ENGINE = EngineConfig(device="cpu", dtype="float32", tracker="none")
CPU = torch.device("cpu")
GROUPS = [PrefixGroup((5, 6, 7, 8, 9), ((10,),) * 4), PrefixGroup((5, 6), ((7,),) * 4)]
SAMPLING = Sampling(max_new_tokens=6, seed=3)


def within(memory: float, **changes: object) -> EngineConfig:
    return ENGINE.model_copy(update={"memory_gb": memory / 1e9, **changes})


def trained(family: str = "llama", **changes: object) -> nn.Module:
    return with_lora(tiny_model(family, **changes))


def groups_of(count: int, prefix: int, rows: int, suffix: int) -> list[PrefixGroup]:
    return [PrefixGroup((3,) * prefix, ((4,) * suffix,) * rows) for _ in range(count)]


def live_peak(work) -> float:
    """The most bytes that tensors made in `work` held at once, as the allocator reports them."""
    import tempfile
    from pathlib import Path

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        work()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        trace.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    totals = [e["args"]["Total Allocated"] for e in events if e.get("name") == "[memory]"]
    return max(totals) - totals[0]


def test_an_extent_holds_every_group() -> None:
    ragged = [PrefixGroup((1, 2, 3), ((4,), (5, 6))), PrefixGroup((1,), ((2, 3, 4),))]
    assert Extent.of(ragged) == Extent(prefix=3, rows=2, suffix=3)


def test_head_and_passing_arrays_are_never_held_together() -> None:
    assert Parts(1, 2, 3, cache=4, activations=5, head=6, passing=7).total == 1 + 2 + 3 + 4 + 5 + 7


def test_keys_and_values_by_hand() -> None:
    parts = decode_parts(tiny_model(), ENGINE, Extent(5, 4, 1), SAMPLING, rows=8)
    # Two groups of 5 shared tokens and 4 places of 1 + 6 + 1 own ones with 64 columns of room; a
    # token has 2 layers x 2 heads x 6 wide x keys and values in float32. One layer is held twice
    # while grids grow. The packed pass holds 2 x 5 + 8 x 1 tokens.
    token = 2 * 2 * 6 * 2 * 4
    held = 2 * (5 + 4 * (1 + 6 + 1 + 64))
    assert parts.cache == held * token * 1.5 + 18 * token
    assert parts.libraries == LIBRARY_BYTES


def test_every_weight_counts_once_and_trained_ones_bring_gradients_and_moments() -> None:
    model = trained()
    weights = sum(p.numel() * 4 for p in model.parameters()) + sum(
        b.numel() * b.element_size() for b in model.buffers()
    )
    adapter = sum(p.numel() for n, p in model.named_parameters() if "lora_" in n)
    parts = update_parts(model, ENGINE, Extent(4, 2, 4), 1, others=[model, model.get_base_model()])
    assert parts.weights == weights
    assert parts.optimiser == 12 * adapter
    beside = update_parts(model, ENGINE, Extent(4, 2, 4), 1, others=[tiny_model(seed=1)])
    assert beside.weights > weights


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_token_leaves_behind_foretells_longer_passes(family) -> None:
    model = trained(family)
    once, a_token = _kept_for_backward(model, ENGINE)
    found = _kept_bytes(model.train(), ENGINE, 160)
    assert a_token > 0
    assert found == pytest.approx(once + 160 * a_token, rel=0.02)


def test_counting_leaves_the_model_and_the_random_stream_as_they_were() -> None:
    model = trained().eval()
    recompute_activations(model)
    state = torch.random.get_rng_state()
    micro_batch_limit(model, ENGINE, Extent(4, 2, 4), 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.training
    switches = [
        m.gradient_checkpointing for m in model.modules() if hasattr(m, "gradient_checkpointing")
    ]
    assert switches
    assert all(switches)


@pytest.mark.filterwarnings("ignore:.*prefixes are not shared:UserWarning")
@pytest.mark.parametrize("way", ["adapter", "recomputed", "all weights", "plain", "drops out"])
def test_an_update_holds_no_more_than_its_bound(way) -> None:
    big = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 600, "num_hidden_layers": 4}
    prefix = 48
    model = tiny_model("llama", **big).requires_grad_(True)
    if way == "drops out":
        prefix = 300  # all layers keep their attention weights, which grow by the square
        big["attention_dropout"] = 0.1
    if way != "all weights":
        model = trained("llama", **big)
    if way == "recomputed":
        recompute_activations(model)
    engine = ENGINE.model_copy(update={"attention": "plain" if way == "plain" else "shared"})
    groups = groups_of(2, prefix, 4, 33)

    def update() -> None:
        states = suffix_states(model, groups, attention=engine.attention)
        next_token_logprobs(model, states, entropy=True).logprobs_NT.mean().backward()

    parts = update_parts(model.eval(), engine, Extent.of(groups), len(groups))
    model.train()
    update()
    model.zero_grad()
    peak = live_peak(update)
    bound = parts.total - parts.weights - parts.libraries - parts.optimiser * 8 / 12
    assert peak <= bound
    assert bound <= 3.5 * peak  # and is worth something


def test_decoding_holds_no_more_than_its_bound() -> None:
    model = tiny_model("llama", hidden_size=64, intermediate_size=128, vocab_size=600)
    groups = groups_of(4, 48, 4, 9)
    sampling = Sampling(max_new_tokens=40)
    parts = decode_parts(model, ENGINE, Extent.of(groups), sampling, rows=16)
    peak = live_peak(lambda: sample(model, groups, sampling, stop_ids=[]))
    bound = parts.total - parts.weights - parts.libraries
    assert peak <= bound <= 5 * peak


@pytest.mark.parametrize("attention", ["shared", "plain"])
def test_reading_holds_no_more_than_its_bound(attention) -> None:
    model = tiny_model("llama", hidden_size=64, intermediate_size=128, vocab_size=600)
    engine = ENGINE.model_copy(update={"attention": attention})
    groups = groups_of(4, 48, 4, 33)

    @torch.no_grad()
    def read() -> None:
        next_token_logprobs(model, suffix_states(model, groups, attention=attention))

    parts = read_parts(model, engine, Extent.of(groups), len(groups))
    peak = live_peak(read)
    bound = parts.total - parts.weights - parts.optimiser - parts.libraries
    assert peak <= bound <= 5 * peak


@pytest.mark.parametrize("count", [1, 2])
def test_as_many_groups_are_read_as_fit(count) -> None:
    model = tiny_model()
    needed = read_parts(model, ENGINE, Extent.of(GROUPS), count).total
    assert read_limit(model, within(needed + 1), GROUPS, 2) == count
    with pytest.raises(ConfigError, match="one group of 4 rows, 5 shared and 1 own tokens"):
        read_limit(model, within(5e8), GROUPS, 2)


def test_what_is_loaded_beside_counts_with_the_moments_of_what_of_it_is_trained() -> None:
    model, other = tiny_model().requires_grad_(False), trained(seed=1)
    trainable = sum(p.numel() for p in other.parameters() if p.requires_grad)

    def parts() -> Parts:
        return decode_parts(model, ENGINE, Extent.of(GROUPS), SAMPLING, rows=1)

    alone = parts()
    with loaded_beside(other, model):
        beside = parts()
    assert beside.weights - alone.weights >= sum(4 * p.numel() for p in other.parameters())
    assert (alone.optimiser, beside.optimiser) == (0, 12 * trainable)
    assert parts() == alone


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_as_many_rows_are_decoded_as_fit(rows) -> None:
    model = tiny_model()
    needed = decode_parts(model, ENGINE, Extent.of(GROUPS), SAMPLING, rows).total
    limits = decode_limits(model, within(needed + 1), GROUPS, SAMPLING)
    assert limits.rows == rows


def test_no_more_rows_than_asked_for_are_decoded() -> None:
    roomy = within(1e12, decode_rows=3)
    assert decode_limits(tiny_model(), roomy, GROUPS, SAMPLING).rows == 3
    assert decode_limits(tiny_model(), within(1e12), GROUPS, SAMPLING).rows == 8


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_groups_are_updated_as_fit(count) -> None:
    model, extent = trained(), Extent(6, 4, 9)
    needed = update_parts(model, ENGINE, extent, count).total
    assert micro_batch_limit(model, within(needed + 1), extent, 3) == count


def test_what_does_not_fit_one_at_a_time_is_refused_with_the_sum_and_the_remedy() -> None:
    with pytest.raises(
        ConfigError, match=r"engine\.memory_gb: 0\.50 GB do not hold one row of 6"
    ) as e:
        decode_limits(tiny_model(), within(5e8), GROUPS, SAMPLING)
    assert "libraries 0.60" in str(e.value)
    with pytest.raises(ConfigError, match="one group of 4 rows, 6 shared and 9 own tokens"):
        micro_batch_limit(trained(), within(5e8), Extent(6, 4, 9), 3)


def test_where_no_bound_was_set_nobody_is_told_to_raise_it(monkeypatch) -> None:
    monkeypatch.setattr(memory_bound, "_free_memory", lambda device: 5e8)
    with pytest.raises(ConfigError, match=r"\); free some memory, set it to more, take shorter"):
        decode_limits(tiny_model(), ENGINE, GROUPS, SAMPLING)
    with pytest.raises(ConfigError, match=r"\); raise it, take shorter"):
        decode_limits(tiny_model(), within(5e8), GROUPS, SAMPLING)


def test_little_memory_changes_no_token() -> None:
    model = tiny_model()
    tight = decode_limits(
        model,
        within(decode_parts(model, ENGINE, Extent.of(GROUPS), SAMPLING, 2).total + 1),
        GROUPS,
        SAMPLING,
    )
    assert tight == DecodeLimits(2, 5 + 2 * (1 + 6 + 1 + 64))
    few = sample(
        model, GROUPS, SAMPLING, stop_ids=[9], max_rows=tight.rows, max_tokens=tight.tokens
    )
    many = sample(model, GROUPS, SAMPLING, stop_ids=[9])
    assert [[r.tokens for r in rows] for rows in few] == [[r.tokens for r in rows] for rows in many]


def test_recomputing_activations_takes_less() -> None:
    plain, thrifty = trained(num_hidden_layers=6), trained(num_hidden_layers=6)
    recompute_activations(thrifty)
    extent = Extent(32, 4, 32)
    needed = [update_parts(model, ENGINE, extent, 2).activations for model in (plain, thrifty)]
    assert needed[1] < 0.5 * needed[0]


def test_dropout_in_the_adapter_is_counted() -> None:
    dry, wet = (
        add_adapter(tiny_model(), LoraConfig(rank=2, dropout=dropout), "policy", seed=1)
        for dropout in (0.0, 0.1)
    )
    assert _kept_for_backward(wet, ENGINE)[1] > _kept_for_backward(dry, ENGINE)[1]


def test_without_a_bound_most_of_the_free_memory_may_be_held() -> None:
    limit = memory_limit(ENGINE, CPU)
    total, _ = machine.machine_memory()
    assert 0 < limit < total
    assert memory_limit(ENGINE, CPU) == limit
    assert memory_limit(within(2e9), CPU) == 2e9


def limits_in(folder, engine=ENGINE) -> list[tuple[float, int]]:
    """What a stage in this folder is bounded by, and how many rows it would decode."""
    seen = []

    def work(_folder):
        seen.append(
            (memory_limit(engine, CPU), decode_limits(tiny_model(), engine, GROUPS, SAMPLING).rows)
        )
        return {}

    bounded_as_begun(work)(folder)
    return seen


def test_a_stage_that_goes_on_is_bounded_by_what_was_free_when_it_began(tmp_path, capsys) -> None:
    began = memory_limit(ENGINE, CPU)
    assert limits_in(tmp_path) == [(began, 8)]
    (kept,) = (tmp_path / "scratch").iterdir()
    needed = decode_parts(tiny_model(), ENGINE, Extent.of(GROUPS), SAMPLING, rows=5).total
    kept.write_text(json.dumps(needed))

    assert limits_in(tmp_path) == [(needed, 5)]
    assert memory_limit(ENGINE, CPU) == began  # outside the stage
    assert limits_in(tmp_path, within(9e11)) == [(9e11, 8)]
    assert capsys.readouterr().err == ""


def test_a_stage_that_began_with_more_than_is_free_now_is_told_once(
    tmp_path, capsys, monkeypatch
) -> None:
    limits_in(tmp_path)
    monkeypatch.setattr(memory_bound, "_free_memory", lambda device: 5e8)

    assert [rows for _, rows in limits_in(tmp_path) + limits_in(tmp_path)] == [8, 8]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("engine.memory_gb: 0.50 GB may be held now, and this stage goes on with")


def test_this_process_holds_memory() -> None:
    assert machine.resident_memory() > 1e7
