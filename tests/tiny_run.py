"""A tiny whole run: a corpus of a few short texts, and a recipe that goes through every stage."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from drenpa.core.knowledge import KINDS

RANKED = 2  # questions of each kind, with three ranked answers each; one is held out
SUBJECTS = {
    "foundation": ("verbs", "rivers", "causes", "plurals"),
    "profession": ("burns", "loops", "receipts", "knots"),
    "metacognition": ("habits", "worry", "naps", "doubt"),
    "connection": ("bridges", "roots", "orbits", "echoes"),
}
"""Two for training questions, two for the benchmark."""


def tiny_rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows of `records`, `rankings` and `benchmark`."""
    rows: dict[str, list[dict[str, Any]]] = {"records": [], "rankings": [], "benchmark": []}
    for kind in KINDS:
        for number, subject in enumerate(SUBJECTS[kind]):
            record = {
                "id": f"{kind}-{subject}",
                "kind": kind,
                "question": f"Why do {subject} matter?",
                "answer": f"Because {subject} hold.",
                "source": subject,
            }
            if number >= RANKED:
                rows["benchmark"].append(record)
                continue
            rows["records"].append(record)
            texts = (f"{subject} hold things.", f"{subject}.", "No idea.")
            notes = ("Right and clear.", "Thin.", "Empty.")
            rows["rankings"].append(
                {
                    "id": f"rank-{subject}",
                    "record": record["id"],
                    "candidates": [
                        {"id": f"c{n}", "answer": text, "rank": n + 1, "note": note}
                        for n, (text, note) in enumerate(zip(texts, notes, strict=True))
                    ],
                }
            )
    return rows


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


ROUND = {
    "steps": 2,
    "prompts": 2,
    "group": 3,
    "max_new_tokens": 4,
    "train": {"learning_rate": 0.01, "micro_batch": 1, "lora": {"rank": 2, "alpha": 4}},
}
"""A round of reinforcement learning that takes a second."""

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "engine": {"device": "cpu", "dtype": "float32", "tracker": "none"},
    "corpus": {"languages": ["en"], "held_out": 0.5},
    "finetune": {
        "epochs": 1,
        "batch": 8,
        "train": {"learning_rate": 0.01, "lora": {"rank": 2, "alpha": 4}},
    },
    "critic": {
        "epochs": 1,
        "own_epochs": 1,
        "batch": 2,
        "max_critique_tokens": 4,
        "train": {"learning_rate": 0.01, "lora": {"rank": 2, "alpha": 4}},
    },
    "scalar": {
        "epochs": 1,
        "batch": 2,
        "train": {"learning_rate": 0.01, "lora": {"rank": 2, "alpha": 4}},
    },
    "benchmark": {"max_new_tokens": 4, "items_per_kind": 1},
    "report": {"resamples": 50, "examples": 1},
}


def every_strategy() -> list[dict[str, Any]]:
    """Return the strategies of the paper, each a round or two."""
    margin = {"margin_weight": 0.5, "margin_rate": 0.5}
    return [
        {
            "name": "grpo",
            "stages": [
                {
                    **ROUND,
                    "name": "main",
                    "weights": dict.fromkeys(KINDS, 1),
                    "reward": {"scalar": 1},
                    "objective": {"margin_weight": 0},
                }
            ],
        },
        {
            "name": "memory",
            "stages": [{**ROUND, "name": "main", "objective": {**margin, "pair_coef": 0.1}}],
        },
        {
            "name": "multistage",
            "start": "memory",
            "stages": [
                {
                    **ROUND,
                    "name": "structured",
                    "steps": 1,
                    "mix": {"metacognition": 1, "connection": 1},
                    "objective": margin,
                },
                {
                    **ROUND,
                    "name": "general",
                    "steps": 1,
                    "reward": {"critic": 0.5, "scalar": 0.5},
                    "reset_reference": True,
                    "objective": margin,
                },
            ],
        },
        {
            "name": "final",
            "start": "multistage",
            "stages": [
                {
                    **ROUND,
                    "name": "together",
                    "steps": 1,
                    "reward": {"critic": 1, "scalar": 0.5, "finished": 0.5},
                    "objective": margin,
                }
            ],
        },
    ]


def write_tiny_run(
    folder: Path,
    model: Path,
    *,
    rows: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    **changes: Any,
) -> Path:
    """Write corpus and recipe into `folder`; return the recipe's file.

    changes: keys of the recipe, laid over `RECIPE` one level deep.
    """
    files = {
        role: [str(write_lines(folder / f"{role}.jsonl", lines))]
        for role, lines in (rows or tiny_rows()).items()
    }
    tree = {**RECIPE, "model": str(model), "out": str(folder / "run")}
    tree["corpus"] = {**tree["corpus"], **files}
    for key, value in changes.items():
        before = tree.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        tree[key] = {**before, **value} if both else value
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return path
