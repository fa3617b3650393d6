"""The fetcher against a real HTTP server on this machine: kind, slow, hostile, and out of order."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from drenpa.core.errors import DataError
from drenpa.corpus.fetch import JOURNAL, Manners, fetch_pages, latest_lines, read_urls

pytest.importorskip("protego")
MANNERS = Manners(contact="tests@example.org", delay_s=0.01, timeout_s=2.0, page_s=1.5)
WORDS = "<p>" + "The river falls from the snow to the plain. " * 30


@dataclass
class Site:
    """A web site on this machine; `pages` gives, by path, what each request in turn is answered."""

    pages: dict[str, Any]
    url: str = ""
    asked: list[tuple[str, float]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)

    def times(self, path: str) -> list[float]:
        return [when for asked, when in self.asked if asked == path]


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    running: list[ThreadingHTTPServer] = []

    def start(**pages: Any) -> Site:
        site = Site({f"/{name.replace('_', '.')}": answer for name, answer in pages.items()})

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append((self.path, time.monotonic()))
                site.agents.add(self.headers["User-Agent"])
                answer = site.pages.get(self.path, (404, {}, b"nothing here"))
                if isinstance(answer, list):
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                if callable(answer):
                    answer(self)
                    return
                status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
                data = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                for key, value in ({"Content-Type": "text/html"} | headers).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                try:
                    self.wfile.write(data)
                except OSError:  # the fetcher hung up
                    self.close_connection = True

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return site

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def lines(folder: Path) -> dict[str, dict[str, Any]]:
    return {url.rpartition("/")[2]: line for url, line in latest_lines(folder / JOURNAL).items()}


def test_a_page_is_kept_as_it_was_sent_with_address_date_and_sum(serve, tmp_path):
    body = ("<html><meta charset=gb18030>" + "水往低处流。" * 50).encode("gb18030")
    site = serve(a=body)
    summary = fetch_pages([f"{site.url}/a"], tmp_path, MANNERS)
    line = lines(tmp_path)["a"]
    assert summary.outcomes == {"page": 1}
    assert (tmp_path / line["file"]).read_bytes() == body
    assert line["sha256"] == hashlib.sha256(body).hexdigest()
    assert (line["url"], line["status"], line["size"]) == (f"{site.url}/a", 200, len(body))
    assert line["fetched"].endswith("+00:00")
    assert all("drenpa/" in agent and "tests@example.org" in agent for agent in site.agents)


def test_robots_txt_is_asked_for_once_first_and_obeyed(serve, tmp_path):
    robots = "User-agent: *\nDisallow: /private\nAllow: /private-not\nCrawl-delay: 0.3\n"
    site = serve(robots_txt=(200, {"Content-Type": "text/plain"}, robots), a=WORDS, b=WORDS)
    site.pages["/private/x"] = WORDS
    fetch_pages([f"{site.url}/{name}" for name in ("a", "private/x", "b")], tmp_path, MANNERS)
    assert [path for path, _ in site.asked] == ["/robots.txt", "/a", "/b"]
    assert site.times("/b")[0] - site.times("/a")[0] >= 0.3
    assert lines(tmp_path)["x"]["reason"] == "robots.txt does not allow it"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_site_whose_robots_txt_is_out_of_order_is_left_alone(serve, tmp_path, status):
    site = serve(robots_txt=(status, {}, "oh"), a=WORDS)
    fetch_pages([f"{site.url}/a"], tmp_path, MANNERS)
    assert [path for path, _ in site.asked] == ["/robots.txt"]
    assert lines(tmp_path)["a"]["outcome"] == "failed"


@pytest.mark.parametrize("delay", ["86400", "1e300"])
def test_a_site_that_asks_for_very_long_pauses_is_left_and_the_others_are_not(
    serve, tmp_path, delay
):
    slow = serve(robots_txt=(200, {}, f"User-agent: *\nCrawl-delay: {delay}\n"), a=WORDS, b=WORDS)
    other = serve(c=WORDS)
    urls = [f"{slow.url}/a", f"{slow.url}/b", f"{other.url}/c"]
    summary = fetch_pages(urls, tmp_path, MANNERS)
    assert summary.outcomes == {"failed": 2, "page": 1}
    assert [path for path, _ in slow.asked] == ["/robots.txt"]
    reason = lines(tmp_path)["a"]["reason"]
    assert reason == f"robots.txt asks for {float(delay):g} s between two pages"


def test_two_requests_to_a_site_are_a_delay_apart_and_two_sites_do_not_wait_for_each_other(
    serve, tmp_path
):
    one, two = serve(a=WORDS, b=WORDS, c=WORDS), serve(a=WORDS, b=WORDS, c=WORDS)
    urls = [f"{site.url}/{name}" for site in (one, two) for name in "abc"]
    fetch_pages(urls, tmp_path, Manners(contact="t", delay_s=0.25))
    times, others = ([when for _, when in site.asked] for site in (one, two))
    for site in (times, others):
        assert all(later - earlier >= 0.25 for earlier, later in itertools.pairwise(site))
    assert times[0] < others[-1]
    assert others[0] < times[-1]


def test_retry_after_is_waited_for_and_the_page_then_taken(serve, tmp_path):
    busy = (429, {"Retry-After": "1"}, "slow down")
    site = serve(a=[busy, WORDS], b=WORDS)
    summary = fetch_pages([f"{site.url}/a", f"{site.url}/b"], tmp_path, MANNERS)
    first, second = site.times("/a")
    assert second - first >= 1.0
    assert site.times("/b")[0] - first >= 1.0  # the whole site rests
    assert summary.outcomes == {"page": 2}


def test_a_site_that_asks_for_a_long_wait_is_left_for_the_next_run(serve, tmp_path):
    site = serve(a=(503, {"Retry-After": "86400"}, "tomorrow"), b=WORDS)
    summary = fetch_pages([f"{site.url}/a", f"{site.url}/b"], tmp_path, MANNERS)
    assert (summary.outcomes, summary.left) == ({"failed": 1}, 1)
    assert lines(tmp_path)["a"]["reason"] == "status 503, asks to wait 86400 s"
    site.pages["/a"] = WORDS
    assert fetch_pages([f"{site.url}/{n}" for n in "ab"], tmp_path, MANNERS).outcomes == {"page": 2}


def test_a_page_that_fails_again_and_again_is_given_up_for_this_run(serve, tmp_path):
    site = serve(a=(500, {}, "broken"))
    fetch_pages([f"{site.url}/a"], tmp_path, MANNERS)
    assert len(site.times("/a")) == MANNERS.tries
    assert lines(tmp_path)["a"]["outcome"] == "failed"


def test_redirects_are_followed_but_not_in_a_circle_nor_past_robots_txt(serve, tmp_path):
    site = serve(
        robots_txt=(200, {}, "User-agent: *\nDisallow: /hidden\n"),
        old=(301, {"Location": "/new"}, ""),
        new=WORDS,
        x=(302, {"Location": "/y"}, ""),
        y=(302, {"Location": "/x"}, ""),
        door=(302, {"Location": "/hidden"}, ""),
        hidden=WORDS,
        file=(302, {"Location": "file:///etc/hostname"}, ""),
    )
    for step in range(9):
        site.pages[f"/far{step}"] = (302, {"Location": f"/far{step + 1}"}, "")
    names = ("old", "x", "door", "file", "far0")
    fetch_pages([f"{site.url}/{name}" for name in names], tmp_path, MANNERS)
    found = lines(tmp_path)
    assert (found["old"]["outcome"], found["old"]["final"]) == ("page", f"{site.url}/new")
    assert found["x"]["reason"] == "redirects in a circle"
    assert found["door"]["reason"] == "robots.txt does not allow it"
    assert found["far0"]["reason"] == "too many redirects"
    assert found["file"]["outcome"] != "page"
    assert not site.times("/hidden")


@pytest.mark.parametrize(
    "challenge",
    [
        (403, {}, "<title>Just a moment...</title><p>Checking your browser"),
        (200, {}, "<title>x</title><p>请输入验证码</p><form><input name=captcha></form>"),
        (200, {"cf-mitigated": "challenge"}, WORDS),
        (429, {}, "<div class='g-recaptcha'></div>"),
    ],
)
def test_a_page_that_asks_for_proof_of_being_human_stops_the_run(serve, tmp_path, challenge):
    site = serve(a=WORDS, b=challenge, c=WORDS)
    urls = [f"{site.url}/{name}" for name in "abc"]
    summary = fetch_pages(urls, tmp_path, MANNERS)
    assert summary.outcomes == {"page": 1, "captcha": 1}
    assert summary.left == 1
    assert f"{site.url}/b asks for proof" in summary.stopped
    assert not site.times("/c")
    assert "file" not in lines(tmp_path)["b"]
    site.pages["/b"] = WORDS  # somebody looked, and the site lets us in again
    again = fetch_pages(urls, tmp_path, MANNERS)
    assert (again.outcomes, again.before, again.stopped) == ({"page": 2}, 1, "")


def test_a_page_with_a_widget_in_its_comment_form_is_a_page(serve, tmp_path):
    site = serve(a=f"<title>Rivers</title>{WORDS}<div class='g-recaptcha'></div>")
    assert fetch_pages([f"{site.url}/a"], tmp_path, MANNERS).outcomes == {"page": 1}


def drip(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.end_headers()
    try:
        for _ in range(300):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        handler.close_connection = True


def cut_off(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b"half a page")
    handler.close_connection = True


def test_what_is_no_whole_page_is_not_kept(serve, tmp_path):
    site = serve(
        huge=b"<p>" + b"x" * 10 * 2**20,
        picture=(200, {"Content-Type": "image/png"}, b"\x89PNG"),
        empty=b"  ",
        gone=(404, {}, "no such page"),
        slow=drip,
        half=cut_off,
    )
    names = ("huge", "picture", "empty", "gone", "slow", "half")
    manners = Manners(contact="t", delay_s=0.01, page_s=0.5, tries=1)
    began = time.monotonic()
    summary = fetch_pages([f"{site.url}/{name}" for name in names], tmp_path, manners)
    assert time.monotonic() - began < 20
    found = lines(tmp_path)
    assert found["huge"]["reason"] == "larger than 8388608 bytes"
    assert found["picture"]["reason"] == "image/png is no page"
    assert found["empty"]["reason"] == "an empty page"
    assert found["gone"]["reason"] == "status 404"
    assert found["slow"]["reason"] == "took longer than 0.5 s"
    assert found["half"]["reason"].startswith("no answer (remote protocol error")
    assert summary.outcomes == {"refused": 4, "failed": 2}
    assert not (tmp_path / "pages").exists()


def test_a_settled_address_is_not_asked_for_again_and_a_failed_one_is(serve, tmp_path):
    site = serve(a=WORDS, b=(500, {}, ""), c=(404, {}, ""))
    urls = [f"{site.url}/{name}" for name in "abc"]
    fetch_pages(urls, tmp_path, MANNERS)
    site.asked.clear()
    summary = fetch_pages(urls, tmp_path, MANNERS)
    assert {path for path, _ in site.asked} == {"/robots.txt", "/b"}
    assert summary.before == 2


def test_nobody_at_home_is_a_failure_and_no_crash(tmp_path):
    summary = fetch_pages(["http://127.0.0.1:9/a"], tmp_path, MANNERS)
    assert summary.outcomes == {"failed": 1}
    assert summary.reasons == {"robots.txt: no answer (connect error)": 1}


def test_a_run_killed_in_the_middle_goes_on_where_it_was(serve, tmp_path):
    names = [f"p{number}" for number in range(12)]
    site = serve(**{name: WORDS + name for name in names})
    urls = tmp_path / "urls.txt"
    urls.write_text("\n".join(f"{site.url}/{name}" for name in names))
    folder = tmp_path / "got"
    command = [
        sys.executable,
        "-c",
        "from drenpa.cli import main; main()",
        "fetch",
        str(urls),
        str(folder),
    ]
    command += ["--contact", "tests@example.org", "--delay", "0.1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(site.asked) < 6 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = [url for url, line in lines(folder).items() if line["outcome"] == "page"]
    assert 0 < len(done) < len(names)
    with (folder / JOURNAL).open("a") as journal:
        journal.write('{"url": "http://127')  # what a kill in the middle of a line leaves
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{len(names) - len(done)} page" in finished.stdout
    assert f"{len(done)} settled before" in finished.stdout
    found = lines(folder)
    assert sorted(found) == sorted(names)
    for name, line in found.items():
        body = (folder / line["file"]).read_bytes()
        assert body == (WORDS + name).encode()
        assert hashlib.sha256(body).hexdigest() == line["sha256"]
    for name in done:
        assert len(site.times(f"/{name}")) == 1
    assert all(json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()[-3:])


def test_addresses_are_read_one_a_line_and_what_is_none_is_told(tmp_path):
    path = tmp_path / "urls.txt"
    path.write_text("# sites\nhttps://a.org/x#top\n\nhttps://a.org/x\nhttp://b.org\n")
    assert read_urls(path) == ["https://a.org/x", "http://b.org"]
    path.write_text("a.org/x\nhttps://a.org\nfile:///etc/passwd\n")
    with pytest.raises(DataError) as caught:
        read_urls(path)
    assert len(caught.value.faults) == 2
    assert caught.value.faults[0] == f"{path}:1: 'a.org/x' is no web address; write https://…"
