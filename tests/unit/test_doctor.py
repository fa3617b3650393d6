from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from drenpa.commands.doctor import (
    Machine,
    corpus_rows,
    examine,
    look_around,
    recipe_warnings,
    unmet,
)
from drenpa.commands.needs import (
    Rows,
    Shape,
    model_shape,
    recipe_needs,
    trained_weights,
    training_memory,
)
from drenpa.config import LoraConfig, Recipe, TrainConfig, load_recipe
from drenpa.core.errors import ConfigError

SHAPE = Shape(parameters=1000, adapted=100, layers=2, hidden=8, wide=16, vocabulary=50, kv_width=4)
ROWS = Rows(records=30, ranked=8, candidates=32, items=12, longest=64)
ROOMY = Machine(cores=2, memory=1e12, available=1e12, bf16_speed=2.0, gpus=())


def told(recipe: Path | None) -> str:
    out = io.StringIO()
    examine(recipe, Console(file=out, width=200, force_terminal=False))
    return out.getvalue()


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "model": str(folder), **changes}))
    return path


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({"name": "small", **changes})


def warnings(of: Recipe, machine: Machine) -> str:
    return "\n".join(recipe_warnings(of, SHAPE, recipe_needs(of, SHAPE, ROWS), machine))


def test_the_machine_is_told_without_a_recipe() -> None:
    text = told(None)
    for part in ("python", "torch", "transformers", "peft", "accelerate", "cores", "memory"):
        assert part in text
    for part in ("GPU", "bfloat16", "disk", "fonts, Tibetan", "extra api"):
        assert part in text


def test_the_machine_is_measured() -> None:
    machine = look_around()
    assert machine.cores >= 1
    assert 0 < machine.available <= machine.memory
    assert machine.bf16_speed > 0


def test_a_recipes_steps_are_told_with_what_they_need(
    tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    path = written(
        tmp_path,
        model=str(tiny_folder()),
        strategies=[{"name": "memory", "stages": [{"name": "main", "steps": 7, "prompts": 2}]}],
    )
    lines = told(path).splitlines()
    stage = next(line.split() for line in lines if "reinforce-memory-main" in line)
    assert stage[-2:] == ["7", str(7 * 2 * 8)]
    assert "?" not in stage
    assert any("parameters" in line and "2 layers" in line for line in lines)
    assert any("memory = weights" in line for line in lines)


def test_a_model_that_is_not_here_will_be_fetched(tmp_path: Path) -> None:
    text = told(written(tmp_path, model="smollm2-135m"))
    assert "not here yet; the first run fetches it" in text


def test_a_wrong_recipe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        told(written(tmp_path, sead=1))


def test_files_that_cannot_be_read_are_a_warning_with_their_faults(
    tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    (tmp_path / "r.jsonl").write_text('{"id": "a", "kind": "meta", "question": "q"}\n')
    path = written(tmp_path, model=str(tiny_folder()), corpus={"records": ["r.jsonl"]})
    text = told(path)
    assert "! the corpus cannot be read" in text
    assert "r.jsonl:1" in text


def test_no_key_is_ever_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    judge = {"name": "openai", "model": "x", "key_env": "JUDGE_KEY"}
    text = told(written(tmp_path, model="smollm2-135m", benchmark={"judge": judge}))
    assert "secret" not in text
    assert "JUDGE_KEY is empty" not in text
    monkeypatch.delenv("JUDGE_KEY")
    assert "JUDGE_KEY is empty" in told(tmp_path / "recipe.yaml")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_models_shape_is_that_of_its_weights(tiny_folder: Callable[..., Path]) -> None:
    from transformers import AutoModelForCausalLM

    from drenpa.engine.adapters import add_adapter, trainable_parameters

    for family in ("llama", "qwen2", "qwen3"):
        folder = tiny_folder(family)
        shape = model_shape(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert shape.parameters == sum(p.numel() for p in model.parameters())
        adapted = add_adapter(model, LoraConfig(rank=4), "policy", seed=0)
        counted = sum(p.numel() for _, p in trainable_parameters(adapted))
        assert trained_weights(shape, TrainConfig(lora=LoraConfig(rank=4))) == counted


def test_training_memory_by_hand() -> None:
    """2 rows of 10 tokens in bfloat16 with a rank-3 adapter:

    weights 1000·2 = 2000, adapter 100·3·16 = 4800, activations 20 tokens · 2 layers ·
    (64·8 + 8·16 = 640) = 25600 and the layers' own states 20·2·8·2 = 640, logits 20·50·12 = 12000.
    """
    train = TrainConfig(lora=LoraConfig(rank=3))
    found = training_memory(SHAPE, train, 2, 10, bytes_each=2)
    assert found == 2000 + 4800 + 25600 + 640 + 12000 + 600e6


def test_training_all_weights_needs_sixteen_bytes_each() -> None:
    adapter = training_memory(SHAPE, TrainConfig(), 1, 1, bytes_each=2)
    whole = training_memory(SHAPE, TrainConfig(lora=None), 1, 1, bytes_each=2)
    assert whole - adapter == 1000 * (16 - 2) - 100 * 16 * 16


def test_disk_of_fine_tuning_by_hand() -> None:
    """Weights and two moments of what is trained, 12 bytes each, three times while saving, and the
    model: 1000·2 with a rank-3 adapter merged in, 1000·4 where all weights were trained."""

    def disk(lora: dict[str, Any] | None) -> float | None:
        of = recipe(engine={"dtype": "bfloat16"}, finetune={"train": {"lora": lora}})
        return recipe_needs(of, SHAPE, ROWS)[0].disk

    assert disk({"rank": 3}) == 3 * 12 * 300 + 2000
    assert disk(None) == 3 * 12 * 1000 + 4000


def test_a_language_without_instructions_is_told() -> None:
    assert "no instructions in 'ti', only in en, zh, bo" in warnings(recipe(language="ti"), ROOMY)
    assert "instructions" not in warnings(recipe(language="bo"), ROOMY)


def test_a_memory_is_sized_up_before_training_and_after_it() -> None:
    remembering = recipe(
        memory={"probe": {"samples": 2}},
        strategies=[{"name": "memory", "stages": [{"name": "main"}]}],
    )
    found = recipe_needs(remembering, SHAPE, ROWS)
    stages = [need.stage for need in found]
    assert stages[0] == "memory-select"
    assert stages.index("memory-update-memory") == stages.index("reinforce-memory-main") + 1
    assert stages[-1] == "benchmark-memory+recall"
    assert found[0].answers == 2 * ROWS.records
    assert found[0].steps == 0
    assert found[0].memory is not None
    assert found[0].memory > SHAPE.parameters * 2
    assert recipe_needs(remembering, None, ROWS)[0].memory is None
    assert "memory-select" not in [need.stage for need in recipe_needs(recipe(), SHAPE, ROWS)]


def test_steps_and_answers_are_counted() -> None:
    found = {
        need.stage: need
        for need in recipe_needs(
            recipe(
                finetune={"epochs": 2, "batch": 9},
                critic={"epochs": 1, "own_epochs": 2, "batch": 2},
                benchmark={"items_per_kind": 2, "samples": 3},
                strategies=[{"name": "memory", "stages": [{"name": "main", "steps": 5}]}],
            ),
            None,
            ROWS,
        )
    }
    # 30 records and three quarters of 32 critiques are 54 rows: 6 batches, twice.
    assert found["finetune"].steps == 12
    # Three quarters of 8 questions, 2 a step, in 3 epochs.
    assert found["critic"].steps == 9
    assert found["reinforce-memory-main"].answers == 5 * 4 * 8
    assert found["benchmark-base"].answers == 8 * 3
    assert all(need.memory is None for need in found.values())


def test_little_memory_is_a_warning_that_names_the_stage_and_the_remedy() -> None:
    small = Machine(cores=2, memory=1e9, available=5e8, bf16_speed=2.0, gpus=())
    text = warnings(recipe(), small)
    assert "finetune" in text
    assert "micro_batch" in text
    assert warnings(recipe(), ROOMY) == ""


def test_training_all_weights_on_little_memory_is_a_warning() -> None:
    tight = Machine(cores=2, memory=15e3, available=15e3, bf16_speed=2.0, gpus=())
    whole = recipe(finetune={"train": {"lora": None}})
    assert "finetune: lora: null trains all weights" in warnings(whole, tight)
    assert "lora: null" not in warnings(recipe(), tight)


def test_a_gpus_memory_counts_where_it_is_used() -> None:
    gpu = Machine(cores=2, memory=1e12, available=1e12, bf16_speed=2.0, gpus=(("small", 10**8),))
    assert "may need" in warnings(recipe(), gpu)
    assert warnings(recipe(engine={"device": "cpu"}), gpu) == ""


def test_unmet_requirements_are_named_with_what_there_is() -> None:
    found = list(unmet(["pytest>=1", "no-such-package-of-ours>=1", "pytest>=999"]))
    assert found[0] == "no-such-package-of-ours (absent)"
    assert found[1].startswith("pytest ")
    assert found[1].endswith("(needed: >=999)")
    assert len(found) == 2


def test_the_starter_corpus_is_counted_in_the_languages_asked_for() -> None:
    every = corpus_rows(recipe())
    english = corpus_rows(recipe(corpus={"languages": ["en"]}))
    assert every.records > english.records >= 160
    assert every.items > english.items >= 120
    assert english.candidates > 3 * english.ranked * 0.9


def test_a_recipe_that_cannot_run_is_told_by_the_result(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    assert examine(written(tmp_path, model="smollm2-135m"), console)
    assert not examine(written(tmp_path, model="smollm2-135m", answer_prompt="no.md"), console)


def test_rows_that_fine_tuning_would_leave_out_are_told_by_language(
    tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    """The tiny tokenizer makes a token of each byte: 600 Tibetan letters are 1800."""
    rows = [
        {"id": name, "kind": "foundation", "question": "?", "answer": answer, "language": language}
        for name, answer, language in (("a", "yes", "en"), ("b", "ཀ" * 600, "bo"))
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = written(
        tmp_path,
        model=str(tiny_folder()),
        corpus={"records": ["r.jsonl"], "rankings": [], "benchmark": []},
    )
    lines = told(path).splitlines()
    (warning,) = [line for line in lines if "left out" in line]
    assert warning.startswith("! finetune: 1 of 1 rows in bo left out: about 1024 tokens are too")
    assert any("the longest row has about 1961 tokens" in line for line in lines)


def test_examining_without_a_model_needs_no_network(tmp_path: Path) -> None:
    """In a fresh process with every socket refused."""
    path = written(tmp_path, model="smollm2-135m")
    code = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from pathlib import Path\n"
        "from rich.console import Console\n"
        "from drenpa.commands.doctor import examine\n"
        f"examine(Path({json.dumps(str(path))}), Console())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "not here yet" in done.stdout


def test_the_recipe_that_is_examined_is_the_one_that_runs(tmp_path: Path) -> None:
    path = written(tmp_path, model="smollm2-135m", out="somewhere")
    assert load_recipe(path).folder.name == "somewhere"
    assert "somewhere" in told(path)
