"""From bytes and markup to clean text: decode, take the text out of HTML, mend characters, drop
debris.

`clean_text` is what every question and answer passes through; it changes how a text is written,
never what it says, and a second pass changes nothing. `clean_page` does the rest for web pages and
PDF extracts, and says what it took away.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drenpa.core.errors import DataError
from drenpa.core.records import Page
from drenpa.core.text import script_ratio, script_ratios
from drenpa.corpus.tibetan import join_segmented, normalise_tibetan

_SCRIPT_LANGUAGE = {"TIBETAN": "bo", "CJK": "zh", "LATIN": "en"}
_LINE_ENDS = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_JOINERS_BY_TIBETAN = re.compile(
    "(?<=[\u0f00-\u0fff])[\u200c\u200d]+|[\u200c\u200d]+(?=[\u0f00-\u0fff])"
)
_KEPT_FORMATS = "\u200c\u200d"
_PAGE_MARK = re.compile(r"\s*\b\d{1,4}\s*/\s*\d{1,4}\s*$")
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{2,40})", re.I)
_MARKUP = re.compile(r"<(?:!doctype|html|head|body|div|p|span|table|article)\b", re.I)
_NOT_TEXT = (
    "script, style, noscript, template, svg, iframe, object, nav, footer, aside, form, button, "
    "select, textarea"
)
_INLINE = re.compile(
    "a|abbr|b|bdi|bdo|cite|code|data|del|dfn|em|font|i|ins|kbd|mark|q|ruby|s|samp|small|span|"
    "strong|sub|sup|time|tt|u|var|wbr"
)


@dataclass(frozen=True)
class HtmlText:
    """What an HTML page says, and the parts of its structure that help to classify it.

    language: what the page claims in its `lang`, not what it is written in.
    """

    text: str
    title: str
    headings: tuple[str, ...]
    language: str


@dataclass(frozen=True)
class CleanPage:
    """A page after cleaning, and the lines that were taken for debris."""

    page: Page
    dropped: tuple[str, ...]


def clean_text(text: str) -> str:
    """Return the text in NFC, with plain spaces and line ends, without invisible characters.

    Control, private-use and zero-width characters go, except joiners that scripts need; runs of
    spaces become one, more than one empty line becomes one; Tibetan is normalised.

    >>> clean_text(" a\\u00a0 b\\u200b \\r\\n\\r\\n\\r\\nc ")
    'a b\\n\\nc'
    """
    text = _LINE_ENDS.sub("\n", text)
    text = text.translate(_MENDING)
    text = _JOINERS_BY_TIBETAN.sub("", text)
    text = normalise_tibetan(text)
    text = "\n".join(re.sub(" {2,}", " ", line).strip(" ") for line in text.split("\n"))
    return re.sub("\n{3,}", "\n\n", text).strip("\n ")


class _Mending(dict[int, str]):
    """A translation table that learns each character's replacement when it first meets it."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        category = unicodedata.category(sign)
        if sign == "\n":
            mended = sign
        elif category == "Zs" or sign == "\t":
            mended = " "
        elif category in ("Cc", "Cs", "Co") or (category == "Cf" and sign not in _KEPT_FORMATS):
            mended = ""
        else:
            mended = sign
        self[code] = mended
        return mended


_MENDING = _Mending()


def decode(data: bytes, declared: str = "") -> tuple[str, str]:
    """Return the text of a page's bytes and the encoding that was used.

    Tried in turn: a byte order mark, UTF-8, what the page declares, GB18030, Latin-1. UTF-8 comes
    before the declaration, since text that happens to be valid UTF-8 almost always is.

    >>> decode("水往低处流".encode("gb18030"))
    ('水往低处流', 'gb18030')
    """
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), encoding
    found = _META_CHARSET.search(data[:4096])
    meta = found[1].decode("ascii") if found else ""
    for encoding in ("utf-8", declared, meta, "gb18030"):
        if not encoding:
            continue
        try:
            return data.decode(encoding), encoding
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("latin-1"), "latin-1"


def html_to_text(html: str) -> HtmlText:
    """Take the text out of a page: block elements on lines of their own, no navigation, no code.

    raises: DataError when the extra `web` is not installed.
    """
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        raise DataError("reading HTML needs an extra: pip install 'drenpa[web]'") from None
    tree = LexborHTMLParser(html.encode("utf-8", "replace").decode("utf-8"))
    root = tree.root
    if root is None:
        return HtmlText("", "", (), "")
    title = tree.css_first("title")
    claimed = tree.css_first("[lang]")
    for node in tree.css(_NOT_TEXT):
        node.decompose()
    body = tree.body
    text = "".join(_text_of(body)) if body is not None else ""
    return HtmlText(
        text=clean_text(re.sub(r"[ \t]*\n[ \t]*", "\n", text)),
        title=clean_text(title.text()) if title is not None else "",
        headings=tuple(
            heading
            for node in tree.css("h1, h2, h3")
            if (heading := clean_text(" ".join(node.text().split())))
        ),
        language=str((claimed.attributes.get("lang") if claimed is not None else "") or ""),
    )


def _text_of(body: Any) -> Iterator[str]:
    """Yield the text nodes in order, with line ends where block elements begin and end.

    It walks with a stack of its own, so that no depth of nesting can exhaust Python's.
    """
    waiting: list[Any] = [body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            yield node
            continue
        if node.tag == "-text":
            yield re.sub(r"\s+", " ", node.text_content or "")
            continue
        if node.tag == "br":
            yield "\n"
            continue
        if node.tag.startswith(("-", "!", "_")):
            continue
        block = _INLINE.fullmatch(node.tag) is None
        children = list(node.iter(include_text=True))
        if block:
            yield "\n"
            waiting.append("\n")
        waiting += reversed(children)


def language_by_script(text: str) -> str:
    """Return bo, zh or en by the script of most letters, "" for another script or none.

    >>> language_by_script("བོད་ཡིག"), language_by_script("Привет")
    ('bo', '')
    """
    return _SCRIPT_LANGUAGE.get(next(iter(script_ratios(text)), ""), "")


def drop_debris(text: str, language: str = "") -> tuple[str, tuple[str, ...]]:
    """Take out the lines that are no text of the language; return the rest and what went.

    A line goes when it holds no letter (page numbers, rules), or when most of its letters are of
    another script than the language's. Page marks such as `3/16` at a line's end go too.

    >>> drop_debris("ཁྱི་ཆུང་ཞིག། 3/16\\n4/16\\n///", "bo")
    ('ཁྱི་ཆུང་ཞིག།', ('4/16', '///'))
    """
    kept: list[str] = []
    dropped: list[str] = []
    for line in text.split("\n"):
        bare = _PAGE_MARK.sub("", line)
        if not line.strip():
            kept.append("")
        elif script_ratios(bare) and script_ratio(bare, language) >= 0.5:
            kept.append(bare)
        else:
            dropped.append(line.strip())
    return re.sub("\n{3,}", "\n\n", "\n".join(kept)).strip("\n "), tuple(dropped)


def clean_page(page: Page) -> CleanPage:
    """Return the page with its text out of the markup, mended, and without debris.

    A page of HTML gets its title and headings as further tags, for the first classification.
    """
    text, tags = page.text, page.tags
    if _MARKUP.search(text[:4096]):
        html = html_to_text(text)
        text = html.text
        tags = tuple(dict.fromkeys((*tags, *filter(None, (html.title, *html.headings)))))
    text = join_segmented(clean_text(text))
    text, dropped = drop_debris(text, language_by_script(text))
    return CleanPage(page.model_copy(update={"text": text, "tags": tags}), dropped)
