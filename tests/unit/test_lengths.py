"""Lengths in a tokenizer's own tokens, and what a limit costs."""

import pytest

from drenpa.core.records import Record
from drenpa.corpus.lengths import measure_lengths


def record(words, kind="foundation", language="en"):
    name = f"{kind}-{language}-{words}"
    return Record(id=name, kind=kind, question="Why?", answer="word " * words, language=language)


def words(record):
    return len(record.answer.split())


def test_each_kind_and_language_has_its_own_lengths():
    records = [record(n) for n in range(1, 21)] + [record(9, "profession", "bo")]
    lengths = measure_lengths(records, words, limit=15)
    assert list(lengths) == ["foundation/en", "profession/bo", "all"]
    english = lengths["foundation/en"]
    assert (english.records, english.median, english.p95, english.longest) == (20, 10.5, 19, 20)
    assert english.over == 5  # 16 to 20
    assert english.lost == pytest.approx((1 + 2 + 3 + 4 + 5) / 210)
    assert lengths["profession/bo"].over == 0
    assert lengths["all"].records == 21


def test_no_records_have_no_lengths():
    assert measure_lengths([], words) == {}
