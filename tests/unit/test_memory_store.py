"""The store: adding, superseding, deleting, searching in three scripts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Record
from drenpa.memory.store import Passage, Store, passage_of, terms

TEA = Passage(id="tea", text="Butter tea is churned with salt in a long wooden tube.")
YAK = Passage(id="yak", text="A yak carries loads over high passes and gives rich milk.")
TSHEG = Passage(id="tsheg", text="ཚེག་གིས་ཚིག་འབྲུ་སོ་སོར་འབྱེད།", language="bo")
SHAD = Passage(id="shad", text="ཤད་ཀྱིས་ཚིག་གྲུབ་མཇུག་སྡུད།", language="bo")
SNOW = Passage(id="snow", text="雪山的融水流进江河。", language="zh")
PEAR = Passage(id="pear", text="梨子在秋天成熟。", language="zh")
ALL = (TEA, YAK, TSHEG, SHAD, SNOW, PEAR)


@pytest.fixture
def store():
    with Store.create(":memory:") as made:
        made.add(ALL, at="2026-01-01")
        yield made


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How do I churn butter teas?", "tea"),
        ("Which animal gives milk?", "yak"),
        ("ཚིག་འབྲུ་འབྱེད་མཁན་ནི་གང་།", "tsheg"),
        ("ཤད་ཀྱི་བྱེད་ལས་གང་།", "shad"),
        ("融水从哪里来？", "snow"),
        ("梨几月成熟？", "pear"),
    ],
)
def test_a_question_finds_the_passage_that_shares_its_words(store, question, expected):
    assert store.search(question)[0].passage.id == expected


def test_a_question_in_function_words_only_is_still_searched():
    assert terms("what is it") == ["what", "is", "it"]
    with Store.create(":memory:") as store:
        store.add([Passage(id="a", text="It is what it is."), TEA], at="2026")
        assert [hit.passage.id for hit in store.search("What is it?")] == ["a"]


def test_a_question_without_words_finds_nothing(store):
    assert store.search("?! …") == []


def test_cover_is_one_for_a_passage_that_holds_every_word_and_falls_with_each_missing_one(store):
    whole, part = (store.search(q)[0] for q in ("churned butter tea", "churned butter soup"))
    assert whole.cover == pytest.approx(1.0)
    assert whole.passage.id == part.passage.id == "tea"
    assert 0.3 < part.cover < 0.7


def test_a_rare_word_covers_more_than_a_common_one():
    common = [Passage(id=f"p{n}", text=f"tea number{n}") for n in range(9)]
    with Store.create(":memory:") as store:
        store.add([*common, Passage(id="rare", text="momo")], at="2026")
        by_id = {hit.passage.id: hit.cover for hit in store.search("tea momo", limit=20)}
    assert by_id["rare"] > 0.9 > 0.1 > by_id["p0"]


def test_equal_passages_come_in_the_order_of_their_ids():
    twins = [Passage(id=name, text="tea with salt") for name in ("c", "a", "b")]
    with Store.create(":memory:") as store:
        store.add([*twins, YAK], at="2026")
        assert [hit.passage.id for hit in store.search("tea")] == ["a", "b", "c"]


def test_a_superseded_passage_is_found_no_more_but_stays_in_the_history(store):
    fresh = TEA.model_copy(update={"text": "An electric mixer does the same."})
    store.supersede([fresh], at="2026-03-01")
    assert store.search("churned in a wooden tube") == []
    assert store.search("electric mixer")[0].since == "2026-03-01"
    assert [(v.passage.text, v.since, v.until) for v in store.history("tea")] == [
        (TEA.text, "2026-01-01", "2026-03-01"),
        (fresh.text, "2026-03-01", ""),
    ]
    assert len(store) == len(ALL)


def test_superseding_with_the_same_passage_changes_nothing(store):
    store.supersede([TEA], at="2027-01-01")
    assert [version.since for version in store.history("tea")] == ["2026-01-01"]


def test_superseding_an_unknown_passage_adds_it(store):
    store.supersede([Passage(id="momo", text="Momos are steamed.")], at="2026-02-01")
    assert store.search("steamed momos")[0].passage.id == "momo"


def test_nothing_is_superseded_at_a_time_before_it_held(store):
    fresh = TEA.model_copy(update={"text": "New."})
    with pytest.raises(DataError, match="tea: holds since 2026-01-01"):
        store.supersede([fresh], at="2025-12-31")


def test_one_bad_passage_keeps_the_whole_batch_out(store):
    with pytest.raises(DataError, match="yak: is in :memory: already"):
        store.add([Passage(id="new", text="New."), YAK], at="2026-02-01")
    assert "new" not in store
    assert store.search("new") == []


def test_a_deleted_passage_leaves_no_bytes_in_the_file(tmp_path: Path):
    file = tmp_path / "store.sqlite"
    secret = "Zangmo prefers tea without sugar"
    with Store.create(file) as store:
        store.add([Passage(id="a", text=secret, stability="personal"), TEA], at="2026-01-01")
        store.supersede([Passage(id="a", text="Zangmo now takes honey")], at="2026-02-01")
        assert b"Zangmo" in file.read_bytes()
        store.delete(["a"])
        assert store.history("a") == []
        assert store.search("Zangmo") == []
    left = file.read_bytes()
    assert b"Zangmo" not in left
    assert b"zangmo".hex().encode() not in left


def test_deleting_what_was_never_there_is_an_error(store):
    with pytest.raises(DataError, match="momo: is not in"):
        store.delete(["momo"])


def test_a_store_on_disk_is_found_again_and_can_be_copied(tmp_path: Path):
    with Store.create(tmp_path / "one" / "store.sqlite") as store:
        store.add(ALL, at="2026-01-01")
        found = store.search("butter tea")
        store.copy(tmp_path / "two" / "store.sqlite").close()
    before = (tmp_path / "one" / "store.sqlite").read_bytes()
    for place in ("one", "two"):
        with Store.open(tmp_path / place / "store.sqlite", read_only=True) as opened:
            assert opened.search("butter tea") == found
            assert opened.passages() == sorted(ALL, key=lambda passage: passage.id)
    assert (tmp_path / "one" / "store.sqlite").read_bytes() == before


def test_a_store_opened_to_read_cannot_be_written(tmp_path: Path):
    with Store.create(tmp_path / "s") as store:
        store.add([TEA], at="2026")
    with (
        Store.open(tmp_path / "s", read_only=True) as opened,
        pytest.raises(ArtefactError, match="readonly"),
    ):
        opened.add([YAK], at="2026")


def test_a_file_that_is_no_store_is_refused_and_nothing_is_overwritten(tmp_path: Path):
    with pytest.raises(ArtefactError, match="no such store"):
        Store.open(tmp_path / "absent")
    (tmp_path / "text").write_text("not a database, but long enough to be looked at" * 20)
    with pytest.raises(ArtefactError, match="not a database"):
        Store.open(tmp_path / "text")
    with pytest.raises(ArtefactError, match="is there already"):
        Store.create(tmp_path / "text")
    sqlite3.connect(tmp_path / "other").executescript("CREATE TABLE t (x)")
    with pytest.raises(ArtefactError, match="format 0"):
        Store.open(tmp_path / "other")


@pytest.mark.parametrize(
    "question",
    [
        '" OR 1 --',
        "tea AND NOT (butter",
        "NEAR(tea, 2) ^butter*",
        "body : tea",
        "tea\x00butter",
        "'); DROP TABLE versions; --",
        "tea " * 50_000,
        " ".join(f"word{n}" for n in range(50_000)) + " tea",
    ],
)
def test_no_question_is_read_as_query_syntax(store, question):
    store.search(question)
    assert len(store) == len(ALL)
    assert store.search("butter tea")[0].passage.id == "tea"


def test_a_record_becomes_a_passage_of_its_own_id():
    record = Record(
        id="r", kind="foundation", question="Q?", answer="A.", source="s", stability="slow"
    )
    assert passage_of(record) == Passage(
        id="r", text="A.", question="Q?", source="s", stability="slow", record="r"
    )
    with pytest.raises(DataError, match="withheld"):
        passage_of(record.model_copy(update={"answer": None}))
