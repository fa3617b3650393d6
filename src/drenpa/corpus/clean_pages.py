"""Pages in, clean text out, and every drop counted: the step before people see anything.

Each page is decoded, taken out of its markup, mended, freed of debris, its language told, what may
identify a person flagged or scrubbed, and a kind suggested from its structure. Pages stream through
all cores in order; a folder of any size needs the memory of a few batches. Each page that is read
is kept or dropped under one reason, and each line that was taken out can be looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

from pydantic import Field

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DataError
from drenpa.core.knowledge import Kind
from drenpa.core.languages import Language
from drenpa.core.records import Page, identifier
from drenpa.core.text import encodable, script_ratios
from drenpa.corpus.classify import suggest_kind
from drenpa.corpus.clean import Dropped, clean_text, drop_debris
from drenpa.corpus.formats import Faults
from drenpa.corpus.html import (
    SiteRule,
    decode,
    html_to_text,
    is_nested_too_deep,
    looks_like_html,
)
from drenpa.corpus.language import identify_language
from drenpa.corpus.pages import FIELDS, RawPage, raw_pages
from drenpa.corpus.personal import CERTAIN, PersonalData, find_personal, scrub_personal
from drenpa.corpus.rounds import Draft
from drenpa.corpus.stream import Engine, mapped
from drenpa.corpus.syllables import impossible_share
from drenpa.corpus.tibetan import join_segmented

BATCH = 32
_FILES = ("pages.jsonl", "drafts.jsonl", "dropped.jsonl", "flagged.jsonl", "faults.txt")


@dataclass(frozen=True)
class Cleaning:
    """How pages are cleaned.

    rules:     where the parts of known sites' pages stand; the first that fits holds.
    languages: keep pages in these only; empty keeps all.
    personal:  what may identify a person: flag counts it, scrub replaces it, drop drops the page,
               keep does not look. Names and postal addresses are only flagged.
    shortest:  letters below which a page is dropped as short.
    profiles:  of languages that are not known here.
    """

    rules: tuple[SiteRule, ...] = ()
    languages: tuple[str, ...] = ()
    personal: PersonalData = "flag"
    shortest: int = 1
    profiles: tuple[Language, ...] = ()


class CleanPage(Page):
    """A page after cleaning, with what it says of itself and what was told of it.

    language:    en, zh, bo, dz, that of a profile, or "", by the text; claimed is what the page
                 says.
    encoding:    in which its bytes were; "" when it came as text.
    personal:    how many stretches of each sort may identify a person.
    impossible:  share of Tibetan syllables that can be none.
    kind:        suggested by kind_source, for the reasons given; None where nothing speaks for any.
    """

    title: str = ""
    breadcrumbs: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    dated: str = ""
    language: str = ""
    claimed: str = ""
    encoding: str = ""
    personal: dict[str, int] = Field(default_factory=dict)
    impossible: float = 0.0
    kind: Kind | None = None
    kind_source: str = ""
    kind_reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cleaned:
    """What became of one page.

    page:    None where it was dropped.
    reason:  why it was dropped: empty, short, language, personal, nested (elements thousands deep,
             which no person writes), id (it came already).
    dropped: lines that were taken out of it, each with its reason.
    read:    characters before cleaning, markup included.
    flagged: sort and stretch of what may identify a person and stands in the text.
    """

    id: str
    page: CleanPage | None
    reason: str
    dropped: tuple[Dropped, ...]
    read: int
    flagged: tuple[tuple[str, str], ...] = ()


def clean_page(raw: RawPage, cleaning: Cleaning = Cleaning()) -> Cleaned:
    """Clean one page.

    raises: DataError when the page is HTML and the extra `web` is not installed.
    """
    text, encoding = (raw.data, "") if isinstance(raw.data, str) else decode(raw.data, raw.charset)
    read = len(text)
    dropped: list[Dropped] = []
    found: dict[str, Any] = {}
    url, tags = encodable(raw.url), tuple(map(encodable, raw.tags))
    if looks_like_html(text):
        if is_nested_too_deep(text):
            return Cleaned(encodable(raw.id), None, "nested", (), read)
        rule = next((rule for rule in cleaning.rules if rule.fits(url)), None)
        html = html_to_text(text, rule)
        dropped += [Dropped(line, "boilerplate") for line in html.left_out]
        text, url = html.text, url or html.url
        tags = tuple(dict.fromkeys((*tags, *html.tags)))
        found = {
            "title": html.title,
            "breadcrumbs": html.breadcrumbs,
            "headings": html.headings,
            "dated": html.dated,
            "claimed": html.language,
        }
    else:
        text = clean_text(text)
    text = join_segmented(text)
    language = identify_language(text, cleaning.profiles)
    text, debris = drop_debris(text, language, cleaning.profiles)
    if debris:
        dropped += debris
        language = identify_language(text, cleaning.profiles)
    personal: Counter[str] = Counter()
    flagged: list[tuple[str, str]] = []
    name, source = encodable(raw.id), encodable(raw.source) or urlsplit(url).hostname or ""
    if cleaning.personal != "keep":
        treat = _Treatment(scrub=cleaning.personal == "scrub")
        text = treat(text)
        found["title"] = treat(found.get("title", ""))
        for part in ("headings", "breadcrumbs"):
            found[part] = tuple(map(treat, found.get(part, ())))
        tags = tuple(map(treat, tags))
        url, source = treat(url), treat(source)
        if "://" in name and (scrubbed := treat(name)) != name:
            name = f"{scrubbed}…{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        personal, flagged = treat.found, treat.stands
    reason = _reason_to_drop(text, language, personal, cleaning)
    if reason:
        return Cleaned(name, None, reason, tuple(dropped), read)
    page = CleanPage(
        id=identifier(" ".join(name.split()) or "page"),
        text=text,
        url=url,
        fetched=encodable(raw.fetched),
        source=source,
        tags=tags,
        language=language,
        encoding=encoding,
        personal=dict(personal),
        impossible=round(impossible_share(text, dzongkha=language == "dz"), 4),
        **found,
    )
    return Cleaned(name, _with_kind(page), "", tuple(dropped), read, tuple(flagged))


class _Treatment:
    """Looks through the texts of one page, the main one first, for what may identify a person.

    found:  how many stretches of each sort there were; what an earlier text holds, as the text does
            its headings, is not counted again.
    stands: sort and stretch of each that was left in.
    """

    def __init__(self, *, scrub: bool) -> None:
        self.found: Counter[str] = Counter()
        self.stands: list[tuple[str, str]] = []
        self._scrub = scrub
        self._seen: set[tuple[str, str]] = set()

    def __call__(self, text: str) -> str:
        """Return the text, scrubbed where that is asked for."""
        findings = [(f, (f.sort, text[f.start : f.end])) for f in find_personal(text)]
        new = [(finding, told) for finding, told in findings if told not in self._seen]
        self._seen.update(told for _, told in findings)
        self.found.update(finding.sort for finding, _ in new)
        self.stands += (told for f, told in new if not (self._scrub and f.is_certain))
        return scrub_personal(text)[0] if self._scrub and findings else text


def _reason_to_drop(
    text: str, language: str, personal: Mapping[str, int], cleaning: Cleaning
) -> str:
    if not script_ratios(text):
        return "empty"
    if sum(times for sign, times in Counter(text).items() if sign.isalpha()) < cleaning.shortest:
        return "short"
    if cleaning.languages and language not in cleaning.languages:
        return "language"
    certain = any(sort in CERTAIN for sort in personal)
    return "personal" if certain and cleaning.personal == "drop" else ""


def _with_kind(page: CleanPage) -> CleanPage:
    suggestion = suggest_kind(
        page.title,
        page.text,
        page.tags,
        breadcrumbs=page.breadcrumbs,
        headings=page.headings,
    )
    if not suggestion.label:
        return page
    return page.model_copy(
        update={
            "kind": suggestion.label,
            "kind_source": suggestion.source,
            "kind_reasons": suggestion.reasons[:3],
        }
    )


def cleaned(
    pages: Iterable[RawPage], cleaning: Cleaning, *, workers: int = 1, engine: Engine = "local"
) -> Iterator[Cleaned]:
    """Clean pages on many cores, in the order they came, holding a few batches at a time."""
    work = partial(_clean_batch, cleaning=cleaning)
    for batch in mapped(work, pages, batch=BATCH, workers=workers, engine=engine):
        yield from batch


def _clean_batch(pages: Sequence[RawPage], cleaning: Cleaning) -> list[Cleaned]:
    return [clean_page(page, cleaning) for page in pages]


def clean_into(
    places: Sequence[str],
    folder: Path,
    cleaning: Cleaning,
    *,
    columns: Mapping[str, str] | None = None,
    workers: int = 0,
    engine: Engine = "local",
) -> dict[str, Any]:
    """Clean all pages of the given files, folders and datasets into a new folder.

    It holds `pages.jsonl` (CleanPage), `drafts.jsonl` (what the rounds of people begin with: title
    and text), `dropped.jsonl` (`{"page", "reason", "line"}`; without a line the whole page went),
    `flagged.jsonl` (`{"page", "sort", "text"}`: what may identify a person and was left in),
    `faults.txt` (what could not be read) and, written last, `counts.json`, which is returned too.

    workers: processes; 0 is one for each core. engine: where they run; see `stream.mapped`.
    raises:  DataError when the folder holds something, or no page could be read at all.
    """
    if folder.exists() and not _is_unfinished(folder):
        raise DataError(f"{folder}: is there already; give the folder a new name")
    folder.mkdir(parents=True, exist_ok=True)
    counts, seen = _Counts(), _Seen()
    faults = Faults()
    pages = raw_pages(places, faults, columns=columns)
    with ExitStack() as stack:
        files = {
            name: stack.enter_context((folder / name).open("w", encoding="utf-8"))
            for name in _FILES
        }
        for result in cleaned(pages, cleaning, workers=workers, engine=engine):
            result = seen.once(result)
            counts.add(result)
            _write(result, files)
        files["faults.txt"].writelines(f"{line}\n" for line in faults.lines)
    if not counts.read:
        faults.check()
        raise DataError(f"{', '.join(places)}: holds no pages")
    summary = counts.summary(faults)
    write_text(folder / "counts.json", json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    return summary


def _is_unfinished(folder: Path) -> bool:
    """Whether a folder holds nothing but what a run that was stopped has left."""
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= set(_FILES)


def _write(result: Cleaned, files: Mapping[str, TextIO]) -> None:
    def line(name: str, value: Mapping[str, Any]) -> None:
        files[name].write(json.dumps(value, ensure_ascii=False) + "\n")

    for gone in result.dropped:
        line("dropped.jsonl", {"page": result.id, "reason": gone.reason, "line": gone.line})
    if result.page is None:
        line("dropped.jsonl", {"page": result.id, "reason": result.reason})
        return
    for sort, stretch in result.flagged:
        line("flagged.jsonl", {"page": result.page.id, "sort": sort, "text": stretch})
    page = result.page  # its kind stays out of the draft: the rounds store who suggested what
    line("pages.jsonl", page.model_dump(mode="json", exclude_defaults=True))
    draft = Draft(
        id=page.id,
        question=page.title or (page.headings[0] if page.headings else page.text.split("\n")[0]),
        answer=page.text,
        language=page.language or page.claimed.partition("-")[0].lower() or "und",
        source=page.url or page.source,
        tags=tuple(dict.fromkeys((*page.tags, *page.breadcrumbs))),
    )
    line("drafts.jsonl", draft.model_dump(mode="json", exclude_defaults=True))


class _Seen:
    """The ids that came already: about 90 bytes each."""

    def __init__(self) -> None:
        self._ids: set[bytes] = set()

    def once(self, result: Cleaned) -> Cleaned:
        """The result, with its page dropped when its id came already."""
        if result.page is None:
            return result
        digest = hashlib.sha256(result.page.id.encode("utf-8", "replace")).digest()[:16]
        if digest in self._ids:
            return replace(result, page=None, reason="id", dropped=(), flagged=())
        self._ids.add(digest)
        return result


class _Counts:
    """What was read, kept and dropped so far."""

    def __init__(self) -> None:
        self.read = self.kept = self.read_characters = self.kept_characters = 0
        self.lines_kept = 0
        self.pages: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()
        self.by: dict[str, Counter[str]] = {
            name: Counter() for name in ("language", "kind", "encoding", "personal")
        }

    def add(self, result: Cleaned) -> None:
        self.read += 1
        self.read_characters += result.read
        self.lines.update(gone.reason for gone in result.dropped)
        page = result.page
        if page is None:
            self.pages[result.reason] += 1
            return
        self.kept += 1
        self.kept_characters += len(page.text)
        self.lines_kept += sum(1 for line in page.text.split("\n") if line)
        self.by["language"][page.language or "other"] += 1
        self.by["kind"][page.kind or "none"] += 1
        self.by["encoding"][page.encoding or "text"] += 1
        self.by["personal"].update(page.personal)

    def summary(self, faults: Faults) -> dict[str, Any]:
        return {
            "pages": {"read": self.read, "kept": self.kept, "dropped": dict(self.pages)},
            "lines": {"kept": self.lines_kept, "dropped": dict(self.lines)},
            "characters": {"read": self.read_characters, "kept": self.kept_characters},
            "faults": len(faults.lines),
            **{name: dict(sorted(counter.items())) for name, counter in self.by.items()},
        }


def clean_told(
    places: Sequence[str],
    cleaning: Cleaning,
    *,
    columns: Sequence[str],
    workers: int,
    say: Callable[[str], None],
    engine: Engine = "local",
) -> None:
    """Clean the pages of all places but the last into the last, and say what came of it.

    columns: `field=column` where a table has names of its own.
    raises:  DataError, as `clean_into` does, and when there are no two places.
    """
    if len(places) < 2:
        raise DataError("name the pages first and then the folder to make")
    named = dict(pair.partition("=")[::2] for pair in columns)
    wrong = [pair for pair in columns if "=" not in pair or pair.partition("=")[0] not in FIELDS]
    if wrong:
        raise DataError(f"'{wrong[0]}': write field=column; fields: {', '.join(FIELDS)}")
    folder = Path(places[-1])
    summary = clean_into(
        places[:-1], folder, cleaning, columns=named, workers=workers, engine=engine
    )
    for what in ("pages", "lines"):
        part = summary[what]
        reasons = ", ".join(f"{count} {reason}" for reason, count in part["dropped"].items())
        say(f"{what}: {part['kept']} kept; dropped: {reasons or 'none'}")
    for what in ("language", "kind", "personal"):
        told = ", ".join(f"{name} {count}" for name, count in summary[what].items())
        say(f"{what}: {told or 'none found'}")
    if summary["faults"]:
        say(f"{summary['faults']} faults, in {folder / 'faults.txt'}")
    say(str(folder))
