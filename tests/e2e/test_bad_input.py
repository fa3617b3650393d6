"""What a user may get wrong, tried with the real command: a fault names its place and a way out."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny_run import ROUND, tiny_rows, write_tiny_run

from drenpa.core.artefacts import MANIFEST, open_artefact
from drenpa.core.store import Store
from drenpa.judge.bench import STORE

LORA = {"rank": 4, "alpha": 4}
TRAIN = {"learning_rate": 0.01, "checkpoint_every": 1, "lora": LORA}
MEMORY = {"name": "memory", "stages": [{**ROUND, "name": "main"}]}


def refused(outcome) -> str:
    """The message of a command that ended in an error a user can mend: no traceback."""
    assert outcome.status == 1, outcome.said
    assert "Traceback" not in outcome.said
    return outcome.said.partition("drenpa: ")[2]


def finished(run: Path, stem: str) -> Path:
    (folder,) = [path.parent for path in run.glob(f"{stem}-??????????/{MANIFEST}")]
    return folder


# --------------------------------------------------------------------------------------- the corpus


def without(rows, role, number, field):
    rows[role][number] = {k: v for k, v in rows[role][number].items() if k != field}


def with_field(rows, role, number, field, value):
    rows[role][number] = {**rows[role][number], field: value}


def second_candidate(rows, **changes):
    candidates = rows["rankings"][1]["candidates"]
    candidates[1] = {**candidates[1], **changes}


@pytest.mark.parametrize(
    ("spoil", "place", "fault"),
    [
        pytest.param(
            lambda rows: with_field(rows, "records", 1, "kind", "meta"),
            "records.jsonl:2",
            "'meta' is not one of foundation, profession, metacognition, connection",
            id="unknown kind",
        ),
        pytest.param(
            lambda rows: without(rows, "records", 1, "answer"),
            "records.jsonl:2",
            "field 'answer': missing",
            id="missing answer",
        ),
        pytest.param(
            lambda rows: with_field(rows, "records", 1, "id", rows["records"][0]["id"]),
            "records.jsonl:2",
            "'foundation-verbs' stands already at",
            id="duplicate id",
        ),
        pytest.param(
            lambda rows: with_field(rows, "rankings", 1, "record", "foundation-river"),
            "rankings.jsonl:2",
            "no record has the id 'foundation-river'; did you mean 'foundation-rivers'?",
            id="ranking of an unknown record",
        ),
        pytest.param(
            lambda rows: with_field(rows, "rankings", 1, "order", ["c0", "c9"]),
            "rankings.jsonl:2",
            "field 'order': unknown field",
            id="ranking by names of answers",
        ),
        pytest.param(
            lambda rows: second_candidate(rows, answer=""),
            "rankings.jsonl:2",
            "candidates[1].answer",
            id="ranking without an answer's text",
        ),
        pytest.param(
            lambda rows: second_candidate(rows, id="c0"),
            "rankings.jsonl:2",
            "candidate ids repeat: c0, c0, c2",
            id="ranking that names an answer twice",
        ),
        pytest.param(
            lambda rows: rows.__setitem__("records", []),
            "records.jsonl",
            "holds no rows",
            id="empty file",
        ),
    ],
)
def test_a_fault_in_the_corpus_is_told_with_file_line_and_field(
    drenpa, tiny_chat, tmp_path, spoil, place, fault
):
    rows = tiny_rows()
    spoil(rows)
    recipe = write_tiny_run(tmp_path, tiny_chat(), rows=rows)

    message = refused(drenpa.run("run", recipe))

    assert f"{tmp_path}/{place}" in message
    assert fault in message
    assert not list((tmp_path / "run").glob(f"*/{MANIFEST}"))


def test_a_broken_line_is_told_by_its_number_and_column(drenpa, tiny_chat, tmp_path):
    recipe = write_tiny_run(tmp_path, tiny_chat())
    file = tmp_path / "records.jsonl"
    lines = file.read_text().splitlines()
    lines[4] = lines[4][:-1]
    file.write_text("\n".join(lines))

    message = refused(drenpa.run("curate", recipe))

    assert message.startswith(f"{file}:5: broken JSON at column")


# --------------------------------------------------------------------------------- what is too long


def test_rows_too_long_for_fine_tuning_are_counted(drenpa, tiny_chat, tmp_path):
    rows = tiny_rows()
    rows["records"][0] = {**rows["records"][0], "answer": "Because " + "really " * 200}
    recipe = write_tiny_run(tmp_path, tiny_chat(), rows=rows, finetune={"critique_share": 0})

    outcome = drenpa.run("finetune", recipe)

    assert outcome.status == 0, outcome.said
    summary = open_artefact(finished(tmp_path / "run", "finetune")).summary
    assert summary["too_long"] == 1
    assert summary["samples"]["instruction"] + summary["held_out"] == len(rows["records"]) - 1
    (warning,) = summary["warnings"]
    assert re.fullmatch(r"1 of \d+ rows in en left out: longer than 1024 tokens, .*", warning)
    assert f"warning: {warning}" in outcome.said


def test_a_limit_that_no_row_fits_is_told_as_such(drenpa, tiny_chat, tmp_path):
    recipe = write_tiny_run(tmp_path, tiny_chat(), finetune={"train": {"max_length": 20}})

    message = refused(drenpa.run("finetune", recipe))

    assert "no row of it fits into 20 tokens" in message


def test_questions_that_are_all_too_long_for_a_stage_are_told_before_the_critic_is_paid_for(
    drenpa, tiny_chat, tmp_path
):
    stage = {**ROUND, "name": "main", "max_new_tokens": 900, "reward": {"finished": 1}}
    recipe = write_tiny_run(
        tmp_path, tiny_chat(), strategies=[{"name": "memory", "stages": [stage]}]
    )

    message = refused(drenpa.run("reinforce", recipe))

    assert "stage main: mix asks for foundation" in message
    assert "8 of the corpus are too long" in message


def test_a_benchmark_question_without_room_is_named_before_any_is_answered(
    drenpa, tiny_chat, tmp_path
):
    rows = tiny_rows()
    long = "Why do zebras " + "really " * 120 + "run?"
    rows["benchmark"][-1] = {**rows["benchmark"][-1], "question": long}
    recipe = write_tiny_run(
        tmp_path, tiny_chat(), rows=rows, benchmark={"strategies": ["base"], "items_per_kind": 0}
    )

    message = refused(drenpa.run("benchmark", recipe))

    assert "question 'Why do zebras" in message
    assert "of the model's 1024 for an answer of up to 4" in message
    with Store(tmp_path / "run" / STORE) as store:
        assert len(store) == 0


def test_chat_names_a_question_without_room(drenpa, tiny_chat):
    message = refused(drenpa.run("chat", tiny_chat(), "-q", "Why " + "really " * 150 + "?"))

    assert message.startswith("question 'Why really")
    assert "shorten it" in message


# ---------------------------------------------------------------------------------------- the model


def test_a_tokenizer_without_pad_token_and_chat_template_goes_all_the_way(
    drenpa, tiny_folder, tmp_path
):
    model = tiny_folder("qwen2", max_position_embeddings=1024, pad=False, template=None)
    recipe = write_tiny_run(
        tmp_path, model, strategies=[MEMORY], benchmark={"strategies": ["base", "memory"]}
    )

    outcome = drenpa.run("run", recipe)

    assert outcome.status == 0, outcome.said
    assert (tmp_path / "run" / "report" / "table.json").is_file()
    policy = finished(tmp_path / "run", "reinforce-memory-main")
    assert drenpa.run("chat", policy, "-q", "Why?").status == 0


@pytest.fixture
def trained(drenpa, tiny_chat, tmp_path):
    """A run up to its critic, and its recipe."""
    recipe = write_tiny_run(tmp_path, tiny_chat(), strategies=[MEMORY])
    outcome = drenpa.run("critic", recipe)
    assert outcome.status == 0, outcome.said
    return recipe, tmp_path / "run"


def test_a_folder_of_another_stage_is_refused_by_what_it_is(drenpa, trained):
    recipe, run = trained
    critic, corpus = finished(run, "critic"), finished(run, "corpus")

    for command in (("chat", critic, "-q", "Why?"), ("export", critic, run / "exported")):
        assert "is a critic, but a policy is needed here" in refused(drenpa.run(*command))
    assert "is a corpus, but a policy is needed here" in refused(
        drenpa.run("chat", corpus, "-q", "Why?")
    )
    assert "without config.json is not a model's folder" in refused(
        drenpa.run("run", recipe, "--set", f"model={critic}")
    )


def test_a_critic_that_gives_no_numbers_stops_the_run_and_says_where_to_look(drenpa, trained):
    recipe, run = trained
    head = finished(run, "critic") / "head.safetensors"
    save_file({"weight": torch.full_like(load_file(head)["weight"], float("nan"))}, head)

    message = refused(drenpa.run("reinforce", recipe))

    assert "stage main: 2 of 2 groups hold an answer that the scorer gave no number" in message
    assert "samples.jsonl" in message
    (samples,) = run.glob("reinforce-memory-main-*.partial/samples.jsonl")
    (line,) = samples.read_text().splitlines()
    answers = [answer for group in json.loads(line)["groups"] for answer in group["answers"]]
    assert {answer["rewards"]["critic"] for answer in answers} == {None}


def test_weights_that_are_not_numbers_stop_the_training_at_its_step(drenpa, tiny_chat, tmp_path):
    recipe = write_tiny_run(
        tmp_path, tiny_chat(), finetune={"train": {"learning_rate": 1e30, "warmup_share": 0}}
    )

    message = refused(drenpa.run("finetune", recipe))

    assert message.startswith("finetune, step 2: loss is nan; lower train.learning_rate")
    assert not list((tmp_path / "run").glob(f"finetune-*/{MANIFEST}"))


# --------------------------------------------------------------------------------------- the recipe


def test_adapters_that_do_not_fit_are_refused_before_anything_runs(drenpa, tiny_chat, tmp_path):
    def stage(name, lora):
        return {**ROUND, "name": name, "train": {**ROUND["train"], "lora": lora}}

    recipe = write_tiny_run(
        tmp_path,
        tiny_chat(),
        critic={"train": {"lora": None}},
        strategies=[
            {"name": "first", "stages": [stage("a", LORA), stage("b", {"rank": 8, "alpha": 4})]},
            {"name": "second", "start": "first", "stages": [stage("c", None), stage("d", LORA)]},
        ],
    )

    message = refused(drenpa.run("run", recipe))

    assert "critic.train.lora: a critic is an adapter over its backbone" in message
    assert "strategies.first.b.train.lora: rank 8, alpha 4, but it goes on" in message
    assert "strategies.second.d.train.lora: the stage before trains whole weights" in message
    assert "strategies.second.c" not in message
    assert not (tmp_path / "run").exists()


def test_a_strategy_that_the_recipe_has_not_is_refused_with_the_nearest(
    drenpa, tiny_chat, tmp_path
):
    recipe = write_tiny_run(tmp_path, tiny_chat(), strategies=[MEMORY])

    message = refused(drenpa.run("reinforce", recipe, "--strategy", "memry"))

    assert "--strategy memry" in message
    assert "did you mean 'memory'?" in message


# ------------------------------------------------------------------------------ where it is written


def test_an_output_that_is_a_file_is_told_with_a_way_out(drenpa, tiny_chat, tmp_path):
    recipe = write_tiny_run(tmp_path, tiny_chat())

    message = refused(drenpa.run("run", recipe, "--set", f"out={recipe}"))

    assert str(recipe) in message
    assert "cannot be written" in message
    assert "--set out=FOLDER" in message


@pytest.mark.parametrize("largest_file", [3_000, 6_000, 15_000, 30_000])
def test_a_disk_that_takes_no_more_is_told_and_a_run_with_room_goes_on(
    drenpa, tiny_chat, tmp_path, largest_file
):
    recipe = write_tiny_run(
        tmp_path,
        tiny_chat(),
        finetune={"batch": 4, "epochs": 1, "train": TRAIN},
        critic={"batch": 1, "train": TRAIN},
        engine={"tracker": "tensorboard"},
    )

    full = drenpa.run("critic", recipe, largest_file=largest_file)
    message = refused(full)

    assert "cannot be written" in message
    assert "what was done so far is kept" in message
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob(f"*/{MANIFEST}")}
    roomy = drenpa.run("critic", recipe)
    assert roomy.status == 0, roomy.said
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert not list((tmp_path / "run").glob("*.partial"))


def test_a_full_file_system_and_a_read_only_one_are_told(drenpa, tiny_chat, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=240k", "tmpfs", str(disk)], capture_output=True
    )
    if mount.returncode != 0:
        pytest.skip("this user may not mount a file system")
    recipe = write_tiny_run(
        tmp_path,
        tiny_chat(),
        finetune={"batch": 4, "train": TRAIN},
        critic={"batch": 1, "train": TRAIN},
    )
    where = ("--set", f"out={disk}/run")
    try:
        full = refused(drenpa.run("critic", recipe, *where))
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        roomy = drenpa.run("critic", recipe, *where)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        fixed = refused(drenpa.run("critic", recipe, *where, "--set", "seed=2"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)

    assert "cannot be written (No space left on device)" in full
    assert roomy.status == 0, roomy.said
    assert "cannot be written (Read-only file system)" in fixed
