"""From a judge's reply to scores: the schema first, then repair, never a guess.

A verdict is a JSON object that names dimensions. The last one in the reply counts, since models
think aloud before they decide. One that stands word for word in the judged answer, alone or within
something else, is the answer's own and never counts; nor does the example of the prompt. What is
not 0, 1 or 2 is unscored.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.text import brief, encodable
from drenpa.judge.judges import Opinion, Read
from drenpa.judge.rubric import RUBRIC

LONGEST_REPLY = 16384  # characters; of a longer reply only the end is read
_TOO_DEEP = 2000  # characters to pass over where braces nest too deep to be a verdict
_THOUGHT_KEYS = (
    "thoughts",
    "thought",
    "reason",
    "reasons",
    "comment",
    "想法",
    "思考",
    "理由",
    "评语",
)
_SCORE_KEYS = ("score", "scores", "ratings", "verdict", "value", "分数", "评分", "得分", "结果")
_NUMBER = re.compile(r"^([+-]?\d+(?:\.\d+)?)(?:\s*(?:/\s*2|分|points?))?$")
_REPAIRS = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "「": '"', "」": '"', "、": ",", "。": "."}
    | dict(zip("༠༡༢༣༤༥༦༧༨༩", "0123456789", strict=True))
)
_TRAILING_COMMA = re.compile(r",\s*([}\]])")
_OUT_OF_TWO = re.compile(r"(:\s*[012])\s*/\s*2(?=\s*[,}])")


def parse_verdict(reply: str, answer: str = "") -> Opinion:
    """Read a judge's reply.

    reply:   whatever the judge wrote.
    answer:  the answer it judged, so that a verdict quoted from there is told from its own.
    returns: the scores that could be read; `unscored` says why others are missing.
    """
    text = reply[-LONGEST_REPLY:]
    for readable in _readings(text):
        own = [found for found, source in _verdicts(readable) if not _quoted(found, source, answer)]
        if own:
            return _opinion(own[-1], "as asked" if _is_as_asked(text) else "mended")
    return Opinion(unscored=_why_none(text, answer))


def score_of(value: Any) -> float | None:
    """Read 0, 1 or 2 from what somebody wrote for it, or None.

    >>> score_of("２ / 2"), score_of("1分"), score_of("༢"), score_of(3), score_of("good")
    (2.0, 1.0, 2.0, None, None)
    """
    number = _number(value)
    return number if number in (0.0, 1.0, 2.0) else None


def _verdicts(text: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the outermost JSON objects that name a dimension, in order, each with its source."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            value = None
        except RecursionError:
            value, end = None, start + _TOO_DEEP
        if isinstance(value, dict) and _scores_in(value) and not _is_example(value):
            yield value, text[start:end]
        start = text.find("{", end)


def _readings(text: str) -> tuple[str, ...]:
    """The text as it is; with full-width signs made ASCII; with its quotation marks mended too."""
    plain = unicodedata.normalize("NFKC", text)
    mended = plain.translate(_REPAIRS)
    if '"' not in mended:
        mended = mended.replace("'", '"')
    return text, *(
        _OUT_OF_TWO.sub(r"\1", _TRAILING_COMMA.sub(r"\1", repaired)) for repaired in (plain, mended)
    )


def _is_as_asked(text: str) -> bool:
    """Whether the reply is the object of the prompt's schema and nothing else."""
    try:
        verdict = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(verdict, dict)
        and set(verdict) == {"thoughts", *DIMENSIONS}
        and isinstance(verdict["thoughts"], str)
        and all(type(verdict[name]) is int and 0 <= verdict[name] <= 2 for name in DIMENSIONS)
    )


def _quoted(verdict: Mapping[str, Any], source: str, answer: str) -> bool:
    """Whether the answer itself contains this verdict: its text, however it is spaced, quoted and
    escaped, or an object that says the same."""
    if _squeezed(source) in _squeezed(answer):
        return True
    stated, thoughts = _scores_in(verdict), _thoughts_in(verdict)
    return any(
        _scores_in(planted) == stated and thoughts in ("", _thoughts_in(planted))
        for text in _readings(answer)
        for planted, _ in _verdicts(text)
    )


@lru_cache(maxsize=64)  # one answer is compared with every object of a reply, in three readings
def _squeezed(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).translate(_REPAIRS).replace("'", '"')
    return re.sub(r"[\s\\]+", "", plain)


def _is_example(verdict: Mapping[str, Any]) -> bool:
    thoughts = _thoughts_in(verdict)
    return bool(thoughts) and not thoughts.strip("….· ")


def _opinion(verdict: Mapping[str, Any], read: Read) -> Opinion:
    scores: dict[Dimension, float] = {}
    reasons: list[str] = []
    stated = _scores_in(verdict)
    for dimension in DIMENSIONS:
        if dimension not in stated:
            reasons.append(f"{dimension}: not in the verdict")
            continue
        score = score_of(stated[dimension])
        if score is not None:
            scores[dimension] = score
        else:
            reasons.append(f"{dimension}: {_shown(stated[dimension])} is not 0, 1 or 2")
    return Opinion(scores, _thoughts_in(verdict), "; ".join(reasons), read)


def _scores_in(verdict: Mapping[str, Any]) -> dict[Dimension, Any]:
    """Find what the verdict says of each dimension, at the top or under a key such as `scores`."""
    found: dict[Dimension, Any] = {}
    for key, value in verdict.items():
        dimension = _ALIASES.get(_folded(key))
        if dimension is not None:
            found[dimension] = _inner_score(value)
    if not found:
        for key in _SCORE_KEYS:
            inner = verdict.get(key)
            if isinstance(inner, dict):
                found = _scores_in(inner)
                break
    return found


def _inner_score(value: Any) -> Any:
    """A judge may write {"relevance": {"score": 2, "reason": "…"}}."""
    if isinstance(value, dict):
        return next((value[key] for key in _SCORE_KEYS if key in value), value)
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return -1.0
    if isinstance(value, str):
        match = _NUMBER.match(unicodedata.normalize("NFKC", value).strip().casefold())
        return float(match.group(1)) if match else -1.0
    return float(value) if abs(value) <= 2 else -1.0


def _thoughts_in(verdict: Mapping[str, Any]) -> str:
    for key, value in verdict.items():
        if _folded(key) in _THOUGHT_KEYS:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            return encodable(text)
    return ""


def _why_none(text: str, answer: str) -> str:
    if not text.strip():
        return "the reply is empty"
    found = (pair for readable in _readings(text) for pair in _verdicts(readable))
    if any(_quoted(*pair, answer) for pair in found):
        return "the reply holds no verdict but one copied from the answer"
    if "{" not in unicodedata.normalize("NFKC", text):
        return "the reply holds no JSON object"
    return "the reply holds no JSON object that could be read as a verdict"


def _shown(value: Any) -> str:
    return brief(json.dumps(value, ensure_ascii=False), most=40)


def _folded(key: str) -> str:
    """A key as it is compared: no case, no spaces, underscores, full-width forms or marks."""
    plain = unicodedata.normalize("NFKC", key).casefold()
    return re.sub(r"[\s_\-*:་།]+", "", plain)


_ALIASES: Mapping[str, Dimension] = {
    _folded(name): dimension
    for dimension, facts in RUBRIC.items()
    for name in (dimension, *facts.names.values(), *facts.aliases)
}
