"""What holds of every text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drenpa.core import text as texts

anything = st.text(max_size=200)
languages = st.sampled_from(["en", "zh", "bo", "ru"])


@given(anything, anything, languages)
def test_every_ratio_lies_between_0_and_1(one: str, other: str, language: str) -> None:
    ratios = (
        texts.loop_ratio(one),
        texts.copy_ratio(one, other),
        texts.script_ratio(one, language),
        texts.script_agreement(one, other),
        texts.speaks(one, language),
    )
    assert all(0.0 <= ratio <= 1.0 + 1e-12 for ratio in ratios), ratios


@given(anything)
def test_script_shares_add_up_to_the_whole(text: str) -> None:
    shares = texts.script_ratios(text)
    assert not shares or abs(sum(shares.values()) - 1) < 1e-9


@given(st.lists(st.sampled_from(["ཆུ", "水", "water", "fire"]), min_size=9, max_size=30))
def test_saying_it_once_more_never_loops_less(pieces: list[str]) -> None:
    once = " ".join(pieces)
    again = f"{once} {once}"
    assert texts.loop_ratio(again) >= texts.loop_ratio(once)
    assert texts.loop_ratio(again) >= 0.5


@given(anything, anything)
def test_joining_texts_with_a_space_adds_their_units(one: str, other: str) -> None:
    assert texts.units(f"{one} | {other}") == texts.units(one) + texts.units(other)


@given(anything)
def test_a_text_copies_itself_wholly_or_is_too_short_to_tell(text: str) -> None:
    assert texts.copy_ratio(text, text) == (1.0 if texts.word_count(text) >= 3 else 0.0)
