"""Which policy is talked to, and under which instruction; the answers are in tests/e2e."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from drenpa.cli import app
from drenpa.commands.chat import chosen_policy, instruction_of
from drenpa.config import RecallConfig
from drenpa.core.artefacts import Artefact, ArtefactKind, Plan, as_input, run_plan
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.prompts import load_prompt
from drenpa.pipeline import memory_of, recall_language, recall_settings


def made(root: Path, kind: ArtefactKind, name: str, inputs=None, **config) -> Artefact:
    def work(folder: Path):
        (folder / "file").write_text(name)
        return {}

    return run_plan(Plan(kind, name, root, config, inputs or {}, (), work))


@pytest.fixture
def policy(tmp_path: Path) -> Artefact:
    made(tmp_path, "policy", "finetune", answer_prompt="Be brief.")
    return made(tmp_path, "policy", "reinforce", instruction="Be kind.")


def test_of_a_run_the_newest_policy_is_talked_to(policy):
    chosen = chosen_policy(str(policy.path.parent))
    assert isinstance(chosen, Artefact)
    assert chosen.path == policy.path


def test_an_artefact_that_is_no_policy_cannot_be_talked_to(tmp_path):
    corpus = made(tmp_path, "corpus", "corpus")
    with pytest.raises(ArtefactError, match="is a corpus, but a policy is needed"):
        chosen_policy(str(corpus.path))


def test_what_is_no_folder_of_ours_is_a_models_name(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert chosen_policy(str(tmp_path)) == str(tmp_path)
    assert chosen_policy("smollm2-135m") == "smollm2-135m"


def test_a_policy_answers_under_the_instruction_of_its_training_unless_told_otherwise(policy):
    finetuned = chosen_policy(str(next(policy.path.parent.glob("finetune-*"))))
    assert instruction_of(policy, "") == "Be kind."
    assert instruction_of(finetuned, "") == "Be brief."
    assert instruction_of(policy, "zh") == load_prompt("answer", "zh").text
    assert instruction_of("smollm2-135m", "") == load_prompt("answer", "en").text


def test_a_policys_memory_is_the_newest_that_was_made_for_it(policy):
    root = policy.path.parent
    assert memory_of(policy) is None
    other = {"path": os.fspath(root), "digest": "another"}
    made(root, "memory", "foreign", {"policy": other})
    assert memory_of(policy) is None
    made(root, "memory", "older", {"policy": as_input(policy)})
    newest = made(root, "memory", "newer", {"policy": as_input(policy)})
    found = memory_of(policy)
    assert found is not None
    assert found.path == newest.path


def test_a_memory_is_asked_as_it_was_in_the_benchmark(policy):
    root = policy.path.parent
    memory = made(root, "memory", "memory", {"policy": as_input(policy)})
    assert recall_settings(memory) == RecallConfig()
    asked = RecallConfig(passages=1)
    inputs = {"memory": as_input(memory)}
    made(root, "verdicts", "benchmark", inputs, recall=asked.model_dump(mode="json"))
    assert recall_settings(memory) == asked


def test_passages_are_shown_in_the_language_of_the_benchmark_or_else_of_the_training(tmp_path):
    tuned = made(tmp_path, "policy", "finetune", language="zh")
    policy = made(tmp_path, "policy", "reinforce", {"backbone": as_input(tuned)})
    memory = made(tmp_path, "memory", "memory", {"policy": as_input(policy)})
    assert recall_language(memory, tuned) == "zh"
    assert recall_language(memory, policy) == "zh"
    asked = RecallConfig().model_dump(mode="json")
    made(
        *(tmp_path, "verdicts", "benchmark", {"memory": as_input(memory)}),
        recall=asked,
        language="bo",
    )
    assert recall_language(memory, policy) == "bo"
    shutil.rmtree(tuned.path)
    other = made(tmp_path, "memory", "other", {"policy": as_input(policy)}, note="other")
    assert recall_language(other, policy) == "en"


class FakePolicy:
    """Repeats the question; cannot read `long`."""

    def answer(self, question: str, *, temperature: float) -> str:
        if question == "long":
            raise DataError("too long to be asked")
        return f"{question} at {temperature:g}"


@pytest.fixture
def asked(monkeypatch):
    def load(_place, *, instruction):
        return FakePolicy()

    monkeypatch.setattr("drenpa.engine.policy.load_policy", load)
    return lambda *more, told="": CliRunner().invoke(app, ["chat", "a-model", *more], input=told)


def test_a_question_that_is_too_long_does_not_end_the_talk(asked):
    done = asked(told="one\nlong\ntwo\n\n")
    assert done.exit_code == 0
    assert "one at 0\n" in done.stdout
    assert "two at 0\n" in done.stdout
    assert "too long to be asked" in done.stderr


def test_a_question_that_is_asked_alone_and_is_too_long_is_an_error(asked):
    done = asked("-q", "long")
    assert isinstance(done.exception, DataError)


def test_a_sign_that_no_terminal_should_send_is_asked_as_a_question_mark(asked):
    assert asked("-q", "na\udcefve").stdout == "na?ve at 0\n"
