"""The ladder of judges: from what a recipe names to one that judges.

From rules that read nothing to people: each rung has the same interface and gives the same verdict,
so a benchmark may stand on any of them, or on several as a panel.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drenpa.config import EngineConfig, JudgeConfig
from drenpa.core.artefacts import Artefact, as_input, file_input, model_input
from drenpa.core.endpoint import address_of
from drenpa.core.errors import ConfigError
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.roles import Scorer
from drenpa.core.store import Store
from drenpa.judge.critic_judge import CriticJudge
from drenpa.judge.endpoint import EndpointJudge, judge_prompt
from drenpa.judge.judges import Judge
from drenpa.judge.likeness import LikenessJudge, StateReader
from drenpa.judge.local import LocalJudge
from drenpa.judge.offline import OfflineJudge
from drenpa.judge.probability import Reader
from drenpa.judge.recorded import RecordedJudge
from drenpa.judge.reference import ReferenceJudge
from drenpa.judge.rubric import rubric_lines
from drenpa.judge.rules import RulesJudge

LoadScorer = Callable[[Artefact], Scorer]
_COMMIT = re.compile(r"[0-9a-f]{40}")
READERS = ("offline", "likeness", "local")
"""Judges that read a local model's probabilities or states."""


@dataclass(frozen=True)
class Setting:
    """What judges need beside their own settings.

    model:    the recipe's, read by judges that name no other.
    language: of the judge's prompt.
    critic, load_scorer: for the judge `critic` only.
    """

    model: str
    language: str = "en"
    engine: EngineConfig = field(default_factory=EngineConfig)
    critic: Artefact | None = None
    load_scorer: LoadScorer | None = None


def members_of(config: JudgeConfig) -> tuple[JudgeConfig, ...]:
    """Return the judges of a panel, or the one judge."""
    return config.members or (config,)


def judge_inputs(config: JudgeConfig, setting: Setting) -> dict[str, dict[str, str]]:
    """Return what the judges read, as inputs of the benchmark.

    raises: ConfigError when the critic is to judge and there is none.
    """
    inputs = {}
    members = members_of(config)
    for place, member in enumerate(members, 1):
        name = "judge" if len(members) == 1 else f"judge-{place}"
        if member.name in READERS:
            inputs[name] = model_input(member.model or setting.model)
        if member.name == "recorded":
            if not Path(member.file).is_file():
                raise ConfigError(f"benchmark.judge.file: {member.file}: no such file")
            inputs[name] = file_input(Path(member.file))
        if member.name == "critic":
            if setting.critic is None or setting.load_scorer is None:
                raise ConfigError(
                    "benchmark.judge.name: critic needs the critic of this run; this strategy has "
                    "none"
                )
            inputs[name] = as_input(setting.critic)
    return inputs


def judge_described(config: JudgeConfig, setting: Setting) -> dict[str, Any]:
    """Return what of the judge's settings can change a verdict."""
    return {
        "max_unscored": config.max_unscored,
        "members": [_member_described(member, setting) for member in members_of(config)],
    }


def _member_described(config: JudgeConfig, setting: Setting) -> dict[str, Any]:
    described: dict[str, Any] = {"name": config.name}
    if config.name in READERS:
        described["model"] = config.model or setting.model
    if config.name == "local":
        described["rubric"] = rubric_lines(DIMENSIONS, setting.language)
    if config.name == "openai":
        described |= {
            "model": config.model,
            "base_url": address_of(config.base_url),
            "request": config.request,
            "prompt": judge_prompt(config.prompt, setting.language).text,
            "structured": config.structured,
            "rotate": config.rotate,
            "repeats": config.repeats,
        }
    return described


def check_judges(config: JudgeConfig, setting: Setting) -> None:
    """Make the judges that need no model, so that what they lack is told before the answers."""
    for member in members_of(config):
        if member.name not in (*READERS, "critic"):
            load_judge(member, setting, None)


def load_judge(config: JudgeConfig, setting: Setting, store: Store | None) -> Judge:
    """Return one judge, its model loaded.

    store:  of replies that an endpoint was paid for.
    raises: ConfigError or DataError when it lacks what it needs; ConfigError for a panel, which is
            made of several.
    """
    if config.name in READERS:
        from drenpa.engine.policy import load_policy

        source = config.model or setting.model
        language_model = load_policy(source, engine=setting.engine).language_model
        name = Path(source).name
        identity = {
            "model": name,
            "revision": revision_of(source),
            "dtype": setting.engine.dtype,
        }
        if config.name == "offline":
            return OfflineJudge(Reader(language_model), name, identity)
        if config.name == "likeness":
            return LikenessJudge(StateReader(language_model), name, identity)
        return LocalJudge(Reader(language_model), name, identity, setting.language)
    if config.name == "rules":
        return RulesJudge()
    if config.name == "reference":
        return ReferenceJudge()
    if config.name == "openai":
        return EndpointJudge(config, setting.language, store)
    if config.name == "recorded":
        return RecordedJudge(Path(config.file))
    if config.name == "critic" and setting.critic is not None and setting.load_scorer is not None:
        return CriticJudge(setting.load_scorer(setting.critic), setting.critic.digest)
    raise ConfigError(f"benchmark.judge.name: {config.name} cannot judge here")


def revision_of(source: Artefact | str) -> str:
    """Return what tells a model's weights from all others: a hub commit, or a digest of the
    bytes."""
    if isinstance(source, Artefact):
        below = sorted(entry["digest"] for entry in source.inputs.values())
        return " ".join([source.digest, *below])
    from drenpa.engine.models import resolve_model

    folder = resolve_model(source)
    if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name):  # the hub's cache
        return folder.name
    return file_input(folder)["digest"]
