"""drenpa makes a small language model remember what matters.

Importing this package loads neither torch nor transformers; the names below load what they need
when first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if os.name == "nt":
    raise ImportError("drenpa runs on Linux and macOS; on Windows install it in WSL")

if TYPE_CHECKING:
    from drenpa.config import load_recipe
    from drenpa.corpus.curate import curate
    from drenpa.critic.score import load_critic
    from drenpa.critic.train import train_critic
    from drenpa.engine.policy import load_policy
    from drenpa.finetune.train import fine_tune
    from drenpa.grpo.train import reinforce
    from drenpa.judge.bench import benchmark
    from drenpa.pipeline import run_recipe
    from drenpa.report.build import write_report

__all__ = [
    "__version__",
    "benchmark",
    "curate",
    "fine_tune",
    "load_critic",
    "load_policy",
    "load_recipe",
    "reinforce",
    "run_recipe",
    "train_critic",
    "write_report",
]

_HOME = {
    "benchmark": "drenpa.judge.bench",
    "curate": "drenpa.corpus.curate",
    "fine_tune": "drenpa.finetune.train",
    "load_critic": "drenpa.critic.score",
    "load_policy": "drenpa.engine.policy",
    "load_recipe": "drenpa.config",
    "reinforce": "drenpa.grpo.train",
    "run_recipe": "drenpa.pipeline",
    "train_critic": "drenpa.critic.train",
    "write_report": "drenpa.report.build",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'drenpa' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
