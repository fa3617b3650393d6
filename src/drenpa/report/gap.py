"""The critic's gap meter as the report shows it: gap and use of all pairs, by kind, by language."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drenpa.core.artefacts import Artefact
from drenpa.core.errors import ArtefactError
from drenpa.report.curves import ACCURACY

PARTS: Mapping[str, str] = {"by_kind": "kind", "by_language": "language"}


@dataclass(frozen=True)
class Points:
    """A difference of two accuracies on the same pairs, in points, with its interval."""

    points: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Meter:
    """Gap (people's − its own critiques) and use (its own − shuffled) on some of the pairs.

    own:       pairs in order with its own critiques, in per cent.
    all_pairs: questions whose every pair is in order with them, in per cent.
    """

    part: str
    own: float | None
    all_pairs: float | None
    pairs: int
    gap: Points
    use: Points


def read_meters(artefact: Artefact) -> tuple[Meter, ...]:
    """Read the meters of `accuracy.json`, the whole first; nothing where it has none, as that of a
    scorer without critiques or of an older critic.

    raises: ArtefactError when the file does not hold accuracies.
    """
    file = artefact.path / ACCURACY
    if not file.is_file():
        return ()
    try:
        return tuple(_meters(json.loads(file.read_text(encoding="utf-8"))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(
            f"{file}: does not hold the critic's accuracies ({error}); train the critic again"
        ) from error


def _meters(stored: Mapping[str, Any]) -> Iterator[Meter]:
    if "gap" not in stored or "use" not in stored:
        return
    yield _meter("all", stored)
    for name in PARTS:
        found = stored.get(name, {})
        if len(found) > 1:  # one part alone is the whole
            yield from (_meter(part, entry) for part, entry in found.items())


def _meter(part: str, stored: Mapping[str, Any]) -> Meter:
    own = stored["own"]
    return Meter(
        part,
        _percent(own["accuracy"]),
        _percent(own.get("all_pairs")),
        int(own["pairs"]),
        _points(stored["gap"]),
        _points(stored["use"]),
    )


def _points(found: Mapping[str, Any]) -> Points:
    return Points(_percent(found["difference"]), _percent(found["low"]), _percent(found["high"]))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * float(share)
