"""The group `drenpa annotate`: from files of items to the files that `curate` reads."""

import csv
import json

import pytest
from typer.testing import CliRunner

from drenpa.cli import app
from drenpa.corpus.annotate import Store
from drenpa.corpus.intake import read_rankings, read_records

RATING = {
    "agrees": "yes",
    "kind": "foundation",
    "quality": "2",
    "diversity": "1",
    "timeliness": "1",
    "professionalism": "2",
    "done": "yes",
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments, code=0):
        result = CliRunner().invoke(app, ["annotate", *map(str, arguments)])
        assert result.exit_code == code, result.output + repr(result.exception)
        return result.output

    return call


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fill(path, change):
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row.update(change(row, number) if callable(change) else change)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)


def test_a_team_goes_from_items_to_records_and_rankings(run, tmp_path):
    items = [{"id": f"n{n}", "question": f"Why {n}?", "answer": f"So {n}."} for n in range(4)]
    lines(tmp_path / "items.jsonl", items)
    gold = {"id": "g", "question": "2+2?", "answer": "5", "agrees": False, "kind": "foundation"}
    lines(tmp_path / "gold.jsonl", [gold])
    answers = [{"item": f"n{n}", "answer": a} for n in range(4) for a in ("One.", "Two.")]
    lines(tmp_path / "answers.jsonl", answers)
    assert run("add", "s.db", "items.jsonl") == "4 items are new, 0 were there\n"
    assert run("add", "s.db", "items.jsonl") == "0 items are new, 4 were there\n"
    assert "1 control items are new" in run("add", "s.db", "gold.jsonl", "--gold")
    assert "8 candidates taken" in run("add", "s.db", "answers.jsonl", "--candidates")

    assign = ("assign", "s.db", "dolma", "tashi", "--phase", "question", "--by", "lead")
    assert run(*assign) == "4 items assigned anew\n     2 dolma\n     2 tashi\n"
    for person in ("dolma", "tashi"):
        sheet = tmp_path / f"{person}.csv"
        assert "2 items in" in run(
            "export", "s.db", sheet, "--person", person, "--phase", "question"
        )
        fill(sheet, {"kind": "foundation", "done": "yes"})
        assert "2 items taken, 0 refused" in run("import", "s.db", sheet)
    assert "4 answer" in run("status", "s.db")
    run("export", "s.db", "answer.csv", "--person", "lead", "--phase", "answer")
    fill(tmp_path / "answer.csv", {"done": "yes"})
    run("import", "s.db", "answer.csv")
    raters = ("r1", "r2", "r3")
    assert "4 items assigned anew" in run("assign", "s.db", *raters, "--phase", "audit")
    assert "4 audit         r1 4, r2 4, r3 4" in run("status", "s.db")
    for rater in raters:
        run("export", "s.db", f"{rater}.csv", "--person", rater, "--phase", "audit")
        fill(tmp_path / f"{rater}.csv", RATING)
    assert run("import", "s.db", *(f"{rater}.csv" for rater in raters)).count("0 refused") == 3
    run("export", "s.db", "rank.csv", "--person", "pema", "--phase", "accepted")
    fill(tmp_path / "rank.csv", lambda _, n: {"rank": 1 + n % 2, "note": "so", "done": "yes"})
    run("import", "s.db", "rank.csv")

    told = run("audit", "s.db", "--json", "audit.json")
    assert "4 records with 12 ratings" in told
    assert "| quality | 0 | 0 | 12 | 1.00 [1.00, 1.00] | – | 1.00 [1.00, 1.00] |" in told
    assert all(f"| {rater} | " in told for rater in (*raters, "pema", "tashi"))
    figures = json.loads((tmp_path / "audit.json").read_text())
    assert figures["audit"]["aspects"]["quality"]["alpha"]["value"] is None

    assert "     4 out/records.jsonl" in run("release", "s.db", "out")
    records = read_records(tmp_path / "out" / "records.jsonl")
    assert [record.answer for record in records] == [f"So {n}." for n in range(4)]
    rankings = read_rankings(
        tmp_path / "out" / "rankings.jsonl", records=[record.id for record in records]
    )
    assert [candidate.rank for candidate in rankings[0].candidates] == [1, 2]
    assert "5 items from" in run("restore", "again.db", "out/history.jsonl")
    with Store("s.db") as store, Store("again.db") as again:
        assert store.items() == again.items()


def test_a_refused_line_is_told_and_the_exit_code_says_so(run, tmp_path):
    lines(tmp_path / "items.jsonl", [{"id": "a", "question": "Why?"}])
    run("add", "s.db", "items.jsonl")
    run("export", "s.db", "s.csv", "--person", "dolma", "--phase", "question")
    fill(tmp_path / "s.csv", {"kind": "meta", "done": "yes"})
    output = run("import", "s.db", "s.csv", code=1)
    assert "0 items taken, 1 refused" in output
    assert "s.csv:2: a: edit_question: kind" in output


def test_a_refused_candidate_is_told_and_the_exit_code_says_so(run, tmp_path):
    lines(tmp_path / "items.jsonl", [{"id": "a", "question": "Why?"}])
    run("add", "s.db", "items.jsonl")
    answers = [{"item": name, "answer": "So."} for name in ("a", "b")]
    lines(tmp_path / "answers.jsonl", answers)
    output = run("add", "s.db", "answers.jsonl", "--candidates", code=1)
    assert "1 candidates taken, 1 refused" in output
    assert "answers.jsonl:2: b: no such item" in output


@pytest.mark.parametrize("gold", [{}, {"agrees": True, "kind": "foundation"}])
def test_items_that_say_otherwise_than_when_they_came_in_are_named(run, tmp_path, gold):
    items = [{"id": n, "question": f"{n}?", "answer": "So.", **gold} for n in "abc"]
    add = ("add", "s.db", "items.jsonl", *(["--gold"] if gold else []))
    lines(tmp_path / "items.jsonl", items)
    assert "otherwise" not in run(*add)
    assert "otherwise" not in run(*add)
    items[0]["answer"] = items[2]["question"] = "No."
    lines(tmp_path / "items.jsonl", items)
    told = run(*add)
    assert "0 " in told
    assert "2 of these say otherwise now and stay as they came in: a, c; change them" in told
    with Store(tmp_path / "s.db") as store:
        assert store.item("a").answer == "So."


def test_a_kind_that_was_suggested_since_is_no_change_of_the_item(run, tmp_path):
    lines(tmp_path / "items.jsonl", [{"id": "a", "question": "What is a verb?"}])
    run("add", "s.db", "items.jsonl")
    row = {"id": "a", "label": "connection", "source": "model", "probability": 0.5}
    run("suggest", "s.db", lines(tmp_path / "suggested.jsonl", [row]), "--by", "lead")
    assert run("add", "s.db", "items.jsonl") == "0 items are new, 1 were there\n"


def test_an_item_whose_language_is_no_code_does_not_come_in(run, tmp_path):
    lines(tmp_path / "items.jsonl", [{"id": "a", "question": "Why?", "language": "EN"}])
    result = CliRunner().invoke(app, ["annotate", "add", "s.db", "items.jsonl"])
    assert "items.jsonl:1: field 'language': 'EN' is no language code; did you mean 'en'?" in str(
        result.exception
    )


def test_label_studio_tasks_are_written_by_their_suffix(run, tmp_path):
    lines(tmp_path / "items.jsonl", [{"id": "a", "question": "Why?"}])
    run("add", "s.db", "items.jsonl")
    run("export", "s.db", "tasks.json", "--person", "dolma", "--phase", "question")
    assert (tmp_path / "tasks.xml").read_text().startswith("<View>")
    assert "1 not done yet" in run("import", "s.db", _annotated(tmp_path / "tasks.json"))


@pytest.mark.parametrize("there", ["s.csv", "s.xlsx", "s.jsonl", "s.json", "s.xml"])
def test_a_sheet_that_is_there_is_not_written_over(run, tmp_path, there):
    lines(tmp_path / "items.jsonl", [{"id": "a", "question": "Why?"}])
    run("add", "s.db", "items.jsonl")
    (tmp_path / there).write_text("filled in by hand")
    file = there.replace(".xml", ".json")
    command = ["annotate", "export", "s.db", file, "--person", "dolma", "--phase", "question"]
    result = CliRunner().invoke(app, command)
    assert str(result.exception) == (
        f"{there}: is there already; name a file that does not exist yet"
    )
    assert (tmp_path / there).read_text() == "filled in by hand"


def test_a_release_goes_into_a_new_folder_and_leaves_what_stands_there_alone(run, tmp_path):
    lines(tmp_path / "items.jsonl", [{"id": "a", "question": "Why?"}])
    run("add", "s.db", "items.jsonl")
    own = lines(tmp_path / "records.jsonl", [{"id": "mine"}])
    before = own.read_text()
    for folder in (".", "items.jsonl"):
        result = CliRunner().invoke(app, ["annotate", "release", "s.db", folder])
        assert str(result.exception) == (
            f"{folder}: is there already; name a folder that does not exist yet"
        )
    assert own.read_text() == before
    (tmp_path / "out.part").mkdir()
    assert "     1 deep/out/history.jsonl" in run("release", "s.db", "deep/out")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def _annotated(path):
    tasks = [task | {"annotations": []} for task in json.loads(path.read_text())]
    path.write_text(json.dumps(tasks))
    return path


def test_suggestions_go_from_a_file_into_the_store(run, tmp_path):
    lines(tmp_path / "items.jsonl", [{"id": "a", "question": "Hm?"}])
    run("add", "s.db", "items.jsonl")
    row = {"id": "a", "label": "connection", "source": "model", "probability": 0.5}
    lines(tmp_path / "suggested.jsonl", [row])
    told = run("suggest", "s.db", "suggested.jsonl", "--by", "lead")
    assert told.startswith("1 items stand with these suggestions, 0 are decided already")
    with Store(tmp_path / "s.db") as store:
        assert (store.item("a").kind, store.item("a").kind_source) == ("connection", "model")
    lines(tmp_path / "suggested.jsonl", [row | {"id": "b"}])
    assert "suggested.jsonl:1: field 'id': the store has no" in run(
        "suggest", "s.db", "suggested.jsonl", code=1
    )


def test_a_store_that_is_not_there_is_a_wrong_argument(run):
    assert "does not exist" in run("status", "nothing.db", code=2)


def test_a_tokenizer_that_is_not_there_is_said(run, tmp_path):
    items = [{"id": "a", "question": "Why?", "answer": "x"}]
    lines(tmp_path / "items.jsonl", items)
    run("add", "s.db", "items.jsonl")
    result = CliRunner().invoke(app, ["annotate", "audit", "s.db", "--tokenizer", "no/such/folder"])
    assert "no/such/folder" in str(result.exception)
