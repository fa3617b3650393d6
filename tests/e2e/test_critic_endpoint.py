"""Notes made full by a real HTTP server on this machine, patient, busy, dear and hostile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.hostile_server import completion, hostile, silent
from tests.hostile_server import send as sending

from drenpa.core.errors import ScoringError
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Candidate, Ranking
from drenpa.critic.cache import ReplyCache
from drenpa.critic.expand import SLOTS, Endpoint, EndpointWriter, ask, expand_notes

KEY = "sk-teacher-5678"


@dataclass
class Service:
    """What the endpoint was asked, when, and what it does before it behaves."""

    url: str = ""
    asked: list[dict] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    retry_after: str | None = None
    silence_s: float = 0.0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A chat endpoint that says "Right, since it names the parts."."""
    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setattr("drenpa.core.endpoint.FIRST_WAIT_S", 0.02)
    told = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with told.lock:
                told.asked.append(body)
                told.times.append(time.monotonic())
                status = told.statuses.pop(0) if told.statuses else 200
                told.at_once += 1
                told.most_at_once = max(told.most_at_once, told.at_once)
            time.sleep(told.silence_s)
            message = {"role": "assistant", "content": " Right, since it names the parts. "}
            usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
            body = (
                {
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": usage,
                }
                if status == 200
                else {"error": {"message": f"not with {KEY}"}}
            )
            data = json.dumps(body).encode()
            with told.lock:
                told.at_once -= 1
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if told.retry_after is not None and status != 200:
                    self.send_header("Retry-After", told.retry_after)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the client gave up waiting

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def writer_to(service: Service, **settings) -> EndpointWriter:
    return EndpointWriter(
        Endpoint("teacher", base_url=service.url, key_env="TEACHER_KEY", **settings)
    )


def send(writer: EndpointWriter, count: int, *, at_once: int = 4, spent: float = 0.0) -> dict:
    found = {}
    requests = [
        writer.request([{"role": "user", "content": f"Expand: note {n}"}]) for n in range(count)
    ]
    writer.send(requests, found.__setitem__, at_once=at_once, spent=spent, lose=nothing)
    return found


def nothing(cost: float) -> None:
    """For a test that looks at no cost without a reply."""


def test_a_note_goes_out_as_one_message_and_the_reply_comes_back_trimmed_and_counted(service):
    found = send(writer_to(service, price_in=2.0, price_out=10.0), 1)
    assert found[0].text == "Right, since it names the parts."
    assert (found[0].input_tokens, found[0].output_tokens) == (1000, 100)
    # 1,000 tokens at 2 and 100 at 10 a million
    assert found[0].cost == pytest.approx(0.003)
    (body,) = service.asked
    assert body["model"] == "teacher"
    assert body["messages"] == [{"role": "user", "content": "Expand: note 0"}]
    assert "at" not in body


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_a_busy_or_broken_endpoint_is_asked_again(service, status):
    service.statuses += [status, status]
    assert len(send(writer_to(service), 1)) == 1
    assert len(service.asked) == 3


def test_a_service_that_asks_for_patience_gets_it_from_all(service):
    service.statuses += [429]
    service.retry_after = "0.6"
    assert len(send(writer_to(service), 3, at_once=1)) == 3
    waits = [later - sooner for sooner, later in pairwise(service.times)]
    assert waits[0] >= 0.6
    assert len(service.asked) == 4


def test_those_who_wait_for_their_turn_are_patient_too(service):
    service.statuses += [429]
    service.retry_after = "1.0"
    # Three wait for turns 0.2 s apart while the first one is told to come back in a second.
    assert len(send(writer_to(service, requests_per_minute=300), 4, at_once=4)) == 4
    assert service.times[1] - service.times[0] >= 1.0
    assert min(later - sooner for sooner, later in pairwise(service.times)) > 0.1


def test_requests_keep_to_their_pace(service):
    send(writer_to(service, requests_per_minute=300), 4, at_once=4)  # one every 0.2 s
    waits = [later - sooner for sooner, later in pairwise(service.times)]
    assert min(waits) > 0.1
    assert service.times[-1] - service.times[0] >= 0.55


def test_no_more_are_asked_at_once_than_allowed(service):
    service.silence_s = 0.1
    send(writer_to(service), 8, at_once=3)
    assert service.most_at_once == 3


def test_no_more_is_spent_than_allowed_and_what_came_is_kept(service):
    # A request may cost at most about 0.003 (300 tokens out at 10) and does cost 0.003.
    writer = writer_to(service, price_in=2.0, price_out=10.0, max_cost=0.0105)
    found: dict = {}
    requests = [writer.request([{"role": "user", "content": f"note {n}"}]) for n in range(10)]
    with pytest.raises(ScoringError, match="max_cost"):
        writer.send(requests, found.__setitem__, at_once=2, spent=0.001, lose=nothing)
    assert 1 <= len(found) == len(service.asked) <= 3
    assert 0.001 + sum(reply.cost for reply in found.values()) <= 0.0105


def test_a_timeout_is_taken_for_paid(service):
    service.silence_s = 0.6
    writer = writer_to(
        service, timeout_s=0.15, retries=5, price_in=2.0, price_out=10.0, max_cost=0.0065
    )
    with pytest.raises(ScoringError, match="max_cost"):
        send(writer, 1)
    assert len(service.asked) == 2  # a third one might pass the limit


def priced_writer(url: str, **settings: Any) -> EndpointWriter:
    prices = {"price_in": 2.0, "price_out": 10.0}
    return EndpointWriter(Endpoint("teacher", base_url=url, **prices | settings))


def requests_of(writer: EndpointWriter, count: int) -> list:
    return [writer.request([{"role": "user", "content": f"note {n}"}]) for n in range(count)]


def counting(usage: object) -> Any:
    """A good reply that says this of what it took."""
    return sending(200, json.dumps(json.loads(completion("Right.")) | {"usage": usage}).encode())


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 9},
        {"prompt_tokens": None, "completion_tokens": 2},
    ],
)
def test_a_reply_that_does_not_say_what_it_took_costs_the_most_it_may(usage: object):
    found: dict = {}
    with hostile(lambda body, before: counting(usage)) as server:
        writer = priced_writer(server.url, max_cost=0.0065)  # each may cost about 0.00303
        requests = requests_of(writer, 4)
        with pytest.raises(ScoringError, match=r"left 2 of 4 .*max_cost 0\.0065: 0\.0060\d* is"):
            writer.send(requests, found.__setitem__, at_once=1, spent=0.0, lose=nothing)
        assert server.asked.total() == 2
        assert [reply.cost for reply in found.values()] == [writer.most(requests[0])[2]] * 2
        free = priced_writer(server.url, price_in=0.0, price_out=0.0)
        free.send(requests[:1], found.__setitem__, at_once=1, spent=0.0, lose=nothing)
    assert found[0].cost == 0


def test_what_timeouts_may_have_cost_counts_for_the_checker_and_in_every_later_run(
    tmp_path: Path,
):
    with hostile(lambda body, before: silent(0.4)) as server:
        for run in range(3):
            writer = priced_writer(server.url, timeout_s=0.1, max_cost=0.0065)
            checker = priced_writer(server.url, timeout_s=0.1, max_cost=0.0065)
            with ReplyCache(tmp_path / f"{run % 2}.sqlite") as cache:  # the third is the first's
                for asked in (writer, checker):
                    with pytest.raises(ScoringError, match=r"max_cost 0\.0065: 0\.0060\d* is"):
                        ask(asked, requests_of(asked, 1), cache, 1, "notes", {})
                assert cache.spent() == pytest.approx(2 * writer.most(requests_of(writer, 1)[0])[2])
        assert server.asked.total() == 2 + 2


def test_what_others_hold_back_is_waited_for_and_ends_no_run():
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    found: dict = {}
    with hostile(lambda body, before: counting(usage)) as server:
        writer = priced_writer(server.url, max_cost=0.0065)  # room for two at once
        requests = requests_of(writer, 12)
        writer.send(requests, found.__setitem__, at_once=4, spent=0.0, lose=nothing)
        assert server.most_at_once <= 2
    assert len(found) == 12


def test_a_refusal_ends_the_run_at_once_and_is_told_without_the_key(service):
    service.statuses += [401] * 20
    with pytest.raises(ScoringError, match="run again") as told:
        send(writer_to(service), 10, at_once=1)
    assert KEY not in str(told.value)
    assert len(service.asked) == 1


def test_a_note_that_the_service_refuses_is_queued_by_name_and_the_others_are_written(
    service, tmp_path
):
    notes = ("right, names parts", "right, names the parts", "right since it names parts")
    candidates = [
        Candidate(id=f"c{n}", answer=f"The parts, {n}.", rank=n + 1, note=note)
        for n, note in enumerate(notes)
    ]

    def expand(*statuses: int):
        service.statuses += statuses
        return expand_notes(
            [Ranking(id="k", record="r", candidates=tuple(candidates))],
            {"r": "What is it made of?"},
            load_prompt("expand", "en", slots=SLOTS),
            writer=writer_to(service, retries=1),
            journal=tmp_path / "expand.jsonl",
            concurrency=1,
        )

    found = expand(200, 400, 200)
    assert found.origins == {"expanded": 2, "queued": 1}
    assert found.critiques["k", "c1"] == notes[1]
    (waiting,) = map(json.loads, (tmp_path / "expand-queue.jsonl").read_text().splitlines())
    assert (waiting["ranking"], waiting["candidate"]) == ("k", "c1")
    (attempt,) = waiting["attempts"]
    (fault,) = attempt["faults"]
    assert fault.startswith("The model gave no reply: the endpoint answered 400: ")
    assert KEY not in fault
    with pytest.raises(ScoringError, match="1 of 1"):
        expand(500, 500)  # what only fails is no refusal, nor is a key that is not taken
    with pytest.raises(ScoringError, match="1 of 1"):
        expand(401)
    assert expand().origins == {"expanded": 3}  # and a later run asks again


def test_a_notebook_whose_loop_runs_already_is_served_too(service):
    async def cell() -> dict:
        return send(writer_to(service), 3)

    assert len(asyncio.run(cell())) == 3


def test_a_run_that_broke_off_goes_on_without_paying_twice(service, tmp_path):
    rankings = [
        Ranking(
            id=f"k{n}",
            record="r",
            candidates=(
                Candidate(id="a", answer=f"The parts, {n}.", rank=1, note="right, names parts"),
                Candidate(id="b", answer="No.", rank=2, critique="Says nothing."),
            ),
        )
        for n in range(4)
    ]

    def expand():
        return expand_notes(
            rankings,
            {"r": "What is it made of?"},
            load_prompt("expand", "en", slots=SLOTS),
            writer=writer_to(service, retries=0),
            journal=tmp_path / "expand.jsonl",
            concurrency=1,
        )

    service.statuses += [200, 200, 500, 200]
    with pytest.raises(ScoringError, match="1 of 4"):
        expand()
    assert expand().origins == {"expanded": 4, "given": 4}
    assert len(service.asked) == 5
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()
