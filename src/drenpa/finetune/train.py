"""Fine-tune on instructions and on critiques at once, with loss on the assistant's tokens only.

The fine-tuned model can then answer and criticise, which makes it the natural backbone of both the
policy and the critic. Critiques are learned as people gave them, and notes where there are none:
notes are made full for the critic alone, after this stage. What is saved is a whole model in an
ordinary Hugging Face folder: in float32 where all weights were trained, else in the engine's
precision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from drenpa.config import EngineConfig, FinetuneConfig
from drenpa.core.artefacts import Artefact, Plan, as_input, counted, file_input, left_out, run_plan
from drenpa.core.errors import DataError
from drenpa.core.prompts import load_prompt
from drenpa.core.records import Ranking, Record
from drenpa.core.text import units
from drenpa.engine.adapters import (
    add_adapter,
    in_float32,
    load_backbone,
    merge_adapter,
    recompute_activations,
    seed_of,
)
from drenpa.engine.chat import Chat, Message
from drenpa.engine.critiques import CritiqueChat
from drenpa.engine.logprobs import TokenLogprobs, next_token_logprobs
from drenpa.engine.loop import (
    LossSum,
    StepWork,
    Trainee,
    in_chunks,
    rank_and_world,
    share_of_process,
    train_loop,
)
from drenpa.engine.memory_bound import Extent, bounded_as_begun, micro_batch_limit
from drenpa.engine.models import context_of, pick_dtype, resolve_model, writing_weights
from drenpa.engine.policy import MODEL
from drenpa.engine.prefix import Attention, PrefixGroup, suffix_states


@dataclass(frozen=True)
class Sample:
    """One row to learn: what is given, and what the assistant says.

    kind: rows of one kind are given the same instruction, which is computed once for all of them.
    """

    kind: Literal["instruction", "critique"]
    given: tuple[int, ...]
    said: tuple[int, ...]


Encoded = tuple[str, Sample]
"""A row with its language."""


def said_logprobs(
    model: nn.Module, samples: Sequence[Sample], *, attention: Attention
) -> TokenLogprobs:
    """Return the log-probabilities of what the assistant says, and of nothing that is given.

    Rows of one kind share as much of their beginning as they have in common; the order of the rows
    returned is by kind.
    """
    groups, said = [], []
    for kind in dict.fromkeys(sample.kind for sample in samples):
        rows = [sample for sample in samples if sample.kind == kind]
        shared = _alike([row.given[:-1] for row in rows])
        suffixes = tuple((*row.given[shared:], *row.said) for row in rows)
        groups.append(PrefixGroup(rows[0].given[:shared], suffixes))
        said += [len(row.said) for row in rows]
    states = suffix_states(model, groups, attention=attention)
    lengths_N1 = states.mask_NT.sum(dim=1, keepdim=True)
    said_N1 = torch.tensor(said, device=states.mask_NT.device).unsqueeze(1)
    places_T = torch.arange(states.mask_NT.shape[1], device=states.mask_NT.device)
    spoken_NT = states.mask_NT & (places_T >= lengths_N1 - said_N1)
    return next_token_logprobs(model, replace(states, mask_NT=spoken_NT))


@dataclass(frozen=True)
class MicroBatch:
    """Some of a step's samples, and how many tokens are learned in the whole step."""

    samples: tuple[Sample, ...]
    step_tokens: int


def plan_finetune(
    corpus: Artefact,
    config: FinetuneConfig,
    *,
    model: str,
    language: str = "en",
    answer_prompt: str = "answer",
    critique_prompt: str = "critique",
    engine: EngineConfig | None = None,
    root: Path,
    seed: int = 1,
    watched: Collection[str] = (),
    apart: Collection[str] = (),
) -> Plan:
    """Plan the fine-tuning of a model on a corpus.

    model:   a name that `engine.models.resolve_model` knows.
    watched: ids of rankings whose questions a critic on top of this model is measured on between
             its epochs; they are left out as the held-out ones are.
    apart:   ids of rankings whose critiques that critic must not have learned; these are left out.
    """
    engine = engine or EngineConfig()
    folder = resolve_model(model)
    instruction = load_prompt(answer_prompt, language).text
    described = {
        "finetune": config.model_dump(mode="json"),
        "language": language,
        "answer_prompt": instruction,
        "critique_prompt": load_prompt(critique_prompt, language).text,
        "dtype": engine.dtype,
        "model": model,
        "seed": seed,
        "watched": sorted(watched),
        "apart": sorted(apart),
    }

    def work(out: Path) -> Mapping[str, Any]:
        whole = config.train.lora is None
        network, tokenizer = load_backbone(folder, in_float32(engine) if whole else engine)
        chat = Chat(tokenizer)
        limit = min(config.train.max_length, context_of(network))
        samples, counts = _samples(
            corpus,
            chat,
            config,
            instruction,
            critique_prompt,
            language,
            seed,
            limit,
            watched,
            apart,
        )
        if config.train.lora is None:
            network.requires_grad_(True)
        else:
            network = add_adapter(network, config.train.lora, "finetune", seed=seed)
        if config.train.gradient_checkpointing:
            recompute_activations(network)
        micro_batch = micro_batch_limit(
            network,
            engine,
            Extent(1, 1, max(len(sample.given) + len(sample.said) for sample in samples)),
            min(config.train.micro_batch, config.batch),
        )
        steps_an_epoch = -(-len(samples) // config.batch)

        def loss(module: nn.Module, micro: MicroBatch) -> LossSum:
            told = said_logprobs(module, micro.samples, attention=engine.attention)
            return LossSum(-told.logprobs_NT.sum() / micro.step_tokens)

        def stream(step: int) -> StepWork[MicroBatch]:
            epoch, place = divmod(step, steps_an_epoch)
            order = torch.randperm(
                len(samples), generator=torch.Generator().manual_seed(seed_of(seed, "sft", epoch))
            ).tolist()
            rows = [samples[i] for i in order[place * config.batch : (place + 1) * config.batch]]
            tokens = sum(len(row.said) for row in rows)
            mine = in_chunks(share_of_process(rows), micro_batch)
            return StepWork(
                [MicroBatch(tuple(chunk), tokens) for chunk in mine], {"tokens": float(tokens)}
            )

        history = train_loop(
            Trainee(network, loss, engine),
            stream,
            config.train,
            steps=steps_an_epoch * config.epochs,
            folder=out,
            engine=engine,
            seed=seed,
            label="finetune",
        )
        if rank_and_world()[0] == 0:
            if config.train.lora is not None:
                network = merge_adapter(network, "finetune")
                network = network.to(getattr(torch, pick_dtype(engine.dtype, network.device)))
            with writing_weights(out / MODEL):
                network.save_pretrained(out / MODEL)
            tokenizer.save_pretrained(out / MODEL)
        return {
            "samples": counted(counts["taken"]),
            "too_long": counts["too_long"],
            "held_out": counts["held_out"],
            "watched": counts["watched"],
            "warnings": counts["warnings"],
            "steps": len(history),
            "first_loss": history[0]["loss"],
            "last_loss": history[-1]["loss"],
        }

    return Plan(
        kind="policy",
        name="finetune",
        root=root,
        config=described,
        inputs={"corpus": as_input(corpus), "model": file_input(folder)},
        rooms=("engine", "finetune"),
        work=bounded_as_begun(work),
        distributed=True,
    )


def fine_tune(corpus: Artefact, config: FinetuneConfig, **settings: Any) -> Artefact:
    """Fine-tune a model on a corpus; the settings are those of `plan_finetune`."""
    return run_plan(plan_finetune(corpus, config, **settings))


def _alike(rows: Sequence[Sequence[int]]) -> int:
    """Count the tokens with which all rows begin.

    >>> _alike([(1, 2, 3), (1, 2, 4, 5)])
    2
    """
    return sum(1 for _ in takewhile(lambda column: len({*column}) == 1, zip(*rows, strict=False)))


def _samples(
    corpus: Artefact,
    chat: Chat,
    config: FinetuneConfig,
    instruction: str,
    critique_prompt: str,
    language: str,
    seed: int,
    limit: int,
    watched: Collection[str],
    apart: Collection[str],
) -> tuple[list[Sample], dict[str, Any]]:
    """Encode the corpus; rows longer than the limit are left out and counted.

    The questions on which the critic is measured, at the end or between its epochs, are left out
    too, in whichever records and rankings they stand: the model learned here is its backbone, and a
    record's answer may stand among the candidates. So are the critiques of the rankings that stand
    apart in its training.
    """
    records = corpus.rows("records", Record)
    rankings = corpus.rows("rankings", Ranking)
    questions = {record.id: record.question for record in records}
    asked = {record.id: _compared(record.question) for record in records}
    held_out = {asked[r.record] for r in rankings if r.split == "held_out" and r.record in asked}
    watch = {asked[r.record] for r in rankings if r.id in watched and r.record in asked} - held_out
    measured = held_out | watch
    languages = {record.id: record.language for record in records}
    encoded: list[Encoded] = []
    for record in records:
        if record.answer is None or asked[record.id] in measured:
            continue
        given = chat.prompt([Message("system", instruction), Message("user", record.question)])
        said = (*chat.text(record.answer), chat.end_id)
        encoded.append((record.language, Sample("instruction", given, said)))
    critiques: list[Encoded] = []
    criticism = CritiqueChat(
        chat, load_prompt(critique_prompt, language, slots=("question", "answer"))
    )
    for ranking in rankings:
        if ranking.split != "train" or ranking.id in apart or asked[ranking.record] in measured:
            continue
        for candidate in ranking.candidates:
            text = candidate.critique or candidate.note
            if text:
                shared, row = criticism.encode(questions[ranking.record], candidate.answer)
                said = (*chat.text(text), chat.end_id)
                sample = Sample("critique", (*shared, *row), said)
                critiques.append((languages[ranking.record], sample))
    encoded += _some(critiques, config.critique_share, seed)
    fits = [len(sample.given) + len(sample.said) <= limit for _, sample in encoded]
    taken = [sample for (_, sample), whole in zip(encoded, fits, strict=True) if whole]
    if not taken:
        raise DataError(
            f"{corpus.path}: no row of it fits into {limit} tokens, the smaller of "
            "finetune.train.max_length and the model's context; raise the one or take another "
            "model"
        )
    return taken, {
        "taken": [sample.kind for sample in taken],
        "too_long": len(encoded) - len(taken),
        "warnings": left_out(
            (language for language, _ in encoded),
            (language for (language, _), whole in zip(encoded, fits, strict=True) if not whole),
            f"longer than {limit} tokens, the smaller of finetune.train.max_length and the "
            "model's context",
        ),
        "held_out": sum(question in held_out for question in asked.values()),
        "watched": sum(question in watch for question in asked.values()),
    }


def _compared(question: str) -> str:
    """Return what of a question is compared: its words, without case, blanks and signs.

    >>> _compared("What  is rain?") == _compared("what is rain")
    True
    """
    return " ".join(units(question)) or " ".join(question.split())


def _some(rows: Sequence[Encoded], share: float, seed: int) -> list[Encoded]:
    """Take a share of the rows, the same ones for the same seed."""
    order = torch.randperm(
        len(rows), generator=torch.Generator().manual_seed(seed_of(seed, "critique samples"))
    ).tolist()
    return [rows[i] for i in sorted(order[: round(share * len(rows))])]
