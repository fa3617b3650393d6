"""Fetch web pages politely into a folder: as robots.txt allows, slowly, and to be gone on with.

One request at a time, a pause between two to the same site, Retry-After obeyed, nothing loaded past
a size. Each page is a file as the site sent it; `fetched.jsonl` says of every address what came of
it, when, with status and sha256, written only after the page is safe on disk. Run again, whatever
is settled is passed over. A page that asks for proof of being human ends the run: a person has to
look, and the site has said that it wants no program.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urldefrag, urlsplit

from drenpa import __version__
from drenpa.core.artefacts import append_line, journal_lines
from drenpa.core.errors import DataError
from drenpa.core.records import Row
from drenpa.core.text import (
    brief,
    encodable,
)
from drenpa.core.waiting import retry_after_s
from drenpa.corpus.formats import Faults
from drenpa.corpus.html import is_nested_too_deep

Outcome = Literal["page", "refused", "failed", "captcha"]

JOURNAL = "fetched.jsonl"
AGENT = "drenpa"
_SETTLED = ("page", "refused")
_TRY_LATER = (408, 425, 429, 500, 502, 503, 504)
_PAGE_MEDIA = ("text/html", "application/xhtml+xml", "text/plain", "text/xml", "application/xml")
_ROBOTS_BYTES = 500 * 1024  # RFC 9309: at least so much is read
_REDIRECTS = 5
_ASKS_FOR_PROOF = re.compile(
    r"captcha|are you (?:a )?(?:human|robot)|verify (?:that )?you are (?:a )?human|just a moment"
    r"|attention required|unusual traffic|验证码|人机验证|安全验证|访问验证|滑动验证",
    re.I,
)
_PROOF_WIDGET = re.compile(
    r"g-recaptcha|h-captcha|hcaptcha\.com|/recaptcha/|cf-turnstile|cf-challenge|geetest|captcha"
    r"|验证码|人机验证",
    re.I,
)
_LARGEST_CHALLENGE = 2**20
_FEW_LETTERS = 600  # a real page with a widget in its comment form says more than this


class Fetched(Row):
    """What came of one address: a line of `fetched.jsonl`. The last line of an address holds.

    outcome: page: it is in `file`. refused: not to be asked for again. failed: worth another try.
             captcha: a person has to look.
    final:   the address after redirects; media: the content type as the site named it.
    fetched: when, in UTC; size in bytes and sha256 of the file.
    """

    url: str
    outcome: Outcome
    reason: str = ""
    final: str = ""
    status: int = 0
    fetched: str = ""
    media: str = ""
    file: str = ""
    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Manners:
    """How to behave towards sites.

    contact:        an address that the owner of a site can write to; sent with each request.
    delay_s:        pause between two requests to one site; robots.txt can ask for more.
    tries:          requests for one page before it counts as failed for this run.
    timeout_s:      for a connection, and for the next bytes of an answer.
    page_s:         for a whole page, so that one sent a byte at a time ends too.
    longest_wait_s: a site that asks to wait longer is left for the next run.
    max_bytes:      a page larger than this is refused.
    """

    contact: str
    delay_s: float = 2.0
    tries: int = 3
    timeout_s: float = 30.0
    page_s: float = 120.0
    longest_wait_s: float = 300.0
    max_bytes: int = 8 * 2**20


@dataclass(frozen=True)
class FetchSummary:
    """What a run did: outcomes of this run and why, and how many addresses were settled before.

    left:    addresses not asked for, since their site asked for too long a wait or the run stopped.
    stopped: why the run ended early; "" when it went through.
    """

    outcomes: Mapping[str, int]
    reasons: Mapping[str, int]
    before: int
    left: int
    stopped: str


def read_urls(path: Path) -> list[str]:
    """Read web addresses, one a line; empty lines and lines that begin with # are passed over.

    raises: DataError with every line that is no web address; an address given twice is kept once.
    """
    faults = Faults()
    found: dict[str, None] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    for number, line in enumerate(lines, 1):
        address = line.strip()
        if not address or address.startswith("#"):
            continue
        if _is_web_address(address):
            found.setdefault(urldefrag(address).url)
        else:
            faults.add(f"{path}:{number}", f"'{brief(address)}' is no web address; write https://…")
    faults.check()
    if not found:
        raise DataError(f"{path}: holds no addresses; write one a line")
    return list(found)


def fetch_pages(
    urls: Iterable[str],
    folder: Path,
    manners: Manners,
    *,
    tell: Callable[[Fetched], None] = lambda _: None,
) -> FetchSummary:
    """Fetch each address that is not settled yet into the folder.

    tell:   is given each outcome as it is written down.
    raises: DataError when the extra `web` is not installed.
    """
    journal = folder / JOURNAL
    settled = {
        line["url"] for line in latest_lines(journal).values() if line["outcome"] in _SETTLED
    }
    wanted = list(dict.fromkeys(urls))
    waiting = [url for url in wanted if url not in settled]
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    stopped = ""
    with _client(manners) as client:
        for fetched in _Run(client, manners, folder, waiting).results():
            append_line(journal, fetched.model_dump(exclude_defaults=True))
            outcomes[fetched.outcome] += 1
            if fetched.reason:
                reasons[fetched.reason] += 1
            tell(fetched)
            if fetched.outcome == "captcha":
                stopped = f"{fetched.url} asks for proof of being human; open it in a browser"
                break
    return FetchSummary(
        outcomes=dict(outcomes),
        reasons=dict(reasons),
        before=len(wanted) - len(waiting),
        left=len(waiting) - outcomes.total(),
        stopped=stopped,
    )


def latest_lines(journal: Path) -> dict[str, dict[str, Any]]:
    """The last line of each address in a journal, in the order the addresses first came."""
    found: dict[str, dict[str, Any]] = {}
    for line in journal_lines(journal):
        if isinstance(line, dict) and "url" in line and "outcome" in line:
            found[line["url"]] = line
    return found


def asks_for_proof(status: int, headers: Mapping[str, str], html: str) -> bool:
    """Whether an answer is a page that asks the visitor to prove being human.

    A page that merely has such a widget in a form says more than a few words beside it.

    >>> asks_for_proof(200, {}, "<title>Just a moment...</title><p>Checking your browser</p>")
    True
    >>> asks_for_proof(200, {}, "<title>How a captcha works</title><p>" + "Words. " * 200)
    False
    """
    from selectolax.lexbor import LexborHTMLParser

    if headers.get("cf-mitigated") == "challenge":
        return True
    if len(html) > _LARGEST_CHALLENGE or is_nested_too_deep(html):
        return False
    tree = LexborHTMLParser(encodable(html))
    titles = " ".join(node.text() for node in tree.css("title"))
    for node in tree.css("script, style, title"):
        node.decompose()
    plain = tree.body.text(separator=" ") if tree.body is not None else ""
    if sum(sign.isalpha() for sign in plain) >= _FEW_LETTERS:
        return False
    if _ASKS_FOR_PROOF.search(titles):
        return True
    return bool(_PROOF_WIDGET.search(html)) and (
        status in (401, 403, 405, 429, 503) or bool(_ASKS_FOR_PROOF.search(plain))
    )


@dataclass
class _Site:
    """What is known of one site, when it may be asked again, and what is still to be asked for.

    known:       whether its robots.txt was asked for; rules is what stood in it.
    unreachable: why nothing may be asked of it in this run.
    waiting:     addresses, each with the number of its next try.
    """

    known: bool = False
    rules: Any = None
    unreachable: str = ""
    delay_s: float = 0.0
    ready_at: float = 0.0
    waiting: deque[tuple[str, int]] = field(default_factory=deque)


@dataclass(frozen=True)
class _Answer:
    """One HTTP answer, its body cut off at the largest size."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    next_url: str


class _NoAnswerError(Exception):
    """A request brought no whole answer; the message is the reason to write down."""


class _Run:
    """One pass over the addresses; the site that is ready first is asked first."""

    def __init__(self, client: Any, manners: Manners, folder: Path, urls: Iterable[str]) -> None:
        self.client = client
        self.manners = manners
        self.folder = folder
        self.sites: dict[str, _Site] = {}
        for url in urls:
            self.sites.setdefault(_site_of(url), _Site()).waiting.append((url, 1))

    def results(self) -> Iterator[Fetched]:
        """Yield what came of each address, until all are done or their sites ask for long waits."""
        order = [(0.0, number, name) for number, name in enumerate(self.sites)]
        heapq.heapify(order)
        while order:
            _, number, name = heapq.heappop(order)
            site = self.sites[name]
            url, attempt = site.waiting.popleft()
            fetched, wait_s = self._fetch(url)
            if wait_s > self.manners.longest_wait_s:
                reason = f"{fetched.reason}, asks to wait {wait_s:.0f} s"
                yield fetched.model_copy(update={"reason": reason})
                continue
            site.ready_at = max(site.ready_at, time.monotonic() + wait_s)
            if wait_s and attempt < self.manners.tries:
                site.waiting.append((url, attempt + 1))
            else:
                yield fetched
            if site.waiting:
                heapq.heappush(order, (site.ready_at, number, name))

    def _fetch(self, url: str) -> tuple[Fetched, float]:
        """Fetch one address through its redirects; a wait above 0 says that trying again helps."""
        address, seen = url, set[str]()
        while True:
            if address in seen:
                return Fetched(url=url, outcome="refused", reason="redirects in a circle"), 0.0
            if len(seen) > _REDIRECTS:
                return Fetched(url=url, outcome="refused", reason="too many redirects"), 0.0
            if not _is_web_address(address):
                reason = "redirected to what is no web address"
                return Fetched(url=url, outcome="refused", reason=reason), 0.0
            seen.add(address)
            site = self._known(address)
            if site.unreachable:
                return Fetched(url=url, outcome="failed", reason=site.unreachable), 0.0
            if site.rules is not None and not site.rules.can_fetch(address, AGENT):
                reason = "robots.txt does not allow it"
                return Fetched(url=url, outcome="refused", reason=reason, final=address), 0.0
            try:
                answer = self._ask(site, address, self.manners.max_bytes)
            except _NoAnswerError as error:
                told = Fetched(url=url, outcome="failed", reason=str(error), final=address)
                return told, self._pause()
            if not answer.next_url:
                return self._judged(url, address, answer)
            address = answer.next_url

    def _judged(self, url: str, final: str, answer: _Answer) -> tuple[Fetched, float]:
        """Keep an answer that is a page; say why any other is not."""
        media = answer.headers.get("content-type", "")
        now = datetime.now(UTC)
        told = Fetched(
            url=url,
            outcome="refused",
            final=final,
            status=answer.status,
            fetched=now.isoformat(timespec="seconds"),
            media=media,
        )

        def because(outcome: Outcome, reason: str) -> Fetched:
            return told.model_copy(update={"outcome": outcome, "reason": reason})

        if asks_for_proof(answer.status, answer.headers, answer.body.decode("utf-8", "replace")):
            return because("captcha", "asks for proof of being human"), 0.0
        if answer.status in _TRY_LATER:
            wait_s = retry_after_s(answer.headers.get("retry-after", ""), now)
            return because("failed", f"status {answer.status}"), wait_s or self._pause()
        if answer.status != 200:
            return because("refused", f"status {answer.status}"), 0.0
        kind = media.partition(";")[0].strip().lower()
        if kind and kind not in _PAGE_MEDIA:
            return because("refused", f"{brief(kind)} is no page"), 0.0
        if not answer.whole:
            return because("refused", f"larger than {self.manners.max_bytes} bytes"), 0.0
        if not answer.body.strip():
            return because("refused", "an empty page"), 0.0
        file = Path("pages") / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.html"
        _write_bytes(self.folder / file, answer.body)
        return told.model_copy(
            update={
                "outcome": "page",
                "file": file.as_posix(),
                "sha256": hashlib.sha256(answer.body).hexdigest(),
                "size": len(answer.body),
            }
        ), 0.0

    def _pause(self) -> float:
        return max(self.manners.delay_s, 0.01)

    def _known(self, address: str) -> _Site:
        """The site of an address, after its robots.txt was read."""
        name = _site_of(address)
        site = self.sites.setdefault(name, _Site())
        if not site.known:
            site.known = True
            site.delay_s = self._pause()
            self._read_robots(name, site)
        return site

    def _read_robots(self, name: str, site: _Site) -> None:
        """RFC 9309: without a robots.txt all is allowed, from a site that is out of order
        nothing."""
        from protego import Protego

        try:
            answer = self._ask(site, f"{name}/robots.txt", _ROBOTS_BYTES)
            for _ in range(_REDIRECTS):
                if answer.next_url:
                    answer = self._ask(site, answer.next_url, _ROBOTS_BYTES)
        except _NoAnswerError as error:
            site.unreachable = f"robots.txt: {error}"
            return
        if answer.status in _TRY_LATER or answer.status >= 500:
            site.unreachable = f"robots.txt: status {answer.status}"
        elif answer.status == 200:
            site.rules = Protego.parse(answer.body.decode("utf-8", "replace"))
            asked_s = float(site.rules.crawl_delay(AGENT) or 0.0)
            if asked_s > max(self.manners.longest_wait_s, site.delay_s):
                site.unreachable = f"robots.txt asks for {asked_s:g} s between two pages"
                return
            site.delay_s = max(site.delay_s, asked_s)
            site.ready_at = max(site.ready_at, time.monotonic() + site.delay_s)

    def _ask(self, site: _Site, address: str, max_bytes: int) -> _Answer:
        """Send one request when the site may be asked again.

        raises: _NoAnswerError.
        """
        import httpx

        time.sleep(max(0.0, site.ready_at - time.monotonic()))
        ends = time.monotonic() + self.manners.page_s
        try:
            with self.client.stream("GET", address) as response:
                body = bytearray()
                following = response.next_request
                for piece in () if following else response.iter_bytes():
                    body += piece
                    if len(body) > max_bytes:
                        break
                    if time.monotonic() > ends:
                        raise _NoAnswerError(f"took longer than {self.manners.page_s:g} s")
                return _Answer(
                    status=response.status_code,
                    headers={key.lower(): value for key, value in response.headers.items()},
                    body=bytes(body[:max_bytes]),
                    whole=len(body) <= max_bytes,
                    next_url=urldefrag(str(following.url)).url if following else "",
                )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower()
            raise _NoAnswerError(f"no answer ({words})") from error
        finally:
            site.ready_at = time.monotonic() + site.delay_s


def _client(manners: Manners) -> Any:
    try:
        import httpx
        import protego  # noqa: F401
        import selectolax  # noqa: F401
    except ImportError:
        raise DataError("fetching pages needs an extra: pip install 'drenpa[web]'") from None
    return httpx.Client(
        headers={"User-Agent": f"{AGENT}/{__version__} (+{manners.contact})"},
        timeout=manners.timeout_s,
        follow_redirects=False,
    )


def _is_web_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _site_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _write_bytes(path: Path, data: bytes) -> None:
    """Write a file wholly or not at all, and wait until it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def fetch_list(urls: Path, folder: Path, manners: Manners, *, say: Callable[[str], None]) -> bool:
    """Fetch the addresses of a file, telling what was not kept; return whether it went through."""
    addresses = read_urls(urls)

    def tell(fetched: Fetched) -> None:
        if fetched.outcome != "page":
            say(f"{fetched.outcome}: {fetched.url}: {fetched.reason}")

    summary = fetch_pages(addresses, folder, manners, tell=tell)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(summary.outcomes.items()))
    say(
        f"{len(addresses)} addresses: {counts or 'none asked for'}; {summary.before} settled "
        f"before, {summary.left} left for another run"
    )
    if summary.stopped:
        say(f"stopped: {summary.stopped}")
    return not summary.stopped
