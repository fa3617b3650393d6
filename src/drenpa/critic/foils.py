"""Foils: spoiled answers that no one need rank, which training sets beside the ranked ones.

People rank answers that people or good models wrote. A policy in training writes other things too:
answers cut off in the middle, words in no order, the same sentence again and again, or what fits
another question. A scorer that has never seen these may like them, and a policy finds out. A foil
ties with the worst answer of its ranking, since only against the better ones is the verdict sure.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Literal, get_args

import torch

from drenpa.core.text import script_ratio, units
from drenpa.critic.examples import Example
from drenpa.critic.lots import folded

FoilKind = Literal["cut", "scrambled", "looping", "foreign"]
FOIL_KINDS: tuple[FoilKind, ...] = get_args(FoilKind)

CRITIQUES: dict[str, dict[FoilKind, str]] = {
    "en": {
        "cut": "The answer breaks off in the middle and leaves the question half answered.",
        "scrambled": "A heap of words without order or meaning; nothing is answered.",
        "looping": "It says the same thing again and again and leads nowhere.",
        "foreign": "This answers another question, not the one that was asked.",
    },
    "zh": {
        "cut": "回答中途断开，问题只答了一半。",
        "scrambled": "词语杂乱无序，没有意义，什么也没有回答。",
        "looping": "同样的话一再重复，没有任何进展。",
        "foreign": "这是在回答另一个问题，与所问无关。",
    },
    "bo": {
        "cut": "ལན་འདི་བར་དུ་ཆད་པས་དྲི་བའི་ལན་ཚང་མེད།",
        "scrambled": "ཚིག་རྣམས་གོ་རིམ་མེད་པར་འཆལ་བས་དོན་གང་ཡང་མེད།",
        "looping": "ཚིག་གཅིག་ཉིད་ཡང་ཡང་བཟློས་པ་ལས་དོན་གསར་པ་མེད།",
        "foreign": "འདི་ནི་དྲི་བ་གཞན་ཞིག་གི་ལན་ཡིན་པས་དྲིས་པ་དང་མི་འབྲེལ།",
    },
}
"""What a critique of each foil says, since all foils of a kind fail alike. Other languages: en."""


UNSPACED = ("zh", "bo")
"""Languages whose script puts no blanks between words."""


def with_foils(
    example: Example, others: Sequence[Example], count: int, generator: torch.Generator
) -> Example:
    """Return the example with `count` foils of its best answer behind its own answers.

    Where no kind of foil spoils an answer (one of a single letter, say), there are fewer.

    others: where foreign answers are taken from: those to other questions, in the example's
            language.
    """
    fair = {_bare(answer) for answer in _above_the_worst(example)}
    strangers = [
        other
        for other in others
        if other.language == example.language and folded(other.question) != folded(example.question)
    ]
    spoiled = example
    for _ in range(count):
        spoiled = _with_one(spoiled, example, strangers, fair, generator)
    return spoiled


def _with_one(
    spoiled: Example,
    example: Example,
    strangers: Sequence[Example],
    fair: Set[str],
    generator: torch.Generator,
) -> Example:
    """Add a foil of a kind drawn by lot, or of the next kind that gives none of the `fair` answers
    again; none where all do."""
    drawn = _below(len(FOIL_KINDS), generator)
    for kind in (*FOIL_KINDS[drawn:], *FOIL_KINDS[:drawn]):
        if kind == "foreign" and not strangers:
            continue
        text = foil(kind, example, strangers, generator)
        if not text or _bare(text) in fair:
            continue
        critiques = CRITIQUES.get(example.language, CRITIQUES["en"])
        return replace(
            spoiled,
            candidates=(*spoiled.candidates, f"foil-{kind}"),
            answers=(*spoiled.answers, text),
            ranks=(*spoiled.ranks, max(example.ranks)),
            critiques=(*spoiled.critiques, critiques[kind]),
        )
    return spoiled


def foil(
    kind: FoilKind, example: Example, strangers: Sequence[Example], generator: torch.Generator
) -> str:
    """Spoil the example's best answer in one way.

    cut:       its first third to two thirds, letter by letter.
    scrambled: words of all the example's answers in random order, as long as the longest of them.
    looping:   its first words again and again, likewise.
    foreign:   the best answer of one of `strangers`.
    """
    best = _best(example)
    if kind == "foreign":
        return _best(strangers[_below(len(strangers), generator)])
    if kind == "cut":
        share = (1 + float(torch.rand((), generator=generator))) / 3
        return best[: max(1, round(share * len(best)))].rstrip()
    spaced = len(best.split()) > 3 or not any(script_ratio(best, code) > 0.5 for code in UNSPACED)
    joint = " " if spaced else "་" if script_ratio(best, "bo") > 0.5 else ""
    answers = [_words(answer, spaced) for answer in example.answers]
    length = max(len(words) for words in answers)
    if kind == "looping":
        phrase = _words(best, spaced)[: 2 + _below(7, generator)]
        return joint.join((phrase * length)[:length])
    pool = [word for words in answers for word in words]
    order = torch.randperm(len(pool), generator=generator).tolist()
    return joint.join(pool[place] for place in order[:length])


def _best(example: Example) -> str:
    return example.answers[example.ranks.index(min(example.ranks))]


def _above_the_worst(example: Example) -> list[str]:
    """Return the answers that a foil stands below."""
    worst = max(example.ranks)
    ranked = zip(example.answers, example.ranks, strict=True)
    return [answer for answer, rank in ranked if rank < worst]


def _bare(text: str) -> str:
    """Return what of an answer is compared: its words, without case, blanks and signs."""
    return "".join(units(text)) or "".join(text.casefold().split())


def _words(text: str, spaced: bool) -> list[str]:
    """Return what stands between blanks, or the units of a script that writes none."""
    return (text.split() if spaced else units(text)) or [text]


def _below(bound: int, generator: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=generator))
