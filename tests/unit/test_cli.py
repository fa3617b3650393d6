"""The command line as a user meets it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

COMMANDS = (
    "run",
    "curate",
    "finetune",
    "critic",
    "reinforce",
    "memory",
    "benchmark",
    "report",
    "show",
    "chat",
    "export",
    "doctor",
    "init",
)
HEAVY = ("torch", "transformers", "peft", "accelerate", "pyarrow", "numpy")
HELP_S = 0.5
"""What help may cost, in seconds of this process's own work: a busy machine is no failing test."""


def drenpa(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from drenpa.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
        env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1"},
    )


def fails(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode not in (0, -9), done.stdout
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.fixture
def recipe(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Path:
    path = tmp_path / "recipe.yaml"
    stage = {"name": "main", "steps": 2}
    path.write_text(
        yaml.safe_dump(
            {
                "name": "tiny",
                "model": str(tiny_folder()),
                "strategies": [{"name": "memory", "stages": [stage]}],
            }
        )
    )
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_help_loads_nothing_heavy(command: str) -> None:
    code = (
        "import sys\n"
        "sys.argv = ['drenpa', *sys.argv[1:]]\n"
        "from drenpa.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command, "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"drenpa {command}" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_comes_in_half_a_second_and_names_every_command() -> None:
    spent = []
    for _ in range(3):
        before, wall = os.times(), time.perf_counter()
        done = drenpa("--help")
        after = os.times()
        processor = (after.children_user - before.children_user) + (
            after.children_system - before.children_system
        )
        spent.append(min(processor, time.perf_counter() - wall))
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert min(spent) < HELP_S


@pytest.mark.parametrize(
    "argv",
    [
        ["chat", "smollm2-135m", "-q", "Why?", "--language", "Tibetan"],
        ["clean", "pages", "out", "--language", "en", "--language", "Tibetan"],
        ["kinds", "--llm", "m", "--language", "Tibetan"],
    ],
)
def test_what_is_no_language_code_is_refused(argv: list[str]) -> None:
    done = drenpa(*argv)
    assert done.returncode == 2
    assert "'Tibetan' is no language code; did you mean 'bo'?" in " ".join(done.stderr.split())


def test_a_message_cannot_steer_the_terminal(tmp_path: Path) -> None:
    done = drenpa("show", str(tmp_path / "a\x1b]0;owned\x07\x1b[2J"))
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr


def test_no_arguments_print_the_help() -> None:
    done = drenpa()
    assert "Usage" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_told() -> None:
    from drenpa import __version__

    assert drenpa("--version").stdout == f"drenpa {__version__}\n"


def test_a_dry_run_shows_the_resolved_recipe_and_the_steps_and_does_nothing(recipe: Path) -> None:
    done = drenpa("run", str(recipe), "--dry-run", "--set", "seed=7", cwd=recipe.parent)
    assert done.returncode == 0, done.stderr
    shown, _, steps = done.stdout.rpartition("\n\n")
    stored = yaml.safe_load(shown)
    assert stored["seed"] == 7
    assert stored["strategies"][0]["stages"][0]["steps"] == 2
    assert stored["strategies"][0]["stages"][0]["group"] == 8  # a default, spelled out
    assert steps.splitlines()[0].startswith("will run")
    for step in ("curate", "finetune", "critic", "reinforce-memory-main", "benchmark-base"):
        assert f" {step} " in steps
    assert "waits" in steps
    assert sorted(path.name for path in recipe.parent.iterdir()) == ["recipe.yaml"]


def test_a_dry_run_of_one_stage_tells_only_what_leads_there(recipe: Path) -> None:
    done = drenpa("curate", str(recipe), "--dry-run", cwd=recipe.parent)
    steps = done.stdout.rpartition("\n\n")[2].splitlines()
    assert len(steps) == 1
    assert steps[0].split()[:3] == ["will", "run", "curate"]


def test_what_is_done_already_is_told_as_done(recipe: Path) -> None:
    first = drenpa("curate", str(recipe), cwd=recipe.parent)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("running")
    assert drenpa("curate", str(recipe), cwd=recipe.parent).stdout.startswith("done already")
    told = drenpa("run", str(recipe), "--dry-run", cwd=recipe.parent).stdout
    step = next(line for line in told.splitlines() if " curate " in line)
    assert step.startswith("done")


def test_a_dry_run_tells_what_is_missing_for_the_steps_that_are_left(recipe: Path) -> None:
    given = ("run", str(recipe), "--dry-run", "--set", "report.people=[none.jsonl]")
    done = drenpa(*given, cwd=recipe.parent)
    assert "will run  curate" in done.stdout
    fails(done, "drenpa: report.people: none.jsonl")


def test_a_recipe_that_is_not_there_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    fails(drenpa("run", str(tmp_path / "no.yaml")), "drenpa: ", "no such recipe")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("seed", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("seed=-1", "seed"),
        ("critic.epoch=3", "did you mean 'epochs'"),
        ("strategies.memry.start=sft", "no entry 'memry'"),
        ("seed.x=1", "--set seed.x=1: seed"),
        ("name=[", "not a YAML value"),
    ],
)
def test_a_wrong_setting_is_named_with_the_remedy(recipe: Path, setting: str, told: str) -> None:
    done = drenpa("run", str(recipe), "--dry-run", "--set", setting)
    fails(done, told)
    assert done.stdout == ""


def test_a_setting_reaches_a_stage_by_its_name(recipe: Path) -> None:
    done = drenpa("curate", str(recipe), "--dry-run", "-s", "strategies.memory.stages.main.group=3")
    shown = yaml.safe_load(done.stdout.rpartition("\n\n")[0])
    assert shown["strategies"][0]["stages"][0]["group"] == 3


def test_an_overlay_lies_over_the_recipe(recipe: Path) -> None:
    overlay = recipe.parent / "over.yaml"
    overlay.write_text("seed: 5\ncritic: {epochs: 9}\n")
    done = drenpa("curate", str(recipe), "--dry-run", "-o", str(overlay), "-s", "seed=6")
    shown = yaml.safe_load(done.stdout.rpartition("\n\n")[0])
    assert (shown["seed"], shown["critic"]["epochs"]) == (6, 9)


def test_bad_data_is_named_by_file_line_and_field(recipe: Path) -> None:
    (recipe.parent / "r.jsonl").write_text(
        json.dumps({"id": "a", "kind": "meta", "question": "q", "answer": "a"}) + "\n{broken\n"
    )
    done = drenpa("curate", str(recipe), "-s", "corpus.records=[r.jsonl]", cwd=recipe.parent)
    fails(done, "r.jsonl:1: field 'kind'", "metacognition", "r.jsonl:2: broken JSON")


def test_an_unknown_command_or_option_is_a_line_and_no_traceback(recipe: Path) -> None:
    fails(drenpa("rnu", str(recipe)), "rnu")
    fails(drenpa("run", str(recipe), "--stes", "seed=1"), "--stes")
    fails(drenpa("curate"), "RECIPE")


def test_show_of_what_is_no_artefact_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    fails(drenpa("show", str(tmp_path)), "drenpa: ", "manifest.json")


def test_show_takes_a_run_and_an_artefact(recipe: Path) -> None:
    drenpa("curate", str(recipe), cwd=recipe.parent)
    run = recipe.parent / "runs" / "tiny"
    listed = drenpa("show", str(run))
    assert "corpus" in listed.stdout
    corpus = next(run.glob("corpus-*"))
    assert "records.parquet" in drenpa("show", str(corpus), "--rows", "1").stdout
    both = drenpa("show", str(run), str(corpus)).stdout
    assert both == f"{listed.stdout}\n{drenpa('show', str(corpus)).stdout}"


def test_doctor_sizes_up_the_recipe_as_it_would_run(recipe: Path, tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("name: larger\n")
    done = drenpa("doctor", str(recipe), "-o", str(over), "-s", "out=elsewhere")
    assert done.returncode == 0, done.stderr
    assert "recipe larger" in done.stdout
    assert "elsewhere" in done.stdout
    fails(drenpa("doctor", "-s", "seed=2"), "drenpa: --overlay and --set change a recipe; name")


def test_export_of_a_corpus_is_a_line_and_no_traceback(recipe: Path) -> None:
    drenpa("curate", str(recipe), cwd=recipe.parent)
    corpus = next((recipe.parent / "runs" / "tiny").glob("corpus-*"))
    fails(drenpa("export", str(corpus), str(recipe.parent / "out")), "a policy is needed here")


def test_init_makes_a_project_that_curates(tmp_path: Path) -> None:
    done = drenpa("init", "bees", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    curated = drenpa("curate", "bees/recipe.yaml", cwd=tmp_path)
    assert curated.returncode == 0, curated.stderr
    fails(drenpa("init", "bees", cwd=tmp_path), "is not empty")


def test_an_unknown_model_is_a_line_and_no_traceback(recipe: Path) -> None:
    done = drenpa("chat", "smollm-135m", "-q", "hello")
    fails(done, "drenpa: model 'smollm-135m'", "smollm2-135m")


def test_chat_answers_one_question(tiny_folder: Callable[..., Path]) -> None:
    folder = str(tiny_folder(max_position_embeddings=2048))
    done = drenpa("chat", folder, "-q", "What is a hive?")
    assert done.returncode == 0, done.stderr
    again = drenpa("chat", folder, "-q", "What is a hive?")
    assert again.stdout == done.stdout


def test_a_folder_that_cannot_be_made_is_a_line_and_no_traceback(recipe: Path) -> None:
    (recipe.parent / "taken").write_text("x")
    done = drenpa("curate", str(recipe), "-s", "out=taken/run", cwd=recipe.parent)
    fails(done, "cannot be written")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("deduplicate", "rows.jsonl", "--out", "rows.jsonl/new"), "not a directory"),
        (("clean", "rows.jsonl", "rows.jsonl/new"), "not a directory"),
        (("fetch", "urls.txt", "rows.jsonl", "--contact", "a@e.org"), "file exists"),
    ],
    ids=["deduplicate", "clean", "fetch"],
)
def test_a_path_under_a_file_is_told_in_one_line(tmp_path, command, said):
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "text": "snow"}\n')
    (tmp_path / "urls.txt").write_text("https://e.org/\n")
    done = drenpa(*command, cwd=tmp_path)
    fails(done, said)
    assert done.returncode == 1
    assert done.stderr.startswith("drenpa: rows.jsonl")
    assert len(done.stderr.splitlines()) == 1
