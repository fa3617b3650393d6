"""Reinforce a policy: one stage, from a policy artefact to a policy artefact.

The policy is an adapter on the fine-tuned backbone, the critic another, and the reference the
backbone with adapters off (or, after a reset, the policy as the stage found it). With `lora: null`
every weight is trained, in float32, as the reference is held, and it and the critic have a backbone
of their own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drenpa.config import EngineConfig, RewardPart, StageConfig
from drenpa.core.artefacts import (
    SCRATCH,
    Artefact,
    Plan,
    append_line,
    as_input,
    journal_lines,
    left_out,
    run_plan,
)
from drenpa.core.errors import ConfigError
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Record
from drenpa.core.roles import Draft, Generator, Scorer
from drenpa.engine.adapters import (
    add_adapter,
    at_rest,
    in_float32,
    load_adapter,
    load_backbone,
    merge_adapter,
    recompute_activations,
    save_adapter,
    seed_of,
    set_dropout,
    use_adapter,
)
from drenpa.engine.logprobs import TokenLogprobs, next_token_logprobs
from drenpa.engine.loop import (
    LossSum,
    StepWork,
    Trainee,
    from_first_process,
    in_chunks,
    rank_and_world,
    share_of_process,
    train_loop,
)
from drenpa.engine.memory_bound import (
    Extent,
    bounded_as_begun,
    loaded_beside,
    micro_batch_limit,
)
from drenpa.engine.models import writing_weights
from drenpa.engine.policy import MODEL, LanguageModel, Policy, model_folders
from drenpa.engine.prefix import PrefixGroup, suffix_states
from drenpa.engine.vllm_generator import VllmGenerator
from drenpa.grpo.objective import Objective, StepCounts, step_loss
from drenpa.grpo.rollout import Answers, Pushes, collect, make_pushes
from drenpa.grpo.stages import measure_gate, schedule

ScorerLoader = Callable[..., Scorer]
"""Loads a critic's artefact as a scorer, given `engine` and a `backbone` to put its adapter on."""


@dataclass(frozen=True)
class MicroBatch:
    """Some of a step's groups, ready for the loss; the counts are the whole step's.

    sampled_NT: [N, T] log-probabilities by another engine that sampled, NaN where it told none;
                None when the policy sampled by itself.
    """

    groups: tuple[PrefixGroup, ...]
    advantages_PG: Tensor
    rewards_PG: Tensor
    weights_P: Tensor
    counts: StepCounts
    sampled_NT: Tensor | None = None


@dataclass(frozen=True)
class Networks:
    """The models of a stage; with adapters `policy` and `reference` are one set of weights.

    reference_adapter: the adapter that makes `reference` the reference; None for none.
    """

    policy: Any
    reference: Any
    reference_adapter: str | None
    tokenizer: Any


def plan_reinforce(
    start: Artefact,
    backbone: Artefact,
    corpus: Artefact,
    scorers: Mapping[RewardPart, Artefact],
    stage: StageConfig,
    *,
    load_scorer: ScorerLoader,
    strategy: str,
    language: str = "en",
    answer_prompt: str = "answer",
    engine: EngineConfig | None = None,
    root: Path,
    seed: int = 1,
    at_checkpoint: Callable[[Path, int], object] | None = None,
) -> Plan:
    """Plan one stage of a strategy.

    start:       the policy it begins from; the fine-tuned backbone itself, or an earlier stage's.
    scorers:     the critics that the parts of the stage's reward need.
    load_scorer: how to make a `Scorer` of a critic's artefact (`critic.score.load_critic`).
    at_checkpoint: called after each checkpoint with the stage's folder and how many steps it made
                 (`report.watch.watch_checkpoint` raises the alarm there).
    raises:      ConfigError when the start is no policy that the stage can go on with, or a part of
                 the reward has no critic.
    """
    engine = engine or EngineConfig()
    _check_start(start, backbone, stage)
    _check_scorers(scorers, stage)
    instruction = load_prompt(answer_prompt, language).text
    needed = {part: scorers[part] for part, w in stage.reward.items() if w and part in scorers}
    inputs: dict[str, dict[str, str]] = {
        "backbone": as_input(backbone),
        "start": as_input(start),
        "corpus": as_input(corpus),
    }
    inputs.update({str(part): as_input(artefact) for part, artefact in needed.items()})
    stage_seed = seed_of(seed, strategy, stage.name)

    def work(out: Path) -> Mapping[str, Any]:
        networks = _load_networks(start, backbone, stage, engine, seed=stage_seed)
        room = LanguageModel(networks.policy, networks.tokenizer, engine)
        policy = Policy(room, instruction)
        limit = min(stage.train.max_length, room.context)
        records = [r for r in corpus.rows("records", Record) if r.split == "train"]
        fitting = [
            r for r in records if len(policy.prompt_ids(r.question)) + stage.max_new_tokens <= limit
        ]
        too_long = len(records) - len(fitting)
        kept = {record.id for record in fitting}
        warnings = left_out(
            (r.language for r in records),
            (r.language for r in records if r.id not in kept),
            f"no room beside the question for an answer of {stage.max_new_tokens} tokens in "
            f"{limit}, the smaller of train.max_length and the model's context",
        )
        steps = schedule(fitting, stage, seed=stage_seed, too_long=too_long)
        shared = room if stage.train.lora is not None else None  # one set of weights, or several
        loaded = {
            part: load_scorer(artefact, engine=engine, backbone=shared)
            for part, artefact in needed.items()
        }
        longest = max(len(policy.prompt_ids(r.question)) for records in steps for r in records)
        micro_batch = micro_batch_limit(
            networks.policy,
            engine,
            Extent(longest - 1, stage.group, 1 + stage.max_new_tokens),
            min(stage.train.micro_batch, stage.prompts),
            others=_others(networks, loaded),
        )
        objective = Objective(**stage.objective.model_dump())
        generator: Generator = policy
        if engine.sampler == "vllm" and rank_and_world()[0] == 0:
            generator = VllmGenerator(
                policy,
                adapter="policy",
                backbone=model_folders(backbone)[0],
                scratch=out / SCRATCH / "vllm",
                max_length=limit,
                gpu_share=engine.vllm_share,
                seed=stage_seed,
            )
        samples = _Samples(out / "samples.jsonl", logprobs=engine.sampler == "vllm")

        def answers_of(step: int) -> Answers:
            answers = samples.found(step, steps[step])
            if answers is None:
                answers = collect(steps[step], generator, loaded, stage, seed=stage_seed, step=step)
                samples.keep(step, answers)
            return answers

        def stream(step: int) -> StepWork[MicroBatch]:
            answers = from_first_process(lambda: answers_of(step))
            pushes = make_pushes(answers, stage, objective)
            places = share_of_process(range(len(pushes.kept)))
            micro_batches = [
                _micro_batch(list(chunk), answers, pushes, policy, engine.sampler == "vllm")
                for chunk in in_chunks(places, micro_batch)
            ]
            return StepWork(micro_batches, {**pushes.metrics, "too_long": float(too_long)})

        def loss(module: nn.Module, micro: MicroBatch) -> LossSum:
            return _loss(module, micro, networks, objective, stage, engine)

        with loaded_beside(networks.policy, *_others(networks, loaded)):
            history = train_loop(
                Trainee(networks.policy, loss, engine),
                stream,
                stage.train,
                steps=stage.steps,
                folder=out,
                engine=engine,
                seed=stage_seed,
                label=f"{strategy}: {stage.name}",
                at_checkpoint=at_checkpoint,
            )
        gate = measure_gate(history)
        if rank_and_world()[0] == 0:
            _save(networks, stage, backbone, out / MODEL)
        return {
            "strategy": strategy,
            "stage": stage.name,
            "steps": len(history),
            "too_long": too_long,
            "warnings": warnings,
            "gate": gate,
            "first_reward": history[0].get("reward"),
            "last_reward": history[-1].get("reward"),
            "zero_spread": sum(h["zero_spread"] for h in history) / len(history),
        }

    return Plan(
        kind="policy",
        name=f"reinforce-{strategy}-{stage.name}",
        root=root,
        config={
            "stage": stage.model_dump(mode="json", exclude={"gate": True}),
            "strategy": strategy,
            "instruction": instruction,
            "dtype": engine.dtype,
            "sampler": engine.sampler,
            "seed": seed,
        },
        inputs=inputs,
        rooms=("engine", "grpo", "critic"),
        work=bounded_as_begun(work),
        distributed=True,
    )


def reinforce(
    start: Artefact,
    backbone: Artefact,
    corpus: Artefact,
    scorers: Mapping[RewardPart, Artefact],
    stage: StageConfig,
    **settings: Any,
) -> Artefact:
    """Run one stage of reinforcement learning; the settings are those of `plan_reinforce`."""
    return run_plan(plan_reinforce(start, backbone, corpus, scorers, stage, **settings))


def _check_start(start: Artefact, backbone: Artefact, stage: StageConfig) -> None:
    """Refuse to train an adapter that the starting policy has not got.

    raises: ConfigError when the start is a whole model other than the backbone, or has an adapter
            of another shape.
    """
    lora = stage.train.lora
    adapter = model_folders(start)[1]
    if lora is None or start.digest == backbone.digest:
        return
    if adapter is None:
        raise ConfigError(
            f"stage {stage.name}: train.lora: it starts from {start.path}, whose whole weights "
            "were trained; set train.lora to null here too"
        )
    entries = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if (entries["r"], entries["lora_alpha"]) != (lora.rank, lora.alpha):
        raise ConfigError(
            f"stage {stage.name}: train.lora: rank {lora.rank} and alpha {lora.alpha:g}, but it "
            f"goes on training the adapter of {start.path} with rank {entries['r']} and alpha "
            f"{entries['lora_alpha']:g}; write the same"
        )


def _check_scorers(scorers: Mapping[RewardPart, Artefact], stage: StageConfig) -> None:
    """Refuse a reward that nobody is there to give."""
    faults = [
        f"stage {stage.name}: reward.{part}: no artefact is given that scores it; put one into "
        "`scorers`, or set its weight to 0"
        for part, weight in stage.reward.items()
        if weight and part != "finished" and part not in scorers
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _load_networks(
    start: Artefact, backbone: Artefact, stage: StageConfig, engine: EngineConfig, *, seed: int
) -> Networks:
    """Load the backbone once with the stage's adapters, or, without adapters, each role's model."""
    start_folder, start_adapter = model_folders(start)
    if stage.train.lora is None:
        # Both from float32 weights: one of them rounded, and the divergence would be the rounding.
        policy, tokenizer = _whole(start_folder, start_adapter, in_float32(engine))
        policy.requires_grad_(True)
        if stage.train.gradient_checkpointing:
            recompute_activations(policy)
        fixed = start if stage.reset_reference else backbone
        reference, _ = _whole(*model_folders(fixed), in_float32(engine))
        return Networks(policy, reference, None, tokenizer)
    model, tokenizer = load_backbone(model_folders(backbone)[0], engine)
    reference_adapter = None
    if start_adapter is None:
        model = add_adapter(model, stage.train.lora, "policy", seed=seed)
    else:
        model = load_adapter(model, start_adapter, "policy", trainable=True)
        set_dropout(model, "policy", stage.train.lora.dropout)
        if stage.reset_reference:
            model = load_adapter(model, start_adapter, "reference")
            reference_adapter = "reference"
            model.set_adapter("policy")
    if stage.train.gradient_checkpointing:
        recompute_activations(model)
    return Networks(model, model, reference_adapter, tokenizer)


def _others(networks: Networks, scorers: Mapping[RewardPart, Scorer]) -> list[nn.Module]:
    """Return what is loaded beside the policy; what shares its weights is no harm."""
    models = [networks.reference, *(getattr(scorer, "model", None) for scorer in scorers.values())]
    return [model for model in models if isinstance(model, nn.Module)]


def _whole(folder: Path, adapter: Path | None, engine: EngineConfig) -> tuple[Any, Any]:
    """Load a policy as one model without adapters, and its tokenizer."""
    model, tokenizer = load_backbone(folder, engine)
    if adapter is not None:
        model = merge_adapter(load_adapter(model, adapter, "p"), "p")
    return model, tokenizer


def _micro_batch(
    places: Sequence[int], answers: Answers, pushes: Pushes, policy: Policy, corrected: bool
) -> MicroBatch:
    groups = []
    sampled: list[Tensor] = []
    for place in places:
        kept = pushes.kept[place]
        prompt = policy.prompt_ids(answers.records[kept].question)
        groups.append(
            PrefixGroup(
                prompt[:-1],
                tuple((prompt[-1], *d.tokens, *d.stop) for d in answers.drafts[kept]),
            )
        )
        if corrected:
            sampled += [torch.tensor(draft.logprobs) for draft in answers.drafts[kept]]
    device = policy.language_model.device
    sampled_NT = None
    if corrected:
        sampled_NT = nn.utils.rnn.pad_sequence(sampled, batch_first=True, padding_value=math.nan)
    return MicroBatch(
        groups=tuple(groups),
        advantages_PG=pushes.advantages_PG[places].to(device),
        rewards_PG=pushes.rewards_PG[places].to(device),
        weights_P=pushes.weights_P[places].to(device),
        counts=pushes.counts,
        sampled_NT=None if sampled_NT is None else sampled_NT.to(device),
    )


def _loss(
    module: nn.Module,
    micro: MicroBatch,
    networks: Networks,
    objective: Objective,
    stage: StageConfig,
    engine: EngineConfig,
) -> LossSum:
    """P10, and P11 where it has a weight, over the micro-batch's rows.

    On-policy, the old log-probabilities are the new ones, detached. The reference runs over the
    very same batch, so that rounding is the same in both, and at rest: of its own it drops nothing
    out.
    """

    def told(model: nn.Module, *, entropy: bool) -> TokenLogprobs:
        states = suffix_states(model, micro.groups, attention=engine.attention)
        return next_token_logprobs(model, states, temperature=stage.temperature, entropy=entropy)

    new = told(module, entropy=True)
    with (
        torch.no_grad(),
        at_rest(networks.reference),
        use_adapter(networks.reference, networks.reference_adapter),
    ):
        reference = told(networks.reference, entropy=False)
    result = step_loss(
        new.logprobs_NT,
        new.logprobs_NT.detach(),
        reference.logprobs_NT,
        micro.advantages_PG,
        micro.rewards_PG,
        micro.weights_P,
        new.mask_NT,
        micro.counts,
        objective,
        micro.sampled_NT,
    )
    tokens_N = new.mask_NT.sum(dim=1).clamp(min=1)
    entropy = (new.entropy_NT.sum(dim=1) / tokens_N).sum() / max(micro.counts.kept, 1)
    metrics = {"kl": result.kl, "clipped": result.clipped, "entropy": entropy}
    if micro.sampled_NT is not None:
        metrics["importance"] = result.importance
    if objective.pair_coef > 0:
        metrics["pair_loss"] = result.pair_loss
    return LossSum(result.loss, metrics)


def _save(networks: Networks, stage: StageConfig, backbone: Artefact, folder: Path) -> None:
    if stage.train.lora is None:
        with writing_weights(folder):  # in float32: an update may be below bfloat16
            networks.policy.save_pretrained(folder)
    else:
        save_adapter(networks.policy, "policy", folder, base=model_folders(backbone)[0])
    networks.tokenizer.save_pretrained(folder)


class _Samples:
    """Every step's answers, rewards and critiques, a line a step: to be read, and not to be paid
    for twice.

    After a kill the steps behind the last checkpoint are trained again from the same weights, and
    their answers stand here already.
    """

    def __init__(self, path: Path, *, logprobs: bool) -> None:
        self._path = path
        self._logprobs = logprobs
        self._known = {line["step"]: line for line in journal_lines(path)}

    def found(self, step: int, records: Sequence[Record]) -> Answers | None:
        """Return the answers of a step that was sampled before, if they are to these questions."""
        line = self._known.get(step)
        if line is None or [g["record"] for g in line["groups"]] != [r.id for r in records]:
            return None
        groups = [group["answers"] for group in line["groups"]]
        return Answers(
            records=tuple(records),
            drafts=tuple(
                tuple(
                    Draft(
                        a["text"],
                        tuple(a["tokens"]),
                        tuple(a.get("logprobs", ())),
                        a["finish"],
                        tuple(a["stop"]),
                    )
                    for a in group
                )
                for group in groups
            ),
            rewards={
                part: tuple(tuple(_number(a["rewards"][part]) for a in group) for group in groups)
                for part in groups[0][0]["rewards"]
            },
            critiques=tuple(tuple(a["critique"] for a in group) for group in groups),
            seconds_sampling=line["seconds_sampling"],
            seconds_scoring=line["seconds_scoring"],
        )

    def keep(self, step: int, answers: Answers) -> None:
        """Append a step's answers."""
        groups = []
        for place, record in enumerate(answers.records):
            told = [
                {
                    "text": draft.text,
                    "finish": draft.finish,
                    "rewards": {
                        part: rows[place][g] if math.isfinite(rows[place][g]) else None
                        for part, rows in answers.rewards.items()
                    },
                    "critique": answers.critiques[place][g],
                    "tokens": list(draft.tokens),
                    "stop": list(draft.stop),
                    **({"logprobs": list(draft.logprobs)} if self._logprobs else {}),
                }
                for g, draft in enumerate(answers.drafts[place])
            ]
            groups.append(
                {
                    "record": record.id,
                    "kind": record.kind,
                    "question": record.question,
                    "answers": told,
                }
            )
        seconds = {
            "seconds_sampling": answers.seconds_sampling,
            "seconds_scoring": answers.seconds_scoring,
        }
        append_line(self._path, {"step": step, **seconds, "groups": groups})


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
