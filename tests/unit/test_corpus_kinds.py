"""A classifier trained on people's kinds says what it is worth before it suggests anything."""

import json

import pytest

from drenpa.core.errors import DataError
from drenpa.corpus.annotate import Store
from drenpa.corpus.annotators import report_annotators
from drenpa.corpus.kinds import (
    Taken,
    measure_kinds,
    suggest_from_accepted,
    suggest_kinds,
    take_suggestions,
    tell_kinds,
)
from drenpa.corpus.label_studio import write_tasks
from drenpa.corpus.rounds import Draft, GoldDraft, RuleError


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "records.jsonl"
    rows = [
        {
            "id": f"{kind}-{number}",
            "kind": kind,
            "question": f"What of {words} number {number}?",
            "answer": f"Of {words} we say this.",
            "source": f"book {number % 5}",
        }
        for kind, words in (("foundation", "verbs and nouns"), ("profession", "goats and barns"))
        for number in range(10)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_it_is_measured_with_sources_kept_together(labelled):
    found = measure_kinds([labelled])
    assert (found.n, found.accuracy, found.macro_f1) == (20, 1.0, 1.0)


def test_each_row_gets_a_suggestion_with_its_source_and_reasons(labelled, tmp_path):
    items = tmp_path / "drafts.jsonl"
    items.write_text(
        '{"id": "x", "question": "How are goats kept?", "tags": ["barns"]}\n{"id": "y"}\n'
        '{"id": "z", "text": "verbs"}\n'
    )
    rows = []
    with pytest.raises(DataError, match=r"drafts.jsonl:2: needs an 'id' and one of question"):
        rows.extend(suggest_kinds([labelled], items))
    items.write_text(items.read_text().replace('{"id": "y"}\n', ""))
    first, second = suggest_kinds([labelled], items)
    assert (first["id"], first["label"], first["source"]) == ("x", "profession", "model")
    assert "'goats' speaks for profession" in first["reasons"]
    assert (second["label"], second["probability"] > 0.5) == ("foundation", True)


def test_what_it_is_worth_is_said_and_suggestions_are_written(labelled, tmp_path):
    said: list[str] = []
    tell_kinds([labelled], labelled, tmp_path / "out.jsonl", say=said.append)
    assert said[0].startswith("20 records in five folds by source: accuracy 1.00, macro-F1 1.00")
    assert said[2].split() == ["foundation", "10", "0"]
    assert sum(int(line.split()[1]) for line in said if line.startswith("of ")) == 20
    assert said[-1] == f"20 suggestions in {tmp_path / 'out.jsonl'}"
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 20
    with pytest.raises(DataError, match="belong together"):
        tell_kinds([labelled], labelled, None, say=said.append)


RATING = {"agrees": True, "quality": 2, "diversity": 1, "timeliness": 1, "professionalism": 2}
WORDS = {"foundation": "verbs and nouns", "profession": "goats and barns"}


def act(store, name, action, actor, content):
    return store.act(name, action, actor, content, seen=store.item(name).version)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s.db") as store:
        drafts = [
            Draft(id="open", question="Where do goats sleep?", answer="In barns."),
            Draft(id="named", question="Hm?", kind="connection"),
            Draft(id="edited", question="Why?"),
        ]
        store.add(drafts, actor="import")
        edit = {"question": "Why?", "kind": "foundation", "stability": "slow", "demand": 1}
        act(store, "edited", "edit_question", "dolma", edit)
        yield store


def suggestions(path, *rows):
    path.write_text("".join(json.dumps({"source": "model"} | row) + "\n" for row in rows))
    return path


def test_a_suggestion_enters_round_1_with_its_source_and_people_decide(store, tmp_path):
    given = suggestions(
        tmp_path / "s.jsonl",
        {"id": "open", "label": "profession", "probability": 0.8, "reasons": ["'goats'"]},
        {"id": "named", "label": "profession"},
        {"id": "edited", "label": "profession"},
        {"id": "gone", "label": "profession"},
        {"id": "open", "label": ""},
        {"id": "open", "label": "meta"},
        {"id": "open", "label": "foundation", "source": "person"},
    )
    found = take_suggestions(store, given, "lead")
    assert (found.taken, found.decided, found.empty) == (1, 2, 1)
    assert [line.partition(": ")[2] for line in found.refused] == [
        "field 'label': Input should be 'foundation', 'profession', 'metacognition' or "
        "'connection' (it is 'meta')",
        "field 'id': the store has no item 'gone'",
        "field 'source': 'person' decides, it does not suggest",
    ]
    item = store.item("open")
    assert (item.kind, item.kind_source, item.is_kind_suggested) == ("profession", "model", True)
    assert item.suggestion.reasons == ("'goats'",)
    event = store.history("open")[-1]
    assert (event.action, event.actor) == ("suggest", "lead")
    assert event.content["source"] == "model"
    assert [store.item(name).kind_source for name in ("named", "edited")] == ["draft", "person"]
    before = len(store.events())
    again = suggestions(given, {"id": "open", "label": "profession", "probability": 0.8})
    again.write_text(again.read_text().replace("0.8}", '0.8, "reasons": ["\'goats\'"]}'))
    assert take_suggestions(store, again, "lead") == Taken(1, 0, 0)
    assert len(store.events()) == before
    edit = {"question": "Where?", "kind": "connection", "stability": "slow", "demand": 1}
    item = act(store, "open", "edit_question", "tashi", edit)
    assert (item.kind, item.kind_source, item.is_kind_suggested) == ("connection", "person", False)
    with pytest.raises(RuleError, match="its kind was decided"):
        act(store, "open", "suggest", "lead", {"kind": "profession", "source": "model"})


def test_who_saw_an_item_before_a_suggestion_still_decides_it(store):
    seen = store.item("open").version
    act(store, "open", "suggest", "lead", {"kind": "connection", "source": "model"})
    edit = {"question": "Where?", "kind": "profession", "stability": "slow", "demand": 1}
    item = store.act("open", "edit_question", "tashi", edit, seen=seen)
    assert (item.kind, item.kind_source) == ("profession", "person")


def test_a_control_item_takes_no_suggestion(store):
    gold = GoldDraft(id="g", question="2+2?", answer="5", agrees=False, kind="foundation")
    store.add_gold([gold], actor="import")
    with pytest.raises(RuleError, match="no suggestion is taken"):
        act(store, "g", "suggest", "lead", {"kind": "connection", "source": "model"})


def test_who_brings_suggestions_in_is_no_annotator(store):
    act(store, "open", "suggest", "lead", {"kind": "connection", "source": "model"})
    assert [report.person for report in report_annotators(store)] == ["dolma"]


def test_a_store_trains_on_what_was_accepted_and_suggests_for_the_rest(store, tmp_path):
    with pytest.raises(DataError, match="two labels or more"):
        suggest_from_accepted(store, "lead", say=print)
    for kind, words in WORDS.items():
        for number in range(6):
            name = f"{kind}-{number}"
            text = {"question": f"What of {words}?", "kind": kind}
            store.add([Draft(id=name, **text, source=f"book {number}")], actor="import")
            edit = text | {"stability": "slow", "demand": 1}
            act(store, name, "edit_question", "dolma", edit)
            act(store, name, "edit_answer", "tashi", {"answer": f"Of {words}.", "kind": kind})
            for rater in ("r1", "r2", "r3"):
                act(store, name, "rate", rater, RATING | {"kind": kind})
    said: list[str] = []
    assert suggest_from_accepted(store, "lead", say=said.append) == Taken(1, 0, 0)
    assert said[0].startswith("12 records in five folds by source: accuracy 1.00")
    item = store.item("open")
    assert (item.kind, item.kind_source) == ("profession", "model")
    assert any("goats" in reason for reason in item.suggestion.reasons)
    assert store.item("named").kind == "connection"
    write_tasks(store, tmp_path / "t.json", "pema", "question")
    tasks = {t["data"]["item"]: t for t in json.loads((tmp_path / "t.json").read_text())}
    [prediction] = tasks["open"]["predictions"]
    assert prediction["model_version"] == "model"
    assert prediction["score"] == item.suggestion.probability > 0.5
    assert "score" not in tasks["named"]["predictions"][0]
