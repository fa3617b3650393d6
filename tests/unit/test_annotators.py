"""Reports on annotators: pace, control items, distance from the others, and change."""

import math

import pytest

from drenpa.corpus.annotate import Store
from drenpa.corpus.annotators import (
    PAUSE,
    drift,
    likely_kinds,
    report_annotators,
    severities,
)
from drenpa.corpus.rounds import Event, GoldDraft

RATING = {
    "agrees": True,
    "kind": "foundation",
    "quality": 1,
    "diversity": 1,
    "timeliness": 1,
    "professionalism": 1,
    "comment": "",
}
DRAFT = {"question": "Why?", "answer": "So.", "language": "en"}


def at(seconds):
    return f"2026-01-05T08:{seconds // 60:02}:{seconds % 60:02}.000+00:00"


class History:
    """Events written by hand, with the times that a test needs."""

    def __init__(self):
        self.events, self.versions = [], {}

    def add(self, item, action, actor, content, seconds=0):
        version = self.versions[item] = self.versions.get(item, 0) + 1
        self.events.append(
            Event(len(self.events) + 1, item, version, action, actor, at(seconds), content)
        )

    def item(self, name):
        draft = {"id": name, **DRAFT}
        self.add(name, "import", "import", {"draft": draft, "kind_source": ""})
        question = {"question": "Why?", "kind": "foundation", "stability": "slow", "demand": 1}
        self.add(name, "edit_question", "lead", question)
        self.add(name, "edit_answer", "lead", {"answer": "So.", "kind": "foundation"})

    def rate(self, item, rater, seconds=0, **changes):
        self.add(item, "rate", rater, RATING | changes, seconds)


@pytest.fixture
def reported(tmp_path):
    def report(history):
        with Store(tmp_path / "s.db") as store:
            store.restore(history.events)
            return {report.person: report for report in report_annotators(store)}

    return report


def test_pace_is_the_median_gap_without_pauses_and_sheets(reported):
    history = History()
    for name in "abcdef":
        history.item(name)
    times = (0, 10, 30, 30, 30 + PAUSE + 1, 30 + PAUSE + 41)
    for name, seconds in zip("abcdef", times, strict=True):
        history.rate(name, "r1", seconds)
    reports = reported(history)
    assert reports["r1"].seconds == 20  # gaps of 10, 20 and 40; none at once, none after a pause
    assert math.isnan(reports["lead"].seconds)
    assert reports["lead"].steps == {"edit_question": 6, "edit_answer": 6}


def test_control_items_are_held_against_what_is_known(reported, tmp_path):
    with Store(tmp_path / "gold.db") as store:
        known = {"agrees": False, "kind": "profession", "quality": 0, "diversity": 2}
        for name in ("g", "h"):
            store.add_gold(
                [GoldDraft(id=name, question="Why?", answer="So.", **known)], actor="import"
            )
        store.act("g", "rate", "r1", RATING | {"agrees": False}, seen=1)
        store.act("h", "rate", "r1", RATING | {"kind": "profession", "quality": 0}, seen=1)
        [report] = report_annotators(store)
    assert (report.gold, report.gold_kind, report.gold_agrees) == (2, 0.5, 0.5)
    assert report.gold_error == pytest.approx((1 + 1 + 0 + 1) / 4)
    assert report.rated == 0


def test_a_strict_rater_who_grows_mild_shows_in_severity_and_drift(reported):
    history = History()
    for number in range(8):
        name = f"n{number}"
        history.item(name)
        history.rate(name, "r1")
        history.rate(name, "r2")
        history.rate(name, "strict", quality=0 if number < 4 else 1)
    reports = reported(history)
    strict = reports["strict"]
    # one of four aspects is one below the others on half of the records: 1/8 below them; from the
    # middle of the three that is 2/3 of it, and the others are 1/3 of it above
    assert strict.severity == pytest.approx(-1 / 12)
    assert reports["r1"].severity == reports["r2"].severity == pytest.approx(1 / 24)
    assert strict.agreement == pytest.approx(7 / 8)
    assert strict.drift.value == strict.drift.low == strict.drift.high == pytest.approx(0.25)
    assert strict.rated == 8


def test_severity_does_not_hang_on_whom_one_rates_with():
    # a deserves 1 and b deserves 2; x gives what is deserved, y a half less, z a half more
    rated = [{"x": 1.0, "y": 0.5}, {"y": 1.5, "z": 2.5}, {"x": 2.0, "z": 2.5}, {"x": 3.0}]
    levels = severities(rated)
    assert levels == pytest.approx({"x": 0.0, "y": -0.5, "z": 0.5}, abs=1e-6)
    assert severities([]) == {}


def test_the_likely_kind_and_how_often_each_finds_it(reported, tmp_path):
    history = History()
    for number in range(6):
        name = f"n{number}"
        history.item(name)
        kind = "foundation" if number % 2 else "profession"
        history.rate(name, "r1", kind=kind)
        history.rate(name, "r2", kind=kind)
        history.rate(name, "r3", kind="foundation")
    reports = reported(history)
    assert reports["r1"].accuracy == pytest.approx(1.0)
    assert reports["r3"].accuracy == pytest.approx(0.5)
    with Store(tmp_path / "again.db") as store:
        store.restore(history.events)
        kinds = likely_kinds(store.items())
    assert kinds["n0"]["profession"] > 0.9
    assert kinds["n1"]["foundation"] > 0.9


def test_what_was_undone_counts_as_undone(reported):
    history = History()
    history.item("a")
    history.rate("a", "r1")
    history.add("a", "undo", "r1", {"version": 4})
    report = reported(history)["r1"]
    assert (report.steps, report.undone, report.rated) == ({}, 1, 0)


def test_drift_has_an_interval_or_says_that_it_has_none():
    assert math.isnan(drift([0.1, 0.2, 0.3]).value)
    found = drift([0, 0.1, 0, 0.1, 1, 1.1, 1, 1.1])
    assert found.value == pytest.approx(1.0)
    assert 0.85 < found.low <= 1.0 <= found.high < 1.15
