"""Human judgements for the critic: what each set holds, in what parts, and how ratings are ranked.

Sets, what a preference means in each, and what the critiques are:

- `dialogue` (UniEval, Topical-Chat): mean ratings "overall" by three people order six lines for one
  conversation, of which the last two turns are shown. Critique: a verdict from their ratings of
  engagement, coherence, naturalness and clarity, not of "overall", and the weakest of these.
- `substance`: the same lines and preferences. Critique: whether people found in the line the fact
  that its speaker had been given, which is not shown; a line that has none says little.
- `grounded`: the same lines beside the fact that their speaker was given, and the last turn alone;
  mean ratings of whether the line uses the fact. Critique: which of the fact's words stand in the
  line, by a rule and by no person, as one would have a note written out with its evidence. It gives
  no verdict. A fact of more than `LONGEST_FACT` words costs too much.
- `graded`: the same, and the critique begins with how many words these are: little, some or much.
- `acts` (UniEval, SFRES): the same of wordings of one dialogue act; informative and natural.
- `shepherd`: people rated a model's answer, and ticked what is wrong with it; beside it stands a
  right answer. The right one is preferred to one rated 3 or less of 5 for relevance: inferred,
  nobody compared the two. Critique: what they ticked; of the right answer, that it is right.
- `hhh`: people chose one of two answers. No critiques; tested on alone.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drenpa.critic.examples import pairs_of

LEAST_APART = 0.5
"""Mean ratings nearer than this are a tie: three raters do not tell them apart."""
LONGEST = 45
"""Words of a question or an answer of Shepherd and HHH; longer ones cost more than there is."""
LONGEST_FACT = 80
"""Words of a fact of `grounded`."""
EVIDENCE = 6
"""Words of the fact that a critique of `grounded` names, at most."""
FACT_SETS = ("grounded", "graded")
"""Sets of lines beside a fact, with ratings from 0 to 1 of whether they use it."""
TURNS = 2
FOLDS = 3
HHH = re.compile(
    r"###The instruction to evaluate:\n(.*?)\n\n"
    r"###Response to evaluate:\n(.*?)\n\n###Score Rubrics",
    re.S,
)


@dataclass(frozen=True)
class Ranked:
    """Answers to one question with ranks, 1 the best, and people's critiques where there are some.

    group:   what no split may cut.
    ratings: people's mean ratings, where ranks come from these.
    """

    source: str
    group: str
    question: str
    answers: tuple[str, ...]
    ranks: tuple[int, ...]
    critiques: tuple[str, ...]
    ratings: tuple[float, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """How many groups of a set go where; what is tested on is a third of the pool.

    train: of the rest of the pool, at most.
    """

    dev: int
    pool: int
    train: int


SIZES: Mapping[str, Sizes] = {
    "substance": Sizes(dev=12, pool=48, train=32),
    "dialogue": Sizes(dev=12, pool=48, train=32),
    "grounded": Sizes(dev=7, pool=39, train=26),
    "graded": Sizes(dev=7, pool=39, train=26),
    "acts": Sizes(dev=74, pool=360, train=160),
    "shepherd": Sizes(dev=0, pool=108, train=40),
    "hhh": Sizes(dev=0, pool=60, train=0),
}


def shepherd(data: Path) -> Iterator[Ranked]:
    """Yield a right answer above each answer that people rated low, with what they ticked."""
    for row in json_lines(data / "critique" / "Shepherd" / "human_data_raw.jsonl"):
        told, said = row["metadata"], row["latestLabel"]["jsonResponse"]
        label = said.get("CLASSIFICATION_JOB_1")
        good, candidate = told["output_correct"].strip(), told["output_candidate"].strip()
        if not label or not good or not candidate or good == candidate:
            continue
        if int(label["categories"][0]["name"][0]) <= 3:
            ticked = said.get("CLASSIFICATION_JOB_0", {}).get("categories", [])
            wrong = ", ".join(one["categoryName"].lower() for one in ticked) or "something"
            texts = told["context"].strip(), good, candidate
            if max(len(text.split()) for text in texts) <= LONGEST:
                critiques = ("Right.", f"Wrong: {wrong}.")
                yield ranked("shepherd", texts[0], (good, candidate), (1, 2), critiques)


def hhh(data: Path) -> Iterator[Ranked]:
    """Yield the answer that people chose above the one that they did not."""
    for row in read_json(data / "preference" / "prometheus" / "hhh_alignment_eval.json"):
        chosen, rejected = (
            HHH.search(row[f"{name}_instruction"]) for name in ("chosen", "rejected")
        )
        if chosen and rejected and chosen[1] == rejected[1]:
            texts = chosen[1].strip(), chosen[2].strip(), rejected[2].strip()
            if (
                all(texts)
                and texts[1] != texts[2]
                and max(len(t.split()) for t in texts) <= LONGEST
            ):
                yield ranked("hhh", texts[0], texts[1:], (1, 2), ("", ""))


@dataclass(frozen=True)
class Scale:
    """How the ratings of a set are put into words.

    qualities: the ends of each scale, and what is said of an answer where it is the weakest.
    bounds:    a third of the set's answers has a mean rating, from 0 to 1, below each of the two.
    """

    qualities: Mapping[str, tuple[int, int, str]]
    bounds: tuple[float, float]


LINES = Scale(
    {
        "engagingness": (1, 3, "dull"),
        "coherence": (1, 3, "incoherent"),
        "naturalness": (1, 3, "unnatural"),
        "understandability": (0, 1, "unclear"),
    },
    (0.46, 0.87),
)
GROUNDED = Scale({"groundedness": (0, 1, "ungrounded")}, (0.5, 0.5))
WORDINGS = Scale(
    {"naturalness": (1, 6, "unnatural"), "informativeness": (1, 6, "incomplete")}, (0.75, 0.9)
)


def in_words(scores: Mapping[str, float], scale: Scale) -> str:
    """Put people's mean ratings into a verdict and its reason; "overall" is no part of it.

    >>> in_words({"engagingness": 1.0, "coherence": 2.0, "overall": 5.0}, LINES)
    'Poor: dull.'
    >>> in_words({"engagingness": 3.0, "coherence": 3.0}, LINES)
    'Good.'
    """
    places = {
        name: (scores[name] - low) / (high - low)
        for name, (low, high, _) in scale.qualities.items()
        if name in scores
    }
    mean = sum(places.values()) / len(places)
    if mean >= scale.bounds[1]:
        return "Good."
    weakest = min(places, key=lambda name: places[name])
    verdict = "Poor" if mean < scale.bounds[0] else "Middling"
    return f"{verdict}: {scale.qualities[weakest][2]}."


def dialogue(data: Path) -> Iterator[Ranked]:
    """Yield six systems' next lines of a conversation, in the order of their mean rating."""
    file = data / "preference" / "UniEval" / "topical_chat.json"
    for row in rated(file, "dialogue", LINES):
        turns = [line.strip() for line in row.question.splitlines() if line.strip()][-TURNS:]
        yield replace(row, question="Give the next line.\n" + "\n".join(f"- {t}" for t in turns))


def substance(data: Path) -> Iterator[Ranked]:
    """Yield the lines of `dialogue`, criticised by whether they hold a fact and nothing else."""
    file = data / "preference" / "UniEval" / "topical_chat.json"
    for row, shown in zip(rated(file, "substance", GROUNDED), dialogue(data), strict=True):
        said = ["something" if text == "Good." else "nothing" for text in row.critiques]
        yield replace(shown, source="substance", critiques=tuple(f"Says {what}." for what in said))


def grounded(data: Path) -> Iterator[Ranked]:
    """Yield six systems' lines in the order of their mean rating of groundedness, with evidence."""
    return beside_facts(data, "grounded", evidence)


def graded(data: Path) -> Iterator[Ranked]:
    """Yield the rankings of `grounded`; each critique begins with the amount of its evidence."""
    return beside_facts(data, "graded", amount)


def beside_facts(data: Path, name: str, say: Callable[[str, str], str]) -> Iterator[Ranked]:
    """Yield lines beside the fact that they may use; `say` makes a critique of fact and line."""
    outputs: dict[tuple[str, str], dict[str, float]] = {}
    for row in read_json(data / "preference" / "UniEval" / "topical_chat.json"):
        fact, turns = row["context"].strip(), row["source"].strip().splitlines()
        if text := row["system_output"].strip():
            shown = f"Give the next line, from this fact: {fact}\n- {turns[-1].strip()}"
            outputs.setdefault((fact, shown), {})[text] = row["scores"]["groundedness"]
    for (fact, shown), found in outputs.items():
        ratings, short = tuple(found.values()), len(fact.split()) <= LONGEST_FACT
        if short and fact != "_nofact" and max(ratings) - min(ratings) >= LEAST_APART:
            said = tuple(say(fact, text) for text in found)
            row = ranked(name, shown, tuple(found), ranks_of(ratings), said)
            yield replace(row, ratings=ratings)


def evidence(fact: str, line: str) -> str:
    """Name the words of a fact that stand in a line.

    >>> evidence("Murray calls it the supreme achievement.", "it is an achievement, said murray!")
    'From the fact: achievement, murray.'
    >>> evidence("Murray calls it the supreme achievement.", "i agree. it is good")
    'From the fact: nothing.'
    """
    return f"From the fact: {', '.join(shared_words(fact, line)[:EVIDENCE]) or 'nothing'}."


def amount(fact: str, line: str) -> str:
    """Say how many words of a fact stand in a line, each in about a third of the lines, and which.

    >>> amount("Murray calls it the supreme achievement.", "it is an achievement, said murray!")
    'Some: achievement, murray.'
    >>> amount("Murray calls it the supreme achievement.", "i agree. it is good")
    'Little.'
    """
    words = shared_words(fact, line)
    level = "Little" if len(words) <= 1 else "Some" if len(words) <= 4 else "Much"
    return f"{level}: {', '.join(words[:EVIDENCE])}." if words else f"{level}."


def shared_words(fact: str, line: str) -> list[str]:
    """Return the words of four letters or more that a line has from a fact, in its order."""
    known = set(re.findall(r"\w{4,}", fact.casefold()))
    return [*dict.fromkeys(w for w in re.findall(r"\w{4,}", line.casefold()) if w in known)]


def acts(data: Path) -> Iterator[Ranked]:
    """Yield several systems' wordings of one dialogue act, in the order of their mean rating."""
    for row in rated(data / "preference" / "UniEval" / "sfres.json", "acts", WORDINGS):
        yield replace(row, question=f"Say in one sentence: {row.question}")


def rated(file: Path, name: str, scale: Scale) -> Iterator[Ranked]:
    """Put outputs for one source together and rank them; distinct outputs only."""
    outputs: dict[str, dict[str, Mapping[str, float]]] = {}
    for row in read_json(file):
        text = row["system_output"].strip()
        if text:
            outputs.setdefault(row["source"].strip(), {})[text] = row["scores"]
    for source, found in outputs.items():
        ratings = tuple(scores["overall"] for scores in found.values())
        ranks = ranks_of(ratings)
        if len(set(ranks)) > 1:
            said = tuple(in_words(scores, scale) for scores in found.values())
            yield replace(ranked(name, source, tuple(found), ranks, said), ratings=ratings)


def ranks_of(scores: Sequence[float]) -> tuple[int, ...]:
    """Rank scores, the highest first; one that is nearer than `LEAST_APART` to the first of a rank
    shares it.

    >>> ranks_of([1.0, 4.0, 3.7, 3.2])
    (3, 1, 1, 2)
    """
    ranks = [0] * len(scores)
    rank, first = 0, float("inf")
    for place in sorted(range(len(scores)), key=lambda place: -scores[place]):
        if first - scores[place] >= LEAST_APART:
            rank, first = rank + 1, scores[place]
        ranks[place] = rank
    return tuple(ranks)


SETS = {
    "dialogue": dialogue,
    "substance": substance,
    "grounded": grounded,
    "graded": graded,
    "acts": acts,
    "shepherd": shepherd,
    "hhh": hhh,
}


def ranked(
    source: str,
    question: str,
    answers: tuple[str, ...],
    ranks: tuple[int, ...],
    critiques: tuple[str, ...],
) -> Ranked:
    """Make a ranking whose group is its question, whatever its case and spaces."""
    group = " ".join(question.casefold().split())
    return Ranked(source, group, question, answers, ranks, critiques)


@dataclass(frozen=True)
class Parts:
    """One set as one seed sees it; no group stands in two parts."""

    train: tuple[Ranked, ...]
    dev: tuple[Ranked, ...]
    test: tuple[Ranked, ...]


def parted(rows: Sequence[Ranked], sizes: Sizes, seed: int) -> Parts:
    """Part rankings by group: the same validation groups for all seeds, and a third of the pool to
    test on, another one for each of three seeds."""
    groups = sorted({row.group for row in rows})
    random.Random(0).shuffle(groups)
    dev, pool = groups[: sizes.dev], groups[sizes.dev : sizes.dev + sizes.pool]
    test = pool[seed % FOLDS :: FOLDS]
    rest = [group for group in pool if group not in set(test)]
    random.Random(seed).shuffle(rest)
    return Parts(
        *(
            tuple(row for row in rows if row.group in set(names))
            for names in (rest[: sizes.train], dev, test)
        )
    )


def noted(parts: Parts) -> Parts:
    """Return the parts of `grounded` or `graded` with a note in place of each critique: whether
    people found that the line uses the fact, as it is before anybody writes it out with evidence.
    """
    return Parts(
        *(tuple(note(row) for row in rows) for rows in (parts.train, parts.dev, parts.test))
    )


def note(row: Ranked) -> Ranked:
    """Put notes in place of a ranking's critiques."""
    if row.source not in FACT_SETS:
        raise SystemExit(f"notes are made of the ratings of {FACT_SETS}; {row.source} has others")
    said = ("Uses the fact." if r >= 0.5 else "Leaves the fact out." for r in row.ratings)
    return replace(row, critiques=tuple(said))


def clear_pairs(row: Ranked) -> list[tuple[int, int]]:
    """Return the places (better, worse) of the pairs to test on: of two neighbouring ranks, ratings
    may be nearer to each other than raters can tell, and such a pair proves nothing."""
    return [
        (better, worse)
        for better, worse in pairs_of(row.ranks)
        if not row.ratings or row.ratings[better] - row.ratings[worse] >= LEAST_APART
    ]


def json_lines(file: Path) -> Iterator[Any]:
    """Yield the rows of a file of JSON Lines."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield json.loads(line)


def read_json(file: Path) -> Any:
    """Read a file of JSON."""
    return json.loads(file.read_text(encoding="utf-8"))
