"""What is known of each language: its script, and the words that carry it whatever the topic.

Whoever wants another language adds a profile: an entry in `LANGUAGES`, or a file of one's own that
the cleaning takes (`drenpa clean --profile ru.yaml`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{1,8})*")  # as in BCP 47
_NAMES = {
    **{"english": "en", "chinese": "zh", "mandarin": "zh", "tibetan": "bo", "dzongkha": "dz"},
    **{"french": "fr", "german": "de", "hindi": "hi", "japanese": "ja", "mongolian": "mn"},
    **{"nepali": "ne", "russian": "ru", "spanish": "es"},
}


def language_fault(code: str) -> str:
    """Say what is wrong with a language's code, or nothing.

    >>> language_fault("English")
    "'English' is no language code; did you mean 'en'?"
    >>> language_fault("zh_CN")
    "'zh_CN' is no language code; did you mean 'zh-CN'?"
    >>> language_fault("zh-Hant"), language_fault("xx")
    ('', '')
    """
    if _CODE.fullmatch(code):
        return ""
    first, dash, rest = code.strip().replace("_", "-").partition("-")
    meant = _NAMES.get(first.lower(), first.lower()) + dash + rest
    hint = f"did you mean '{meant}'?" if _CODE.fullmatch(meant) else "write one as en, zh or pt-BR"
    return f"'{code}' is no language code; {hint}"


@dataclass(frozen=True)
class Language:
    """A profile.

    code:           as in records: en, zh, bo.
    script:         as Unicode names it, in capitals: LATIN, CJK, TIBETAN, CYRILLIC.
    function_units: the commonest function words (characters in Chinese, syllables in Tibetan),
                    case folded.
    usual_share:    of these among the units of an ordinary text.
    """

    code: str
    script: str
    function_units: frozenset[str]
    usual_share: float

    def commonness(self, units: Sequence[str]) -> float:
        """Return how often the function units stand among a text's units, as a multiple of what is
        usual; 0 for no units."""
        if not units:
            return 0.0
        common = sum(unit in self.function_units for unit in units)
        return common / len(units) / self.usual_share


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


LANGUAGES: Mapping[str, Language] = {
    known.code: known
    for known in (
        Language(
            "en",
            "LATIN",
            _listed(
                "a an the this that these those i you he she it we they me him her us them my your "
                "his its our their one who which what when where why how if then than so as "
                "because while though and or but not no nor of to in on at by for from with into "
                "over under about between after before through during without is are was were be "
                "been being am do does did has have had can could may might must shall should will "
                "would there here all any each some most more other such only own same too very "
                "just also still even up down out off again once both few much many every"
            ),
            0.15,
        ),
        Language(
            "zh",
            "CJK",
            frozenset(
                "的了是在和也就不都而与及或被把对从到以于为这那其之有会能要可着过吗呢吧所则但因"
            ),
            0.04,
        ),
        Language(
            "bo",
            "TIBETAN",
            _listed(
                "གི གྱི ཀྱི ཡི འི གིས གྱིས ཀྱིས ཡིས ལ ན ནས ལས དུ ཏུ ཅིང ཞིང ཤིང དང ནི ཡང ཀྱང འང པ བ པའི "
                "བའི པར བར པས བས མ མི དེ འདི ཡིན རེད ཡོད འདུག མེད མིན དགོས ཐུབ ཡག གཅིག ཞིག ཅིག ཤིག "
                "རྣམས ཚོ ཞེས ཅེས སོགས ཏེ སྟེ དེའི འདིའི གང ཅི སུ ར རུ སུའི པོ མོ"
            ),
            0.10,
        ),
    )
}
"""The first of a script stands for all of it where no other profile fits better."""
