"""A syllable is standard, foreign or impossible, as the grammar of Tibetan letters has it."""

import os
import random
from collections import defaultdict
from pathlib import Path

import pytest

from drenpa.corpus.syllables import impossible_share, syllable_sort

SHARED = Path(os.environ.get("DRENPA_SHARED", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.parametrize(
    "syllable",
    [
        "ཀ",
        "ཀྱི",
        "བོད",
        "བསྒྲུབས",
        "མདའ",
        "འདྲ",
        "བརྒྱ",
        "བཀྲ",
        "བལྟ",
        "དགྲ",
        "མི",
        "མེའི",
        "ལའང",
        "བུའུ",
        "ཡིན",
        "རྒྱལ",
        "གྲྭ",
        "ཕྱྭ",
        "ཤིང",
        "ཧ",
        "ཨ",
        "བསྒྲིགས",
        "འབྱུང",
        "མཁྱེན",
        "དབྱངས",
        "གཡག",
        "རླུང",
        "སླེབས",
        "ཟླ",
        "ལྷ",
        "བཟླས",
        "བརླ",
        "བསླབ",
        "པོའིའོ",
        "གྱིནད",
    ],
)
def test_what_the_grammar_allows_is_standard(syllable):
    assert syllable_sort(syllable) == "standard"


@pytest.mark.parametrize(
    "syllable",
    [
        "ཨོཾ",
        "ཧཱུྃ",
        "པདྨ",
        "ཏཱ",
        "ཎི",
        "ཊ",
        "བྷ",
        "ཀརྨ",
        "ཧྥུ",
        "ཤཱཀྱ",
    ],
)
def test_what_is_spelled_from_other_languages_is_foreign(syllable):
    assert syllable_sort(syllable) == "foreign"


@pytest.mark.parametrize(
    "syllable",
    [
        "རརར",
        "མཐ",
        "པརདུད",
        "བུམམམ",
        "ཁགཀ",
        "ེག",
        "གདདད",
        "༡༢",
        "abc",
        "ཀ༡",
        "ོ",
    ],
)
def test_what_no_rule_allows_is_impossible(syllable):
    assert syllable_sort(syllable) == "impossible"


@pytest.mark.parametrize("syllable", ["ཡོདཔ", "འབདཝ", "ཨིནམ", "ཚུགསཔ", "དགོཔ"])
def test_dzongkha_has_endings_of_its_own(syllable):
    assert syllable_sort(syllable) == "impossible"
    assert syllable_sort(syllable, dzongkha=True) == "standard"


def test_numbers_and_other_scripts_are_no_syllables():
    assert impossible_share("༢༠༡༤ 2014 abc བོད།") == 0.0
    assert impossible_share("") == 0.0


def spelling_list(folder: Path) -> set[str]:
    """Every syllable that the hunspell dictionary makes of its stems and suffix rules."""
    suffixes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for line in (folder / "bo.aff").read_text(encoding="utf-8").splitlines():
        parts = line.split()
        if len(parts) >= 5 and parts[0] == "SFX":
            added, _, flags = parts[3].partition("/")
            suffixes[parts[1]].append((added.replace("0", ""), flags))
    found: set[str] = set()
    waiting = [
        tuple(stem.partition("/")[::2])
        for stem in (folder / "bo.dic").read_text(encoding="utf-8").split()[1:]
    ]
    while waiting:
        word, flags = waiting.pop()
        if "N" not in flags:  # N: a suffix is needed
            found.add(word)
        for flag in flags.replace("N", ""):
            waiting += [(word + added, further) for added, further in suffixes[flag]]
    return found


def test_a_spelling_dictionary_agrees_and_slips_of_the_pen_are_told():
    folder = SHARED / "tibetan" / "hunspell-bo"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set DRENPA_SHARED to the folder of shared data")
    right = spelling_list(folder)
    assert len(right) > 20_000
    passed = [word for word in right if syllable_sort(word) != "impossible"]
    assert len(passed) >= 0.997 * len(right)
    draw = random.Random(1)
    words, letters = sorted(right), sorted({letter for word in right for letter in word})
    slips = set()
    for _ in range(6000):
        word, letter = draw.choice(words), draw.choice(letters)
        place = draw.randrange(len(word))
        slips.add(word[:place] + letter + word[place + draw.randrange(2) :])
    slips -= right
    assert sum(syllable_sort(slip) == "standard" for slip in slips) <= 0.03 * len(slips)
    assert sum(syllable_sort(slip) == "impossible" for slip in slips) >= 0.6 * len(slips)
