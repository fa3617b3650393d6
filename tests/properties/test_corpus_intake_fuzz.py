"""The readers of HTML, JSON Lines and CSV under fire: no crash, no hang, nothing lost unsaid."""

import csv
import io
import json
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from drenpa.corpus.clean_pages import Cleaned, clean_page
from drenpa.corpus.formats import Faults, read_entries
from drenpa.corpus.html import SiteRule, html_to_text
from drenpa.corpus.pages import RawPage

LONG = settings(
    max_examples=4000,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
SHORT = settings(LONG, max_examples=120)
MOST_S = 5.0

SIGNS = """<p> </p> <div class=a> </div> <ul><li> </ul> <table><tr><td> </table> <script> </script>
<!-- --> <![CDATA[ ]]> <title> </title> <h1> <a href=x> </a> <br> <b <i/> & &amp; &#x0; &#xffff;
&bogus; ' " = < > <html lang= <meta charset=big5> <svg><foreignObject> <template> <select>
<textarea> <plaintext> <noscript> <iframe> \x00 \ufeff \u202e ཀ ྐ ི ་ ། ༀ 水 w é"""
pieces = st.sampled_from(SIGNS.split()) | st.just(" ")
markup = st.lists(pieces | st.text(max_size=6), max_size=60).map("".join)
words = st.integers(0, 10**6).map(lambda number: f"word{number}x")
blocks = st.sampled_from(
    ["p", "div", "li", "h2", "td", "nav", "aside", "footer", "section", "blockquote", "span", "b"]
)


def trees(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(blocks, st.lists(inner, max_size=4)).map(
        lambda node: f"<{node[0]}>{' '.join(node[1])}</{node[0]}>"
    )


pages = st.lists(st.recursive(words, trees, max_leaves=25), min_size=1, max_size=5).map(
    lambda parts: f"<html><body>{''.join(f'<div>{part}</div>' for part in parts)}</body></html>"
)


def cleaned_in_time(data: bytes | str) -> Cleaned:
    began = time.process_time()
    result = clean_page(RawPage("p", data))
    assert time.process_time() - began < MOST_S
    assert (result.page is None) == bool(result.reason)
    if result.page is not None:
        result.page.model_dump_json()
    return result


def bytes_of_any_sort(data: bytes) -> None:
    cleaned_in_time(data)


def markup_of_any_sort(text: str) -> None:
    cleaned_in_time(f"<html>{text}")
    html_to_text(text, SiteRule(site="*", text="p, div, li", drop=("b",)))


def each_word_is_kept_or_told(html: str) -> None:
    result = cleaned_in_time(html)
    text = result.page.text if result.page is not None else ""
    told = text + "\n".join(gone.line for gone in result.dropped)
    missing = [word for word in set(_words_of(html)) if word not in told]
    assert not missing


def _words_of(html: str) -> list[str]:
    return [part for part in html.replace("<", " <").replace(">", "> ").split() if part[0] == "w"]


def entries_of(content: bytes, suffix: str) -> tuple[dict[str, dict[str, object]], list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(content)
        faults = Faults()
        began = time.process_time()
        found = {place.rpartition(":")[2]: row for place, row in read_entries(path, None, faults)}
        assert time.process_time() - began < MOST_S
        return found, [line.removeprefix(f"{path}:") for line in faults.lines]


def each_json_line_is_a_row_or_a_fault(lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b" ").replace(b"\r", b" ") for line in lines]
    rows, faults = entries_of(b"\n".join([*lines, b""]), ".jsonl")
    if any(" or UTF-32, not UTF-8" in fault or "spread over lines" in fault for fault in faults):
        return  # the whole rest of the file is told to be of another sort
    told = {fault.partition(":")[0] for fault in faults}
    for number, line in enumerate(lines, 1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        blank = not text.decode("utf-8", "replace").strip()
        assert (str(number) in rows) + (str(number) in told) + blank == 1, (number, line)


def each_csv_row_is_read_between_broken_ones(cells: list[list[str]], broken: list[int]) -> None:
    rows = [[f"row{number}", *row] for number, row in enumerate(cells)]
    lines = []
    for row in rows:
        sink = io.StringIO()
        csv.writer(sink).writerow(row)
        lines.append(sink.getvalue())
    for place in broken:
        lines.insert(place % (len(lines) + 1), '"a"b,c,d\r\n')
    found, faults = entries_of(("id,x,y\r\n" + "".join(lines)).encode(), ".csv")
    assert [row["id"] for row in found.values()] == [row[0] for row in rows]
    assert len(faults) == len(broken)


json_lines = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=30).map(str.encode),
    st.dictionaries(st.text(max_size=4), st.text(max_size=8) | st.floats(), max_size=3).map(
        lambda entry: json.dumps(entry, ensure_ascii=False).encode()
    ),
)
cell = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=12)
csv_rows = st.lists(st.lists(cell, min_size=2, max_size=2), max_size=8)
encodable = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


@SHORT
@given(st.binary(max_size=200) | markup.map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_page_or_none(data):
    bytes_of_any_sort(data)


@SHORT
@given(pages)
def test_each_word_of_a_page_is_kept_or_told_as_left_out(html):
    each_word_is_kept_or_told(html)


@SHORT
@given(st.lists(json_lines, max_size=8))
def test_each_line_of_json_is_a_row_or_a_fault(lines):
    each_json_line_is_a_row_or_a_fault(lines)


@SHORT
@given(csv_rows, st.lists(st.integers(0, 20), max_size=3))
def test_each_row_of_a_table_is_read_whatever_stands_around_it(cells, broken):
    each_csv_row_is_read_between_broken_ones(cells, broken)


@pytest.mark.slow
@LONG
@given(st.binary(max_size=2000))
def test_fuzz_bytes(data):
    bytes_of_any_sort(data)


@pytest.mark.slow
@LONG
@given(markup)
def test_fuzz_markup(text):
    markup_of_any_sort(text)


@pytest.mark.slow
@LONG
@given(pages)
def test_fuzz_pages(html):
    each_word_is_kept_or_told(html)


@pytest.mark.slow
@LONG
@given(st.lists(json_lines, max_size=20))
def test_fuzz_json(lines):
    each_json_line_is_a_row_or_a_fault(lines)


@pytest.mark.slow
@LONG
@given(csv_rows, st.lists(st.integers(0, 20), max_size=5))
def test_fuzz_csv(cells, broken):
    each_csv_row_is_read_between_broken_ones(cells, broken)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "<div>" * 200_000,
        "<p>" * 200_000 + "end",
        "<a href='" * 100_000,
        "<!--" * 100_000,
        "<script>" * 100_000,
        "<meta " * 100_000,
        "&amp" * 200_000,
        "<table><tr><td>" * 20_000,
        "a" * 5_000_000,
        "1-" * 500_000,
        "1 2 3.4(5) " * 100_000,
        "a@" * 300_000,
        "a." * 300_000 + "@b",
        "00" * 500_000,
        "ཀི" * 300_000,
        "ཀ" + "ིྐ" * 200_000,
        "་ " * 300_000,
        ("ཀ " * 20 + "\n") * 5_000,
        "::" * 300_000,
        "བཀྲ་ཤིས་" * 100_000,
        "Mr A Bb " * 100_000,
        "Name: " * 100_000,
        "路" * 500_000 + "1号",
        "路1号" * 100_000,
        "a@b.cd " * 100_000,
        "王" * 300_000 + "先生",
        "1 Aa " * 100_000 + "Road",
        "Address: 1 " * 100_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_large_and_hostile_takes_seconds_at_most(text):
    began = time.process_time()
    clean_page(RawPage("p", text))
    clean_page(RawPage("p", f"<html><body>{text}".encode()))
    assert time.process_time() - began < 60.0
