"""Sheets for people who work offline: nothing is lost, and conflicts are told by line."""

import csv
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from tests.killed import killed_at_statement

from drenpa.core.errors import DataError
from drenpa.corpus.annotate import BATCH, Store
from drenpa.corpus.clean import clean_text
from drenpa.corpus.exchange import take_candidates, take_sheet, write_sheet
from drenpa.corpus.rounds import CandidateDraft, Draft, GoldDraft

FORMATS = ("csv", "xlsx", "jsonl")
QUESTION = {"question": "What does it do?", "kind": "foundation", "stability": "slow", "demand": 2}
ANSWER = {"answer": "It acts.", "kind": "foundation"}
RATING = {
    "agrees": "yes",
    "kind": "foundation",
    "quality": 2,
    "diversity": 1,
    "timeliness": 2,
    "professionalism": 1,
}
BO = 'བྱ་བ་ནི་ཅི་ཞིག་ཡིན། "དཔེར་ན",\n=1+1'


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as store:
        store.add(
            [
                Draft(id="a", question="What is a verb?", answer="It names an action."),
                Draft(id="bo", question=BO, language="bo", answer="'=- ལན།"),
            ],
            actor="import",
        )
        yield store


def act(store, action, actor, content, name="a"):
    return store.act(name, action, actor, content, seen=store.item(name).version)


def edited(store, name="a"):
    act(store, "edit_question", "dolma", QUESTION, name)
    return act(store, "edit_answer", "tashi", ANSWER, name)


def accepted(store, name="a"):
    for answer in ("A doing word.", "=A thing"):
        act(store, "add_candidate", "x", {"id": answer[0], "answer": answer}, name)
    edited(store, name)
    for rater in ("r1", "r2", "r3"):
        item = act(store, "rate", rater, RATING, name)
    return item


def read(path):
    """The lines of a sheet as a person's program shows them, and how to save them again."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    rows = list(load_workbook(path).active.iter_rows(values_only=True))
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def save(path, rows):
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            table = csv.DictWriter(file, rows[0].keys())
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        book = load_workbook(path)
        header = [cell.value for cell in book.active[1]]
        for number, row in enumerate(rows, 2):
            for column, name in enumerate(header, 1):
                cell = book.active.cell(number, column, row[name])
                if isinstance(row[name], str):
                    cell.data_type = "s"
        book.save(path)


def fill(path, *changes):
    """Fill in the first lines of a sheet, each with its changes."""
    rows = read(path)
    for row, change in zip(rows, changes, strict=False):
        row.update(change)
    save(path, rows)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_item_goes_through_all_rounds_on_sheets(store, tmp_path, suffix):
    def sheet(person, phase, *changes):
        path = tmp_path / f"{phase}-{person}.{suffix}"
        write_sheet(store, path, person, phase)
        outcome = take_sheet(store, fill(path, *({**c, "done": "yes"} for c in changes)))
        assert outcome.refused == ()
        assert outcome.taken == 1

    store.add([Draft(id="c", question="Wait?")], actor="import")
    for name in ("bo", "c"):
        act(store, "assign", "lead", {"phase": "question", "people": ["nobody"]}, name)
    sheet("dolma", "question", {"question": "What is it for?", "kind": "profession"})
    sheet("tashi", "answer", {"answer": "=for acting", "kind": "profession"})
    paths = {}
    for rater in ("r1", "r2", "r3"):  # all three leave with their sheets before one comes back
        paths[rater] = tmp_path / f"audit-{rater}.{suffix}"
        write_sheet(store, paths[rater], rater, "audit")
    for rater, path in paths.items():
        score = {"r1": 0, "r2": 2, "r3": 1}[rater]
        fill(path, RATING | {"quality": score, "comment": f"by {rater}", "done": "yes"})
        assert take_sheet(store, path).refused == ()
    assert store.item("a").phase == "adjudication"
    sheet("judge", "adjudication", {"outcome": "accepted", "kind": "foundation", "comment": "ok"})
    item = store.item("a")
    assert (item.phase, item.question, item.answer) == (
        "accepted",
        "What is it for?",
        "=for acting",
    )
    assert [(r.rater, r.quality, r.comment) for r in item.ratings] == [
        ("r1", 0, "by r1"),
        ("r2", 2, "by r2"),
        ("r3", 1, "by r3"),
    ]
    for answer in ("A doing word.", "=A thing"):
        act(store, "add_candidate", "x", {"id": answer[0], "answer": answer})
    sheet("pema", "accepted", {"rank": 2, "note": "-dull"}, {"rank": 1})
    [order] = store.item("a").orders.values()
    assert [(e.candidate, e.rank, e.note) for e in order.ranks] == [("A", 2, "-dull"), ("=", 1, "")]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_rejected_item_is_repaired_on_a_sheet_and_rated_anew(store, tmp_path, suffix):
    edited(store)
    for number, rater in enumerate(("r1", "r2", "r3")):
        rating = RATING | {"quality": 0, "comment": "too short" if number == 1 else ""}
        act(store, "rate", rater, rating)
    path = tmp_path / f"repair.{suffix}"
    assert write_sheet(store, path, "pema", "rejected") == 1
    [row] = read(path)
    assert row["dispute"] == "quality has a median of 0, below 1\ntoo short"
    assert (row["question"], row["answer"], row["kind"]) == (
        "What does it do?",
        "It acts.",
        "foundation",
    )
    assert take_sheet(store, path).waiting == 1
    assert "field 'answer': filled in" in take_sheet(store, fill(path, {"answer": "x"})).refused[0]
    fill(path, {"answer": "=It names what is done.", "kind": "connection", "done": "yes"})
    for _ in range(2):
        outcome = take_sheet(store, path)
        assert (outcome.taken, outcome.refused) == (1, ())
    item = store.item("a")
    assert (item.phase, item.question, item.answer, item.kind, item.ratings) == (
        "audit",
        "What does it do?",
        "=It names what is done.",
        "connection",
        (),
    )
    assert item.editors == {"dolma", "tashi", "pema"}
    assert store.history("a")[-1].action == "repair"
    for rater in ("r1", "r2", "r3"):
        act(store, "rate", rater, RATING)
    assert store.item("a").phase == "accepted"


def test_a_repair_that_somebody_else_made_meanwhile_is_refused(store, tmp_path):
    edited(store)
    for rater in ("r1", "r2", "r3"):
        act(store, "rate", rater, RATING | {"quality": 0})
    path = tmp_path / "repair.csv"
    write_sheet(store, path, "pema", "rejected")
    repair = {"question": "What is it for?", "answer": "To act.", "kind": "foundation"}
    act(store, "repair", "nyima", repair)
    outcome = take_sheet(store, fill(path, {"answer": "Other.", "done": "yes"}))
    assert outcome.refused == (
        f"{path}:2: a: nyima changed it meanwhile (repair); look at it again",
    )
    assert store.item("a").answer == "To act."


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(
    lambda text: clean_text(text) and "x005F_" not in text
)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(question=texts, answer=texts)
def test_a_sheet_that_is_only_marked_changes_no_text(tmp_path, suffix, question, answer):
    database = tmp_path / "s.db"
    for path in tmp_path.glob("s.db*"):
        path.unlink()
    with Store(database) as store:
        store.add([Draft(id="=a", question=question, answer=answer)], actor="import")
        path = tmp_path / f"sheet.{suffix}"
        write_sheet(store, path, "@dolma", "question")
        assert take_sheet(store, path).waiting == 1
        assert take_sheet(store, fill(path, {"kind": "foundation", "done": "x"})).refused == ()
        item = store.item("=a")
        assert (item.phase, item.question) == ("answer", clean_text(question))
        assert item.answer == answer
        assert item.editors == {"@dolma"}
        write_sheet(store, path, "tashi", "answer")
        assert take_sheet(store, fill(path, {"done": "x"})).refused == ()
        assert store.item("=a").answer == clean_text(answer)


def test_conflicts_are_refused_by_line_and_the_rest_is_taken(store, tmp_path):
    path = tmp_path / "sheet.csv"
    assert write_sheet(store, path, "dolma", "question") == 2
    first = read(path)[0]["item"]
    other = {"a": "bo", "bo": "a"}[first]
    act(store, "edit_question", "tashi", QUESTION, first)
    fill(path, *[{"kind": "foundation", "done": "yes"}] * 2)
    outcome = take_sheet(store, path)
    assert (outcome.taken, outcome.waiting) == (1, 0)
    assert outcome.refused == (
        f"{path}:2: {first}: tashi changed it meanwhile (edit_question); look at it again",
    )
    assert store.item(other).editors == {"dolma"}


def test_a_sheet_can_come_back_twice(store, tmp_path):
    path = tmp_path / "sheet.jsonl"
    write_sheet(store, path, "dolma", "question")
    fill(path, *[{"kind": "foundation", "done": True}] * 2)
    for _ in range(2):
        outcome = take_sheet(store, path)
        assert (outcome.taken, outcome.refused) == (2, ())
    assert len(store.events()) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answer": "smuggled", "done": "yes"}, "field 'answer': is not what the store holds"),
        ({"question": "Other?"}, "field 'question': filled in, but the line is not marked"),
        ({"kind": "meta", "done": "yes"}, "edit_question: kind: Input should be"),
        ({"done": "perhaps"}, "field 'done': 'perhaps' is neither yes nor empty"),
        ({"item": "zz", "done": "yes"}, "field 'item': the store has no item 'zz'"),
        ({"seen": "7", "done": "yes"}, "field 'seen': a: '7' stands for no version of it"),
        (
            {"phase": "rejected", "done": "yes"},
            "is in phase question; repairs belong to round 3",
        ),
    ],
)
def test_a_line_at_fault_is_named_and_changes_nothing(store, tmp_path, change, told):
    path = tmp_path / "sheet.csv"
    act(store, "assign", "lead", {"phase": "question", "people": ["nobody"]}, "bo")
    write_sheet(store, path, "dolma", "question", count=1)
    outcome = take_sheet(store, fill(path, {"kind": "foundation"} | change))
    [refusal] = outcome.refused
    assert refusal.startswith(f"{path}:2: ")
    assert told in refusal
    assert len(store.events()) == 3


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_sheet_does_not_tell_how_often_an_item_was_changed(store, tmp_path, suffix):
    gold = GoldDraft(id="g", question="2+2?", answer="5", agrees=False, kind="foundation")
    store.add_gold([gold], actor="import")
    edited(store)
    act(store, "edit_question", "dolma", QUESTION, "bo")
    seen = {}
    for name in ("first", "second"):
        path = tmp_path / f"{name}.{suffix}"
        edits = {"first": [], "second": ["r7"]}[name]
        for rater in edits:
            act(store, "rate", rater, RATING, "g")
        items = [item for item in store.items() if item.phase == "audit"]
        seen[name] = {item.id: store.stamp(item.id, item.version) for item in items}
        write_sheet(store, path, "r1", "audit")
        assert {row["seen"] for row in read(path)} <= set(seen[name].values())
        assert all(re.fullmatch("[a-p]{16}", row["seen"]) for row in read(path))
    assert seen["first"]["a"] == seen["second"]["a"] != seen["first"]["g"] != seen["second"]["g"]
    with Store(store.path) as again, Store(tmp_path / "other.db") as other:
        assert again.stamp("a", 3) == store.stamp("a", 3) != other.stamp("a", 3)
        for version in (1, 2, 3):
            assert store.version_of("a", store.stamp("a", version)) == version


def test_a_rating_that_is_half_filled_in_is_refused_and_an_empty_one_waits(store, tmp_path):
    edited(store)
    path = tmp_path / "sheet.csv"
    write_sheet(store, path, "r1", "audit")
    assert take_sheet(store, path).waiting == 1
    outcome = take_sheet(store, fill(path, {"quality": "2", "done": "yes"}))
    assert "rate: agrees: Field required" in outcome.refused[0]


def test_a_ranking_needs_every_candidate(store, tmp_path):
    accepted(store)
    path = tmp_path / "sheet.csv"
    write_sheet(store, path, "pema", "accepted")
    outcome = take_sheet(store, fill(path, {"rank": "1", "done": "yes"}))
    assert "not every line of this item is marked" in outcome.refused[0]
    rows = [row | {"rank": "1", "done": "yes"} for row in read(path)]
    save(path, rows[:1])
    assert "at least 2 items" in take_sheet(store, path).refused[0]


def test_two_lines_of_one_item_are_refused(store, tmp_path):
    path = tmp_path / "sheet.csv"
    write_sheet(store, path, "dolma", "question", count=1)
    row = read(path)[0] | {"kind": "foundation", "done": "yes"}
    save(path, [row, row | {"question": "Other?"}])
    [refusal] = take_sheet(store, path).refused
    assert f"field 'item': stands already at {path}:2; keep one line" in refusal


def test_no_cell_is_a_formula(store, tmp_path):
    write_sheet(store, tmp_path / "s.xlsx", "dolma", "question")
    write_sheet(store, tmp_path / "s.csv", "dolma", "question")
    sheet = load_workbook(tmp_path / "s.xlsx").active
    assert "f" not in {cell.data_type for row in sheet.iter_rows() for cell in row}
    for row in read(tmp_path / "s.csv"):
        assert not any(value.startswith(("=", "+", "-", "@")) for value in row.values())


def test_what_cannot_be_written_is_said(store, tmp_path):
    with pytest.raises(DataError, match="nothing for dolma in phase 'audit'"):
        write_sheet(store, tmp_path / "s.csv", "dolma", "audit")
    with pytest.raises(DataError, match="nothing for dolma in phase 'rejected'"):
        write_sheet(store, tmp_path / "s.csv", "dolma", "rejected")
    with pytest.raises(DataError, match=r"is .csv, .xlsx or .jsonl, not '.ods'"):
        write_sheet(store, tmp_path / "s.ods", "dolma", "question")
    with pytest.raises(DataError, match="for one person"):
        write_sheet(store, tmp_path / "s.csv", " ", "question")
    store.add([Draft(id="long", question="x" * 40_000)], actor="import")
    with pytest.raises(DataError, match="long: field 'question' has 40000 characters"):
        write_sheet(store, tmp_path / "s.xlsx", "dolma", "question")
    assert not (tmp_path / "s.xlsx").exists()


@pytest.mark.parametrize("text", ["What is _x0041_?", "an x005F_ b"])
def test_what_xlsx_would_read_as_another_character_is_refused(store, tmp_path, text):
    store.add([Draft(id="odd", question=text)], actor="import")
    with pytest.raises(DataError, match="odd: field 'question' contains '"):
        write_sheet(store, tmp_path / "s.xlsx", "dolma", "question")
    assert write_sheet(store, tmp_path / "s.csv", "dolma", "question") == 3


def test_candidates_come_in_from_a_file_once(store, tmp_path):
    path = tmp_path / "candidates.jsonl"
    rows = [
        {"item": "a", "answer": "One."},
        {"item": "a", "answer": "Two."},
        {"item": "zz", "answer": "Lost."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(2):
        outcome = take_candidates(store, path, "models")
        assert (outcome.taken, outcome.refused) == (2, (f"{path}:3: zz: no such item",))
    assert store.item("a").candidates == (
        CandidateDraft(id="1", answer="One."),
        CandidateDraft(id="2", answer="Two."),
    )


TAKE = """
import sys
from pathlib import Path
from drenpa.corpus.annotate import Store
from drenpa.corpus.exchange import take_sheet

with Store(sys.argv[1]) as store:
    take_sheet(store, Path(sys.argv[2]))
"""


def test_a_kill_while_a_sheet_comes_in_loses_nothing_committed(tmp_path):
    path, count = tmp_path / "sheet.jsonl", 8 * BATCH
    with Store(tmp_path / "s.db") as store:
        drafts = [Draft(id=f"n{n}", question="Why?", kind="foundation") for n in range(count)]
        store.add(drafts, actor="import")
        write_sheet(store, path, "dolma", "question")
        save(path, [row | {"done": "yes"} for row in read(path)])
        killed_at_statement(
            TAKE, store.path, path, pattern="INSERT INTO events", count=2 * BATCH - 7
        )
        assert len(store.events()) == count + BATCH
        outcome = take_sheet(store, path)
        assert (outcome.taken, outcome.refused) == (count, ())
        assert len(store.events()) == 2 * count
        assert {item.phase for item in store.items()} == {"answer"}
