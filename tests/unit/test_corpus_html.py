"""Text and structure are taken out of HTML by a site's rule or the generic way; what is left out is
told."""

import os
from pathlib import Path

import pytest

from drenpa.core.errors import DataError
from drenpa.corpus.html import SiteRule, decode, html_to_text, load_rules

SHARED = Path(os.environ.get("DRENPA_SHARED", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def udhr():
    folder = SHARED / "tibetan" / "udhr"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set DRENPA_SHARED to the folder of shared data")
    return folder


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
        ("Привет".encode("cp1251"), "no-such-encoding", "Привет", "cp1251"),
        ("こんにちは世界".encode("shift_jis"), "", "こんにちは世界", "shift_jis"),
        ("café déjà vu, naïve".encode("cp1252"), "", "café déjà vu, naïve", "cp1252"),
    ],
)
def test_bytes_are_decoded_by_mark_then_utf8_then_declaration(data, declared, text, encoding):
    assert decode(data, declared) == (text, encoding)


PAGE = """<html lang=en><head><title>On&nbsp;snow</title><style>p{}</style>
<link rel=canonical href=https://example.org/snow><meta name=keywords content="snow, ice">
<script type="application/ld+json">{"@type": "BreadcrumbList", "itemListElement": [
 {"name": "Nature"}, {"item": {"name": "Weather"}}]}</script></head><body>
<nav><a href=/>Home</a> <a href=/about>About</a></nav><h1>Snow <em>and</em> ice</h1>
<script>alert('x')</script><p>It <b>fal</b>ls from clouds when the air is cold.<br>
It melts &amp; runs down to the plain.</p><!-- secret -->
<ol><li>Wait for the cold.<li>Look up.</ol>
<aside>Buy skis</aside><footer>imprint</footer></body></html>"""


def test_the_generic_way_keeps_the_content_and_tells_what_it_left_out():
    page = html_to_text(PAGE)
    assert [line for line in page.text.split("\n") if line] == [
        "Snow and ice",
        "It falls from clouds when the air is cold.",
        "It melts & runs down to the plain.",
        "Wait for the cold.",
        "Look up.",
    ]
    assert "Buy skis" in page.left_out
    assert "imprint" in page.left_out
    assert not set(page.left_out) & set(page.text.split("\n"))


def test_what_a_page_says_of_itself_is_kept():
    page = html_to_text(PAGE)
    assert page.title == "On snow"
    assert page.breadcrumbs == ("Nature", "Weather")
    assert page.headings == ("Snow and ice",)
    assert page.tags == ("snow", "ice")
    assert (page.language, page.url) == ("en", "https://example.org/snow")


def test_a_rule_takes_the_parts_that_it_names_and_nothing_inside_them_twice():
    rule = SiteRule(
        site="*.example.org", text="article, article p", title="h1", drop=(".ad",), tags=".t"
    )
    page = html_to_text(
        "<title>Site</title><h1>Why?</h1><p>Intro</p><article><p>Because <i>of</i> rain."
        "<p class=ad>Buy</article><article>More.</article><span class=t>water</span>",
        rule,
    )
    assert [line for line in page.text.split("\n") if line] == ["Because of rain.", "More."]
    assert (page.title, page.tags) == ("Why?", ("water",))
    assert page.left_out == ("Why?", "Intro", "Buy", "water")


def test_a_rule_that_finds_nothing_gives_way_to_the_generic_way():
    page = html_to_text(PAGE, SiteRule(site="*", text=".no-such"))
    assert page.text == html_to_text(PAGE).text


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://www.example.org/a/b", True),
        ("https://WWW.Example.org:8080/a/", True),
        ("https://example.org/a/b", False),
        ("https://www.example.org/b", False),
        ("", False),
    ],
)
def test_a_rule_is_for_the_hosts_and_paths_it_names(url, fits):
    assert SiteRule(site="*.example.org", path="/a/*", text="p").fits(url) is fits


def test_rules_are_read_and_every_fault_in_them_is_told(tmp_path):
    path = tmp_path / "sites.yaml"
    path.write_text("- {site: a.org, text: article}\n- {site: b.org, text: p, drop: [.ad]}\n")
    assert [rule.site for rule in load_rules(path)] == ["a.org", "b.org"]
    path.write_text("- {site: a.org, txt: p}\n- {site: b.org, text: 'p['}\n")
    with pytest.raises(DataError) as caught:
        load_rules(path)
    assert [fault.removeprefix(f"{path}: ") for fault in caught.value.faults] == [
        "rule 1: 'text': field required",
        "rule 1: 'txt': extra inputs are not permitted; did you mean 'text'?",
        "rule 2: 'text': 'p[' is no CSS selector",
    ]


@pytest.mark.parametrize("html", ["", "<", "<p", "plain words", "<p>\ud800</p>", "<div>" * 20000])
def test_broken_html_is_read_as_far_as_it_goes(html):
    assert html_to_text(html).text in ("", "<", "plain words", "?")


@pytest.mark.parametrize("language", ["bod", "dzo", "eng"])
def test_every_paragraph_of_a_real_page_is_found(udhr, language):
    html = (udhr / f"udhr_{language}.html").read_text(encoding="utf-8")
    page = html_to_text(html)
    assert html.count("<p>") > 50
    assert len([line for line in page.text.split("\n") if line]) >= html.count("<p>")
    assert "<" not in page.text
    assert len(page.headings) >= 31
