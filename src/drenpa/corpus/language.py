"""Tell which language a text is in: by script, and Tibetan from Dzongkha by how they are spelled.

Both are written in the Tibetan script, and common identifiers call every Tibetan text Dzongkha.
Dzongkha spells endings that Tibetan cannot have (ཡོདཔ, འབདཝ, ཨིནམ) and has function words of its
own; Tibetan has others. The words were chosen on the train and dev parts of SIB-200; docs/corpus.md
has the figures on its test part.
"""

from __future__ import annotations

import re

from drenpa.corpus.clean import language_by_script
from drenpa.corpus.syllables import tibetan_syllables

_DZONGKHA_ENDING = re.compile("[ཀ-ཬ][ཱ-ཽྍ-ྼ]*[གངདནབམརལས][པཝ]$|[ཱ-ཽྍ-ྼ][གངདནབརལས]མ$")
_DZONGKHA = frozenset(re.split(" ", "ཨིན ལུ ཚུ འབད སྦེ ནུག ཅིན འགྱོ བཟུམ རྐྱབ འཐབ ཧེ སླབ འོང སྦོམ ཚུགས རུང མས དོ"))
_TIBETAN = frozenset(
    re.split(
        " ",
        "ནས རེད ཞིག བྱེད ཡིན བྱས རྣམས དེའི ཐུབ ཀྱང མཁན ཁྱེད དེར ཏུ ཞེས ལྟར ཡོང ཚོས ཕྱིར གཏོང ཤིག "
        "ཚོ པོའི པོར པའི བའི པར འདུག ཀྱི ཀྱིས ལ དུ",
    )
)


def identify_language(text: str) -> str:
    """Return en, zh, bo, dz, or "" where the script is another or there are no letters.

    `en` stands for Latin script, `zh` for Chinese characters.

    >>> identify_language("འདི་ཚུ་ཡང་ ནུབ་ཁ་ཐུག་ལུ་ ཡོདཔ་ཨིན།")
    'dz'
    >>> identify_language("ཆར་པ་འབབ་ཀྱི་འདུག")
    'bo'
    """
    language = language_by_script(text)
    if language != "bo":
        return language
    return "dz" if dzongkha_balance(text) > 0 else "bo"


def dzongkha_balance(text: str) -> int:
    """Return how many syllables speak for Dzongkha minus those that speak for Tibetan."""
    balance = 0
    for syllable in tibetan_syllables(text):
        if syllable in _DZONGKHA or _DZONGKHA_ENDING.search(syllable):
            balance += 1
        elif syllable in _TIBETAN:
            balance -= 1
    return balance
