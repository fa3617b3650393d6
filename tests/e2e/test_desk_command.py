"""`drenpa desk` as a process: it prints links, and they open it for the person they are of."""

import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "items.jsonl").write_text('{"id": "a", "question": "What is a verb?"}\n')
    script = "from drenpa.cli import main; main()"
    command = [sys.executable, "-c", script, "desk", "s.db", "--drafts", "items.jsonl"]
    command += ["--port", str(free_port()), "--person", "dolma", "--person", "པད་མ་"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        links = [process.stdout.readline().strip() for _ in range(2)]
        yield links
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def opened(client, link):
    for _ in range(200):
        try:
            return client.get(link)
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the desk does not answer")


def test_the_desk_prints_a_link_for_each_person_and_they_work_under_their_name(desk):
    for told, person in zip(desk, ("dolma", "པད་མ་"), strict=True):
        name, _, link = told.partition(": ")
        assert name == person
        with httpx.Client(follow_redirects=True) as client:
            page = opened(client, link)
            assert page.status_code == 200
            assert f"You are {person}" in page.text
            assert "What is a verb?" in page.text
        place = link.split("/?")[0]
        assert httpx.get(place + "/").status_code == 403
