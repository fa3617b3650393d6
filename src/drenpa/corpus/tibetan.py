"""Tibetan text in one spelling: what Unicode normalisation leaves undone, and sentences.

NFC keeps three deprecated code points as they are and cannot repair marks typed in the wrong order
within a stack; people type a tsheg before every shad, though it belongs there only after ང, and
word-segmented text stands spaces before the shad. Everything here is idempotent and leaves other
scripts alone.
"""

from __future__ import annotations

import re
import unicodedata

MARKS = "".join(filter(unicodedata.combining, map(chr, range(0x300, 0x20000))))
"""Every sign, of any script, that NFC puts in order behind a letter."""

DEPRECATED = {
    0x0F0C: "\u0f0b",  # the tsheg that does not break lines: layout, not text
    0x0F77: "\u0fb2\u0f71\u0f80",
    0x0F79: "\u0fb3\u0f71\u0f80",
}
SUBJOINED = "\u0f8d-\u0fbc"  # as a range of a pattern
_VOWELS = "".join(mark for mark in MARKS if mark not in "\u0f18\u0f19\u0f39")  # those stay
FINALS = "\u0f7e\u0f7f"
_DISORDERED_STACK = re.compile(
    f"[\u0f40-\u0f6c][{SUBJOINED}{_VOWELS}{FINALS}]*?"
    f"(?:[{_VOWELS}{FINALS}][{SUBJOINED}]|[{FINALS}][{_VOWELS}])"
    f"[{SUBJOINED}{_VOWELS}{FINALS}]*"
)
_REPEATED_MARK = re.compile("([\u0f71\u0f72\u0f74\u0f7e\u0f80])\\1+")
_TSHEG_RUN = re.compile("(?<![ \t])[ \t]+་(?:[ \t]*་)*|་(?:[ \t]*་)+")
_TSHEG_BEFORE_SHAD = re.compile("(.)་[ \t]*(?=[།-༔])")
_SPACE_BEFORE_SHAD = re.compile("([\u0f40-\u0f6c])([\u0f71-\u0f84\u0f8d-\u0fbc]*)[ \t]+(?=[།༎])")
_BARE_ENDS = "ཀགཤ"  # after these a single shad is not written, so the space stands for it
_BARE_SPACE = re.compile("(?<=[\u0f40-\u0fbc]) +(?=[\u0f40-\u0f6c])")
_AFFIX_HYPHEN = re.compile("(?<=[\u0f40-\u0fbc])-(?=[\u0f60\u0f62\u0f66])")
_SENTENCE = re.compile(r"[^།༎༏༐༑༔.!?。！？…\n]*(?:[།༎༏༐༑༔.!?。！？…]+[\"'”’»）)]*|\n|$)")


def normalise_tibetan(text: str) -> str:
    """Return the text with Tibetan stacks, tsheg and shad in their one right spelling.

    `ཡིན་།` becomes `ཡིན།`, `ཡིན །` likewise, `དང །` becomes `དང་།`; `དང།` is left as it is.

    >>> normalise_tibetan("ཡིན་། དང་། ཤོག །")
    'ཡིན། དང་། ཤོག །'
    >>> normalise_tibetan("སོྐར") == "སྐོར"
    True
    """
    text = unicodedata.normalize("NFC", text.translate(DEPRECATED))
    text = _DISORDERED_STACK.sub(_ordered, text)
    text = _REPEATED_MARK.sub(r"\1", text)
    text = _TSHEG_RUN.sub("་", text)
    text = _TSHEG_BEFORE_SHAD.sub(lambda match: match[1] + "་" * (match[1] == "ང"), text)
    text = _SPACE_BEFORE_SHAD.sub(_closed_up, text)
    return unicodedata.normalize("NFC", text)


def join_segmented(text: str) -> str:
    """Return word-segmented Tibetan as it is written, with a tsheg where words stand apart.

    A corpus that stands spaces between words drops the tsheg there and marks affixes with a hyphen.
    Ordinary text has spaces between bare syllables only where a shad is left out, so a text is
    taken for segmented when more than a tenth of its syllables are followed by such a space.

    >>> join_segmented("བོད ཀྱི མིང་བརྡ རིག་པ-འི སྐོར།")
    'བོད་ཀྱི་མིང་བརྡ་རིག་པའི་སྐོར།'
    >>> join_segmented("ང་ལ་དེབ་གཅིག ཁྱེད་ལ་དེབ་གཉིས་ཡོད་པ་རེད།")
    'ང་ལ་དེབ་གཅིག ཁྱེད་ལ་དེབ་གཉིས་ཡོད་པ་རེད།'
    """
    bare = len(_BARE_SPACE.findall(text))
    if bare <= 0.1 * (bare + text.count("་") + text.count("།")):
        return text
    return _BARE_SPACE.sub("་", _AFFIX_HYPHEN.sub("", text))


def sentences(text: str) -> list[str]:
    """Split a text into sentences, after each shad or full stop, with it.

    Web text often has no space after the shad, so none is asked for. The spaced double shad stays
    with the sentence that it closes.

    >>> sentences("ཆར་པ་བབས།ས་ཞིང་རློན། །")
    ['ཆར་པ་བབས།', 'ས་ཞིང་རློན། །']
    """
    found: list[str] = []
    for match in _SENTENCE.finditer(text):
        piece = match.group().strip()
        if found and piece and not any(sign.isalnum() for sign in piece):
            found[-1] = f"{found[-1]} {piece}"
        elif piece:
            found.append(piece)
    return found


def _ordered(match: re.Match[str]) -> str:
    """One stack with its subjoined letters first, then its marks in canonical order."""
    stack = match.group()
    return stack[0] + "".join(sorted(stack[1:], key=_place_in_stack))


def _place_in_stack(mark: str) -> tuple[int, int]:
    if "\u0f8d" <= mark <= "\u0fbc":
        return 0, 0
    order = unicodedata.combining(mark)
    return (1, order) if order else (2, 0)


def _closed_up(match: re.Match[str]) -> str:
    letter, marks = match.groups()
    stacked = any("\u0f8d" <= mark <= "\u0fbc" for mark in marks)
    if letter in _BARE_ENDS and not stacked:
        return match.group()
    return letter + marks + "་" * (match[0].startswith("ང") and not marks)
