"""The probe: what counts as known, and what does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.memory_fakes import FakeKnowingModel

from drenpa.config import ProbeConfig
from drenpa.core.errors import DataError, ScoringError
from drenpa.core.records import Record
from drenpa.memory.probe import (
    blind_means,
    blocks_of,
    check_room,
    probe_block,
    readable_former,
    sample_block,
    share_between,
)


def record(name: str, answer: str = "", **changes) -> Record:
    values = {"id": name, "kind": "foundation", "question": f"what is {name}"}
    return Record(**(values | {"answer": answer or f"it goes by {name} alone"} | changes))


RECORDS = [record(name) for name in ("ka", "kha", "ga", "nga")]


def test_blind_means_by_hand():
    # Column 0 without row 0: 2 and 4, mean 3. Row 1 of column 0 leaves its own 2 out as well: 4.
    means = np.array([[9.0, 1, 1], [2, 9, 1], [4, 3, 9]])
    assert blind_means(means).tolist() == [[3, 3, 1], [4, 2, 1], [2, 1, 1]]


def test_known_by_hand():
    # The answer has five words. Blind: 4 nats each. Own question: its name is in it, (4*4 + 3)/5 =
    # 3.8. Open: 0.5. Known = (4 - 3.8)/(4 - 0.5).
    probe = probe_block(RECORDS, FakeKnowingModel())[0]
    assert (probe.blind, probe.surprise, probe.open) == pytest.approx((4.0, 3.8, 0.5))
    assert probe.known == pytest.approx(0.2 / 3.5)
    assert probe.tokens == 5


def test_an_answer_known_by_heart_is_known_and_its_neighbours_are_not():
    model = FakeKnowingModel({RECORDS[2].question: RECORDS[2].answer})
    known = [probe.known for probe in probe_block(RECORDS, model)]
    assert known[2] == pytest.approx(1.0)
    assert max(known[:2] + known[3:]) < 0.1


def test_shared_words_give_a_full_rank_and_hardly_any_knowledge():
    for probe in probe_block(RECORDS, FakeKnowingModel()):
        assert probe.rank == 1.0
        assert probe.known < 0.1


def test_a_model_that_does_not_look_at_the_question_knows_nothing():
    rows = [record(name, f"answer number {n}") for n, name in enumerate("abcd")]
    probes = probe_block(rows, FakeKnowingModel())
    assert [probe.known for probe in probes] == [0.0] * 4
    assert [probe.rank for probe in probes] == [0.5] * 4


def test_known_grows_as_the_answer_surprises_less():
    question, answer = RECORDS[0].question, RECORDS[0].answer
    known = [
        probe_block(RECORDS, FakeKnowingModel({question: answer}, recited=nats))[0].known
        for nats in (3.5, 2.5, 1.5, 0.7)
    ]
    assert known == sorted(known)
    assert len(set(known)) == 4


def test_a_model_that_cannot_read_an_open_book_is_told_to_know_nothing():
    assert share_between(-4.0, -3.96, -3.95) == 0.0


def test_a_former_answer_is_probed_like_the_present_one():
    old = "it went by another name then"
    former = {RECORDS[1].id: ["never was it said", old], RECORDS[0].id: ["an unknown one"]}
    model = FakeKnowingModel({RECORDS[1].question: old})
    probes = probe_block(RECORDS, model, former=former)
    assert [probe.former for probe in probes] == ["an unknown one", old, "", ""]
    assert [probe.former_known for probe in probes] == pytest.approx([0.0, 1.0, 0.0, 0.0])
    assert probes[1].known < 0.1


def test_former_answers_change_no_other_figure():
    model = FakeKnowingModel({RECORDS[1].question: RECORDS[1].answer})
    alone = probe_block(RECORDS, model)
    beside = probe_block(RECORDS, model, former={"ka": ["old one"]})
    assert [p.model_copy(update={"former": ""}) for p in beside] == alone


def test_sampled_answers_count_half():
    config = ProbeConfig(samples=2)
    model = FakeKnowingModel({RECORDS[0].question: RECORDS[0].answer}, recited=4.0)
    asked = probe_block(RECORDS, model)
    sampled = sample_block(RECORDS, asked, model, config, seed=1)
    assert asked[0].known == pytest.approx(0.0)
    assert (sampled[0].agreement, sampled[0].known) == pytest.approx((1.0, 0.5))
    assert sampled[1].agreement == pytest.approx(0.0)
    assert sampled[1].known == pytest.approx(asked[1].known / 2)


def test_a_log_probability_that_is_no_number_stops_the_probe():
    class Broken(FakeKnowingModel):
        def logprobs(self, pairs):
            return [(math.nan, 3) for _ in pairs]

    with pytest.raises(ScoringError, match="ka and its neighbours"):
        probe_block(RECORDS, Broken())


def test_blocks_hold_neighbours_of_one_language_whatever_order_they_come_in():
    rows = [
        record(f"{language}-{source}-{n}", source=source, language=language)
        for n in range(4)
        for source in ("a", "b")
        for language in ("en", "bo")
    ]
    blocks = blocks_of(rows, 4)
    assert blocks == blocks_of(rows[::-1], 4)
    assert [{(row.language, row.source) for row in block} for block in blocks] == [
        {("bo", "a")},
        {("bo", "b")},
        {("en", "a")},
        {("en", "b")},
    ]


@pytest.mark.parametrize("sizes", [(7, 1), (2, 2), (1, 1, 1), (3, 2), (20, 2, 1)])
def test_every_record_is_in_one_block_of_three_at_least(sizes):
    rows = [
        record(f"{language}{n}", language=language)
        for language, size in zip(("en", "zh", "bo"), sizes, strict=False)
        for n in range(size)
    ]
    blocks = blocks_of(rows, 6)
    assert sorted(row.id for block in blocks for row in block) == sorted(row.id for row in rows)
    assert min(len(block) for block in blocks) >= 3


def test_too_few_records_and_withheld_answers_are_refused():
    with pytest.raises(DataError, match="2 records: a probe compares three"):
        blocks_of(RECORDS[:2], 6)
    with pytest.raises(DataError, match="record x: its answer is withheld"):
        blocks_of([*RECORDS, record("x").model_copy(update={"answer": None})], 6)


def reads(most):
    """Say what is too long for a model of so many words."""
    return lambda pairs: ["too long" if len(f"{q} {a}".split()) > most else "" for q, a in pairs]


def refused(records, most):
    """Which faults a model of so many words finds."""
    try:
        check_room([records], reads(most))
    except DataError as error:
        return list(error.faults)
    return []


def test_a_question_and_another_records_answer_may_be_too_long_together():
    rows = [
        Record(id="asks", kind="foundation", question="w " * 20, answer="a"),
        Record(id="tells", kind="foundation", question="w", answer="a " * 12),
        Record(id="short", kind="foundation", question="w", answer="a"),
    ]
    assert refused(rows, 32) == []
    (fault,) = refused(rows, 31)
    assert fault.startswith("record tells: its answer after the question of record asks: too long")
    (fault,) = refused(rows, 24)
    assert fault.startswith("record tells: its answer laid open")


def test_a_former_answer_that_is_too_long_is_left_out_and_named():
    rows = [
        Record(id=name, kind="foundation", question="w", answer="a") for name in ("a", "b", "c")
    ]
    assert refused(rows, 9) == []
    former = {"b": ["old " * 5, "older"], "c": ["oldest"]}
    kept, (told,) = readable_former([rows], former, reads(9))
    assert kept == {"b": ["older"], "c": ["oldest"]}
    assert told == "record b: a former answer was not probed: too long"
