"""lm-eval (EleutherAI's harness): what the YAML tasks of a bench folder call.

The answers of a task are judged at once by its filter, so that an endpoint is asked many times in
parallel; `process_results` only takes the marks apart. `--log_samples` then has answers in `resps`
and marks in `filtered_resps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from drenpa.adapters.bench_folder import open_bench
from drenpa.adapters.scoring import MEAN, Mark, Marker, Scores, cell, row, scores_of
from drenpa.judge.answers import Answer


class LmEvalTask:
    """The functions that the tasks of one bench folder name after `!function`."""

    def __init__(self, folder: Path) -> None:
        self.bench = open_bench(folder)

    def __deepcopy__(self, memo: dict[int, Any]) -> LmEvalTask:
        """The harness copies its tasks' settings, functions included; the judge stays one."""
        return self

    @cached_property
    def _marker(self) -> Marker:
        return Marker(self.bench)

    def questions(self, **_: Any) -> Any:
        """Return the questions as one split a kind; no reference is among them."""
        import datasets

        return datasets.DatasetDict(
            {
                kind: datasets.Dataset.from_list(
                    [
                        item.model_dump(include={"id", "question", "kind", "language", "source"})
                        for item in self.bench.of_kind(kind)
                    ]
                )
                for kind in self.bench.kinds
            }
        )

    def judged(
        self, resps: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]
    ) -> list[list[str]]:
        """Judge every answer of a task, and return the marks as JSON: the filter.

        The harness does not tell whether an answer was cut off at the limit; it counts as ended.
        """
        answers = [
            Answer(doc["id"], sample, text, "stop")
            for doc, texts in zip(docs, resps, strict=True)
            for sample, text in enumerate(texts)
        ]
        marks = iter(self._marker.mark(answers))
        return [[next(marks).as_json() for _ in texts] for texts in resps]

    def process_results(
        self, _doc: Mapping[str, Any], results: Sequence[Sequence[str]]
    ) -> dict[str, Any]:
        """Take one document's marks apart into what the metrics gather."""
        marks = [Mark.from_json(mark) for mark in results[0]]
        scores = scores_of(marks)
        unscored = sum(bool(mark.unscored) for mark in marks)
        return {str(name): values for name, values in scores.items()} | {
            MEAN: scores,
            "unscored": unscored,
        }

    def cell(self, items: Sequence[Sequence[float | None]]) -> float:
        """Gather one dimension's scores into its cell."""
        return cell(items, self.bench.settings.judge.max_unscored)

    def row_mean(self, items: Sequence[Scores]) -> float:
        """Gather all scores into the mean of the five cells."""
        return row(items, self.bench.settings.judge.max_unscored)[MEAN]
