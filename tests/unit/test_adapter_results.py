"""Results as the harnesses write them, read back; the harnesses themselves run in tests/e2e."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.recorded_bench import PRIVATE, RECORDED, recorded_corpus
from tests.tiny_run import write_tiny_run
from typer.testing import CliRunner

from drenpa.adapters.bench_folder import Bench, open_bench, write_bench
from drenpa.adapters.results import read_results
from drenpa.adapters.scoring import Mark
from drenpa.cli import app
from drenpa.config import Recipe
from drenpa.core.artefacts import Plan, open_artefact, run_plan, write_rows
from drenpa.core.errors import ArtefactError, ConfigError, DataError
from drenpa.core.knowledge import DIMENSIONS, KINDS
from drenpa.core.records import Record, Verdict
from drenpa.pipeline import pooled_report

MARKS = [
    Mark(item.id, 0, item.answers[0], "stop", "a judge", dict.fromkeys(DIMENSIONS, 1.0))
    for item in RECORDED
]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    judge = {"name": "rules"}
    recipe = Recipe.model_validate({"name": "bees", "benchmark": {"judge": judge}})
    return write_bench(recipe, recorded_corpus(tmp_path / "corpus"), tmp_path / "bench")


def lm_eval_output(folder: Path, stamp: str, marks: Sequence[Mark] = MARKS) -> Path:
    (folder / "m").mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        lines = [
            json.dumps({"doc_id": n, "filtered_resps": [[mark.as_json()]]})
            for n, mark in enumerate(marks)
            if mark.item.startswith(kind[0])
        ]
        file = folder / "m" / f"samples_bees_{kind}_{stamp}.jsonl"
        file.write_text("\n".join(lines), encoding="utf-8")
    return folder


def opencompass_output(folder: Path, run: str, model: str = "m") -> Path:
    place = folder / run / "results" / model
    place.mkdir(parents=True)
    for kind in KINDS:
        details = [asdict(mark) for mark in MARKS if mark.item.startswith(kind[0])]
        (place / f"bees-{kind}.json").write_text(json.dumps({"details": details}))
    (place / "other-dataset.json").write_text('{"accuracy": 50.0}')
    return folder


def test_lm_evals_samples_become_verdicts(bench: Bench, tmp_path: Path) -> None:
    out = lm_eval_output(tmp_path / "out", "2026-11-22T10-00-00.1")
    made = read_results(bench, out, tmp_path / "run", strategy="theirs", model="m", seed=3)
    assert made.kind == "verdicts"
    assert made.summary["judge"] == "a judge"
    rows = {row.item: row for row in made.rows("verdicts", Verdict)}
    row = rows["f-tibetan"]
    assert (row.kind, row.language, row.cluster, row.seed) == ("foundation", "bo", "grammar", 3)
    assert row.reference == f"f-tibetan: {PRIVATE}"
    assert row.model_answer == RECORDED[2].answers[0]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85"])
def test_a_sign_that_ends_a_line_elsewhere_ends_none_in_samples_and_questions(
    tmp_path: Path, sign: str
) -> None:
    texts = {"question": f"What is{sign}a hive?", "answer": f"A box{sign}with bees."}
    item = Record(id="f-hive", kind="foundation", split="test", **texts)

    def work(folder: Path) -> dict[str, int]:
        write_rows(folder / "benchmark.parquet", [item])
        return {}

    corpus = run_plan(Plan("corpus", "corpus", tmp_path / "corpus", {}, {}, (), work))
    recipe = Recipe.model_validate({"name": "bees", "benchmark": {"judge": {"name": "rules"}}})
    bench = write_bench(recipe, corpus, tmp_path / "bench")
    opened = open_bench(bench.folder).items["f-hive"]
    assert (opened.question, opened.answer) == (item.question, item.answer)

    mark = replace(MARKS[0], answer=f"one{sign}two")
    told = {"doc_id": 0, "filtered_resps": [[mark.as_json()]]}
    file = tmp_path / "out" / "m" / "samples_bees_foundation_t_1.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(told, ensure_ascii=False) + "\n", encoding="utf-8")
    made = read_results(bench, tmp_path / "out", tmp_path / "run", strategy="theirs", model="m")
    (row,) = made.rows("verdicts", Verdict)
    assert row.model_answer == f"one{sign}two"


def test_of_several_runs_the_newest_counts(bench: Bench, tmp_path: Path) -> None:
    out = lm_eval_output(tmp_path / "out", "2026-11-22T10-00-00.1")
    newer = [replace(mark, scores=dict.fromkeys(DIMENSIONS, 2.0)) for mark in MARKS]
    lm_eval_output(out, "2026-11-22T11-00-00.1", newer)
    made = read_results(bench, out, tmp_path / "run", strategy="theirs", model="m")
    assert {row.scores["safety"] for row in made.rows("verdicts", Verdict)} == {2.0}


def test_opencompass_details_become_verdicts(bench: Bench, tmp_path: Path) -> None:
    out = opencompass_output(tmp_path / "out", "20261122_100000")
    made = read_results(bench, out, tmp_path / "run", strategy="theirs", model="m")
    assert len(made.rows("verdicts", Verdict)) == len(RECORDED)


def test_of_several_models_one_must_be_named(bench: Bench, tmp_path: Path) -> None:
    out = opencompass_output(tmp_path / "out", "20261122_100000", "a")
    opencompass_output(out, "20261122_100000", "b")
    with pytest.raises(ArtefactError, match="holds a, b; name the folder of one"):
        read_results(bench, out, tmp_path / "run", strategy="theirs", model="m")
    one = out / "20261122_100000" / "results" / "b"
    made = read_results(bench, one, tmp_path / "run", strategy="theirs", model="b")
    assert len(made.rows("verdicts", Verdict)) == len(RECORDED)


def test_missing_and_strange_answers_are_refused(bench: Bench, tmp_path: Path) -> None:
    short = lm_eval_output(tmp_path / "short", "t_1", MARKS[1:])
    with pytest.raises(DataError, match="1 of 6 questions have no answer, the first is 'f-hive'"):
        read_results(bench, short, tmp_path / "run", strategy="s", model="m")
    other = [*MARKS, replace(MARKS[0], item="foreign")]
    strange = lm_eval_output(tmp_path / "strange", "t_1", other)
    with pytest.raises(DataError, match="'foreign' is no question"):
        read_results(bench, strange, tmp_path / "run", strategy="s", model="m")
    with pytest.raises(ArtefactError, match="holds no results of bees"):
        read_results(bench, tmp_path / "bench", tmp_path / "run", strategy="s", model="m")


def test_a_recipe_whose_name_begins_alike_lends_no_results(bench: Bench, tmp_path: Path) -> None:
    out = lm_eval_output(tmp_path / "out", "2026-11-22T10-00-00.1")
    for file in [*(out / "m").iterdir()]:
        for other in ("bees_b", "bees_foundation", "bees_foundation_x"):
            twin = file.name.replace("bees", other, 1)
            (out / "m" / twin).write_text(file.read_text().replace("f-hive", "foreign"))
    read_results(bench, out, tmp_path / "run", strategy="theirs", model="m")
    out = opencompass_output(tmp_path / "oc", "20261122_100000")
    (out / "20261122_100000" / "results" / "m" / "bees-b-foundation.json").write_text("{}")
    read_results(bench, out, tmp_path / "run", strategy="ours", model="m")


def test_an_answer_that_stands_twice_is_refused(bench: Bench, tmp_path: Path) -> None:
    out = lm_eval_output(tmp_path / "out", "t_1", [*MARKS, MARKS[0]])
    with pytest.raises(DataError, match="answer 0 to 'f-hive' stands 2 times; name the results"):
        read_results(bench, out, tmp_path / "run", strategy="s", model="m")


@pytest.mark.parametrize("name", ["../../out", "a/b", "", ".hidden", "two words", "a\n"])
def test_a_column_is_called_as_a_recipe_would_call_it(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    out = lm_eval_output(tmp_path / "out", "t_1")
    with pytest.raises(ConfigError, match="a column's name is of small letters"):
        read_results(bench, out, tmp_path / "run", strategy=name, model="m")


def damaged_line(line: str, **changes: object) -> str:
    told = json.loads(line)
    mark = json.loads(told["filtered_resps"][0][0]) | changes
    return json.dumps(told | {"filtered_resps": [[json.dumps(mark)]]})


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda line: line[:40], "not JSON"),
        (lambda line: damaged_line(line, scores={"safety": 9}), "scores.safety: Input should be"),
        (lambda line: damaged_line(line, scores={}), "scores lack a dimension"),
        (lambda _line: '{"doc_id": 1}', "no sample of lm-eval's"),
        (lambda _line: "[1]", "no sample of lm-eval's"),
    ],
)
def test_a_damaged_sample_is_named_by_file_and_line(
    bench: Bench, tmp_path: Path, damage: Callable[[str], str], told: str
) -> None:
    out = lm_eval_output(tmp_path / "out", "t_1")
    file = out / "m" / "samples_bees_foundation_t_1.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], damage(lines[1]), *lines[2:]]))
    with pytest.raises(DataError, match=rf"samples_bees_foundation_t_1\.jsonl:2: .*{told}"):
        read_results(bench, out, tmp_path / "run", strategy="s", model="m")


def test_a_file_without_marks_says_what_it_lacks(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "foundation.json"
    for text, told in (
        ('{"accuracy": 50.0}', "holds no `details`"),
        ("[]", "holds no `details`"),
        ("{", "not JSON"),
        (json.dumps({"details": [asdict(MARKS[0]) | {"sample": -1}]}), "detail 1: .*sample: "),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=rf"foundation\.json: .*{told}"):
            read_results(bench, file, tmp_path / "run", strategy="s", model="m")


def test_a_pooled_report_takes_them_beside_others(bench: Bench, tmp_path: Path) -> None:
    out = lm_eval_output(tmp_path / "out", "t_1")
    read_results(bench, out, tmp_path / "a", strategy="theirs", model="m")
    read_results(bench, out, tmp_path / "b", strategy="ours", model="m")
    report = pooled_report([tmp_path / "a", tmp_path / "b"], tmp_path / "pooled")
    cells = json.loads((report.path / "table.json").read_text())
    percents = {cell["percent"] for cell in cells if cell["kind"] == "foundation"}
    assert {cell["strategy"] for cell in cells} == {"theirs", "ours"}
    assert percents == {50.0}


def test_of_two_results_of_one_column_the_newest_counts_in_any_order(
    bench: Bench, tmp_path: Path
) -> None:
    worse = [replace(mark, scores=dict.fromkeys(DIMENSIONS, 0.0)) for mark in MARKS]
    old, new = tmp_path / "old", tmp_path / "new"
    read_results(bench, lm_eval_output(tmp_path / "o", "t_1"), old, strategy="s", model="m")
    time.sleep(1.1)  # an artefact's age is told in seconds
    read_results(bench, lm_eval_output(tmp_path / "n", "t_1", worse), new, strategy="s", model="m")
    for number, order in enumerate([(old, new), (new, old)]):
        report = pooled_report(order, tmp_path / f"pooled-{number}")
        cells = json.loads((report.path / "table.json").read_text())
        assert {cell["percent"] for cell in cells if cell["kind"] == "foundation"} == {0.0}


def test_the_folder_and_the_verdicts_come_from_the_command_line(tmp_path: Path) -> None:
    recipe = write_tiny_run(tmp_path, tmp_path / "no-model")
    asked = ["adapter", "write", str(recipe), str(tmp_path / "bench")]
    done = CliRunner().invoke(app, [*asked, "-s", "benchmark.judge={name: rules}"])
    assert done.exit_code == 0, done.output
    written = open_bench(tmp_path / "bench")
    assert done.stdout.strip() == str(written.folder)
    marks = [
        Mark(item, 0, "Bees.", "stop", "a judge", dict.fromkeys(DIMENSIONS, 2.0))
        for item in written.items
    ]
    out = tmp_path / "out" / "m"
    out.mkdir(parents=True)
    lines = "\n".join(json.dumps({"filtered_resps": [[mark.as_json()]]}) for mark in marks)
    (out / f"samples_{written.settings.name}_{written.kinds[0]}_t.jsonl").write_text(lines)
    read = ["adapter", "read", str(written.folder), str(out), str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*read, "--strategy", "theirs", "--model", "m"])
    assert done.exit_code == 0, done.output
    assert open_artefact(done.stdout.strip()).config["strategy"] == "theirs"
