"""The faithfulness gate: what a critique may say, and what it may not."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drenpa.core.text import units
from drenpa.critic.faithful import (
    Bounds,
    new_names,
    new_numbers,
    new_quotations,
    new_terms,
    polarity,
    unfaithful,
    unsupported_claims,
)

QUESTION = "Who found the law of gravity, and when?"
ANSWER = "Isaac Newton published it in 1687, after some seven years of work."
NOTE = "right but thin, says nothing of what the law is"
GOOD = "The answer is right about Newton and 1687, but thin: it says nothing of what the law is."


def test_a_note_written_out_from_its_sources_passes():
    assert unfaithful(QUESTION, ANSWER, NOTE, GOOD) == []


@pytest.mark.parametrize(
    ("critique", "told"),
    [
        (GOOD + " It has 3 faults.", "number 3"),
        (GOOD + " Leave out 1,687 words.", ""),  # a comma is no other number
        (GOOD + " It took nine years.", "number 9"),
        (GOOD + " Even Einstein would agree.", "name Einstein"),
        (GOOD + " It forgets the “inverse square”.", "“inverse square” is no quotation"),
        (GOOD + " It says “published it, in 1687”.", ""),
        (GOOD + " It leaves out 万有引力 as well.", "term 万有引力"),
        (GOOD + " It leaves out གཟུགས་ཀྱི་འཐེན་ཤུགས as well.", "term གཟུགས་ཀྱི་འཐེན་ཤུགས"),
        ("Thin.", "it leaves something out"),
        ("The answer is right. " * 30, "are enough"),
        ("", "is empty"),
        (
            "A person left a note, and the note is a critique of the answer.",
            "not say what the note",
        ),
        ("It is right but thin. " * 5, "goes round in circles"),
    ],
)
def test_what_no_source_says_is_told_and_what_one_says_is_not(critique, told):
    faults = unfaithful(QUESTION, ANSWER, NOTE, critique)
    if told:
        assert any(told in fault for fault in faults), faults
    else:
        assert faults == []


@pytest.mark.parametrize(
    ("note", "critique", "turned"),
    [
        ("wrong", "The answer is right and complete.", True),
        ("right", "The answer is mistaken and vague.", True),
        ("not wrong", "The answer is correct.", False),
        ("right", "It is right, though a little thin.", False),  # both: nothing can be told
        ("错误", "答案正确，而且很完整。", True),
        ("不正确", "答案有错。", False),
        ("答得好", "答案准确、清楚。", False),
        ("ནོར་འདུག", "ལན་འདི་ཧ་ཅང་བཟང་པོ་དང་ཡང་དག་རེད།", True),
        ("short", "It is a short answer.", False),
    ],
)
def test_praise_stays_praise_and_blame_blame(note, critique, turned):
    faults = unfaithful("q", "a", note, critique, Bounds(least_of_note=0))
    assert any("The note is" in fault for fault in faults) == turned, faults


def test_numbers_are_the_same_in_any_digits_and_in_english_words():
    assert new_numbers("༡༢, １２, 12 and twelve", "12") == []
    assert new_numbers("1,000.5 and 3/4", "1000.5 of 3/4") == []
    assert new_numbers("the first one of two", "") == []
    assert new_numbers("1. It is thin.\n2. It is short.", "") == []
    assert new_numbers("It says 40", "14") == ["40"]


def test_names_are_known_in_their_other_forms_and_by_no_capital_at_the_start():
    assert new_names("As Newton's law, the Newtons say", "newton") == []
    assert new_names("Thin. Vague: Nothing said. “Yes”", "") == []
    assert new_names("It ignores DNA and Watson", "it ignores") == ["DNA", "Watson"]


def test_a_long_critique_takes_no_more_time_than_its_length():
    def seconds(count):
        text = "so Newton and Kepler said. " * count
        return min(timeit.repeat(lambda: new_names(text, "so"), number=1, repeat=3))

    assert seconds(2400) < 24 * seconds(300)  # what grows with the length is 8, a square 64


def test_quotations_and_titles_must_be_the_sources_words():
    assert new_quotations("It says “the Law”.", "the law is") == []
    assert new_quotations("它引用《诗经》和「水」。", "水是什么") == ["诗经"]


def test_terms_of_the_critiques_own_script_are_words_like_others():
    assert new_terms("答案没有说明原因。", "问题") == []
    assert new_terms("It names བོད་ཡིག and 水稻", "བོད་ཡིག") == ["水稻"]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_a_critique_made_of_its_sources_has_nothing_new(text):
    assert new_numbers(text, text) == []
    assert new_names(text, text) == []
    assert new_quotations(text, text) == []
    assert new_terms(text, text) == []
    assert polarity(text) in (-1, 0, 1)
    if units(text):
        assert unfaithful("q", "a", text, text) == []


def test_a_checking_reply_nested_beyond_reading_is_one_that_cannot_be_read():
    assert unsupported_claims('{"unsupported": ' + "[" * 100_000 + "]" * 100_000 + "}") is None


def test_the_checking_models_reply_is_read_or_nothing_is_taken_from_it():
    assert unsupported_claims('Here: {"unsupported": []} done') == []
    assert unsupported_claims('```json\n{"unsupported": ["a", " "]}\n```') == ["a"]
    for reply in ("", "{}", '{"unsupported": "a"}', '{"unsupported": [1]}', "[]", "{"):
        assert unsupported_claims(reply) is None


@pytest.mark.parametrize(
    ("text", "sources", "names"),
    [
        ("答案没有提到艾萨克·牛顿。", "苹果为什么落地？", ["萨克·牛顿"]),
        ("提到了艾萨克·牛顿。", "艾萨克·牛顿是谁？", []),
        ("漏了北京大学。", "清华大学在哪里？", ["北京大学"]),
        ("李教授说得对，这位教授是老师。", "李教授", []),
        ("སློབ་དཔོན་པདྨ་འབྱུང་གནས་བརྗེད་འདུག", "ལན་འདི་ཡང་དག་ཡིན།", ["སློབ་དཔོན་པདྨ"]),
        ("སློབ་དཔོན་པདྨ་འབྱུང་གནས་བརྗོད་འདུག", "སློབ་དཔོན་པདྨ་ནི་སུ་རེད།", []),
        ("སློབ་དཔོན་གྱི་ལན་ཡང་དག་ཡིན།", "ལན", []),
        ("ལྷ་ས་གྲོང་ཁྱེར་མ་བརྗོད།", "ལན", ["ས་གྲོང་ཁྱེར"]),
    ],
)
def test_names_beside_a_title_are_seen_in_chinese_and_tibetan(text, sources, names):
    assert new_names(text, sources) == names
