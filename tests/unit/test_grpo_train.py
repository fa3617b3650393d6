"""One stage of reinforcement learning on a tiny model, with scorers that are plain functions."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tests.fakes import FakeScorer
from tests.tiny import END_OF_TEXT
from tests.tiny_models import tiny_model
from tests.vllm_fake import fake_vllm
from torch import nn

from drenpa.config import EngineConfig, LoraConfig, StageConfig
from drenpa.core.artefacts import Plan, as_input, journal_lines, run_plan, write_rows
from drenpa.core.errors import ConfigError, DataError, ModelError, ScoringError
from drenpa.core.knowledge import KINDS
from drenpa.core.records import Record
from drenpa.core.roles import Draft, Sampling
from drenpa.engine.adapters import load_backbone
from drenpa.engine.memory_bound import Extent, decode_parts
from drenpa.engine.policy import load_policy
from drenpa.grpo.objective import Objective
from drenpa.grpo.rollout import Answers, make_pushes
from drenpa.grpo.train import _micro_batch, plan_reinforce
from drenpa.report.watch import watch_checkpoint

ENGINE = EngineConfig(device="cpu", dtype="float32", tracker="none")
LORA = LoraConfig(rank=2, alpha=4)


def artefact(root, name, kind, write):
    def work(folder):
        write(folder)
        return {}

    return run_plan(
        Plan(kind=kind, name=name, root=root, config={}, inputs={}, rooms=(), work=work)
    )


@pytest.fixture
def backbone(tiny_folder, tmp_path):
    model, tokenizer = load_backbone(tiny_folder("llama"), ENGINE)

    def write(folder):
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")

    return artefact(tmp_path, "finetune", "policy", write)


@pytest.fixture
def corpus(tmp_path):
    records = [
        Record(id=f"{kind}-{n}", kind=kind, question=f"{kind} {n}?", answer="a")
        for kind in KINDS
        for n in range(2)
    ]
    return artefact(
        tmp_path, "corpus", "corpus", lambda folder: write_rows(folder / "records.parquet", records)
    )


@pytest.fixture
def critic(tmp_path):
    return artefact(tmp_path, "critic", "critic", lambda folder: None)


def letters(question, answer):
    """A reward that depends on the answer's text, so that groups have spread."""
    return float(sum(map(ord, answer)) % 97)


class Stages:
    """Runs stages that differ in a few settings."""

    def __init__(self, backbone, corpus, critic, root):
        self.backbone, self.corpus, self.critic, self.root = backbone, corpus, critic, root

    def plan(
        self,
        name,
        scorer=None,
        *,
        start=None,
        seed=1,
        objective=None,
        called=None,
        engine=ENGINE,
        **changes,
    ):
        train = {"learning_rate": 0.01, "schedule": "constant", "lora": LORA}
        train |= changes.pop("train", {})
        settings = {"steps": 2, "prompts": 3, "group": 3, "max_new_tokens": 6} | changes
        stage = StageConfig(name="main", train=train, objective=objective or {}, **settings)
        return plan_reinforce(
            start or self.backbone,
            self.backbone,
            self.corpus,
            {"critic": self.critic},
            stage,
            load_scorer=lambda place, *, engine, backbone: scorer or FakeScorer(reward=letters),
            strategy="memory",
            engine=engine,
            root=self.root / name,
            seed=seed,
            at_checkpoint=called,
        )

    def run(self, name, scorer=None, **changes):
        return run_plan(self.plan(name, scorer, **changes))


@pytest.fixture
def stages(backbone, corpus, critic, tmp_path):
    return Stages(backbone, corpus, critic, tmp_path)


def weights(made):
    (file,) = (made.path / "model").glob("*model.safetensors")
    return load_file(file)


def metrics(made):
    return list(journal_lines(made.path / "metrics.jsonl"))


def assert_alike(one, two, **tolerance):
    assert set(weights(one)) == set(weights(two))
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(two)[name], tensor, **tolerance)


@pytest.mark.parametrize("pair_coef", [0.0, 0.5])
@pytest.mark.parametrize("lora", [LORA, None], ids=["adapter", "whole"])
def test_the_size_of_micro_batches_changes_neither_metrics_nor_weights(stages, lora, pair_coef):
    one, three = (
        stages.run(
            f"micro-{size}",
            objective={"pair_coef": pair_coef, "kl_coef": 0.1},
            train={"micro_batch": size, "lora": lora},
        )
        for size in (1, 3)
    )

    assert_alike(one, three, rtol=1e-2, atol=5e-4)
    for a, b in zip(metrics(one), metrics(three), strict=True):
        for name in ("loss", "grad_norm", "kl", "entropy", "clipped", "reward", "pairs"):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-6), name
    if pair_coef:
        # On the first step policy and reference agree, so each pair costs weight(kind) * log 2.
        assert 1 * math.log(2) <= metrics(one)[0]["pair_loss"] <= 4 * math.log(2)


def test_a_row_is_trained_with_the_stop_token_that_was_drawn(tiny_folder):
    policy = load_policy(tiny_folder("llama", eos=END_OF_TEXT), engine=ENGINE)
    record = Record(id="a", kind="foundation", question="Why?", answer="So.")
    stops = sorted(policy.language_model.chat.stop_ids)
    drafts = (
        Draft("a", (97,), (-1.0, -2.0), "stop", (stops[0],)),
        Draft("b", (98,), (-1.0, -2.0), "stop", (stops[1],)),
        Draft("cd", (99, 100), (-1.0, -2.0), "length"),
    )
    answers = Answers((record,), (drafts,), {"critic": ((1.0, 2.0, 3.0),)}, (("",) * 3,), 0.0, 0.0)
    stage = StageConfig(name="main", steps=1, prompts=1, group=3, max_new_tokens=2)
    pushes = make_pushes(answers, stage, Objective())

    micro = _micro_batch([0], answers, pushes, policy, corrected=True)

    assert len(stops) == 2
    (group,) = micro.groups
    assert [row[1:] for row in group.suffixes] == [(97, stops[0]), (98, stops[1]), (99, 100)]
    assert micro.sampled_NT.tolist() == [[-1.0, -2.0]] * 3


def test_p11_changes_the_weights(stages):
    with_, without = (
        stages.run(f"pair-{coef}", objective={"pair_coef": coef}) for coef in (1.0, 0.0)
    )

    assert any((weights(with_)[n] != weights(without)[n]).any() for n in weights(with_))


def test_what_is_rewarded_is_said_more_often(stages):
    made = stages.run(
        "learn",
        FakeScorer(reward=lambda q, a: float(sum(c.isascii() and c.isupper() for c in a))),
        steps=20,
        prompts=4,
        group=8,
        train={"learning_rate": 0.01, "lora": None},
        objective={"kl_coef": 0.0},
    )

    rewards = [row["reward"] for row in metrics(made)]  # capital letters in an answer of six tokens
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 1
    assert made.summary["gate"]["reward_gain"] > 1


def test_the_first_step_stands_on_the_reference_and_later_ones_leave_it(stages):
    first, *later = metrics(stages.run("kl", steps=3, train={"learning_rate": 0.05}))

    assert first["kl"] == pytest.approx(0.0, abs=1e-9)
    assert all(row["kl"] > 1e-6 for row in later)
    assert first["clipped"] == 0.0
    assert 0 < first["entropy"] < math.log(260)


def test_the_watch_over_the_reward_looks_at_every_checkpoint(stages):
    made = stages.run("watched", called=watch_checkpoint, steps=3, train={"checkpoint_every": 1})

    assert [line["step"] for line in journal_lines(made.path / "watch.jsonl")] == [1, 2]


def test_answers_are_scored_once_though_steps_are_trained_again(stages):
    class StopError(Exception):
        pass

    class Breaking(FakeScorer):
        def score(self, questions, answers):
            if len(self.calls) == 4:
                raise StopError
            return super().score(questions, answers)

    settings = {"steps": 6, "train": {"checkpoint_every": 3}}
    whole = stages.run("whole", **settings)
    plan = stages.plan("broken", Breaking(reward=letters), **settings)
    with pytest.raises(StopError):
        run_plan(plan)

    scorer = FakeScorer(reward=letters)
    broken = stages.run("broken", scorer, **settings)

    assert len(scorer.calls) == 2  # steps 4 and 5; 3 was paid for already, though trained again
    assert_alike(broken, whole, rtol=0, atol=0)
    lines = list(journal_lines(broken.path / "samples.jsonl"))
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 5]
    first = lines[0]["groups"][0]
    assert set(first) == {"record", "kind", "question", "answers"}
    assert set(first["answers"][0]) == {
        "text",
        "finish",
        "rewards",
        "critique",
        "tokens",
        "stop",
    }
    assert first["answers"][0]["critique"].startswith("It has ")


def test_what_a_stage_has_loaded_counts_whatever_it_decodes(stages):
    class Heavy(FakeScorer):
        model = nn.Linear(1000, 1000)

        def score(self, questions, answers):
            parts = decode_parts(tiny_model(), ENGINE, Extent(1, 1, 1), Sampling(), rows=1)
            self.weights = parts.weights
            return super().score(questions, answers)

    scorer = Heavy(reward=letters)
    stages.run("heavy", scorer)

    assert scorer.weights > 4 * 1000 * 1000


def test_groups_with_an_unscored_answer_are_counted_and_the_others_go_on(stages):
    class OneIsUnscored(FakeScorer):
        def score(self, questions, answers):
            scores = super().score(questions, answers)
            spoilt = ((math.nan, *scores.rewards[0][1:]), *scores.rewards[1:])
            return type(scores)(spoilt, scores.critiques)

    made = stages.run("nan", OneIsUnscored(reward=letters))

    for row in metrics(made):
        assert row["unscored_groups"] == 1
        assert math.isfinite(row["loss"])
    line = json.loads((made.path / "samples.jsonl").read_text().splitlines()[0])
    assert line["groups"][0]["answers"][0]["rewards"] == {"critic": None}


def test_a_part_of_the_reward_that_nobody_scores_is_refused_in_the_plan(stages):
    with pytest.raises(ConfigError) as caught:
        stages.plan("nobody", reward={"critic": 1.0, "scalar": 0.5, "finished": 1.0})

    assert str(caught.value).startswith("stage main: reward.scalar: no artefact is given")


def test_a_scorer_without_numbers_stops_the_stage(stages):
    scorer = FakeScorer(reward=lambda q, a: math.nan)

    with pytest.raises(ScoringError, match="stage main: 3 of 3 groups"):
        stages.run("all-nan", scorer)
    assert not stages.plan("all-nan").done


def test_steps_without_any_spread_leave_the_weights_alone(stages):
    made = stages.run("flat", FakeScorer(reward=lambda q, a: 1.0))

    assert all(row["zero_spread"] == 1.0 for row in metrics(made))
    assert all(row["grad_norm"] == 0.0 for row in metrics(made))
    assert all((t == 0).all() for n, t in weights(made).items() if "lora_B" in n)


def test_a_stage_goes_on_with_the_adapter_of_the_one_before(stages):
    one = stages.run("one")
    none = stages.run("two", start=one, train={"learning_rate": 1e-12})

    assert_alike(none, one, rtol=0, atol=1e-9)
    assert metrics(none)[0]["kl"] > 1e-6


def test_a_stage_drops_out_its_own_share_of_the_adapter_it_goes_on_with(stages):
    made = stages.run("one")
    for drops in (0.5, 0.0):
        lora = LoraConfig(rank=2, alpha=4, dropout=drops)
        changes = {"start": made, "steps": 1, "reset_reference": True, "train": {"lora": lora}}
        made = stages.run(f"drops-{drops}", **changes)
        # The reference is at rest: at the first step only dropout lets the two differ.
        assert (metrics(made)[0]["kl"] > 1e-6) == (drops > 0)
        entries = json.loads((made.path / "model" / "adapter_config.json").read_text())
        assert entries["lora_dropout"] == drops


def test_after_a_reset_the_divergence_is_from_where_the_stage_began(stages):
    one = stages.run("one")

    for lora in (LORA, None):
        changes = {"start": one, "reset_reference": True, "train": {"lora": lora}}
        assert metrics(stages.run(f"reset-{lora is None}", **changes))[0]["kl"] < 1e-6
        changes["reset_reference"] = False
        assert metrics(stages.run(f"kept-{lora is None}", **changes))[0]["kl"] > 1e-6


def test_whole_weights_take_an_adapter_in_and_no_adapter_can_follow_them(stages):
    one = stages.run("one")
    whole = stages.run("whole", start=one, train={"lora": None, "learning_rate": 1e-12})

    base = load_file(stages.backbone.path / "model" / "model.safetensors")
    moved = [n for n in base if not torch.allclose(weights(whole)[n], base[n], rtol=0, atol=1e-9)]
    assert moved
    assert all("proj" in name for name in moved)  # what the adapter had learned, merged
    with pytest.raises(ConfigError, match=r"set train\.lora to null here too"):
        stages.plan("after", start=whole)
    with pytest.raises(ConfigError, match=r"rank 4 and alpha 4, but .* rank 2 and alpha 4"):
        stages.plan("other", start=one, train={"lora": LoraConfig(rank=4, alpha=4)})


def test_whole_weights_go_on_in_float32_from_stage_to_stage(stages):
    engine = ENGINE.model_copy(update={"dtype": "bfloat16"})
    small = {"lora": None, "learning_rate": 1e-6}
    one = stages.run("one", engine=engine, train=small)
    two = stages.run("two", engine=engine, train=small | {"learning_rate": 1e-12}, start=one)

    assert_alike(two, one, rtol=0, atol=1e-9)
    base = load_file(stages.backbone.path / "model" / "model.safetensors")
    assert all(0 < (weights(two)[n] - base[n]).abs().max() < 1e-4 for n in base)


@pytest.mark.parametrize("reset", [True, False])
def test_whole_weights_in_bfloat16_begin_with_no_divergence(stages, reset):
    engine = ENGINE.model_copy(update={"dtype": "bfloat16"})
    changes = {"train": {"lora": None}, "reset_reference": reset, "engine": engine}
    assert metrics(stages.run("whole", **changes))[0]["kl"] < 1e-6


def test_questions_that_leave_no_room_are_not_asked(stages):
    with pytest.raises(DataError, match="8 of the corpus are too long"):
        stages.run("long", max_new_tokens=500)

    made = stages.run("room", max_new_tokens=6)
    assert made.summary["too_long"] == 0


def test_a_seed_names_the_answers_and_the_initial_adapter(stages):
    one, again, other = (
        stages.run(name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )

    assert_alike(one, again, rtol=0, atol=0)
    assert any((weights(one)[n] != weights(other)[n]).any() for n in weights(one))
    assert as_input(one)["digest"] != as_input(other)["digest"]


VLLM = ENGINE.model_copy(update={"sampler": "vllm"})


def test_vllm_samples_from_the_adapter_in_training_and_is_corrected(stages, monkeypatch):
    for name, module in fake_vllm().items():
        monkeypatch.setitem(sys.modules, name, module)
    made = stages.run("served", engine=VLLM)
    steps = metrics(made)
    # The stand-in draws with this engine's arithmetic: nothing is to be corrected, to rounding.
    assert [step["importance"] for step in steps] == pytest.approx([1.0, 1.0], abs=1e-3)
    told = [
        a
        for line in journal_lines(made.path / "samples.jsonl")
        for g in line["groups"]
        for a in g["answers"]
    ]
    assert all(len(a["logprobs"]) == len(a["tokens"]) + (a["finish"] == "stop") for a in told)
    assert not (made.path / "scratch").exists()
    assert sum(float(w.abs().sum()) for n, w in weights(made).items() if "lora_B" in n) > 0


def test_what_vllm_tells_is_what_tokens_are_weighed_by(stages, monkeypatch):
    fake = fake_vllm()
    for name, module in fake.items():
        monkeypatch.setitem(sys.modules, name, module)

    class Surer(fake["vllm"].LLM):
        """Tells log-probabilities that are half as large as ours."""

        def _answer(self, network, ids, params):
            out = super()._answer(network, ids, params)
            told = [
                {t: replace(p, logprob=p.logprob - math.log(2)) for t, p in one.items()}
                for one in out.logprobs
            ]
            return replace(out, logprobs=told)

    monkeypatch.setattr(fake["vllm"], "LLM", Surer)
    loose = stages.run("loose", engine=VLLM, objective={"importance_cap": 10})
    cut = stages.run("cut", engine=VLLM, objective={"importance_cap": 1.5})
    assert metrics(loose)[0]["importance"] == pytest.approx(2.0, abs=1e-3)
    assert metrics(cut)[0]["importance"] <= 1.501


def test_vllm_is_asked_for_where_it_is(stages, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match=r"pip install 'drenpa\[vllm\]'"):
        stages.run("absent", engine=VLLM)
