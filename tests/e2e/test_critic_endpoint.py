"""Notes made full by a real HTTP server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from drenpa.core.errors import ScoringError
from drenpa.critic.expand import Endpoint, EndpointWriter

KEY = "sk-teacher-5678"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[dict], list[int]]]:
    """A chat endpoint: its URL, what it was asked, and the statuses it gives before it behaves."""
    monkeypatch.setenv("TEACHER_KEY", KEY)
    asked: list[dict] = []
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status = statuses.pop(0) if statuses else 200
            message = {"role": "assistant", "content": " Right, since it names the parts. "}
            body = (
                {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
                if status == 200
                else {"error": {"message": f"not with {KEY}"}}
            )
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Retry-After", "0.01")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked, statuses
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_note_goes_out_as_one_message_and_the_reply_comes_back_trimmed(service):
    url, asked, _ = service
    writer = EndpointWriter(Endpoint("teacher", base_url=url, key_env="TEACHER_KEY"))
    assert writer.write("Expand: right") == "Right, since it names the parts."
    assert asked[0]["model"] == "teacher"
    assert asked[0]["messages"] == [{"role": "user", "content": "Expand: right"}]


def test_a_busy_endpoint_is_asked_again(service):
    url, asked, statuses = service
    statuses += [429, 500]
    writer = EndpointWriter(Endpoint("teacher", base_url=url, key_env="TEACHER_KEY"))
    assert writer.write("Expand: right") == "Right, since it names the parts."
    assert len(asked) == 3


def test_a_refusal_is_told_without_the_key(service):
    url, _, statuses = service
    statuses += [401]
    writer = EndpointWriter(Endpoint("teacher", base_url=url, key_env="TEACHER_KEY", retries=0))
    with pytest.raises(ScoringError, match="run again") as told:
        writer.write("Expand: right")
    assert KEY not in str(told.value)
