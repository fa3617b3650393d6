"""The commands about judges, from a run to people's verdicts on it and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command_host import CommandHost
from tests.tiny_run import write_tiny_run

from drenpa.config import load_recipe
from drenpa.core.artefacts import finished
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Verdict
from drenpa.judge.people import run_verdicts, sheets_of


def test_people_judge_a_run_and_their_verdicts_are_a_judge_like_any_other(
    drenpa: CommandHost, tiny_chat: Callable[..., Path], tmp_path: Path
) -> None:
    reference = {"name": "reference", "max_unscored": 1}
    benchmark = {"strategies": ["base"], "judge": reference}
    recipe = write_tiny_run(tmp_path, tiny_chat(), benchmark=benchmark)
    run = load_recipe(recipe).folder
    assert drenpa.run("benchmark", recipe).status == 0
    judged = run_verdicts(run)

    # a recording of the run gives the same verdicts without the judge
    recording = tmp_path / "recorded.jsonl"
    assert "4 verdicts" in drenpa.run("judge", "record", run, recording).said
    replay = f"benchmark.judge={{name: recorded, file: {recording}, max_unscored: 1}}"
    assert drenpa.run("benchmark", recipe, "--set", replay).status == 0
    replayed = finished(run)[-1].rows("verdicts", Verdict)
    assert [row.scores for row in replayed] == [row.scores for row in judged]
    assert {row.judge for row in replayed} == {"recorded: reference: chrF++"}

    # people fill in a form
    assert drenpa.run("judge", "form", run, tmp_path / "form", "--language", "zh").status == 0
    assert "满意度" in (tmp_path / "form" / "form.html").read_text(encoding="utf-8")
    filled = tmp_path / "dolma.json"
    rows = [{"id": sheet.id, **dict.fromkeys(DIMENSIONS, 1)} for sheet in sheets_of(judged)]
    filled.write_text(json.dumps(rows))
    people = tmp_path / "people.jsonl"
    told = drenpa.run("judge", "take", run, f"Dolma={filled}", "--out", people)
    assert told.status == 0
    assert "4 verdicts of people" in told.said
    setting = f"benchmark.judge={{name: recorded, file: {people}}}"
    assert drenpa.run("benchmark", recipe, "--set", setting).status == 0
    verdicts = finished(run)[-1].rows("verdicts", Verdict)
    assert {row.judge for row in verdicts} == {"human: Dolma"}
    assert all(row.scores == dict.fromkeys(DIMENSIONS, 1.0) for row in verdicts)

    wrong = drenpa.run("judge", "take", run, str(filled))
    assert wrong.status == 1
    assert "say whose form it is" in wrong.said


def test_a_card_is_written_and_compared_with_an_older_one(
    drenpa: CommandHost, tiny_chat: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = write_tiny_run(tmp_path, tiny_chat(), benchmark={"judge": {"name": "rules"}})
    first = drenpa.run("judge", "card", recipe, "--questions", "3")
    assert first.status == 0, first.said
    assert "| empty | ↓" in first.said
    older = load_recipe(recipe).folder / "judge-card"
    second = drenpa.run(
        "judge", "card", recipe, "--questions", "3", "--against", older, "--out", tmp_path / "new"
    )
    assert "the judge has not drifted" in second.said
    missing = drenpa.run("judge", "card", recipe, "--against", tmp_path)
    assert missing.status == 1
    assert "cannot be read as a judge card" in missing.said


@pytest.mark.parametrize("command", ["card", "form", "take", "record"])
def test_each_command_explains_itself(drenpa: CommandHost, command: str) -> None:
    assert "Usage: drenpa judge" in drenpa.run("judge", command, "--help").said
