"""What can be told about a text by counting alone: script, length, loops, copies, endings.

Pure functions without a model, for texts in any mixture of scripts. A *unit* is what a reader takes
in as one piece: a word where words stand apart, a character in Chinese, a syllable in Tibetan.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from drenpa.core.languages import LANGUAGES

LANGUAGE_SCRIPTS: Mapping[str, str] = {code: known.script for code, known in LANGUAGES.items()}
"""The script each known language is written in, as Unicode names it."""

FUNCTION_UNITS: Mapping[str, frozenset[str]] = {
    code: known.function_units for code, known in LANGUAGES.items()
}
"""The commonest function words of the known languages; they carry the language, not the topic."""

_LOOP_SPAN: Mapping[str, int] = {"CJK": 8, "TIBETAN": 6}
_SENTENCE_ENDS = frozenset(".!?…。！？．།༎༏༐༑༔।॥؟۔။។።")
_CLOSERS = frozenset("\"'’”»)]}）】」』》〉*_`")
_TIBETAN_BARE_ENDS = frozenset("གཀཤ")  # after these the shad is not written
_VOWEL_GROUPS = re.compile(r"[aeiouyàâäáãåæèéêëìíîïòóôöõøœùúûüý]+")


def encodable(text: str) -> str:
    """Return the text with ? for what no file can hold: half of a surrogate pair, as JSON may have.

    >>> encodable("a\\ud800")
    'a?'
    """
    return text.encode("utf-8", "replace").decode()


@lru_cache(maxsize=65536)
def script_of(character: str) -> str:
    """Return the script of a letter as the first word of its Unicode name, "" for anything else.

    >>> script_of("a"), script_of("水"), script_of("ཀ"), script_of("7")
    ('LATIN', 'CJK', 'TIBETAN', '')
    """
    if not unicodedata.category(character).startswith("L"):
        return ""
    return unicodedata.name(character, "UNKNOWN").split()[0]


def script_ratios(text: str) -> dict[str, float]:
    """Return each script's share of the letters, most frequent first; nothing for no letters.

    >>> script_ratios("ab 水水!")
    {'LATIN': 0.5, 'CJK': 0.5}
    """
    counts: dict[str, int] = {}
    for character, times in Counter(text).items():
        script = script_of(character)
        if script:
            counts[script] = counts.get(script, 0) + times
    total = sum(counts.values())
    return {
        script: count / total
        for script, count in sorted(counts.items(), key=lambda entry: -entry[1])
    }


def script_ratio(text: str, language: str) -> float:
    """Return the share of the letters that are in the language's script.

    Without letters, and for a language whose script is not known here, it is 1: nothing speaks
    against it.

    >>> script_ratio("水 is water", "zh") == 1 / 8
    True
    """
    ratios = script_ratios(text)
    if not ratios or language not in LANGUAGE_SCRIPTS:
        return 1.0
    return ratios.get(LANGUAGE_SCRIPTS[language], 0.0)


def script_agreement(text: str, other: str) -> float:
    """Return how much of the two texts' letters lie in the same scripts, from 0 to 1.

    For languages without an entry of their own here: an answer should be in its question's script.
    """
    ours, theirs = script_ratios(text), script_ratios(other)
    if not ours or not theirs:
        return 1.0
    return sum(min(share, theirs.get(script, 0.0)) for script, share in ours.items())


def units(text: str) -> list[str]:
    """Split a text into words, Chinese characters and Tibetan syllables, case folded.

    Numbers are units; punctuation is none. Scripts without spaces other than Chinese and Japanese
    stay whole between signs.

    >>> units("Don't say 人工 or བོད་ཡིག།")
    ["don't", 'say', '人', '工', 'or', 'བོད', 'ཡིག']
    """
    found: list[str] = []
    run = ""
    for character in unicodedata.normalize("NFKC", text).casefold() + " ":
        sort = _sort_of(character)
        if sort == "alone":
            found += [run, character]
            run = ""
        elif sort == "inner" or (sort == "joint" and run):
            run += character
        else:
            found.append(run)
            run = ""
    return [unit for unit in (piece.strip("'’-") for piece in found) if unit]


@lru_cache(maxsize=65536)
def _sort_of(character: str) -> str:
    """Whether a character is a unit alone, part of one, may stand inside one, or stands between."""
    if character in "'’-":
        return "joint"
    category = unicodedata.category(character)
    if category[0] == "L" and script_of(character) in {"CJK", "HIRAGANA", "KATAKANA"}:
        return "alone"
    return "inner" if category[0] in "LMN" else "between"


def word_count(text: str) -> int:
    """Count the units: words in English, characters in Chinese, syllables in Tibetan."""
    return len(units(text))


def syllable_count(text: str) -> int:
    """Count syllables: exact in Chinese and Tibetan, by groups of vowels in Latin script.

    >>> syllable_count("banana"), syllable_count("make a cake"), syllable_count("བོད་ཡིག་")
    (3, 3, 2)
    """
    return sum(_syllables_of(unit) for unit in units(text))


def _syllables_of(unit: str) -> int:
    if script_of(unit[0]) != "LATIN":
        return 1
    groups = len(_VOWEL_GROUPS.findall(unit))
    silent = unit.endswith("e") and not unit.endswith(("le", "ee")) and groups > 1
    return max(1, groups - silent)


def content_units(text: str) -> list[str]:
    """Return the units that carry the topic: no function words; English inflections cut off.

    Chinese comes as pairs of neighbouring characters, which stand for words better than single
    ones do.

    >>> content_units("The cats are jumping over a cat")
    ['cat', 'jump', 'cat']
    >>> content_units("山水的画")
    ['山水']
    """
    content: list[str] = []
    before = ""
    for unit in units(text):
        if script_of(unit[0]) == "CJK":
            if unit in FUNCTION_UNITS["zh"]:
                before = ""
                continue
            if before:
                content.append(before + unit)
            before = unit
            continue
        before = ""
        if unit not in FUNCTION_UNITS["en"] and unit not in FUNCTION_UNITS["bo"]:
            content.append(_stem(unit))
    return content


def _stem(word: str) -> str:
    """Cut the commonest English endings off, so that `cools`, `cooled` and `cooling` meet."""
    if not word.isascii() or len(word) < 5:
        return word[:-1] if word.isascii() and len(word) == 4 and word[-1] == "s" else word
    for ending in ("ingly", "ings", "ing", "edly", "ied", "ies", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + ("y" if ending in {"ied", "ies"} else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word.removesuffix("e")


def loop_ratio(text: str) -> float:
    """Return the share of the text that goes round in circles, from 0 to 1.

    It is the share of units inside a run of units that stood there before (4 words, 6 Tibetan
    syllables, 8 Chinese characters), or of characters in a stretch of one sign six times and more,
    whichever is larger.

    >>> loop_ratio("a cat sat on a mat")
    0.0
    >>> loop_ratio("go on and on now " * 10)
    0.9
    """
    pieces = units(text)
    ratios = script_ratios(text)
    span = _LOOP_SPAN.get(next(iter(ratios), ""), 4)
    return max(_repeated_share(pieces, span), _stretched_share(text))


def _repeated_share(pieces: Sequence[str], span: int) -> float:
    seen: set[tuple[str, ...]] = set()
    repeated = [False] * len(pieces)
    for start in range(len(pieces) - span + 1):
        gram = tuple(pieces[start : start + span])
        if gram in seen:
            repeated[start : start + span] = [True] * span
        seen.add(gram)
    return sum(repeated) / len(pieces) if pieces else 0.0


def _stretched_share(text: str) -> float:
    dense = "".join(text.split())
    stretched = sum(len(match.group()) for match in re.finditer(r"(.)\1{5,}", dense))
    return stretched / len(dense) if dense else 0.0


def copy_ratio(answer: str, source: str) -> float:
    """Return the share of the answer's runs of three units that stand in the source.

    An answer of fewer than three units is too short to tell and gives 0.

    >>> copy_ratio("what is a morpheme", "What is a morpheme?")
    1.0
    """
    ours, theirs = units(answer), units(source)
    grams = [tuple(ours[start : start + 3]) for start in range(len(ours) - 2)]
    if not grams:
        return 0.0
    known = {tuple(theirs[start : start + 3]) for start in range(len(theirs) - 2)}
    return sum(gram in known for gram in grams) / len(grams)


def ends_like_a_sentence(text: str) -> bool:
    """Tell whether the text ends as sentences end; one that was cut off usually does not.

    Quotation marks and brackets after the sign are passed over. In Tibetan a final ག, ཀ or ཤ
    takes no shad.

    >>> ends_like_a_sentence('She said "yes."'), ends_like_a_sentence("and then the")
    (True, False)
    """
    trimmed = text.rstrip()
    while trimmed and trimmed[-1] in _CLOSERS:
        trimmed = trimmed[:-1].rstrip()
    if not trimmed:
        return False
    letters = trimmed.rstrip("".join(map(chr, range(0x0F71, 0x0F85))))
    return trimmed[-1] in _SENTENCE_ENDS or letters[-1:] in _TIBETAN_BARE_ENDS


def speaks(text: str, language: str) -> float:
    """Return how plausible it is that the text is in the language, from 0 to 1.

    The share of letters in the language's script, times how far its function words appear as often
    as in ordinary text (asked only of eight units and more), and in Tibetan times the share of
    units that are no longer than a syllable can be. A text without units is 0; a language that is
    not known here is 1. It tells languages apart, not good style from bad.
    """
    pieces = units(text)
    if not pieces:
        return 0.0
    if language not in LANGUAGE_SCRIPTS:
        return 1.0
    plausible = script_ratio(text, language)
    if language == "bo":
        plausible *= sum(_is_syllable(piece) for piece in pieces) / len(pieces)
    if len(pieces) >= 8:
        plausible *= min(1.0, LANGUAGES[language].commonness(pieces))
    return plausible


def _is_syllable(unit: str) -> bool:
    """A Tibetan syllable has at most five letters beside its stacked and vowel signs."""
    return sum(script_of(character) == "TIBETAN" for character in unit) <= 5


_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def shown(text: str) -> str:
    """Return a text that a terminal or a page may show: control and direction-changing characters
    become the replacement sign.

    >>> shown("a\\x1b[2Jb") == "a\\ufffd[2Jb"
    True
    """
    return _UNSAFE.sub("\ufffd", text.replace("\r\n", "\n"))


def brief(value: object, most: int = 60) -> str:
    """Return a value on one line, short enough (in characters) and safe to stand in a message.

    >>> brief("one\\ntwo"), brief("abcdefgh", most=6)
    ('one two', 'abc…')
    """
    text = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return text if len(text) <= most else text[: most - 3] + "…"
