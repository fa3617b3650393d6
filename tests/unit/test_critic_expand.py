"""From note to critique: what is asked, what is paid for, what is let through, and what is said."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from pydantic import ValidationError

from drenpa.config import EngineConfig, ExpandConfig
from drenpa.core.endpoint import Reply
from drenpa.core.errors import ArtefactError, ConfigError, ScoringError
from drenpa.core.knowledge import PROMPT_LANGUAGES
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Candidate, Ranking
from drenpa.critic.cache import ReplyCache, key_of
from drenpa.critic.expand import (
    SLOTS,
    Endpoint,
    EndpointWriter,
    LocalWriter,
    cost_of_expansion,
    expand_notes,
    writers_of,
)

QUESTIONS = {"r1": "What is a morpheme?"}


def in_full(note: str, turn: int) -> str:
    return f"The answer is {note}."


@dataclass
class FakeWriter:
    """Satisfies `Writer`: writes out the note it was asked for, fails on some, refuses others."""

    name: str = "a fake model"
    fails: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    says: Callable[[str, int], str] = in_full
    asked: list[list[dict[str, str]]] = field(default_factory=list)
    told_spent: list[float] = field(default_factory=list)

    def request(self, messages):
        return {"model": self.name, "messages": list(messages)}

    def send(self, requests, keep, *, at_once, spent, lose):
        self.told_spent.append(spent)
        failed, refused = [], {}
        for place, request in enumerate(requests):
            text = request["messages"][0]["content"]
            note = text.rpartition("<note>")[2].partition("</note>")[0].strip()
            if note in self.fails:
                failed.append(note)
                continue
            if note in self.refuses:
                refused[place] = "not this"
                continue
            self.asked.append(request["messages"])
            turn = len(request["messages"]) // 2
            keep(place, Reply(self.says(note, turn), "stop", 10, 5, 0.25))
        if failed:
            raise ScoringError(f"no reply to {', '.join(failed)}")
        return refused

    def most(self, request):
        return 100, 50, 0.5


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


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_without_a_writer_the_note_is_the_critique_and_that_is_counted(tmp_path):
    rows = [ranking(("right", "Right, and full."), ("thin", ""), ("", ""))]
    found = expand(rows, tmp_path)
    assert found.critiques == {
        ("k1", "c0"): "Right, and full.",
        ("k1", "c1"): "thin",
        ("k1", "c2"): "",
    }
    assert found.origins == {"given": 1, "none": 1, "note": 1}
    assert list(tmp_path.iterdir()) == []


def test_a_writer_is_asked_only_where_a_critique_is_missing_and_a_note_is_there(tmp_path):
    writer = FakeWriter()
    rows = [ranking(("right", "Right, and full."), ("thin {answer}", ""), ("", ""))]
    found = expand(rows, tmp_path, writer)
    assert found.critiques["k1", "c1"] == "The answer is thin {answer}."
    assert found.origins == {"expanded": 1, "given": 1, "none": 1}
    ((message,),) = writer.asked
    assert "What is a morpheme?" in message["content"]
    assert "<answer>\nanswer 1\n</answer>" in message["content"]


def test_what_was_written_is_not_paid_for_again(tmp_path):
    rows = [ranking(("thin", ""), ("wrong", ""))]
    first = expand(rows, tmp_path, FakeWriter())
    again = FakeWriter()
    assert expand(rows, tmp_path, again) == first
    assert again.asked == []
    other = FakeWriter(name="another fake model")
    expand(rows, tmp_path, other)
    assert len(other.asked) == 2
    assert other.told_spent == [0.5]  # what the first one's two replies cost counts


def test_a_failure_keeps_what_was_written_and_the_next_run_asks_for_the_rest(tmp_path):
    rows = [ranking(("thin", ""), ("wrong", ""), ("vague", ""))]
    with pytest.raises(ScoringError, match="no reply to vague"):
        expand(rows, tmp_path, FakeWriter(fails=("vague",)))
    assert [row["note"] for row in lines(tmp_path / "expand.jsonl")] == ["thin", "wrong"]
    later = FakeWriter()
    found = expand(rows, tmp_path, later)
    assert found.origins == {"expanded": 3}
    assert len(later.asked) == 1


@pytest.mark.parametrize("who", ["writer", "checker"])
def test_a_note_that_is_refused_is_queued_at_once_and_ends_no_run(tmp_path, who):
    def finds(note, turn):
        return json.dumps({"unsupported": []})

    writer = FakeWriter(refuses=("wrong",) if who == "writer" else ())
    refuses = ("wrong",) if who == "checker" else ()
    checker = FakeWriter(name="a fake checker", says=finds, refuses=refuses)
    found = expand([ranking(("thin", ""), ("wrong", ""))], tmp_path, writer, checker=checker)
    assert found.origins == {"expanded": 1, "queued": 1}
    assert found.critiques["k1", "c1"] == "wrong"
    (waiting,) = lines(tmp_path / "expand-queue.jsonl")
    assert (waiting["ranking"], waiting["candidate"]) == ("k1", "c1")
    (attempt,) = waiting["attempts"]
    assert attempt["faults"][0].endswith("gave no reply: not this")


def test_a_note_that_a_local_model_has_no_room_for_is_queued_and_the_others_are_asked(
    tmp_path, tiny_folder
):
    rows = [ranking(("thin", ""), ("far too long " * 700, ""))]
    writer = LocalWriter(str(tiny_folder(max_position_embeddings=4096)), max_tokens=4)
    found = expand(rows, tmp_path, writer, tries=1)
    assert found.origins == {"queued": 2}  # a model with random weights says nothing that passes
    short, long = lines(tmp_path / "expand-queue.jsonl")
    assert "of the model's 4096" not in short["attempts"][0]["faults"][0]
    assert "of the model's 4096" in long["attempts"][0]["faults"][0]
    assert long["candidate"] == "c1"


def test_a_local_model_that_was_retrained_in_its_place_is_asked_anew(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("of yesterday")
    settings = ExpandConfig(writer="local", model=str(model))
    message = [{"role": "user", "content": "note"}]
    halved = EngineConfig(dtype="bfloat16")
    requests = [writers_of(settings, engine)[0].request(message) for engine in (None, halved)]
    (model / "weights").write_text("of today")
    requests += [writers_of(settings)[0].request(message)]
    assert len({key_of(request) for request in requests}) == 3
    assert requests[2] == writers_of(settings)[0].request(message)


def test_a_local_model_runs_as_the_recipes_engine_says(tmp_path, tiny_folder):
    engine = EngineConfig(device="cpu", dtype="bfloat16")
    model = str(tiny_folder(max_position_embeddings=4096))
    writer, _ = writers_of(ExpandConfig(writer="local", model=model, max_tokens=4), engine)
    expand([ranking(("thin", ""), ("x", "Wrong."))], tmp_path, writer, tries=1)
    assert writer._policy.language_model.model.dtype == torch.bfloat16


def test_the_same_note_on_the_same_answer_is_asked_for_once(tmp_path):
    one = ranking(("thin", ""), ("wrong", "Wrong."))
    writer = FakeWriter()
    expand([one, one.model_copy(update={"id": "k2"})], tmp_path, writer)
    assert len(writer.asked) == 1


def test_an_unfaithful_critique_goes_back_with_what_is_wrong_with_it(tmp_path):
    def learns(note, turn):
        return "The answer is thin, as Newton said." if turn == 0 else "The answer is thin."

    writer = FakeWriter(says=learns)
    found = expand([ranking(("thin", ""), ("x", "Wrong."))], tmp_path, writer)
    assert found.critiques["k1", "c0"] == "The answer is thin."
    assert found.origins == {"expanded": 1, "given": 1}
    _, reply, told = writer.asked[1]
    assert reply == {"role": "assistant", "content": "The answer is thin, as Newton said."}
    assert "Newton" in told["content"]
    (row,) = lines(tmp_path / "expand.jsonl")
    assert [len(attempt["faults"]) for attempt in row["attempts"]] == [1, 0]
    assert row["attempts"][0]["raw"] == "The answer is thin, as Newton said."
    assert lines(tmp_path / "expand-queue.jsonl") == []


@pytest.mark.parametrize("reply", ["", "It has 17 faults.", "An excellent and complete answer."])
def test_a_note_that_no_try_serves_is_queued_for_a_person_and_stands_in(tmp_path, reply):
    writer = FakeWriter(says=lambda note, turn: reply)
    found = expand([ranking(("thin and wrong", ""), ("x", "Wrong."))], tmp_path, writer, tries=2)
    assert found.critiques["k1", "c0"] == "thin and wrong"
    assert found.origins == {"given": 1, "queued": 1}
    assert len(writer.asked) == 2
    (waiting,) = lines(tmp_path / "expand-queue.jsonl")
    assert (waiting["ranking"], waiting["candidate"]) == ("k1", "c0")
    assert waiting["note"] == "thin and wrong"
    assert len(waiting["attempts"]) == 2


def test_a_second_model_checks_what_has_passed_and_is_kept_as_well(tmp_path):
    def finds(note, turn):
        return json.dumps({"unsupported": ["The answer is thin."] if note == "thin" else []})

    rows = [ranking(("thin", ""), ("vague", ""))]
    checker = FakeWriter(name="a fake checker", says=finds)
    found = expand(rows, tmp_path, FakeWriter(), tries=1, checker=checker)
    assert found.origins == {"expanded": 1, "queued": 1}
    assert len(checker.asked) == 2
    again = FakeWriter(name="a fake checker", says=finds)
    assert expand(rows, tmp_path, FakeWriter(), tries=1, checker=again) == found
    assert again.asked == []


def test_a_checker_that_cannot_be_read_lets_nothing_through(tmp_path):
    checker = FakeWriter(name="a fake checker", says=lambda note, turn: "fine!")
    rows = [ranking(("thin", ""), ("x", "Wrong."))]
    found = expand(rows, tmp_path, FakeWriter(), tries=1, checker=checker)
    assert found.origins == {"given": 1, "queued": 1}


def test_the_journal_names_note_model_prompt_and_raw_reply(tmp_path):
    expand([ranking(("thin", ""), ("wrong", "Wrong."))], tmp_path, FakeWriter())
    (entry,) = lines(tmp_path / "expand.jsonl")
    assert entry["note"] == "thin"
    assert entry["model"] == "a fake model"
    assert entry["prompt"] == "expand.en.md"
    assert len(entry["prompt_key"]) == 64
    assert entry["attempts"][0]["raw"] == entry["critique"] == "The answer is thin."


def test_a_run_that_breaks_off_loses_nothing_from_the_journal_and_the_queue(tmp_path):
    def says(note, turn):
        return "In 1999 it was so." if note == "vague" else f"The answer is {note}."

    def finds(note, turn):
        return json.dumps({"unsupported": []})

    known = (("thin", ""), ("vague", ""))
    files = tmp_path / "expand.jsonl", tmp_path / "expand-queue.jsonl"
    checker = FakeWriter(name="a fake checker", says=finds)
    expand([ranking(*known)], tmp_path, FakeWriter(says=says), checker=checker)
    before = [lines(file) for file in files]
    assert [len(rows) for rows in before] == [2, 1]
    rows = [ranking(*known, ("new", ""))]
    with pytest.raises(ScoringError, match="no reply to new"):
        expand(rows, tmp_path, FakeWriter(says=says, fails=("new",)), checker=checker)
    assert [lines(file) for file in files] == before
    broken = FakeWriter(name="a fake checker", says=finds, fails=("new",))
    with pytest.raises(ScoringError, match="no reply to new"):
        expand(rows, tmp_path, FakeWriter(says=says), checker=broken)
    assert [lines(file) for file in files] == before  # what was not checked is not taken


def test_the_cost_is_told_before_anything_is_asked(tmp_path):
    rows = [ranking(("thin", ""), ("wrong", ""))]
    prompt = load_prompt("expand", "en", slots=SLOTS)
    settings = {"writer": FakeWriter(), "journal": tmp_path / "expand.jsonl"}
    before = cost_of_expansion(rows, QUESTIONS, prompt, **settings)
    assert (before.notes, before.known, before.input_tokens) == (2, 0, 200)
    assert (before.money, before.spent) == (1.0, 0.0)
    assert list(tmp_path.iterdir()) == []
    expand(rows, tmp_path, FakeWriter())
    after = cost_of_expansion(rows, QUESTIONS, prompt, **settings)
    assert (after.notes, after.known, after.money, after.spent) == (2, 2, 0.0, 0.5)


def test_a_cache_forgets_nothing_and_knows_the_whole_request(tmp_path):
    request = {"model": "m", "messages": [{"role": "user", "content": "ཀ"}], "temperature": 0.0}
    with ReplyCache(tmp_path / "c.sqlite") as cache:
        cache.put(request, Reply("yes", "stop", 3, 1, 0.5))
    with ReplyCache(tmp_path / "c.sqlite") as cache:
        assert cache.get(dict(reversed(request.items()))) == Reply("yes", "stop", 3, 1, 0.5)
        assert cache.get(request | {"temperature": 0.1}) is None
        assert cache.spent() == 0.5


def test_what_was_paid_for_nothing_counts_and_is_no_reply(tmp_path):
    request = {"model": "m", "messages": []}
    with ReplyCache(tmp_path / "c.sqlite") as cache:
        cache.put(request, Reply("yes", "stop", 3, 1, 0.5))
        cache.lose(0.25)
        cache.lose(0.25)  # as often as it happens
    with ReplyCache(tmp_path / "c.sqlite") as cache:
        assert cache.spent() == 1.0
        assert cache.get(request) == Reply("yes", "stop", 3, 1, 0.5)


def test_what_an_older_file_holds_is_not_paid_for_again(tmp_path):
    request = {"at": "", "model": "m", "messages": [{"role": "user", "content": "ཀ"}]}
    with contextlib.closing(sqlite3.connect(tmp_path / "c.sqlite")) as older:
        older.execute(
            "CREATE TABLE replies (key TEXT PRIMARY KEY, request TEXT, reply TEXT, finish TEXT, "
            "input_tokens INTEGER, output_tokens INTEGER, cost REAL, created TEXT)"
        )
        text = json.dumps(request, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        row = ("a digest", text, "yes", "stop", 3, 1, 0.5, "2026-01-01T00:00:00+00:00")
        older.execute("INSERT INTO replies VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        older.commit()
    for _ in range(2):
        with ReplyCache(tmp_path / "c.sqlite") as cache:
            assert cache.get(request) == Reply("yes", "stop", 3, 1, 0.5)
            assert cache.spent() == 0.5


def test_a_file_that_is_no_cache_is_refused_by_name(tmp_path):
    file = tmp_path / "c.sqlite"
    file.write_bytes(b"something else entirely, and long enough to be read as a header")
    with pytest.raises(ArtefactError, match=r"c\.sqlite"):
        ReplyCache(file)


def test_a_missing_key_is_told_before_anything_is_asked(monkeypatch):
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(ConfigError, match="TEACHER_KEY"):
        EndpointWriter(Endpoint("teacher", key_env="TEACHER_KEY"))
    EndpointWriter(Endpoint("teacher", base_url="http://localhost:8000/v1", key_env="TEACHER_KEY"))


def test_a_recipe_names_the_writer_and_the_checker(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "k")
    at = {"writer": "openai", "model": "m", "key_env": "TEACHER_KEY", "price_in": 1.0}
    writer, checker = writers_of(ExpandConfig(**at, checker="c", max_cost=2.0))
    assert (writer.name, checker.name) == ("m", "c")
    assert writer.endpoint.max_cost == 2.0
    local, none = writers_of(ExpandConfig(writer="local", model="smollm2-135m"))
    assert isinstance(local, LocalWriter)
    assert none is None
    with pytest.raises(ValidationError, match="name the model"):
        ExpandConfig(writer="openai")


def test_a_limit_without_prices_would_limit_nothing(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "k")
    with pytest.raises(ConfigError, match="price"):
        EndpointWriter(Endpoint("teacher", key_env="TEACHER_KEY", max_cost=1.0))


@pytest.mark.parametrize("language", PROMPT_LANGUAGES)
def test_both_prompts_stand_in_every_language_with_the_answer_after_the_question(language):
    assert load_prompt("expand", language).name == f"expand.{language}.md"
    assert load_prompt("expand", language, slots=SLOTS).slots == SLOTS
    # All answers to a question share what comes before the answer.
    assert load_prompt("critique", language).name == f"critique.{language}.md"
    assert load_prompt("critique", language).slots == ("question", "answer")


@pytest.mark.parametrize("language", PROMPT_LANGUAGES)
def test_retry_and_check_prompts_stand_in_every_language(language):
    assert load_prompt("expand_retry", language, slots=("faults",)).name.endswith(f"{language}.md")
    check = load_prompt("expand_check", language, slots=("question", "answer", "note", "critique"))
    assert check.name == f"expand_check.{language}.md"
    assert '{"unsupported": []}' in check.text
