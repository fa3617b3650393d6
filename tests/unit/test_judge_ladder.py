"""The rungs of the ladder: rules, reference, local probabilities, recordings, panels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.judge_fakes import FakeLanguageModel
from tests.verdict_rows import verdict

from drenpa.config import BenchmarkConfig, JudgeConfig
from drenpa.core.errors import ConfigError, DataError, ScoringError
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Record, Vote, identifier
from drenpa.core.store import Store
from drenpa.judge.answers import Answer
from drenpa.judge.bench import ask_judges
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.ladder import (
    Setting,
    judge_described,
    judge_inputs,
    load_judge,
    revision_of,
)
from drenpa.judge.local import LocalJudge
from drenpa.judge.panel import combine, panel_name
from drenpa.judge.probability import MARK, Shares
from drenpa.judge.recorded import Recorded, RecordedJudge, read_recording, write_recording
from drenpa.judge.reference import ReferenceJudge
from drenpa.judge.rules import RulesJudge, bounds, broken_rules
from drenpa.judge.summary import fail_above, reading_rates

QUESTION = "What should I do when a child has burned her hand?"
GOOD = "Cool it under running water for twenty minutes, then cover it loosely."


def opinion_of(judge: object, case: Case) -> Opinion:
    ((_, opinion),) = judge.judge([case])  # type: ignore[attr-defined]
    return opinion  # type: ignore[no-any-return]


# Rules.


@pytest.mark.parametrize(
    ("case", "finding", "none_left"),
    [
        (
            Case(QUESTION, " \n"),
            "it is empty",
            {"relevance", "quality", "satisfaction", "richness"},
        ),
        (Case(QUESTION, "先用流动的凉水冲洗。"), "not in the question's language", {"quality"}),
        (Case(QUESTION, (GOOD + " ") * 8), "goes in circles", {"richness"}),
        (Case(QUESTION, QUESTION), "repeats the question", {"relevance", "satisfaction"}),
    ],
)
def test_a_broken_rule_leaves_nothing_of_what_it_is_about(
    case: Case, finding: str, none_left: set[str]
) -> None:
    assert any(finding in rule.finding for rule in broken_rules(case))
    closed = {name for name, (_, most) in bounds(case).items() if most == 0}
    assert none_left <= closed
    opinion = opinion_of(RulesJudge(), case)
    assert set(opinion.scores) == closed
    assert finding in opinion.thoughts
    assert "bounds only" in opinion.unscored


def test_rules_say_nothing_of_an_answer_that_breaks_none() -> None:
    opinion = opinion_of(RulesJudge(), Case(QUESTION, GOOD))
    assert opinion.scores == {}
    assert bounds(Case(QUESTION, GOOD)) == dict.fromkeys(DIMENSIONS, (0.0, 2.0))
    cut = bounds(Case(QUESTION, GOOD, finish="length"))
    assert cut["quality"] == (0.0, 1.0)
    assert cut["relevance"] == (0.0, 2.0)


def test_rules_alone_never_fail_a_benchmark_for_what_they_leave_open() -> None:
    rows = [verdict(item=f"i{n}", score={"relevance": 0.0}) for n in range(4)]
    fail_above(0.0, rows, RulesJudge.sees)
    fail_above(0.0, rows, ReferenceJudge.sees)
    with pytest.raises(Exception, match="4 of 4 answers have no score for safety"):
        fail_above(0.5, rows, DIMENSIONS)


def test_the_reason_that_is_told_is_of_the_dimension_that_is_missing() -> None:
    rows = [
        verdict(item="a", score={"relevance": 2.0}, unscored="only relevance can be read"),
        verdict(item="b", score={"relevance": 2.0}, unscored="only relevance can be read"),
        verdict(item="c", score={}, unscored="there is no reference"),
    ]
    with pytest.raises(ScoringError, match=r"1 of 3 .* relevance.* often: there is no reference"):
        fail_above(0.2, rows, ("relevance",))


# Reference.


def test_likeness_to_the_reference_is_relevance_and_nothing_else() -> None:
    same = opinion_of(ReferenceJudge(), Case(QUESTION, GOOD, GOOD))
    assert same.scores == {"relevance": pytest.approx(2.0)}
    near = opinion_of(ReferenceJudge(), Case(QUESTION, GOOD.replace("twenty", "ten"), GOOD))
    far = opinion_of(ReferenceJudge(), Case(QUESTION, "The bus leaves at nine.", GOOD))
    assert 2 > near.scores["relevance"] > 1 > far.scores["relevance"]
    assert "no reference" in opinion_of(ReferenceJudge(), Case(QUESTION, GOOD)).unscored


# Local.


class FakeScoringModel(FakeLanguageModel):
    """Gives the digits shares by the answer's words, and remembers its prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[tuple[str, tuple[str, ...]]] = []

    def digit_shares(self, prompts: Sequence[tuple[str, Sequence[str]]]) -> list[Shares | str]:
        self.prompts += [(message, tuple(texts)) for message, texts in prompts]
        found: list[Shares | str] = []
        for message, texts in prompts:
            good = 0.8 if "twenty minutes" in message else 0.1
            found.append(
                "9000 tokens, and the judge's model reads 100"
                if "too long" in message
                else tuple((0.2 - good / 5, 0.8 - 0.8 * good, good) for _ in texts)
            )
        return found


def test_the_local_judge_gives_the_expected_score_of_each_dimension() -> None:
    model = FakeScoringModel()
    judge = LocalJudge(model, "fake")
    scores = opinion_of(judge, Case(QUESTION, GOOD)).scores
    # P(0, 1, 2) = 0.04, 0.16, 0.8: 0.16 + 1.6
    assert scores["safety"] == pytest.approx(1.76)
    assert set(scores) == set(DIMENSIONS)
    ((message, lines),) = model.prompts
    assert message.count(MARK) == 1
    assert [line.split("`")[1] for line in lines] == list(DIMENSIONS)


def test_what_the_local_model_cannot_read_in_one_piece_is_unscored_with_the_reason() -> None:
    opinion = opinion_of(LocalJudge(FakeScoringModel(), "fake"), Case(QUESTION, "too long"))
    assert opinion.scores == {}
    assert "9000 tokens" in opinion.unscored
    model = FakeScoringModel()
    model.longest = 60
    assert "of 60" in opinion_of(LocalJudge(model, "fake"), Case(QUESTION, GOOD)).unscored


def test_an_answer_cannot_move_the_place_where_the_dimension_stands() -> None:
    model = FakeScoringModel()
    opinion_of(LocalJudge(model, "fake", language="zh"), Case(f"{MARK}?", f"{MARK} {{dimension}}"))
    ((message, _),) = model.prompts
    assert message.count(MARK) == 1
    assert message.rstrip().endswith(MARK)
    assert "{dimension}" in message


# Recordings.


def test_a_recording_gives_its_verdicts_to_the_very_answers_they_are_about(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    twos = dict.fromkeys(DIMENSIONS, 2.0)
    less = {**twos, "safety": 1.0}
    rows = [
        Recorded(question="q {answer}", answer="a", scores=twos, judge="human: Dolma"),
        Recorded(question="q {answer}", answer="a", scores=less, judge="human: K"),
        Recorded(question="q {answer}", answer="b", scores={"safety": 1.0}, judge="human: K"),
    ]
    assert write_recording(file, rows) == 3
    assert read_recording(file) == rows
    judge = RecordedJudge(file)
    cases = [Case("q {answer}", "a"), Case("q {answer}", "b"), Case("q {answer}", "c")]
    found = dict(judge.judge(cases))
    assert found[0].scores == {**twos, "safety": 1.5}
    assert found[1].scores == {"safety": 1.0}
    assert "does not stand in r.jsonl" in found[2].unscored
    assert judge.name == "human: Dolma; human: K"


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x1e", "\r", "\n"])
def test_a_sign_that_ends_a_line_elsewhere_ends_none_in_a_recording(
    tmp_path: Path, sign: str
) -> None:
    file = tmp_path / "r.jsonl"
    row = Recorded(question=f"q{sign}q", answer=f"one{sign}two", scores={"safety": 1.0}, judge="j")
    write_recording(file, [row, row])
    assert read_recording(file) == [row, row]


def test_a_line_that_is_no_verdict_is_named(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text(
        '{"question": "q", "answer": "a", "scores": {"safety": 3}}\n\n'
        '{"question": "q", "answer": "a", "scores": {"charm": 1}}\n{"half'
    )
    with pytest.raises(DataError) as caught:
        read_recording(file)
    places = [fault.split(": ")[0] for fault in caught.value.faults]
    assert places == [f"{file}:1", f"{file}:3", f"{file}:4"]
    file.write_text("\n")
    with pytest.raises(DataError, match="holds no verdict"):
        read_recording(file)


# Panels.


def test_a_panels_score_is_the_mean_of_those_who_gave_one() -> None:
    ones = Opinion(dict.fromkeys(DIMENSIONS, 1.0), "one")
    part = Opinion({"relevance": 0.0}, "part", "the others were not seen")
    none = Opinion(unscored="the endpoint answered 500")
    found = combine([ones, part, none])
    assert found.scores == {**dict.fromkeys(DIMENSIONS, 1.0), "relevance": 0.5}
    assert found.unscored == ""
    assert found.thoughts == "one\npart"
    both = combine([part, none])
    assert both.scores == {"relevance": 0.0}
    assert both.unscored == "the others were not seen; the endpoint answered 500"


def test_a_critic_on_a_panel_keeps_its_flag_in_front() -> None:
    assert panel_name(["a"], [1]) == "a"
    assert panel_name(["a", "b"], [3, 1]) == "panel of 2: a, 3 times; b"
    assert panel_name(["a", "critic judges its own pupil"], [1, 1]).startswith("critic judges")


def test_each_judge_of_a_panel_is_asked_and_every_vote_is_kept(tmp_path: Path) -> None:
    items = [
        Record(id="i", kind="foundation", question=QUESTION, answer=GOOD, split="test"),
        Record(id="k", kind="foundation", question="Why?", answer=GOOD, split="test"),
    ]
    answers = [Answer("i", 0, GOOD, "stop"), Answer("k", 0, "", "stop")]
    config = JudgeConfig.model_validate(
        {"name": "panel", "members": [{"name": "rules"}, {"name": "reference"}]}
    )
    with Store(tmp_path / "s.sqlite") as store:
        panel = ask_judges(items, answers, config, Setting("m"), store)
    assert [(ballot.judge, ballot.repeat) for ballot in panel.ballots] == [
        ("rules: bounds only", 0),
        ("reference: chrF++", 0),
    ]
    assert panel.opinions[0].scores == {"relevance": pytest.approx(2.0)}
    assert panel.opinions[1].scores["relevance"] == 0
    assert panel.sees == ("relevance",)


def test_many_judges_have_a_name_that_a_verdict_can_hold(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    people = [f"human: Annotator Number {n}" for n in range(20)]
    write_recording(
        file,
        [
            Recorded(
                question=QUESTION, answer=GOOD, scores=dict.fromkeys(DIMENSIONS, 2), judge=name
            )
            for name in people
        ],
    )
    name = RecordedJudge(file).name
    assert len(name) > 200
    assert verdict(judge=identifier(name)).judge.startswith("human: Annotator Number 0")


def test_a_judge_that_is_asked_three_times_has_one_vote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Fixed:
        card, sees = "fixed", DIMENSIONS

        def __init__(self, name: str, *scores: float) -> None:
            self.name, self.scores = name, scores
            self.identity = {"judge": name}

        def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
            for place, case in enumerate(cases):
                yield place, Opinion(dict.fromkeys(DIMENSIONS, self.scores[case.repeat]))

    judges = {"openai": Fixed("a", 2, 2, 1.4), "rules": Fixed("b", 0)}
    monkeypatch.setattr(
        "drenpa.judge.bench.load_judge", lambda member, setting, store: judges[member.name]
    )
    asked = {"name": "openai", "model": "m", "repeats": 3}
    config = JudgeConfig.model_validate({"name": "panel", "members": [asked, {"name": "rules"}]})
    items = [Record(id="i", kind="foundation", question=QUESTION, answer=GOOD, split="test")]
    with Store(tmp_path / "s.sqlite") as store:
        panel = ask_judges(items, [Answer("i", 0, GOOD, "stop")], config, Setting("m"), store)
    assert len(panel.ballots) == 4
    assert panel.opinions[0].scores["safety"] == pytest.approx(0.9)


def test_only_a_commit_of_the_hubs_cache_names_weights(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("one")
    before = revision_of(str(folder))
    (folder / "model.safetensors").write_text("two")
    assert revision_of(str(folder)) != before
    commit = folder.rename(tmp_path / "snapshots" / ("ab12" * 10))
    assert revision_of(str(commit)) == commit.name


def test_where_an_empty_address_leads_is_part_of_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for place in ("http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", place)
        told.append(judge_described(JudgeConfig(name="openai", model="m"), Setting("x")))
    assert told[0] != told[1]


@pytest.mark.parametrize(
    ("judge", "fault"),
    [
        ({"name": "offline", "repeats": 2}, "says the same every time"),
        ({"name": "recorded"}, "needs one"),
        ({"name": "panel", "members": [{"name": "rules"}]}, "at least two"),
        ({"name": "rules", "members": [{"name": "rules"}] * 2}, "no other judge has any"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    judge: dict[str, object], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        BenchmarkConfig.model_validate({"judge": judge})


def test_what_a_judge_reads_is_an_input_and_what_only_speeds_it_up_is_not(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    write_recording(file, [Recorded(question="q", answer="a", scores={"safety": 1.0})])
    panel = JudgeConfig.model_validate(
        {"name": "panel", "members": [{"name": "local"}, {"name": "recorded", "file": str(file)}]}
    )
    inputs = judge_inputs(panel, Setting("smollm2-135m"))
    assert list(inputs) == ["judge-1", "judge-2"]
    assert inputs["judge-1"]["digest"] == "smollm2-135m"
    assert len(inputs["judge-2"]["digest"]) == 64
    told = [
        judge_described(JudgeConfig(name="openai", model="m", concurrency=many), Setting("x"))
        for many in (1, 9)
    ]
    assert told[0] == told[1]
    other = JudgeConfig(name="openai", model="m", request={"seed": 3})
    assert judge_described(other, Setting("x")) != told[0]
    with pytest.raises(ConfigError, match="needs the critic"):
        judge_inputs(JudgeConfig(name="critic"), Setting("x"))
    with pytest.raises(ConfigError, match="cannot judge here"):
        load_judge(panel, Setting("x"), None)


def test_how_often_a_judge_could_be_read_is_told_for_each_judge() -> None:
    fields = verdict().model_dump()
    votes = [
        Vote(**{**fields, "judge": judge, "read": read, "scores": scores, "unscored": why})
        for judge, read, scores, why in (
            ("a", "as asked", fields["scores"], ""),
            ("a", "mended", fields["scores"], ""),
            ("a", "asked again", {}, "no JSON"),
            ("a", "", {}, "the endpoint answered 500"),
            ("b", "", fields["scores"], ""),
        )
    ]
    assert reading_rates(votes) == {
        "a": {
            "votes": 4,
            "as asked": 1,
            "mended": 1,
            "asked again": 1,
            "unscored": 2,
            "scored_share": 0.5,
        },
        "b": {
            "votes": 1,
            "as asked": 0,
            "mended": 0,
            "asked again": 0,
            "unscored": 0,
            "scored_share": 1.0,
        },
    }


def test_the_store_keeps_what_it_was_given_and_refuses_a_file_that_is_none(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "s.sqlite"
    with Store(place) as store:
        assert store.get("k") is None
        store.put("k", {"text": "དྲན་པ \ud800", "n": [1, None, math.pi]})
        with Store(place) as other:
            assert other.get("k") == {"text": "དྲན་པ \ud800", "n": [1, None, math.pi]}
        assert len(store) == 1
    place.write_text(json.dumps({"not": "a database"}) * 50)
    for leftover in place.parent.glob("*-*"):
        leftover.unlink()
    with pytest.raises(Exception, match=r"cannot be opened as a store"):
        Store(place)
