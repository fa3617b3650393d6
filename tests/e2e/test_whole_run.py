"""`drenpa run` on a tiny random model, from files to report."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.tiny_run import ROUND, every_strategy, tiny_rows, write_tiny_run

from drenpa.core.artefacts import MANIFEST, open_artefact
from drenpa.core.knowledge import DIMENSIONS, KINDS

LOGGED = {
    *("reward", "spread", "kl", "entropy", "length", "truncated", "zero_spread", "pairs"),
    *("pair_loss", "too_long", "tokens_per_second", "seconds_sampling", "seconds_scoring"),
    *("seconds_update", "learning_rate", "grad_norm", "mass_foundation", "reward_foundation"),
}
STRATEGIES = ("base", "sft", "grpo", "memory", "multistage", "final")


def finished(run: Path, stem: str) -> list[Path]:
    return sorted(path.parent for path in run.glob(f"{stem}-??????????/{MANIFEST}"))


def only(run: Path, stem: str) -> Path:
    (folder,) = finished(run, stem)
    return folder


def told(outcome) -> list[tuple[str, str]]:
    """The lines about steps: what became of each, and its name."""
    lines = [line.split() for line in outcome.said.splitlines()]
    return [
        (" ".join(words[:-1]), Path(words[-1]).name.rpartition("-")[0])
        for words in lines
        if words[:1] == ["running"] or words[:2] == ["done", "already"]
    ]


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_command_goes_from_files_to_a_report_and_the_second_time_does_nothing(
    drenpa, tiny_chat, tmp_path
):
    recipe = write_tiny_run(tmp_path, tiny_chat("qwen2"), strategies=every_strategy())
    run = tmp_path / "run"

    first = drenpa.run("run", recipe)

    assert first.status == 0, first.said
    assert first.cpu_seconds < 60
    names = [name for _, name in told(first)]
    assert names[:4] == ["corpus", "finetune", "critic", "scalar"]
    assert names[-7:-1] == [f"benchmark-{name}" for name in STRATEGIES]
    assert {state for state, _ in told(first)} == {"running"}
    assert not list(run.glob("*.partial"))

    cells = json.loads((run / "report" / "table.json").read_text(encoding="utf-8"))
    for strategy in STRATEGIES:
        for kind in KINDS:
            found = {
                c["dimension"]: c for c in cells if (c["strategy"], c["kind"]) == (strategy, kind)
            }
            assert set(found) == {*DIMENSIONS, "mean"}
            for cell in found.values():
                assert {"strategy", "model", "kind", "dimension", "percent", "n"} <= set(cell)
                assert {"unscored", "low", "high"} <= set(cell)
                assert cell["n"] + cell["unscored"] == 1
                assert cell["percent"] is None or 0 <= cell["percent"] <= 100
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    asked = [row["question"] for row in tiny_rows()["benchmark"]]
    assert any(question in page for question in asked)

    for stem in ("finetune", "critic", "scalar", "reinforce-memory-main"):
        folder = only(run, stem)
        assert not (folder / "scratch").exists()
        rows = metrics(folder)
        assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
        assert all(math.isfinite(row["loss"]) for row in rows)
    of_memory = metrics(only(run, "reinforce-memory-main"))[0]
    assert set(of_memory) >= LOGGED
    assert "pair_loss" not in metrics(only(run, "reinforce-grpo-main"))[0]

    made = {path: path.stat().st_mtime_ns for path in run.glob(f"*/{MANIFEST}")}
    second = drenpa.run("run", recipe)

    assert second.status == 0, second.said
    assert {state for state, _ in told(second)} == {"done already"}
    assert [name for _, name in told(second)] == names
    assert second.cpu_seconds < 0.7 * first.cpu_seconds  # both import torch, which takes longest
    assert {path: path.stat().st_mtime_ns for path in run.glob(f"*/{MANIFEST}")} == made


def test_another_seed_makes_new_artefacts_beside_the_old(drenpa, tiny_chat, tmp_path):
    recipe = write_tiny_run(
        tmp_path,
        tiny_chat("llama"),
        strategies=[{"name": "memory", "stages": [{**ROUND, "name": "main"}]}],
        benchmark={"strategies": ["memory"]},
    )
    run = tmp_path / "run"
    assert drenpa.run("run", recipe).status == 0
    before = {path: path.read_bytes() for path in run.glob(f"*-??????????/{MANIFEST}")}
    page = (run / "report").resolve()

    again = drenpa.run("run", recipe, "--set", "seed=2")

    assert again.status == 0, again.said
    for stem in ("finetune", "critic", "reinforce-memory-main", "benchmark-memory"):
        assert len(finished(run, stem)) == 2, stem
    assert {path: path.read_bytes() for path in before} == before
    one, two = (
        load_file(folder / "model" / "adapter_model.safetensors")
        for folder in finished(run, "reinforce-memory-main")
    )
    assert any((one[name] != two[name]).any() for name in one)
    assert page.is_dir()
    assert (run / "report").resolve() != page


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_whole_weights_are_trained_where_a_recipe_asks_for_it(drenpa, tiny_chat, tmp_path, family):
    whole = {**ROUND, "train": {"learning_rate": 0.001, "micro_batch": 1, "lora": None}}
    recipe = write_tiny_run(
        tmp_path,
        tiny_chat(family),
        finetune={"train": {"learning_rate": 0.001, "lora": None}},
        strategies=[
            {
                "name": "memory",
                "stages": [
                    {**whole, "name": "one", "steps": 1},
                    {**whole, "name": "two", "steps": 1, "reset_reference": True},
                ],
            }
        ],
        benchmark={"strategies": ["sft", "memory"]},
    )
    run = tmp_path / "run"

    outcome = drenpa.run("run", recipe)

    assert outcome.status == 0, outcome.said
    folders = (
        tiny_chat(family),
        only(run, "finetune") / "model",
        only(run, "reinforce-memory-one") / "model",
        only(run, "reinforce-memory-two") / "model",
    )
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    for before, after in pairwise(weights):
        assert set(before) == set(after)
        moved = [name for name in before if (before[name].float() != after[name].float()).any()]
        assert moved == list(before)  # every tensor, not the linear layers alone
    first, second = (metrics(only(run, f"reinforce-memory-{n}"))[0] for n in ("one", "two"))
    assert first["kl"] == pytest.approx(0, abs=1e-6)  # the fine-tuned model is the reference
    assert second["kl"] == pytest.approx(0, abs=1e-6)  # and here the policy that stage one left


def test_without_a_reset_the_reference_stays_the_fine_tuned_model(drenpa, tiny_chat, tmp_path):
    def stages(reset):
        return [
            {**ROUND, "name": "one"},
            {**ROUND, "name": "two", "steps": 1, "reset_reference": reset},
        ]

    recipe = write_tiny_run(
        tmp_path,
        tiny_chat("qwen3"),
        strategies=[
            {"name": "kept", "stages": stages(False)},
            {"name": "reset", "stages": stages(True)},
        ],
    )

    outcome = drenpa.run("reinforce", recipe)

    assert outcome.status == 0, outcome.said
    run = tmp_path / "run"
    assert metrics(only(run, "reinforce-kept-two"))[0]["kl"] > 1e-5
    assert metrics(only(run, "reinforce-reset-two"))[0]["kl"] == pytest.approx(0, abs=1e-7)


def test_a_question_without_room_for_an_answer_is_not_asked_and_counted(
    drenpa, tiny_chat, tmp_path
):
    rows = tiny_rows()
    rows["records"][0] = {**rows["records"][0], "question": "Why " + "really " * 60 + "?"}
    long = rows["records"][0]["id"]
    recipe = write_tiny_run(
        tmp_path,
        tiny_chat("llama"),
        rows=rows,
        strategies=[
            {
                "name": "grpo",
                "stages": [
                    {
                        **ROUND,
                        "name": "main",
                        "steps": 4,
                        "reward": {"finished": 1},
                        "train": {**ROUND["train"], "max_length": 600},
                    }
                ],
            }
        ],
    )

    outcome = drenpa.run("reinforce", recipe)

    assert outcome.status == 0, outcome.said
    folder = only(tmp_path / "run", "reinforce-grpo-main")
    assert open_artefact(folder).summary["too_long"] == 1
    assert {row["too_long"] for row in metrics(folder)} == {1.0}
    asked = {
        group["record"]
        for line in (folder / "samples.jsonl").read_text().splitlines()
        for group in json.loads(line)["groups"]
    }
    assert asked
    assert long not in asked
