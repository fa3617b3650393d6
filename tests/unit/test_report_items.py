"""The item browser's page as text."""

from __future__ import annotations

import base64
import hashlib
import json
import re

from hypothesis import given
from hypothesis import strategies as st
from tests.verdict_rows import verdict

from drenpa.report import browser
from drenpa.report.browser import browser_html


def data_of(page: str) -> dict[str, object]:
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found[0])  # type: ignore[no-any-return]


def test_the_policy_names_the_one_script_by_its_hash() -> None:
    page = browser_html([verdict()], "t", key="k")
    script = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
    assert "http:" not in page
    assert "https:" not in page


@given(st.text(max_size=40))
def test_no_text_ends_the_data_or_opens_a_tag(text: str) -> None:
    hostile = f"</script><!--<script>{text}"
    row = verdict(model_answer=hostile, question=f"q{hostile}", thoughts=hostile)
    page = browser_html([row], hostile, key="k")
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    (item,) = data_of(page)["items"]  # type: ignore[misc]
    assert item["answers"][0]["text"].startswith("</script><!--<script>")


def test_every_answer_is_there_with_its_scores_and_thoughts() -> None:
    rows = [verdict(s, i, thoughts="so so") for s in ("base", "sft") for i in ("a", "b", "c")]
    data = data_of(browser_html(rows, "t", key="k"))
    items = data["items"]
    assert isinstance(items, list)
    assert [len(item["answers"]) for item in items] == [2, 2, 2]
    assert items[0]["answers"][0]["percent"] == 50.0
    assert items[0]["answers"][0]["thoughts"] == "so so"
    assert data["strategies"] == ["base", "sft"]


def test_a_page_too_large_leaves_out_whole_questions_and_says_so(monkeypatch: object) -> None:
    rows = [verdict(s, f"q{i}") for i in range(50) for s in ("base", "sft")]
    monkeypatch.setattr(browser, "MOST_ANSWERS", 20)  # type: ignore[attr-defined]
    page = browser_html(rows, "t", key="k")
    items = data_of(page)["items"]
    assert isinstance(items, list)
    assert [item["item"] for item in items] == [f"q{i}" for i in range(0, 50, 5)]
    assert "10 of 50 questions, taken evenly." in page
