"""The item browser in a real browser: it shows hostile text as text, filters, keeps and exports
scores."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.verdict_rows import verdict

from drenpa.core.records import Verdict
from drenpa.report.browser import browser_html

CHROME = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROME is None, reason="no Chromium or Chrome on this machine")
ATTACK = (
    "</script></p></style><script>document.title='broken in'</script><!--<script>"
    "<img src=x onerror=\"document.title='broken in'\"> བོད་ཡིག 中文 \u2028 ${1} \\u003c"
)
SCORE = """
window.addEventListener('load', () => {
  document.getElementById('rater').value = 'ann';
  const boxes = document.querySelectorAll('.human fieldset input[value="2"]');
  for (const box of boxes) { if (box.name.includes('"sft"')) box.click(); }
  URL.createObjectURL = (blob) => {
    blob.text().then((text) => document.body.append(Object.assign(
      document.createElement('pre'), {id: 'exported', textContent: text})));
    return '#';
  };
  HTMLAnchorElement.prototype.click = () => {};
  document.getElementById('export').click();
});
"""


def rows() -> list[Verdict]:
    return [
        verdict(
            strategy, item, score, model_answer=f"{strategy} {text}", question=text, thoughts=text
        )
        for item, text in (("a", ATTACK), ("b", "plain"))
        for strategy, score in (("base", 0.5), ("sft", 1.5))
    ]


def opened(page: str, folder: Path) -> str:
    """The document as the browser has it once the page's script ran."""
    file = folder / "items.html"
    file.write_text(page, encoding="utf-8")
    return subprocess.run(
        [
            str(CHROME),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *(f"--user-data-dir={folder / 'browser'}", "--virtual-time-budget=2000", "--dump-dom"),
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


def test_the_script_runs_and_hostile_text_stays_text(tmp_path: Path) -> None:
    shown = opened(browser_html(rows(), ATTACK, key="k"), tmp_path)
    assert "broken in" not in re.findall(r"<title>(.*?)</title>", shown)[0].split("&lt;")[0]
    assert "<img" not in shown
    items = shown[shown.index('<main id="items">') : shown.index("</main>")]
    assert "<script" not in items
    assert items.count('class="side"') == 4
    assert html.unescape(items).count("<img src=x onerror") == 5  # question, two answers, thoughts
    assert ">2 of 2 questions<" in shown


def test_scores_given_on_the_page_come_out_as_json_lines(tmp_path: Path) -> None:
    # The page's own policy refuses any other script, so this one is let in for the test alone.
    page = browser_html(rows(), "t", key="k")
    page = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", page)
    page = page.replace("</body>", f"<script>{SCORE}</script></body>")
    shown = opened(page, tmp_path)
    text = html.unescape(re.findall(r'<pre id="exported">(.*?)</pre>', shown, re.S)[0])
    lines = [json.loads(line) for line in text.splitlines() if line]
    assert {line["item"] for line in lines} == {"a", "b"}
    assert all(line["strategy"] == "sft" and line["judge"] == "ann" for line in lines)
    assert all(line["scores"]["relevance"] == 2 and len(line["scores"]) == 5 for line in lines)


def test_a_script_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    page = browser_html(rows(), "t", key="k")
    page = page.replace("</body>", "<script>document.title='let in'</script></body>")
    assert "<title>t: all items</title>" in opened(page, tmp_path)


def test_a_short_tibetan_answer_needs_no_scroll_bar(tmp_path: Path) -> None:
    text = "བོད་ཀྱི་ལོ་རྒྱུས་ནི་རིང་པོ་ཡོད། འདི་ནི་དཔེ་མཚོན་ཙམ་རེད།"
    page = browser_html([verdict(model_answer=text, language="bo")], "t", key="k")
    page = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", page)
    measure = (
        "const one = document.querySelector('.answer');"
        "document.title = one.scrollHeight - one.clientHeight;"
    )
    page = page.replace("</body>", f"<script>{measure}</script></body>")
    assert "<title>0</title>" in opened(page, tmp_path)
