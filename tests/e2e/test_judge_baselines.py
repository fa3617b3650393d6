"""Baselines: models from elsewhere in one run, each with one line of YAML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.hostile_server import Sender, good, hostile
from tests.tiny_run import write_tiny_run

from drenpa.config import BaselineConfig, load_recipe
from drenpa.core.artefacts import Artefact
from drenpa.core.errors import ConfigError
from drenpa.core.records import Verdict, Vote
from drenpa.judge.people import run_verdicts
from drenpa.pipeline import run_recipe, steps_of


@pytest.mark.parametrize(
    ("line", "name", "endpoint"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b-instruct", False),
        ("/models/Tiny_Model-Q4.gguf", "tiny-model-q4", False),
        ("smollm2-135m", "smollm2-135m", False),
        ("gpt-4o-2024-08-06 @ https://api.example.org/v1", "gpt-4o-2024-08-06", True),
        ({"name": "mine", "model": "m", "endpoint": True}, "mine", True),
    ],
)
def test_one_line_names_a_model_wherever_it_is(line: Any, name: str, endpoint: bool) -> None:
    baseline = BaselineConfig.model_validate(line)
    assert (baseline.name, baseline.endpoint) == (name, endpoint)
    assert " @ " not in baseline.model


def test_several_baselines_answer_beside_the_strategies(
    tmp_path: Path, tiny_chat: Callable[..., Path]
) -> None:
    def choose(body: dict[str, Any], before: int) -> Sender:
        assert body["messages"][0]["role"] == "system"
        return good(f"Because of {body['messages'][1]['content'].split()[2]}.")

    local, other = tiny_chat(), tiny_chat("qwen2")
    with hostile(choose) as server:
        recipe_file = write_tiny_run(
            tmp_path,
            local,
            benchmark={
                "strategies": ["base"],
                "judge": {"name": "reference", "max_unscored": 1},
                "baselines": [
                    {"name": "other", "model": str(other)},
                    f"served @ {server.url}",
                ],
            },
        )
        recipe = load_recipe(recipe_file)
        made = run_recipe(recipe, until="benchmark", tell=lambda line: None)
        asked = server.asked.total()
        again = run_recipe(recipe, until="benchmark", tell=lambda line: None)
        assert server.asked.total() == asked == 4  # one question of each kind
    assert [step for step in made if step.startswith("benchmark")] == [
        "benchmark-base",
        "benchmark-other",
        "benchmark-served",
    ]
    assert {name: made[name].digest for name in made} == {n: again[n].digest for n in again}
    served: Artefact = made["benchmark-served"]
    assert served.summary["answered_by"] == f"served @ {server.url}"
    rows = served.rows("verdicts", Verdict)
    assert {row.strategy for row in rows} == {"served"}
    assert all(row.model_answer.startswith("Because of ") for row in rows)
    assert len({row.scores["relevance"] for row in rows}) > 1
    assert len(served.rows("votes", Vote)) == 4
    texts = {
        name: [r.model_answer for r in made[name].rows("verdicts", Verdict)]
        for name in made
        if name.startswith("benchmark")
    }
    assert texts["benchmark-base"] != texts["benchmark-other"]
    assert {row.strategy for row in run_verdicts(recipe.folder)} == {"base", "other", "served"}


def test_a_baseline_needs_nothing_that_is_trained(
    tmp_path: Path, tiny_chat: Callable[..., Path]
) -> None:
    file = write_tiny_run(tmp_path, tiny_chat(), benchmark={"baselines": ["a/b", "c/d"]})
    needs = {step.name: step.needs for step in steps_of(load_recipe(file))}
    assert needs["benchmark-b"] == needs["benchmark-d"] == ("curate",)
    assert {"benchmark-b", "benchmark-d"} <= set(needs["report"])


def test_a_baseline_with_a_strategys_name_is_refused(
    tmp_path: Path, tiny_chat: Callable[..., Path]
) -> None:
    file = write_tiny_run(tmp_path, tiny_chat(), benchmark={"baselines": ["x/sft"]})
    with pytest.raises(ConfigError, match="the name 'sft' is taken"):
        load_recipe(file)
    tree = yaml.safe_load(file.read_text())
    tree["benchmark"]["baselines"] = [{"name": "y"}]
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match="name the model that answers"):
        load_recipe(file)
