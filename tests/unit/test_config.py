"""A recipe is understood as it was meant, or refused with every fault named at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import ValidationError

from drenpa.config import _PATHS, Config, JudgeConfig, Recipe, load_recipe
from drenpa.core.errors import ConfigError
from drenpa.corpus.intake import source_files
from drenpa.recipes import find_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))

TWO_STAGES = """
name: demo
strategies:
  - name: memory
    stages:
      - {name: main, steps: 3}
      - {name: more, steps: 4}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "r.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults(path: Path, *args: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, *args)
    return [line.replace(str(path.parent) + "/", "") for line in str(caught.value).splitlines()]


# what is shipped --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_parses(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.strategy_names()


def test_there_are_recipes():
    assert "demo" in [path.stem for path in RECIPES]


def test_defaults_are_the_papers_where_the_paper_gives_them():
    recipe = Recipe.model_validate(
        {"name": "x", "strategies": [{"name": "m", "stages": [{"name": "s"}]}]}
    )
    stage = recipe.strategies[0].stages[0]
    assert stage.train.learning_rate == 5e-7
    assert stage.train.max_length == 1024
    assert stage.objective.kl_coef == 0.001
    assert (stage.objective.margin_weight, stage.objective.margin_rate) == (0.5, 0.5)
    assert stage.weights == {
        "foundation": 4,
        "profession": 3,
        "metacognition": 2,
        "connection": 1,
    }
    assert (recipe.critic.critique_weight, recipe.critic.score_weight) == (1, 1)


# faults -----------------------------------------------------------------------------------------


def test_all_faults_are_told_at_once_each_with_its_place_and_a_suggestion(write):
    path = write(
        """
        name: demo
        seeed: 1
        finetune: {epoch: 2, train: {lora: {ranc: 3}}}
        critic: {epochs: 0}
        strategies:
          - name: memory
            stages:
              - {name: main, group: 1, objective: {kl_coeff: 0.1}, train: {schedule: cosin}}
        """
    )
    assert sorted(faults(path)) == [
        "r.yaml: critic.epochs: Input should be greater than or equal to 1 (it is 0)",
        "r.yaml: finetune.epoch: unknown key; did you mean 'epochs'?",
        "r.yaml: finetune.train.lora.ranc: unknown key; did you mean 'rank'?",
        "r.yaml: seeed: unknown key; did you mean 'seed'?",
        "r.yaml: strategies.memory.stages.main.group: Input should be greater than or equal to 2 "
        "(it is 1)",
        "r.yaml: strategies.memory.stages.main.objective.kl_coeff: unknown key; did you mean "
        "'kl_coef'?",
        "r.yaml: strategies.memory.stages.main.train.schedule: Input should be 'constant', "
        "'linear' or 'cosine' (it is 'cosin')",
    ]


def test_a_language_that_is_no_code_is_answered_with_the_code(write):
    path = write("name: x\nlanguage: tibetan\ncorpus: {languages: [en, zh_CN]}")
    assert faults(path) == [
        "r.yaml: language: 'tibetan' is no language code; did you mean 'bo'?",
        "r.yaml: corpus.languages.1: 'zh_CN' is no language code; did you mean 'zh-CN'?",
    ]
    kept = load_recipe(write("name: x\nlanguage: xx\ncorpus: {languages: [zh-Hant]}"))
    assert (kept.language, kept.corpus.languages) == ("xx", ("zh-Hant",))


@pytest.mark.parametrize("part", ["mix", "weights"])
def test_an_unknown_kind_is_answered_with_the_four_kinds(write, part):
    path = write(f"name: x\nstrategies: [{{name: m, stages: [{{name: s, {part}: {{meta: 1}}}}]}}]")
    (fault,) = faults(path)
    assert fault.startswith(
        f"r.yaml: strategies.m.stages.s.{part}.meta: unknown key; it must be one of foundation, "
        "profession, metacognition, connection"
    )


def test_an_unknown_part_of_the_reward_is_answered_with_the_nearest(write):
    path = write("name: x\nstrategies: [{name: m, stages: [{name: s, reward: {critc: 1}}]}]")
    (fault,) = faults(path)
    assert fault.endswith("must be one of critic, scalar, finished; did you mean 'critic'?")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "r.yaml: a recipe is a mapping of keys to values, this is a NoneType"),
        ("- a\n- b", "r.yaml: a recipe is a mapping of keys to values, this is a list"),
        ("{}", "r.yaml: name: Field required"),
        ("name: x\nengine: 3", "r.yaml: engine: must be a mapping of keys to values (it is 3)"),
        ("name: x\nstrategies: {a: 1}", "r.yaml: strategies: must be a list"),
        ("name: ../x", "r.yaml: name: String should match pattern"),
        ("name: x\nseed: .inf", "r.yaml: seed: Input should be a finite number (it is inf)"),
        ("name: x\n1: 2", "r.yaml: 1: Keys should be strings"),
        (
            "name: x\nbenchmark: {temperature: .nan}",
            "r.yaml: benchmark.temperature: Input should be",
        ),
    ],
)
def test_what_is_no_recipe_is_told_in_its_own_words(write, text, fault):
    (found,) = faults(write(text))
    assert found.startswith(fault)


@pytest.mark.parametrize("text", ["name: [", "a: b: c", "name: !!python/object:os.system x"])
def test_broken_yaml_is_named(write, text):
    assert faults(write(text))[0].startswith("r.yaml: not valid YAML")


def test_a_key_that_stands_twice_is_a_fault_and_no_silent_choice(write):
    found = "\n".join(faults(write("name: x\ncritic:\n  epochs: 1\n  epochs: 2\n")))
    assert "key 'epochs' stands twice" in found
    assert "line 4" in found


def test_a_merged_mapping_may_be_overridden(write):
    path = write(
        """
        name: x
        strategies:
          - name: a
            stages: [&round {name: main, steps: 3, group: 4}]
          - name: b
            stages: [{<<: *round, steps: 5}]
        """
    )
    first, second = (strategy.stages[0] for strategy in load_recipe(path).strategies)
    assert (first.steps, second.steps, second.group) == (3, 5, 4)


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    assert faults(tmp_path / "nowhere.yaml") == ["nowhere.yaml: no such recipe"]
    assert "cannot be read" in faults(tmp_path)[0]
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    assert "latin.yaml: cannot be read" in faults(tmp_path / "latin.yaml")[0]


@pytest.mark.parametrize(
    ("strategies", "fault"),
    [
        ("[{name: sft, stages: [{name: s}]}]", "the name 'sft' is taken"),
        ("[{name: a, stages: [{name: s}]}, {name: a, stages: [{name: s}]}]", "'a' is taken"),
        ("[{name: a, start: base, stages: [{name: s}]}]", "'base' is neither sft nor"),
        ("[{name: a, start: b, stages: [{name: s}]}, {name: b, stages: [{name: s}]}]", "'b' is n"),
        ("[{name: a, stages: [{name: s}, {name: s}]}]", "two stages share a name"),
        ("[{name: a, stages: []}]", "at least 1 item"),
        ("[{name: A B, stages: [{name: s}]}]", "String should match pattern"),
        ("[{name: a, stages: [{name: s, mix: {profession: 0}}]}]", "every kind has share 0"),
        ("[{name: a, stages: [{name: s, reward: {}}]}]", "every part has weight 0"),
    ],
)
def test_names_and_shares_must_make_sense_together(write, strategies, fault):
    (found,) = faults(write(f"name: x\nstrategies: {strategies}"))
    assert fault in found


def test_a_benchmark_of_an_unknown_strategy_is_answered_with_the_nearest(write):
    path = write(TWO_STAGES + "benchmark: {strategies: [sft, memry]}")
    assert faults(path) == [
        "r.yaml: benchmark.strategies: no strategy 'memry'; did you mean 'memory'?"
    ]


# defaults of parts ------------------------------------------------------------------------------


def test_a_mix_that_names_two_kinds_means_those_two(write):
    path = write(
        "name: x\nstrategies: [{name: m, stages: [{name: s, mix: {foundation: 2, connection: 1}}]}]"
    )
    assert load_recipe(path).strategies[0].stages[0].mix == {
        "foundation": 2,
        "profession": 0,
        "metacognition": 0,
        "connection": 1,
    }


def test_a_part_that_sets_one_key_keeps_its_own_defaults_for_the_others(write):
    path = write(
        """
        name: x
        scalar: {epochs: 1}
        strategies: [{name: m, stages: [{name: s, train: {learning_rate: 1e-5}}]}]
        """
    )
    recipe = load_recipe(path)
    assert recipe.scalar.critique_weight == 0  # else the scalar scorer would write critiques
    assert recipe.critic.critique_weight == 1
    assert recipe.strategies[0].stages[0].train.schedule == "constant"
    assert recipe.finetune.train.schedule == "cosine"


def test_a_rate_in_scientific_notation_without_a_point_is_a_number(write):
    # YAML 1.1 reads 5e-7 as text.
    path = write("name: x\nfinetune: {train: {learning_rate: 5e-7}}")
    assert load_recipe(path).finetune.train.learning_rate == 5e-7


def test_null_takes_the_adapter_away(write):
    assert (
        load_recipe(write("name: x\nfinetune: {train: {lora: null}}")).finetune.train.lora is None
    )


def test_a_recipe_cannot_be_changed(write):
    recipe = load_recipe(write("name: x"))
    with pytest.raises(ValidationError, match="frozen"):
        recipe.seed = 3


def test_a_run_stands_in_runs_unless_it_is_put_elsewhere(write):
    assert load_recipe(write("name: x")).folder == Path("runs/x")
    assert load_recipe(write("name: x\nout: /data/y")).folder == Path("/data/y")


def test_the_columns_are_all_strategies_unless_the_benchmark_chooses(write):
    assert load_recipe(write(TWO_STAGES)).strategy_names() == ("base", "sft", "memory")
    chosen = load_recipe(write(TWO_STAGES + "benchmark: {strategies: [memory, base]}"))
    assert chosen.strategy_names() == ("memory", "base")


# overlays and settings --------------------------------------------------------------------------


def test_an_overlay_merges_mappings_and_replaces_lists(write):
    base = write(TWO_STAGES + "corpus: {held_out: 0.3, languages: [en, zh]}")
    over = write("corpus: {languages: [bo]}\nseed: 7", "over.yaml")
    last = write("seed: 8", "last.yaml")
    recipe = load_recipe(base, [over, last])
    assert (recipe.corpus.held_out, recipe.corpus.languages, recipe.seed) == (0.3, ("bo",), 8)
    assert recipe.strategies[0].stages[1].steps == 4


def test_a_setting_names_list_entries_by_name_or_by_place(write):
    recipe = load_recipe(
        write(TWO_STAGES),
        [],
        [
            "seed=5",
            "strategies.memory.stages.more.steps=9",
            "strategies.0.stages.0.group=6",
            "strategies.memory.stages.more.mix={foundation: 1}",
            "finetune.train.lora=null",
            "critic.train.learning_rate=1e-4",
            "model=owner/name",
        ],
    )
    main, more = recipe.strategies[0].stages
    assert (recipe.seed, more.steps, main.steps, main.group, more.group) == (5, 9, 3, 6, 8)
    assert more.mix["foundation"] == 1
    assert more.mix["connection"] == 0
    assert recipe.finetune.train.lora is None
    assert recipe.critic.train.learning_rate == 1e-4
    assert recipe.model == "owner/name"


def test_a_setting_wins_over_an_overlay_and_the_last_setting_over_the_first(write):
    base, over = write("name: x\nseed: 1"), write("seed: 2", "over.yaml")
    assert load_recipe(base, [over], ["seed=3", "seed=4"]).seed == 4


def test_a_setting_may_hold_an_equals_sign(write):
    url = "http://localhost:1/v1?key=a=b"
    judge = "name: x\nbenchmark: {judge: {name: openai}}"
    recipe = load_recipe(write(judge), [], [f"benchmark.judge.base_url={url}"])
    assert recipe.benchmark.judge.base_url == url


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("bogus", "--set bogus: write it as key=value, for example seed=2 or benchmark.samples=4"),
        ("=3", "--set =3: write it as key=value, for example seed=2 or benchmark.samples=4"),
        ("seed=[", "--set seed=[: '[' is not a YAML value; quote it"),
        (
            "strategies.grpo.start=sft",
            "--set strategies.grpo.start=sft: no entry 'grpo' in strategies",
        ),
        ("strategies.7.start=sft", "--set strategies.7.start=sft: no entry '7' in strategies"),
        ("seed=-1", "--set seed=-1: seed: Input should be greater than or equal to 0 (it is -1)"),
        ("sed=1", "--set sed=1: sed: unknown key; did you mean 'seed'?"),
        (
            "strategies.memory.stages.main.groop=4",
            "--set strategies.memory.stages.main.groop=4: strategies.memory.stages.main.groop: "
            "unknown key; did you mean 'group'?",
        ),
        (
            "strategies.0.stages.1.group=1",
            "--set strategies.0.stages.1.group=1: strategies.memory.stages.more.group: Input "
            "should be greater than or equal to 2 (it is 1)",
        ),
        (
            "engine=fast",
            "--set engine=fast: engine: must be a mapping of keys to values (it is 'fast')",
        ),
    ],
)
def test_a_bad_setting_is_told_as_the_settings_fault(write, setting, fault):
    assert faults(write(TWO_STAGES), [], [setting]) == [fault]


def test_faults_of_settings_and_files_are_told_together_each_under_its_own_name(write):
    base = write("name: x\nseeed: 1")
    over = write("critic: {epochs: 0}", "over.yaml")
    found = faults(base, [over], ["bogus", "finetune.epochs=0"])
    assert [fault.split(":")[0] for fault in found] == [
        "--set bogus",
        "--set finetune.epochs=0",
        "over.yaml",
        "r.yaml",
    ]


# data files -------------------------------------------------------------------------------------


def test_data_files_beside_the_recipe_are_found_from_any_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    (tmp_path / "mine.jsonl").write_text("")
    path = write(
        "name: x\ncorpus: {records: [mine.jsonl, starter, other.jsonl], rankings: mine.jsonl}"
    )
    corpus = load_recipe(path).corpus
    assert corpus.records == (str(tmp_path / "mine.jsonl"), "starter", "other.jsonl")
    assert corpus.rankings == (str(tmp_path / "mine.jsonl"),)
    assert corpus.benchmark == ("starter",)


def test_models_and_former_runs_beside_the_recipe_are_found_from_any_folder(
    write, tmp_path, monkeypatch
):
    monkeypatch.chdir("/")
    for name in ("tiny", "old", "judge"):
        (tmp_path / name).mkdir()
    recipe = load_recipe(
        write(
            "name: x\nmodel: tiny\nmemory: {past: old}\nbenchmark: {judge: {name: local, model: "
            "judge}, baselines: [tiny, smollm2-135m, {name: b, model: tiny, base_url: http://a/v1}]}\n"
        )
    )
    assert recipe.model == str(tmp_path / "tiny")
    assert recipe.memory is not None
    assert recipe.memory.past == str(tmp_path / "old")
    assert recipe.benchmark.judge.model == str(tmp_path / "judge")
    models = [baseline.model for baseline in recipe.benchmark.baselines]
    assert models == [str(tmp_path / "tiny"), "smollm2-135m", "tiny"]


def test_patterns_beside_the_recipe_are_found_from_any_folder(write, tmp_path, monkeypatch):
    home = tmp_path / "a [strange] name"
    (home / "data").mkdir(parents=True)
    (home / "data" / "mine.jsonl").write_text("")
    monkeypatch.chdir("/")
    path = write(
        "name: x\ncorpus: {records: 'data/*.jsonl', rankings: ['no/*.jsonl']}", home.name + "/r"
    )
    corpus = load_recipe(path).corpus
    assert source_files(corpus.records, "records") == [home / "data" / "mine.jsonl"]
    assert corpus.rankings == ("no/*.jsonl",)


@pytest.mark.parametrize(
    ("judge", "fault"),
    [
        ("{max_cost: 5}", "max_cost: the judge `offline` does not read it"),
        ("{name: rules, prompt: mine.md}", "prompt: the judge `rules` does not read it"),
        (
            "{name: panel, max_cost: 5, members: [{name: rules}, {name: reference}]}",
            "max_cost: the judge `panel` does not read it; set it for its members",
        ),
        (
            "{name: panel, members: [{name: rules}, {name: reference, max_unscored: 0.5}]}",
            "max_unscored is the panel's own",
        ),
    ],
)
def test_what_a_judge_does_not_read_is_refused(write, judge, fault):
    with pytest.raises(ConfigError, match=fault):
        load_recipe(write(f"name: x\nbenchmark: {{judge: {judge}}}"))


def test_a_judge_reads_back_as_it_was_written():
    for judge in (JudgeConfig(), JudgeConfig(name="openai", model="m", max_cost=1, price_in=1)):
        assert JudgeConfig.model_validate(judge.model_dump(mode="json")) == judge


@pytest.mark.parametrize("text", ["seed: true", "benchmark: {samples: true}"])
def test_a_switch_is_no_number(write, text):
    with pytest.raises(ConfigError, match="true is no number"):
        load_recipe(write(f"name: x\n{text}"))


def test_answers_at_temperature_0_are_one(write):
    with pytest.raises(ConfigError, match="3 answers at temperature 0 are all the same"):
        load_recipe(write("name: x\nbenchmark: {temperature: 0, samples: 3}"))


def test_two_rounds_that_would_share_a_name_are_refused(write):
    strategies = "[{name: a, stages: [{name: b-c}]}, {name: a-b, stages: [{name: c}]}]"
    with pytest.raises(ConfigError, match="are both called a-b-c; rename one"):
        load_recipe(write(f"name: x\nstrategies: {strategies}"))


def test_prompts_beside_the_recipe_are_found_from_any_folder(write, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    (tmp_path / "mine.md").write_text("")
    (tmp_path / "judge").mkdir()
    recipe = load_recipe(
        write(
            "name: x\nanswer_prompt: mine.md\ncritic: {prompt: mine.md, expand_prompt: mine.md}\n"
            "scalar: {prompt: mine.md}\nbenchmark: {prompt: mine.md, judge: {name: panel, members: "
            "[{name: openai, prompt: mine.md}, {name: openai}]}}\n"
        )
    )
    judges = recipe.benchmark.judge.members
    assert {
        recipe.answer_prompt,
        recipe.critic.prompt,
        recipe.critic.expand_prompt,
        recipe.scalar.prompt,
        recipe.benchmark.prompt,
        judges[0].prompt,
    } == {str(tmp_path / "mine.md")}
    assert judges[1].prompt == "judge"


def test_a_model_that_an_endpoint_knows_is_no_folder_beside_the_recipe(write, tmp_path):
    (tmp_path / "m").mkdir()
    for writer, named in (("openai", "m"), ("local", str(tmp_path / "m"))):
        expand = f"{{writer: {writer}, model: m, checker: m}}"
        critic = load_recipe(write(f"name: x\ncritic: {{expand: {expand}}}")).critic
        assert (critic.expand.model, critic.expand.checker) == (named, named)


NO_PATHS = {
    *("name", "language", "out", "tracker", "languages", "base_url", "key_env", "start"),
    *("strategies", "title"),
}
"""Keys that hold text and never the name of a file to be read."""


def texts(model: type[Config], place: str = "") -> Iterator[str]:
    """The places in a recipe that hold text, or a list of texts."""
    for key, field in model.model_fields.items():
        found = [field.annotation]
        for part in found:
            found += get_args(part)
        several = f"{place}{key}.*" if tuple in map(get_origin, found) else f"{place}{key}"
        part = next((p for p in found if isinstance(p, type) and issubclass(p, Config)), None)
        if part is None and str in found and dict not in map(get_origin, found):
            yield several
        elif part is not None and not place.endswith("members.*."):  # which have no members
            yield from texts(part, f"{several}.")


def test_every_key_that_may_name_a_file_to_be_read_is_looked_for_beside_the_recipe():
    may = {path for path in texts(Recipe) if path.removesuffix(".*").split(".")[-1] not in NO_PATHS}
    assert may == {path for path in _PATHS if path != "benchmark.baselines.*"}


def test_a_file_called_starter_does_not_hide_the_starter_corpus(write, tmp_path):
    (tmp_path / "starter").write_text("")
    assert load_recipe(write("name: x\ncorpus: {records: starter}")).corpus.records == ("starter",)


def test_a_recipe_that_comes_with_drenpa_is_found_by_its_name_and_a_wrong_one_is_told(tmp_path):
    assert load_recipe(find_recipe(Path("demo"))).name == "demo"
    own = tmp_path / "demo"
    own.write_text("name: mine\n")
    assert find_recipe(own) == own
    with pytest.raises(
        ConfigError, match=r"no such recipe; drenpa brings .*did you mean 'starter'"
    ):
        find_recipe(Path("startr"))


def test_a_recipe_with_a_memory_has_a_column_that_looks_things_up(write):
    assert load_recipe(write(TWO_STAGES)).memory is None
    remembering = load_recipe(write(TWO_STAGES), settings=["memory={}"])
    assert remembering.strategy_names() == ("base", "sft", "memory", "memory+recall")
    chosen = load_recipe(
        write(TWO_STAGES), settings=["memory={}", "benchmark.strategies=[base+recall, memory]"]
    )
    assert chosen.strategy_names() == ("base+recall", "memory")


def test_a_column_that_looks_things_up_needs_a_memory(write):
    with pytest.raises(ConfigError, match=r"no strategy 'memory\+recall'; .* `memory: \{\}`"):
        load_recipe(write(TWO_STAGES), settings=["benchmark.strategies=[memory+recall]"])
    with pytest.raises(ConfigError, match=r"did you mean 'memory\+recall'"):
        load_recipe(
            write(TWO_STAGES), settings=["memory={}", "benchmark.strategies=[memory+recal]"]
        )


def test_thresholds_that_make_a_record_known_and_forgotten_at_once_are_refused(write):
    with pytest.raises(ConfigError, match=r"memory: .*known and forgotten at once; lower it"):
        load_recipe(write(TWO_STAGES), settings=["memory.update.forgotten_below=0.9"])
