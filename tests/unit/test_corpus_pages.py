"""Pages of every origin are read one by one; what cannot be read is told, the rest goes on."""

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from drenpa.core.errors import DataError
from drenpa.corpus.annotate import Store, read_drafts
from drenpa.corpus.clean_pages import Cleaning, clean_into, clean_page, clean_told
from drenpa.corpus.fetch import JOURNAL
from drenpa.corpus.formats import Faults
from drenpa.corpus.html import SiteRule
from drenpa.corpus.pages import RawPage, raw_pages

WORDS = "The river falls from the snow to the plain, and the fields drink from it. " * 3


def read(*places: Path | str, **columns: str) -> tuple[list[RawPage], list[str]]:
    faults = Faults()
    pages = list(raw_pages([str(place) for place in places], faults, columns=columns))
    return pages, faults.lines


def put(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_a_folder_of_html_is_read_in_order_with_what_an_index_says(tmp_path):
    folder = put(
        tmp_path / "site",
        b_html="<p>two",
        a__x_html="<p>one",
        notes_docx="?",
        index_csv="file,url,fetched,tags\na/x.html,https://e.org/x,2026-05-01,snow;ice\ngone.html,,,\n",
    )
    pages, faults = read(folder)
    assert [page.id for page in pages] == ["site/a/x.html", "site/b.html"]
    assert (pages[0].url, pages[0].fetched) == ("https://e.org/x", "2026-05-01")
    assert pages[0].tags == ("snow", "ice")
    assert faults == [
        f"{folder}: 1 file(s) '.docx' are of no format that is read",
        f"{folder / 'index.csv'}:3: field 'file': there is no 'gone.html' in the folder",
    ]


def test_what_was_fetched_is_read_with_its_address_and_a_changed_file_is_a_fault(tmp_path):
    put(tmp_path, pages__a_html="<p>one", pages__b_html="<p>changed")
    entry = {
        "url": "https://e.org/a",
        "outcome": "page",
        "final": "https://e.org/new",
        "fetched": "2026-05-01T10:00:00+00:00",
        "media": 'text/html; charset="big5"',
        "file": "pages/a.html",
        "sha256": hashlib.sha256(b"<p>one").hexdigest(),
    }
    lines = [
        entry,
        entry | {"url": "https://e.org/b", "file": "pages/b.html"},
        entry | {"url": "https://e.org/c", "file": "pages/c.html"},
        {"url": "https://e.org/d", "outcome": "refused", "reason": "status 404"},
    ]
    (tmp_path / JOURNAL).write_text("\n".join(map(json.dumps, lines)))
    pages, faults = read(tmp_path)
    assert [(page.id, page.url, page.charset) for page in pages] == [
        ("https://e.org/a", "https://e.org/new", "big5")
    ]
    assert "not what was fetched from https://e.org/b" in faults[0]
    assert "pages/c.html: cannot be read" in faults[1]


def warc_record(url: str, body: bytes, media: str = "text/html", status: str = "200 OK") -> bytes:
    http = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
    block = http.encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\n"
        "WARC-Date: 2026-05-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


RECORDS = (
    warc_record("https://e.org/a", "<p>水".encode("big5"), "text/html; charset=big5"),
    warc_record("https://e.org/b", b"gone", status="404 Not Found"),
    warc_record("https://e.org/c", b"\x89PNG", "image/png"),
    warc_record("https://e.org/d", b"<p>two"),
)


@pytest.mark.parametrize("name", ["x_warc", "x_warc_gz"])
def test_the_pages_in_a_warc_are_read_with_address_date_and_charset(tmp_path, name):
    content = b"".join(map(gzip.compress, RECORDS) if name.endswith("gz") else RECORDS)
    pages, faults = read(put(tmp_path, **{name: content}))
    assert [(page.id, page.fetched[:10], page.charset) for page in pages] == [
        ("https://e.org/a", "2026-05-01", "big5"),
        ("https://e.org/d", "2026-05-01", ""),
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("content", "read_ids", "fault"),
    [
        (RECORDS[0] + RECORDS[3][:-8], ["https://e.org/a"], ":2: https://e.org/d is cut short"),
        (RECORDS[0] + b"junk\r\n\r\n" + RECORDS[3], ["https://e.org/a"], ":2: not WARC"),
        (b"junk", [], ":1: not WARC"),
        (b"", [], "holds no records"),
    ],
)
def test_a_damaged_warc_gives_what_is_whole_and_a_fault(tmp_path, content, read_ids, fault):
    pages, faults = read(put(tmp_path, x_warc=content))
    assert [page.id for page in pages] == read_ids
    assert len(faults) == 1
    assert fault in faults[0]


def test_tables_are_read_whatever_their_columns_are_called(tmp_path):
    rows = [{"content": "one", "link": "https://e.org/1", "keywords": ["snow"]}, {"content": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    put(tmp_path, b_jsonl='{"text": "two", "id": 7}\nbroken\n{"text": 3}\n{"words": "x"}\n')
    pages, faults = read(tmp_path)
    assert [(page.id, page.data, page.tags) for page in pages] == [
        ("https://e.org/1", "one", ("snow",)),
        ("7", "two", ()),
    ]
    assert [fault.split(": ")[0].rpartition("/")[2] for fault in faults] == [
        "a.parquet:2",
        "b.jsonl:2",
        "b.jsonl:3",
        "b.jsonl:4",
    ]
    named, _ = read(tmp_path / "b.jsonl", text="words")
    assert [page.data for page in named] == ["x"]


def test_no_such_place_is_a_fault_and_the_others_are_read(tmp_path):
    pages, faults = read(tmp_path / "none", put(tmp_path / "site", a_html="<p>one"))
    assert len(pages) == 1
    assert faults == [f"{tmp_path / 'none'}: no such file or folder"]


def test_a_page_is_cleaned_by_its_sites_rule_and_its_structure_suggests_a_kind():
    html = (
        "<title>Site</title><div class=crumbs><a>Grammar</a></div><h1>What is a verb?</h1>"
        "<article><p>A doing word.<p>3</article><p>Subscribe to our letter"
    )
    rule = SiteRule(site="e.org", text="article", title="h1", breadcrumbs=".crumbs a")
    result = clean_page(RawPage("p", html.encode(), url="https://e.org/x"), Cleaning(rules=(rule,)))
    assert result.page is not None
    assert result.page.text == "A doing word."
    assert (result.page.title, result.page.breadcrumbs) == ("What is a verb?", ("Grammar",))
    assert (result.page.kind, result.page.kind_source) == ("foundation", "rules")
    assert "in the breadcrumbs" in " ".join(result.page.kind_reasons)
    assert {(gone.line, gone.reason) for gone in result.dropped} >= {
        ("3", "no letters"),
        ("Subscribe to our letter", "boilerplate"),
    }
    assert result.page.source == "e.org"


def test_personal_data_is_flagged_scrubbed_dropped_or_kept():
    raw = RawPage("p", "Write to pema@example.org about the snow.")
    flagged = clean_page(raw).page
    assert flagged is not None
    assert flagged.personal == {"email": 1}
    assert "pema@" in flagged.text
    scrubbed = clean_page(raw, Cleaning(personal="scrub")).page
    assert scrubbed is not None
    assert scrubbed.text == "Write to [email] about the snow."
    assert clean_page(raw, Cleaning(personal="drop")).reason == "personal"
    kept = clean_page(raw, Cleaning(personal="keep")).page
    assert kept is not None
    assert kept.personal == {}


def test_personal_data_around_the_text_is_treated_as_in_it(tmp_path):
    body = (
        "<title>Ask pema@example.org</title><nav class=crumbs><a>Mail dolma@example.org</a></nav>"
        f"<article><h2>Ring tashi@example.org</h2><p>{WORDS}</p></article>"
    )
    url = "https://e.org/?to=lhamo@example.org"
    raw = RawPage(url, body, url=url, tags=("karma@example.org",))
    rule = SiteRule(site="e.org", text="article", title="title", breadcrumbs=".crumbs a")
    flagged = clean_page(raw, Cleaning(rules=(rule,)))
    assert flagged.page is not None
    people = {"pema", "dolma", "tashi", "lhamo", "karma"}
    assert {text.partition("@")[0] for _, text in flagged.flagged} == people
    assert flagged.page.personal == {"email": 5}  # that of the address counts once
    scrubbed = clean_page(raw, Cleaning(rules=(rule,), personal="scrub"))
    assert scrubbed.page is not None
    assert "@" not in scrubbed.page.model_dump_json()
    assert (scrubbed.page.url, scrubbed.page.tags) == ("https://e.org/?to=[email]", ("[email]",))
    assert scrubbed.page.personal == {"email": 5}
    assert scrubbed.flagged == ()
    other = clean_page(replace(raw, id=url.replace("lhamo", "dawa")), Cleaning(personal="scrub"))
    assert other.id != scrubbed.id  # no page goes because its address looks alike without names
    assert clean_page(replace(raw, data=WORDS), Cleaning(personal="drop")).reason == "personal"
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "a", "text": body, "url": url}) + "\n")
    clean_into([str(tmp_path / "in.jsonl")], tmp_path / "out", Cleaning(personal="scrub"))
    for name in ("pages.jsonl", "drafts.jsonl", "flagged.jsonl"):
        assert "@" not in (tmp_path / "out" / name).read_text()


def test_half_a_character_beside_the_text_is_mended_and_stops_nothing(tmp_path):
    row = {"id": "a\ud800", "text": WORDS, "url": "https://e.org/\ud800", "tags": ["\ud800"]}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    clean_into([str(tmp_path / "in.jsonl")], tmp_path / "out", Cleaning())
    page = json.loads((tmp_path / "out" / "pages.jsonl").read_text())
    assert (page["id"], page["url"], page["tags"]) == ("a?", "https://e.org/?", ["?"])


def test_names_are_flagged_for_a_person_and_nothing_else_is_done_about_them(tmp_path):
    put(tmp_path / "in", a_txt="Ask Mrs Pema Dolma, pema@example.org, about it.", b_txt=WORDS)
    told = {}
    for treatment in ("flag", "scrub", "drop"):
        out = tmp_path / treatment
        told[treatment] = clean_into([str(tmp_path / "in")], out, Cleaning(personal=treatment))
        lines = (out / "flagged.jsonl").read_text().splitlines()
        told[treatment] |= {"flagged": [json.loads(line) for line in lines]}
    name = {"page": "in/a.txt", "sort": "name", "text": "Pema Dolma"}
    email = {"page": "in/a.txt", "sort": "email", "text": "pema@example.org"}
    assert told["flag"]["flagged"] == [name, email]
    assert told["scrub"]["flagged"] == [name]
    assert told["flag"]["personal"] == told["scrub"]["personal"] == {"email": 1, "name": 1}
    assert told["drop"]["flagged"] == []
    assert told["drop"]["pages"]["dropped"] == {"personal": 1}
    assert clean_page(RawPage("p", "Ask Mrs Pema Dolma."), Cleaning(personal="drop")).page


def test_each_page_read_is_kept_or_dropped_under_one_reason(tmp_path):
    put(
        tmp_path / "in",
        a_html=f"<p>{WORDS}<p>12",
        b_html="<p>12 / 40",
        c_html="<p>水往低处流，人往高处走。",
        d_html="<p>Hi.",
        e_html="<div>" * 5000 + WORDS,
        rows_jsonl=f'{{"text": "{WORDS}", "id": "same"}}\n{{"text": "{WORDS}", "id": "same"}}\nx\n',
    )
    counts = clean_into(
        [str(tmp_path / "in")],
        tmp_path / "out",
        Cleaning(languages=("en",), shortest=10),
        workers=1,
    )
    assert counts["pages"]["dropped"] == {
        "empty": 1,
        "language": 1,
        "short": 1,
        "nested": 1,
        "id": 1,
    }
    assert counts["pages"]["read"] == counts["pages"]["kept"] + 5 == 7
    assert counts["faults"] == 1
    assert json.loads((tmp_path / "out" / "counts.json").read_text()) == counts

    def lines(name: str) -> list[dict[str, str]]:
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    assert [page["id"] for page in lines("pages.jsonl")] == ["in/a.html", "same"]
    assert [draft["id"] for draft in lines("drafts.jsonl")] == ["in/a.html", "same"]
    whole = [gone for gone in lines("dropped.jsonl") if "line" not in gone]
    assert len(whole) == sum(counts["pages"]["dropped"].values())
    assert len(lines("dropped.jsonl")) - len(whole) == sum(counts["lines"]["dropped"].values())
    assert "rows.jsonl:3: broken JSON" in (tmp_path / "out" / "faults.txt").read_text()


def test_the_drafts_go_into_the_rounds_and_the_rules_are_named_as_the_source(tmp_path):
    html = "<html lang=ru><title>{}</title><p>{}"
    put(
        tmp_path / "in",
        a_html=html.format("What is a verb?", "A verb is a doing word, as the grammar says."),
        b_html=html.format("Река", "Река течёт с гор на равнину и поит поля."),
    )
    clean_into([str(tmp_path / "in")], tmp_path / "out", Cleaning(), workers=1)
    drafts = read_drafts(tmp_path / "out" / "drafts.jsonl")
    assert [draft.language for draft in drafts] == ["en", "ru"]
    with Store(tmp_path / "rounds.db") as store:
        store.add(drafts, actor="import")
        verb = store.item("in/a.html")
    assert (verb.kind, verb.kind_source) == ("foundation", "rules")


def test_two_processes_clean_as_one_does_and_in_the_same_order(tmp_path):
    rows = [{"id": str(number), "text": f"{WORDS} {number} a"} for number in range(150)]
    put(tmp_path, rows_jsonl="\n".join(map(json.dumps, rows)))
    for workers in (1, 2):
        clean_into(
            [str(tmp_path / "rows.jsonl")], tmp_path / str(workers), Cleaning(), workers=workers
        )
    for path in (tmp_path / "1").iterdir():
        assert path.read_bytes() == (tmp_path / "2" / path.name).read_bytes()


def test_a_folder_that_holds_something_is_not_written_into(tmp_path):
    put(tmp_path / "out", a_txt="mine")
    with pytest.raises(DataError, match="is there already"):
        clean_into([str(tmp_path)], tmp_path / "out", Cleaning())


def test_a_run_that_found_nothing_or_was_stopped_can_be_run_again(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="holds no pages"):
        clean_into([str(tmp_path / "in")], tmp_path / "out", Cleaning())
    with pytest.raises(DataError, match="no such file or folder"):
        clean_into([str(tmp_path / "none")], tmp_path / "out", Cleaning())
    put(tmp_path / "in", a_html=f"<p>{WORDS}")
    assert clean_into([str(tmp_path / "in")], tmp_path / "out", Cleaning(), workers=1)["pages"] == {
        "read": 1,
        "kept": 1,
        "dropped": {},
    }


def test_wrong_columns_and_a_missing_folder_are_told():
    with pytest.raises(DataError, match=r"'txt=body': write field=column; fields: text, id"):
        clean_told(["a", "b"], Cleaning(), columns=["txt=body"], workers=1, say=print)
    with pytest.raises(DataError, match="name the pages first"):
        clean_told(["a"], Cleaning(), columns=[], workers=1, say=print)
