"""Which questions a stage asks at each step: a schedule fixed by the seed before the first step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from drenpa.config import StageConfig
from drenpa.core.errors import DataError, TrainingError
from drenpa.core.knowledge import KINDS, Kind
from drenpa.core.records import Record


def schedule(
    records: Sequence[Record], stage: StageConfig, *, seed: int, too_long: int = 0
) -> list[list[Record]]:
    """Return the questions of every step, [steps][prompts].

    Kinds take part in the proportions of `stage.mix`, as evenly over the steps as whole questions
    allow; within a kind every question is asked once before any is asked again.

    too_long: how many questions were left out before, for the message.
    raises:   DataError when a kind of the mix has no question.
    """
    by_kind = {kind: [r for r in records if r.kind == kind] for kind in KINDS}
    for kind, share in stage.mix.items():
        if share > 0 and not by_kind[kind]:
            raise DataError(
                f"stage {stage.name}: mix asks for {kind}, but there is no question of it to ask "
                f"({too_long} of the corpus are too long for train.max_length or the model's "
                f"context with an answer of up to {stage.max_new_tokens} tokens)"
                if too_long
                else f"stage {stage.name}: mix asks for {kind}, but the corpus has none"
            )
    asked = {
        kind: _rounds(sorted(by_kind[kind], key=lambda r: r.id), random.Random(f"{seed} {kind}"))
        for kind in KINDS
        if stage.mix[kind] > 0
    }
    kinds = _proportional(stage.mix, stage.steps * stage.prompts)
    steps = [
        kinds[start : start + stage.prompts]
        for start in range(0, stage.steps * stage.prompts, stage.prompts)
    ]
    return [[next(asked[kind]) for kind in step] for step in steps]


def measure_gate(history: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Return what a gate asks about: means over the last quarter of a stage's steps; None where no
    step of these has the figure, as steps have no KL in which all groups were silent.

    reward_gain: the mean raw reward of the last quarter minus that of the first.
    kl:          nats per token from the reference.
    truncated:   share of answers that the length limit cut.
    """
    quarter = max(1, len(history) // 4)

    def mean(name: str, rows: Sequence[Mapping[str, float]]) -> float | None:
        values = [row[name] for row in rows if name in row]
        return sum(values) / len(values) if values else None

    first, last = history[:quarter], history[-quarter:]
    begun, ended = mean("reward", first), mean("reward", last)
    return {
        "reward_gain": None if begun is None or ended is None else ended - begun,
        "kl": mean("kl", last),
        "truncated": mean("truncated", last),
    }


def check_gate(stage: StageConfig, found: Mapping[str, float | None]) -> None:
    """Compare what a finished stage measured with its gate; its policy is kept either way.

    raises: TrainingError when the gate does not hold.
    """
    gate = stage.gate
    bounds = (
        ("reward_gain", "at least", gate.min_reward_gain),
        ("kl", "at most", gate.max_kl),
        ("truncated", "at most", gate.max_truncated),
    )
    broken = []
    for name, word, bound in bounds:
        value = found[name]
        if bound is None:
            continue
        if value is None:
            broken.append(f"{name} could not be measured, the gate asks for {word} {bound:g}")
        elif not (value >= bound if word == "at least" else value <= bound):
            broken.append(f"{name} is {value:.4g}, the gate asks for {word} {bound:g}")
    if broken:
        raise TrainingError(
            f"stage {stage.name}: {'; '.join(broken)}; the run stops here. The stage's policy is "
            "kept: look at it, then change the stage or its gate and run again"
        )


def _rounds(records: Sequence[Record], chance: random.Random) -> Iterator[Record]:
    while True:
        order = list(records)
        chance.shuffle(order)
        yield from order


def _proportional(shares: Mapping[Kind, float], count: int) -> list[Kind]:
    """Return `count` kinds whose every beginning is as near to the shares as whole numbers allow.

    >>> _proportional({"foundation": 2.0, "connection": 1.0}, 6)
    ['foundation', 'connection', 'foundation', 'foundation', 'connection', 'foundation']
    """
    total = sum(shares.values())
    given: dict[Kind, int] = {kind: 0 for kind, share in shares.items() if share > 0}
    sequence: list[Kind] = []
    for place in range(1, count + 1):
        kind = max(given, key=lambda k: place * shares[k] / total - given[k])
        given[kind] += 1
        sequence.append(kind)
    return sequence
