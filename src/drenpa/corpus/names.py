"""Find what looks like a person's name or a postal address: to be looked at, never to be replaced.

Nothing checks a name as a sum checks a card number. A name is taken for one where the text says so
(`Mr`, `my name is`, `姓名：`, 先生 after a surname), or, in Tibetan, where two and more of the
commonest given names stand in a row; an address where a house number and a kind of street stand
together, or after the word for it. A name without such a sign is not found, and a lama of the ninth
century is found as well as a neighbour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_GIVEN = (
    "བཀྲ་ཤིས ཚེ་རིང དོན་གྲུབ དོན་འགྲུབ པད་མ པདྨ པད་མོ རྡོ་རྗེ སྒྲོལ་མ སྒྲོལ་དཀར ལྷ་མོ ནོར་བུ རིན་ཆེན བསོད་ནམས "
    "བསྟན་འཛིན བསྟན་པ བསྟན་དར བློ་བཟང བློ་གྲོས བློ་ལྡན ངག་དབང འཇམ་དབྱངས འཇམ་དཔལ དབང་ཕྱུག དབང་མོ དབང་རྒྱལ "
    "དབང་འདུས རྒྱ་མཚོ རྒྱལ་མཚན ཕུན་ཚོགས སྐལ་བཟང སྐལ་ལྡན ཡེ་ཤེས ཤེས་རབ ཚེ་བརྟན ཚེ་དབང ཚེ་ལྷ "
    "ཀརྨ མཁའ་འགྲོ མཚོ་མོ མཚོ་སྐྱིད ལྷ་སྐྱབས ལྷ་རྒྱལ ལྷ་ཡག འབྲུག་རྒྱལ འཕྲིན་ལས ཕྲིན་ལས ཆོས་འཕེལ ཆོས་སྐྱིད "
    "ཆོས་སྒྲོན ཆོས་གྲགས བདེ་སྐྱིད བདེ་ཆེན མིག་དམར ལྷག་པ ཕུར་བུ པ་སངས སྤེན་པ ཉི་མ ཟླ་བ སངས་རྒྱས དཔལ་ལྡན "
    "དཔལ་འབྱོར དཔལ་མོ འཇིགས་མེད འགྱུར་མེད ཐུབ་བསྟན རབ་རྒྱས རབ་བརྟན དཀོན་མཆོག རིག་འཛིན དབྱངས་ཅན རྣམ་རྒྱལ "
    "ནམ་མཁའ ཚུལ་ཁྲིམས བསམ་གྲུབ བསམ་འགྲུབ ལྷུན་གྲུབ ལྷུན་འགྲུབ དགེ་འདུན དགེ་ལེགས རྟ་མགྲིན འོད་ཟེར བྱམས་པ "
    "བྱང་ཆུབ མཆོག་ལྡན ལེགས་བཤད སྟོབས་ལྡན སྟོབས་རྒྱལ དར་རྒྱས ཡུམ་སྐྱིད གཡུ་སྒྲོན"
)
_NO_NAME = frozenset({"ཉི་མ་ཟླ་བ", "ཟླ་བ་ཉི་མ", "སངས་རྒྱས་བསྟན་པ", "བདེ་སྐྱིད་ཕུན་ཚོགས"})
_TITLES = r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Professor|Sir|Geshe|Rinpoche|Lama|Khenpo)"
_WORD = r"[A-Z](?:['’][A-Z])?[a-zÀ-ɏ]+(?:-[A-Z][a-zÀ-ɏ]+)?"
_SURNAMES = (
    "欧阳 上官 司马 诸葛 王 李 张 刘 陈 杨 赵 黄 周 吴 徐 孙 胡 朱 高 林 何 郭 马 罗 梁 "
    "宋 郑 谢 韩 唐 冯 于 董 萧 程 曹 袁 邓 许 傅 沈 曾 彭 吕 苏 卢 蒋 蔡 贾 丁 魏 薛 叶 "
    "阎 余 潘 杜 戴 夏 钟 汪 田 任 姜 范 方 石 姚 谭 廖 邹 熊 金 陆 郝 孔 白 崔 康 毛 邱 "
    "秦 江 史 顾 侯 邵 孟 龙 万 段 雷 钱 汤 尹 黎 易 常 武 乔 贺 赖 龚 文"
)
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Boulevard|Blvd|Court|Square|Terrace|Crescent"
    r"|Marg|Nagar|Colony|Chowk)"
)


def _any(words: str) -> str:
    """Any of the words, the longest first."""
    return "|".join(sorted(map(re.escape, words.split()), key=lambda word: (-len(word), word)))


_GIVEN_NAME = f"(?:{_any(_GIVEN)})"
_CHINESE_NAME = f"(?:{_any(_SURNAMES)})[\u4e00-\u9fff]"
_PATTERNS: tuple[tuple[str, re.Pattern[str], re.Pattern[str]], ...] = (
    (
        "name",
        re.compile("[\u0f40-\u0fbc]་"),
        re.compile(
            rf"(?<![\u0f40-\u0fbc])({_GIVEN_NAME}(?:་{_GIVEN_NAME})+)(?![\u0f40-\u0f6c\u0f71-\u0fbc])"
        ),
    ),
    (
        "name",
        re.compile("M[rsi]|Dr|Prof|Sir|Geshe|Rinp|Lama|Khenpo|[Nn]ame|Signed|[Ss]incerely"),
        re.compile(
            rf"\b{_TITLES}\b\.?[ ]({_WORD}(?:[ ](?:[A-Z]\.[ ]?)?{_WORD}){{0,3}})"
            rf"|\b[Mm]y name is ({_WORD}(?:[ ]{_WORD}){{0,3}})"
            rf"|\b(?:Full )?[Nn]ame ?[:：][ ]?({_WORD}(?:[ ]{_WORD}){{1,3}})"
            rf"|\b(?:Signed|Sincerely|sincerely)[,:]?\s+({_WORD}(?:[ ]{_WORD}){{1,3}})"
        ),
    ),
    (
        "name",
        re.compile("先生|女士|老师|同志|教授|医生|大夫|姓名|我叫|名叫|小姐|主任"),
        re.compile(
            rf"(?<![\u4e00-\u9fff])((?:{_any(_SURNAMES)})[\u4e00-\u9fff]{{0,2}})"
            r"(?=先生|女士|老师|同志|教授|医生|大夫|小姐|主任)"
            rf"|(?:我叫|名叫)({_CHINESE_NAME}{{1,2}})(?![\u4e00-\u9fff])"
            rf"|姓名[:：]\s?([\u4e00-\u9fff·]{{2,8}})"
        ),
    ),
    (
        "address",
        re.compile(rf"{_STREET}\b|Box "),
        re.compile(
            rf"(?<![\w.])(\d{{1,5}}[A-Za-z]?,? (?:[A-Z][\w'’]+ ){{1,4}}{_STREET}\b\.?"
            r"(?:, [A-Z][\w ]{2,25}){0,3}(?:,? \d{5,6}(?:-\d{4})?\b)?)"
            r"|\b((?:G\.?)?P\.? ?O\.? Box (?:No\.? ?)?\d{1,6})\b"
        ),
    ),
    (
        "address",
        re.compile(r"\d\s?号"),
        re.compile(
            r"([\u4e00-\u9fff]{1,24}(?:路|街|大道|巷|弄|胡同|村)[\u4e00-\u9fff]{0,4}\d{1,5}\s?号"
            r"(?:[\u4e00-\u9fff\d]{0,8}?\d{1,5}(?:室|房|户))?)"
        ),
    ),
    (
        "address",
        re.compile("[Aa]ddress|地址|住址|ཁ་བྱང"),
        re.compile(
            r"(?:\b[Aa]ddress|地址|住址|ཁ་བྱང)(?:་|ནི|ནི་)?(?:[:：།][ ]?)"
            r"(?=[^\n]{0,80}\d)([^\n@]{8,90}?)(?=[\n。@]|$|༎)"
        ),
    ),
)
"""Sort, what must stand in a text at all, and the pattern; its bracket is what is found."""


def find_named(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield (sort, start, end) of what looks like a name or an address, pattern by pattern.

    >>> text = "My name is Tashi Dolma, of 12 Temple Road, Dharamshala."
    >>> [(sort, text[start:end]) for sort, start, end in find_named(text)]
    [('name', 'Tashi Dolma'), ('address', '12 Temple Road, Dharamshala')]
    """
    for sort, needs, pattern in _PATTERNS:
        if needs.search(text) is None:
            continue
        for match in pattern.finditer(text):
            start, end = match.span(match.lastindex or 0)
            found, middle = text[start:end], (end - start) // 2
            twice = found[:middle] == found[middle + 1 :]  # as in `day by day`
            if found not in _NO_NAME and not twice:
                yield sort, start, end
