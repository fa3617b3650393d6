"""Work is shared out evenly among those who may do it, and sharing out again completes the plan."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drenpa.core.errors import DataError
from drenpa.corpus.annotate import Store
from drenpa.corpus.assign import assign
from drenpa.corpus.rounds import Draft, GoldDraft, RuleError

QUESTION = {"question": "Why?", "kind": "foundation", "stability": "slow", "demand": 1}
ANSWER = {"answer": "So.", "kind": "foundation"}
RATING = {
    "agrees": True,
    "kind": "foundation",
    "quality": 2,
    "diversity": 1,
    "timeliness": 1,
    "professionalism": 1,
}
PEOPLE = ["ama", "dolma", "nyima", "pema", "tashi"]


def act(store, name, action, actor, content):
    return store.act(name, action, actor, content, seen=store.item(name).version)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s.db") as store:
        drafts = [Draft(id=f"n{number:02}", question="Why?") for number in range(20)]
        store.add(drafts, actor="import")
        store.add_gold(
            [GoldDraft(id="g", question="2+2?", answer="4", agrees=True, kind="foundation")],
            actor="import",
        )
        yield store


def edit_all(store, editors):
    for item, editor in zip(store.items(), itertools.cycle(editors), strict=False):
        if not item.gold:
            act(store, item.id, "edit_question", editor, QUESTION)
            act(store, item.id, "edit_answer", editor, ANSWER)


def test_questions_are_shared_out_evenly(store):
    sharing = assign(store, PEOPLE, "question", actor="lead")
    assert sharing.assigned == 20
    assert sharing.load == dict.fromkeys(PEOPLE, 4)
    assert sharing.short == ()
    assert len(store.open_items("ama", "question")) == 4
    assert store.open_items("stranger", "question") == []


def test_three_who_did_not_edit_rate_each_item(store):
    edit_all(store, PEOPLE)
    sharing = assign(store, PEOPLE, "audit", actor="lead")
    assert sharing.load == dict.fromkeys(PEOPLE, 12)
    for item in store.items():
        if item.gold:
            assert item.assigned == {}
        else:
            assert len(item.assigned["audit"]) == 3
            assert not set(item.assigned["audit"]) & item.editors


def test_sharing_out_again_changes_nothing_and_completes_what_is_new(store):
    assign(store, PEOPLE, "question", actor="lead")
    before = store.items()
    assert assign(store, PEOPLE, "question", actor="lead").assigned == 0
    assert store.items() == before
    store.add([Draft(id=f"m{number}", question="How?") for number in range(5)], actor="import")
    sharing = assign(store, PEOPLE, "question", actor="lead")
    assert sharing.assigned == 5
    assert sharing.load == dict.fromkeys(PEOPLE, 5)


def test_who_leaves_gives_back_what_is_not_done(store):
    edit_all(store, ["lead"])
    assign(store, PEOPLE, "audit", actor="lead")
    done = store.open_items("ama", "audit")[0]
    act(store, done.id, "rate", "ama", RATING)
    sharing = assign(store, PEOPLE[1:], "audit", actor="lead")
    assert sharing.short == ()
    assert [rating.rater for rating in store.item(done.id).ratings] == ["ama"]
    assert "ama" in store.item(done.id).assigned["audit"]
    assert [item.id for item in store.open_items("ama", "audit") if not item.gold] == []
    assert sum(sharing.load.values()) == 3 * 20 - 1
    assert max(sharing.load.values()) - min(sharing.load.values()) <= 2  # nobody loses an item


def test_an_item_that_too_few_may_rate_is_named(store):
    edit_all(store, ["ama"])
    assert assign(store, ["ama", "dolma", "pema"], "audit", actor="lead").short == tuple(
        item.id for item in store.items() if not item.gold
    )


def test_each_repair_is_one_persons_and_no_other_makes_it(store):
    edit_all(store, ["ama"])
    for name in ("n00", "n01"):
        for rater in ("r1", "r2", "r3"):
            act(store, name, "rate", rater, RATING | {"quality": 0})
    sharing = assign(store, ["dolma", "pema"], "rejected", actor="lead")
    assert (sharing.assigned, sharing.load) == (2, {"dolma": 1, "pema": 1})
    [mine] = store.open_items("pema", "rejected")
    repair = {"question": "Why?", "answer": "Thus.", "kind": "foundation"}
    with pytest.raises(RuleError, match="assigned to others"):
        act(store, mine.id, "repair", "dolma", repair)
    assert act(store, mine.id, "repair", "pema", repair).phase == "audit"


def test_too_few_people_are_refused(store):
    with pytest.raises(DataError, match="2 people for phase 'audit', it takes 3"):
        assign(store, ["ama", "pema", "ama", " "], "audit", actor="lead")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(3, 6), st.integers(0, 3))
def test_nobody_has_more_than_one_item_above_anyone(tmp_path_factory, items, people, phase):
    names = [f"p{number}" for number in range(people)]
    with Store(tmp_path_factory.mktemp("s") / "s.db") as store:
        store.add([Draft(id=f"n{n}", question="Why?") for n in range(items)], actor="import")
        if phase:
            edit_all(store, ["lead"])
        load = assign(store, names, "audit" if phase else "question", actor="lead").load
    assert max(load.values()) - min(load.values()) <= 1
    assert sum(load.values()) == items * (3 if phase else 1)
