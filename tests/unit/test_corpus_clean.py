"""Cleaning changes how a text is written, never what it says; Tibetan gets one spelling."""

import time

import pytest

from drenpa.corpus.clean import clean_text, drop_debris, language_by_script
from drenpa.corpus.tibetan import normalise_tibetan, sentences


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("ཡིན་།", "ཡིན།"),  # no tsheg before shad …
        ("དང་།", "དང་།"),  # … except after nga,
        ("དང་ །", "དང་།"),  # where no space belongs between them
        ("དང །", "དང་།"),
        ("བྲིས །", "བྲིས།"),  # word-segmented text stands a space before the shad
        ("ཤོག །", "ཤོག །"),  # after ka, ga, sha the space stands for the first shad
        ("གྲྭ །", "གྲྭ།"),  # not when the letter carries others below it
        ("བོད་་ཡིག", "བོད་ཡིག"),
        ("བོད ་ ཡིག", "བོད་ ཡིག"),
        ("བོད༌ཡིག", "བོད་ཡིག"),  # U+0F0C
        ("\u0f77", "\u0fb2\u0f71\u0f80"),
        (
            "\u0f66\u0f7c\u0f90\u0f62",
            "\u0f66\u0f90\u0f7c\u0f62",
        ),  # vowel typed before the subjoined
        ("\u0f42\u0f72\u0f72", "\u0f42\u0f72"),  # a vowel typed twice
        ("\u0f43", "\u0f42\u0fb7"),  # NFC's own
    ],
)
def test_tibetan_gets_its_one_spelling(typed, right):
    assert normalise_tibetan(typed) == right
    assert clean_text(typed) == right


def test_sentences_end_at_the_shad_with_or_without_a_space():
    assert sentences("ཁྱི་འདུག།ཞི་མི་འདུག།  བྱ་འདུག") == ["ཁྱི་འདུག།", "ཞི་མི་འདུག།", "བྱ་འདུག"]
    assert sentences("One. Two! 三。四") == ["One.", "Two!", "三。", "四"]


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("a\x00b\ufeffc\u200bd", "abcd"),
        ("e\u0301", "é"),
        ("soft\u00adhyphen", "softhyphen"),
        ("one\u2028two\r\nthree\x0bfour", "one\ntwo\nthree\nfour"),
        ("\ue000private\ud800", "private"),
        ("क्\u200dष", "क्\u200dष"),  # the joiner that Devanagari needs stays
        ("ཀ\u200dཁ", "ཀཁ"),  # in Tibetan it is a slip
        ("ａ，b", "ａ，b"),  # full-width signs are right in Chinese
        ("x <= y & z", "x <= y & z"),
    ],
)
def test_characters_are_mended(typed, right):
    assert clean_text(typed) == right


def test_debris_is_lines_without_letters_or_of_another_script():
    text = "ཁྱི་ཆུང་།\n12\n\n2018 / 40\nISBN 978-7-5700\nཞི་མི། 3/16\n///\nཔརདུད་རརར་དངུར"
    left, dropped = drop_debris(text, "bo")
    assert left == "ཁྱི་ཆུང་།\n\nཞི་མི།"
    assert [(gone.line, gone.reason) for gone in dropped] == [
        ("12", "no letters"),
        ("2018 / 40", "no letters"),
        ("ISBN 978-7-5700", "script"),
        ("///", "no letters"),
        ("པརདུད་རརར་དངུར", "garbled"),
    ]


def test_the_language_goes_by_the_script_of_most_letters():
    assert language_by_script("ཁྱི་ཆུང་ཞིག ok") == "bo"
    assert language_by_script("123 !") == ""


@pytest.mark.parametrize(
    "text",
    [
        " " * 100_000,
        "\u200d" * 100_000 + "a",
        "a" + "\u0301\u0316" * 30_000,
        "ཀ" + "\u0f90\u0f72" * 30_000,
        "་" + " " * 100_000 + "a",
    ],
    ids=["spaces", "joiners", "marks", "subjoined", "a tsheg and spaces"],
)
def test_long_runs_take_no_more_than_their_length(text):
    began = time.process_time()
    clean_text(text)
    assert time.process_time() - began < 2  # quadratic: 4 s and more


def test_what_scripts_write_on_one_letter_stays_and_a_pile_of_marks_is_cut():
    assert clean_text("ཧྐྵྨླྺྲྱྂ") == "ཧྐྵྨླྺྲྱྂ"
    assert clean_text("a" + "\u0316" * 31 + "b") == "a" + "\u0316" * 30 + "b"
