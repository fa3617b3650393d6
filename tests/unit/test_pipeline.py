"""The steps of a recipe: their order, what each needs, and what one command runs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_run import ROUND, every_strategy, tiny_rows, write_lines, write_tiny_run

from drenpa.config import Recipe, load_recipe
from drenpa.core.artefacts import Plan, as_input, run_plan
from drenpa.core.errors import ConfigError
from drenpa.critic.lots import lots_of
from drenpa.pipeline import foretell, run_recipe, steps_of, trained_on

RECIPES = Path(__file__).parent.parent.parent / "recipes"
LORA = {"rank": 2, "alpha": 4}


def recipe(**changes):
    return Recipe.model_validate({"name": "tiny", "model": "nowhere/at-all", **changes})


def names(recipe_):
    return [step.name for step in steps_of(recipe_)]


def stage(name, lora=LORA, **changes):
    return {**ROUND, "name": name, "train": {"lora": lora}, **changes}


def test_the_papers_strategies_follow_each_other():
    assert names(recipe(strategies=every_strategy())) == [
        *("curate", "finetune", "critic", "scalar"),
        *("reinforce-grpo-main", "reinforce-memory-main"),
        *("reinforce-multistage-structured", "reinforce-multistage-general"),
        "reinforce-final-together",
        *(f"benchmark-{s}" for s in ("base", "sft", "grpo", "memory", "multistage", "final")),
        "report",
    ]


def test_each_stage_starts_from_the_one_before_it():
    needs = {step.name: step.needs for step in steps_of(recipe(strategies=every_strategy()))}

    assert needs["reinforce-grpo-main"] == ("curate", "finetune", "scalar")
    assert needs["reinforce-memory-main"] == ("curate", "finetune", "critic")
    assert "reinforce-memory-main" in needs["reinforce-multistage-structured"]
    assert "reinforce-multistage-structured" in needs["reinforce-multistage-general"]
    assert "reinforce-multistage-general" in needs["reinforce-final-together"]
    assert needs["benchmark-base"] == ("curate",)
    assert needs["benchmark-sft"] == ("curate", "finetune")
    assert needs["benchmark-multistage"] == ("curate", "reinforce-multistage-general")


def test_a_memory_selects_before_training_and_looks_back_at_the_strategies_that_recall():
    steps = steps_of(
        recipe(
            strategies=every_strategy(),
            memory={},
            benchmark={"strategies": ["base+recall", "grpo+recall", "final"]},
        )
    )
    needs = {step.name: step.needs for step in steps}

    assert list(needs)[:4] == ["curate", "memory-select", "internalised", "finetune"]
    assert [name for name in needs if name.startswith("memory-update")] == [
        "memory-update-grpo",  # a column recalls with it
        "memory-update-final",  # the last one, which is talked to
    ]
    assert needs["finetune"] == ("internalised", "curate")  # what the critic is watched on
    assert needs["critic"] == ("curate", "finetune")  # it judges answers to every question
    assert needs["reinforce-grpo-main"] == ("internalised", "finetune", "scalar")
    assert needs["memory-update-grpo"] == ("memory-select", "curate", "reinforce-grpo-main")
    assert needs["benchmark-base+recall"] == ("curate", "memory-select")
    assert needs["benchmark-grpo+recall"] == (
        *("curate", "reinforce-grpo-main", "memory-update-grpo"),
    )
    assert needs["benchmark-final"] == ("curate", "reinforce-final-together")
    assert not {"internalised", "memory-select", "memory-update-final"} & set(needs["report"])


def test_a_former_memory_that_is_not_there_is_told_before_anything_is_trained(tmp_path):
    (tmp_path / "former").mkdir()
    past = {"past": str(tmp_path / "former")}
    made = load_recipe(write_tiny_run(tmp_path, tmp_path / "model", memory=past))

    with pytest.raises(ConfigError, match="former: holds no finished memory; run its recipe"):
        run_recipe(made, until="memory", tell=lambda line: None)


def test_a_run_does_not_carry_on_its_own_memory(tmp_path):
    own = recipe(memory={"past": f"{tmp_path}/x/../run"}, out=str(tmp_path / "run"))
    (select,) = (step for step in steps_of(own) if step.name == "memory-select")
    with pytest.raises(ConfigError, match="own run; name a former run's folder"):
        select.plan({})


def made(root, kind, name, inputs=None):
    def work(folder):
        (folder / "file").write_text(name)
        return {}

    return run_plan(Plan(kind, name, root, {}, inputs or {}, (), work))


def test_the_corpora_of_all_former_rounds_are_found_and_those_that_are_gone_are_told(tmp_path):
    old, new = (made(tmp_path, "corpus", name) for name in ("old", "new"))
    first = made(tmp_path, "memory", "first", {"corpus": as_input(old)})
    select = {"memory": as_input(first), "corpus": as_input(new)}
    second = made(tmp_path, "memory", "second", select)
    update = {"memory": as_input(second), "corpus": as_input(new)}
    third = made(tmp_path, "memory", "third", update)
    found, lost = trained_on(third)
    assert ([one.name for one in found], lost) == (["new", "old"], [])

    shutil.rmtree(first.path)
    found, (told,) = trained_on(third)
    assert [one.name for one in found] == ["new"]
    assert "is not all known, and may stand in the benchmark" in told
    assert "its memory" in told


def test_a_round_that_follows_another_is_curated_beside_what_that_one_taught(tmp_path):
    corpus = made(tmp_path / "first", "corpus", "corpus")
    made(tmp_path / "first", "memory", "memory", {"corpus": as_input(corpus)})
    places = (tmp_path, tmp_path / "model")
    alone = load_recipe(write_tiny_run(*places))
    after = load_recipe(write_tiny_run(*places, memory={"past": str(tmp_path / "first")}))
    (plan, follows) = (steps_of(one)[0].plan({}) for one in (alone, after))
    assert follows.inputs == {**plan.inputs, "past.1": as_input(corpus)}


def test_a_recipe_without_strategies_recalls_with_the_fine_tuned_model():
    assert names(recipe(memory={}))[-5:] == [
        *("memory-update-sft", "benchmark-base", "benchmark-sft", "benchmark-sft+recall", "report")
    ]


def test_a_memory_is_foretold_for_a_strategy_of_its_own(tmp_path):
    remembering = recipe(strategies=every_strategy(), memory={}, out=str(tmp_path))

    told = [entry.step.name for entry in foretell(remembering, until="memory", strategy="final")]

    assert told[:3] == ["curate", "memory-select", "internalised"]
    assert told[-1] == "memory-update-final"
    assert "reinforce-grpo-main" not in told
    before_training = foretell(remembering, until="memory", strategy="base")
    assert [entry.step.name for entry in before_training] == ["curate", "memory-select"]
    with pytest.raises(ConfigError, match=r"memory has nothing to do for it; .* base, final"):
        list(foretell(remembering, until="memory", strategy="grpo"))


@given(st.permutations(["critic", "scalar", "finished"]), st.integers(1, 3))
def test_a_step_comes_after_all_that_it_needs(parts, count):
    reward = dict.fromkeys(parts[:count], 1.0)
    stages = [stage("a", reward=reward), stage("b", reward={"finished": 1})]

    seen = set()
    for step in steps_of(recipe(strategies=[{"name": "memory", "stages": stages}])):
        assert set(step.needs) <= seen
        assert step.name not in seen
        seen.add(step.name)
    assert ("critic" in seen) == ("critic" in reward)
    assert ("scalar" in seen) == ("scalar" in reward)


def test_the_critics_backbone_leaves_out_what_the_critic_draws(tmp_path, tiny_folder):
    files = {
        role: [str(write_lines(tmp_path / f"{role}.jsonl", rows))]
        for role, rows in tiny_rows().items()
    }
    watched = recipe(
        corpus=files,
        model=str(tiny_folder("llama")),
        critic={"watch_share": 0.25, "apart_share": 0.5, "own_epochs": 1},
        scalar={"watch_share": 0.5},
        out=str(tmp_path),
    )
    steps = {step.name: step for step in steps_of(watched)}
    made = {"curate": run_plan(steps["curate"].plan({}))}
    told = steps["finetune"].plan(made).config
    critic, scalar = (lots_of(made["curate"], c, 1) for c in (watched.critic, watched.scalar))
    assert critic.watched < scalar.watched == {*told["watched"]}  # one lot, of which each has more
    assert critic.apart == {*told["apart"]} != set()


def test_a_critic_that_nobody_asks_is_not_trained():
    stages = [stage("main", reward={"critic": 0, "scalar": 1})]
    plain = {"strategies": [{"name": "grpo", "stages": stages}]}

    assert "critic" not in names(recipe(**plain))
    assert "critic" in names(recipe(**plain, benchmark={"judge": {"name": "critic"}}))


def test_without_rankings_a_recipe_runs_whose_strategies_need_no_scorer():
    stages = [stage("main", reward={"finished": 1})]
    unranked = {"corpus": {"rankings": []}}

    assert "critic" not in names(recipe(**unranked))
    assert names(recipe(**unranked, strategies=[{"name": "brief", "stages": stages}]))[:4] == [
        *("curate", "finetune", "reinforce-brief-main", "benchmark-base")
    ]


def test_a_scorer_without_rankings_to_learn_from_is_refused_before_anything_runs():
    stages = [stage("main", reward={"critic": 1, "scalar": 0.5, "finished": 1})]

    with pytest.raises(ConfigError) as raised:
        steps_of(
            recipe(
                corpus={"rankings": []},
                strategies=[{"name": "memory", "stages": stages}],
                benchmark={"judge": {"name": "critic"}},
            )
        )

    lines = str(raised.value).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("strategies.memory.main.reward: the critic learns from ranked")
    assert "or reward only `finished`" in lines[1]
    assert lines[2].startswith("benchmark.judge: ")


@pytest.mark.parametrize(
    ("until", "fault"),
    [
        ("critic", "give it rankings"),
        ("reinforce", "the recipe has no strategies; add one"),
        ("memory", "the recipe has no memory; give it the part `memory: {}`"),
    ],
)
def test_a_command_that_has_nothing_to_do_says_so(until, fault):
    with pytest.raises(ConfigError, match=fault):
        run_recipe(recipe(corpus={"rankings": []}), until=until)


@pytest.mark.parametrize(
    ("until", "strategy", "last"),
    [
        ("curate", None, ["curate"]),
        ("critic", None, ["critic", "scalar"]),
        ("reinforce", "memory", ["critic", "reinforce-memory-main"]),
        ("reinforce", "grpo", ["scalar", "reinforce-grpo-main"]),
        ("benchmark", "base", ["curate", "benchmark-base"]),
    ],
)
def test_a_command_runs_only_what_its_goal_needs(tmp_path, until, strategy, last):
    told = foretell(
        recipe(strategies=every_strategy(), out=str(tmp_path)), until=until, strategy=strategy
    )

    assert [entry.step.name for entry in told][-len(last) :] == last


def test_a_strategy_is_asked_for_by_its_whole_name(tmp_path):
    two = [{"name": name, "stages": [stage("main")]} for name in ("memory", "memory-2")]

    steps = [
        told.step.name
        for told in foretell(
            recipe(strategies=two, out=str(tmp_path)), until="reinforce", strategy="memory"
        )
    ]

    assert "reinforce-memory-main" in steps
    assert "reinforce-memory-2-main" not in steps
    with pytest.raises(ConfigError, match=r"--strategy memor: .* did you mean 'memory'"):
        list(foretell(recipe(strategies=two), until="reinforce", strategy="memor"))
    with pytest.raises(ConfigError, match="--strategy base: reinforce has nothing to do"):
        run_recipe(recipe(strategies=two), until="reinforce", strategy="base")


def test_foretelling_neither_runs_nor_fetches_anything(tmp_path):
    told = list(foretell(recipe(strategies=every_strategy(), out=str(tmp_path / "run"))))

    assert told[0].state == "will run"
    assert {entry.state for entry in told[1:]} == {"waits"}
    assert not (tmp_path / "run").exists()


def test_what_is_done_is_foretold_as_done_and_skipped(tmp_path):
    made = load_recipe(write_tiny_run(tmp_path, tmp_path / "model"))
    lines: list[str] = []

    first = run_recipe(made, until="curate", tell=lines.append)
    second = run_recipe(made, until="curate", tell=lines.append)

    states = [line.split("  ")[0] for line in lines if not line.startswith(" ")]
    assert states == ["running", "done already"]
    assert sum("8 records to train on" in line for line in lines) == 2
    assert first["curate"].path == second["curate"].path
    (told,) = foretell(made, until="curate")
    assert (told.state, told.folder) == ("done", tmp_path / "run" / first["curate"].path.name)


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (LORA, LORA, None),
        (LORA, None, None),
        (None, None, None),
        (None, LORA, "the stage before trains whole weights; set it to null too"),
        (LORA, {"rank": 4, "alpha": 4}, "rank 4, alpha 4, but .* of rank 2, alpha 4"),
        (LORA, {"rank": 2, "alpha": 8}, "rank 2, alpha 8, but .* of rank 2, alpha 4"),
    ],
)
@pytest.mark.parametrize("across", [False, True])
def test_stages_train_what_the_stage_before_left_or_are_refused(before, after, fault, across):
    one, two = stage("one", before), stage("two", after)
    strategies = (
        [{"name": "a", "stages": [one]}, {"name": "b", "start": "a", "stages": [two]}]
        if across
        else [{"name": "a", "stages": [one, two]}]
    )

    if fault is None:
        assert steps_of(recipe(strategies=strategies))
    else:
        with pytest.raises(ConfigError, match=rf"^strategies\.[ab]\.two\.train\.lora: .*{fault}"):
            steps_of(recipe(strategies=strategies))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_has_steps_that_fit(path):
    assert names(load_recipe(path))[-1] == "report"


def test_the_pipeline_is_light_until_it_runs():
    import subprocess

    code = "import drenpa.pipeline, sys; print('torch' in sys.modules, 'pyarrow' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.split() == ["False", "False"]


def test_a_tracker_that_is_not_there_is_refused_before_a_run_that_trains(away):
    made = recipe(engine={"tracker": "wandbb"}, out=str(away))

    with pytest.raises(ConfigError, match="did you mean 'wandb'"):
        run_recipe(made, tell=print)
    assert not list(away.iterdir())
    assert "curate" in run_recipe(made, until="curate", tell=lambda line: None)
