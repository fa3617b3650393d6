"""What a recipe names and is not there, found before anything runs."""

from __future__ import annotations

import pytest
from tests.tiny_run import write_tiny_run

from drenpa.config import Recipe, load_recipe
from drenpa.core.errors import ConfigError
from drenpa.pipeline import STAGES, run_recipe
from drenpa.preflight import check_recipe, faults_of


def faults(**changes):
    return faults_of(Recipe.model_validate({"name": "tiny", **changes}), STAGES)


def test_a_recipe_of_defaults_lacks_nothing():
    assert faults() == []


@pytest.mark.parametrize(
    ("changes", "key", "what"),
    [
        ({"model": "./none"}, "model './none'", "neither a folder"),
        ({"answer_prompt": "anser"}, "answer_prompt", "did you mean 'answer'"),
        ({"answer_prompt": "mine.md"}, "answer_prompt", "no such prompt file"),
        ({"critic": {"prompt": "answer"}}, "critic.prompt", "its slots must be"),
        ({"critic": {"expand_prompt": "no.md"}}, "critic.expand_prompt", "no such prompt file"),
        ({"scalar": {"prompt": "no.md"}}, "scalar.prompt", "no such prompt file"),
        ({"engine": {"sampler": "vllm"}}, "engine.sampler", "vLLM cannot be imported"),
        ({"memory": {"past": "runs/none"}}, "memory.past", "holds no finished memory"),
        ({"memory": {"past": "runs/tiny"}}, "memory.past", "is this recipe's own run"),
        ({"memory": {"past": "runs/tiny/m"}}, "memory.past", "is this recipe's own run"),
        ({"report": {"people": ["none.jsonl"]}}, "report.people", "none.jsonl"),
        ({"benchmark": {"prompt": "critique"}}, "benchmark.prompt", "cannot have the slot"),
        (
            {"benchmark": {"judge": {"name": "recorded", "file": "none.jsonl"}}},
            "benchmark.judge",
            "none.jsonl: cannot be read",
        ),
        (
            {"benchmark": {"judge": {"name": "local", "model": "./none"}}},
            "benchmark.judge.model",
            "neither a folder",
        ),
        (
            {"benchmark": {"judge": {"name": "openai", "model": "m", "key_env": "NO_KEY"}}},
            "benchmark.judge.key_env",
            "the environment variable NO_KEY is empty",
        ),
        (
            {"benchmark": {"baselines": ["./none.gguf"]}},
            "benchmark.baselines.none.model",
            "no such file",
        ),
        (
            {"critic": {"expand": {"writer": "openai", "model": "m", "key_env": "NO_KEY"}}},
            "critic.expand.key_env",
            "NO_KEY is empty",
        ),
        (
            {"critic": {"expand": {"writer": "local", "model": "./none"}}},
            "critic.expand.model",
            "neither a folder",
        ),
    ],
)
def test_what_is_missing_is_named_by_its_key(changes, key, what):
    (fault,) = faults(**changes)
    assert fault.startswith(f"{key}: ")
    assert what in fault


def test_every_judge_of_a_panel_is_asked_and_all_faults_are_told_at_once():
    judge = {
        "name": "panel",
        "members": [
            {"name": "rules"},
            {"name": "recorded", "file": "none.jsonl"},
            {"name": "local", "model": "./none"},
        ],
    }
    with pytest.raises(ConfigError) as error:
        check_recipe(Recipe(name="tiny", benchmark={"judge": judge}), STAGES)
    assert len(str(error.value).splitlines()) == 2


def test_only_the_stages_that_are_still_to_be_done_are_asked():
    wrong = Recipe(name="tiny", benchmark={"prompt": "none.md"}, report={"people": ["none"]})
    assert len(faults_of(wrong, {"benchmark", "report"})) == 2
    assert faults_of(wrong, {"curate", "finetune", "critic", "reinforce"}) == []


def test_a_run_stops_before_its_first_stage_and_not_at_its_last(tmp_path):
    path = write_tiny_run(tmp_path, tmp_path / "model")
    recipe = load_recipe(path, settings=["report.people=[none]"])
    with pytest.raises(ConfigError, match=r"report\.people: none"):
        run_recipe(recipe, tell=lambda _: None)
    assert not recipe.folder.exists()
    assert "curate" in run_recipe(recipe, until="curate", tell=lambda _: None)
