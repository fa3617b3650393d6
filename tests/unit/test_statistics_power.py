"""What a benchmark will see, before it runs."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console
from tests.verdict_rows import verdicts, verdicts_artefact

from drenpa.commands.power import benchmark_items, foresee, power_text, print_power
from drenpa.config import CorpusConfig, Recipe, ReportConfig
from drenpa.core.knowledge import KINDS
from drenpa.core.records import Record
from drenpa.report.build import write_report


def items(of_a_kind: int, sources: int = 0) -> list[Record]:
    return [
        Record(
            id=f"{kind}{number}",
            kind=kind,
            question="?",
            source=f"{kind} source {number % sources}" if sources else "",
        )
        for kind in KINDS
        for number in range(of_a_kind)
    ]


def recipe(root: Path, **benchmark: int) -> Recipe:
    return Recipe.model_validate(
        {"name": "r", "model": "m", "out": str(root), "benchmark": benchmark, "strategies": []}
    )


def test_forty_questions_of_their_own_sources_see_eighteen_points(tmp_path: Path) -> None:
    # (1.95996 + 0.84162) · 40 / √40 = 17.72; all 160: half of it. To see 5: 40 · (17.72 / 5)².
    power = foresee(recipe(tmp_path), items(40))
    assert [sight.kind for sight in power.sights] == [*KINDS, "all"]
    assert power.sights[0].points == pytest.approx(17.72, abs=0.01)
    assert power.sights[-1].points == pytest.approx(8.86, abs=0.01)
    assert power.sights[0].needed == 503
    assert not power.measured
    assert "Your 160 questions see a difference of 8.9 points" in power_text(power)


def test_questions_that_share_sources_see_less(tmp_path: Path) -> None:
    # Four to a source, correlated by 0.1: √1.3 more.
    power = foresee(recipe(tmp_path), items(40, sources=10))
    assert power.sights[0].points == pytest.approx(17.72 * 1.3**0.5, abs=0.01)
    assert power.sights[0].sources == 10


def test_many_comparisons_see_less(tmp_path: Path) -> None:
    power = foresee(recipe(tmp_path), items(40))
    assert power.sights[0].corrected > power.sights[0].points


def test_only_the_questions_that_are_asked_count(tmp_path: Path) -> None:
    power = foresee(recipe(tmp_path, items_per_kind=10), items(40))
    assert [sight.questions for sight in power.sights] == [10, 10, 10, 10, 40]


def test_the_spread_of_the_last_report_is_used_where_there_is_one(tmp_path: Path) -> None:
    chosen = recipe(tmp_path)
    rows = [
        row.model_copy(
            update={"scores": {k: v + 0.1 * (len(row.item) % 3) for k, v in row.scores.items()}}
        )
        if row.strategy == "final"
        else row
        for row in verdicts(items=12)
    ]
    made = [verdicts_artefact(chosen.folder, rows)]
    write_report(made, {}, ReportConfig(resamples=50), root=chosen.folder)
    power = foresee(chosen, items(40))
    assert power.measured
    assert 0 < power.spread < 10
    assert power.sights[0].points < 5


def test_a_benchmark_without_questions_says_so(tmp_path: Path) -> None:
    text = io.StringIO()
    print_power(foresee(recipe(tmp_path), []), Console(file=text, width=120))
    assert text.getvalue() == "The benchmark has no questions.\n"


def test_without_a_benchmark_file_a_share_of_the_records_is_asked() -> None:
    every = benchmark_items(CorpusConfig(benchmark=(), test=1.0))
    assert len(benchmark_items(CorpusConfig(benchmark=(), test=0.25))) == round(len(every) / 4)


def test_each_kind_and_language_gives_its_share_of_the_questions() -> None:
    rows = CorpusConfig(benchmark=(), test=1.0), CorpusConfig(benchmark=(), test=0.25)
    every, quarter = (
        Counter((row.kind, row.language) for row in benchmark_items(config)) for config in rows
    )
    assert len(every) > len(KINDS)
    assert all(abs(quarter[stratum] - count / 4) < 1 for stratum, count in every.items())


def test_models_from_elsewhere_are_compared_too(tmp_path: Path) -> None:
    alone, beside = (
        Recipe.model_validate(
            {"name": "r", "model": "m", "out": str(tmp_path), "benchmark": {"baselines": others}}
        )
        for others in ([], ["a-model", "another"])
    )
    # base and sft are one pair; each column more is against the one before and the first.
    assert [foresee(one, items(40)).pairs for one in (alone, beside)] == [1, 5]


def test_the_starter_benchmark_is_counted_in_the_languages_that_are_kept() -> None:
    english = benchmark_items(CorpusConfig(languages=("en",)))
    assert english
    assert {item.language for item in english} == {"en"}
