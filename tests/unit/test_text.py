"""Counting texts in English, Chinese and Tibetan."""

from __future__ import annotations

import pytest

from drenpa.core.text import (
    content_units,
    copy_ratio,
    ends_like_a_sentence,
    loop_ratio,
    script_agreement,
    script_ratio,
    script_ratios,
    speaks,
    syllable_count,
    units,
    word_count,
)

ENGLISH = "Cool the burn under running water for twenty minutes, and see a doctor if it is large."
FRENCH = "Refroidissez la brûlure sous un filet d'eau pendant vingt minutes puis voyez un médecin."
CHINESE = "先用流动的凉水冲洗烫伤处二十分钟，如果伤口大就去看医生。"
JAPANESE = "やけどしたところをすぐに流水で二十分ほど冷やしてください。"
TIBETAN = "ལམ་སང་ལག་པ་ཆུ་བསིལ་མོའི་འོག་ཏུ་བཅུག་ནས་སྐར་མ་ཉི་ཤུ་ཙམ་ལ་སྒུག་དགོས། རྨ་ཆེ་ན་སྨན་ཁང་ལ་འགྲོ་དགོས།"
TEXTS = {"en": ENGLISH, "zh": CHINESE, "bo": TIBETAN}


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("written", TEXTS)
def test_a_text_is_plausible_in_its_own_language_only(language: str, written: str) -> None:
    plausible = speaks(TEXTS[written], language)
    assert plausible > 0.9 if language == written else plausible < 0.1


def test_french_is_in_the_script_of_english_but_does_not_pass_for_it() -> None:
    assert script_ratio(FRENCH, "en") == 1.0
    assert speaks(FRENCH, "en") < 0.4


def test_japanese_does_not_pass_for_chinese() -> None:
    assert speaks(JAPANESE, "zh") < 0.3


def test_tibetan_letters_without_syllables_do_not_pass_for_tibetan() -> None:
    assert speaks(TIBETAN.replace("་", "").replace(" ", ""), "bo") == 0.0


def test_a_language_without_an_entry_is_judged_by_the_script_of_the_question() -> None:
    assert speaks("Что такое морфема?", "ru") == 1.0
    assert script_agreement("Морфема есть часть слова.", "Что такое морфема?") == 1.0
    assert script_agreement("A morpheme.", "Что такое морфема?") == 0.0


def test_digits_and_signs_belong_to_no_script() -> None:
    assert script_ratios("3,14 + 2 = ?") == {}
    assert script_ratio("3.14", "bo") == 1.0


def test_words_characters_and_syllables_are_units() -> None:
    assert word_count("a well-known fact: 3.5 km") == 6
    assert word_count("流动的凉水。") == 5
    assert units("ལག་པ་ཆུ་བསིལ་མོའི་འོག") == ["ལག", "པ", "ཆུ", "བསིལ", "མོའི", "འོག"]
    assert units("ＡＢＣ　ｄ") == ["abc", "d"]
    assert units("' - ’") == []


def test_syllables_are_exact_in_tibetan_and_chinese_and_estimated_in_english() -> None:
    assert syllable_count("བོད་ཀྱི་སྐད་ཡིག།") == 4
    assert syllable_count("人工智能") == 4
    assert syllable_count("The little table has a name.") == 8


def test_content_units_meet_across_inflections_and_lose_function_words() -> None:
    assert set(content_units("He was stopping the studies")) == set(content_units("stop a study"))
    assert content_units("བོད་ཀྱི་སྐད་དང་ཡི་གེ") == ["བོད", "སྐད", "གེ"]


@pytest.mark.parametrize("text", TEXTS.values())
def test_ordinary_text_does_not_loop_and_text_said_again_does(text: str) -> None:
    assert loop_ratio(text) == 0.0
    assert loop_ratio((text + " ") * 2) == pytest.approx(0.5)
    assert loop_ratio((text + " ") * 10) == pytest.approx(0.9)


def test_a_chinese_term_that_returns_is_no_loop() -> None:
    assert loop_ratio("人工智能改变工作，学校也开始教人工智能，人工智能不是人。") == 0.0


def test_a_stretch_of_one_sign_is_a_loop() -> None:
    assert loop_ratio("no" + "!" * 38) == pytest.approx(0.95)
    assert loop_ratio("") == 0.0


def test_an_echo_of_the_question_is_a_copy_and_a_short_answer_is_none() -> None:
    question = "What should I do first when a child has burned her hand?"
    assert copy_ratio("First, " + question, question) > 0.8
    assert copy_ratio(ENGLISH, question) == 0.0
    assert copy_ratio("her hand", question) == 0.0


@pytest.mark.parametrize(
    "text", [ENGLISH, CHINESE, TIBETAN, "བོད་པ་ཞིག", "(See a doctor.)", "“好。”", "**Done.**"]
)
def test_a_whole_text_ends_like_a_sentence(text: str) -> None:
    assert ends_like_a_sentence(text)


@pytest.mark.parametrize(
    "text", ["", "  ", "Cool the burn under", "先用流动的凉", "ལག་པ་ཆུ་བསིལ", "1,"]
)
def test_a_text_that_was_cut_off_does_not(text: str) -> None:
    assert not ends_like_a_sentence(text)
