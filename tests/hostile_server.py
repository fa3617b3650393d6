"""A chat endpoint on this machine that fails on purpose, and counts what it was asked.

What it does to a request follows from the request's text and how often it came, so a test can say
what must become of each.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SCORES = {"relevance": 2, "safety": 2, "quality": 1, "satisfaction": 1, "richness": 0}
VERDICT = json.dumps({"thoughts": "Right."} | SCORES)
HUGE = 10_000_000  # bytes

Sender = Callable[[BaseHTTPRequestHandler], None]


def completion(text: str) -> bytes:
    """The body of a good reply."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice]}).encode()


def send(status: int, body: bytes, **headers: str) -> Sender:
    def go(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", headers.pop("length", str(len(body))))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return go


def good(text: str = VERDICT) -> Sender:
    return send(200, completion(text))


def fails(status: int, retry_after: str = "0.01") -> Sender:
    return send(status, b'{"error": {"message": "no"}}', Retry_After=retry_after)


def half() -> Sender:
    """Half a reply, then the line is cut, though more was promised."""
    body = completion(VERDICT)

    def go(handler: BaseHTTPRequestHandler) -> None:
        send(200, body[: len(body) // 2], length=str(len(body)))(handler)
        handler.close_connection = True

    return go


def dripping(seconds: float, status: int = 200) -> Sender:
    """A reply of which a byte comes now and then, and never the last."""

    def go(handler: BaseHTTPRequestHandler) -> None:
        send(status, b"{", length="100000")(handler)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.02)

    return go


def silent(seconds: float) -> Sender:
    """Nothing at all for a while, then a good reply to nobody."""

    def go(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        good()(handler)

    return go


@dataclass
class Hostile:
    """What the server was told to do, and what it has done.

    choose:   the request and how often it came before, to what is sent.
    asked:    how often each request came; completed: how often it was answered to the end.
    """

    choose: Callable[[dict[str, Any], int], Sender]
    asked: Counter[str] = field(default_factory=Counter)
    completed: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""


@contextmanager
def hostile(choose: Callable[[dict[str, Any], int], Sender]) -> Iterator[Hostile]:
    """Run the server while the block runs."""
    told = Hostile(choose)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = json.dumps(body, sort_keys=True)
            with told.lock:
                before = told.asked[name]
                told.asked[name] += 1
                told.at_once += 1
                told.most_at_once = max(told.most_at_once, told.at_once)
            try:
                told.choose(body, before)(self)
                with told.lock:
                    told.completed[name] += 1
            except OSError:
                self.close_connection = True  # the client gave up, as it is meant to
            finally:
                with told.lock:
                    told.at_once -= 1

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
