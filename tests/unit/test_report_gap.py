"""The critic's gap meter in the report: what is read, and what the page shows of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from drenpa.core.artefacts import Artefact, Plan, run_plan
from drenpa.core.errors import ArtefactError
from drenpa.critic.accuracy import accuracy_table
from drenpa.critic.examples import Example
from drenpa.report.curves import read_accuracy
from drenpa.report.gap import read_meters
from drenpa.report.notes import critic_notes

RIGHT, WRONG = (2.0, 1.0), (1.0, 2.0)


def critic_with(root: Path, table: object) -> Artefact:
    def work(folder: Path) -> dict[str, str]:
        (folder / "accuracy.json").write_text(json.dumps(table), encoding="utf-8")
        return {}

    return run_plan(Plan("critic", "critic", root, {}, {}, (), work))


def table_of(**rows: list[tuple[float, float]]) -> dict[str, object]:
    examples = [
        Example(str(n), str(n), kind, "en", ("a", "b"), ("x", "y"), (1, 2), ("", ""))
        for n, kind in enumerate(("foundation", "foundation", "connection"))
    ]
    return accuracy_table(examples, rows, used="own")


def test_gap_and_use_are_read_of_all_pairs_and_by_kind(tmp_path: Path) -> None:
    table = table_of(
        gold=[RIGHT, RIGHT, RIGHT], own=[RIGHT, WRONG, RIGHT], shuffled=[WRONG, WRONG, RIGHT]
    )
    found = {meter.part: meter for meter in read_meters(critic_with(tmp_path, table))}
    assert list(found) == ["all", "connection", "foundation"]  # one language is no part
    assert found["all"].gap.points == pytest.approx(100 / 3, abs=0.01)
    assert found["all"].pairs == 3
    assert found["all"].all_pairs == pytest.approx(200 / 3, abs=0.01)
    assert (found["foundation"].all_pairs, found["connection"].all_pairs) == (50.0, 100.0)
    assert (found["foundation"].gap.points, found["foundation"].use.points) == (50.0, 50.0)
    assert found["connection"].gap.points == 0.0
    assert found["connection"].gap.low is None  # one question has no interval


def test_the_notes_tell_the_gap_of_the_pairs_that_both_sides_have_scored(tmp_path: Path) -> None:
    # People criticised the answers of the first question alone; there the critic errs as they do.
    silent = (math.nan, math.nan)
    table = table_of(
        gold=[RIGHT, silent, silent], own=[RIGHT, WRONG, WRONG], shuffled=[WRONG, WRONG, WRONG]
    )
    critic = critic_with(tmp_path, table)
    notes = critic_notes(read_accuracy(critic), read_meters(critic))
    assert notes[0] == "Gap (gold − own): 0.0 points; small is good."
    assert notes[1].startswith("Use (own − shuffled): +33.3 points;")


def test_the_share_of_questions_with_every_pair_in_order_is_read_beside_the_pairs(
    tmp_path: Path,
) -> None:
    question = Example(
        "1", "?", "foundation", "en", ("a", "b", "c"), ("x", "y", "z"), (1, 2, 3), ("",) * 3
    )
    table = accuracy_table([question], {"none": [(3.0, 1.0, 2.0)]}, used="none")
    (row,) = read_accuracy(critic_with(tmp_path / "new", table))
    assert (row.accuracy, row.pairs, row.all_pairs) == (pytest.approx(2 / 3, abs=1e-5), 3, 0.0)
    del table["none"]["all_pairs"]
    (row,) = read_accuracy(critic_with(tmp_path / "older", table))
    assert row.all_pairs is None


def test_a_scorer_without_critiques_and_an_older_file_have_no_meter(tmp_path: Path) -> None:
    assert read_meters(critic_with(tmp_path, table_of(none=[RIGHT, RIGHT, RIGHT]))) == ()


def test_a_damaged_file_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"accuracy\.json"):
        read_meters(critic_with(tmp_path, {"gap": 1, "use": 2}))
