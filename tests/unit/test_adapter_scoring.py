from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.recorded_bench import (
    PRIVATE,
    RECORDED,
    SAMPLES,
    Endpoint,
    expected,
    recorded_corpus,
    recorded_endpoint,
)

from drenpa.adapters.bench_folder import Bench, open_bench, write_bench
from drenpa.adapters.lm_eval import LmEvalTask
from drenpa.adapters.scoring import (
    Mark,
    Marker,
    cell,
    row,
    scores_of,
    verdicts_of,
)
from drenpa.config import Recipe
from drenpa.core.errors import ArtefactError, ConfigError, DataError
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.statistics import interval, scored_of
from drenpa.judge.answers import Answer

ANSWERS = [
    Answer(item.id, sample, text, "stop")
    for item in RECORDED
    for sample, text in enumerate(item.answers)
]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with recorded_endpoint() as served:
        yield served


def recipe(url: str, **judge: Any) -> Recipe:
    told = {"name": "openai", "model": "judge", "base_url": url, "max_unscored": 0.5}
    if judge.get("name", "openai") != "openai":
        told = {}
    return Recipe.model_validate(
        {"name": "bees", "benchmark": {"samples": SAMPLES, "judge": told | judge}}
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Bench]:
    corpus = recorded_corpus(tmp_path / "run")

    def make(url: str = "http://127.0.0.1:9/v1", place: str = "bench", **judge: Any) -> Bench:
        return write_bench(recipe(url, **judge), corpus, tmp_path / place)

    return make


def test_the_recorded_verdicts_give_the_cells_that_were_worked_out_by_hand(
    write: Callable[..., Bench], endpoint: Endpoint
) -> None:
    bench = write(url=endpoint.url)
    marks = Marker(bench).mark(ANSWERS)
    for kind in bench.kinds:
        items = [
            scores_of(mark for mark in marks if mark.item == item.id)
            for item in bench.of_kind(kind)
        ]
        assert row(items, 0.5) == pytest.approx(expected(kind), abs=1e-9)


def test_the_cells_are_those_of_drenpas_own_report(
    write: Callable[..., Bench], endpoint: Endpoint
) -> None:
    bench = write(url=endpoint.url)
    marks = Marker(bench).mark(ANSWERS)
    rows = verdicts_of(bench, marks, strategy="s", model="m", seed=1)
    for kind in bench.kinds:
        for dimension in DIMENSIONS:
            column = scored_of((r for r in rows if r.kind == kind), dimension)
            figure = interval(column, resamples=1).percent
            assert figure == pytest.approx(expected(kind)[dimension], abs=1e-9)
    unread = [verdict for verdict in rows if verdict.unscored]
    assert [(verdict.item, verdict.sample) for verdict in unread] == [("p-knot", 0), ("p-knot", 1)]
    assert "copied from the answer" in unread[1].unscored


def test_no_verdict_is_asked_for_twice(write: Callable[..., Bench], endpoint: Endpoint) -> None:
    bench = write(url=endpoint.url)
    Marker(bench).mark(ANSWERS[:4])
    assert len(endpoint.judged) == 4
    Marker(bench).mark(ANSWERS[:6])
    assert len(endpoint.judged) == 6


def test_answers_that_come_one_by_one_get_the_marks_that_a_batch_gets(
    write: Callable[..., Bench], endpoint: Endpoint
) -> None:
    bench = write(url=endpoint.url)
    marker = Marker(bench)
    single = [marker.mark([answer], show=False)[0] for answer in ANSWERS]
    assert single == marker.mark(ANSWERS)


def test_white_space_around_an_answer_changes_no_mark(
    write: Callable[..., Bench], endpoint: Endpoint
) -> None:
    marker = Marker(write(url=endpoint.url))
    text = RECORDED[0].answers[0]
    (plain,) = marker.mark([Answer("f-hive", 0, text, "stop")])
    (padded,) = marker.mark([Answer("f-hive", 0, f"\n {text}  \n", "stop")])
    assert padded == plain
    assert len(endpoint.judged) == 1


def test_a_judge_that_compares_is_shown_the_reference(write: Callable[..., Bench]) -> None:
    marker = Marker(write(name="reference"))
    same, other = marker.mark(
        [
            Answer("f-hive", 0, f"f-hive: {PRIVATE}", "stop"),
            Answer("f-hive", 1, "A hive.", "stop"),
        ]
    )
    assert same.scores["relevance"] == 2.0
    assert other.scores["relevance"] < 1.0


def test_a_panels_mark_is_the_mean_of_its_judges_however_often_each_was_asked(
    write: Callable[..., Bench], endpoint: Endpoint
) -> None:
    asked = {"name": "openai", "model": "judge", "base_url": endpoint.url}
    bench = write(
        name="panel",
        members=[asked | {"repeats": 2}, {"name": "reference"}],
    )
    marker = Marker(bench)
    (mark,) = marker.mark([Answer("f-hive", 0, RECORDED[0].answers[0], "stop")])
    (alone,) = Marker(write(place="alone", name="reference")).mark(
        [Answer("f-hive", 0, RECORDED[0].answers[0], "stop")]
    )
    assert len(endpoint.judged) == 2
    assert mark.scores["relevance"] == pytest.approx((2 + alone.scores["relevance"]) / 2)
    assert mark.scores["safety"] == 2.0
    assert "panel of 2" in mark.judge


def test_an_answer_to_a_question_of_another_folder_is_refused(
    write: Callable[..., Bench],
) -> None:
    with pytest.raises(DataError, match="has no item 'elsewhere'"):
        Marker(write(name="rules")).mark([Answer("elsewhere", 0, "x", "stop")])


def test_a_cell_with_too_much_unscored_has_no_figure() -> None:
    assert cell([[2, None], [0, None]], max_unscored=0.5) == 50.0
    assert math.isnan(cell([[2, None], [0, None]], max_unscored=0.49))
    assert math.isnan(cell([[None]], max_unscored=1.0))
    assert math.isnan(cell([], max_unscored=1.0))


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0, None]), min_size=1), min_size=1))
def test_an_item_counts_once_however_many_samples_it_has(items: list[list[float | None]]) -> None:
    tripled = [item * 3 if place == 0 else item for place, item in enumerate(items)]
    once, again = cell(items, 1.0), cell(tripled, 1.0)
    assert (math.isnan(once) and math.isnan(again)) or once == pytest.approx(again)


def test_a_folder_reads_back_as_it_was_written_wherever_it_is_moved(
    write: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = write()
    moved = bench.folder.rename(tmp_path / "elsewhere")
    again = open_bench(moved)
    assert again.settings == bench.settings
    assert again.items == bench.items
    assert [item.answer for item in again.of_kind("metacognition")] == [f"m-plan: {PRIVATE}"]
    assert again.kinds == ("foundation", "profession", "metacognition")


def test_references_stand_in_one_file_that_only_its_owner_reads(
    write: Callable[..., Bench],
) -> None:
    folder = write().folder
    holding = [
        file.name
        for file in folder.rglob("*")
        if file.is_file() and PRIVATE in file.read_text(encoding="utf-8")
    ]
    assert holding == ["references.jsonl"]
    assert (folder / "references.jsonl").stat().st_mode & 0o077 == 0


def test_a_folder_is_never_overwritten(write: Callable[..., Bench]) -> None:
    write()
    with pytest.raises(ArtefactError, match="is there already"):
        write()


def test_a_folder_of_the_users_beside_it_is_left_alone(
    write: Callable[..., Bench], tmp_path: Path
) -> None:
    own = tmp_path / ".bench.part" / "mine.txt"
    own.parent.mkdir()
    own.write_text("mine")
    assert write().folder.name == "bench"
    assert own.read_text() == "mine"


def test_a_critic_is_no_judge_for_other_harnesses(write: Callable[..., Bench]) -> None:
    with pytest.raises(ConfigError, match="within a run only"):
        write(name="critic")


def test_a_folder_that_is_none_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="drenpa adapter write RECIPE FOLDER"):
        open_bench(tmp_path)


def test_a_damaged_folder_is_a_clear_error(write: Callable[..., Bench]) -> None:
    bench = write()
    (bench.folder / "questions.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(ArtefactError, match="write it again"):
        open_bench(bench.folder)


def test_lm_evals_tasks_say_how_to_answer(write: Callable[..., Bench]) -> None:
    bench = write()
    told = yaml.safe_load((bench.folder / "lm_eval" / "profession.yaml").read_text())
    assert told["task"] == "bees_profession"
    assert told["test_split"] == "profession"
    assert told["repeats"] == SAMPLES
    assert told["generation_kwargs"] == {
        "until": [],
        "max_gen_toks": 256,
        "do_sample": True,
        "temperature": 0.7,
    }
    group = yaml.safe_load((bench.folder / "lm_eval" / "group.yaml").read_text())
    assert group == {
        "group": "bees",
        "task": ["bees_foundation", "bees_profession", "bees_metacognition"],
    }
    assert not (bench.folder / "lm_eval" / "connection.yaml").exists()


def test_lm_evals_functions_give_the_cells_of_the_scoring(
    write: Callable[..., Bench], endpoint: Endpoint
) -> None:
    """What the harness calls, in the order in which it calls it; the harness itself runs in
    tests/e2e."""
    task = LmEvalTask(write(url=endpoint.url).folder)
    for kind in task.bench.kinds:
        docs = [{"id": item.id} for item in task.bench.of_kind(kind)]
        texts = [next(r.answers for r in RECORDED if r.id == doc["id"]) for doc in docs]
        filtered = json.loads(json.dumps(task.judged(texts, docs)))
        found = [task.process_results(d, [r]) for d, r in zip(docs, filtered, strict=True)]
        cells = {d: task.cell([doc[d] for doc in found]) for d in DIMENSIONS}
        cells["mean"] = task.row_mean([doc["mean"] for doc in found])
        assert cells == pytest.approx(expected(kind), abs=1e-9)
        assert sum(doc["unscored"] for doc in found) == (2 if kind == "profession" else 0)


def test_a_mark_survives_json() -> None:
    mark = Mark("i", 0, "དྲན་པ།", "length", "j", {"safety": 2.0}, "t", "relevance: not there")
    assert Mark.from_json(mark.as_json()) == mark
    with pytest.raises(DataError, match="no mark"):
        Mark.from_json('{"item": "i"}')
