"""Whether a Tibetan syllable can be one: the grammar's letters before, above, below and after the
root.

A syllable is standard when the traditional grammar allows it, foreign when it is spelled as
Sanskrit, Chinese or other words are in Tibetan letters (reversed letters, long vowels, stacks of
other sorts), and impossible otherwise: mis-decoded, mistyped, or run together. Dzongkha writes
endings that Tibetan does not; they are standard when asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

Sort = Literal["standard", "foreign", "impossible"]


def _below(letters: str) -> str:
    """The subjoined forms of letters: each stands 0x50 above its full form."""
    return "".join(chr(ord(letter) + 0x50) for letter in letters)


def _stacks(head: str, roots: str, foot: str = "") -> set[str]:
    """Root letters under a head letter ("" for none) and above a foot letter."""
    return {(head + _below(root) if head else root) + _below(foot) for root in roots.split()}


_ROOTS = "ཀ ཁ ག ང ཅ ཆ ཇ ཉ ཏ ཐ ད ན པ ཕ བ མ ཙ ཚ ཛ ཝ ཞ ཟ འ ཡ ར ལ ཤ ས ཧ ཨ"
_PLAIN = _stacks("", _ROOTS)
_HEADED = (
    _stacks("ར", "ཀ ག ང ཇ ཉ ཏ ད ན བ མ ཙ ཛ")
    | _stacks("ལ", "ཀ ག ང ཅ ཇ ཏ ད པ བ ཧ")
    | _stacks("ས", "ཀ ག ང ཉ ཏ ད ན པ བ མ ཙ")
)
_FOOTED = (
    _stacks("", "ཀ ཁ ག པ ཕ བ མ", "ཡ")
    | _stacks("", "ཀ ཁ ག ཏ ཐ ད ན པ ཕ བ མ ཤ ས ཧ", "ར")
    | _stacks("", "ཀ ག བ ཟ ར ས", "ལ")
    | _stacks("", "ཀ ཁ ག ཅ ཉ ཏ ད ཙ ཚ ཞ ཟ ར ལ ཤ ས ཧ", "ཝ")
    | _stacks("ར", "ཀ ག མ", "ཡ")
    | _stacks("ས", "ཀ ག པ བ མ", "ཡ")
    | _stacks("ས", "ཀ ག ན པ བ མ", "ར")
    | _stacks("ར", "ཙ ག", "ཝ")
    | {"གྲྭ", "ཕྱྭ"}
)
_PREFIXED: Mapping[str, set[str]] = {
    "ག": _stacks("", "ཅ ཉ ཏ ད ན ཙ ཞ ཟ ཡ ཤ ས"),
    "ད": _stacks("", "ཀ ག ང པ བ མ") | _stacks("", "ཀ ག པ བ མ", "ཡ") | _stacks("", "ཀ ག པ བ", "ར"),
    "བ": _stacks("", "ཀ ག ཅ ཏ ད ཙ ཞ ཟ ཤ ས")
    | _stacks("", "ཀ ག", "ཡ")
    | _stacks("", "ཀ ག ས", "ར")
    | _stacks("", "ཀ ག ཟ ར ས", "ལ")
    | _stacks("ར", "ཀ ག ང ཇ ཉ ཏ ད ན ཙ ཛ")
    | _stacks("ལ", "ཏ ད")
    | _stacks("ས", "ཀ ག ང ཉ ཏ ད ན ཙ")
    | _stacks("ར", "ཀ ག", "ཡ")
    | _stacks("ས", "ཀ ག", "ཡ")
    | _stacks("ས", "ཀ ག", "ར"),
    "མ": _stacks("", "ཁ ག ང ཆ ཇ ཉ ཐ ད ན ཚ ཛ") | _stacks("", "ཁ ག", "ཡ") | _stacks("", "ཁ ག ད", "ར"),
    "འ": _stacks("", "ཁ ག ཆ ཇ ཐ ད ཕ བ ཚ ཛ")
    | _stacks("", "ཁ ག ཕ བ", "ཡ")
    | _stacks("", "ཁ ག ད ཕ བ", "ར"),
}
_VOWELS = "[\u0f72\u0f74\u0f7a\u0f7c]"
_SUFFIXES = "(?:[གངབམ]ས?|[ནརལ]ད?|[དས])"
_PARTICLES = "(?:འུ)*(?:འི|འིའོ|འོ|འང|འམ|ར|ས)?"
_DZONGKHA_ENDS = "(?:[པཔམཝས]|འི|འིས)"
_FOREIGN_SIGNS = re.compile(
    "[\u0f4a-\u0f4e\u0f65\u0f9a-\u0f9e\u0fb5\u0f71\u0f73\u0f75-\u0f79\u0f7b"
    "\u0f7d-\u0f85\u0f00\u0f39]"
)
_LETTERS = re.compile("[\u0f00\u0f39\u0f40-\u0f6c\u0f71-\u0f85\u0f8d-\u0fbc]+")
_NOT_COUNTED = re.compile("[\u0f35\u0f37\u0fc6]")  # emphasis below a syllable


def _one_of(stacks: Iterable[str]) -> str:
    return "(?:" + "|".join(sorted(stacks, key=lambda stack: (-len(stack), stack))) + ")"


def _prefixed(roots: set[str]) -> str:
    allowed = ((prefix, after & roots) for prefix, after in _PREFIXED.items())
    return "|".join(f"{prefix}{_one_of(after)}" for prefix, after in allowed if after)


def _grammar(dzongkha: bool) -> re.Pattern[str]:
    rooted = _one_of(_PLAIN | _HEADED | _FOOTED)
    prefixed = _prefixed(_PLAIN | _HEADED | _FOOTED)
    endings = [
        f"(?:{rooted}|{prefixed}){_VOWELS}?(?:{_SUFFIXES}|འི|འིའོ|འོ|འང|འམ)",
        f"(?:{rooted}|{prefixed}){_VOWELS}{_PARTICLES}",
        f"(?:{rooted}|{_prefixed(_HEADED | _FOOTED)}){_PARTICLES}",
        f"(?:{rooted}|{prefixed})འ{_PARTICLES}",  # མདའ: a bare root after a prefix needs it
    ]
    tail = f"{_DZONGKHA_ENDS}?" if dzongkha else ""
    return re.compile(f"(?:{'|'.join(endings)}){tail}")


_TIBETAN, _DZONGKHA = _grammar(dzongkha=False), _grammar(dzongkha=True)
_FOREIGN_STACK = re.compile("[\u0f40-\u0f6c][\u0f8d-\u0fbc]+")
_KNOWN_STACKS = _HEADED | _FOOTED


@lru_cache(maxsize=65536)
def syllable_sort(syllable: str, *, dzongkha: bool = False) -> Sort:
    """Say what sort of syllable this is, without its tsheg.

    >>> syllable_sort("བསྒྲུབས"), syllable_sort("པདྨ"), syllable_sort("རརར")
    ('standard', 'foreign', 'impossible')
    >>> syllable_sort("ཡོདཔ"), syllable_sort("ཡོདཔ", dzongkha=True)
    ('impossible', 'standard')
    """
    syllable = _NOT_COUNTED.sub("", syllable)
    if (_DZONGKHA if dzongkha else _TIBETAN).fullmatch(syllable):
        return "standard"
    if not _LETTERS.fullmatch(syllable) or not "\u0f40" <= syllable[0] <= "\u0f6c":
        return "impossible"
    stacks = _FOREIGN_STACK.findall(syllable)
    if (
        syllable.startswith("ཀརྨ")
        or _FOREIGN_SIGNS.search(syllable)
        or any(stack not in _KNOWN_STACKS for stack in stacks)
    ):
        return "foreign"
    return "impossible"


def tibetan_syllables(text: str) -> list[str]:
    """Return the Tibetan syllables of a text in order, without what stands between them.

    >>> tibetan_syllables("ཟླ་ 5 པའི་ཚེས་༡།")
    ['ཟླ', 'པའི', 'ཚེས']
    """
    return _LETTERS.findall(text)


def syllable_sorts(text: str, *, dzongkha: bool = False) -> list[Sort]:
    """Return the sort of each Tibetan syllable of a text; numbers and other scripts are none."""
    return [syllable_sort(unit, dzongkha=dzongkha) for unit in tibetan_syllables(text)]


def impossible_share(text: str, *, dzongkha: bool = False) -> float:
    """Return the share of the Tibetan syllables of a text that can be none; 0 without any.

    >>> impossible_share("པརདུད རརར དངུལ")
    0.6666666666666666
    """
    sorts = syllable_sorts(text, dzongkha=dzongkha)
    return sorts.count("impossible") / len(sorts) if sorts else 0.0
