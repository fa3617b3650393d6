"""The rounds: each touches its own part, raters are others than editors, and nothing is lost."""

import itertools
import json
import multiprocessing
import sqlite3
from dataclasses import replace

import pytest
from tests.killed import killed_at_statement

from drenpa.config import CorpusConfig
from drenpa.core.errors import DataError, DrenpaError
from drenpa.core.records import Ranking, Record
from drenpa.corpus.annotate import (
    BATCH,
    Step,
    Store,
    export,
    exported_lines,
    read_drafts,
    read_history,
)
from drenpa.corpus.assign import assign
from drenpa.corpus.audit import AcceptanceRule
from drenpa.corpus.curate import curate
from drenpa.corpus.intake import read_rankings
from drenpa.corpus.rounds import (
    ConflictError,
    Draft,
    Event,
    GoldDraft,
    RuleError,
    may_work,
    replay,
)

CANDIDATES = ({"id": "x", "answer": "A doing word."}, {"id": "y", "answer": "A thing."})
DRAFT = Draft(id="a", question="What is a verb?", answer="It names an action.", source="book")
QUESTION = {
    "question": "What does a verb do?",
    "kind": "foundation",
    "stability": "slow",
    "demand": 2,
}
ANSWER = {"answer": "It names what is done.", "kind": "foundation"}
RATING = {
    "agrees": True,
    "kind": "foundation",
    "quality": 2,
    "diversity": 1,
    "timeliness": 2,
    "professionalism": 1,
}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as store:
        store.add([DRAFT], actor="import")
        yield store


def act(store, action, actor, content, name="a"):
    return store.act(name, action, actor, content, seen=store.item(name).version)


def edited(store, name="a"):
    act(store, "edit_question", "dolma", QUESTION, name)
    return act(store, "edit_answer", "tashi", ANSWER, name)


def rated(store, *changes, name="a"):
    edited(store, name)
    for rater, change in zip(["r1", "r2", "r3"], changes or ({}, {}, {}), strict=True):
        item = act(store, "rate", rater, RATING | change, name)
    return item


def test_an_item_goes_through_the_rounds(store):
    assert store.item("a").phase == "question"
    item = act(store, "edit_question", "dolma", QUESTION)
    assert (item.phase, item.question, item.answer) == (
        "answer",
        "What does a verb do?",
        "It names an action.",
    )
    item = act(store, "edit_answer", "tashi", ANSWER)
    assert (item.phase, item.answer) == ("audit", "It names what is done.")
    for rater in ("r1", "r2", "r3"):
        item = act(store, "rate", rater, RATING)
    assert item.phase == "accepted"
    assert item.editors == {"dolma", "tashi"}


def test_a_draft_without_a_kind_gets_a_suggestion_that_says_so(store):
    assert (store.item("a").kind, store.item("a").kind_source) == ("foundation", "rules")
    store.add([Draft(id="b", question="Hm?")], actor="import")
    assert (store.item("b").kind, store.item("b").kind_source) == (None, "")


def test_round_1_cannot_touch_the_answer_and_round_2_not_the_question(store):
    with pytest.raises(RuleError, match="edit_question: answer: Extra inputs"):
        act(store, "edit_question", "dolma", QUESTION | {"answer": "mine"})
    with pytest.raises(RuleError, match="in phase question; round 2 edits answers"):
        act(store, "edit_answer", "tashi", ANSWER)
    act(store, "edit_question", "dolma", QUESTION)
    with pytest.raises(RuleError, match="edit_answer: question: Extra inputs"):
        act(store, "edit_answer", "tashi", ANSWER | {"question": "mine"})
    with pytest.raises(RuleError, match="in phase answer; round 1 edits questions"):
        act(store, "edit_question", "dolma", QUESTION)


def test_editors_do_not_rate_and_nobody_rates_twice(store):
    edited(store)
    with pytest.raises(RuleError, match="dolma edited it"):
        act(store, "rate", "dolma", RATING)
    act(store, "rate", "r1", RATING)
    with pytest.raises(RuleError, match="r1 has rated it"):
        act(store, "rate", "r1", RATING)


def test_a_rating_is_whole_numbers_from_0_to_2(store):
    edited(store)
    for wrong in ({"quality": 3}, {"quality": 1.5}, {"quality": -1}, {"kind": "meta"}):
        with pytest.raises(RuleError, match=next(iter(wrong))):
            act(store, "rate", "r1", RATING | wrong)
    assert store.item("a").ratings == ()


def test_raters_do_not_see_each_other_until_all_have_rated(store):
    edited(store)
    act(store, "rate", "r1", RATING)
    item = act(store, "rate", "r2", RATING | {"quality": 1})
    assert [rating.rater for rating in item.visible_ratings("r2")] == ["r2"]
    assert item.visible_ratings("r3") == ()
    item = act(store, "rate", "r3", RATING)
    assert len(item.visible_ratings("r3")) == 3


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        (({"quality": 0}, {}, {}), "quality: 0, 2, 2"),
        (
            ({}, {"kind": "profession"}, {"kind": "connection"}),
            "kinds: connection, foundation, profession",
        ),
    ],
)
def test_disputes_go_to_someone_who_neither_edited_nor_rated(store, changes, remark):
    item = rated(store, *changes)
    assert (item.phase, item.remark) == ("adjudication", remark)
    decision = {"outcome": "accepted", "kind": "profession", "comment": "as I see it"}
    for involved in ("dolma", "r2"):
        with pytest.raises(RuleError, match="somebody else adjudicates"):
            act(store, "adjudicate", involved, decision)
    item = act(store, "adjudicate", "judge", decision)
    assert (item.phase, item.kind) == ("accepted", "profession")


def test_the_kind_of_most_raters_holds(store):
    item = rated(store, {}, {"kind": "profession"}, {"kind": "profession"})
    assert (item.phase, item.kind) == ("accepted", "profession")


def test_low_scores_reject_and_a_repair_is_rated_afresh(store):
    low = {"quality": 0, "agrees": False}
    item = rated(store, low, low, low)
    assert item.phase == "rejected"
    assert "question and answer do not agree" in item.remark
    assert "quality has a median of 0" in item.remark
    item = act(store, "repair", "r1", QUESTION_AND_ANSWER)
    assert (item.phase, item.ratings, item.answer) == ("audit", (), "Better.")
    with pytest.raises(RuleError, match="r1 edited it"):
        act(store, "rate", "r1", RATING)


def test_the_bar_of_an_item_is_the_one_it_came_in_with(store, tmp_path):
    store.add([DRAFT.model_copy(update={"id": "strict"})], actor="import", rule=STRICT)
    assert rated(store).phase == "accepted"
    item = rated(store, name="strict")
    assert item.phase == "rejected"
    assert item.remark == "the mean score is 1.50, below 1.6"
    export(store, tmp_path / "out")
    with Store(tmp_path / "again.db") as again:
        again.restore(read_history(tmp_path / "out" / "history.jsonl"))
        assert again.item("strict").phase == "rejected"


STRICT = AcceptanceRule(min_mean=1.6)
QUESTION_AND_ANSWER = {"question": "What is it?", "answer": "Better.", "kind": "foundation"}


def test_an_adjudicator_may_send_an_item_back(store):
    rated(store, {"quality": 0}, {}, {})
    item = act(store, "adjudicate", "judge", {"outcome": "answer", "kind": "foundation"})
    assert (item.phase, item.ratings) == ("answer", ())


def test_who_saw_an_older_version_changes_nothing(store):
    seen = store.item("a").version
    store.act("a", "edit_question", "dolma", QUESTION, seen=seen)
    with pytest.raises(ConflictError, match=r"dolma changed it meanwhile \(edit_question\)"):
        store.act("a", "edit_question", "tashi", QUESTION, seen=seen)


def test_undoing_is_a_new_event_and_only_of_ones_own_last_step(store):
    before = store.item("a")
    item = act(store, "edit_question", "dolma", QUESTION)
    with pytest.raises(RuleError, match="only they can undo it"):
        act(store, "undo", "tashi", {"version": item.version})
    with pytest.raises(RuleError, match="version 7 is no step to undo"):
        act(store, "undo", "dolma", {"version": 7})
    item = act(store, "undo", "dolma", {"version": item.version})
    assert (item.phase, item.question, item.version) == ("question", before.question, 3)
    assert [event.action for event in store.history("a")] == ["import", "edit_question", "undo"]
    with pytest.raises(RuleError, match="an import cannot be undone"):
        act(store, "undo", "import", {"version": 1})


def test_an_edit_that_others_built_upon_is_not_undone(store):
    item = act(store, "edit_question", "dolma", QUESTION)
    act(store, "edit_answer", "tashi", ANSWER)
    with pytest.raises(RuleError, match="others have built on that step"):
        act(store, "undo", "dolma", {"version": item.version})


def test_a_rating_is_taken_back_beside_others_but_not_once_all_can_be_seen(store):
    edited(store)
    first = act(store, "rate", "r1", RATING)
    act(store, "rate", "r2", RATING)
    item = act(store, "undo", "r1", {"version": first.version})
    assert [rating.rater for rating in item.ratings] == ["r2"]
    act(store, "rate", "r1", RATING)
    last = act(store, "rate", "r3", RATING)
    with pytest.raises(RuleError, match="all ratings are in and can be seen"):
        act(store, "undo", "r3", {"version": last.version})


def test_raters_who_saw_one_version_do_not_disturb_each_other(store):
    seen = edited(store).version
    for rater in ("r1", "r2", "r3"):
        item = store.act("a", "rate", rater, RATING, seen=seen)
    assert item.phase == "accepted"


def test_who_rates_a_text_that_was_repaired_meanwhile_is_told(store):
    seen = edited(store).version
    repaired = act(store, "repair", "pema", QUESTION_AND_ANSWER)
    with pytest.raises(ConflictError, match=r"pema changed it meanwhile \(repair\)"):
        store.act("a", "rate", "r1", RATING, seen=seen)
    act(store, "undo", "pema", {"version": repaired.version})
    with pytest.raises(ConflictError, match=r"pema changed it meanwhile \(undo\)"):
        store.act("a", "rate", "r1", RATING, seen=repaired.version)
    with pytest.raises(ConflictError, match="has no version 99"):
        store.act("a", "rate", "r1", RATING, seen=99)


def test_a_repair_must_have_seen_the_ratings_it_throws_away(store):
    seen = edited(store).version
    act(store, "rate", "r1", RATING)
    with pytest.raises(ConflictError, match="r1 changed it meanwhile"):
        store.act("a", "repair", "pema", QUESTION_AND_ANSWER, seen=seen)


def test_an_accepted_item_is_repaired_and_rated_anew_and_loses_orders_of_another_question(store):
    for candidate in CANDIDATES:
        act(store, "add_candidate", "dolma", candidate)
    question = rated(store).question
    ranks = [{"candidate": "y", "rank": 2}, {"candidate": "x", "rank": 1}]
    act(store, "rank", "nyima", {"ranks": ranks})
    same = QUESTION_AND_ANSWER | {"question": question}
    item = act(store, "repair", "pema", same)
    assert (item.phase, item.ratings, set(item.orders)) == ("audit", (), {"nyima"})
    assert act(store, "repair", "pema", QUESTION_AND_ANSWER).orders == {}


def test_who_took_a_repair_back_has_seen_the_ratings_and_does_not_rate(store):
    edited(store)
    act(store, "rate", "r1", RATING)
    repaired = act(store, "repair", "pema", QUESTION_AND_ANSWER)
    item = act(store, "undo", "pema", {"version": repaired.version})
    assert [rating.rater for rating in item.ratings] == ["r1"]
    assert item.editors == {"dolma", "tashi"}
    with pytest.raises(RuleError, match="pema repaired it, and undoing that does not"):
        act(store, "rate", "pema", RATING)
    assert not may_work(item, "pema")
    assert not item.is_hidden_from("pema")
    assert assign(store, ["r1", "r2", "pema"], "audit", actor="lead").short == ("a",)
    assert store.item("a").assigned["audit"] == ("r1", "r2")
    with Store(store.path) as other:
        assert other.items() == store.items() == list(replay(store.events()).values())


def test_such_a_rating_in_an_older_store_stands(store, tmp_path):
    edited(store)
    repaired = act(store, "repair", "pema", QUESTION_AND_ANSWER)
    item = act(store, "undo", "pema", {"version": repaired.version})
    rating = Event(0, "a", item.version + 1, "rate", "pema", "2026-01-01T00:00:00+00:00", RATING)
    with Store(tmp_path / "older.db") as older:
        older.restore([*store.events(), rating])
        assert [rating.rater for rating in older.item("a").ratings] == ["pema"]


def test_an_assigned_item_is_for_those_it_is_assigned_to(store):
    act(store, "assign", "lead", {"phase": "question", "people": ["tashi"]})
    with pytest.raises(RuleError, match="is assigned to others"):
        act(store, "edit_question", "dolma", QUESTION)
    assert store.next_item("dolma", "question") is None
    assert store.next_item("tashi", "question").id == "a"
    act(store, "assign", "lead", {"phase": "question", "people": []})
    assert act(store, "edit_question", "dolma", QUESTION).phase == "answer"
    with pytest.raises(RuleError, match="a person stands twice"):
        act(store, "assign", "lead", {"phase": "audit", "people": ["x", "x"]})


GOLD = GoldDraft(id="g", question="2 + 2?", answer="5", agrees=False, kind="foundation", quality=0)


def test_a_control_item_is_rated_by_everybody_and_goes_nowhere(store):
    assert store.add_gold([GOLD], actor="import") == 1
    assert store.item("g").version == edited(store).version
    for rater in ("r1", "r2", "r3", "r4"):
        item = act(store, "rate", rater, RATING, "g")
    assert (item.phase, len(item.ratings), item.kind) == ("audit", 4, None)
    with pytest.raises(RuleError, match="r4 has rated it"):
        act(store, "rate", "r4", RATING, "g")
    with pytest.raises(RuleError, match="is a control item"):
        act(store, "repair", "pema", QUESTION_AND_ANSWER, "g")
    assert exported_lines([item]) == {
        "records.jsonl": [],
        "rankings.jsonl": [],
        "ratings.jsonl": [],
    }


def test_about_one_in_ten_items_to_rate_is_a_control_item_in_no_pattern(store):
    names = [f"n{number}" for number in range(120)]
    store.add([Draft(id=name, question=f"Why {name}?") for name in names], actor="import")
    for name in names:
        edited(store, name)
    store.add_gold(
        [GOLD.model_copy(update={"id": f"g{number}"}) for number in range(40)], actor="import"
    )
    places = []
    for number in range(60):
        item = store.next_item("r1", "audit")
        if item.gold:
            places.append(number)
        act(store, "rate", "r1", RATING, item.id)
    assert 2 <= len(places) <= 12
    gaps = {after - before for before, after in itertools.pairwise(places)}
    assert len(gaps) > 1


def test_many_steps_at_once_refuse_only_those_against_the_rules_and_can_be_given_again(store):
    store.add([Draft(id="b", question="Why?")], actor="import")
    steps = [
        Step("a", "edit_question", "dolma", QUESTION, 1),
        Step("a", "edit_question", "tashi", QUESTION, 1),
        Step("b", "edit_answer", "tashi", ANSWER, 1),
        Step("nothing", "rate", "r1", RATING, 1),
        Step("b", "edit_question", "tashi", QUESTION, 1),
    ]
    for _ in range(2):
        refused = store.act_all(steps)
        assert [isinstance(refusal, RuleError) for refusal in refused] == [
            False,
            True,
            True,
            True,
            False,
        ]
    assert isinstance(refused[1], ConflictError)
    assert len(store.events()) == 4


def test_a_history_builds_the_same_store_again(store, tmp_path):
    rated(store)
    store.add_gold([GOLD], actor="import")
    export(store, tmp_path / "out")
    events = read_history(tmp_path / "out" / "history.jsonl")
    with Store(tmp_path / "again.db") as again:
        again.restore(events)
        assert again.items() == store.items()
        assert again.events() == store.events()
        with pytest.raises(RuleError, match="holds items already"):
            again.restore(events)


def test_candidates_are_ranked_with_notes_once_the_item_is_accepted(store):
    for candidate in CANDIDATES:
        act(store, "add_candidate", "dolma", candidate)
    order = {
        "ranks": [
            {"candidate": "y", "rank": 2, "note": "no"},
            {"candidate": "x", "rank": 1, "note": "short but right"},
        ]
    }
    with pytest.raises(RuleError, match="once the item is accepted"):
        act(store, "rank", "pema", order)
    rated(store)
    with pytest.raises(RuleError, match="rank each of its candidates once"):
        act(store, "rank", "pema", {"ranks": [order["ranks"][0]] * 2})
    item = act(store, "rank", "pema", order)
    assert not may_work(item, "pema")
    assert may_work(item, "dolma")
    with pytest.raises(RuleError, match="ranked already"):
        act(store, "add_candidate", "dolma", {"id": "z", "answer": "More."})


@pytest.mark.parametrize(
    ("candidates", "told"),
    [
        ([CANDIDATES[0], CANDIDATES[0] | {"answer": "Other."}], "the id 'x' stands twice"),
        ([CANDIDATES[0], CANDIDATES[0] | {"id": "z"}], "the answer 'A doing word.' stands twice"),
    ],
)
def test_candidates_that_come_in_are_distinct(tmp_path, candidates, told):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"id": "b", "question": "Why?", "candidates": candidates}))
    with pytest.raises(DataError) as caught:
        read_drafts(path)
    assert str(caught.value) == f"{path}:1: field 'candidates': {told}; give each its own"


def test_an_older_store_whose_candidates_are_not_distinct_still_opens(store, tmp_path):
    [event] = store.events()
    draft = event.content["draft"] | {"candidates": [CANDIDATES[0], CANDIDATES[0]]}
    with Store(tmp_path / "older.db") as older:
        older.restore([replace(event, content=event.content | {"draft": draft})])
    with Store(tmp_path / "older.db") as older:
        assert len(older.item("a").candidates) == 2


def test_a_step_needs_a_name_a_known_item_and_known_fields(store):
    with pytest.raises(RuleError, match="who are you"):
        act(store, "edit_question", "  ", QUESTION)
    with pytest.raises(RuleError, match="nothing: no such item"):
        store.act("nothing", "rate", "r1", RATING, seen=1)
    with pytest.raises(RuleError, match="come in by `add`"):
        store.act("a", "import", "r1", {}, seen=1)


def test_importing_again_passes_over_what_is_there(store):
    assert store.add([DRAFT, Draft(id="b", question="Why?")], actor="import") == 1
    assert [item.id for item in store.items()] == ["a", "b"]


def test_events_cannot_be_altered_or_removed(store):
    connection = sqlite3.connect(store.path)
    for statement in ("UPDATE events SET actor = 'x'", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            connection.execute(statement)
    connection.close()


def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE things (x)")
    connection.close()
    with pytest.raises(DrenpaError, match="is a database of something else"):
        Store(path)
    (tmp_path / "text.db").write_text("no database at all, but long enough to be read as one" * 20)
    with pytest.raises(DrenpaError, match="cannot be used as an annotation store"):
        Store(tmp_path / "text.db")


def test_the_next_item_is_one_that_the_person_may_work_on(store):
    store.add([Draft(id=name, question=f"Why {name}?") for name in "bcd"], actor="import")
    for name in "ab":
        edited(store, name)
    act(store, "rate", "r1", RATING, "b")
    assert store.next_item("dolma", "audit") is None
    assert store.next_item("r2", "audit").id == "b"  # the one nearest to its third rating
    assert store.next_item("r1", "audit").id == "a"
    assert store.next_item("dolma", "question").id in "cd"


def test_what_is_exported_is_what_curate_reads(store, tmp_path):
    for candidate in CANDIDATES:
        act(store, "add_candidate", "dolma", candidate)
    rated(store)
    order = [{"candidate": "y", "rank": 2}, {"candidate": "x", "rank": 1, "note": "right"}]
    act(store, "rank", "pema", {"ranks": order})
    store.add([Draft(id="unfinished", question="Why?")], actor="import")
    counts = export(store, tmp_path / "out")
    assert counts == {
        "records.jsonl": 1,
        "rankings.jsonl": 1,
        "ratings.jsonl": 3,
        "history.jsonl": 10,
    }
    item = {"id": "t", "kind": "foundation", "question": "How far?", "answer": "Far."}
    (tmp_path / "benchmark.jsonl").write_text(json.dumps(item))
    corpus = curate(
        CorpusConfig(
            records=(str(tmp_path / "out/records.jsonl"),),
            rankings=(str(tmp_path / "out/rankings.jsonl"),),
            benchmark=(str(tmp_path / "benchmark.jsonl"),),
        ),
        root=tmp_path / "runs",
    )
    record = corpus.rows("records", Record)[0]
    assert (record.question, record.answer) == ("What does a verb do?", "It names what is done.")
    assert (record.stability, record.demand, record.source) == ("slow", 2.0, "book")
    ranking = corpus.rows("rankings", Ranking)[0]
    assert ranking.annotator == "pema"
    assert [(c.answer, c.rank, c.note) for c in ranking.candidates] == [
        ("A thing.", 2, ""),
        ("A doing word.", 1, "right"),
    ]


def test_the_longest_id_is_released_and_annotators_stay_apart(store, tmp_path):
    name = "n" * 200
    store.add([DRAFT.model_copy(update={"id": name})], actor="import")
    for candidate in CANDIDATES:
        act(store, "add_candidate", "dolma", candidate, name)
    rated(store, name=name)
    order = [{"candidate": "y", "rank": 2}, {"candidate": "x", "rank": 1}]
    for annotator in ("pema", "nyima"):
        act(store, "rank", annotator, {"ranks": order}, name)
    assert export(store, tmp_path / "out")["rankings.jsonl"] == 2
    rankings = read_rankings(tmp_path / "out" / "rankings.jsonl", records=[name])
    assert {ranking.annotator for ranking in rankings} == {"pema", "nyima"}
    assert all(ranking.id.startswith("nnn") for ranking in rankings)


def test_another_opening_of_the_store_sees_the_same_state(store):
    rated(store)
    with Store(store.path) as other:
        assert other.items() == store.items()
        act(other, "add_candidate", "x", CANDIDATES[0])
        assert store.items() == other.items() == list(replay(store.events()).values())


def test_a_full_disk_is_said_and_what_was_taken_before_stays(store):
    act(store, "edit_question", "dolma", QUESTION)
    [pages] = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    drafts = [Draft(id=f"n{n}", question="Why? " * 2000) for n in range(20)]
    with pytest.raises(DrenpaError, match=r"store\.db: cannot be written \(.*full\)") as caught:
        store.add(drafts, actor="import")
    assert not isinstance(caught.value, RuleError)
    assert [item.id for item in store.items()] == ["a"]
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert store.add(drafts, actor="import") == 20
    assert act(store, "edit_answer", "tashi", ANSWER).phase == "audit"
    with Store(store.path) as other:
        assert other.items() == store.items()


def test_a_store_in_a_place_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DrenpaError, match=r"file/s\.db: cannot be used as an annotation store"):
        Store(tmp_path / "file" / "s.db")


def _open_all(paths, start, done):
    start.wait(timeout=60)
    faults = []
    for path in paths:
        try:
            with Store(path) as store:
                faults += store.items()
        except DrenpaError as error:
            faults.append(str(error))
    done.put(faults)


def test_a_new_store_is_opened_by_several_processes_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    paths, count = [tmp_path / f"{number}.db" for number in range(30)], 4
    start, done = context.Barrier(count), context.Queue()
    workers = [context.Process(target=_open_all, args=(paths, start, done)) for _ in range(count)]
    for worker in workers:
        worker.start()
    assert [done.get(timeout=120) for _ in workers] == [[]] * count
    for worker in workers:
        worker.join(timeout=60)
    done.close()
    done.join_thread()


OPEN = "import sys; from drenpa.corpus.annotate import Store; Store(sys.argv[1])"


def test_a_kill_while_a_store_is_made_leaves_a_file_that_can_be_used(tmp_path):
    path = tmp_path / "s.db"
    killed_at_statement(OPEN, path, pattern="application_id =")
    assert path.exists()
    with Store(path) as store:
        assert store.add([DRAFT], actor="import") == 1


@pytest.mark.parametrize(
    ("line", "change", "told"),
    [
        (1, {"content": {}}, "field 'content': a: import: draft: Field required"),
        (2, {"content": {}}, "field 'content': a: edit_question: question: Field required"),
        (3, {"content": {}}, "field 'content': a: undo: version: Field required"),
        (3, {"version": 2}, "field 'version': is 2 after 2; take the original file"),
        (2, {"actor": "tashi"}, None),
        (1, {"action": "burn"}, "field 'action': "),
    ],
)
def test_a_damaged_history_is_told_by_line(store, tmp_path, line, change, told):
    item = act(store, "edit_question", "dolma", QUESTION)
    act(store, "undo", "dolma", {"version": item.version})
    export(store, tmp_path / "out")
    path = tmp_path / "out" / "history.jsonl"
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    rows[line - 1] |= change
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = f"{path}:{line}: " if told else f"{path}:3: a: tashi did that step"
    with pytest.raises(DataError) as caught:
        read_history(path)
    assert str(caught.value).startswith(place + (told or ""))
    assert len(caught.value.faults) == 1


def _rate_all(path, rater, names, done):
    with Store(path) as store:
        for name in names:
            store.act(name, "rate", rater, RATING, seen=3)  # what all of them saw
    done.put(rater)


def test_raters_in_several_processes_at_once_lose_nothing(store):
    names = [f"n{number}" for number in range(8)]
    store.add([Draft(id=name, question=f"Why {name}?") for name in names], actor="import")
    for name in names:
        edited(store, name)
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    raters = ["r1", "r2", "r3"]
    workers = [
        context.Process(target=_rate_all, args=(store.path, rater, names, done)) for rater in raters
    ]
    for worker in workers:
        worker.start()
    assert sorted(done.get(timeout=120) for _ in raters) == raters
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    done.close()
    done.join_thread()
    for name in names:
        item = store.item(name)
        assert item.phase == "accepted"
        assert sorted(rating.rater for rating in item.ratings) == raters


BRING_IN = """
import sys
from drenpa.corpus.annotate import Store
from drenpa.corpus.rounds import Draft

with Store(sys.argv[1]) as store:
    store.add([Draft(id=f"n{n:05}", question=f"Why {n}?") for n in range(5000)], actor="import")
"""


def test_a_kill_during_an_import_loses_nothing_committed(tmp_path):
    path = tmp_path / "store.db"
    killed_at_statement(BRING_IN, path, pattern="INSERT INTO events", count=3 * BATCH - 7)
    with Store(path) as store:
        assert len(store.items()) == 2 * BATCH  # a batch is there wholly or not at all
        drafts = [Draft(id=f"n{n:05}", question=f"Why {n}?") for n in range(5000)]
        assert store.add(drafts, actor="import") == 5000 - 2 * BATCH
        assert len(store.events()) == 5000
