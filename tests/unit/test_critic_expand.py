"""From note to critique: what is asked, what is paid for, and what is said about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from drenpa.core.errors import ConfigError, ScoringError
from drenpa.core.knowledge import PROMPT_LANGUAGES
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Candidate, Ranking
from drenpa.critic.expand import SLOTS, Endpoint, EndpointWriter, expand_notes

QUESTIONS = {"r1": "What is a morpheme?"}


@dataclass
class FakeWriter:
    """Satisfies `Writer`: echoes the note it was asked to expand; fails on the notes named."""

    name: str = "a fake model"
    fails: tuple[str, ...] = ()
    reply: str | None = None
    asked: list[str] = field(default_factory=list)

    def write(self, instruction: str) -> str:
        self.asked.append(instruction)
        note = instruction.rpartition("<note>")[2].partition("</note>")[0].strip()
        if note in self.fails:
            raise ScoringError(f"no reply to {note}")
        return f"In full: {note}." if self.reply is None else self.reply


def ranking(*candidates: tuple[str, str]) -> Ranking:
    return Ranking(
        id="k1",
        record="r1",
        candidates=tuple(
            Candidate(id=f"c{n}", answer=f"answer {n}", rank=n + 1, note=note, critique=critique)
            for n, (note, critique) in enumerate(candidates)
        ),
    )


def expand(rows, tmp_path, writer=None, **settings):
    return expand_notes(
        rows,
        QUESTIONS,
        load_prompt("expand", "en", slots=SLOTS),
        writer=writer,
        journal=tmp_path / "expand.jsonl",
        **settings,
    )


def test_without_an_endpoint_the_note_is_the_critique_and_that_is_counted(tmp_path):
    rows = [ranking(("right", "Right, and full."), ("thin", ""), ("", ""))]
    found = expand(rows, tmp_path)
    assert found.critiques == {
        ("k1", "c0"): "Right, and full.",
        ("k1", "c1"): "thin",
        ("k1", "c2"): "",
    }
    assert found.origins == {"given": 1, "none": 1, "note": 1}


def test_an_endpoint_is_asked_only_where_a_critique_is_missing_and_a_note_is_there(tmp_path):
    writer = FakeWriter()
    rows = [ranking(("right", "Right, and full."), ("thin {answer}", ""), ("", ""))]
    found = expand(rows, tmp_path, writer)
    assert found.critiques["k1", "c1"] == "In full: thin {answer}."
    assert found.origins == {"expanded": 1, "given": 1, "none": 1}
    (asked,) = writer.asked
    assert "What is a morpheme?" in asked
    assert "<answer>\nanswer 1\n</answer>" in asked


def test_what_was_written_is_not_paid_for_again(tmp_path):
    rows = [ranking(("thin", ""), ("wrong", ""))]
    first = expand(rows, tmp_path, FakeWriter())
    again = FakeWriter()
    assert expand(rows, tmp_path, again) == first
    assert again.asked == []
    other = FakeWriter(name="another fake model")
    expand(rows, tmp_path, other)
    assert len(other.asked) == 2


def test_a_failure_keeps_what_was_written_before_it(tmp_path):
    rows = [ranking(("thin", ""), ("wrong", ""), ("vague", ""))]
    with pytest.raises(ScoringError, match="no reply to vague"):
        expand(rows, tmp_path, FakeWriter(fails=("vague",)), concurrency=1)
    later = FakeWriter()
    found = expand(rows, tmp_path, later, concurrency=1)
    assert found.origins == {"expanded": 3}
    assert len(later.asked) == 1


def test_a_journal_that_a_kill_cut_short_still_serves(tmp_path):
    rows = [ranking(("thin", ""), ("wrong", ""))]
    expand(rows, tmp_path, FakeWriter(), concurrency=1)
    journal = tmp_path / "expand.jsonl"
    journal.write_text(journal.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    later = FakeWriter()
    expand(rows, tmp_path, later)
    assert len(later.asked) == 1


def test_an_empty_reply_leaves_the_note_and_is_counted_as_such(tmp_path):
    found = expand([ranking(("thin", ""), ("wrong", "Wrong."))], tmp_path, FakeWriter(reply=""))
    assert found.critiques["k1", "c0"] == "thin"
    assert found.origins == {"empty reply": 1, "given": 1}


def test_the_same_note_on_the_same_answer_is_asked_for_once(tmp_path):
    one = ranking(("thin", ""), ("wrong", "Wrong."))
    writer = FakeWriter()
    expand([one, one.model_copy(update={"id": "k2"})], tmp_path, writer)
    assert len(writer.asked) == 1


def test_the_journal_names_model_and_prompt_and_no_key(tmp_path):
    expand([ranking(("thin", ""), ("wrong", "Wrong."))], tmp_path, FakeWriter())
    (line,) = (tmp_path / "expand.jsonl").read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert entry["model"] == "a fake model"
    assert entry["prompt"] == "expand.en.md"
    assert entry["critique"] == "In full: thin."


def test_a_missing_key_is_told_before_anything_is_asked(monkeypatch):
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(ConfigError, match="TEACHER_KEY"):
        EndpointWriter(Endpoint("teacher", key_env="TEACHER_KEY"))


@pytest.mark.parametrize("language", PROMPT_LANGUAGES)
def test_both_prompts_stand_in_every_language_with_the_answer_after_the_question(language):
    assert load_prompt("expand", language).name == f"expand.{language}.md"
    assert load_prompt("expand", language, slots=SLOTS).slots == SLOTS
    # All answers to a question share what comes before the answer.
    assert load_prompt("critique", language).name == f"critique.{language}.md"
    assert load_prompt("critique", language).slots == ("question", "answer")
