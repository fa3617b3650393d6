"""Tasks for Label Studio and the way back; what a real one does with them is in tests/e2e."""

import json
from xml.etree import ElementTree

import pytest

from drenpa.core.errors import DataError
from drenpa.corpus.annotate import Store
from drenpa.corpus.label_studio import project_config, take_export, write_tasks
from drenpa.corpus.rounds import CandidateDraft, Draft

CHOICES = {"kind": "foundation", "stability": "slow"}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s.db") as store:
        answers = tuple(CandidateDraft(id=name, answer=f"Answer {name}") for name in "xyz")
        drafts = [
            Draft(id="a", question="What is a verb?", candidates=answers),
            Draft(id="b", question="ཡི་གེ།", candidates=answers[:2]),
        ]
        store.add(drafts, actor="import")
        yield store


def result(name, kind, value):
    return {"from_name": name, "to_name": "shown_question", "type": kind, "value": value}


def export_of(path, *results, **changes):
    """The file as Label Studio exports it once each task has an annotation with the results."""
    tasks = json.loads(path.read_text())
    for number, task in enumerate(tasks, 1):
        task["id"] = number
        task["annotations"] = [{"result": list(results), "was_cancelled": False} | changes]
    path.write_text(json.dumps(tasks))
    return path


def question_results(question="What does a verb do?"):
    return [
        result("question", "textarea", {"text": [question]}),
        *(result(name, "choices", {"choices": [value]}) for name, value in CHOICES.items()),
        result("demand", "number", {"number": 2}),
    ]


def test_the_configuration_has_a_control_for_each_field_and_a_value_for_each_text():
    for phase in ("question", "answer", "audit", "adjudication", "accepted", "rejected"):
        root = ElementTree.fromstring(project_config(phase, candidates=2))
        names = {part.get("name") for part in root.iter() if part.get("toName")}
        texts = {part.get("name") for part in root.iter("Text")}
        assert {part.get("toName") for part in root.iter() if part.get("toName")} <= texts
        if phase == "audit":
            assert {"agrees", "kind", "quality", "professionalism", "comment"} <= names
        if phase == "accepted":
            assert names == {"rank_1", "note_1", "rank_2", "note_2"}
        if phase == "rejected":
            assert names == {"question", "answer", "kind"}


def test_every_value_of_the_configuration_is_in_every_task(store, tmp_path):
    write_tasks(store, tmp_path / "t.json", "dolma", "question")
    root = ElementTree.parse(tmp_path / "t.xml")
    named = {part.get("value")[1:] for part in root.iter("Text")}
    tasks = json.loads((tmp_path / "t.json").read_text())
    assert len(tasks) == 2
    for task in tasks:
        assert named <= task["data"].keys()
        assert task["data"]["person"] == "dolma"


def test_an_annotated_task_is_taken_once(store, tmp_path):
    path = tmp_path / "t.json"
    write_tasks(store, path, "dolma", "question", count=1)
    export_of(path, *question_results())
    for _ in range(2):
        outcome = take_export(store, path)
        assert (outcome.taken, outcome.waiting, outcome.refused) == (1, 0, ())
    [item] = [item for item in store.items() if item.phase == "answer"]
    assert (item.question, item.kind, item.demand) == ("What does a verb do?", "foundation", 2.0)
    assert item.editors == {"dolma"}


def test_tasks_without_annotation_wait_and_two_annotations_are_refused(store, tmp_path):
    path = tmp_path / "t.json"
    write_tasks(store, path, "dolma", "question")
    tasks = json.loads(path.read_text())
    skipped = {"result": [], "was_cancelled": True}
    tasks[0] |= {"id": 7, "annotations": [skipped]}
    tasks[1] |= {"id": 8, "annotations": [{"result": []}, {"result": []}, skipped]}
    path.write_text(json.dumps(tasks))
    outcome = take_export(store, path)
    assert (outcome.taken, outcome.waiting) == (0, 1)
    assert outcome.refused == (f"{path}: task 8: has 2 annotations; a task is one person's",)


def test_conflicts_and_broken_rules_are_told_by_task(store, tmp_path):
    path = tmp_path / "t.json"
    write_tasks(store, path, "dolma", "question", count=1)
    [task] = json.loads(path.read_text())
    name = task["data"]["item"]
    edit = {"question": "Mine", "kind": "connection", "stability": "slow", "demand": 1}
    store.act(name, "edit_question", "tashi", edit, seen=1)
    outcome = take_export(store, export_of(path, *question_results()))
    assert outcome.refused == (
        f"{path}: task 1: {name}: tashi changed it meanwhile (edit_question); look at it again",
    )
    write_tasks(store, path, "tashi", "question")
    outcome = take_export(store, export_of(path, *question_results()[:2]))
    assert "edit_question: stability: Field required" in outcome.refused[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read as JSON"),
        ('{"tasks": []}', "is not a list of tasks"),
    ],
)
def test_a_file_that_is_no_export_is_refused(store, tmp_path, text, told):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=told):
        take_export(store, tmp_path / "t.json")


@pytest.mark.parametrize(
    "task",
    [
        3,
        {},
        {"data": {}, "annotations": [{"result": []}]},
        {"data": {"item": "a"}, "annotations": 5},
        {
            "data": {"item": "a", "seen": "x", "phase": "question", "person": "x", "question": "?"},
            "annotations": [{"result": [{"from_name": "kind", "value": {"choices": []}}]}],
        },
    ],
)
def test_a_task_of_another_project_is_refused_and_the_rest_goes_on(store, tmp_path, task):
    path = tmp_path / "t.json"
    write_tasks(store, path, "dolma", "question", count=1)
    tasks = json.loads(export_of(path, *question_results()).read_text())
    path.write_text(json.dumps([task, *tasks]))
    outcome = take_export(store, path)
    assert outcome.taken == 1
    [refusal] = outcome.refused
    assert "is no task that was made here" in refusal


def test_candidates_of_items_with_fewer_of_them_are_ranked_too(store, tmp_path):
    rating = {"agrees": True, "kind": "foundation", "quality": 2, "diversity": 1}
    rating |= {"timeliness": 1, "professionalism": 1}
    for name in "ab":
        edit = {"question": "Q?", "kind": "foundation", "stability": "slow", "demand": 1}
        store.act(name, "edit_question", "dolma", edit, seen=1)
        answer = {"answer": "So.", "kind": "foundation"}
        store.act(name, "edit_answer", "tashi", answer, seen=2)
        for rater in ("r1", "r2", "r3"):
            store.act(name, "rate", rater, rating, seen=3)
    path = tmp_path / "t.json"
    write_tasks(store, path, "pema", "accepted")
    results = [result(f"rank_{n}", "number", {"number": n}) for n in (1, 2, 3)]
    tasks = json.loads(path.read_text())
    for number, task in enumerate(tasks, 1):
        given = results[: 3 if task["data"]["item"] == "a" else 2]
        task |= {"id": number, "annotations": [{"result": given}]}
    path.write_text(json.dumps(tasks))
    outcome = take_export(store, path)
    assert (outcome.taken, outcome.refused) == (2, ())
    assert [entry.rank for entry in store.item("a").orders["pema"].ranks] == [1, 2, 3]
    assert [entry.rank for entry in store.item("b").orders["pema"].ranks] == [1, 2]
