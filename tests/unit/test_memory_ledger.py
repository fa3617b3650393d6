"""The ledger: appended, read back, replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Record
from drenpa.memory.ledger import Entry, append_entries, fingerprint, read_ledger, replay


def entry(at: str, state: str = "external", record: str = "r1", **changes) -> Entry:
    values = {"at": at, "model": "m", "record": record, "wording": "w", "known": 0.5}
    return Entry(**(values | {"state": state, "reason": "because"} | changes))


PAST = [
    entry("2026-01-01"),
    entry("2026-02-01", "learned", known=0.9, model="m2"),
    entry("2026-03-01", "learned", known=0.95),
    entry("2026-03-01", "external", "r2"),
    entry("2026-04-01", "contradicted", known=0.1, wording="w2"),
    entry("2026-05-01", "contradicted", known=0.2, wording="w2"),
]


def test_what_is_appended_is_read_back_in_order(tmp_path: Path):
    file = tmp_path / "ledger.jsonl"
    append_entries(file, PAST[:2])
    append_entries(file, PAST[2:])
    assert read_ledger(file) == PAST


def test_appending_leaves_the_bytes_that_were_there(tmp_path: Path):
    file = tmp_path / "ledger.jsonl"
    append_entries(file, PAST[:3])
    before = file.read_bytes()
    append_entries(file, PAST[3:])
    assert file.read_bytes().startswith(before)
    assert len(file.read_bytes()) > len(before)


def test_the_present_is_the_past_played_again():
    standing = replay(PAST)["r1"]
    assert (standing.state, standing.known, standing.wording) == ("contradicted", 0.2, "w2")
    assert (standing.since, standing.last) == ("2026-04-01", "2026-05-01")
    assert (standing.probes, standing.changes, standing.steady) == (5, 1, 1)
    assert replay(PAST)["r2"].probes == 1


def test_a_new_question_to_the_same_answer_is_no_change():
    past = [
        entry("2026-01-01", wording="q1 a1", answer="a1"),
        entry("2026-02-01", wording="q2 a1", answer="a1"),
        entry("2026-03-01", wording="q2 a2", answer="a2"),
    ]
    assert [replay(past[:n])["r1"].changes for n in (1, 2, 3)] == [0, 0, 1]
    assert [replay(past[:n])["r1"].steady for n in (1, 2, 3)] == [0, 1, 0]


def test_any_earlier_moment_can_be_had():
    standing = replay(PAST[:3])["r1"]
    assert (standing.state, standing.since) == ("learned", "2026-02-01")
    assert (standing.probes, standing.changes, standing.steady) == (3, 0, 2)


def test_a_line_that_a_kill_cut_short_neither_counts_nor_spoils_the_next(tmp_path: Path):
    file = tmp_path / "ledger.jsonl"
    append_entries(file, PAST[:2])
    whole = file.read_bytes()
    for cut in (1, 40, len(whole.splitlines()[1])):
        file.write_bytes(whole[:-cut])
        assert read_ledger(file) == PAST[:1]
        append_entries(file, PAST[2:3])
        assert read_ledger(file) == [PAST[0], PAST[2]]


def test_a_spoilt_line_in_the_middle_is_named(tmp_path: Path):
    file = tmp_path / "ledger.jsonl"
    append_entries(file, PAST[:3])
    lines = file.read_text().splitlines()
    lines[1] = lines[1].replace('"learned"', '"guessed"')
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"ledger.jsonl:2: state: .*never edited"):
        read_ledger(file)


def test_time_does_not_run_backwards(tmp_path: Path):
    file = tmp_path / "ledger.jsonl"
    append_entries(file, PAST[1:2])
    with pytest.raises(DataError, match="2026-01-01 cannot follow one of 2026-02-01"):
        append_entries(file, PAST[:1])
    assert read_ledger(file) == PAST[1:2]


def test_a_missing_ledger_is_told(tmp_path: Path):
    with pytest.raises(ArtefactError, match="no such ledger"):
        read_ledger(tmp_path / "ledger.jsonl")


def test_a_new_question_or_answer_is_a_new_wording_and_a_new_tag_is_not():
    record = Record(id="r", kind="foundation", question="Q", answer="A")
    same = record.model_copy(update={"tags": ("new",), "demand": 3.0})
    assert fingerprint(record) == fingerprint(same)
    changed = [{"question": "Q2"}, {"answer": "A2"}, {"question": "QA", "answer": ""}]
    prints = {fingerprint(record.model_copy(update=change)) for change in changed}
    assert len(prints | {fingerprint(record)}) == 4
