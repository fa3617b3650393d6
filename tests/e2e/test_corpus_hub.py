"""Datasets of a hub, played by a server on this machine that answers as a hub's does."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

COMMIT = "1" * 40
WORDS = "The river falls from the snow to the plain."
FILES = {
    "README.md": b"# rivers",
    "data/train-0.jsonl": json.dumps({"id": "a", "text": WORDS}).encode(),
    "data/test.csv": f"id,text\nb,{WORDS} Twice.\n".encode(),
    "rivers.py": b"raise SystemExit('code of a stranger')",
}


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """The address of a hub with the dataset owner/rivers, and the files asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if path.startswith("/api/datasets/owner/rivers/tree/"):
                entries = [
                    {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}
                    for name, data in FILES.items()
                ]
                self.answer(200, json.dumps(entries).encode())
            elif path.startswith("/api/datasets/owner/rivers"):
                about = {
                    "id": "owner/rivers",
                    "sha": COMMIT,
                    "siblings": [{"rfilename": name} for name in FILES],
                }
                self.answer(200, json.dumps(about).encode())
            elif path.startswith("/datasets/owner/rivers/resolve/"):
                name = path.split("/", 6)[6]
                asked.append(name)
                self.answer(200, FILES[name], ETag=f'"{_oid(FILES[name])}"')
            else:
                self.answer(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for key, value in (headers | {"X-Repo-Commit": COMMIT}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def clean(endpoint: str, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = "from drenpa.cli import main; main()"
    home = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0"}
    return subprocess.run(
        [sys.executable, "-c", script, "clean", name, str(folder / "out"), "--workers", "1"],
        env=os.environ | home,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_data_files_of_a_dataset_are_fetched_and_read_and_nothing_else(hub, tmp_path):
    endpoint, asked = hub
    done = clean(endpoint, "hf://datasets/owner/rivers", tmp_path)
    assert done.returncode == 0, done.stderr
    pages = (tmp_path / "out" / "pages.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(page)["id"] for page in pages] == ["b", "a"]
    assert set(asked) == {"data/train-0.jsonl", "data/test.csv"}


def test_a_pattern_names_some_of_the_files(hub, tmp_path):
    endpoint, asked = hub
    done = clean(endpoint, "hf://datasets/owner/rivers@main/data/train-*.jsonl", tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(asked) == {"data/train-0.jsonl"}


def test_a_dataset_that_is_not_there_is_one_clear_line(hub, tmp_path):
    endpoint, _ = hub
    done = clean(endpoint, "hf://datasets/owner/lakes", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("drenpa: hf://datasets/owner/lakes: cannot be fetched (")
    assert "Traceback" not in done.stderr
