"""How replies were read, and what unscored answers could change, on figures worked by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.verdict_rows import verdict, verdicts_artefact

from drenpa.config import ReportConfig
from drenpa.core.knowledge import DIMENSIONS
from drenpa.judge.summary import summarise
from drenpa.report.build import write_report
from drenpa.report.unscored import OpenCell, ReplyRate, open_cells, reply_rates

READ = {"votes": 10, "as asked": 6, "mended": 2, "asked again": 1, "unscored": 1}
SILENT = {"votes": 10, "as asked": 0, "mended": 0, "asked again": 0, "unscored": 4}


def test_replies_are_added_up_over_strategies_and_judges_that_write_none_left_out(
    tmp_path: Path,
) -> None:
    made = [
        verdicts_artefact(tmp_path, [verdict(name)], name, replies={"m at host": READ, "r": SILENT})
        for name in ("base", "sft")
    ]
    assert reply_rates(made) == [ReplyRate("m at host", 20, (12, 4, 2), 2)]
    assert reply_rates(made)[0].scored_share == 0.9
    assert reply_rates([verdicts_artefact(tmp_path, [verdict()], "of an older version")]) == []


def test_bounds_are_those_of_all_questions_together(tmp_path: Path) -> None:
    part = {name: 1.0 for name in DIMENSIONS if name != "richness"}
    rows = [
        verdict("sft", "a", 2.0),
        verdict("sft", "b", part, model_answer="It is so. It was so.", question="Is it?"),
        verdict("sft", "c", 1.0, kind="profession"),
        verdict("sft", "d", 0.0, kind="profession"),
    ]
    made = verdicts_artefact(tmp_path, rows, **summarise(rows))
    # Foundation 2 and between 0 and 2: 50 to 100 %; profession 1 and 0: 25 %. Two answers each.
    assert open_cells([made]) == [
        OpenCell("sft", "tiny", "richness", 1, 4, pytest.approx(37.5), pytest.approx(62.5))
    ]


def test_the_page_shows_both_where_there_is_something_to_show(tmp_path: Path) -> None:
    part = {name: 1.0 for name in DIMENSIONS if name != "richness"}
    rows = [verdict("sft", "a", 2.0), verdict("sft", "b", part)]
    summary = summarise(rows) | {"replies": {"m <at> host": READ}}
    settings = ReportConfig(resamples=20)
    with_both = write_report(
        [verdicts_artefact(tmp_path, rows, **summary)], {}, settings, root=tmp_path
    )
    page = (with_both.path / "index.html").read_text(encoding="utf-8")
    assert "How the judge was read" in page
    assert "m &lt;at&gt; host" in page
    assert "What unscored answers could change" in page
    without = write_report(
        [verdicts_artefact(tmp_path, rows[:1], "whole")], {}, settings, name="other", root=tmp_path
    )
    page = (without.path / "index.html").read_text(encoding="utf-8")
    assert "How the judge was read" not in page
    assert "What unscored answers could change" not in page
