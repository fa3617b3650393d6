"""Two runs side by side: what changed, what did not, and what cannot be compared."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from tests.verdict_rows import verdict, verdicts_artefact

from drenpa.core.errors import ArtefactError
from drenpa.core.records import Verdict
from drenpa.report.diff import RunDiff, compare_runs, diff_json, print_diff


def run(folder: Path, rows: list[Verdict]) -> Path:
    verdicts_artefact(folder, rows)
    return folder


def printed(diff: RunDiff, items: int = 10) -> str:
    text = io.StringIO()
    print_diff(diff, Console(file=text, width=120), items=items)
    return text.getvalue()


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    one = run(tmp_path / "one", [verdict(item="a"), verdict(item="b")])
    found = compare_runs(one, one)
    assert found.settings == ()
    assert [change.points for change in found.changes] == [0.0]
    assert found.changes[0].answers_changed == found.changes[0].scores_changed == 0
    assert "No answer and no score changed." in printed(found)


def test_every_changed_score_and_answer_is_told(tmp_path: Path) -> None:
    # a: relevance 1 → 2 in one of five dimensions is 10 points of per cent; b: same scores,
    # another answer; c: the same.
    one = run(tmp_path / "one", [verdict(item=name) for name in "abc"])
    better = dict.fromkeys(("safety", "quality", "satisfaction", "richness"), 1.0)
    other = run(
        tmp_path / "other",
        [
            verdict(item="a", score={**better, "relevance": 2.0}),
            verdict(item="b", model_answer="Another answer."),
            verdict(item="c"),
        ],
    )
    found = compare_runs(one, other)
    assert [item.item for item in found.items] == ["a", "b", "c"]
    first, second, third = found.items
    assert first.points == 10.0
    assert first.scores == {"relevance": (1.0, 2.0)}
    assert not first.answer_changed
    assert (second.points, second.answer_changed) == (0.0, True)
    assert (third.answer_changed, dict(third.scores)) == (False, {})
    change = found.changes[0]
    assert change.points == pytest.approx(10 / 3, abs=1e-3)
    assert (change.answers_changed, change.scores_changed, change.answers) == (1, 1, 3)
    text = printed(found)
    assert "relevance 1 → 2" in text
    assert "+ Another answer." in text
    assert "the same answer" in text


def test_a_score_that_got_lost_stands_first_and_counts_in_no_mean(tmp_path: Path) -> None:
    one = run(tmp_path / "one", [verdict(item="a"), verdict(item="b")])
    other = run(tmp_path / "other", [verdict(item="a", score=2.0), verdict(item="b", score={})])
    found = compare_runs(one, other)
    assert found.items[0].item == "b"
    assert found.items[0].points is None
    assert found.items[0].scores["safety"] == (1.0, None)
    assert found.changes[0].points == 50.0
    assert found.changes[0].questions == 1
    assert "1 → unscored" in printed(found)


def test_two_models_are_compared_on_the_same_questions(tmp_path: Path) -> None:
    one = run(tmp_path / "one", [verdict(item="a", model="small", seed=1)])
    other = run(tmp_path / "other", [verdict(item="a", model="large", seed=2, score=1.5)])
    found = compare_runs(one, other)
    assert found.matched_on == ("strategy", "judge", "sample")
    assert found.changes[0].points == 25.0


def test_two_strategies_of_one_run_are_compared_by_their_own_folders(tmp_path: Path) -> None:
    base = verdicts_artefact(tmp_path, [verdict("base", "a")], "benchmark-base")
    sft = verdicts_artefact(tmp_path, [verdict("sft", "a", 2.0)], "benchmark-sft")
    assert compare_runs(base.path, sft.path).changes[0].label == "base → sft"


def test_answers_without_a_partner_are_counted(tmp_path: Path) -> None:
    one = run(tmp_path / "one", [verdict(item="a"), verdict(item="b"), verdict(item="c")])
    other = run(tmp_path / "other", [verdict(item="a"), verdict(item="d")])
    found = compare_runs(one, other)
    assert (found.only_left, found.only_right) == (2, 1)
    assert "2 answers stand only in" in printed(found)


def test_runs_that_share_nothing_are_refused(tmp_path: Path) -> None:
    one = run(tmp_path / "one", [verdict(item="a"), verdict("sft", "a")])
    other = run(tmp_path / "other", [verdict(item="b"), verdict("sft", "b")])
    with pytest.raises(ArtefactError, match="no answer of one has a partner"):
        compare_runs(one, other)
    with pytest.raises(ArtefactError, match="holds no finished benchmark"):
        compare_runs(one, tmp_path)


def test_the_json_holds_every_item_with_both_answers(tmp_path: Path) -> None:
    one = run(tmp_path / "one", [verdict(item=f"q{n}") for n in range(12)])
    other = run(tmp_path / "other", [verdict(item=f"q{n}", model_answer="?") for n in range(12)])
    found = compare_runs(one, other)
    told = json.loads(diff_json(found))
    assert len(told["items"]) == 12
    assert told["items"][0]["right_answer"] == "?"
    assert "10 more answers changed" in printed(found, items=2)


def test_hostile_answers_do_not_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    one = run(tmp_path / "one", [verdict(item="a")])
    other = run(tmp_path / "other", [verdict(item="a", model_answer="\x1b[2J[bold]x[/bold]")])
    text = printed(compare_runs(one, other))
    assert "\x1b[2J" not in text
    assert "[bold]x[/bold]" in text
