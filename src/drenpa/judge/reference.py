"""A judge that compares letters and words with a reference, and looks at nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any

from drenpa.core.knowledge import Dimension
from drenpa.judge.judges import Case, Opinion


class ReferenceJudge:
    """Relevance as 2 · chrF++ against the reference; the other dimensions it cannot see."""

    name = "reference: chrF++"
    card = (
        "Relevance is 2 · chrF++ (characters and words in common, from 0 to 1) against the "
        "reference; no other dimension is scored, and nothing is without a reference. Another "
        "right answer in other words scores low: compare strategies by it, not answers with "
        "perfection."
    )
    sees: tuple[Dimension, ...] = ("relevance",)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The measure, as the library that computes it defines it."""
        return {"judge": "reference", "chrf": 2, "sacrebleu": metadata.version("sacrebleu")}

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        """Yield an opinion on each case."""
        for place, case in enumerate(cases):
            if not case.reference.strip():
                yield place, Opinion(unscored="there is no reference to compare with")
                continue
            likeness = chrf(case.answer, case.reference)
            yield (
                place,
                Opinion(
                    {"relevance": 2 * likeness},
                    f"chrF++ {100 * likeness:.1f}",
                    "only relevance can be read off a reference",
                ),
            )


def chrf(answer: str, reference: str) -> float:
    """Return chrF++ from 0 to 1.

    Source: Popović, chrF++: words helping character n-grams, WMT 2017; sacrebleu computes it.
    """
    return min(1.0, float(_scorer().sentence_score(answer, [reference]).score) / 100)


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF(word_order=2)
