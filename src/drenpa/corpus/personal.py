"""Find what may identify a person in a text: addresses and numbers, checked where they carry a
check.

Patterns find candidates; a card number must pass Luhn, a Chinese identity number and an IBAN their
own sums, an Indian Aadhaar number Verhoeff, an address of a machine must be one. Digits of other
scripts count as digits. What is found is either only counted (flag) or replaced by its sort in
brackets (scrub). Names and postal addresses (`names`) carry no check: they are only ever flagged,
for a person to look at.
"""

from __future__ import annotations

import bisect
import ipaddress
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Literal

from drenpa.corpus.names import find_named

PersonalData = Literal["flag", "scrub", "drop", "keep"]

CERTAIN = ("email", "card", "iban", "china-id", "india-id", "ip", "phone")
SORTS = (*CERTAIN, "name", "address")
"""What is looked for; only what is certain is scrubbed, or drops a page or a record."""

_GAP = r"[ \-.]?"
_EDGE, _END = r"(?<![\w.+\-/@])", r"(?![\w@])(?![.\-]\d)"
_PHONE_WORD = (
    r"(?:\btel(?:ephone)?|\bphone|\bmobile|\bcell|\bfax|\bwhatsapp|\bwechat"
    r"|电话|手机|联系方式|传真|微信|ཁ་པར|ཁ་དཔར|འཕྲིན་ཨང)"
)


@dataclass(frozen=True)
class Finding:
    """One stretch of a text that may identify a person.

    sort:  one of SORTS; start, end: in characters of the text.
    """

    sort: str
    start: int
    end: int

    @property
    def is_certain(self) -> bool:
        """Whether it may be replaced without anybody's looking."""
        return self.sort in CERTAIN


def find_personal(text: str) -> list[Finding]:
    """Return what was found, in order; where two overlap the one that checks more strictly stays.

    >>> [found.sort for found in find_personal("Write to pema@example.org or +91 98765 43210.")]
    ['email', 'phone']
    >>> find_personal("In 1959, 80,000 people; ISBN 978-3-16-148410-0; version 8.2.3.4")
    []
    """
    folded = _with_plain_digits(text)
    found: list[Finding] = []  # in order, apart from each other
    for sort, needs, pattern, holds in _PATTERNS:
        if needs.search(folded) is None:
            continue
        for match in pattern.finditer(folded):
            if holds(match[match.lastindex or 0]):
                _add_apart(found, Finding(sort, *match.span(match.lastindex or 0)))
    for sort, start, end in find_named(text):
        _add_apart(found, Finding(sort, start, end))
    return found


def _add_apart(found: list[Finding], new: Finding) -> None:
    """Put a finding in its place, unless it overlaps with one that is there."""
    place = bisect.bisect_left(found, new.start, key=lambda finding: finding.start)
    after_one = place > 0 and found[place - 1].end > new.start
    before_one = place < len(found) and found[place].start < new.end
    if not after_one and not before_one:
        found.insert(place, new)


def scrub_personal(text: str) -> tuple[str, dict[str, int]]:
    """Return the text with each certain finding replaced by its sort, and how many findings there
    were of each sort, uncertain ones included.

    >>> scrub_personal("ཁ་པར། ༠༩༨༧༦༥༤༣༢༡༠")
    ('ཁ་པར། [phone]', {'phone': 1})
    """
    pieces: list[str] = []
    place = 0
    counts: Counter[str] = Counter()
    for finding in find_personal(text):
        counts[finding.sort] += 1
        if finding.is_certain:
            pieces += [text[place : finding.start], f"[{finding.sort}]"]
            place = finding.end
    return "".join([*pieces, text[place:]]), dict(counts)


class _PlainDigits(dict[int, str]):
    """A translation table from any script's digits to 0–9, one character for one."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        value = unicodedata.decimal(sign, None)
        self[code] = sign if value is None else str(value)
        return self[code]


_PLAIN_DIGITS = _PlainDigits()
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
_MANY_DIGITS = re.compile(r"\d(?:[ \-.()]{0,2}\d){6}")


def _with_plain_digits(text: str) -> str:
    return text if _OTHER_DIGIT.search(text) is None else text.translate(_PLAIN_DIGITS)


def _digits(number: str) -> Iterator[int]:
    return (int(sign) for sign in number if sign.isdigit())


def _is_card(number: str) -> bool:
    """ISO/IEC 7812: a card network's first digit, and the Luhn sum."""
    digits = list(_digits(number))
    if len(set(digits)) < 2 or digits[0] not in (2, 3, 4, 5, 6):
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def _is_iban(number: str) -> bool:
    """ISO 13616: the rest on division by 97 is 1."""
    plain = number.replace(" ", "")
    if not 15 <= len(plain) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def _is_china_id(number: str) -> bool:
    """GB 11643: a date of birth, and the check character of ISO 7064 MOD 11-2."""
    try:
        date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(sign) * pow(2, 17 - place, 11) for place, sign in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17].upper()


_VERHOEFF_PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _is_india_id(number: str) -> bool:
    """Aadhaar: twelve digits that pass Verhoeff's check over the dihedral group of order ten."""
    check = 0
    for place, digit in enumerate(reversed(list(_digits(number)))):
        for _ in range(place % 8):
            digit = _VERHOEFF_PERMUTATION[digit]
        check = _dihedral(check, digit)
    return check == 0


def _dihedral(first: int, second: int) -> int:
    if first < 5:
        return (first + second) % 5 + 5 * (second >= 5)
    return (first - second) % 5 + 5 * (second < 5)


def _is_ip(address: str) -> bool:
    """An address of some machine: not this one, not a private network's, not a mere ::."""
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _is_phone(number: str) -> bool:
    """Seven to fifteen digits (ITU E.164), and no date such as 2019-05-01."""
    count = sum(1 for _ in _digits(number))
    return 7 <= count <= 15 and not re.fullmatch(
        r"(?:1[89]|20)\d\d[ \-./]\d\d?[ \-./]\d\d?", number
    )


def _always(_: str) -> bool:
    return True


_PATTERNS: tuple[tuple[str, re.Pattern[str], re.Pattern[str], Callable[[str], bool]], ...] = (
    (
        "email",
        re.compile(r"@|\[at\]"),
        re.compile(
            r"(?<![\w.+\-])[A-Za-z0-9][A-Za-z0-9._%+\-]{0,63}(?:@|\s?\[at\]\s?)"
            r"(?:[A-Za-z0-9][A-Za-z0-9\-]{0,62}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])"
        ),
        _always,
    ),
    (
        "china-id",
        _MANY_DIGITS,
        re.compile(r"(?<![\dA-Za-z])\d{17}[\dXx](?![\dA-Za-z])"),
        _is_china_id,
    ),
    (
        "card",
        _MANY_DIGITS,
        re.compile(rf"{_EDGE}\d{{4}}{_GAP}\d{{4,6}}{_GAP}\d{{4,5}}(?:{_GAP}\d{{1,7}})?{_END}"),
        _is_card,
    ),
    (
        "iban",
        re.compile(r"[A-Z]{2}\d\d"),
        re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        _is_iban,
    ),
    (
        "india-id",
        _MANY_DIGITS,
        re.compile(rf"{_EDGE}[2-9]\d{{3}}[ \-]\d{{4}}[ \-]\d{{4}}{_END}"),
        _is_india_id,
    ),
    (
        "ip",
        re.compile(r"\d\.\d{1,3}\.\d|:[0-9A-Fa-f]{0,4}:"),
        re.compile(
            r"(?<![\w.:])(?<!version )(?:\d{1,3}(?:\.\d{1,3}){3}"
            r"|(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{1,4})(?![\w:])(?!\.\d)",
            re.I,
        ),
        _is_ip,
    ),
    (
        "phone",
        _MANY_DIGITS,
        re.compile(rf"{_EDGE}(?:\+|00[ \-]?)[1-9](?:[ \-.()]{{0,2}}\d){{6,14}}{_END}"),
        _is_phone,
    ),
    (
        "phone",
        _MANY_DIGITS,
        re.compile(r"(?<![\d.\-])1[3-9]\d(?:[ \-]?\d{4}){2}(?![\d\-])(?!\.\d)"),
        _is_phone,
    ),
    (
        "phone",
        _MANY_DIGITS,
        re.compile(
            rf"{_PHONE_WORD}[^\d\n]{{0,12}}?(\(?\d(?:[ \-.()]{{0,2}}\d){{6,14}}){_END}", re.I
        ),
        _is_phone,
    ),
)
"""Sort, what must stand in a text at all, the pattern and the check, tried in this order; the last
bracket of a pattern, or all of it, is what is found."""
