"""Two runs, item by item: which scores and which answers changed, and what of the setup did."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drenpa.core.artefacts import MANIFEST, Artefact, finished, open_artefact
from drenpa.core.composites import composite, plain
from drenpa.core.errors import ArtefactError
from drenpa.core.knowledge import DIMENSIONS, Dimension, Kind
from drenpa.core.records import Verdict
from drenpa.core.statistics import paired_difference
from drenpa.core.text import brief, shown
from drenpa.report.formats import ABSENT, limits, percent, points

FIELDS = ("model", "strategy", "seed", "judge", "sample")
"""What tells the answers to one question apart, in the order in which they are told."""


@dataclass(frozen=True)
class Setting:
    """One setting that is not the same in both runs; None where a run does not have it."""

    where: str
    left: Any
    right: Any


@dataclass(frozen=True)
class ItemChange:
    """One answer in both runs.

    points: right less left, in per cent of the highest score; None where one of them lacks a
            dimension.
    scores: dimension → (left, right), only where they differ; None is unscored.
    """

    item: str
    kind: Kind
    question: str
    place: Mapping[str, Any]
    points: float | None
    scores: Mapping[Dimension, tuple[float | None, float | None]]
    answer_changed: bool
    left_answer: str
    right_answer: str


@dataclass(frozen=True)
class Change:
    """One strategy (or one pair of them) over all the questions that both runs answered.

    low, high: the 95 % interval of `points`, questions of one source drawn together.
    """

    label: str
    left: float | None
    right: float | None
    points: float | None
    low: float | None
    high: float | None
    questions: int
    answers: int
    answers_changed: int
    scores_changed: int

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class RunDiff:
    """Everything that differs between two runs' benchmarks.

    matched_on: the fields that had to agree, beside the item.
    only_left, only_right: how many answers have no partner in the other run.
    """

    left: str
    right: str
    matched_on: tuple[str, ...]
    settings: tuple[Setting, ...]
    changes: tuple[Change, ...]
    items: tuple[ItemChange, ...]
    only_left: int
    only_right: int


def compare_runs(left: Path, right: Path, *, resamples: int = 4000) -> RunDiff:
    """Compare the finished benchmarks of two runs' folders, or two benchmarks' own folders.

    Answers are partners when item, model, strategy, seed, judge and sample are the same. Where each
    run has only one value of a field and they differ (two models, two seeds, two judges), that
    field is what is compared, and is not asked to agree.

    raises: ArtefactError when a folder holds no finished benchmark, or no answer has a partner.
    """
    ours, theirs = _benchmarks(left), _benchmarks(right)
    left_rows, right_rows = _rows(ours), _rows(theirs)
    matched = _matching_fields(left_rows, right_rows)
    before, after = _placed(left_rows, matched, left), _placed(right_rows, matched, right)
    shared = [place for place in before if place in after]
    if not shared:
        raise ArtefactError(
            f"{left} and {right}: no answer of one has a partner in the other; they must share "
            f"items and agree in {', '.join(matched) or 'nothing'}"
        )
    pairs = [(before[place], after[place]) for place in shared]
    return RunDiff(
        left=str(left),
        right=str(right),
        matched_on=matched,
        settings=tuple(_settings(ours, theirs)),
        changes=tuple(_changes(pairs, resamples)),
        items=tuple(sorted((_item(*pair, matched) for pair in pairs), key=_by_size)),
        only_left=len(before) - len(shared),
        only_right=len(after) - len(shared),
    )


def diff_json(diff: RunDiff) -> str:
    """Return the whole comparison as JSON, every item with both answers."""
    return json.dumps(asdict(diff), indent=1, ensure_ascii=False, allow_nan=False, default=str)


def print_diff(diff: RunDiff, console: Console, *, items: int = 10) -> None:
    """Print what changed in short, and the `items` answers that changed most."""
    console.print(Text.assemble("from ", (diff.left, "bold"), " to ", (diff.right, "bold")))
    for setting in diff.settings:
        console.print(_setting_line(setting))
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    drawn.add_column("", no_wrap=True)
    for name in ("from", "to", "points", "95 % interval", "questions", "answers changed", "scores"):
        drawn.add_column(name, justify="right")
    for change in diff.changes:
        drawn.add_row(
            shown(change.label),
            percent(change.left),
            percent(change.right),
            Text(points(change.points), "bold" if change.told_apart else ""),
            limits(change.low, change.high, signed=True) or ABSENT,
            str(change.questions),
            f"{change.answers_changed} of {change.answers}",
            str(change.scores_changed),
        )
    console.print(drawn)
    for count, run in ((diff.only_left, diff.left), (diff.only_right, diff.right)):
        if count:
            console.print(Text(f"{count} answers stand only in {run}.", "dim"))
    moved = [item for item in diff.items if item.answer_changed or item.scores]
    for item in moved[:items]:
        _print_item(item, console)
    if len(moved) > items:
        console.print(
            Text(f"{len(moved) - items} more answers changed; --items or --json shows them.", "dim")
        )
    if not moved:
        console.print("No answer and no score changed.")


def _benchmarks(folder: Path) -> list[Artefact]:
    if (folder / MANIFEST).is_file():
        return [open_artefact(folder, "verdicts")]
    newest: dict[str, Artefact] = {}
    for artefact in finished(folder):
        if artefact.kind == "verdicts":
            config = artefact.config
            newest[json.dumps([config.get(key) for key in ("strategy", "seed", "model")])] = (
                artefact
            )
    if not newest:
        raise ArtefactError(f"{folder}: holds no finished benchmark; run its recipe first")
    return list(newest.values())


def _rows(benchmarks: Sequence[Artefact]) -> list[Verdict]:
    return [row for artefact in benchmarks for row in artefact.rows("verdicts", Verdict)]


def _matching_fields(left: Sequence[Verdict], right: Sequence[Verdict]) -> tuple[str, ...]:
    fields = []
    for name in FIELDS:
        ours = {getattr(row, name) for row in left}
        theirs = {getattr(row, name) for row in right}
        if not (len(ours) == len(theirs) == 1 and ours != theirs):
            fields.append(name)
    return tuple(fields)


def _placed(
    rows: Iterable[Verdict], fields: Sequence[str], folder: Path
) -> dict[tuple[Any, ...], Verdict]:
    found: dict[tuple[Any, ...], Verdict] = {}
    for row in rows:
        place = (row.item, *(getattr(row, name) for name in fields))
        if place in found:
            raise ArtefactError(f"{folder}: '{row.item}' is judged twice as {place[1:]}")
        found[place] = row
    return found


def _settings(left: Sequence[Artefact], right: Sequence[Artefact]) -> Iterable[Setting]:
    """What differs in configs, inputs' digests and code, said once over all strategies."""
    ours, theirs = _facts(left), _facts(right)
    for where in dict.fromkeys((*ours, *theirs)):
        one, other = ours.get(where), theirs.get(where)
        if one != other:
            yield Setting(where, one, other)


def _facts(benchmarks: Sequence[Artefact]) -> dict[str, Any]:
    """Each setting, by name where all benchmarks agree in it, and by strategy and name else."""
    flat: dict[str, dict[str, Any]] = {}
    for artefact in benchmarks:
        owner = str(artefact.config.get("strategy", artefact.name))
        told: dict[str, Any] = {"drenpa": artefact.version, "code": artefact.code}
        told |= {f"input {name}": e["digest"][:16] for name, e in artefact.inputs.items()}
        told |= dict(_flattened(artefact.config, ""))
        told.pop("strategy", None)
        for name, value in told.items():
            flat.setdefault(name, {})[owner] = value
    facts: dict[str, Any] = {}
    for name, values in flat.items():
        if len(set(map(str, values.values()))) == 1:
            facts[name] = next(iter(values.values()))
        else:
            facts |= {f"{owner}: {name}": value for owner, value in values.items()}
    return facts


def _flattened(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _changes(pairs: Sequence[tuple[Verdict, Verdict]], resamples: int) -> Iterable[Change]:
    groups: dict[str, list[tuple[Verdict, Verdict]]] = {}
    several = len({one.model for one, _ in pairs}) > 1
    for one, other in pairs:
        same = one.strategy == other.strategy
        label = one.strategy if same else f"{one.strategy} → {other.strategy}"
        groups.setdefault(f"{label}, {one.model}" if several else label, []).append((one, other))
    for label, group in groups.items():
        yield _change(label, group, resamples)
    if len(groups) > 1:
        yield _change("all", pairs, resamples)


def _change(label: str, pairs: Sequence[tuple[Verdict, Verdict]], resamples: int) -> Change:
    whole = [
        # The partner's own seed may be what is compared, so that pairs meet under the left's.
        (one, other.model_copy(update={"seed": one.seed, "item": one.item}))
        for one, other in pairs
        if _score(one) is not None and _score(other) is not None
    ]
    sides = [composite([pair[side] for pair in whole], plain) for side in (0, 1)]
    found = paired_difference(sides[1], sides[0], resamples=resamples)
    means = [50 * math.fsum(side.scores) / len(side.scores) if whole else None for side in sides]
    return Change(
        label=label,
        left=_known(means[0]),
        right=_known(means[1]),
        points=_known(found.points),
        low=_known(found.low),
        high=_known(found.high),
        questions=found.items,
        answers=len(pairs),
        answers_changed=sum(one.model_answer != other.model_answer for one, other in pairs),
        scores_changed=sum(one.scores != other.scores for one, other in pairs),
    )


def _item(one: Verdict, other: Verdict, matched: Sequence[str]) -> ItemChange:
    before, after = _score(one), _score(other)
    return ItemChange(
        item=one.item,
        kind=one.kind,
        question=one.question,
        place={name: getattr(one, name) for name in matched},
        points=None if before is None or after is None else round(50 * (after - before), 4),
        scores={
            name: (one.scores.get(name), other.scores.get(name))
            for name in DIMENSIONS
            if one.scores.get(name) != other.scores.get(name)
        },
        answer_changed=one.model_answer != other.model_answer,
        left_answer=one.model_answer,
        right_answer=other.model_answer,
    )


def _by_size(item: ItemChange) -> tuple[float, bool, str]:
    """The largest changes first; those from or to unscored before all."""
    return (
        (-math.inf if item.scores and item.points is None else -abs(item.points or 0.0)),
        (not item.answer_changed),
        item.item,
    )


def _score(verdict: Verdict) -> float | None:
    return plain(verdict.scores) if all(name in verdict.scores for name in DIMENSIONS) else None


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _setting_line(setting: Setting) -> Text:
    told = [ABSENT if v is None else brief(v, 70) for v in (setting.left, setting.right)]
    return Text(f"  {shown(setting.where)}: {told[0]} → {told[1]}", "dim")


def _print_item(item: ItemChange, console: Console) -> None:
    place = ", ".join(str(value) for name, value in item.place.items() if name == "strategy")
    told = [
        f"{brief(name)} {_mark(one)} → {_mark(other)}" for name, (one, other) in item.scores.items()
    ]
    change = f"{points(item.points)} points" if item.points is not None else "unscored in one"
    console.print()
    console.print(Text(f"{brief(item.question, 110)}", "bold"))
    console.print(
        Text(" · ".join(filter(None, [item.item, item.kind, place, change, *told])), "dim")
    )
    if not item.answer_changed:
        console.print(Text("  the same answer", "dim"))
        return
    for sign, answer, style in (("−", item.left_answer, "red"), ("+", item.right_answer, "green")):
        console.print(Text(f"  {sign} {brief(answer, 300) or '(no answer)'}", style))


def _mark(score: float | None) -> str:
    return "unscored" if score is None else f"{score:.2f}".rstrip("0").rstrip(".")
