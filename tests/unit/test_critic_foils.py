"""Spoiled answers beside the ranked ones: what they are, and where they stand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from drenpa.core.text import loop_ratio, script_ratio
from drenpa.critic.examples import Example, pairs_of
from drenpa.critic.foils import CRITIQUES, FOIL_KINDS, foil, with_foils

BEST = "Press firmly on the wound with a clean cloth and call for help."
OTHER = "A morpheme is the smallest piece of language that carries meaning."


def example(name="wound", best=BEST, language="en"):
    return Example(
        id=name,
        question=f"What now, {name}?",
        kind="profession",
        language=language,
        candidates=("a", "b", "c"),
        answers=("Wait.", best, "Perhaps one could look for a cloth, or perhaps not, who knows."),
        ranks=(3, 1, 2),
        critiques=("Bad.", "Good.", "Vague."),
    )


EXAMPLES = (example(), example("word", OTHER))


def randomness(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_cut_foil_is_the_beginning_of_the_best_answer():
    for seed in range(20):
        text = foil("cut", EXAMPLES[0], (), randomness(seed))
        assert BEST.startswith(text)
        assert len(BEST) / 4 < len(text) < 0.7 * len(BEST)


def test_a_scrambled_foil_has_the_answers_words_in_another_order():
    text = foil("scrambled", EXAMPLES[0], (), randomness())
    words = " ".join(EXAMPLES[0].answers).split()
    assert set(text.split()) <= set(words)
    assert len(text.split()) == 13  # of the longest answer
    assert text not in " ".join(words)


def test_a_looping_foil_says_one_phrase_again_and_again():
    text = foil("looping", EXAMPLES[0], (), randomness())
    assert loop_ratio(text) > 0.3 > loop_ratio(BEST)
    assert text.startswith("Press firmly")


def test_a_foreign_foil_is_the_best_answer_to_another_question():
    assert foil("foreign", EXAMPLES[0], EXAMPLES[1:], randomness()) == OTHER


def test_foils_tie_with_the_worst_answer_and_stand_behind_the_others():
    spoiled = with_foils(EXAMPLES[0], EXAMPLES, 2, randomness())
    assert spoiled.answers[:3] == EXAMPLES[0].answers
    assert spoiled.ranks == (3, 1, 2, 3, 3)
    assert len(spoiled.candidates) == len(spoiled.critiques) == len(spoiled.answers) == 5
    new = [pair for pair in pairs_of(spoiled.ranks) if pair[1] > 2]
    assert sorted(new) == [(1, 3), (1, 4), (2, 3), (2, 4)]


def test_no_foils_change_nothing_and_one_seed_gives_one_foil():
    assert with_foils(EXAMPLES[0], EXAMPLES, 0, randomness()) == EXAMPLES[0]
    once, again = (with_foils(EXAMPLES[0], EXAMPLES, 3, randomness(7)) for _ in range(2))
    assert once == again


def test_every_kind_of_foil_is_made_in_time():
    kinds = {
        with_foils(EXAMPLES[0], EXAMPLES, 1, randomness(seed)).candidates[-1] for seed in range(60)
    }
    assert kinds == {f"foil-{kind}" for kind in FOIL_KINDS}


def test_a_foreign_answer_is_never_of_another_language_or_of_the_question_itself():
    alone = (EXAMPLES[0], example("字", "另一个问题的回答。", "zh"))
    for seed in range(40):
        spoiled = with_foils(EXAMPLES[0], alone, 1, randomness(seed))
        assert spoiled.candidates[-1] != "foil-foreign"


@pytest.mark.parametrize(
    ("language", "best"),
    [
        ("zh", "先用清水冲洗伤口，再用干净的布盖好，然后去看医生。"),
        ("bo", "དང་པོ་རྨ་ཁ་ཆུ་གཙང་མས་བཀྲུ་དགོས།"),
    ],
)
def test_scripts_without_blanks_are_spoiled_too(language, best):
    one = example("x", best, language)
    one = Example(**{**one.__dict__, "answers": (best, best, best)})
    for kind in ("cut", "scrambled", "looping"):
        text = foil(kind, one, (), randomness(3))
        assert text
        assert text != best
        assert script_ratio(text, language) > 0.5
    assert set(CRITIQUES[language]) == set(FOIL_KINDS)
    assert all(script_ratio(text, language) > 0.5 for text in CRITIQUES[language].values())


def test_another_annotators_ranking_of_the_same_question_lends_no_foreign_answer():
    again = replace(EXAMPLES[0], id="wound-2", question=" what  NOW, wound?")
    for seed in range(40):
        spoiled = with_foils(EXAMPLES[0], (EXAMPLES[0], again), 1, randomness(seed))
        assert spoiled.candidates[-1] != "foil-foreign"


@pytest.mark.parametrize(
    ("answers", "language"),
    [
        (("Paris.", "Lyon", "Rome"), "en"),
        (("Yes, always.", "No, never.", "Hm"), "en"),
        (("In the morning", "at night", "ah"), "en"),
        (("清晨", "夜里", "不知"), "zh"),
        (("ལྷ་ས།", "གཞིས་རྩེ།", "མི་ཤེས།"), "bo"),
    ],
)
def test_a_foil_of_a_short_answer_is_none_of_the_answers_above_the_worst(answers, language):
    one = replace(EXAMPLES[0], answers=answers, ranks=(1, 2, 3), language=language)
    other = replace(one, id="other", question="Another?")
    good = {"".join(filter(str.isalpha, text.casefold())) for text in answers[:2]}
    for seed in range(60):
        for text in with_foils(one, (one, other), 2, randomness(seed)).answers[3:]:
            assert "".join(filter(str.isalpha, text.casefold())) not in good
            assert text


def test_words_that_stood_apart_stand_apart_in_a_foil_of_a_short_answer():
    one = replace(EXAMPLES[0], answers=("one two", "three four five", "six"), ranks=(1, 2, 3))
    text = foil("scrambled", one, (), randomness())
    assert set(text.split()) <= {"one", "two", "three", "four", "five", "six"}


def test_an_answer_that_no_kind_can_spoil_gets_no_foil():
    one = replace(EXAMPLES[0], answers=("A", "B"), ranks=(1, 2), candidates=("a", "b"))
    one = replace(one, critiques=("Right.", "Wrong."))
    for seed in range(20):
        spoiled = with_foils(one, (one,), 2, randomness(seed))
        assert spoiled.answers[2:] in {(), ("B",), ("B", "B")}
