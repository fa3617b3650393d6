"""OpenCompass (Shanghai AI Laboratory's harness): the dataset and the evaluator that a bench
folder's configuration names.

OpenCompass 0.5 needs transformers 4, numpy 1 and pyarrow 21, so it has an environment of its own in
which drenpa is installed without its dependencies; nothing imported here loads torch or
transformers. A judge that reads a local model's probabilities needs drenpa's own engine and cannot
be asked there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from datasets import Dataset
from opencompass.datasets.base import BaseDataset
from opencompass.openicl.icl_evaluator import BaseEvaluator
from opencompass.registry import ICL_EVALUATORS, LOAD_DATASET

from drenpa.adapters.bench_folder import open_bench
from drenpa.adapters.scoring import Marker, row, scores_of
from drenpa.core.errors import ConfigError
from drenpa.core.knowledge import Kind
from drenpa.judge.answers import Answer
from drenpa.judge.ladder import READERS, members_of


@LOAD_DATASET.register_module()
class BenchDataset(BaseDataset):
    """The questions of one kind; no reference is among them."""

    @staticmethod
    def load(folder: str, kind: Kind) -> Dataset:
        """Return the rows; the question comes last, so that what it says fills no other slot."""
        items = open_bench(folder).of_kind(kind)
        return Dataset.from_list([{"id": item.id, "question": item.question} for item in items])


@ICL_EVALUATORS.register_module()
class BenchEvaluator(BaseEvaluator):
    """Judges the answers of one kind, and returns its row of the table."""

    def __init__(self, folder: str, **settings: Any) -> None:
        """raises: ConfigError for a judge that cannot be asked here."""
        super().__init__(**settings)
        self.bench = open_bench(folder)
        for member in members_of(self.bench.settings.judge):
            if member.name in READERS:
                raise ConfigError(
                    f"{folder}: the judge `{member.name}` reads a local model with drenpa's "
                    "engine, which needs transformers 5; write the folder with a judge that needs "
                    "none: openai, rules, reference or recorded"
                )

    def evaluate(
        self,
        k: int | list[int],  # noqa: ARG002
        n: int,  # noqa: ARG002
        original_dataset: Dataset,  # noqa: ARG002
        **settings: Any,
    ) -> dict[str, Any]:
        """Judge all n answers to each question together, as one table has it."""
        return self.score(**settings)

    def score(
        self, predictions: Sequence[str], test_set: Iterable[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return the five cells, their mean, what is unscored, and every mark under `details`.

        The harness does not tell whether an answer was cut off at the limit; it counts as ended.
        """
        answers: list[Answer] = []
        samples: dict[str, int] = {}
        for text, entry in zip(predictions, test_set, strict=True):
            item = entry["id"]
            answers.append(Answer(item, samples.get(item, 0), text, "stop"))
            samples[item] = samples.get(item, 0) + 1
        marks = Marker(self.bench).mark(answers)
        items = [scores_of(mark for mark in marks if mark.item == item) for item in samples]
        return {
            **row(items, self.bench.settings.judge.max_unscored),
            "unscored": sum(bool(mark.unscored) for mark in marks),
            "details": [asdict(mark) for mark in marks],
        }
