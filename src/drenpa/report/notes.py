"""What a reader should know before quoting a number: computed from the results, not written by
hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from drenpa.core.artefacts import counted
from drenpa.core.knowledge import DIMENSIONS, KINDS, Kind
from drenpa.core.records import Verdict
from drenpa.report.curves import Accuracy
from drenpa.report.formats import limits, percent, points
from drenpa.report.gap import Meter
from drenpa.report.table import Comparison, ResultTable


@dataclass(frozen=True)
class RunFacts:
    """What was asked of whom, counted from the verdicts.

    questions: distinct questions of each kind that has any.
    sources:   distinct sources (clusters) of questions.
    """

    models: tuple[str, ...]
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    judges: tuple[str, ...]
    languages: tuple[str, ...]
    questions: Mapping[Kind, int]
    sources: int
    samples: int
    answers: int


def run_facts(verdicts: Sequence[Verdict]) -> RunFacts:
    """Count what the verdicts cover."""
    items = {(verdict.kind, verdict.item) for verdict in verdicts}
    return RunFacts(
        models=tuple(dict.fromkeys(verdict.model for verdict in verdicts)),
        strategies=tuple(dict.fromkeys(verdict.strategy for verdict in verdicts)),
        seeds=tuple(sorted({verdict.seed for verdict in verdicts})),
        judges=tuple(sorted({verdict.judge for verdict in verdicts})),
        languages=tuple(counted(verdict.language for verdict in verdicts)),
        questions={
            kind: count for kind in KINDS if (count := sum(owner == kind for owner, _ in items))
        },
        sources=len({verdict.cluster for verdict in verdicts}),
        samples=len({verdict.sample for verdict in verdicts}),
        answers=len(verdicts),
    )


def headline(table: ResultTable, model: str) -> str:
    """Say in a few sentences what came of the whole run for one model."""
    strategies = table.strategies_of(model)
    first, last = strategies[0], strategies[-1]
    end = table.cell(model, last, "all", "mean")
    if end is None or end.percent is None:
        return f"No answer of {last} was scored in every dimension."
    start = table.cell(model, first, "all", "mean")
    found = table.comparison(model, last, first)
    if found is None or found.points is None or start is None or start.percent is None:
        return f"{last} reaches {percent(end.percent)} per cent of the highest possible score."
    sentence = (
        f"From {first} to {last} the score goes from {percent(start.percent)} to "
        f"{percent(end.percent)} per cent: {points(found.points)} points"
    )
    ends = limits(found.low, found.high, signed=True)
    sentence += f" (95\u00a0% interval {ends})" if ends else ""
    if not found.told_apart:
        sentence += ", which these questions do not tell apart from no change"
    return " ".join(filter(None, [f"{sentence}.", _steps(table, model), _best(table, model)]))


def comparison_notes(table: ResultTable, model: str) -> list[str]:
    """Say of each strategy whether it beats the one before it, over all questions."""
    strategies = table.strategies_of(model)
    notes = []
    for before, strategy in pairwise(strategies):
        found = table.comparison(model, strategy, before)
        if found is None or found.points is None:
            notes.append(f"{strategy} and {before} share no scored question.")
        elif not found.told_apart:
            notes.append(
                f"{strategy} is not told apart from {before}: {points(found.points)} points"
                f"{_in_brackets(found)}."
            )
        else:
            word = "better" if found.beats else "worse"
            notes.append(
                f"{strategy} is {word} than {before}: {points(found.points)} points"
                f"{_in_brackets(found)}."
            )
    return notes


def caution_notes(
    table: ResultTable, facts: RunFacts, verdicts: Sequence[Verdict], cards: Mapping[str, str]
) -> list[str]:
    """Say what is missing, cut off, too few or too close.

    cards: what each judge says of itself, by its name.
    """
    return [
        *(_judge_note(judge, cards.get(judge, "")) for judge in facts.judges),
        _unscored_note(verdicts),
        *_cut_notes(verdicts),
        *_smallest_notes(table),
        _seed_note(facts),
        f"The questions come from {facts.sources} sources, and the intervals draw whole sources "
        "again, since questions of one source are alike.",
    ]


def critic_notes(accuracies: Sequence[Accuracy], meters: Sequence[Meter]) -> list[str]:
    """Say what the critic's accuracies mean: its gap and its use.

    meters: the whole's first. Gap and use are of the pairs that both sides have scored, so they are
            no difference of two of the accuracies.
    """
    found = {row.critiques: row for row in accuracies}
    notes = []
    for meter in meters[:1]:
        if meter.gap.points is not None:
            notes.append(f"Gap (gold − own): {points(meter.gap.points)} points; small is good.")
        if meter.use.points is not None:
            notes.append(
                f"Use (own − shuffled): {points(meter.use.points)} points; near 0 the score "
                "ignores the critique."
            )
    if "own" in found and (found["own"].low or 0.0) <= 0.5:
        notes.append("With its own critiques it is not told apart from tossing a coin.")
    return notes


def _in_brackets(found: Comparison) -> str:
    ends = limits(found.low, found.high, signed=True)
    return f" ({ends})" if ends else ""


def _steps(table: ResultTable, model: str) -> str:
    """Say which strategies beat the one before them and which do not, where there are several."""
    strategies = table.strategies_of(model)
    found = [table.comparison(model, s, before) for before, s in pairwise(strategies)]
    better = [c.strategy for c in found if c is not None and c.beats]
    others = [strategy for strategy in strategies[1:] if strategy not in better]
    if len(strategies) < 3:
        return ""
    if not better:
        return "No strategy beats the one before it."
    if not others:
        return "Every strategy beats the one before it."
    verb, does = (
        ("beats" if len(better) == 1 else "each beat"),
        "does" if len(others) == 1 else "do",
    )
    return f"{_listed(better)} {verb} the one before; {_listed(others)} {does} not."


def _best(table: ResultTable, model: str) -> str:
    """Name the best strategy where the last one is not it."""
    mark = table.mark(model, "all", "mean")
    if not mark.best or mark.best == table.strategies_of(model)[-1]:
        return ""
    close = ", though its interval overlaps the next" if mark.overlap else ""
    return f"The highest mean is that of {mark.best}{close}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _judge_note(judge: str, card: str) -> str:
    """The judge's own card, with its name where the card does not begin with it."""
    if not card:
        return f"The judge, {judge}, says nothing of itself."
    return f"The judge: {card}" if card.startswith(judge) else f"The judge, {judge}: {card}"


def _unscored_note(verdicts: Sequence[Verdict]) -> str:
    missing = [v for v in verdicts if any(name not in v.scores for name in DIMENSIONS)]
    if not missing:
        return f"All {len(verdicts)} answers were scored in all five dimensions."
    reasons = list(counted(verdict.unscored for verdict in missing).items())
    told = "; ".join(f"{_clipped(reason)} ({count})" for reason, count in reasons[:3])
    more = f"; and {len(reasons) - 3} other reasons" if len(reasons) > 3 else ""
    return (
        f"{len(missing)} of {len(verdicts)} answers lack a score in some dimension and are left "
        f"out there, not counted as 0: {told}{more}."
    )


def _cut_notes(verdicts: Sequence[Verdict]) -> list[str]:
    shares = []
    for strategy in dict.fromkeys(verdict.strategy for verdict in verdicts):
        mine = [verdict for verdict in verdicts if verdict.strategy == strategy]
        cut = sum(verdict.finish == "length" for verdict in mine)
        if cut:
            shares.append(f"{strategy} {100 * cut / len(mine):.0f}\u00a0%")
    if not shares:
        return []
    return [f"Answers cut off by the length limit: {', '.join(shares)}."]


def _smallest_notes(table: ResultTable) -> list[str]:
    """The detectable difference of one kind and of all, at the spread measured here."""

    def typical(whole: bool) -> tuple[int, float] | None:
        found = [
            (c.questions, c.smallest)
            for c in table.comparisons
            if c.dimension == "mean" and (c.kind == "all") == whole and c.smallest is not None
        ]
        if not found:
            return None
        return round(median(n for n, _ in found)), median(size for _, size in found)

    one, every = typical(False), typical(True)
    if one is None or every is None:
        return []
    return [
        f"With {one[0]} questions of a kind, as spread as these, a true difference of "
        f"{percent(one[1])} points between two strategies is found four times in five; over all "
        f"{every[0]} questions, one of {percent(every[1])}. Smaller ones are likely to be missed."
    ]


def _seed_note(facts: RunFacts) -> str:
    if len(facts.seeds) == 1:
        return (
            f"One seed ({facts.seeds[0]}): how much a second training run would differ is not in "
            "the intervals."
        )
    listed = ", ".join(map(str, facts.seeds))
    return f"{len(facts.seeds)} seeds ({listed}), drawn again in the intervals, few as they are."


def _clipped(text: str, limit: int = 90) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
