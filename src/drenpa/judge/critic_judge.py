"""The critic as a judge of the policy that it taught: possible, and flagged wherever it stands."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from drenpa.core.artefacts import code_version
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.roles import Scorer
from drenpa.core.text import units
from drenpa.judge.judges import Case, Opinion

BATCH = 8  # questions scored at once
OFF_TOPIC: Mapping[str, str] = {
    "en": "The bus to the lake leaves at nine in the morning. Bring a warm coat, since the wind "
    "off the water is cold even in summer.",
    "zh": "去湖边的班车早上九点发车。记得带件厚外套，湖上的风夏天也凉。",
    "bo": "མཚོ་འགྲམ་དུ་འགྲོ་བའི་རླངས་འཁོར་ཞོགས་པ་ཆུ་ཚོད་དགུ་པར་ཐོན། མཚོ་ཡི་རླུང་གྲང་མོ་ཡིན་པས་གོས་མཐུག་པོ་ཞིག་འཁྱེར་དགོས།",
}
"""An answer that is beside the point of any ordinary question."""


class CriticJudge:
    """Places an answer's reward among those of three anchors to the same question.

    The anchors are an answer beside the point, the first third of the reference, and the reference
    itself. The score is 2 · (anchors below + half of those level) / 3: a reward has no scale of its
    own, but its place among answers of known worth has one. The critic gives a single figure, so
    all five dimensions get the same.
    """

    name = "critic judges its own pupil"
    card = (
        "The critic that taught the policy also judges it here, so the policy may have learned its "
        "weaknesses. It gives one reward, which is placed among those of an answer beside the "
        "point, the beginning of the reference, and the reference; the five dimensions are that "
        "one figure five times."
    )

    sees = DIMENSIONS

    def __init__(self, scorer: Scorer, digest: str = "") -> None:
        """digest: of the critic's bytes."""
        self._scorer = scorer
        self._digest = digest

    @property
    def identity(self) -> Mapping[str, Any]:
        """The critic's bytes and the code that reads them."""
        return {"judge": "critic", "critic": self._digest, "code": code_version(("critic",))}

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        """Yield an opinion for each case; without a reference, or with a reward that is not a
        number, it is unscored."""
        ready = [n for n, case in enumerate(cases) if case.reference and case.answer.strip()]
        for n, case in enumerate(cases):
            if not case.answer.strip():
                yield n, Opinion(dict.fromkeys(DIMENSIONS, 0.0), "The answer is empty.")
            elif not case.reference:
                yield n, Opinion(unscored="the critic needs a reference to compare with")
        for start in range(0, len(ready), BATCH):
            places = ready[start : start + BATCH]
            chosen = [cases[n] for n in places]
            scores = self._scorer.score(
                [case.question for case in chosen],
                [(case.answer, *_anchors(case)) for case in chosen],
            )
            for n, rewards, critiques in zip(places, scores.rewards, scores.critiques, strict=True):
                yield n, _opinion(rewards, critiques[0])


def _anchors(case: Case) -> tuple[str, str, str]:
    off_topic = OFF_TOPIC.get(case.language, OFF_TOPIC["en"])
    return off_topic, _beginning(case.reference), case.reference


@lru_cache(maxsize=4096)  # of every strategy and repeat the same references
def _beginning(text: str) -> str:
    """The first third of a text, cut between units."""
    wanted = max(1, len(units(text)) // 3)
    end = bisect_right(range(1, len(text) + 1), wanted, key=lambda end: len(units(text[:end])))
    return text[: max(1, end)].rstrip()


def _opinion(rewards: Sequence[float], critique: str) -> Opinion:
    if any(math.isnan(reward) for reward in rewards):
        return Opinion(thoughts=critique, unscored="the critic could not score it")
    own, *anchors = rewards
    place = sum((own > anchor) + (own == anchor) / 2 for anchor in anchors)
    return Opinion(dict.fromkeys(DIMENSIONS, 2 * place / len(anchors)), critique)
