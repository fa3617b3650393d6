"""Verdicts and artefacts made up for tests of the report; no model and no judge stands behind
them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drenpa.core.artefacts import Artefact, Plan, run_plan, write_rows
from drenpa.core.knowledge import DIMENSIONS, KINDS, Kind
from drenpa.core.records import Verdict

STRATEGIES = ("base", "sft", "final")


def verdict(
    strategy: str = "base",
    item: str = "i1",
    score: float | Mapping[str, float] = 1.0,
    *,
    kind: Kind = "foundation",
    **changes: Any,
) -> Verdict:
    """A verdict with one score in all five dimensions, or with the scores given."""
    scores = dict.fromkeys(DIMENSIONS, score) if isinstance(score, float | int) else dict(score)
    fields = {
        "item": item,
        "kind": kind,
        "cluster": f"source of {item}",
        "strategy": strategy,
        "model": "tiny",
        "seed": 1,
        "sample": 0,
        "question": f"What of {item}?",
        "model_answer": f"{strategy} says something of {item}.",
        "judge": "a made-up judge",
        "scores": scores,
        "unscored": "" if len(scores) == 5 else "the reply was no JSON",
    }
    return Verdict(**{**fields, **changes})


def verdicts(items: int = 6, gain: float = 0.6, **changes: Any) -> list[Verdict]:
    """Three strategies on four kinds: sft like base, final better by `gain` on every question."""
    return [
        verdict(
            strategy,
            f"{kind}-{number}",
            0.2 + 0.1 * (number % 4) + (gain if strategy == "final" else 0.0),
            kind=kind,
            **changes,
        )
        for strategy in STRATEGIES
        for kind in KINDS
        for number in range(items)
    ]


def verdicts_artefact(
    root: Path, rows: Sequence[Verdict], name: str = "benchmark", **summary: Any
) -> Artefact:
    """A finished artefact of verdicts."""

    def work(folder: Path) -> dict[str, Any]:
        write_rows(folder / "verdicts.parquet", rows)
        return {"judge": rows[0].judge, "judge_card": "It throws dice."} | summary

    return _made(root, "verdicts", name, work)


def training_artefact(
    root: Path,
    name: str,
    lines: Sequence[Mapping[str, Any]],
    accuracy: Mapping[str, Any] | None = None,
) -> Artefact:
    """A finished policy, or critic where it has an accuracy, that logged these lines."""

    def work(folder: Path) -> dict[str, Any]:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
        if accuracy is not None:
            (folder / "accuracy.json").write_text(json.dumps(accuracy), encoding="utf-8")
        return {"warnings": [f"{name} was made up"]}

    return _made(root, "critic" if accuracy is not None else "policy", name, work)


def _made(root: Path, kind: Any, name: str, work: Any) -> Artefact:
    return run_plan(
        Plan(kind=kind, name=name, root=root, config={}, inputs={}, rooms=(), work=work)
    )
