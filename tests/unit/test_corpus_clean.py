"""Cleaning changes how a text is written, never what it says; Tibetan gets one spelling."""

import os
from pathlib import Path

import pytest

from drenpa.core.records import Page
from drenpa.corpus.clean import (
    clean_page,
    clean_text,
    decode,
    drop_debris,
    html_to_text,
    language_by_script,
)
from drenpa.corpus.tibetan import normalise_tibetan, sentences

SHARED = Path(os.environ.get("DRENPA_SHARED", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def udhr():
    folder = SHARED / "tibetan" / "udhr"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set DRENPA_SHARED to the folder of shared data")
    return folder


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("ཡིན་།", "ཡིན།"),  # no tsheg before shad …
        ("དང་།", "དང་།"),  # … except after nga,
        ("དང་ །", "དང་།"),  # where no space belongs between them
        ("དང །", "དང་།"),
        ("བྲིས །", "བྲིས།"),  # word-segmented text stands a space before the shad
        ("ཤོག །", "ཤོག །"),  # after ka, ga, sha the space stands for the first shad
        ("གྲྭ །", "གྲྭ།"),  # not when the letter carries others below it
        ("བོད་་ཡིག", "བོད་ཡིག"),
        ("བོད ་ ཡིག", "བོད་ ཡིག"),
        ("བོད༌ཡིག", "བོད་ཡིག"),  # U+0F0C
        ("\u0f77", "\u0fb2\u0f71\u0f80"),
        (
            "\u0f66\u0f7c\u0f90\u0f62",
            "\u0f66\u0f90\u0f7c\u0f62",
        ),  # vowel typed before the subjoined
        ("\u0f42\u0f72\u0f72", "\u0f42\u0f72"),  # a vowel typed twice
        ("\u0f43", "\u0f42\u0fb7"),  # NFC's own
    ],
)
def test_tibetan_gets_its_one_spelling(typed, right):
    assert normalise_tibetan(typed) == right
    assert clean_text(typed) == right


def test_sentences_end_at_the_shad_with_or_without_a_space():
    assert sentences("ཁྱི་འདུག།ཞི་མི་འདུག།  བྱ་འདུག") == ["ཁྱི་འདུག།", "ཞི་མི་འདུག།", "བྱ་འདུག"]
    assert sentences("One. Two! 三。四") == ["One.", "Two!", "三。", "四"]


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("a\x00b\ufeffc\u200bd", "abcd"),
        ("e\u0301", "é"),
        ("soft\u00adhyphen", "softhyphen"),
        ("one\u2028two\r\nthree\x0bfour", "one\ntwo\nthree\nfour"),
        ("\ue000private\ud800", "private"),
        ("क्\u200dष", "क्\u200dष"),  # the joiner that Devanagari needs stays
        ("ཀ\u200dཁ", "ཀཁ"),  # in Tibetan it is a slip
        ("ａ，b", "ａ，b"),  # full-width signs are right in Chinese
        ("x <= y & z", "x <= y & z"),
    ],
)
def test_characters_are_mended(typed, right):
    assert clean_text(typed) == right


@pytest.mark.parametrize(
    ("data", "declared", "text", "encoding"),
    [
        ("བོད".encode(), "", "བོད", "utf-8"),
        (b"\xef\xbb\xbfabc", "", "abc", "utf-8-sig"),
        ("水".encode("utf-16"), "", "水", "utf-16"),
        ("水往低处流".encode("gb18030"), "utf-8", "水往低处流", "gb18030"),
        ("水往低處流".encode("big5"), "big5", "水往低處流", "big5"),
        (
            b"<meta charset=big5>" + "水往低處流".encode("big5"),
            "",
            "<meta charset=big5>水往低處流",
            "big5",
        ),
        (
            "Привет".encode("cp1251"),
            "no-such-encoding",
            "Привет".encode("cp1251").decode("gb18030"),
            "gb18030",
        ),
        (b"caf\xe9!", "", "café!", "latin-1"),
    ],
)
def test_bytes_are_decoded_by_mark_then_utf8_then_declaration(data, declared, text, encoding):
    assert decode(data, declared) == (text, encoding)


def test_html_gives_blocks_on_lines_and_no_navigation_or_code():
    page = html_to_text(
        "<html lang=en><head><title>On&nbsp;snow</title><style>p{}</style></head><body>"
        "<nav>Home</nav><h1>Snow <em>and</em> ice</h1><script>alert('x')</script>"
        "<p>It <b>fal</b>ls.<br>It melts &amp; runs.</p><!-- secret --><ul><li>one<li>two</ul>"
        "<footer>imprint</footer></body></html>"
    )
    assert page.text.split("\n") == [
        "Snow and ice",
        "",
        "It falls.",
        "It melts & runs.",
        "",
        "one",
        "",
        "two",
    ]
    assert (page.title, page.headings, page.language) == ("On snow", ("Snow and ice",), "en")


@pytest.mark.parametrize("html", ["", "<", "<p", "plain words", "<p>\ud800</p>", "<div>" * 20000])
def test_broken_html_is_read_as_far_as_it_goes(html):
    assert html_to_text(html).text in ("", "<", "plain words", "?")


def test_debris_is_lines_without_letters_or_of_another_script():
    text = "ཁྱི་ཆུང་།\n12\n\n2018 / 40\nISBN 978-7-5700\nཞི་མི། 3/16\n///"
    left, dropped = drop_debris(text, "bo")
    assert left == "ཁྱི་ཆུང་།\n\nཞི་མི།"
    assert dropped == ("12", "2018 / 40", "ISBN 978-7-5700", "///")


def test_the_language_goes_by_the_script_of_most_letters():
    assert language_by_script("ཁྱི་ཆུང་ཞིག ok") == "bo"
    assert language_by_script("123 !") == ""


def test_a_page_is_cleaned_and_its_headings_become_tags():
    page = Page(id="p", text="<html><body><h1>Snow</h1><p>It falls.</p><p>3</p></body></html>")
    clean = clean_page(page)
    assert clean.page.text == "Snow\n\nIt falls."
    assert clean.page.tags == ("Snow",)
    assert clean.dropped == ("3",)


@pytest.mark.parametrize("language", ["bod", "dzo", "eng"])
def test_every_paragraph_of_a_real_page_is_found(udhr, language):
    html = (udhr / f"udhr_{language}.html").read_text(encoding="utf-8")
    page = html_to_text(html)
    assert html.count("<p>") > 50
    assert len([line for line in page.text.split("\n") if line]) >= html.count("<p>")
    assert "<" not in page.text
    assert len(page.headings) >= 31
