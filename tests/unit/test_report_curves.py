from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.verdict_rows import training_artefact

from drenpa.core.errors import ArtefactError
from drenpa.report.charts import Bar, Line, bar_chart, line_chart, strategy_colours
from drenpa.report.curves import read_accuracy, read_training

SVG = "{http://www.w3.org/2000/svg}"


def test_rewards_become_one_line_for_the_whole_and_one_for_each_kind(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "reward": 0.1, "reward_foundation": 0.2, "reward_critic": 9.0, "kl": 0.0},
        {"step": 2, "reward": 0.3, "reward_connection": 0.4, "reward_critic": 9.0, "kl": 0.1},
    ]
    found = read_training("grpo", training_artefact(tmp_path, "grpo", lines))
    curves = {curve.measure: curve for curve in found.curves}
    assert found.steps == 2
    assert {line.label: line.points for line in curves["reward"].lines} == {
        "all kinds": ((1.0, 0.1), (2.0, 0.3)),
        "foundation": ((1.0, 0.2),),
        "connection": ((2.0, 0.4),),
    }
    assert curves["kl"].from_zero
    assert set(curves) == {"reward", "kl"}


def test_the_critics_losses_are_lines_of_one_chart(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss": 3.0, "critique_loss": 2.0, "score_loss": 1.0, "lr": 0.1}]
    found = read_training("critic", training_artefact(tmp_path, "critic", lines))
    (curve,) = found.curves
    assert [line.label for line in curve.lines] == ["loss", "critique_loss", "score_loss"]


def test_a_value_that_is_no_number_is_a_gap(tmp_path: Path) -> None:
    lines = [{"step": 1, "kl": float("nan")}, {"step": 2, "kl": 0.5}, {"step": 3, "kl": None}]
    found = read_training("grpo", training_artefact(tmp_path, "grpo", lines))
    assert found.curves[0].lines[0].points == ((2.0, 0.5),)


def test_a_broken_metrics_line_names_file_and_line(tmp_path: Path) -> None:
    artefact = training_artefact(tmp_path, "grpo", [{"step": 1}])
    file = artefact.path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"ste\n', encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"metrics.jsonl:2: not JSON"):
        read_training("grpo", artefact)
    file.write_text('{"loss": 1}\n', encoding="utf-8")
    with pytest.raises(ArtefactError, match=r"metrics.jsonl:1: no object with a number `step`"):
        read_training("grpo", artefact)


def test_accuracies_come_in_order_and_those_not_measured_are_left_out(tmp_path: Path) -> None:
    row = {"accuracy": 0.5, "low": None, "high": None, "pairs": 7}
    stored = {
        "shuffled": row,
        "own": row,
        "gold": row,
        "none": {**row, "accuracy": None},
        "by_kind": {"foundation": {"own": row}},
        "used": "own",
    }
    found = read_accuracy(training_artefact(tmp_path, "critic", [], stored))
    assert [entry.critiques for entry in found] == ["gold", "own", "shuffled"]
    assert found[0].low is None


def test_accuracies_of_another_shape_are_an_error(tmp_path: Path) -> None:
    artefact = training_artefact(tmp_path, "critic", [], {"own": {"accuracy": 0.5}})
    with pytest.raises(ArtefactError, match=r"accuracy.json: does not hold the critic's accurac"):
        read_accuracy(artefact)


def test_a_bar_is_as_long_as_its_share_of_the_axis() -> None:
    bars = [Bar("ab", 40.0, 30.0, 50.0), Bar("cd", 20.0), Bar("ef", None)]
    root = ElementTree.fromstring(str(bar_chart("t", bars, top=80.0)))
    wide, narrow = (float(rect.attrib["width"]) for rect in root.iter(f"{SVG}rect"))
    # 440 wide, less 16 + 2 · 6.6 ≈ 29 for labels and 46 for figures: 365 for 80 %.
    assert wide == pytest.approx(365 / 2, abs=0.1)
    assert narrow == pytest.approx(365 / 4, abs=0.1)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "40.0" in texts
    assert "not scored" in texts


def test_chart_labels_are_text_in_any_script_and_never_markup() -> None:
    label = "<script>&བོད་ 中文"
    for chart in (
        bar_chart(label, [Bar(label, 1.0)], top=20.0),
        line_chart(label, [Line(label, ((1.0, 1.0), (2.0, 3.0)))]),
    ):
        root = ElementTree.fromstring(str(chart))
        assert label in [text.text for text in root.iter(f"{SVG}text")]
        assert "Noto Serif Tibetan" in root.attrib["font-family"]
        assert {node.tag.removeprefix(SVG) for node in root.iter()} <= {
            *("svg", "title", "rect", "line", "text", "path", "circle")
        }


def test_a_long_run_is_averaged_and_keeps_its_first_and_last_step() -> None:
    points = tuple((float(step), float(step % 2)) for step in range(1, 1001))
    root = ElementTree.fromstring(str(line_chart("t", [Line("all", points)])))
    (path,) = (path.attrib["d"] for path in root.iter(f"{SVG}path"))
    assert path.count("L") == 49
    heights = {piece.split()[1] for piece in path[1:].split("L")}
    assert len(heights) == 1  # every 20 steps have the mean one half
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"1", "1000"} <= set(texts)


def test_one_point_is_a_dot_and_none_is_an_error() -> None:
    assert "<circle" in line_chart("t", [Line("a", ((1.0, 0.0),))])
    with pytest.raises(ValueError, match="no points"):
        line_chart("t", [Line("a", ())])


def test_each_strategy_has_its_own_shade() -> None:
    for count in range(8):
        assert len(set(strategy_colours(count))) == count
