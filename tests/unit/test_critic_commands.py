"""`drenpa critic` as a user meets it: a recipe as ever, or a trained critic put to the test."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from drenpa.cli import main
from drenpa.commands.critic_trial import held_out_pairs
from drenpa.config import CriticConfig, EngineConfig, ExpandConfig, LoraConfig
from drenpa.core.artefacts import Plan, as_input, run_plan, write_rows
from drenpa.core.records import Candidate, Ranking, Record
from drenpa.critic.model import CriticModel
from drenpa.critic.score import CriticSettings
from drenpa.critic.train import plan_train_critic
from drenpa.engine.adapters import add_adapter, load_backbone, save_adapter

# peft asks transformers for a property that is going away.
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


def drenpa(monkeypatch, *arguments: object) -> int:
    """Run the command line in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["drenpa", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def critic(tiny_folder, tmp_path_factory) -> Path:
    """A critic with random weights, saved as training saves one."""
    folder = tmp_path_factory.mktemp("critic") / "critic"
    folder.mkdir()
    engine = EngineConfig(device="cpu", dtype="float32", tracker="none")
    network, _ = load_backbone(tiny_folder(), engine)
    network = add_adapter(network, LoraConfig(rank=2), "critic", seed=1)
    model = CriticModel(network, attention=engine.attention)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(1))
    save_adapter(network, "critic", folder / "model", base=tiny_folder())
    save_file({"weight": model.head.weight.detach()}, folder / "head.safetensors")
    settings = CriticSettings(
        str(tiny_folder()), "en", "p", "Q {question} A {answer}", True, 200, 6
    )
    (folder / "critic.json").write_text(json.dumps(asdict(settings)), encoding="utf-8")
    return folder


@pytest.fixture
def file(tmp_path) -> Path:
    rows = [
        {"question": f"q{n}", "answer_a": "yes", "answer_b": "no, and more", "preferred": said}
        for n, said in enumerate("aabb")
    ]
    rows.append({"question": "q", "answer_a": "x", "answer_b": "y", "preferred": "tie"})
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("RECIPE", "--dry-run"),
        ("--dry-run", "RECIPE"),
        ("--set", "seed=7", "--dry-run", "RECIPE"),
        ("train", "RECIPE", "--dry-run"),
    ],
    ids=" ".join,
)
def test_a_recipe_is_trained_whether_or_not_the_word_is_said(
    monkeypatch, capsys, tmp_path, arguments
):
    recipe = tmp_path / "eval.yaml"  # a file may be called like a command
    recipe.write_text("name: tiny\n", encoding="utf-8")
    given = [recipe if argument == "RECIPE" else argument for argument in arguments]
    assert drenpa(monkeypatch, "critic", *given) == 0
    shown = capsys.readouterr().out
    assert "will run  curate" in shown
    assert "waits     critic" in shown
    assert ("seed: 7" in shown) == ("seed=7" in arguments)


def test_an_unknown_recipe_is_still_told_as_one(monkeypatch, capsys):
    assert drenpa(monkeypatch, "critic", "nonesuch.yaml") == 1
    assert "nonesuch.yaml: no such recipe" in capsys.readouterr().err


def test_eval_prints_a_table_or_json_of_the_same_figures(
    monkeypatch, capsys, critic, file, tmp_path
):
    out = tmp_path / "out"
    assert drenpa(monkeypatch, "critic", "eval", critic, file, "--json", "--out", out) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((out / "eval.json").read_text(encoding="utf-8"))
    assert (told["pairs"], told["decided"], told["own"]["pairs"]) == (5, 4, 4)
    assert told["ties"]["pairs"] == 1
    # The same two answers to four questions, preferred half and half: the longer one is a coin.
    assert told["longer"]["accuracy"] == 0.5
    assert drenpa(monkeypatch, "critic", "eval", critic, file) == 0
    table = capsys.readouterr().out
    assert "its own, changed round" in table
    assert "no order to get right: 1" in table


@pytest.mark.parametrize("arguments", [("eval",), ("card", "--pairs")], ids=lambda given: given[0])
def test_nothing_is_written_into_an_artefact(
    monkeypatch, capsys, critic, file, tmp_path, arguments
):
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    command, *option = arguments
    given = ("critic", command, critic, *option, file, "--out", tmp_path)
    assert drenpa(monkeypatch, *given) == 1
    assert f"{tmp_path}: is an artefact, which nobody alters" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_wrong_file_is_an_error_before_the_critic_is_opened(monkeypatch, capsys, tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"question": "q", "preferred": "c"}', encoding="utf-8")
    assert drenpa(monkeypatch, "critic", "eval", tmp_path / "nowhere", file) == 1
    told = capsys.readouterr().err
    assert f"{file}:1: field 'answer_a': missing" in told
    assert "nowhere" not in told


def test_a_card_is_written_from_a_file_of_pairs(monkeypatch, capsys, critic, file, tmp_path):
    out = tmp_path / "card"
    arguments = ("critic", "card", critic, "--pairs", file, "--samples", 2, "--out", out)
    assert drenpa(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out.strip() == str(out / "card.md")
    told = json.loads((out / "card.json").read_text(encoding="utf-8"))
    assert told["live"]["largest difference"] < 1
    assert told["latency"]["alone"] > 0
    assert "# Card of the critic `critic`" in (out / "card.md").read_text(encoding="utf-8")


def test_a_card_without_pairs_needs_an_artefact(monkeypatch, capsys, critic):
    assert drenpa(monkeypatch, "critic", "card", critic) == 1
    assert "--pairs" in capsys.readouterr().err


def test_the_cards_pairs_have_the_critiques_that_the_critic_was_measured_with(tmp_path):
    candidates = (
        Candidate(id="a", answer="yes", rank=1, note="right"),
        Candidate(id="b", answer="no", rank=2, note="wrong"),
    )
    ranking = Ranking(id="k", record="r", candidates=candidates, split="held_out")

    def corpus_work(folder):
        records = [Record(id="r", kind="foundation", question="q?", answer="yes")]
        write_rows(folder / "records.parquet", records)
        write_rows(folder / "rankings.parquet", [ranking])
        return {}

    def critic_work(folder):
        shown = {"ranking": "k", "candidate": "a", "gold": "The answer is right."}
        (folder / "critiques.jsonl").write_text(json.dumps(shown) + "\n", encoding="utf-8")
        return {}

    corpus = run_plan(Plan("corpus", "corpus", tmp_path, {}, {}, (), corpus_work))
    inputs = {"corpus": as_input(corpus)}
    critic = run_plan(Plan("critic", "critic", tmp_path, {}, inputs, (), critic_work))
    (pair,) = held_out_pairs(critic.path)
    assert (pair.critique_a, pair.critique_b) == ("The answer is right.", "wrong")


def test_expand_says_what_it_would_cost_and_then_writes_and_queues(
    monkeypatch, capsys, tmp_path, tiny_folder
):
    recipe = tmp_path / "r.yaml"
    rows = [
        {
            "id": f"r{n}",
            "kind": "foundation",
            "question": f"{word}?",
            "answer": word,
            "source": word,
        }
        for n, word in enumerate(("sun", "moon", "rain", "snow", "wind", "fire", "salt", "gold"))
    ]
    candidates = [
        {"id": "a", "answer": "It is so.", "rank": 1, "note": "right"},
        {"id": "b", "answer": "No.", "rank": 2, "critique": "Says nothing."},
    ]
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "rankings.jsonl").write_text(
        json.dumps({"id": "k", "record": "r1", "candidates": candidates}), encoding="utf-8"
    )
    recipe.write_text(
        json.dumps(
            {
                "name": "tiny",
                "out": str(tmp_path / "run"),
                "corpus": {
                    "records": ["records.jsonl"],
                    "rankings": ["rankings.jsonl"],
                    "benchmark": [],
                },
            }
        ),
        encoding="utf-8",
    )
    assert drenpa(monkeypatch, "critic", "expand", recipe) == 1
    assert "critic.expand.writer" in capsys.readouterr().err
    model = tiny_folder(max_position_embeddings=4096)
    local = ("--set", f"critic.expand={{writer: local, model: '{model}', max_tokens: 4}}")
    assert drenpa(monkeypatch, "critic", "expand", recipe, *local, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "1 notes to write out, 0 of them known" in shown
    assert not (tmp_path / "run" / "expand.sqlite").exists()
    long = ("--set", "critic.expand.tries=1")
    assert drenpa(monkeypatch, "critic", "expand", recipe, *local, *long) == 0
    shown = capsys.readouterr().out
    assert "queued 1" in shown  # a model with random weights says nothing that could pass
    assert (tmp_path / "run" / "expand-queue.jsonl").read_text(encoding="utf-8").count("\n") == 1


@pytest.fixture
def planned(tiny_folder, tmp_path):
    """The plan of a critic's training on one ranking, with the given settings for expansion."""
    candidates = (Candidate(id="0", answer="yes", rank=1), Candidate(id="1", answer="no", rank=2))

    def work(folder):
        records = [
            Record(id=f"r{n}", kind="foundation", question=f"q{n}?", answer="yes") for n in range(2)
        ]
        rankings = [Ranking(id=f"r{n}", record=f"r{n}", candidates=candidates) for n in range(2)]
        write_rows(folder / "records.parquet", records)
        write_rows(folder / "rankings.parquet", rankings)
        return {}

    corpus = run_plan(Plan("corpus", "corpus", tmp_path, {}, {}, (), work))

    def plan(weight: float = 1.0, **expand: object):
        config = CriticConfig(critique_weight=weight, expand=ExpandConfig(**expand))
        return plan_train_critic(corpus, tiny_folder(), config, root=tmp_path)

    return plan


def test_what_an_expansion_may_cost_makes_no_other_critic_but_who_writes_it_does(planned):
    at = {"writer": "openai", "model": "m", "price_in": 1.0}
    assert planned(**at).key == planned(**at, max_cost=5.0, concurrency=9, retries=1).key
    assert planned(**at).key != planned(**at | {"model": "n"}).key
    assert planned(**at).key != planned(**at, checker="c").key
    assert planned(**at).key != planned(**at, max_tokens=900).key  # fewer notes are cut
    assert planned(**at).key != planned(**at | {"writer": "local"}).key
    assert planned(**at).key != planned().key


def test_a_local_writer_that_was_retrained_in_its_place_makes_another_critic(planned, tmp_path):
    for folder in ("writer", "checker"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights").write_text("of yesterday")
    named = {"model": str(tmp_path / "writer"), "checker": str(tmp_path / "checker")}
    keys = [planned(writer="local", **named).key]
    for folder in ("writer", "checker"):
        (tmp_path / folder / "weights").write_text("of today")
        keys.append(planned(writer="local", **named).key)
    assert len(set(keys)) == 3
    assert planned(writer="local", **named).key == keys[-1]


def test_a_scorer_without_critiques_pays_for_none(planned):
    assert planned(weight=0.0, writer="openai", model="m").config["expand"] is None
    assert planned(weight=0.0, writer="openai", model="m").key == planned(weight=0.0).key
