"""The item browser: one page with every question and answer, that works from disk and offline.

The page runs one script, ours, named by its hash in the page's own policy. Data reach it as JSON in
which no `<` is left, and the page as text, so that nothing a model wrote is ever read as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from drenpa.core.composites import plain
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Verdict
from drenpa.core.text import shown
from drenpa.report.page import environment, resource

BROWSER = "items.html"
MOST_ANSWERS = 20_000
"""More answers than this would make a page that browsers open slowly; then whole questions are
left out, evenly over the page."""


def browser_html(verdicts: Sequence[Verdict], title: str, *, key: str) -> str:
    """Return the page.

    key: names the report, so that scores given to one report never mix with those of another.
    """
    script = resource("browser.js")
    data, total = _data(verdicts, key)
    kept = len(data["items"])
    told = "" if kept == total else f"{kept} of {total} questions, taken evenly. "
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        environment()
        .get_template("browser.html")
        .render(
            title=title,
            told=told,
            style=Markup(resource("page.css") + resource("browser.css")),  # noqa: S704 - our own
            script=Markup(script),  # noqa: S704 - our own file
            script_hash=Markup(f"sha256-{digest}"),  # noqa: S704 - a digest
            data=Markup(_json(data)),  # noqa: S704 - holds no sign that ends a script
        )
    )


def _data(verdicts: Sequence[Verdict], key: str) -> tuple[dict[str, Any], int]:
    items: dict[tuple[str, str], dict[str, Any]] = {}
    for row in verdicts:
        item = items.setdefault(
            (row.kind, row.item),
            {
                "item": row.item,
                "kind": row.kind,
                "language": shown(row.language),
                "cluster": shown(row.cluster),
                "question": shown(row.question),
                "reference": shown(row.reference),
                "answers": [],
            },
        )
        whole = all(name in row.scores for name in DIMENSIONS)
        item["answers"].append(
            {
                "strategy": row.strategy,
                "model": row.model,
                "seed": row.seed,
                "sample": row.sample,
                "text": shown(row.model_answer),
                "finish": row.finish,
                "judge": shown(row.judge),
                "scores": row.scores,
                "percent": round(50 * plain(row.scores), 4) if whole else None,
                "thoughts": shown(row.thoughts),
                "unscored": shown(row.unscored),
            }
        )
    kept = _evenly(list(items.values()), len(verdicts))
    data = {
        "key": key,
        "models": list(dict.fromkeys(row.model for row in verdicts)),
        "strategies": list(dict.fromkeys(row.strategy for row in verdicts)),
        "judges": len({row.judge for row in verdicts}),
        "seeds": len({row.seed for row in verdicts}),
        "samples": len({row.sample for row in verdicts}),
        "sources": len({row.cluster for row in verdicts}) < len(items),
        "dimensions": list(DIMENSIONS),
        "items": kept,
    }
    return data, len(items)


def _evenly(items: list[dict[str, Any]], answers: int) -> list[dict[str, Any]]:
    if answers <= MOST_ANSWERS:
        return items
    count = max(1, len(items) * MOST_ANSWERS // answers)
    return [items[place * len(items) // count] for place in range(count)]


def _json(value: Any) -> str:
    """JSON that may stand inside a script element and survives lone surrogates."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
