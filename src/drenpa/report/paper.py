"""The paper's own Table 3, for comparison: its printed cells, and which printed means disagree with
them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from drenpa.core.knowledge import DIMENSIONS, Dimension, Kind

TOLERANCE = 0.0101
"""Per cent by which a printed mean may miss the mean of five printed cells, all rounded to 0.01."""


@dataclass(frozen=True)
class PaperRow:
    """One strategy of one model size on one kind, as printed.

    printed_mean: the mean that stands in the paper; `mean` is that of the five cells.
    """

    kind: Kind
    strategy: str
    size: str
    cells: dict[Dimension, float]
    printed_mean: float

    @property
    def mean(self) -> float:
        """The mean of the five printed cells, in per cent."""
        return sum(self.cells.values()) / len(self.cells)

    @property
    def agrees(self) -> bool:
        """Whether the printed mean is that of the printed cells, but for rounding."""
        return abs(self.mean - self.printed_mean) <= TOLERANCE


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Return the 72 rows of the paper's Table 3, in the order of its kinds, strategies and
    sizes."""
    text = (resources.files(__package__) / "paper_table3.json").read_text(encoding="utf-8")
    grouped: dict[tuple[Kind, str, str], dict[str, float]] = {}
    for cell in json.loads(text)["cells"]:
        row = grouped.setdefault((cell["kind"], cell["strategy"], cell["size"]), {})
        row[cell["dimension"]] = cell["percent"]
    return tuple(
        PaperRow(
            kind,
            strategy,
            size,
            {dimension: printed[dimension] for dimension in DIMENSIONS},
            printed["mean"],
        )
        for (kind, strategy, size), printed in grouped.items()
    )


def paper_source() -> str:
    """Return where the values come from."""
    text = (resources.files(__package__) / "paper_table3.json").read_text(encoding="utf-8")
    return str(json.loads(text)["source"])


def disagreements(rows: Sequence[PaperRow]) -> list[PaperRow]:
    """Return the rows whose printed mean is not that of their cells."""
    return [row for row in rows if not row.agrees]
