"""The same verdicts read in other ways: gated, adjusted for length, split by where their spread
comes from, and set beside what people gave the same answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from drenpa.core.agreement import (
    confusion,
    krippendorff_alpha,
    nearest_marks,
    spearman,
    weighted_kappa,
)
from drenpa.core.artefacts import MANIFEST, open_artefact
from drenpa.core.composites import (
    composite,
    gated,
    length_adjusted,
    length_slope,
    plain,
    usual_length,
)
from drenpa.core.correction import Pairs, prediction_powered, unconfused
from drenpa.core.errors import (
    DataError,
    not_utf8,
)
from drenpa.core.knowledge import DIMENSIONS, Dimension
from drenpa.core.records import Verdict
from drenpa.core.statistics import Scored, interval, paired_difference
from drenpa.core.text import brief
from drenpa.core.variance import Opinion, variance_split

READINGS_FILE = "readings.json"
Way = Literal["mean", "gated", "length-adjusted"]


@dataclass(frozen=True)
class Reading:
    """One strategy's score over all questions, read in one way.

    points, points_low, points_high: against the first strategy, on the questions that both have.
    """

    model: str
    strategy: str
    way: Way
    percent: float | None
    low: float | None
    high: float | None
    points: float | None
    points_low: float | None
    points_high: float | None


@dataclass(frozen=True)
class Slope:
    """What an answer of twice the length gains with this judge, in points."""

    model: str
    points: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Split:
    """The standard deviation of one score, in points, by where it comes from; None is unknown.

    judge: between judges, and between opinions where several were asked.
    """

    model: str
    strategy: str
    item: float | None
    seed: float | None
    judge: float | None
    rest: float | None
    items: int
    seeds: int
    judges: int


@dataclass(frozen=True)
class HumanAgreement:
    """How the judge agrees with people in one dimension.

    kappa:  quadratic-weighted, of marks. alpha: Krippendorff's, ordinal, judge and people as two
            raters; `alpha_people` that of people alone, where several scored the same answers.
    bias:   judge less people, in points of per cent.
    counts: [judge's mark][people's mark], of the mean of people where several scored.
    """

    dimension: Dimension
    answers: int
    kappa: float | None
    alpha: float | None
    alpha_people: float | None
    spearman: float | None
    bias: float | None
    counts: list[list[int]]


@dataclass(frozen=True)
class Correction:
    """One strategy's mean of five by the judge alone and corrected by people.

    people:     the mean of the answers that people scored; `scored` of `answers`.
    ppi:        prediction-powered, with its interval and the weight of the judge's scores.
    unconfused: the judge's marks with the 3 × 3 confusion undone, dimension by dimension, with the
                interval of their mean.
    """

    model: str
    strategy: str
    answers: int
    scored: int
    judge: float | None
    people: float | None
    ppi: float | None
    ppi_low: float | None
    ppi_high: float | None
    weight: float | None
    unconfused: float | None
    unconfused_low: float | None
    unconfused_high: float | None


@dataclass(frozen=True)
class PeopleCheck:
    """What people's scores say of the judge.

    raters: how many people. unknown: how many of their rows belong to no answer here.
    """

    raters: int
    answers: int
    unknown: int
    agreement: tuple[HumanAgreement, ...]
    corrections: tuple[Correction, ...]


@dataclass(frozen=True)
class Readings:
    """All other readings of a report's verdicts."""

    readings: tuple[Reading, ...]
    slopes: tuple[Slope, ...]
    splits: tuple[Split, ...]
    people: PeopleCheck | None


Place = tuple[str, str, str, int, int]


class HumanScores(BaseModel):
    """One person's scores of one answer: a line of the item browser's export, a line of a recording
    (`drenpa judge take`), or a verdict whose judge is a person. Other fields may stand beside these
    and are passed over.

    The answer is named by its place (item, model, strategy, seed, sample), or else by the text of
    question and answer.
    scores: each dimension from 0 to 2; one left open is absent.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    item: str = ""
    model: str = ""
    strategy: str = ""
    seed: int = 0
    sample: int = 0
    question: str = ""
    answer: str = ""
    judge: str
    scores: Mapping[Dimension, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _it_names_an_answer(self) -> HumanScores:
        if not (self.item and self.model and self.strategy) and not self.question:
            raise ValueError("names no answer: give item, model and strategy, or question, answer")
        return self

    @property
    def place(self) -> Place:
        """Which answer it is of, where it is named by its place."""
        return self.item, self.model, self.strategy, self.seed, self.sample


def read_readings(folder: Path) -> dict[str, Any]:
    """Read what a finished report's `readings.json` holds, as plain values."""
    found: dict[str, Any] = json.loads((folder / READINGS_FILE).read_text(encoding="utf-8"))
    return found


def readings_text(readings: Readings) -> str:
    """Return them as JSON."""
    return json.dumps(asdict(readings), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_people(places: Iterable[Path]) -> list[HumanScores]:
    """Read people's scores from JSON Lines, or from artefacts of verdicts.

    raises: DataError when a file is missing, a line is no scores or not UTF-8, or a score is not
            from 0 to 2.
    """
    return [row for place in places for row in _people_rows(place)]


def make_readings(
    verdicts: Sequence[Verdict],
    people: Sequence[HumanScores] = (),
    opinions: Sequence[Verdict] = (),
    *,
    resamples: int = 4000,
) -> Readings:
    """Read verdicts in every other way there is.

    people:   their scores of some of the same answers.
    opinions: single judges' opinions where a verdict is the mean of several; else the verdicts.
    """
    models = list(dict.fromkeys(row.model for row in verdicts))
    readings: list[Reading] = []
    slopes = []
    for model in models:
        mine = [row for row in verdicts if row.model == model]
        slope = length_slope(mine)
        usual = usual_length(mine)
        slopes.append(Slope(model, round(slope.points, 4), _known(slope.low), _known(slope.high)))
        columns: dict[Way, dict[str, Scored]] = {"mean": {}, "gated": {}, "length-adjusted": {}}
        for strategy in dict.fromkeys(row.strategy for row in mine):
            rows = [row for row in mine if row.strategy == strategy]
            columns["mean"][strategy] = composite(rows, plain)
            columns["gated"][strategy] = composite(rows, gated)
            columns["length-adjusted"][strategy] = length_adjusted(rows, slope, usual)
        readings += _readings(model, columns, resamples)
    return Readings(
        readings=tuple(readings),
        slopes=tuple(slopes),
        splits=tuple(_splits(opinions or verdicts)),
        people=_people_check(verdicts, people) if people else None,
    )


def _readings(
    model: str, columns: Mapping[Way, Mapping[str, Scored]], resamples: int
) -> Iterable[Reading]:
    for way, by_strategy in columns.items():
        first = next(iter(by_strategy.values()))
        for strategy, column in by_strategy.items():
            found = interval(column, resamples=resamples)
            against = paired_difference(column, first, resamples=resamples)
            same = column is first
            yield Reading(
                model=model,
                strategy=strategy,
                way=way,
                percent=_known(found.percent),
                low=_known(found.low),
                high=_known(found.high),
                points=None if same else _known(against.points),
                points_low=None if same else _known(against.low),
                points_high=None if same else _known(against.high),
            )


def _splits(opinions: Sequence[Verdict]) -> Iterable[Split]:
    groups: dict[tuple[str, str], list[Opinion]] = {}
    for row in opinions:
        if all(name in row.scores for name in DIMENSIONS):
            found = Opinion(row.item, row.seed, row.judge, plain(row.scores))
            groups.setdefault((row.model, row.strategy), []).append(found)
    for (model, strategy), group in groups.items():
        split = variance_split(group)
        yield Split(
            model=model,
            strategy=strategy,
            item=_root(split.item),
            seed=_root(split.seed),
            judge=_root(split.judge),
            rest=_root(split.rest),
            items=split.items,
            seeds=split.seeds,
            judges=split.judges,
        )


def _people_rows(place: Path) -> Iterable[HumanScores]:
    if (place / MANIFEST).is_file():
        for verdict in open_artefact(place, "verdicts").rows("verdicts", Verdict):
            yield HumanScores.model_validate(verdict.model_dump())
        return
    try:
        lines = place.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{place}: people's scores cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = HumanScores.model_validate_json(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"{place}:{number}: {not_utf8(error)}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise DataError(
                f"{place}:{number}: {where}: {first['msg']}; export it from the item browser again"
            ) from error
        if any(not 0 <= score <= 2 for score in row.scores.values()):
            raise DataError(f"{place}:{number}: scores: from 0 to 2, got {brief(dict(row.scores))}")
        if row.scores:
            yield row


def _people_check(verdicts: Sequence[Verdict], people: Sequence[HumanScores]) -> PeopleCheck:
    judged: dict[Place, list[Verdict]] = {}
    by_text: dict[tuple[str, str], dict[Place, None]] = {}
    for verdict in verdicts:
        place = verdict.item, verdict.model, verdict.strategy, verdict.seed, verdict.sample
        judged.setdefault(place, []).append(verdict)
        by_text.setdefault((verdict.question, verdict.model_answer), {})[place] = None
    by_answer: dict[Place, list[HumanScores]] = {}
    unknown = 0
    for row in people:
        places = [row.place] if row.item else list(by_text.get((row.question, row.answer), ()))
        unknown += not any(place in judged for place in places)
        for place in places:
            by_answer.setdefault(place, []).append(row)
    answers = [
        _Answer(rows[0], _mean_scores([row.scores for row in rows]), by_answer.get(place, ()))
        for place, rows in judged.items()
    ]
    both = [answer for answer in answers if answer.opinions]
    if not both:
        raise DataError(
            "people's scores belong to no answer of this report (item, model, strategy, seed and "
            "sample must agree, or question and answer); give those of this run"
        )
    columns = dict.fromkeys((answer.verdict.model, answer.verdict.strategy) for answer in answers)
    return PeopleCheck(
        raters=len({row.judge for row in people}),
        answers=len(both),
        unknown=unknown,
        agreement=tuple(_agreement(both, dimension) for dimension in DIMENSIONS),
        corrections=tuple(
            _correction(answers, both, model, strategy) for model, strategy in columns
        ),
    )


@dataclass(frozen=True)
class _Answer:
    """An answer with the judge's scores (the mean of several judges') and people's opinions."""

    verdict: Verdict
    judge: Mapping[Dimension, float]
    opinions: Sequence[HumanScores]

    @property
    def people(self) -> dict[Dimension, float]:
        """The mean of the people."""
        return _mean_scores([opinion.scores for opinion in self.opinions])


def _mean_scores(rows: Sequence[Mapping[Dimension, float]]) -> dict[Dimension, float]:
    return {
        name: math.fsum(found) / len(found)
        for name in DIMENSIONS
        if (found := [row[name] for row in rows if name in row])
    }


def _agreement(both: Sequence[_Answer], dimension: Dimension) -> HumanAgreement:
    pairs = [
        (answer.judge[dimension], answer.people[dimension])
        for answer in both
        if dimension in answer.judge and dimension in answer.people
    ]
    judge, people = ([pair[side] for pair in pairs] for side in (0, 1))
    counts = confusion(judge, people)
    marks = [nearest_marks(judge), nearest_marks(people)]
    raters = list(dict.fromkeys(o.judge for answer in both for o in answer.opinions))
    by_rater = [
        [
            next(
                (
                    o.scores[dimension]
                    for o in a.opinions
                    if o.judge == rater and dimension in o.scores
                ),
                math.nan,
            )
            for rater in raters
        ]
        for a in both
    ]
    return HumanAgreement(
        dimension=dimension,
        answers=len(pairs),
        kappa=_known(weighted_kappa(counts)),
        alpha=_known(krippendorff_alpha(np.transpose(marks))) if pairs else None,
        alpha_people=_known(krippendorff_alpha(by_rater)) if len(raters) > 1 else None,
        spearman=_known(spearman(judge, people)),
        bias=_known(50 * float(np.mean(judge) - np.mean(people))) if pairs else None,
        counts=counts.tolist(),
    )


def _correction(
    answers: Sequence[_Answer], both: Sequence[_Answer], model: str, strategy: str
) -> Correction:
    mine = [
        a
        for a in answers
        if (a.verdict.model, a.verdict.strategy) == (model, strategy)
        and len(a.judge) == len(DIMENSIONS)
    ]
    judge = [plain(a.judge) for a in mine]
    people = [plain(a.people) if len(a.people) == len(DIMENSIONS) else math.nan for a in mine]
    scored = [score for score in people if not math.isnan(score)]
    ppi = prediction_powered(judge, people, [a.verdict.cluster for a in mine])
    undone = unconfused([_pairs(mine, both, name) for name in DIMENSIONS], resamples=100)
    return Correction(
        model=model,
        strategy=strategy,
        answers=len(mine),
        scored=len(scored),
        judge=_known(50 * math.fsum(judge) / len(judge)) if judge else None,
        people=_known(50 * math.fsum(scored) / len(scored)) if scored else None,
        ppi=_known(ppi.percent),
        ppi_low=_known(ppi.low),
        ppi_high=_known(ppi.high),
        weight=_known(ppi.weight),
        unconfused=_known(undone.percent),
        unconfused_low=_known(undone.low),
        unconfused_high=_known(undone.high),
    )


def _pairs(mine: Sequence[_Answer], both: Sequence[_Answer], name: Dimension) -> Pairs:
    seen = [a for a in both if name in a.judge and name in a.people]
    return Pairs(
        at_hand=[answer.judge[name] for answer in mine],
        judge=[answer.judge[name] for answer in seen],
        people=[answer.people[name] for answer in seen],
        clusters=[answer.verdict.cluster for answer in seen],
    )


def _known(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None


def _root(variance: float | None) -> float | None:
    return None if variance is None else round(math.sqrt(variance), 4)
