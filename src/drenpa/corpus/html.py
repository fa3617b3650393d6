"""From a page's bytes to its text and its structure: encoding, site rules, the generic way.

Where a rule names the parts of a site's pages, its selectors take them. Elsewhere the main content
is told from navigation and advertising by resiliparse's heuristics, which are quick and right on
most pages and wrong on some: what was left out is returned, to be looked at. Title, breadcrumbs,
headings and tags are kept as what the page itself says about its subject.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drenpa.core.errors import DataError, did_you_mean
from drenpa.core.text import encodable
from drenpa.corpus.clean import clean_text

_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([A-Za-z0-9_.:-]{2,40})", re.I)
_MARKUP = re.compile(r"<(?:!doctype|html|head|body|div|p|span|table|article|h[1-6])\b", re.I)
_NOT_SHOWN = "script, style, noscript, template, svg, iframe, object"
_NOT_TEXT = "nav, footer, aside, form, button, select, textarea"
_INLINE = re.compile(
    "a|abbr|b|bdi|bdo|cite|code|data|del|dfn|em|font|i|ins|kbd|mark|q|ruby|s|samp|small|span|"
    "strong|sub|sup|time|tt|u|var|wbr"
)
_TAG = re.compile("<(/?)([A-Za-z][A-Za-z0-9]*)")
_FLAT = re.compile(
    "area|base|body|br|col|dd|dt|embed|head|hr|html|img|input|li|link|meta|option|p|source|t[drh]|"
    "tbody|tfoot|thead|track|wbr",
    re.I,
)
_DEEPEST = 3000
_BREADCRUMBS = (
    "[class*=breadcrumb i] a, [id*=breadcrumb i] a, [aria-label*=breadcrumb i] a, "
    "[itemtype*=BreadcrumbList i] [itemprop=name]"
)
_TAGS = "a[rel~=tag]"
_TAG_METAS = 'meta[property="article:tag"], meta[property="article:section"], meta[name=keywords i]'
_DATES = 'meta[property="article:published_time"], meta[name=date i], time[datetime]'
_ADDRESSES = "link[rel=canonical], meta[property='og:url']"
_MOST_NAMES, _LONGEST_NAME = 40, 200


class SiteRule(BaseModel):
    """Where the parts of a site's pages stand, as CSS selectors.

    site:    the host, with * for any part of it; path likewise.
    text:    the elements whose text is the page's, in the order of the page.
    title:   the page's title, or its question; empty takes the `<title>`.
    drop:    what is to go from inside those elements.
    breadcrumbs, tags: the links that say under what the page is filed; empty takes the usual ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: str = Field(min_length=1)
    path: str = "*"
    text: str = Field(min_length=1)
    title: str = ""
    drop: tuple[str, ...] = ()
    breadcrumbs: str = ""
    tags: str = ""

    def fits(self, url: str) -> bool:
        """Whether the rule is for this address."""
        parts = urlsplit(url)
        return fnmatchcase(parts.hostname or "", self.site.lower()) and fnmatchcase(
            parts.path or "/", self.path
        )


@dataclass(frozen=True)
class HtmlText:
    """What an HTML page says, and the parts of its structure that help to classify it.

    breadcrumbs: under what the page is filed, widest first.
    language:    what the page claims in its `lang`, not what it is written in.
    url, dated:  the address and date that the page gives itself; "" where it gives none.
    left_out:    lines of the page that are not in `text`: navigation and the like.
    """

    text: str
    title: str = ""
    breadcrumbs: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    language: str = ""
    url: str = ""
    dated: str = ""
    left_out: tuple[str, ...] = ()


def load_rules(path: Path) -> tuple[SiteRule, ...]:
    """Read site rules: a YAML list, the first rule that fits an address being the one that holds.

    raises: DataError with every rule that is none and every selector that cannot be read.
    """
    import yaml

    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(entries, list):
        raise DataError(f"{path}: should be a list of rules, each with `site` and `text`")
    rules: list[SiteRule] = []
    faults: list[str] = []
    for number, entry in enumerate(entries, 1):
        try:
            rules.append(SiteRule.model_validate(entry))
            faults += [f"{path}: rule {number}: {fault}" for fault in _bad_selectors(rules[-1])]
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                name = ".".join(str(part) for part in detail["loc"])
                hint = did_you_mean(name, set(SiteRule.model_fields) - {name})
                faults.append(f"{path}: rule {number}: '{name}': {detail['msg'].lower()}{hint}")
    if faults:
        raise DataError(faults)
    return tuple(rules)


def _bad_selectors(rule: SiteRule) -> Iterator[str]:
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError

    tree = LexborHTMLParser("<p>")
    for name, selector in (
        ("text", rule.text),
        ("title", rule.title),
        *(("drop", selector) for selector in rule.drop),
        ("breadcrumbs", rule.breadcrumbs),
        ("tags", rule.tags),
    ):
        try:
            tree.css(selector or "p")
        except SelectolaxError:
            yield f"'{name}': '{selector}' is no CSS selector"


def looks_like_html(text: str) -> bool:
    """Whether a text is markup rather than words.

    >>> looks_like_html("<p>Snow"), looks_like_html("a < b > c")
    (True, False)
    """
    return _MARKUP.search(text[:4096]) is not None


def decode(data: bytes, declared: str = "") -> tuple[str, str]:
    """Return the text of a page's bytes and the encoding that was used.

    Tried in turn: a byte order mark, UTF-8, what the server or the page declares, what the bytes
    look like, GB18030, Latin-1. UTF-8 comes before the declaration, since text that happens to be
    valid UTF-8 almost always is.

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
    for encoding in ("utf-8", declared, meta):
        if encoding and (text := _decoded(data, encoding)) is not None:
            return text, encoding
    for encoding in (_likely_encoding(data), "gb18030"):
        if encoding and (text := _decoded(data, encoding)) is not None:
            return text, encoding
    return data.decode("latin-1"), "latin-1"


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def _likely_encoding(data: bytes) -> str:
    from resiliparse.parse.encoding import detect_encoding

    return str(detect_encoding(data[: 2**16]))


def html_to_text(html: str, rule: SiteRule | None = None) -> HtmlText:
    """Take the text and the structure out of a page, block elements on lines of their own.

    A page that is nested too deep has no text.

    rule:   where its parts stand; where the rule finds no text, the generic way is taken.
    raises: DataError when the extra `web` is not installed.
    """
    try:
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.html import HTMLTree
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        raise DataError("reading HTML needs an extra: pip install 'drenpa[web]'") from None
    html = encodable(html)
    if is_nested_too_deep(html):
        return HtmlText("")
    tree = LexborHTMLParser(html)
    if tree.root is None:
        return HtmlText("")
    claimed = tree.css_first("[lang]")
    named = HtmlText(
        text="",
        title=_title(tree, rule),
        breadcrumbs=_breadcrumbs(tree, rule),
        headings=_names(node.text() for node in tree.css("h1, h2, h3")),
        tags=_tags(tree, rule),
        language=_attribute(claimed, "lang"),
        url=next(_attributes(tree, _ADDRESSES, "href", "content"), ""),
        dated=next(_attributes(tree, _DATES, "content", "datetime"), ""),
    )

    if rule is not None:
        whole, text = _ruled_text(tree, rule)
        if text.strip():
            return _with_text(named, whole, text)
    parsed = HTMLTree.parse(html)

    def plain(main: bool) -> str:
        return str(
            extract_plain_text(
                parsed,
                preserve_formatting=True,
                main_content=main,
                list_bullets=False,
                alt_texts=False,
            )
        )

    whole = plain(main=False)
    return _with_text(named, whole, plain(main=True) or whole)


def is_nested_too_deep(html: str) -> bool:
    """Whether elements stand inside each other so deep that no person wrote it and parsers take the
    square of the depth; elements whose end tags are often left out do not count."""
    if html.count("<") < _DEEPEST:
        return False
    depth = 0
    for end, name in _TAG.findall(html):
        if _FLAT.fullmatch(name) is None:
            depth = max(0, depth - 1) if end else depth + 1
        if depth > _DEEPEST:
            return True
    return False


def _ruled_text(tree: Any, rule: SiteRule) -> tuple[str, str]:
    """The text of the whole page, and of the elements that a rule names.

    An element inside another that was named comes once.
    """

    def decompose(*selectors: str) -> None:
        for selector in selectors:
            for node in tree.css(selector):
                node.decompose()

    decompose(_NOT_SHOWN)
    whole = "" if tree.body is None else "".join(_text_of(tree.body))
    decompose(_NOT_TEXT, *rule.drop)
    chosen = tree.css(rule.text)
    ids = {node.mem_id for node in chosen}
    parts = ("".join(_text_of(node)) for node in chosen if not _stands_inside(node, ids))
    return whole, "\n\n".join(parts)


def _stands_inside(node: Any, ids: set[int]) -> bool:
    parent = node.parent
    while parent is not None and parent.mem_id not in ids:
        parent = parent.parent
    return parent is not None


def _with_text(named: HtmlText, whole: str, text: str) -> HtmlText:
    """Put the text in, and the lines of the whole page that stand nowhere in it."""
    kept = {" ".join(line.split()) for line in text.split("\n")}
    others = (line for line in whole.split("\n") if " ".join(line.split()) not in kept)
    left_out = clean_text("\n".join(others))
    return replace(
        named,
        text=clean_text(text),
        left_out=tuple(line for line in left_out.split("\n") if line),
    )


def _text_of(top: Any) -> Iterator[str]:
    """Yield the text nodes in order, with line ends where block elements begin and end.

    It walks with a stack of its own, so that no depth of nesting can exhaust Python's.
    """
    waiting: list[Any] = [top]
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


def _title(tree: Any, rule: SiteRule | None) -> str:
    for selector in (rule.title if rule is not None else "", "head title", "title", "h1"):
        node = tree.css_first(selector) if selector else None
        if node is not None and (name := _name(node.text())):
            return name
    return ""


def _breadcrumbs(tree: Any, rule: SiteRule | None) -> tuple[str, ...]:
    if rule is not None and rule.breadcrumbs:
        return _names(node.text() for node in tree.css(rule.breadcrumbs))
    return _names(_linked_data_crumbs(tree)) or _names(
        node.text() for node in tree.css(_BREADCRUMBS)
    )


def _linked_data_crumbs(tree: Any) -> Iterator[str]:
    """The names in a page's schema.org BreadcrumbList."""
    for node in tree.css('script[type="application/ld+json"]'):
        try:
            data = json.loads(node.text())
        except (ValueError, RecursionError):
            continue
        graph = data.get("@graph", [data]) if isinstance(data, dict) else data
        for thing in graph if isinstance(graph, list) else ():
            if not isinstance(thing, dict) or thing.get("@type") != "BreadcrumbList":
                continue
            elements = thing.get("itemListElement")
            for element in elements if isinstance(elements, list) else ():
                if isinstance(element, dict):
                    item = element.get("item")
                    inner = item.get("name") if isinstance(item, dict) else None
                    yield str(element.get("name") or inner or "")


def _tags(tree: Any, rule: SiteRule | None) -> tuple[str, ...]:
    if rule is not None and rule.tags:
        return _names(node.text() for node in tree.css(rule.tags))
    listed = (
        part
        for content in _attributes(tree, _TAG_METAS, "content")
        for part in re.split("[,;，；、]", content)
    )
    return _names([*(node.text() for node in tree.css(_TAGS)), *listed])


def _attributes(tree: Any, selector: str, *names: str) -> Iterator[str]:
    for node in tree.css(selector):
        yield from filter(None, (_attribute(node, name) for name in names))


def _attribute(node: Any, name: str) -> str:
    return str((node.attributes.get(name) if node is not None else "") or "").strip()


def _names(texts: Iterable[str]) -> tuple[str, ...]:
    """Names fit to be shown, each once; a page with thousands of them is no help to anyone."""
    return tuple(dict.fromkeys(filter(None, map(_name, texts))))[:_MOST_NAMES]


def _name(text: str) -> str:
    return clean_text(" ".join(text.split()))[:_LONGEST_NAME].strip()
