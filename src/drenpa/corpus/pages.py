"""Pages of any origin, read one at a time: folders of HTML, what was fetched, WARC, tables,
datasets.

Whatever cannot be read is a fault with its place, and the rest goes on. A page keeps its bytes as
they are; `clean_page` decodes them. Nothing here holds more than one page, so that a folder of any
size can be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drenpa.core.text import brief
from drenpa.corpus.fetch import JOURNAL, latest_lines
from drenpa.corpus.formats import SUFFIXES, Faults, read_entries
from drenpa.corpus.hub import HUB, dataset_files

HTML_SUFFIXES = (".html", ".htm", ".xhtml", ".txt")
WARC_SUFFIXES = (".warc", ".warc.gz")
INDEX_NAMES = ("index.csv", "index.tsv", "index.jsonl")
MAX_PAGE_BYTES = 32 * 2**20

FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "html", "content", "body", "raw_content", "article"),
    "id": ("id", "uid", "doc_id", "url", "link"),
    "url": ("url", "link", "source_url", "uri"),
    "fetched": ("fetched", "date", "timestamp", "crawled", "fetch_date"),
    "source": ("source",),
    "tags": ("tags", "keywords", "category", "categories"),
}
"""The columns that are read from a table of pages, by the first of these names that it has."""


@dataclass(frozen=True)
class RawPage:
    """A page as it came: bytes, or text that is decoded already.

    charset: what the server said; "" for nothing.
    """

    id: str
    data: bytes | str
    url: str = ""
    fetched: str = ""
    source: str = ""
    tags: tuple[str, ...] = ()
    charset: str = ""


def raw_pages(
    places: Sequence[str], faults: Faults, *, columns: Mapping[str, str] | None = None
) -> Iterator[RawPage]:
    """Yield the pages of files, folders and hub datasets in order, noting what cannot be read.

    columns: field → column, where a table names its columns otherwise than FIELDS.
    """
    for place in places:
        if place.startswith(HUB):
            for path in dataset_files(place):
                yield from _table(path, faults, columns or {})
            continue
        path = Path(place)
        if path.is_dir():
            yield from _folder(path, faults, columns or {})
        elif path.is_file():
            yield from _file(path, path.name, {}, faults, columns or {})
        else:
            faults.add(place, "no such file or folder")


def _folder(folder: Path, faults: Faults, columns: Mapping[str, str]) -> Iterator[RawPage]:
    """What the fetcher left; else every file of a known format, with what an index says of it."""
    if (folder / JOURNAL).is_file():
        yield from _fetched(folder, faults)
        return
    index = _index(folder, faults)
    others: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name.startswith(".") or not path.is_file() or name in INDEX_NAMES:
            continue
        if path.name.lower().endswith((*HTML_SUFFIXES, *WARC_SUFFIXES, *SUFFIXES)):
            yield from _file(path, f"{folder.name}/{name}", index.pop(name, {}), faults, columns)
        else:
            others[path.suffix or path.name] = others.get(path.suffix or path.name, 0) + 1
    for suffix, count in sorted(others.items()):
        faults.add(str(folder), f"{count} file(s) '{brief(suffix)}' are of no format that is read")
    for name, entry in index.items():
        faults.add(entry["place"], f"field 'file': there is no '{brief(name)}' in the folder")


def _index(folder: Path, faults: Faults) -> dict[str, dict[str, Any]]:
    """File → address, date, source and tags, from a table in the folder that says so."""
    found: dict[str, dict[str, Any]] = {}
    for path in filter(Path.is_file, (folder / name for name in INDEX_NAMES)):
        for place, entry in read_entries(path, None, faults):
            if entry.get("file"):
                found[str(entry["file"])] = {**entry, "place": place}
            else:
                faults.add(place, "field 'file': missing; an index names the file of each page")
    return found


def _fetched(folder: Path, faults: Faults) -> Iterator[RawPage]:
    for line in latest_lines(folder / JOURNAL).values():
        if line["outcome"] != "page":
            continue
        path = folder / str(line["file"])
        data = _bytes(path, faults)
        if data is None:
            continue
        if hashlib.sha256(data).hexdigest() != line["sha256"]:
            faults.add(str(path), f"not what was fetched from {line['url']}; fetch it again")
            continue
        yield RawPage(
            id=line["url"],
            data=data,
            url=line.get("final") or line["url"],
            fetched=line["fetched"],
            charset=_charset(line.get("media", "")),
        )


def _file(
    path: Path, name: str, entry: Mapping[str, Any], faults: Faults, columns: Mapping[str, str]
) -> Iterator[RawPage]:
    lower = path.name.lower()
    if lower.endswith(WARC_SUFFIXES):
        yield from _warc(path, faults)
    elif lower.endswith(HTML_SUFFIXES):
        data = _bytes(path, faults)
        if data is not None:
            given = {key: str(entry[key]) for key in ("url", "fetched", "source") if entry.get(key)}
            yield RawPage(id=name, data=data, tags=_listed(entry.get("tags")), **given)
    else:
        yield from _table(path, faults, columns)


def _table(path: Path, faults: Faults, columns: Mapping[str, str]) -> Iterator[RawPage]:
    names = {field: (columns[field],) if field in columns else FIELDS[field] for field in FIELDS}
    try:
        for place, entry in read_entries(path, None, faults):
            values = {
                field: next((entry[name] for name in known if entry.get(name)), "")
                for field, known in names.items()
            }
            if not isinstance(values["text"], str) or not values["text"]:
                told = " or ".join(f"'{name}'" for name in names["text"])
                faults.add(place, f"no text; it should stand in the column {told}")
                continue
            yield RawPage(
                id=str(values["id"] or place),
                data=values["text"],
                url=str(values["url"]),
                fetched=str(values["fetched"]),
                source=str(values["source"]),
                tags=_listed(values["tags"]),
            )
    except OSError as error:
        faults.add(str(path), f"cannot be read ({error.strerror or error})")


def _warc(path: Path, faults: Faults) -> Iterator[RawPage]:
    """The HTML answers in a WARC file; what is no page of its own is passed over."""
    try:
        from fastwarc.warc import ArchiveIterator, WarcRecordType
    except ImportError:
        faults.add(str(path), "reading WARC needs an extra: pip install 'drenpa[web]'")
        return
    number = 0
    try:
        with path.open("rb") as file:
            if not file.read(1):
                faults.add(str(path), "holds no records")
                return
            file.seek(0)
            for record in ArchiveIterator(
                file, record_types=WarcRecordType.response, parse_http=True
            ):
                number += 1
                place = f"{path}:{number}"
                url = str(record.headers.get("WARC-Target-URI", "")).strip("<>")
                if not _is_page(record):
                    continue
                if record.content_length > MAX_PAGE_BYTES:
                    faults.add(place, f"a page of {record.content_length} bytes; too large")
                    continue
                data = record.reader.read()
                if len(data) < record.content_length:
                    faults.add(place, f"{brief(url)} is cut short; the file is not whole")
                    continue
                yield RawPage(
                    id=url or place,
                    data=data,
                    url=url,
                    fetched=record.record_date.isoformat() if record.record_date else "",
                    charset=record.http_charset or "",
                )
    except (OSError, ValueError, EOFError) as error:
        what = " ".join(str(error).split())[:200]
        faults.add(f"{path}:{number + 1}", f"not WARC that can be read from here on ({what})")


def _is_page(record: Any) -> bool:
    if record.http_headers is None or record.http_headers.status_code != 200:
        return False
    media = record.http_content_type or "text/html"
    return media in ("text/html", "application/xhtml+xml", "text/plain")


def _bytes(path: Path, faults: Faults) -> bytes | None:
    try:
        if path.stat().st_size > MAX_PAGE_BYTES:
            faults.add(str(path), f"larger than {MAX_PAGE_BYTES // 2**20} MiB; no single page")
            return None
        return path.read_bytes()
    except OSError as error:
        faults.add(str(path), f"cannot be read ({error.strerror or error})")
        return None


def _charset(media: str) -> str:
    for part in media.split(";")[1:]:
        key, _, value = part.strip().partition("=")
        if key.lower() == "charset":
            return value.strip("\"' ")
    return ""


def _listed(value: Any) -> tuple[str, ...]:
    """Tags, given as a list or as words between semicolons."""
    parts = value.split(";") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        return ()
    return tuple(text for part in parts if (text := str(part).strip()))
