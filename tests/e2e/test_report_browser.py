"""The page in a real browser, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.verdict_rows import verdict, verdicts_artefact

from drenpa.config import ReportConfig
from drenpa.core.knowledge import KINDS
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


def tibetan_report(folder: Path) -> Path:
    """A page with Tibetan in every place, and more strategies than fit a phone."""
    text = "བོད་ཀྱི་ལོ་རྒྱུས་ནི་རིང་པོ་ཡོད། འདི་ནི་དཔེ་མཚོན་ཙམ་རེད། " * 8
    names = ("གཞི་རྩ།", "sft", "grpo", "དྲན་པ།", "multistage", "མཐའ་མ།")
    rows = [
        verdict(
            name,
            f"{kind}-{number}",
            0.2 * place + 0.1 * number,
            kind=kind,
            model_answer=text,
            question=text,
            thoughts=text,
        )
        for place, name in enumerate(names)
        for kind in KINDS
        for number in range(3)
    ]
    settings = ReportConfig(title="དྲན་པ། 记忆", resamples=20, paper_columns=True)
    made = write_report(
        [verdicts_artefact(folder, rows)], {}, settings, name="r", root=folder / "made"
    )
    return made.path / "index.html"


def browse(*wanted: str, folder: Path) -> str:
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    command = [str(BROWSER), *flags, f"--user-data-dir={folder / 'browser'}", *wanted]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize("width", [500, 800, 1400])
def test_the_page_itself_never_scrolls_sideways(width: int, tmp_path: Path) -> None:
    page = tibetan_report(tmp_path).read_text(encoding="utf-8")
    measure = "document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
    page = re.sub(r"default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';", page)
    file = tmp_path / "measured.html"
    file.write_text(page.replace("</body>", f"<script>{measure}</script></body>"), "utf-8")
    shown = browse(f"--window-size={width},900", "--dump-dom", file.as_uri(), folder=tmp_path)
    found = re.search(r"<title>(\d+) of (\d+)</title>", shown)
    assert found is not None
    assert int(found[1]) <= int(found[2]) == width


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_on_paper_tibetan_is_set_in_a_font_that_has_it_and_nothing_is_cut_off(
    tmp_path: Path,
) -> None:
    tools = [shutil.which(name) for name in ("pdffonts", "pdftotext", "fc-list")]
    if None in tools:
        pytest.skip("poppler-utils and fontconfig are not installed")
    if "Tibetan" not in subprocess.run(["fc-list"], capture_output=True, text=True).stdout:
        pytest.skip("no Tibetan font on this machine (Debian: fonts-noto-core)")
    printed = tmp_path / "page.pdf"
    address = tibetan_report(tmp_path).as_uri()
    browse("--no-pdf-header-footer", f"--print-to-pdf={printed}", address, folder=tmp_path)
    fonts = subprocess.run(["pdffonts", printed], capture_output=True, text=True).stdout
    assert re.search(r"Tibetan\S* +CID TrueType +\S+ +yes", fonts)  # embedded
    boxes = subprocess.run(
        ["pdftotext", "-bbox", printed, "-"], capture_output=True, text=True
    ).stdout
    width = float(re.findall(r'<page width="([\d.]+)"', boxes)[0])
    edges = [float(edge) for edge in re.findall(r'<word [^>]*xMax="([\d.]+)"', boxes)]
    assert len(edges) > 500
    assert max(edges) <= width
