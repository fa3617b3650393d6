from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from drenpa.commands.show import describe
from drenpa.core.artefacts import Artefact, Plan, as_input, run_plan, write_rows, write_text
from drenpa.core.errors import ArtefactError
from drenpa.core.records import Candidate, Ranking, Record

HOSTILE = "[bold red]no markup[/] [/nothing] \x1b[2J\x07 \u202eback\u202c {answer}"


def told(path: Path, rows: int = 3) -> str:
    out = io.StringIO()
    describe(path, rows, Console(file=out, width=120, force_terminal=False))
    return out.getvalue()


def make(
    root: Path,
    name: str = "corpus",
    *,
    question: str = "What is a hive?",
    summary: Mapping[str, Any] | None = None,
    before: Artefact | None = None,
    seed: int = 1,
) -> Artefact:
    records = [
        Record(id=f"r{n}", kind="foundation", question=f"{question} {n}", answer=f"answer {n}")
        for n in range(5)
    ]

    def work(folder: Path) -> Mapping[str, Any]:
        write_rows(folder / "records.parquet", records)
        write_text(folder / "dropped.jsonl", "x" * 2500)
        return summary or {"records": {"total": 5, "kind": {"foundation": 5}}, "warnings": ["thin"]}

    return run_plan(
        Plan(
            kind="corpus",
            name=name,
            root=root,
            config={"seed": seed, "stage": {"mix": {"foundation": 1.0}}},
            inputs={"before": as_input(before)} if before else {},
            rooms=(),
            work=work,
        )
    )


def test_an_artefact_tells_what_it_is_and_where_it_came_from(tmp_path: Path) -> None:
    first = make(tmp_path)
    text = told(make(tmp_path, "second", before=first).path)
    for part in ("corpus", "second", str(first.path), first.digest[:10], "seed", "stage.mix"):
        assert part in text
    assert "records.kind" in text
    assert "foundation 5" in text
    assert "thin" in text
    assert "2.5 kB" in text


def test_only_the_first_rows_of_a_table_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    text = told(make(tmp_path).path, rows=2)
    assert "records.parquet: 5 rows, the first 2" in text
    assert "What is a hive? 1" in text
    assert "What is a hive? 2" not in text


def test_no_rows_may_be_asked_for(tmp_path: Path) -> None:
    text = told(make(tmp_path).path, rows=0)
    assert "5 rows" in text
    assert "hive" not in text


def test_candidates_of_a_ranking_take_a_line_each(tmp_path: Path) -> None:
    ranking = Ranking(
        id="k",
        record="r0",
        candidates=(
            Candidate(id="a", answer="good", rank=1, note="right"),
            Candidate(id="b", answer="bad", rank=2),
        ),
    )

    def work(folder: Path) -> Mapping[str, Any]:
        write_rows(folder / "rankings.parquet", [ranking])
        return {}

    plan = Plan("corpus", "ranked", tmp_path, config={}, inputs={}, rooms=(), work=work)
    lines = told(run_plan(plan).path).splitlines()
    assert any("id: a · answer: good · rank: 1 · note: right" in line for line in lines)
    assert any("id: b · answer: bad · rank: 2" in line and "note" not in line for line in lines)


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    artefact = make(tmp_path, question=HOSTILE, summary={"warnings": [HOSTILE], HOSTILE: HOSTILE})
    text = told(artefact.path)
    assert text.count("[bold red]no markup[/] [/nothing]") >= 3
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_an_input_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    first = make(tmp_path / "run")
    second = make(tmp_path / "run", "second", before=first)
    first.path.rename(tmp_path / "elsewhere")
    assert f"{first.path} (gone)" in told(second.path).replace("\n", "")


def test_a_runs_folder_lists_its_artefacts_in_order_and_the_unfinished_last(
    tmp_path: Path,
) -> None:
    old = make(tmp_path, "corpus", seed=1)
    second = make(tmp_path, "aaa")
    new = make(tmp_path, "corpus", seed=2)
    (tmp_path / "report").symlink_to(second.path, target_is_directory=True)
    partial = tmp_path / "critic-0123456789.partial"
    (partial / "scratch").mkdir(parents=True)
    lines = told(tmp_path).splitlines()
    found = {
        folder: next(number for number, line in enumerate(lines) if folder in line)
        for folder in (old.path.name, second.path.name, new.path.name, partial.name)
    }
    assert list(found.values()) == sorted(found.values())
    assert "older" in lines[found[old.path.name]]
    assert "done" in lines[found[new.path.name]]
    assert "unfinished" in lines[found[partial.name]]
    assert not any(line.split()[-2:-1] == ["report"] for line in lines)


def test_an_unfinished_artefact_says_how_to_go_on(tmp_path: Path) -> None:
    partial = tmp_path / "critic-0123456789.partial"
    partial.mkdir()
    (partial / "metrics.jsonl").write_text("{}\n")
    text = told(partial)
    assert "unfinished" in text
    assert "run the same command again" in text
    assert "metrics.jsonl" in text


@pytest.mark.parametrize("name", ["empty", "file", "absent"])
def test_what_is_no_artefact_is_a_clear_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match=r"manifest\.json"):
        told(tmp_path / name)


def test_a_damaged_table_is_a_clear_error(tmp_path: Path) -> None:
    artefact = make(tmp_path)
    (artefact.path / "records.parquet").write_bytes(b"not parquet")
    with pytest.raises(ArtefactError, match=r"records\.parquet: cannot be read"):
        told(artefact.path)
