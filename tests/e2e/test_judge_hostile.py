"""A judge's server that fails in every way it can: nothing is lost, nothing is paid for twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests.hostile_server import (
    HUGE,
    SCORES,
    VERDICT,
    Hostile,
    Sender,
    completion,
    dripping,
    fails,
    good,
    half,
    hostile,
    send,
    silent,
)

from drenpa.config import BaselineConfig, JudgeConfig
from drenpa.core.endpoint import GIVE_UP
from drenpa.core.errors import ScoringError
from drenpa.core.records import Record
from drenpa.core.roles import Sampling
from drenpa.core.store import Store
from drenpa.judge.answers import Answer, EndpointGenerator, sample_answers
from drenpa.judge.bench import judge_answers
from drenpa.judge.endpoint import EndpointJudge
from drenpa.judge.judges import Case, Opinion


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "k")


def config(server: Hostile, **changes: Any) -> JudgeConfig:
    settings = {"name": "openai", "model": "m", "base_url": server.url, "key_env": "JUDGE_KEY"}
    return JudgeConfig.model_validate(settings | {"retries": 1, "timeout_s": 0.5} | changes)


def number_of(body: dict[str, Any]) -> int:
    found = re.search(r"question (\d+)", body["messages"][0]["content"])
    assert found is not None
    return int(found.group(1))


FAULTS: dict[str, tuple[Sender, str]] = {
    "429": (fails(429), "the endpoint answered 429"),
    "500": (fails(500), "the endpoint answered 500"),
    "half": (half(), "the reply broke off"),
    "no JSON": (send(200, b"<html>busy</html>"), "no chat completion"),
    "wrong keys": (send(200, b'{"output": "2"}'), "no chat completion"),
    "no choice": (send(200, b'{"choices": []}'), "no chat completion"),
    "a number": (send(200, b'{"choices": [{"message": {"content": 7}}]}'), "no chat completion"),
    "deep": (send(200, b"[" * 100_000), "no chat completion"),
    "10 MB": (good("x" * HUGE), "longer than"),
    "dripping": (dripping(30), "not whole after"),
    "hanging": (silent(30), "APITimeoutError"),
    "a dripping fault": (dripping(30, status=500), "answered 500"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_the_server_does_the_case_is_unscored_with_the_reason(fault: str) -> None:
    sender, reason = FAULTS[fault]
    with hostile(lambda body, before: sender) as server:
        judge = EndpointJudge(config(server, retries=0))  # imports the client
        began = time.monotonic()
        ((place, opinion),) = judge.judge([Case("question 0", "a")])
        assert time.monotonic() - began < 20
    assert place == 0
    assert opinion.scores == {}
    assert reason in opinion.unscored


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_one_more_request_and_no_verdict(fault: str) -> None:
    sender, _ = FAULTS[fault]
    with hostile(lambda body, before: good() if before else sender) as server:
        ((_, opinion),) = EndpointJudge(config(server)).judge([Case("question 0", "a")])
        assert opinion.scores == SCORES
        assert list(server.asked.values()) == [2]


def test_the_server_says_when_to_come_again_and_is_obeyed() -> None:
    with hostile(lambda body, before: good() if before else fails(429, "0.6")) as server:
        began = time.monotonic()
        ((_, opinion),) = EndpointJudge(config(server)).judge([Case("question 0", "a")])
        assert opinion.scores == SCORES
        assert time.monotonic() - began > 0.55


def test_a_server_that_asks_for_a_day_is_not_waited_for() -> None:
    with hostile(lambda body, before: fails(429, "86400")) as server:
        with pytest.raises(ScoringError, match="asks to wait 86400 s"):
            list(EndpointJudge(config(server)).judge([Case("question 0", "a")]))
        assert server.asked.total() == 1


def test_no_more_is_spent_than_the_recipe_allows_over_all_runs(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    body = json.loads(completion(VERDICT)) | {"usage": usage}
    paid = send(200, json.dumps(body).encode())
    # A reply costs 1000 tokens at 2 and 100 at 10 a million, 0.003; it may cost about 0.0132.
    prices = {"price_in": 2.0, "price_out": 10.0, "max_cost": 0.0235, "concurrency": 1}
    cases = [Case(f"question {n}", "a") for n in range(10)]
    with hostile(lambda body, before: paid) as server, Store(tmp_path / "s.sqlite") as store:
        for asked in (4, 4):  # the second run knows what the first one spent
            with pytest.raises(ScoringError, match=r"max_cost 0\.0235: 0\.012 is spent"):
                list(EndpointJudge(config(server, **prices), store=store).judge(cases))
            assert server.asked.total() == asked
        assert len(store) == 4


def test_what_timeouts_may_have_cost_counts_in_the_next_run_as_well(tmp_path: Path) -> None:
    # A request may cost about 0.0132, so that the sum bears one that timed out, and no second.
    prices = {"price_in": 2.0, "price_out": 10.0, "max_cost": 0.02, "timeout_s": 0.1}
    with hostile(lambda body, before: silent(0.4)) as server, Store(tmp_path / "s") as store:
        for _ in range(2):
            with pytest.raises(ScoringError, match=r"max_cost 0\.02: 0\.013\d* is spent"):
                list(EndpointJudge(config(server, **prices), store=store).judge([Case("q", "a")]))
        assert server.asked.total() == 1


def test_of_many_cases_each_is_scored_or_unscored_and_a_second_run_asks_only_for_the_rest(
    tmp_path: Path,
) -> None:
    kinds = list(FAULTS)
    down = {n: FAULTS[kinds[n // 3]] for n in range(0, 3 * len(kinds), 3)}  # every third case
    mended = False

    def choose(body: dict[str, Any], before: int) -> Sender:
        number = number_of(body)
        if number in down and not mended:
            return down[number][0]
        if number % 3 == 1 and len(body["messages"]) == 1:
            return good("Let me think about it.")  # unreadable, then asked again
        return good()

    items = [
        Record(id=f"i{n}", kind="foundation", question=f"question {n}.", split="test")
        for n in range(3 * len(kinds))
    ]
    answers = [Answer(item.id, 0, "an answer", "stop") for item in items]
    with hostile(choose) as server, Store(tmp_path / "s.sqlite") as store:

        def asked() -> list[Opinion]:
            judge = EndpointJudge(config(server, retries=0, concurrency=8), store=store)
            return judge_answers(items, answers, judge, store=store)

        first = asked()
        paid = server.completed.copy()
        for n, opinion in enumerate(first):
            if n in down:
                assert down[n][1] in opinion.unscored
            else:
                assert opinion.scores == SCORES
                assert opinion.read == ("asked again" if n % 3 == 1 else "as asked")
        mended = True
        second = asked()
        assert all(opinion.scores == SCORES for opinion in second)
        fresh = server.completed - paid
        assert {number_of(json.loads(name)) for name in fresh} == set(down)
        third = asked()
        assert third == second
        assert server.completed - paid == fresh


def test_a_reply_that_cannot_be_read_is_not_paid_for_again(tmp_path: Path) -> None:
    item = Record(id="i", kind="foundation", question="question 0.", split="test")
    answers = [Answer("i", 0, "a", "stop")]
    with hostile(lambda body, before: good("No.")) as server, Store(tmp_path / "s.sqlite") as store:
        for _ in range(3):
            judge = EndpointJudge(config(server), store=store)
            (opinion,) = judge_answers([item], answers, judge, store=store)
            assert "no JSON object" in opinion.unscored
        assert sorted(server.asked.values()) == [1, 1]  # the question, and once more with the error


def test_repeats_are_asked_for_in_turned_order_and_each_is_kept_apart(tmp_path: Path) -> None:
    def choose(body: dict[str, Any], before: int) -> Sender:
        first = re.search(r"^- `(\w+)`", body["messages"][0]["content"], re.MULTILINE)
        assert first is not None
        return good(VERDICT.replace('"richness": 0', f'"richness": {int(first[1] == "safety")}'))

    item = Record(id="i", kind="foundation", question="question 0.", split="test")
    with hostile(choose) as server, Store(tmp_path / "s.sqlite") as store:
        judge = EndpointJudge(config(server), store=store)
        found = [
            judge_answers([item], [Answer("i", 0, "a", "stop")], judge, store=store, repeat=n)[0]
            for n in range(5)
        ]
        assert len(server.asked) == 5
    assert sorted(opinion.scores["richness"] for opinion in found) == [0, 0, 0, 0, 1]


def test_a_server_that_is_down_is_left_alone_and_every_case_still_has_its_reason() -> None:
    with hostile(lambda body, before: fails(500)) as server:
        judge = EndpointJudge(config(server, retries=0, concurrency=2))
        cases = [Case(f"question {n}", "a") for n in range(GIVE_UP * 4)]
        found = dict(judge.judge(cases))
        assert len(found) == len(cases)
        assert server.asked.total() <= GIVE_UP + 2
    reasons = {opinion.unscored for opinion in found.values()}
    assert len(reasons) == 2
    assert any(f"failed {GIVE_UP} times in a row" in reason for reason in reasons)


def test_a_reply_of_ten_megabytes_is_not_held() -> None:
    with hostile(lambda body, before: good("x" * HUGE)) as server:
        judge = EndpointJudge(config(server, retries=0, concurrency=1, timeout_s=5))
        list(judge.judge([Case("question 0", "warm up")]))
        tracemalloc.start()
        list(judge.judge([Case("question 0", "a")]))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # The server in this process makes a body of 10 MB and its JSON; the client holds a tenth.
    assert peak < 3.5 * HUGE


def test_many_cases_wait_without_being_sent_or_held_all_at_once() -> None:
    with hostile(lambda body, before: good()) as server:
        judge = EndpointJudge(config(server, concurrency=3, timeout_s=5))
        cases = (Case(f"question {n}", "a") for n in range(40))
        found = judge.judge(list(cases))
        next(found)
        time.sleep(0.3)
        assert server.asked.total() <= 7  # the reader has taken one
        assert len([*found]) == 39
        assert server.most_at_once <= 3


def test_the_schema_is_sent_where_it_is_asked_for_and_the_request_can_be_changed() -> None:
    with hostile(lambda body, before: good()) as server:
        changes = {"max_tokens": None, "max_completion_tokens": 900, "reasoning_effort": "low"}
        judge = EndpointJudge(config(server, structured=True, rotate=False, request=changes))
        list(judge.judge([Case("question 0", "a")]))
        (name,) = server.asked
    body = json.loads(name)
    assert "max_tokens" not in body
    assert (body["max_completion_tokens"], body["reasoning_effort"]) == (900, "low")
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["thoughts", *SCORES]


CHILD = """
import os, sys
from pathlib import Path
from drenpa.config import JudgeConfig
from drenpa.core.records import Record
from drenpa.judge.answers import Answer
from drenpa.judge.bench import judge_answers
from drenpa.judge.endpoint import EndpointJudge
from drenpa.core.store import Store

url, place, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = JudgeConfig(name="openai", model="m", base_url=url, key_env="JUDGE_KEY", concurrency=4)
items = [
    Record(id=f"i{n}", kind="foundation", question=f"question {n}.", split="test")
    for n in range(count)
]
with Store(Path(place)) as store:
    judge = EndpointJudge(config, store=store)
    answers = [Answer(item.id, 0, "a", "stop") for item in items]
    opinions = judge_answers(items, answers, judge, store=store)
print(sum(len(opinion.scores) == 5 for opinion in opinions))
"""


def test_a_kill_in_the_middle_pays_for_nothing_twice_but_what_was_under_way(
    tmp_path: Path,
) -> None:
    count = 120

    def choose(body: dict[str, Any], before: int) -> Sender:
        time.sleep(0.02)
        return send(200, completion(VERDICT))

    with hostile(choose) as server:
        command = [sys.executable, "-c", CHILD, server.url, str(tmp_path / "s.sqlite"), str(count)]
        child = subprocess.Popen(command, env={**os.environ, "JUDGE_KEY": "k"})
        while server.completed.total() < count // 3:
            assert child.poll() is None
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        before = server.completed.total()
        assert before < count
        done = subprocess.run(
            command,
            env={**os.environ, "JUDGE_KEY": "k"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(count)
        assert len(server.asked) == count  # each case, and no other request
        twice = [name for name, times in server.asked.items() if times > 1]
        assert len(twice) <= 4  # the requests that were on their way when the process died
        assert max(server.asked.values()) <= 2


def test_a_model_elsewhere_answers_and_what_came_is_kept_when_the_rest_does_not(
    tmp_path: Path,
) -> None:
    mended = False

    def choose(body: dict[str, Any], before: int) -> Sender:
        if "question 2" in body["messages"][1]["content"] and not mended:
            return fails(500)
        return good(f"An answer to {body['messages'][1]['content']}")

    items = [
        Record(id=f"i{n}", kind="foundation", question=f"question {n}.", split="test")
        for n in range(4)
    ]
    with hostile(choose) as server, Store(tmp_path / "s.sqlite") as store:
        baseline = BaselineConfig.model_validate(
            {"model": "m", "base_url": server.url, "key_env": "JUDGE_KEY", "retries": 0}
        )
        elsewhere = EndpointGenerator(baseline, "Be brief.", store)
        asked: dict[str, Any] = {
            "samples": 2,
            "sampling": Sampling(16, 0.7, seed=3),
            "store": store,
            "origin": elsewhere.identity,
        }
        with pytest.raises(ScoringError, match=r"2 of 8 answers did not come .*answered 500"):
            sample_answers(items, lambda: elsewhere, **asked)
        mended = True
        answers = sample_answers(items, lambda: elsewhere, **asked)
        assert [answer.text for answer in answers[:3]] == [
            "An answer to question 0.",
            "An answer to question 0.",
            "An answer to question 1.",
        ]
        assert server.asked.total() == 6 + 2 + 2
        sample_answers(items, lambda: elsewhere, **{**asked, "sampling": Sampling(16, 0.7, seed=4)})
        assert server.asked.total() == 10 + 8  # another seed's answers are other answers
