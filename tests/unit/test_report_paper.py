from __future__ import annotations

import pytest

from drenpa.report.paper import disagreements, paper_rows


def test_two_of_the_papers_72_means_disagree_with_their_cells() -> None:
    rows = paper_rows()
    assert len(rows) == 72
    found = [(r.kind, r.strategy, r.size, r.printed_mean) for r in disagreements(rows)]
    assert found == [
        ("foundation", "grpo", "3B", 63.41),
        ("foundation", "memory", "3B", 67.83),
    ]


@pytest.mark.parametrize(
    ("kind", "strategy", "mean"),
    [
        ("foundation", "base", 47.66),
        ("foundation", "grpo", 62.83),
        ("foundation", "memory", 68.41),
        ("foundation", "final", 78.08),
        ("metacognition", "sft", 53.59),
        ("connection", "final", 49.60),
        ("profession", "final", 32.99),
    ],
)
def test_the_recomputed_means_are_the_papers_headline_figures(
    kind: str, strategy: str, mean: float
) -> None:
    row = next(r for r in paper_rows() if (r.kind, r.strategy, r.size) == (kind, strategy, "3B"))
    assert row.mean == pytest.approx(mean, abs=0.006)
