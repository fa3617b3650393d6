"""The one function by which every harness scores, and the one from scores to cells.

A harness brings answers; a judge of drenpa's gives marks; a cell is the mean over the items of the
mean of their samples, in per cent: the figure of drenpa's own report, P12 when every item has as
many scored samples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from drenpa.adapters.bench_folder import Bench
from drenpa.core.errors import DataError
from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.progress import track
from drenpa.core.records import Verdict
from drenpa.core.roles import Finish
from drenpa.core.statistics import cell_percent
from drenpa.core.store import Store
from drenpa.core.text import brief
from drenpa.judge.answers import Answer
from drenpa.judge.bench import STORE
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.ladder import Setting, load_judge, members_of
from drenpa.judge.panel import combine, panel_name

MEAN = "mean"
Scores = Mapping[Dimension, Sequence[float | None]]
"""One item's scores: a dimension, then one a sample, None where unscored."""


@dataclass(frozen=True)
class Mark:
    """What a harness's log keeps of one answer: the answer, who judged it, and what was said.

    It is plain JSON, and with the bench folder beside it a whole verdict.
    """

    item: str
    sample: Annotated[int, Field(ge=0)]
    answer: str
    finish: Finish
    judge: Annotated[str, Field(min_length=1)]
    scores: dict[Dimension, Annotated[float, Field(ge=0, le=2)]]
    thoughts: str = ""
    unscored: str = ""

    def as_json(self) -> str:
        """The mark as a harness logs it."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Mark:
        """Read a mark from a log.

        raises: DataError when it is none.
        """
        try:
            return cls.from_entries(json.loads(text))
        except ValueError as error:
            raise DataError(f"no mark of drenpa's: {brief(text)!r} ({error})") from error

    @classmethod
    def from_entries(cls, entries: object) -> Mark:
        """Read a mark from what a log's JSON holds.

        raises: DataError when it is none, or a score is not from 0 to 2.
        """
        try:
            mark = _form().validate_python(entries)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise DataError(
                f"no mark of drenpa's: {brief(entries)!r} ({place}: {first['msg']})"
            ) from error
        if len(mark.scores) < len(DIMENSIONS) and not mark.unscored:
            raise DataError(
                f"no mark of drenpa's: {brief(entries)!r} (scores lack a dimension, and unscored "
                "gives no reason)"
            )
        return mark


@cache
def _form() -> TypeAdapter[Mark]:
    return TypeAdapter(Mark)


class Marker:
    """The judges of a bench folder, loaded once; the one scoring function of all adapters.

    An endpoint's replies are kept in the folder, so no harness pays for one that another paid for.
    """

    def __init__(self, bench: Bench) -> None:
        """raises: ConfigError when a judge cannot be asked from here."""
        settings = bench.settings
        setting = Setting(settings.model, settings.language)
        store = Store(bench.folder / STORE)
        self.bench = bench
        self._judges = tuple(
            (load_judge(member, setting, store), member.repeats)
            for member in members_of(settings.judge)
        )
        self.name = panel_name(
            [judge.name for judge, _ in self._judges], [repeats for _, repeats in self._judges]
        )

    def mark(self, answers: Sequence[Answer], *, show: bool = True) -> list[Mark]:
        """Judge answers, each judge as often as it is to be asked, and average the votes.

        show:   progress on standard error; not where the harness draws its own.
        raises: DataError when an answer is to an item that the folder does not have.
        """
        bench = self.bench
        strange = sorted({answer.item for answer in answers} - set(bench.items))
        if strange:
            raise DataError(
                f"{bench.folder}: has no item '{strange[0]}'; the answers are to others"
            )
        whole = [replace(answer, text=answer.text.strip()) for answer in answers]
        ballots = [
            (member, judge, n)
            for member, (judge, repeats) in enumerate(self._judges)
            for n in range(repeats)
        ]
        votes: list[list[list[Opinion]]] = [[[] for _ in self._judges] for _ in whole]
        with track("verdicts", len(ballots) * len(whole)) if show else nullcontext() as progress:
            for member, judge, repeat in ballots:
                cases = [_case(bench, answer, repeat) for answer in whole]
                for place, opinion in judge.judge(cases):
                    votes[place][member].append(opinion)
                    if progress is not None:
                        progress.advance()
        return [
            _mark(answer, self.name, combine([combine(said) for said in of_one]))
            for answer, of_one in zip(whole, votes, strict=True)
        ]


def cell(items: Iterable[Sequence[float | None]], max_unscored: float) -> float:
    """Return one cell of the table, in per cent.  [P12]

    items:        the scores of each item's samples in one dimension, None where unscored.
    max_unscored: share of unscored answers above which the cell has no figure.
    returns:      NaN without a figure.

    >>> cell([[2, None], [0, 1]], max_unscored=0.5)
    62.5
    """
    samples = [list(item) for item in items]
    every = [score for item in samples for score in item]
    scored = [[score for score in item if score is not None] for item in samples]
    missing = len(every) - sum(map(len, scored))
    if not every or missing > max_unscored * len(every):
        return math.nan
    return cell_percent([sum(item) / len(item) for item in scored if item])


def scores_of(marks: Iterable[Mark]) -> Scores:
    """Return what one item's samples scored, None where unscored."""
    found = list(marks)
    return {name: [mark.scores.get(name) for mark in found] for name in DIMENSIONS}


def row(items: Sequence[Scores], max_unscored: float) -> dict[str, float]:
    """Return the five cells of one kind's items, and the mean of these five."""
    cells = {name: cell((item[name] for item in items), max_unscored) for name in DIMENSIONS}
    return {str(name): value for name, value in cells.items()} | {
        MEAN: sum(cells.values()) / len(cells)
    }


def verdicts_of(
    bench: Bench, marks: Iterable[Mark], *, strategy: str, model: str, seed: int
) -> list[Verdict]:
    """Return marks as the verdicts that drenpa's report reads."""
    return [
        Verdict(
            item=mark.item,
            kind=bench.items[mark.item].kind,
            language=bench.items[mark.item].language,
            cluster=bench.items[mark.item].source or mark.item,
            strategy=strategy,
            model=model,
            seed=seed,
            sample=mark.sample,
            question=bench.items[mark.item].question,
            reference=bench.items[mark.item].answer or "",
            model_answer=mark.answer,
            finish=mark.finish,
            judge=mark.judge,
            scores=mark.scores,
            thoughts=mark.thoughts,
            unscored=mark.unscored,
        )
        for mark in marks
    ]


def _case(bench: Bench, answer: Answer, repeat: int) -> Case:
    item = bench.items[answer.item]
    return Case(item.question, answer.text, item.answer or "", item.language, answer.finish, repeat)


def _mark(answer: Answer, judge: str, opinion: Opinion) -> Mark:
    return Mark(
        answer.item,
        answer.sample,
        answer.text,
        answer.finish,
        judge,
        dict(opinion.scores),
        opinion.thoughts,
        opinion.unscored,
    )
