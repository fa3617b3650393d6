"""Whether a critique written out by a model says no more than the person's note.

What can be told without a model: every number, every name, every quotation and every term in
another script stands in the question, the answer or the note; praise stays praise and blame blame;
the length is in bounds; it keeps some of the note's words and does not go round in circles. A false
claim in known words passes; a second model that checks claim by claim finds some of those.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from drenpa.core.knowledge import Language
from drenpa.core.text import FUNCTION_UNITS, content_units, loop_ratio, script_of, units

CHECK_SLOTS = ("question", "answer", "note", "critique")


@dataclass(frozen=True)
class Bounds:
    """How long a critique may be, in words, Chinese signs or Tibetan syllables, and how far from
    the note.

    least_of_note: of the note's length; a fuller text is not much shorter than the note.
    most, most_of_note: whichever of the two allows more.
    least_kept: of the note's content words, where it has at least `few` of them; a critique that
                has hardly any is of something else.
    most_looped: the share of it that may go round in circles.
    """

    least_of_note: float = 0.6
    most: int = 60
    most_of_note: float = 4.0
    least_kept: float = 0.2
    few: int = 4
    most_looped: float = 0.3


_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_NUMBER_WORDS: Mapping[str, str] = {
    word: str(number)
    for number, word in enumerate(
        (
            *("three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
            *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
            *("nineteen", "twenty"),
        ),
        start=3,
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "thousand": "1000"}
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_QUOTED = re.compile(
    r"“([^”]{1,120})”|\"([^\"]{1,120})\"|«([^»]+)»|「([^」]+)」|『([^』]+)』|《([^》]+)》"
)
_SENTENCE_START = re.compile(r"(?:^|[.!?:;…\n]['\"’”»)]*\s+|[-*•]\s+|\d\.\s+|[\"“«(]\s*)$")
_LOOK_BACK = 64  # signs before a word in which a sentence's start is looked for
_ORDINARY = FUNCTION_UNITS["en"] | {
    *("i'm", "i'd", "i've", "i'll", "ok", "ai", "firstly", "secondly", "thirdly", "lastly"),
    *("first", "second", "third", "however", "therefore", "also"),
}


_ZH_PARTED = re.compile(r"[一-鿿]{1,2}(?:[·・‧][一-鿿]{1,2})+")
"""A foreign name, its parts joined by a dot; no more of it than stands nearest to the dots."""
_ZH_TITLED = re.compile(
    r"([一-鿿]{1,2})(先生|女士|教授|博士|总统|主席|总理|皇帝|大师|活佛|仁波切|喇嘛|大学|研究所"
    r"|研究院|公司|自治区|自治州|王朝)"
)
_ZH_NO_NAME = frozenset(
    "的地得是在了有为和与或及个位名家所座该此本某各这那其何谁国到给让被把对向从"
)
"""Signs before a title that make it an office and no name."""
_BO_TITLES_AFTER = ("རིན་པོ་ཆེ", "ལོ་ཙཱ་བ", "རྒྱལ་པོ", "གྲོང་ཁྱེར", "ཞིང་ཆེན", "དགོན་པ", "སློབ་གྲྭ་ཆེན་མོ")
_BO_TITLES_BEFORE = ("སློབ་དཔོན", "མཁན་པོ", "དགེ་བཤེས", "པཎ་ཆེན", "རྗེ་བཙུན", "བླ་མ")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PRAISE: Mapping[Language, frozenset[str]] = {
    "en": _words(
        "good great excellent right correct correctly accurate accurately clear clearly helpful "
        "useful complete thorough sound strong well apt vivid precise concise relevant valid true "
        "perfect fine best nice lively logical coherent convincing"
    ),
    "zh": _words("好 正确 准确 清楚 清晰 完整 全面 恰当 贴切 生动 优秀 合理 有用 出色 到位"),
    "bo": _words("བཟང་ ཡག་པོ ཡང་དག གསལ་པོ ཆ་ཚང འགྲིག་ ལེགས་ འོས་འཚམ"),
}
_BLAME: Mapping[Language, frozenset[str]] = {
    "en": _words(
        "bad wrong wrongly incorrect incorrectly inaccurate false mistaken vague unclear confused "
        "confusing incomplete missing misses lacks irrelevant poor weak useless error errors "
        "mistake mistakes fails thin shallow superficial misleading nonsense invalid illogical "
        "evades noncommittal unhelpful"
    ),
    "zh": _words("错 差 含糊 模糊 不清 遗漏 缺 空洞 肤浅 离题 混乱 误导 片面 笼统 无关 不足"),
    "bo": _words("ནོར་ མི་གསལ མ་ཚང ཆད་ སྐྱོན་ འཁྲུལ་ ཞན་ འབྲེལ་མེད མི་འགྲིག"),
}
_TURNS = _words("not no never n't without isn't aren't doesn't don't wasn't hardly barely cannot")
_TURN_SPAN = 3
"""Words before a word of praise or blame in which a negation turns it round."""
_TURNS_BEFORE: Mapping[Language, tuple[str, ...]] = {"zh": ("不", "没", "无", "未", "非"), "bo": ()}


def unfaithful(
    question: str, answer: str, note: str, critique: str, bounds: Bounds | None = None
) -> list[str]:
    """Return what a critique has that its sources do not support, each as a sentence for the model
    that wrote it; nothing where no fault was found.

    Sources are the question, the answer and the note.
    """
    sources = "\n".join((question, answer, note))
    bounds = bounds or Bounds()
    faults = [
        *_length_faults(note, critique, bounds),
        *_substance_faults(note, critique, bounds),
        *(f"The number {told} stands in no source." for told in new_numbers(critique, sources)),
        *(f"The name {told} stands in no source." for told in new_names(critique, sources)),
        *(f"“{told}” is no quotation from a source." for told in new_quotations(critique, sources)),
        *(f"The term {told} stands in no source." for told in new_terms(critique, sources)),
    ]
    before, after = polarity(note), polarity(critique)
    if before * after < 0:
        kinds = {1: "praise", -1: "blame"}
        faults.append(f"The note is {kinds[before]}, the critique is {kinds[after]}.")
    return faults


def new_numbers(text: str, sources: str) -> list[str]:
    """Return the numbers of a text that its sources do not have, in any digits or English words.

    One and two are words like others, and small numbers that count points (1., 2.) are passed over.

    >>> new_numbers("Seven of ༡༢ are right, not 3.5", "7 of 12")
    ['3.5']
    """
    known = set(_numbers(sources))
    listed = re.sub(r"(?m)^\s*\d{1,2}[.)]\s+", "", text)
    return _distinct(number for number in _numbers(listed) if number not in known)


def _numbers(text: str) -> list[str]:
    plain = "".join(
        str(unicodedata.digit(sign)) if unicodedata.category(sign) == "Nd" else sign
        for sign in unicodedata.normalize("NFKC", text)
    )
    found = [number.replace(",", "").strip(".:/") for number in _NUMBER.findall(plain)]
    words = [_NUMBER_WORDS[w] for w in _WORD.findall(plain.casefold()) if w in _NUMBER_WORDS]
    return [*found, *words]


def new_names(text: str, sources: str) -> list[str]:
    """Return the names of a text that its sources do not have at all.

    In Latin script these are capitalised words. A capital at the start of a sentence is no sign of
    a name; a word all in capitals always is. Chinese and Tibetan mark no names, so only those are
    seen that stand beside a title (a person's, a place's, an institution's), and Chinese ones with
    a dot between their parts.

    >>> new_names("The answer forgets Newton. Newton would mind, as would NASA.", "the answer")
    ['Newton', 'NASA']
    >>> new_names("The answer is thin. It forgets gravity.", "answer gravity")
    []
    """
    known = set(_folded_words(sources))
    found = []
    for match in _WORD.finditer(text):
        word = match.group()
        if script_of(word[0]) != "LATIN" or not word[0].isupper() or len(word) < 2:
            continue
        shouted = word.isupper() and len(word) > 1
        before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
        if not shouted and _SENTENCE_START.search(before):
            continue
        bare = _singular(word)
        if bare not in known and bare not in _ORDINARY:
            found.append(word)
    known_signs = _joined(sources)
    found += [
        name
        for name, nearest in (*_chinese_names(text), *_tibetan_names(text))
        if _joined(nearest) not in known_signs
    ]
    return _distinct(found)


def _chinese_names(text: str) -> Iterator[tuple[str, str]]:
    """Yield names, and of each what must stand in a source."""
    for match in _ZH_PARTED.finditer(text):
        yield match.group(), match.group()
    for match in _ZH_TITLED.finditer(text):
        before, title = match.groups()
        if before[-1] not in _ZH_NO_NAME:
            yield match.group(), before[-1] + title


def _tibetan_names(text: str) -> Iterator[tuple[str, str]]:
    """Yield a title with the syllable beside it, unless that one only joins words."""
    pieces = re.split(r"[^\u0f40-\u0fbc]+", text)
    for titles, side in ((_BO_TITLES_AFTER, -1), (_BO_TITLES_BEFORE, 1)):
        for title in (title.split("་") for title in titles):
            for start in range(len(pieces) - len(title) + 1):
                place = start - 1 if side < 0 else start + len(title)
                if pieces[start : start + len(title)] != title or not 0 <= place < len(pieces):
                    continue
                if (beside := pieces[place]) and beside not in FUNCTION_UNITS["bo"]:
                    name = "་".join((beside, *title) if side < 0 else (*title, beside))
                    yield name, name


def new_quotations(text: str, sources: str) -> list[str]:
    """Return what a text puts in quotation marks or title marks and its sources do not say.

    Signs, case and spaces do not count.

    >>> new_quotations("It says “small part”, not 《词典》.", "the small, part of it")
    ['词典']
    """
    known = _joined(sources)
    found = ["".join(match.groups(default="")) for match in _QUOTED.finditer(text)]
    return _distinct(told for told in found if _joined(told) and _joined(told) not in known)


def new_terms(text: str, sources: str) -> list[str]:
    """Return words in another script than most of the text, which its sources do not have.

    >>> new_terms("答案没有提到 photosynthesis 和 ATP。", "植物怎样利用阳光？ATP")
    ['photosynthesis']
    """
    scripts = Counter(script_of(unit[0]) for unit in units(text))
    main = scripts.most_common(1)[0][0] if scripts else ""
    known = _joined(sources)
    runs: list[str] = []
    script = ""
    for sign in text:
        inside = script and (sign in "་'’-" or unicodedata.category(sign)[0] == "M")
        before, script = script, script if inside else script_of(sign)
        if not script or script == main:
            continue
        runs = [*runs[:-1], runs[-1] + sign] if before == script else [*runs, sign]
    runs = [run.strip("་'’-") for run in runs]
    return _distinct(run for run in runs if len(run) > 1 and _joined(run) not in known)


def polarity(text: str) -> int:
    """Return 1 for a text with praise and no blame, −1 for blame and no praise, 0 for both or
    neither.

    >>> polarity("Right and clear."), polarity("not right"), polarity("good but thin")
    (1, -1, 0)
    """
    good = bad = 0
    pieces = [piece.replace("’", "'") for piece in units(text)]
    for place, piece in enumerate(pieces):
        turned = any(
            before in _TURNS or before.endswith("n't")
            for before in pieces[max(0, place - _TURN_SPAN) : place]
        )
        if piece in _PRAISE["en"] or piece in _BLAME["en"]:
            praised = (piece in _PRAISE["en"]) != turned
            good, bad = good + praised, bad + (not praised)
    for language in ("zh", "bo"):
        for words, sign in ((_PRAISE[language], 1), (_BLAME[language], -1)):
            for word in words:
                for start in _places(word, text):
                    turned = text[max(0, start - 1) : start] in _TURNS_BEFORE[language]
                    praised = (sign > 0) != turned
                    good, bad = good + praised, bad + (not praised)
    return int(good > 0) - int(bad > 0)


def unsupported_claims(reply: str) -> list[str] | None:
    """Read the reply of the model that checks claims; None where it cannot be read.

    >>> unsupported_claims('{"unsupported": ["It names Newton."]}')
    ['It names Newton.']
    >>> unsupported_claims("All is well") is None
    True
    """
    start, end = reply.find("{"), reply.rfind("}")
    try:
        found = json.loads(reply[start : end + 1])["unsupported"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(claim, str) for claim in found):
        return None
    return [claim.strip() for claim in found if claim.strip()]


def _length_faults(note: str, critique: str, bounds: Bounds) -> list[str]:
    given, found = len(units(note)), len(units(critique))
    most = max(bounds.most, round(bounds.most_of_note * given))
    if found == 0:
        return ["The critique is empty."]
    if found < bounds.least_of_note * given:
        return [f"The critique has {found} words, the note {given}: it leaves something out."]
    if found > most:
        return [f"The critique has {found} words; {most} are enough."]
    return []


def _substance_faults(note: str, critique: str, bounds: Bounds) -> list[str]:
    if loop_ratio(critique) > max(bounds.most_looped, loop_ratio(note)):
        return ["The critique goes round in circles."]
    given = set(content_units(note))
    kept = len(given & set(content_units(critique)))
    if len(given) >= bounds.few and kept < bounds.least_kept * len(given):
        return ["The critique does not say what the note says."]
    return []


def _folded_words(text: str) -> list[str]:
    return [_singular(word) for word in _WORD.findall(text)]


def _singular(word: str) -> str:
    """A word without case, possessive and plural ending."""
    folded = word.casefold().replace("’", "'")
    folded = folded.removesuffix("'s").removesuffix("'")
    return folded[:-1] if len(folded) > 3 and folded.endswith("s") else folded


def _joined(text: str) -> str:
    """Letters and digits alone."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(sign for sign in folded if unicodedata.category(sign)[0] in "LMN")


def _places(word: str, text: str) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(word), text)]


def _distinct(found: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found))
