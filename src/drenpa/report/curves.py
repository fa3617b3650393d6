"""Training curves: what a stage logged at each step, read back and sorted into measures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drenpa.core.artefacts import Artefact
from drenpa.core.errors import ArtefactError
from drenpa.core.knowledge import KINDS, Kind
from drenpa.report.charts import ACCENT, INK, KIND_COLOURS, KIND_DASHES, Line

METRICS = "metrics.jsonl"
WHOLE = "all kinds"
ACCURACY = "accuracy.json"

MEASURES: Mapping[str, tuple[str, re.Pattern[str]]] = {
    "reward": ("Reward", re.compile("reward")),
    "kl": ("KL to the reference", re.compile("kl")),
    "length": ("Answer length, tokens", re.compile("length")),
    "zero_spread": ("Share of groups without spread", re.compile("zero_spread")),
    "entropy": ("Entropy", re.compile("entropy")),
    "truncated": ("Share of answers cut off", re.compile("truncated")),
    "mass": ("Share of the gradient", re.compile("mass")),
    "loss": ("Loss", re.compile(r"([a-z]+_)?loss")),
    "accuracy": ("Pair accuracy", re.compile(r"(pair_)?accuracy")),
}
"""Measure → its title and which logged names belong to it; `NAME_KIND` is one kind's part."""

FROM_ZERO = frozenset({"kl", "length", "zero_spread", "entropy", "accuracy", "truncated", "mass"})
"""Measures whose axis begins at 0, so that a small change does not look like a large one."""


@dataclass(frozen=True)
class Curve:
    """One measure of one stage over its steps: a line for the whole, or one for each kind."""

    measure: str
    title: str
    lines: tuple[Line, ...]
    from_zero: bool


@dataclass(frozen=True)
class Training:
    """What one training stage logged: its steps and its curves."""

    name: str
    steps: int
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Accuracy:
    """How often a critic put a pair of answers in the people's order, reading one sort of
    critique.

    all_pairs: share of the questions whose every pair is in order; None where it was not measured.
    """

    critiques: str
    accuracy: float
    low: float | None
    high: float | None
    pairs: int
    all_pairs: float | None


def read_training(name: str, artefact: Artefact) -> Training:
    """Read `metrics.jsonl` of a training artefact; an artefact without one has no curves.

    raises: ArtefactError when a line of it is no JSON object with a step.
    """
    file = artefact.path / METRICS
    lines = read_lines(file) if file.is_file() else []
    points: dict[tuple[str, Kind | str], list[tuple[float, float]]] = {}
    for line in lines:
        for key, value in line.items():
            found = _measure_of(key)
            if found and isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(found, []).append((float(line["step"]), float(value)))
    curves = [
        Curve(measure, title, _lines_of(measure, points), measure in FROM_ZERO)
        for measure, (title, _) in MEASURES.items()
        if any(key[0] == measure for key in points)
    ]
    return Training(name, len({line["step"] for line in lines}), tuple(curves))


def read_accuracy(artefact: Artefact) -> tuple[Accuracy, ...]:
    """Read `accuracy.json` of a critic, in the order gold, own, none, shuffled; absent is empty.

    raises: ArtefactError when the file does not hold accuracies.
    """
    file = artefact.path / ACCURACY
    if not file.is_file():
        return ()
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        found = [
            Accuracy(
                str(name),
                float(entry["accuracy"]),
                _maybe(entry["low"]),
                _maybe(entry["high"]),
                int(entry["pairs"]),
                _maybe(entry.get("all_pairs")),
            )
            for name, entry in stored.items()
            if isinstance(entry, dict) and entry.get("accuracy") is not None
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(
            f"{file}: does not hold the critic's accuracies ({error}); train the critic again"
        ) from error
    order = ["gold", "own", "none", "shuffled"]
    return tuple(
        sorted(found, key=lambda row: order.index(row.critiques) if row.critiques in order else 9)
    )


def _maybe(value: float | None) -> float | None:
    return None if value is None else float(value)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read what a stage logged, an object a line, each with the number of its step.

    A last line that is still being written, or that a kill cut short, is left out.

    raises: ArtefactError when a line is anything else.
    """
    lines = []
    *written, _ = file.read_text(encoding="utf-8").split("\n")
    for number, text in enumerate(written, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ArtefactError(f"{file}:{number}: not JSON ({error}); train again") from error
        if not isinstance(line, dict) or not isinstance(line.get("step"), int | float):
            raise ArtefactError(f"{file}:{number}: no object with a number `step`; train again")
        lines.append(line)
    return lines


def _measure_of(key: str) -> tuple[str, Kind | str] | None:
    """The measure that a logged name belongs to, and the kind or the name its line carries."""
    for measure, (_, pattern) in MEASURES.items():
        if pattern.fullmatch(key):
            return measure, key
        for kind in KINDS:
            if key.endswith(f"_{kind}") and pattern.fullmatch(key.removesuffix(f"_{kind}")):
                return measure, kind
    return None


def _lines_of(
    measure: str, points: Mapping[tuple[str, Kind | str], list[tuple[float, float]]]
) -> tuple[Line, ...]:
    """The whole's line first and the kinds' after it, or each logged name's."""
    by_kind = [
        Line(kind, tuple(points[measure, kind]), KIND_COLOURS[kind], KIND_DASHES[kind])
        for kind in KINDS
        if (measure, kind) in points
    ]
    named = [
        (name, values)
        for (owner, name), values in points.items()
        if owner == measure and name not in KINDS
    ]
    if by_kind:
        return (*(Line(WHOLE, tuple(values)) for _, values in named[:1]), *by_kind)
    styles = [(INK, ""), (ACCENT, "5 2"), (KIND_COLOURS["metacognition"], "2 2")]
    return tuple(
        Line(name, tuple(values), *styles[index % len(styles)])
        for index, (name, values) in enumerate(named)
    )
