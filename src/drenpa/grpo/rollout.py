"""One step's experience: answers sampled by the policy, criticised and scored, made into pushes.

Everything that turns rewards into advantages is in `objective`; here are the questions, the two
roles (a `Generator` and `Scorer`s), and what is counted on the way.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drenpa.config import RewardPart, StageConfig
from drenpa.core.errors import ScoringError
from drenpa.core.knowledge import KINDS
from drenpa.core.records import Record
from drenpa.core.roles import Draft, Generator, Sampling, Scorer
from drenpa.grpo.objective import (
    Objective,
    StepCounts,
    advantages,
    flat_groups,
    gradient_mass,
    normalise_rewards,
    pairs_in,
)


@dataclass(frozen=True)
class Answers:
    """A step's questions with their sampled answers and what was said of them, [P] and [P][G].

    rewards: one table for each part of the reward; NaN where an answer could not be scored.
    """

    records: tuple[Record, ...]
    drafts: tuple[tuple[Draft, ...], ...]
    rewards: Mapping[RewardPart, tuple[tuple[float, ...], ...]]
    critiques: tuple[tuple[str, ...], ...]
    seconds_sampling: float
    seconds_scoring: float


@dataclass(frozen=True)
class Pushes:
    """What the update needs of the groups that carry signal, and what is worth knowing of all.

    kept:          the places (in `Answers.records`) of the groups that take part.
    advantages_PG: [P kept, G].
    rewards_PG:    [P kept, G] normalised, for P11.
    weights_P:     [P kept] kind weights.
    counts:        the whole step's: losses are divided by these.
    """

    kept: tuple[int, ...]
    advantages_PG: Tensor
    rewards_PG: Tensor
    weights_P: Tensor
    counts: StepCounts
    metrics: Mapping[str, float]


def collect(
    records: Sequence[Record],
    generator: Generator,
    scorers: Mapping[RewardPart, Scorer],
    stage: StageConfig,
    *,
    seed: int,
    step: int,
) -> Answers:
    """Sample `stage.group` answers to each question and score them by every part of the reward."""
    began = time.perf_counter()
    sampling = Sampling(
        max_new_tokens=stage.max_new_tokens, temperature=stage.temperature, seed=seed
    )
    questions = [record.question for record in records]
    drafts = generator.generate(questions, group=stage.group, sampling=sampling, key=(step,))
    sampled = time.perf_counter()
    texts = [[draft.text for draft in group] for group in drafts]
    rewards: dict[RewardPart, tuple[tuple[float, ...], ...]] = {}
    critiques: tuple[tuple[str, ...], ...] = tuple(("",) * stage.group for _ in records)
    for part, weight in stage.reward.items():
        if weight == 0:
            continue
        if part == "finished":
            rewards[part] = tuple(
                tuple(float(draft.finish == "stop") for draft in group) for group in drafts
            )
            continue
        scores = scorers[part].score(questions, texts)
        rewards[part] = scores.rewards
        if any(critique for group in scores.critiques for critique in group):
            critiques = scores.critiques
    return Answers(
        records=tuple(records),
        drafts=tuple(tuple(group) for group in drafts),
        rewards=rewards,
        critiques=critiques,
        seconds_sampling=sampled - began,
        seconds_scoring=time.perf_counter() - sampled,
    )


def make_pushes(answers: Answers, stage: StageConfig, objective: Objective) -> Pushes:
    """Turn a step's rewards into advantages: P4 over the batch, then P7, P8 and P9.

    Several parts of a reward are each normalised over the batch, added by weight, and normalised
    again; one part alone is plain P4. A group with an unscored answer, and a group whose rewards
    are all equal, take no part and are counted.

    raises: ScoringError when more than half of the groups hold an unscored answer.
    """
    tables = {part: torch.tensor(rows) for part, rows in answers.rewards.items()}
    scored_P = torch.stack([t.isfinite().all(dim=1) for t in tables.values()]).all(dim=0)
    unscored = int((~scored_P).sum())
    if 2 * unscored > len(answers.records):
        raise ScoringError(
            f"stage {stage.name}: {unscored} of {len(answers.records)} groups hold an answer that "
            "the scorer gave no number; look at samples.jsonl"
        )
    combined_PG = torch.zeros(int(scored_P.sum()), stage.group)
    for part, table_PG in tables.items():
        combined_PG += stage.reward[part] * normalise_rewards(table_PG[scored_P])
    combined_PG = normalise_rewards(combined_PG)
    flat_P = flat_groups(combined_PG)
    places = torch.nonzero(scored_P).flatten()
    weights_P = torch.tensor([stage.weights[answers.records[i].kind] for i in places.tolist()])
    advantages_PG = advantages(combined_PG, weights_P, objective)
    kept_P = ~flat_P & (weights_P > 0)
    kept = tuple(places[kept_P].tolist())
    pairs = pairs_in(combined_PG[kept_P], objective.pair_floor)
    return Pushes(
        kept=kept,
        advantages_PG=advantages_PG[kept_P],
        rewards_PG=combined_PG[kept_P],
        weights_P=weights_P[kept_P],
        counts=StepCounts(combined_PG.numel(), int(kept_P.sum()) * stage.group, pairs),
        metrics=_metrics(answers, stage, flat_P, unscored, pairs)
        | _mass(answers, places, gradient_mass(advantages_PG)),
    )


def _metrics(
    answers: Answers, stage: StageConfig, flat_P: Tensor, unscored: int, pairs: int
) -> dict[str, float]:
    drafts = [draft for group in answers.drafts for draft in group]
    tokens = sum(len(draft.tokens) for draft in drafts)
    main = max(answers.rewards, key=lambda part: abs(stage.reward[part]))
    found = {
        "length": tokens / len(drafts),
        "truncated": _mean([float(draft.finish == "length") for draft in drafts]),
        "zero_spread": float(flat_P.float().mean()) if flat_P.numel() else 0.0,
        "unscored_groups": float(unscored),
        "pairs": float(pairs),
        "seconds_sampling": answers.seconds_sampling,
        "seconds_scoring": answers.seconds_scoring,
        "tokens_per_second": tokens / max(answers.seconds_sampling, 1e-9),
    }
    kinds = [record.kind for record in answers.records]
    rewards: dict[str, Sequence[Sequence[float]]] = {"reward": answers.rewards[main]}
    rewards |= {f"reward_{part}": table for part, table in answers.rewards.items()}
    for kind in KINDS:
        pairs_of_kind = zip(kinds, answers.rewards[main], strict=True)
        rewards[f"reward_{kind}"] = [row for of, row in pairs_of_kind if of == kind]
    # What nobody scored has no figure: a zero may be more than any score.
    found |= {name: _mean(values) for name, rows in rewards.items() if (values := _values(rows))}
    spreads = [spread for row in answers.rewards[main] if (spread := _spread(row)) is not None]
    return found | ({"spread": _mean(spreads)} if spreads else {})


def _mass(answers: Answers, places: Tensor, mass_P: Tensor) -> dict[str, float]:
    kinds = [answers.records[place].kind for place in places.tolist()]
    return {
        f"mass_{kind}": sum(
            float(mass) for mass, of in zip(mass_P, kinds, strict=True) if of == kind
        )
        for kind in sorted(set(kinds))
    }


def _values(table: Sequence[Sequence[float]]) -> list[float]:
    return [value for row in table for value in row if math.isfinite(value)]


def _spread(row: Sequence[float]) -> float | None:
    """The standard deviation of what was scored; None of fewer than two."""
    values = [value for value in row if math.isfinite(value)]
    return statistics.pstdev(values) if len(values) > 1 else None


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0
