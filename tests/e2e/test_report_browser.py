"""The page in a real browser, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.verdict_rows import verdict, verdicts_artefact

from drenpa.config import ReportConfig
from drenpa.report.build import write_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ATTACK = (
    "</p></style></title><script>document.body.textContent='broken in'</script>"
    "<img src=x onerror=\"document.body.textContent='broken in'\"> བོད་ཡིག 中文"
)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_a_browser_shows_the_answers_and_runs_nothing_in_them(tmp_path: Path) -> None:
    rows = [
        verdict(strategy, "a", score, model_answer=ATTACK, question=ATTACK, thoughts=ATTACK)
        for strategy, score in (("base", 0.5), ("sft", 1.5))
    ]
    made = write_report(
        [verdicts_artefact(tmp_path, rows)],
        {},
        ReportConfig(title=ATTACK, resamples=20),
        name="r",
        root=tmp_path,
    )
    shown = subprocess.run(
        [
            str(BROWSER),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *(f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom"),
            (made.path / "index.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert "<script" not in shown
    assert "<img" not in shown
    assert shown.count("བོད་ཡིག 中文") >= 6  # title, heading, question, two answers and thoughts
    assert re.search(r"<h2>Where this comes from</h2>", shown)
