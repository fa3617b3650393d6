"""Clean text: mend characters, drop debris.

`clean_text` is what every question and answer passes through; it changes how a text is written,
never what it says, and a second pass changes nothing. `drop_debris` takes out what web pages and
PDF extracts leave between the lines, and returns it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from drenpa.core.languages import LANGUAGES, Language
from drenpa.core.text import script_ratios, units
from drenpa.corpus.syllables import syllable_sorts
from drenpa.corpus.tibetan import DEPRECATED, FINALS, MARKS, SUBJOINED, normalise_tibetan

_LINE_ENDS = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_JOINERS = "\u200c\u200d"
_MOST_MARKS = 30  # on one letter; UAX #15, Stream-Safe Text Format: more than any script writes
_STACKED = MARKS + SUBJOINED + FINALS
_MANY_MARKS = re.compile(f"([{_STACKED}]{{{_MOST_MARKS}}})[{_STACKED}]+")
_MARKED = re.compile(f"[{_JOINERS}{_STACKED}]+")
_SPACED_TSHEG = re.compile(f"(?<![ {_JOINERS}{_STACKED}])[ {_JOINERS}{_STACKED}]+(?=[་༌])")
_TIBETAN = re.compile("[\u0f00-\u0fff]")
_GARBLED = 0.6
_PAGE_MARK = re.compile(r"\s*\b\d{1,4}\s*/\s*\d{1,4}\s*$")


@dataclass(frozen=True)
class Dropped:
    """A line that was taken out, and why."""

    line: str
    reason: str


def clean_text(text: str) -> str:
    """Return the text in NFC, with plain spaces and line ends, without invisible characters.

    Control, private-use and zero-width characters go, except joiners that scripts need; runs of
    spaces become one, more than one empty line becomes one; of more than 30 marks and subjoined
    letters on one letter, which no script writes, the first 30 stay; Tibetan is normalised.

    >>> clean_text(" a\\u00a0 b\\u200b \\r\\n\\r\\n\\r\\nc ")
    'a b\\n\\nc'
    """
    text = _LINE_ENDS.sub("\n", text)
    text = text.translate(_MENDING)
    text = _MANY_MARKS.sub(r"\1", text)  # before NFC, whose time is quadratic in a run of them,
    text = _without_joiners_by_tibetan(unicodedata.normalize("NFC", text))
    text = normalise_tibetan(_MANY_MARKS.sub(r"\1", text))  # and after it, which makes new runs
    text = re.sub(" ?\n ?", "\n", re.sub(" {2,}", " ", text))
    return re.sub("\n{3,}", "\n\n", text).strip("\n ")


def _without_joiners_by_tibetan(text: str) -> str:
    """The text without the joiners that stand beside Tibetan, or will when marks are in their order
    and the spaces before a tsheg are gone."""
    if not any(joiner in text for joiner in _JOINERS):
        return text
    text = _SPACED_TSHEG.sub(lambda run: _without_joiners(run[0]), text)
    return _MARKED.sub(
        lambda run: (
            _without_joiners(run[0])
            if _TIBETAN.search(text[max(0, run.start() - 1) : run.end() + 1])
            else run[0]
        ),
        text,
    )


def _without_joiners(text: str) -> str:
    return "".join(sign for sign in text if sign not in _JOINERS)


class _Mending(dict[int, str]):
    """A translation table that learns each character's replacement when it first meets it."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        category = unicodedata.category(sign)
        if sign == "\n":
            mended = sign
        elif category == "Zs" or sign == "\t":
            mended = " "
        elif category in ("Cc", "Cs", "Co") or (category == "Cf" and sign not in _JOINERS):
            mended = ""
        else:
            mended = sign
        self[code] = mended
        return mended


_MENDING = _Mending(DEPRECATED)


def language_by_script(text: str, profiles: Sequence[Language] = ()) -> str:
    """Return bo, zh or en by the script of most letters, "" for another script or none.

    profiles: of further languages. Of several of one script the one counts whose function words
              the text holds most of, the first where it holds none.

    >>> language_by_script("བོད་ཡིག"), language_by_script("Привет")
    ('bo', '')
    """
    script = next(iter(script_ratios(text)), "")
    fitting = [known for known in (*LANGUAGES.values(), *profiles) if known.script == script]
    if len(fitting) < 2:
        return fitting[0].code if fitting else ""
    pieces = units(text)
    return max(fitting, key=lambda known: known.commonness(pieces)).code


def drop_debris(
    text: str, language: str = "", profiles: Sequence[Language] = ()
) -> tuple[str, tuple[Dropped, ...]]:
    """Take out the lines that are no text of the language; return the rest and what went.

    A line goes when it holds no letter (page numbers, rules), when most of its letters are of
    another script than the language's, or, in Tibetan, when most of three syllables or more can be
    none (mis-decoded). Page marks such as `3/16` at a line's end go too.

    >>> drop_debris("ཁྱི་ཆུང་ཞིག། 3/16\\n4/16", "bo")
    ('ཁྱི་ཆུང་ཞིག།', (Dropped(line='4/16', reason='no letters'),))
    """
    written = "bo" if language == "dz" else language
    script = next((k.script for k in (*LANGUAGES.values(), *profiles) if k.code == written), "")
    kept: list[str] = []
    dropped: list[Dropped] = []
    for line in text.split("\n"):
        bare = _PAGE_MARK.sub("", line)
        reason = _debris(bare, language, script) if line.strip() else ""
        if reason:
            dropped.append(Dropped(line.strip(), reason))
        else:
            kept.append(bare)
    return re.sub("\n{3,}", "\n\n", "\n".join(kept)).strip("\n "), tuple(dropped)


def _debris(line: str, language: str, script: str) -> str:
    """Why a line is no text of the language in its script ("" for any), "" when it is."""
    ratios = script_ratios(line)
    if not ratios:
        return "no letters"
    if script and ratios.get(script, 0.0) < 0.5:
        return "script"
    if language in ("bo", "dz"):
        sorts = syllable_sorts(line, dzongkha=language == "dz")
        if len(sorts) >= 3 and sorts.count("impossible") >= len(sorts) * _GARBLED:
            return "garbled"
    return ""
