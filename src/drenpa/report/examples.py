"""Answers before and after, chosen by rule and not by taste, and made safe to show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from drenpa.core.errors import ArtefactError
from drenpa.core.knowledge import DIMENSIONS, Dimension, Kind
from drenpa.core.records import Verdict

EXAMPLES_FILE = "examples.json"


@dataclass(frozen=True)
class Answer:
    """One strategy's answer, with its scores from 0 to 2 and their mean in per cent; None when a
    dimension is unscored."""

    strategy: str
    text: str
    finish: str
    judge: str
    scores: Mapping[Dimension, float]
    percent: float | None
    thoughts: str
    unscored: str


@dataclass(frozen=True)
class Example:
    """One question with every strategy's answer, first to last.

    change: of the last strategy's answer against the first's, in points of per cent.
    rank, of: its place among all questions ordered by change, the largest gain first.
    """

    model: str
    item: str
    kind: Kind
    language: str
    question: str
    reference: str
    change: float
    rank: int
    of: int
    answers: tuple[Answer, ...]

    @property
    def reason(self) -> str:
        """Why it is shown.

        >>> Example("m", "i", "foundation", "en", "?", "", -3.0, 9, 9, ()).reason
        'the largest loss of 9 questions'
        """
        if self.rank == 1:
            what = "largest gain" if self.change > 0 else "smallest loss"
        elif self.rank == self.of:
            what = "largest loss" if self.change < 0 else "smallest gain"
        else:
            return f"place {self.rank} of {self.of} questions, by gain"
        return f"the {what} of {self.of} questions"


def choose_examples(verdicts: Sequence[Verdict], count: int) -> list[Example]:
    """Return `count` questions of each model, spread evenly from the largest gain to the largest
    loss.

    The gain is that of the last strategy's answer over the first's, in the lowest seed and first
    sample that both have scored in full. With one example it is the middle one.
    """
    found = []
    strategies = list(dict.fromkeys(verdict.strategy for verdict in verdicts))
    for model in dict.fromkeys(verdict.model for verdict in verdicts):
        answers: dict[tuple[str, int, int], dict[str, Verdict]] = {}
        for verdict in verdicts:
            if verdict.model == model:
                place = verdict.item, verdict.seed, verdict.sample
                answers.setdefault(place, {}).setdefault(verdict.strategy, verdict)
        mine = [name for name in strategies if any(name in row for row in answers.values())]
        found += _spread(model, mine, answers, count)
    return found


def examples_text(examples: Sequence[Example]) -> str:
    """Return the examples as JSON, the answers as they were given."""
    return json.dumps([asdict(example) for example in examples], indent=1, ensure_ascii=False)


def read_examples(folder: Path) -> list[Example]:
    """Read the examples of a finished report.

    raises: ArtefactError when the file is missing or damaged.
    """
    file = folder / EXAMPLES_FILE
    try:
        return [
            Example(**{**entry, "answers": tuple(Answer(**answer) for answer in entry["answers"])})
            for entry in json.loads(file.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{file}: cannot be read ({error}); report again") from error


def _spread(
    model: str,
    strategies: Sequence[str],
    answers: Mapping[tuple[str, int, int], Mapping[str, Verdict]],
    count: int,
) -> list[Example]:
    if len(strategies) < 2:
        return []
    first, last = strategies[0], strategies[-1]
    changes: dict[str, tuple[float, tuple[str, int, int]]] = {}
    for place in sorted(answers, key=lambda place: place[1:]):
        before, after = _percent_of(answers[place], first), _percent_of(answers[place], last)
        if before is not None and after is not None:
            changes.setdefault(place[0], (after - before, place))
    ordered = sorted(changes.values(), key=lambda change: (-change[0], change[1]))
    total = len(ordered)
    if count == 1:
        ranks = [total // 2] if total else []
    else:
        ranks = sorted(
            {round(i * (total - 1) / (count - 1)) for i in range(count)} if total else ()
        )
    return [
        _example(model, strategies, answers[place], change, rank + 1, total)
        for rank in ranks
        for change, place in [ordered[rank]]
    ]


def _example(
    model: str,
    strategies: Sequence[str],
    row: Mapping[str, Verdict],
    change: float,
    rank: int,
    total: int,
) -> Example:
    sample = row[strategies[0]]
    return Example(
        model=model,
        item=sample.item,
        kind=sample.kind,
        language=sample.language,
        question=sample.question,
        reference=sample.reference,
        change=round(change, 4),
        rank=rank,
        of=total,
        answers=tuple(
            Answer(
                strategy=name,
                text=row[name].model_answer,
                finish=row[name].finish,
                judge=row[name].judge,
                scores=row[name].scores,
                percent=_percent_of(row, name),
                thoughts=row[name].thoughts,
                unscored=row[name].unscored,
            )
            for name in strategies
            if name in row
        ),
    )


def _percent_of(row: Mapping[str, Verdict], strategy: str) -> float | None:
    if strategy not in row or any(name not in row[strategy].scores for name in DIMENSIONS):
        return None
    scores = row[strategy].scores
    return round(100.0 * sum(scores.values()) / (2 * len(scores)), 4)
