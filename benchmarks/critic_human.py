"""The critic on human judgements: against scalar scorers, and what its critiques are worth to it.

All arms of a seed start from one model and see the same rankings as often, with adapters of one
rank, at one learning rate. The critic's arms have their first three epochs in common and differ in
the fourth, in which its head reads (some of) its own critiques. What is told: pair accuracy with
people's, its own, no and shuffled critiques, *gap* (people's − own) and *use* (own − shuffled).
*Spread* is the mean over an answer's likeliest critiques of its own, weighed by their probability.

    python benchmarks/critic_human.py --model MODEL --data ../shared/data --out runs/critic-human \\
        --sets dialogue shepherd --seeds 1 2 3 --arms half own hidden scalar --samples 4
    python benchmarks/critic_human.py --arms --plot docs/images/critic-frontier.svg

Without `--model` nothing is run, and the rows that are there are told.

Each seed tests on another third of the groups and trains on the others; a group is all that stands
with one question. Validation groups, by which arms are chosen, are in no third. A row for each
(model, trained on, arm, seed, set, part) goes into the file of rows; what is there is not run
again. Each trained critic is left in its folder under `--out`, beside the pairs that it was tested
on, as `drenpa critic card` and `eval` take them.

With `--ranked N` all but N of the training rankings lose their order and keep their critiques: a
note on an answer is had more easily than a comparison of several. The arm `apart` has the critic
learn to write from those and to score from the N that stand apart (`critic.apart_share`); the
scalar scorers learn from the N rankings alone, going over them as often as the critic's head does
(`--passes`). The arm `noted` is `apart` with critiques that nobody wrote out, bare notes of
people's verdict: it is told more of the rankings without order than the others are. The arms
`scalar-turns`, `-drawn` and `-turns-drawn` are the scalar scorer with what TRL's does otherwise.

Which sets there are stands in `critic_sets.py`, and how the rows are told in `critic_told.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from critic_sets import (
    SETS,
    SIZES,
    Parts,
    Ranked,
    clear_pairs,
    json_lines,
    noted,
    parted,
    read_json,
)
from critic_told import plot, shown, told
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence

from drenpa.config import CriticConfig, EngineConfig, LoraConfig, TrainConfig
from drenpa.core.prompts import Prompt
from drenpa.core.roles import Sampling
from drenpa.critic.accuracy import right_order
from drenpa.critic.examples import Example, Examples, pairs_of
from drenpa.critic.layout import Asked, Layout
from drenpa.critic.objective import score_loss
from drenpa.critic.score import Critic, CriticSettings
from drenpa.critic.train import OWN_TEMPERATURE, Lesson, MicroBatch, _Training, measure
from drenpa.engine.adapters import seed_of, trainable_parameters
from drenpa.engine.backbone import backbone_of
from drenpa.engine.chat import Message
from drenpa.engine.loop import LossSum, Trainee, train_loop
from drenpa.engine.models import pick_device, pick_dtype
from drenpa.engine.prefix import PrefixGroup, suffix_states
from drenpa.engine.sample import sample

EPOCHS = 3
"""On people's critiques; the last one differs by arm."""
SAMPLED = ("half", "own")
"""Arms in which several critiques are sampled for each answer and their scores averaged."""
PROMPT = "Say how good the answer is.\n\nQuestion: {question}\n\nAnswer: {answer}"
"""Shorter than the critic's own, which costs more than it gives where critiques are so short."""
SHORT = 14
"""Tokens of a critique, at most; of a set in `TOKENS`, so many."""
TOKENS: Mapping[str, int] = {"grounded": 28, "graded": 28}


@dataclass(frozen=True)
class Arm:
    """What the third epoch is like.

    own_share:  of the answers, whose critique is the critic's own.
    tries:      own critiques sampled for each; the head reads the one that agrees best with the
                ranking, and people's where none agrees.
    taught:     agreeing ones are learned by heart too.
    hide_share: of the questions, whose answers the head does not see, only the critiques.
    spread:     an answer's score is the mean over its likeliest critiques, weighed by their
                probability, in training as well; see `spread`.
    apart:      ranked answers' critiques are not learned; see `drenpa.critic.schedule`.
    crossed:    own critiques are written by a critic that has not learned those of the answer: one
                of two, each trained on half of the rankings.
    turns:      the question is the user's turn and the answer the assistant's, without an
                instruction, as TRL lays rows out.
    drawn:      a step takes half as many pairs of a ranking as it has answers, by lot, and not all.
    writes:     false for the scalar scorer.
    """

    own_share: float = 0.0
    tries: int = 1
    taught: bool = False
    hide_share: float = 0.0
    spread: bool = False
    apart: bool = False
    crossed: bool = False
    noted: bool = False
    turns: bool = False
    drawn: bool = False
    writes: bool = True


COMMON = "common"
"""The arm that has had the epochs that the critic's arms share, and no other."""
ARMS: Mapping[str, Arm] = {
    COMMON: Arm(),
    "people": Arm(),
    "quarter": Arm(own_share=0.25),
    "half": Arm(own_share=0.5),
    "three": Arm(own_share=0.75),
    "most": Arm(own_share=0.9),
    "own": Arm(own_share=1.0),
    "agreeing": Arm(own_share=0.5, tries=3),
    "rewarded": Arm(own_share=1.0, tries=3, taught=True),
    "hidden": Arm(own_share=1.0, hide_share=0.5),
    "spread": Arm(own_share=1.0, spread=True),
    "crossed": Arm(own_share=1.0, crossed=True),
    "both": Arm(own_share=1.0, spread=True, crossed=True),
    "apart": Arm(own_share=1.0, apart=True),
    "noted": Arm(own_share=1.0, apart=True, noted=True),
    "scalar": Arm(writes=False),
    "scalar-turns": Arm(writes=False, turns=True),
    "scalar-drawn": Arm(writes=False, drawn=True),
    "scalar-turns-drawn": Arm(writes=False, turns=True, drawn=True),
}


def examples_of(rows: Sequence[Ranked]) -> tuple[Example, ...]:
    """Return rankings as the critic's training takes them."""
    return tuple(
        Example(
            id=f"{row.source}-{number}",
            question=row.question,
            kind="foundation",
            language="en",
            candidates=tuple(map(str, range(len(row.answers)))),
            answers=row.answers,
            ranks=row.ranks,
            critiques=row.critiques,
        )
        for number, row in enumerate(rows)
    )


@dataclass(frozen=True)
class Spread(Lesson):
    """A ranking each of whose answers stands in several rows, one for each critique.

    weights: per answer, the weights of its rows.
    """

    weights: tuple[tuple[float, ...], ...] = ()


Weighed = list[list[list[tuple[float, tuple[int, ...]]]]]
"""Per question and answer, critiques with their weights."""


class Turns(Layout):
    """Rows as chat turns, without an instruction."""

    def ask(self, question: str) -> Asked:
        """Put a question as the user's turn, and let the assistant's begin."""
        prefix = self.chat.prompt([Message("user", question)])
        return Asked(prefix, (), self.max_length - len(prefix) - self.max_critique_tokens - 1)


class Trial(_Training):
    """The critic's training with what is tried in its own epoch.

    writers: whose own critiques a ranking gets, in turn by its number; the critic's where none.
    """

    arm = Arm()
    writers: tuple[Critic, ...] = ()
    lot = random.Random()
    _weighed: Weighed | None = None

    def lesson(self, number: int, epoch: int) -> Lesson:
        """Lay a ranking out; where its answers are hidden, the rows are their critiques alone."""
        if self.arm.spread and epoch >= self.config.epochs:
            return self.spread_lesson(number, epoch)
        whole = super().lesson(number, epoch)
        if not self.settings.writes or epoch < self.config.epochs:
            return whole
        example = self.example(number, epoch)
        taught = list(whole.taught)
        if self.arm.taught:
            for place, ids in self.own_critiques(epoch)[number].items():
                taught[place] = len(ids) + 1
        if not self.hidden(number, epoch):
            return replace(whole, taught=tuple(taught))
        asked = self.layout.ask(example.question)
        suffixes = tuple(
            (*asked.cue, *suffix[len(self.layout.read(asked, answer).ids) :])
            for suffix, answer in zip(whole.group.suffixes, example.answers, strict=True)
        )
        group = replace(whole.group, suffixes=suffixes)
        return Lesson(group, whole.ranks, (0,) * len(suffixes), (False,) * len(suffixes))

    def spread_lesson(self, number: int, epoch: int) -> Spread:
        """Lay a ranking out with the likeliest critiques of each answer; none is learned."""
        if self._weighed is None:
            examples = [self.example(n, epoch) for n in range(len(self.train_set))]
            asked, answers = [e.question for e in examples], [e.answers for e in examples]
            found = [spread(writer, asked, answers) for writer in self.writers or (self.critic,)]
            self._weighed = [
                [[(weight, ids) for weight, ids, _ in row] for row in found[n % len(found)][n]]
                for n in range(len(examples))
            ]
        example = self.example(number, epoch)
        likely = self._weighed[number]
        asked = self.layout.ask(example.question)
        reads = [self.layout.read(asked, answer) for answer in example.answers]
        rows = [read for read, some in zip(reads, likely, strict=True) for _ in some]
        group = self.layout.group(asked, rows, [ids for some in likely for _, ids in some])
        weights = tuple(tuple(weight for weight, _ in some) for some in likely)
        return Spread(group, example.ranks, (0,) * len(rows), (False,) * len(rows), weights)

    def loss(self, model: torch.nn.Module, micro: MicroBatch) -> LossSum:
        """P3, of a `Spread`'s answers P2 alone, on the mean over each one's rows."""
        if self.arm.drawn:
            return self.loss_of_drawn(model, micro)
        if not isinstance(micro.lessons[0], Spread):
            return super().loss(model, micro)
        reading = model.read([lesson.group for lesson in micro.lessons])
        weights = [row for x in micro.lessons if isinstance(x, Spread) for row in x.weights]
        rows = reading.scores_N.split([len(row) for row in weights])
        means_N = torch.stack(
            [(row * row.new_tensor(w)).sum() for row, w in zip(rows, weights, strict=True)]
        )
        ranks_QK = pad_sequence([torch.tensor(x.ranks) for x in micro.lessons], batch_first=True)
        scores_QK = torch.zeros(ranks_QK.shape).masked_scatter(ranks_QK > 0, means_N)
        score = score_loss(scores_QK, ranks_QK) / max(micro.pairs, 1)
        return LossSum(self.config.score_weight * score, {"score_loss": score.detach()})

    def loss_of_drawn(self, model: torch.nn.Module, micro: MicroBatch) -> LossSum:
        """P2 alone, the mean over some pairs of each ranking, drawn by lot."""
        reading = model.read([lesson.group for lesson in micro.lessons])
        rows = reading.scores_N.split([len(lesson.ranks) for lesson in micro.lessons])
        losses = []
        for lesson, scores_K in zip(micro.lessons, rows, strict=True):
            known = pairs_of(lesson.ranks)
            drawn = self.lot.sample(known, min(len(known), max(1, len(lesson.ranks) // 2)))
            losses += [-logsigmoid(scores_K[better] - scores_K[worse]) for better, worse in drawn]
        score = torch.stack(losses).mean()  # a micro-batch is a whole step here
        return LossSum(score, {"score_loss": score.detach()})

    def hidden(self, number: int, epoch: int) -> bool:
        """Say whether the head sees a ranking's answers in an epoch."""
        coin = torch.rand((), generator=self.randomness("hidden", epoch, number))
        return bool(coin < self.arm.hide_share)

    def write_own(self, epoch: int) -> list[list[tuple[int, tuple[int, ...]]]]:
        """Write own critiques; of several tries keep the one that agrees best with the ranking."""
        if self.arm.tries == 1 and not self.writers:
            return super().write_own(epoch)
        examples = [self.example(number, epoch) for number in range(len(self.train_set))]
        tries = [self.tried(examples, epoch, n) for n in range(self.arm.tries)]
        kept = []
        for number, example in enumerate(examples):
            places = self.by_lot(example, self.own_share(epoch), "own", epoch, number)
            if self.arm.tries == 1:
                best: list[tuple[int, int | None]] = [(place, 0) for place in places]
            else:
                scores_TK = [[one.score for one in row[number]] for row in tries]
                best = [(place, agreeing(scores_TK, example.ranks, place)) for place in places]
            kept.append(
                [(place, tries[n][number][place].ids) for place, n in best if n is not None]
            )
        return kept

    def tried(self, examples: Sequence[Example], epoch: int, number: int) -> list[list[Tried]]:
        """Write one critique of every answer, each question's by its writer.

        Arms that go on from the same epochs write the same, which is kept beside their folders.
        """
        file = self.folder.parent / f"tries-{len(self.writers)}-{epoch}-{number}.json"
        if not file.is_file():
            found = [
                writer.write(
                    [e.question for e in examples],
                    [e.answers for e in examples],
                    temperature=OWN_TEMPERATURE,
                    seed=seed_of(self.seed, "own critiques"),
                    key=(epoch, number),
                )
                for writer in self.writers or (self.critic,)
            ]
            kept = [found[n % len(found)][n] for n in range(len(examples))]
            file.write_text(json.dumps([[(one.ids, one.score) for one in row] for row in kept]))
        return [[Tried(tuple(ids), score) for ids, score in row] for row in read_json(file)]


@dataclass(frozen=True)
class Tried:
    """One critique that may be read, as token ids, and the score it gave."""

    ids: tuple[int, ...]
    score: float


LIKELIEST = 3
"""How many beginnings of a critique `spread` goes on from."""


def spread(
    critic: Critic, questions: Sequence[str], answers: Sequence[Sequence[str]]
) -> list[list[list[tuple[float, tuple[int, ...], float]]]]:
    """Return [Q][K] critiques from the likeliest first tokens on, each with its weight (the
    token's probability among these; they sum to 1) and its score.

    A critique whose verdict comes first is one of few, and which one is a matter of a few per cent.
    The greedy critique says nothing of that; the mean score over these is its expectation, without
    the noise of sampling.
    """
    layout = critic.layout
    asked = [layout.ask(question) for question in questions]
    groups = [
        PrefixGroup(a.prefix, tuple(layout.read(a, answer).ids for answer in row))
        for a, row in zip(asked, answers, strict=True)
    ]
    sampling = Sampling(max_new_tokens=layout.max_critique_tokens - 1, temperature=0.0, seed=0)
    with critic._working():
        chances, begun = zip(*(likeliest(critic, group) for group in groups), strict=True)
        rows = sample(
            critic.model.model,
            begun,
            sampling,
            stop_ids=layout.chat.stop_ids,
            close_id=layout.end_id,
            attention=critic.model.attention,
        )
        found = []
        for some, group, ends in zip(chances, begun, rows, strict=True):
            states = [row.closing_state for row in ends if row.closing_state is not None]
            scores = critic.model.scores(torch.stack(states)).tolist()
            ids = [(s[-1], *row.tokens) for s, row in zip(group.suffixes, ends, strict=True)]
            whole = list(zip(some, ids, scores, strict=True))
            found.append([whole[n : n + LIKELIEST] for n in range(0, len(whole), LIKELIEST)])
    return found


def likeliest(critic: Critic, group: PrefixGroup) -> tuple[list[float], PrefixGroup]:
    """Go on from each row with its likeliest next tokens but the end; return their shares of the
    chance as well."""
    states = suffix_states(critic.model.model, [group], attention=critic.model.attention)
    last_N = states.mask_NT.sum(dim=1) - 1
    hidden_NH = states.hidden_NTH[torch.arange(len(last_N)), last_N]
    logits_NV = backbone_of(critic.model.model).logits(hidden_NH).float()
    logits_NV[:, list(critic.layout.chat.stop_ids)] = -torch.inf
    chances_NB, tokens_NB = logits_NV.softmax(-1).topk(LIKELIEST)
    weights_NB = chances_NB / chances_NB.sum(-1, keepdim=True)
    rows = zip(group.suffixes, tokens_NB.tolist(), strict=True)
    begun = tuple((*suffix, token) for suffix, tokens in rows for token in tokens)
    return weights_NB.flatten().tolist(), PrefixGroup(group.prefix, begun)


def agreeing(scores_TK: Sequence[Sequence[float]], ranks: Sequence[int], place: int) -> int | None:
    """Return which try's score puts the answer best among the others' mean scores; None where even
    the best puts more pairs wrong than right.

    >>> agreeing([[0.0, 3.0], [2.0, 1.0]], (1, 2), 0), agreeing([[0.0, 3.0]], (1, 2), 0)
    (None, None)
    >>> agreeing([[0.0, 3.0], [4.0, 1.0]], (1, 2), 0)
    1
    """
    means = [sum(column) / len(column) for column in zip(*scores_TK, strict=True)]
    others = [k for k in range(len(ranks)) if ranks[k] != ranks[place]]
    right = [
        sum(
            (row[place] > means[k]) == (ranks[place] < ranks[k]) and row[place] != means[k]
            for k in others
        )
        for row in scores_TK
    ]
    if not others or 2 * max(right) < len(others):
        return None
    return right.index(max(right))


@dataclass(frozen=True)
class Setting:
    """What all arms have in common.

    epochs:   on people's critiques, before the own ones.
    passes:   over the rankings the head learns from, of the scalar scorers and the arm `apart`.
    ranked:   how many of the training rankings keep their order; None, all.
    measured: the parts that a trained arm is put to.
    weighed:  whether it is also scored by the mean over its likeliest critiques; see `spread`.
    """

    model: Path
    out: Path
    batch: int = 2
    learning_rate: float = 4e-4
    max_length: int = 512
    max_critique_tokens: int = SHORT
    bare_share: float = 0.25
    critique_weight: float = 2.0
    rank: int = 16
    epochs: int = EPOCHS
    passes: int = EPOCHS + 1
    ranked: int | None = None
    measured: tuple[str, ...] = ("dev", "test")
    weighed: bool = True


UNUSUAL = {name: getattr(Setting, name) for name in ("ranked", "epochs", "passes", "batch")}


def prepared(setting: Setting, arm: Arm, train: Sequence[Ranked], seed: int, name: str) -> Trial:
    """Return a training that has not begun."""
    config = CriticConfig(
        train=TrainConfig(
            learning_rate=setting.learning_rate,
            schedule="constant",
            max_length=setting.max_length,
            micro_batch=setting.batch,
            checkpoint_every=10_000,
            lora=LoraConfig(rank=setting.rank, alpha=2.0 * setting.rank),
        ),
        epochs=setting.epochs if arm.writes else setting.passes,
        own_epochs=(setting.passes if arm.apart else 1) if arm.writes else 0,
        own_share=arm.own_share,
        apart_share=1.0 if arm.apart else 0.0,
        bare_share=setting.bare_share,
        batch=setting.batch,
        critique_weight=setting.critique_weight if arm.writes else 0.0,
        max_critique_tokens=setting.max_critique_tokens,
    )
    prompt = Prompt("short", PROMPT)
    settings = CriticSettings(
        backbone=str(setting.model),
        language="en",
        prompt_name=prompt.name,
        prompt=prompt.text,
        writes=arm.writes,
        max_length=setting.max_length,
        max_critique_tokens=setting.max_critique_tokens,
    )
    folder = setting.out / f"seed-{seed}" / name
    folder.mkdir(parents=True, exist_ok=True)
    run = Trial(
        Examples(examples_of(train), ()),
        config,
        settings,
        EngineConfig(tracker="none"),
        setting.model,
        folder,
        seed,
        "critic",
    )
    run.arm = arm
    run.lot = random.Random(seed)
    if arm.turns:
        room, limit = run.layout.max_critique_tokens, run.layout.max_length
        turns = Turns(run.layout.chat, prompt, max_length=limit, max_critique_tokens=room)
        run.layout = run.critic.layout = turns
    return run


def train(run: Trial, first: int, epochs: int) -> None:
    """Train for some epochs, from the `first` on."""
    skipped = sum(run.schedule.steps_in(epoch) for epoch in range(first))
    steps = sum(run.schedule.steps_in(epoch) for epoch in range(first, first + epochs))
    train_loop(
        Trainee(run.model, run.loss, run.engine),
        lambda step: run.stream(step + skipped),
        run.config.train,
        steps=steps,
        folder=run.folder,
        engine=run.engine,
        seed=run.seed,
        label=run.name,
    )


def trained(setting: Setting, name: str, rows: Sequence[Ranked], seed: int) -> Trial:
    """Train an arm; the critic's arms but one go on from the epochs that they have in common."""
    arm = ARMS[name]
    run = prepared(setting, arm, rows, seed, name)
    if not arm.writes:
        train(run, 0, setting.passes)
        return run
    if arm.apart:
        train(run, 0, setting.epochs + setting.passes)
        return run
    common = setting.out / f"seed-{seed}" / "common.safetensors"
    taught(run, common, lambda: prepared(setting, Arm(), rows, seed, "shared"))
    if arm.crossed:
        run.writers = crossed(setting, rows, seed)
    if name != COMMON:
        train(run, setting.epochs, 1)
    return run


def taught(run: Trial, file: Path, pupil: Callable[[], Trial]) -> None:
    """Give a training what stands in `file`; where nothing does, a pupil first learns it there."""
    from safetensors.torch import load_file, save_file

    if not file.is_file():
        learned = pupil()
        train(learned, 0, learned.config.epochs)
        weights = {n: p.detach().contiguous() for n, p in trainable_parameters(learned.model)}
        save_file(weights, file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)
    weights = load_file(file)
    for name, weight in trainable_parameters(run.model):
        weight.data.copy_(weights[name])


def crossed(setting: Setting, rows: Sequence[Ranked], seed: int) -> tuple[Critic, ...]:
    """Return two critics; the first has learned the rankings of odd numbers, the second the others.

    In turn, each writes of the rankings that it has not learned.
    """
    found = []
    for turn in (0, 1):
        run = prepared(setting, Arm(), rows[1 - turn :: 2], seed, f"writer-{turn}")
        file = setting.out / f"seed-{seed}" / f"writer-{turn}.safetensors"
        taught(run, file, lambda pupil=run: pupil)
        found.append(run.critic)
    return tuple(found)


def measured(
    critic: Critic, rows: Sequence[Ranked], seed: int, samples: int, *, weighed: bool
) -> dict[str, Any]:
    """Return the scores [Q][K] of rankings by what the head reads; with samples, also the mean over
    sampled critiques, its own and another answer's, and if asked for that of the likeliest."""
    examples = examples_of(rows)
    written, told = measure(critic, examples, seed=seed)
    for row, line in zip(rows[:2], written, strict=False):
        for answer, critique, one in zip(row.answers, row.critiques, line, strict=True):
            print(f"  {row.source}: {answer[:60]!r} | {critique} | {one.text} {one.score:.2f}")
    found: dict[str, Any] = dict(told)
    if critic.writes and weighed:
        asked, shown = [row.question for row in rows], [row.answers for row in rows]
        likely = spread(critic, asked, shown)
        found["spread"] = [[sum(w * s for w, _, s in some) for some in line] for line in likely]
        turned = [[*line[1:], line[0]] for line in likely]
        passed = critic.reread(
            asked,
            [[answer for answer in line for _ in range(LIKELIEST)] for line in shown],
            [[ids for some in line for _, ids, _ in some] for line in turned],
        )
        found["spread_shuffled"] = [
            [
                sum(w * s for (w, _, _), s in zip(some, scores[n * LIKELIEST :], strict=False))
                for n, some in enumerate(line)
            ]
            for line, scores in zip(turned, passed, strict=True)
        ]
    if critic.writes and samples:
        asked = [row.question for row in rows]
        answers = [[a for a in row.answers for _ in range(samples)] for row in rows]
        several = critic.write(asked, answers, temperature=1.0, seed=seed)
        turned = [line[samples:] + line[:samples] for line in several]
        passed = critic.reread(asked, answers, [[one.ids for one in line] for line in turned])
        found["mean"] = [means([one.score for one in line], samples) for line in several]
        found["one"] = [[one.score for one in line[::samples]] for line in several]
        found["mean_shuffled"] = [means(line, samples) for line in passed]
    return found


def means(scores: Sequence[float], size: int) -> list[float]:
    """Return the mean of each run of `size` scores."""
    return [sum(scores[at : at + size]) / size for at in range(0, len(scores), size)]


def marks(rows: Sequence[Ranked], scores: Sequence[Sequence[float]]) -> str:
    """Return what became of each pair: 1 right, 0 wrong, h equal, - not scored."""
    signs = {1.0: "1", 0.0: "0", 0.5: "h", None: "-"}
    return "".join(
        signs[right_order(line[better], line[worse])]
        for row, line in zip(rows, scores, strict=True)
        for better, worse in clear_pairs(row)
    )


def row_of(
    name: str, seed: int, part: str, rows: Sequence[Ranked], scores: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is kept of one arm on one set: a mark for every pair, group by group."""
    return {
        "arm": name,
        "seed": seed,
        "part": part,
        "set": rows[0].source,
        "groups": [[group_id(row.group), len(clear_pairs(row))] for row in rows],
        "right": {source: marks(rows, lines) for source, lines in scores.items()},
    }


def group_id(group: str) -> str:
    """Return a short name for a group, which says nothing of its text."""
    import hashlib

    return hashlib.sha256(group.encode()).hexdigest()[:8]


def keep(run: Trial, parts: Mapping[str, Parts]) -> None:
    """Leave a trained arm as a critic's folder, and beside it the pairs that it is tested on, as
    `drenpa critic eval` and `card` take them."""
    run.save()
    for name, each in parts.items():
        lines = [
            {
                "question": row.question,
                "answer_a": row.answers[better],
                "answer_b": row.answers[worse],
                "preferred": "a",
                "critique_a": row.critiques[better],
                "critique_b": row.critiques[worse],
                "group": group_id(row.group),
            }
            for row in each.test
            for better, worse in clear_pairs(row)
        ]
        file = run.folder.parent / f"{name}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def run_arm(
    setting: Setting, name: str, seed: int, parts: Mapping[str, Parts], samples: int, python: str
) -> Iterator[dict[str, Any]]:
    """Train one arm under one seed and yield its rows."""
    if name != "trl" and ARMS[name].noted:
        parts = {set_name: noted(each) for set_name, each in parts.items()}
    rows = [row for each in parts.values() for row in each.train]
    order = random.Random(seed)
    order.shuffle(rows)
    if setting.ranked is not None:
        # The first of them keep their order: every arm of a seed learns from the same pairs.
        others = [replace(row, ranks=(1,) * len(row.ranks)) for row in rows[setting.ranked :]]
        scalar = name == "trl" or not ARMS[name].writes
        rows = rows[: setting.ranked] + ([] if scalar else others)
    if name == "trl":
        yield from run_peer(setting, rows, parts, seed, python)
        return
    began = time.process_time()
    run = trained(setting, name, rows, seed)
    spent = time.process_time() - began
    keep(run, parts)
    for set_name, each in parts.items():
        for part in setting.measured:
            tested = getattr(each, part)
            if tested:
                several = samples if part == "test" and each.train and name in SAMPLED else 0
                began = time.process_time()
                weighed = setting.weighed and not ARMS[name].apart
                scores = measured(run.critic, tested, seed, several, weighed=weighed)
                took = time.process_time() - began
                print(f"{name} {seed} {set_name} {part}: {took:.0f} s", flush=True)
                yield row_of(name, seed, part, tested, scores) | {"train_s": round(spent)}


def run_peer(
    setting: Setting, rows: Sequence[Ranked], parts: Mapping[str, Parts], seed: int, python: str
) -> Iterator[dict[str, Any]]:
    """Let the other interpreter do the same work, and read what came of it.

    It encodes pairs, the others rankings; so that every answer is seen as often by all, a ranking
    of K answers gives as many pairs as make its answers stand in `passes` of them on average.
    """
    scratch = setting.out / f"seed-{seed}" / "peer"
    scratch.mkdir(parents=True, exist_ok=True)
    lot = random.Random(seed)
    pairs = []
    for row in rows:
        known = pairs_of(row.ranks)
        wanted = round(setting.passes * len(row.answers) / 2)
        rounds = -(-wanted // len(known))
        drawn = [pair for _ in range(rounds) for pair in lot.sample(known, len(known))]
        pairs += [
            (row.question, row.answers[better], row.answers[worse])
            for better, worse in drawn[:wanted]
        ]
    lot.shuffle(pairs)
    tests = {
        f"{name}/{part}": [(row.question, row.answers) for row in getattr(each, part)]
        for name, each in parts.items()
        for part in setting.measured
    }
    steps = setting.passes * -(-len(rows) // setting.batch)
    given = {
        "model": str(setting.model),
        "batch": max(1, round(len(pairs) / steps)),
        "learning_rate": setting.learning_rate,
        "max_length": setting.max_length,
        "rank": setting.rank,
        "dtype": pick_dtype("auto", pick_device("auto")),
        "seed": seed,
        "train": pairs,
        "tests": tests,
    }
    (scratch / "peer.json").write_text(json.dumps(given))
    done = subprocess.run(
        [python, str(Path(__file__).with_name("critic_peer.py")), str(scratch)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise SystemExit(f"the peer failed:\n{done.stderr[-4000:]}")
    scores = read_json(scratch / "scores.json")
    for name, each in parts.items():
        for part in setting.measured:
            if tested := getattr(each, part):
                yield row_of("trl", seed, part, tested, {"none": scores[f"{name}/{part}"]})


def main() -> None:
    """Run what is not there yet, and tell what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--name", default="SmolLM2-135M", help="what the rows call the model")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/critic-human"))
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/critic-human.jsonl"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--arms", nargs="*", choices=[*ARMS, "trl"], default=[*ARMS])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=[*SETS])
    parser.add_argument("--ranked", type=int, help="training rankings that keep their order")
    parser.add_argument("--epochs", type=int, default=Setting.epochs, help="on people's critiques")
    parser.add_argument("--passes", type=int, default=Setting.passes, help="over the ranked ones")
    parser.add_argument("--batch", type=int, default=Setting.batch)
    parser.add_argument(
        "--samples", type=int, default=0, help="critiques whose scores are averaged"
    )
    parser.add_argument("--peer-python", default="", help="an interpreter with TRL, for arm trl")
    parser.add_argument("--measured", nargs="+", choices=["dev", "test"], default=["dev", "test"])
    parser.add_argument(
        "--spread", action=argparse.BooleanOptionalAction, default=True, help="weigh critiques too"
    )
    parser.add_argument("--part", choices=["dev", "test"], default="test")
    parser.add_argument("--plot", type=Path, help="a file for the chart; needs matplotlib")
    parser.add_argument("--plotted", choices=[*SETS], default="dialogue")
    given = parser.parse_args()
    rows = list(json_lines(given.rows)) if given.rows.is_file() else []
    learned = "+".join(name for name in given.sets if SIZES[name].train)
    # What differs from the usual is part of the name: or its rows would be taken for those.
    for name, usual in UNUSUAL.items():
        if (value := getattr(given, name)) != usual:
            learned += f", {name} {value}"
    done = {(row["model"], row["trained"], row["arm"], row["seed"]) for row in rows}
    if given.model:
        setting = Setting(
            given.model,
            given.out / given.name / learned.replace(", ", "-").replace(" ", "-"),
            batch=given.batch,
            max_critique_tokens=max(TOKENS.get(name, SHORT) for name in given.sets),
            epochs=given.epochs,
            passes=given.passes,
            ranked=given.ranked,
            measured=tuple(given.measured),
            weighed=given.spread,
        )
        sets = {name: list(SETS[name](given.data)) for name in given.sets}
        for seed in given.seeds:
            parts = {name: parted(found, SIZES[name], seed) for name, found in sets.items()}
            for arm in given.arms:
                if (given.name, learned, arm, seed) not in done:
                    found = run_arm(setting, arm, seed, parts, given.samples, given.peer_python)
                    made = [{"model": given.name, "trained": learned} | row for row in found]
                    given.rows.parent.mkdir(parents=True, exist_ok=True)
                    with given.rows.open("a", encoding="utf-8") as file:
                        file.writelines(json.dumps(row) + "\n" for row in made)
                    rows += made
    for model, trained_on in dict.fromkeys((row["model"], row["trained"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["trained"]) == (model, trained_on)]
        table = told(mine, given.part)
        print(f"{model}, trained on {trained_on}\n\n{shown(table)}\n")
        if given.plot and model == given.name and given.plotted in trained_on.split("+"):
            plot(table, given.plot, given.plotted)


if __name__ == "__main__":
    sys.exit(main())
