"""`drenpa desk` as a process: it prints links, and they open it for the person they are of."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import httpx
import pytest


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def serving(folder, *arguments, links):
    script = "from drenpa.cli import main; main()"
    command = [sys.executable, "-c", script, "desk", *arguments, "--port", str(free_port())]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        yield [process.stdout.readline().strip() for _ in range(links)]
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "items.jsonl").write_text('{"id": "a", "question": "What is a verb?"}\n')
    people = ("--person", "dolma", "--person", "པད་མ་")
    with serving(tmp_path, "s.db", "--drafts", "items.jsonl", *people, links=2) as links:
        yield links


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


def test_a_desk_in_a_new_folder_answers_under_its_name_in_small_letters(tmp_path):
    with serving(tmp_path, "new/s.db", "--host", "Desk.Example.org", links=1) as [link]:
        address = urlsplit(link)
        assert address.hostname == "desk.example.org"
        assert address.netloc.startswith("desk.example.org:")
        here = f"http://127.0.0.1:{address.port}/?{address.query}"
        with httpx.Client(headers={"Host": address.netloc}, follow_redirects=True) as client:
            assert opened(client, here).status_code == 200


def refused(folder, *arguments):
    script = "from drenpa.cli import main; main()"
    command = [sys.executable, "-c", script, "desk", "s.db", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_port_that_is_taken_is_told_before_any_link(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = refused(tmp_path, "--port", str(port))
    assert f"--port {port} --bind 127.0.0.1: address already in use" in told
    assert "choose another port" in told


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_a_port_that_there_cannot_be_is_told_in_one_line(tmp_path, port):
    told = refused(tmp_path, "--port", port)
    assert f"--port {port} --bind 127.0.0.1: a port is a number up to 65535; choose" in told
