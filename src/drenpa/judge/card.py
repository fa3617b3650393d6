"""The judge card: what a judge notices, how it orders answers of known worth, whether it drifts.

Every verdict here is asked for anew and none is taken from a store: a judge behind an endpoint may
have been exchanged since, and that is what a canary is for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from drenpa.core.artefacts import write_text
from drenpa.core.errors import DataError
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.progress import track
from drenpa.core.records import Ranking, Record
from drenpa.judge.checklist import CHECKS, passed_checks, spoiled
from drenpa.judge.judges import Case, Judge, Opinion

FORMAT = 1
DRIFTED = 0.1  # mean change of a score, of 2, above which a judge counts as another
CARD_JSON, CARD_MARKDOWN = "judge-card.json", "judge-card.md"


@dataclass(frozen=True)
class Ranked:
    """A question with answers whose order is known, the best first; `ranks` may tie."""

    cases: tuple[Case, ...]
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Ordered:
    """How often the better of two answers got the higher score; a tie counts half."""

    dimension: str
    share: float | None
    pairs: int


def ranked_cases(
    rankings: Iterable[Ranking], records: Iterable[Record], limit: int
) -> list[Ranked]:
    """Return questions with ranked answers, languages in turn, `limit` in all.

    An answer that is the reference itself is left out, since a judge that sees the reference would
    know it.
    """
    by_id = {record.id: record for record in records}
    by_language: dict[str, list[Ranked]] = {}
    for ranking in sorted(rankings, key=lambda one: one.id):
        record = by_id.get(ranking.record)
        if record is None:
            continue
        reference = record.answer or ""
        kept = sorted(
            (one for one in ranking.candidates if one.answer != reference),
            key=lambda one: one.rank,
        )
        if len(kept) > 1:
            cases = [Case(record.question, c.answer, reference, record.language) for c in kept]
            ranked = Ranked(tuple(cases), tuple(c.rank for c in kept))
            by_language.setdefault(record.language, []).append(ranked)
    turns = [
        (place / len(group), language, ranked)
        for language, group in by_language.items()
        for place, ranked in enumerate(group)
    ]
    return [ranked for *_, ranked in sorted(turns, key=lambda turn: turn[:2])[:limit]]


def examine(judge: Judge, ranked: Sequence[Ranked], language: str) -> dict[str, Any]:
    """Judge the answers, their spoiled copies and the canaries; return the card.

    language: of the run; told on the card.
    raises:   DataError without ranked answers.
    """
    if not ranked:
        raise DataError(
            "the corpus has no ranked answers to examine a judge with; give corpus.rankings a file"
        )
    best = [one.cases[0] for one in ranked]
    spoils = spoiled(best)
    every = [case for one in ranked for case in one.cases]
    opinions = _judged(judge, [*every, *(case for *_, case in spoils), *CANARIES])
    own = iter(opinions[: len(every)])
    of_ranked = [[next(own) for _ in one.cases] for one in ranked]
    after = [
        (name, place, opinion)
        for (name, place, _), opinion in zip(spoils, opinions[len(every) :], strict=False)
    ]
    canaries = opinions[len(opinions) - len(CANARIES) :]
    return {
        "format": FORMAT,
        "judge": judge.name,
        "says": judge.card,
        "identity": dict(judge.identity),
        "language": language,
        "questions": len(ranked),
        "languages": {
            code: sum(case.language == code for case in best)
            for code in dict.fromkeys(case.language for case in best)
        },
        "unscored": sum(not set(judge.sees) <= set(opinion.scores) for opinion in opinions),
        "verdicts": len(opinions),
        "checks": [asdict(one) for one in passed_checks([row[0] for row in of_ranked], after)],
        "order": [asdict(one) for one in _ordered(ranked, of_ranked)],
        "canaries": [dict(opinion.scores) for opinion in canaries],
    }


def drift(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the canaries of two cards of one judge.

    returns: the mean absolute change of a score, how many of the canaries changed at all, and
             whether the judge counts as another one.
    raises:  DataError when the older card has other canaries.
    """
    old, new = older.get("canaries"), newer["canaries"]
    if older.get("format") != FORMAT or not isinstance(old, list) or len(old) != len(new):
        raise DataError("the older card is not of this format; make a new one to compare with")
    changes = [
        abs(one[name] - other[name])
        for one, other in zip(old, new, strict=True)
        for name in DIMENSIONS
        if name in one and name in other
    ]
    lost = sum(
        (name in one) != (name in other)
        for one, other in zip(old, new, strict=True)
        for name in DIMENSIONS
    )
    mean = sum(changes) / len(changes) if changes else 0.0
    return {
        "older_judge": older.get("judge"),
        "same_identity": older.get("identity") == newer["identity"],
        "mean_change": round(mean, 4),
        "changed_canaries": sum(one != other for one, other in zip(old, new, strict=True)),
        "canaries": len(new),
        "scores_on_one_side_only": lost,
        "drifted": mean > DRIFTED or (lost > 0 and not changes),
    }


def write_card(card: Mapping[str, Any], folder: Path) -> Path:
    """Write the card as JSON and as a page of Markdown; return the page."""
    write_text(folder / CARD_JSON, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / CARD_MARKDOWN, card_page(card))
    return folder / CARD_MARKDOWN


def read_card(place: Path) -> dict[str, Any]:
    """Read a card's JSON, named by its file or its folder.

    raises: DataError when it is none.
    """
    file = place / CARD_JSON if place.is_dir() else place
    try:
        card: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as a judge card ({error})") from error
    if not isinstance(card, dict) or "canaries" not in card:
        raise DataError(f"{file}: is no judge card")
    return card


def card_page(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    languages = ", ".join(f"{count} {code}" for code, count in card["languages"].items())
    lines = [
        "# Judge card",
        "",
        card["says"],
        "",
        f"Examined on the ranked answers to {card['questions']} questions ({languages}); "
        f"{card['unscored']} of {card['verdicts']} verdicts had something unscored.",
        "",
        "## What it notices",
        "",
        "The best-ranked answer was spoiled in one way. In a cell marked ↓ the score must fall, in "
        "the others it must not rise; the figures are how often it did as it must, of the cases "
        "in which it could.",
        "",
        f"| spoiled by | {' | '.join(DIMENSIONS)} |",
        f"| --- |{' ---: |' * len(DIMENSIONS)}",
    ]
    cells = {(one["check"], one["dimension"]): one for one in card["checks"]}
    for check in CHECKS:
        row = [_cell(cells.get((check.name, dimension))) for dimension in DIMENSIONS]
        lines.append(f"| {check.name} | {' | '.join(row)} |")
    lines += [
        "",
        "## How it orders answers of known worth",
        "",
        "How often the better-ranked of two answers to one question scored higher; ties count "
        "half, so 0.50 is what a coin does.",
        "",
        "| | share | pairs |",
        "| --- | ---: | ---: |",
    ]
    for one in card["order"]:
        share = "–" if one["share"] is None else f"{one['share']:.2f}"
        lines.append(f"| {one['dimension']} | {share} | {one['pairs']} |")
    if "drift" in card:
        told = card["drift"]
        word = "has drifted" if told["drifted"] else "has not drifted"
        lines += [
            "",
            "## Drift",
            "",
            f"Since the older card the judge {word}: {told['changed_canaries']} of "
            f"{told['canaries']} canaries changed, the mean change of a score is "
            f"{told['mean_change']:.2f} of 2"
            + ("." if told["same_identity"] else "; its settings are not the same as then."),
        ]
    return "\n".join(lines) + "\n"


def _cell(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    mark = "↓ " if one["must_fall"] else ""
    return f"{mark}{one['passed']}/{one['cases']}" if one["cases"] else f"{mark}–"


def _judged(judge: Judge, cases: Sequence[Case]) -> list[Opinion]:
    silent = Opinion(unscored="the judge returned no opinion")
    found = [silent] * len(cases)
    with track(f"card of {judge.name}", len(cases)) as progress:
        for place, opinion in judge.judge(cases):
            found[place] = opinion
            progress.advance()
    return found


def _ordered(ranked: Sequence[Ranked], opinions: Sequence[Sequence[Opinion]]) -> list[Ordered]:
    found = []
    for dimension in (*DIMENSIONS, "mean"):
        points, pairs = 0.0, 0
        for one, said in zip(ranked, opinions, strict=True):
            for left, right in combinations(range(len(said)), 2):
                better, worse = _score(said[left], dimension), _score(said[right], dimension)
                if one.ranks[left] == one.ranks[right] or better is None or worse is None:
                    continue
                points += (better > worse) + (better == worse) / 2
                pairs += 1
        found.append(Ordered(dimension, round(points / pairs, 4) if pairs else None, pairs))
    return found


def _score(opinion: Opinion, dimension: str) -> float | None:
    scores: Mapping[Any, float] = opinion.scores
    if dimension == "mean":
        return sum(scores.values()) / len(scores) if len(scores) == len(DIMENSIONS) else None
    return scores.get(dimension)


CANARIES: tuple[Case, ...] = tuple(
    Case(question, answer, language=language)
    for language, question, answers in (
        (
            "en",
            "Why does bread dough rise?",
            (
                "Yeast eats the sugar in the dough and gives off carbon dioxide. The gluten of the "
                "flour is elastic and keeps the gas in bubbles, so the dough swells; in a warm "
                "room this takes an hour or two, in the cold a night.",
                "Because of the yeast.",
                "The train to the coast leaves at noon, and a return ticket is cheaper.",
                "Put it in the sun for three days without a cover; it cannot go bad.",
            ),
        ),
        (
            "zh",
            "面团为什么会发起来？",
            (
                "酵母吃掉面团里的糖，放出二氧化碳。面筋有弹性，把气体包成小泡，面团就膨胀起来；"
                "在温暖的地方要一两个小时，在冷处要一夜。",
                "因为有酵母。",
                "去海边的火车中午开，买往返票便宜一些。",
            ),
        ),
        (
            "bo",
            "བག་ལེབ་ཀྱི་བག་ཟན་རྒྱས་པའི་རྒྱུ་མཚན་ཅི་ཡིན།",
            (
                "རྩབས་ཀྱིས་བག་ཟན་ནང་གི་མངར་ཆ་ཟོས་ནས་རླངས་པ་འབྱིན། རླངས་པ་དེ་བག་ཟན་ནང་འཁྱིལ་བས་རྒྱས། "
                "དྲོ་སར་ཆུ་ཚོད་གཅིག་གཉིས་དགོས། གྲང་སར་མཚན་གང་དགོས།",
                "རྩབས་ཡོད་པས་རེད།",
                "མཚོ་འགྲམ་གྱི་མེ་འཁོར་ཉིན་གུང་ལ་ཐོན།",
            ),
        ),
    )
    for answer in answers
)
"""Ten answers that never change, so that a change of their scores is the judge's own."""
