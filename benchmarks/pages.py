"""Text out of web pages against trafilatura: `python benchmarks/pages.py [--pages FOLDER]`.

Every side reads the same pages in one process, in turns; the median of the rounds counts, in pages
a second of process CPU time. Without a folder the pages are made: paragraphs of the starter corpus
in English, Chinese and Tibetan inside the navigation, lists of links and footer of an ordinary
site, so that what should be found is known. Recall is the share of paragraphs found whole, noise
the share of boilerplate lines that came with them.

rule     drenpa with a site's rule (selectolax)
generic  drenpa without one (resiliparse, and what it left out)
clean    drenpa's whole cleaning: generic, mending, debris, language, personal data, kind
peer     trafilatura.extract; fast is its own quick mode
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from trafilatura import extract

from drenpa.corpus.clean import clean_text
from drenpa.corpus.clean_pages import Cleaning, clean_page
from drenpa.corpus.html import SiteRule, decode, html_to_text
from drenpa.corpus.intake import read_records, source_files
from drenpa.corpus.pages import RawPage

RULE = SiteRule(site="*", text="article", title="h1")
MENU = ("Home", "News", "Videos", "Pictures", "Library", "Contact us", "Log in", "Subscribe")
RELATED = ("You may also like", "Snow in the hills", "A new bridge", "Ten books to read")
FOOT = ("© Example Press", "Imprint", "Privacy", "All rights reserved")


def made_pages(count: int) -> list[tuple[str, list[str]]]:
    """Pages of six paragraphs each, with the paragraphs."""
    files = source_files(["starter"], "records")
    records = [record for path in files for record in read_records(path)]
    draw = random.Random(1)
    pages = []
    for number in range(count):
        language = ("en", "zh", "bo")[number % 3]
        answers = [record.answer or "" for record in records if record.language == language]
        paragraphs = draw.sample(answers, 6)
        links = "".join(f"<li><a href=/{name}>{name}</a></li>" for name in MENU)
        related = "".join(f"<li><a href=/{name}>{name}</a></li>" for name in RELATED)
        text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
        html = (
            "<!doctype html><html lang=en><head><meta charset=utf-8><title>A page</title>"
            f"<style>{'p{margin:0} ' * 40}</style><script>{'track(1);' * 80}</script></head><body>"
            f"<header><nav><ul>{links}</ul></nav></header><main><article><h1>A page</h1>{text}"
            f"</article><aside class=related><ul>{related}</ul></aside></main>"
            f"<footer>{''.join(f'<p><small>{line}</small></p>' for line in FOOT)}</footer></body>"
        )
        pages.append((html, [clean_text(paragraph) for paragraph in paragraphs]))
    return pages


def real_pages(folder: Path) -> list[tuple[str, list[str]]]:
    return [(decode(path.read_bytes())[0], []) for path in sorted(folder.rglob("*.html"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=Path, help="a folder of HTML; default: pages are made")
    parser.add_argument("--count", type=int, default=200, help="how many are made")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    pages = real_pages(asked.pages) if asked.pages else made_pages(asked.count)
    sides: dict[str, Callable[[str], str]] = {
        "rule": lambda html: html_to_text(html, RULE).text,
        "generic": lambda html: html_to_text(html).text,
        "clean": lambda html: getattr(clean_page(RawPage("p", html), Cleaning()).page, "text", ""),
        "peer": lambda html: extract(html) or "",
        "peer, fast": lambda html: extract(html, fast=True) or "",
    }
    if asked.pages:
        del sides["rule"]  # whose site it would be is not known
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    texts: dict[str, list[str]] = {}
    for _ in range(asked.rounds):
        for name, take in sides.items():
            began = time.process_time()
            texts[name] = [take(html) for html, _ in pages]
            seconds[name].append(time.process_time() - began)
    rows = []
    for name in sides:
        rate = len(pages) / statistics.median(seconds[name])
        row = {"side": name, "pages_per_second": round(rate, 1)}
        row["characters"] = sum(map(len, texts[name]))
        if not asked.pages:
            row |= found(pages, texts[name])
        rows.append(row)
    size = sum(len(html) for html, _ in pages) / len(pages)
    print(f"{len(pages)} pages of {size:.0f} characters, median of {asked.rounds} rounds")
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n")


def found(pages: list[tuple[str, list[str]]], texts: list[str]) -> dict[str, float]:
    """Recall of the paragraphs, and the share of lines that are a site's own."""
    noise = {*MENU, *RELATED, *FOOT}
    hits = total = noisy = 0
    for (_, paragraphs), text in zip(pages, texts, strict=True):
        lines = {clean_text(line.lstrip("- ")) for line in text.split("\n")}
        hits += sum(paragraph in lines for paragraph in paragraphs)
        total += len(paragraphs)
        noisy += len(noise & lines)
    return {
        "recall": round(hits / total, 3),
        "noise": round(noisy / (len(noise) * len(pages)), 3),
    }


if __name__ == "__main__":
    main()
