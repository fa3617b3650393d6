"""Rules: what can be said of an answer's score without reading it.

They give bounds and nothing more. That an answer is empty, goes in circles or is in the wrong
language says how good it can be at most; that it is none of these says nothing. So a rule scores a
dimension only where its bounds meet, and elsewhere narrows what an unscored answer may be worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.text import (
    LANGUAGE_SCRIPTS,
    copy_ratio,
    loop_ratio,
    script_agreement,
    speaks,
    units,
)
from drenpa.judge.judges import Case, Opinion

LOOPS = 0.5  # share of an answer that goes in circles, from which it counts as looping
COPIES = 0.9  # share of an answer that repeats the question, from which it is a copy
FOREIGN = 0.3  # share in the question's language, below which it is in the wrong one

NOTHING: Mapping[Dimension, float] = dict.fromkeys(
    ("relevance", "quality", "satisfaction", "richness"), 0.0
)


@dataclass(frozen=True)
class Rule:
    """What was found, and the most that each dimension can then be worth."""

    finding: str
    at_most: Mapping[Dimension, float]


def broken_rules(case: Case) -> list[Rule]:
    """Return every rule that an answer breaks; an empty one breaks that rule alone."""
    if not units(case.answer):
        return [Rule("it is empty", NOTHING)]
    found = []
    if language_share(case) < FOREIGN:
        found.append(
            Rule(
                "it is not in the question's language",
                {"quality": 0.0, "satisfaction": 0.0, "richness": 1.0},
            )
        )
    if loop_ratio(case.answer) > LOOPS:
        found.append(
            Rule("it goes in circles", {"quality": 1.0, "satisfaction": 1.0, "richness": 0.0})
        )
    if copy_ratio(case.answer, case.question) > COPIES:
        found.append(
            Rule(
                "it repeats the question",
                {"relevance": 0.0, "satisfaction": 0.0, "richness": 0.0},
            )
        )
    if case.finish == "length":
        found.append(Rule("it is cut off", {"quality": 1.0, "satisfaction": 1.0}))
    return found


def bounds(case: Case) -> dict[Dimension, tuple[float, float]]:
    """Return the least and the most that each dimension can be worth."""
    rules = broken_rules(case)
    return {
        dimension: (0.0, min([2.0, *(rule.at_most.get(dimension, 2.0) for rule in rules)]))
        for dimension in DIMENSIONS
    }


def language_share(case: Case) -> float:
    """Return how plausible it is that the answer is in the question's language, from 0 to 1."""
    if case.language in LANGUAGE_SCRIPTS:
        return speaks(case.answer, case.language)
    return script_agreement(case.answer, case.question)


class RulesJudge:
    """Scores what the rules leave no doubt about; all else is unscored."""

    name = "rules: bounds only"
    card = (
        "The rules look for answers that are empty, in another language, going in circles, copied "
        "from the question, or cut off. They score a dimension 0 where such a fault leaves nothing "
        "of it and say nothing otherwise, so most answers are unscored: read the bounds, not the "
        "cells."
    )
    sees: tuple[Dimension, ...] = ()

    @property
    def identity(self) -> Mapping[str, Any]:
        """The rules alone; their limits are code."""
        return {"judge": "rules"}

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        """Yield an opinion on each case."""
        for place, case in enumerate(cases):
            told = "; ".join(rule.finding for rule in broken_rules(case))
            open_bounds = {name: ends for name, ends in bounds(case).items() if ends[1] > 0}
            reason = ", ".join(
                f"{name} at most {most:g}" for name, (_, most) in open_bounds.items()
            )
            yield (
                place,
                Opinion(
                    {name: 0.0 for name in DIMENSIONS if name not in open_bounds},
                    told,
                    f"rules give bounds only: {reason}" if open_bounds else "",
                ),
            )
