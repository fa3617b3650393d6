"""Tell which language a text is in: by script, and Tibetan from Dzongkha by how they are spelled.

Both are written in the Tibetan script, and common identifiers call every Tibetan text Dzongkha.
Dzongkha spells endings that Tibetan cannot have (ཡོདཔ, འབདཝ, ཨིནམ) and has function words of its
own; Tibetan has others. The words were chosen on the train and dev parts of SIB-200; docs/corpus.md
has the figures on its test part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator

from drenpa.core.errors import DataError
from drenpa.core.languages import LANGUAGES, Language
from drenpa.core.records import Row
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


def identify_language(text: str, profiles: Sequence[Language] = ()) -> str:
    """Return en, zh, bo, dz, or "" where the script is another or there are no letters.

    `en` stands for Latin script, `zh` for Chinese characters, as long as no profile of another
    language fits better.

    >>> identify_language("འདི་ཚུ་ཡང་ ནུབ་ཁ་ཐུག་ལུ་ ཡོདཔ་ཨིན།")
    'dz'
    >>> identify_language("ཆར་པ་འབབ་ཀྱི་འདུག")
    'bo'
    """
    language = language_by_script(text, profiles)
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


class _Profile(Row):
    """A profile as it stands in a file."""

    code: str = Field(pattern="^[a-z]{2,3}(-[A-Za-z]+)*$")
    script: str = Field(pattern="^[A-Z]+$")
    function_units: tuple[str, ...] = Field(min_length=10)
    usual_share: float = Field(gt=0, lt=1)

    @field_validator("function_units", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return tuple(value.casefold().split()) if isinstance(value, str) else value


def read_profile(path: Path) -> Language:
    """Read a profile from YAML: code, script, function_units (in one string), usual_share.

    raises: DataError that names the field at fault.
    """
    try:
        profile = _Profile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "profile"
        raise DataError(f"{path}: {place}: {fault['msg']}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as a language profile ({error})") from error
    if profile.code in LANGUAGES:
        raise DataError(f"{path}: code: '{profile.code}' is known already; give it another")
    units = frozenset(profile.function_units)
    return Language(profile.code, profile.script, units, profile.usual_share)
