"""Train the critic: to write people's critiques, and to score an answer after its critique.

Each step takes some questions with all their ranked answers, every answer encoded once for all its
pairs [P3]. In the first epochs the head reads true critiques (teacher forcing), but none for a
share of the answers (`bare_share`), so that it learns to look at the answer too. In the
`own_epochs` after them it reads, for a share of the answers (`own_share`), critiques that the
critic itself wrote at the start of that epoch, because those are what it will read at work; only
true ones are learned by heart. Some rankings may stand apart (`apart_share`): their critiques are
never learned, and the head learns from them alone. Spoiled answers (`foils`) may stand beside the
ranked ones, other ones in every epoch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drenpa.config import CriticConfig, EngineConfig, ExpandConfig
from drenpa.core.artefacts import (
    SCRATCH,
    Artefact,
    Plan,
    as_input,
    counted,
    file_input,
    left_out,
    model_input,
    run_plan,
    write_text,
)
from drenpa.core.errors import ConfigError
from drenpa.core.prompts import Prompt, load_prompt
from drenpa.core.records import Ranking, Record
from drenpa.critic.accuracy import Source, accuracy_table
from drenpa.critic.examples import Example, Examples, dump_lines, read_examples
from drenpa.critic.expand import JOURNAL, expand_notes, writers_of
from drenpa.critic.expand import SLOTS as EXPAND_SLOTS
from drenpa.critic.foils import with_foils
from drenpa.critic.layout import SLOTS
from drenpa.critic.lots import draw_lots
from drenpa.critic.model import CriticModel
from drenpa.critic.objective import critic_loss, critique_loss, pairs_in, pairs_right, score_loss
from drenpa.critic.pairs import CRITIQUES
from drenpa.critic.schedule import Schedule
from drenpa.critic.score import HEAD, SETTINGS, Critic, CriticSettings, Written
from drenpa.critic.watch import EpochWatch
from drenpa.engine.adapters import (
    add_adapter,
    load_backbone,
    recompute_activations,
    save_adapter,
    seed_of,
    trainable_parameters,
)
from drenpa.engine.chat import Chat
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
from drenpa.engine.memory_bound import Extent, bounded_as_begun, micro_batch_limit
from drenpa.engine.models import context_of
from drenpa.engine.policy import MODEL, model_folders
from drenpa.engine.prefix import PrefixGroup

ADAPTER = "critic"
OWN_TEMPERATURE = 1.0
"""At which the critiques of the own epochs are sampled; greedy ones of learned answers would hardly
differ from the true ones."""
AWAIT_S = 24 * 3600


@dataclass(frozen=True)
class Lesson:
    """One ranking as it is trained on.

    group: a row per answer, closed by the end token.
    taught: per row, how many tokens of a true critique are learned, its end token among them; 0
            where the critique is the critic's own or there is none.
    cut: per row, whether a true critique was cut to what critiques may have: the end token after
         it is read for the score and not learned, since the critique does not end there.
    """

    group: PrefixGroup
    ranks: tuple[int, ...]
    taught: tuple[int, ...]
    cut: tuple[bool, ...]


@dataclass(frozen=True)
class MicroBatch:
    """Some of a step's lessons, and the counts of the whole step."""

    lessons: tuple[Lesson, ...]
    tokens: int
    pairs: int


def plan_train_critic(
    corpus: Artefact,
    policy: Artefact | Path | str,
    config: CriticConfig,
    *,
    root: Path,
    engine: EngineConfig | None = None,
    language: str = "en",
    seed: int = 1,
    name: str = "critic",
) -> Plan:
    """Plan the training of a critic, or of a plain scalar scorer when `critique_weight` is 0.

    policy:   the fine-tuned model it stands on, as an artefact, a folder or a model's name.
    language: of the critic's instruction.
    raises:   ConfigError when there is nothing to train or the policy is itself an adapter.
    """
    engine = engine or EngineConfig()
    if config.train.lora is None:
        raise ConfigError(f"{name}.train.lora: a critic is an adapter over its backbone; give one")
    if config.critique_weight == 0 and config.score_weight == 0:
        raise ConfigError(f"{name}: critique_weight and score_weight are both 0")
    backbone, adapter = model_folders(policy)
    if adapter is not None:
        raise ConfigError(
            f"{name}: {adapter} is an adapter; a critic stands on a whole model, such as the one "
            "that `finetune` makes"
        )
    prompt = load_prompt(config.prompt, language, slots=SLOTS)
    expand_prompt = load_prompt(config.expand_prompt, language, slots=EXPAND_SLOTS)
    expand = (
        config.expand if config.expand.writer != "none" and config.critique_weight > 0 else None
    )
    described = {
        "critic": config.model_dump(mode="json", exclude={"expand", "prompt", "expand_prompt"}),
        "language": language,
        "prompt": prompt.text,
        "expand": None if expand is None else _told_of_expansion(expand, expand_prompt),
        "dtype": engine.dtype,
        "seed": seed,
    }
    stands_on = as_input(policy) if isinstance(policy, Artefact) else file_input(backbone)
    settings = CriticSettings(
        backbone=str(backbone),
        language=language,
        prompt_name=prompt.name,
        prompt=prompt.text,
        writes=config.critique_weight > 0,
        max_length=config.train.max_length,
        max_critique_tokens=config.max_critique_tokens,
    )
    if isinstance(policy, Artefact):
        inputs = {"corpus": as_input(corpus), "backbone": stands_on}
    else:
        inputs = {"corpus": as_input(corpus), "model": stands_on}

    def work(folder: Path) -> Mapping[str, Any]:
        examples, origins = _examples(corpus, folder, root, expand_prompt, expand, language, engine)
        training = _Training(examples, config, settings, engine, backbone, folder, seed, name)
        return {**training.run(), "critiques": origins}

    return Plan(
        kind="critic",
        name=name,
        root=root,
        config=described,
        inputs=inputs,
        rooms=("engine", "critic"),
        work=bounded_as_begun(work),
        distributed=True,
    )


def _told_of_expansion(expand: ExpandConfig, prompt: Prompt) -> dict[str, Any]:
    """Return what of an expansion decides the critiques; of models on this machine the weights."""
    told = {
        "writer": expand.writer,
        "model": expand.model,
        "at": expand.base_url,
        "prompt": prompt.text,
        "checker": expand.checker,
        "tries": expand.tries,
        "max_tokens": expand.max_tokens,
    }
    if expand.writer == "local":
        models = [model for model in (expand.model, expand.checker) if model]
        told["digests"] = [model_input(model)["digest"] for model in models]
    return told


def train_critic(
    corpus: Artefact, policy: Artefact | Path | str, config: CriticConfig, **settings: Any
) -> Artefact:
    """Train a critic; the settings are those of `plan_train_critic`."""
    return run_plan(plan_train_critic(corpus, policy, config, **settings))


def _examples(
    corpus: Artefact,
    folder: Path,
    root: Path,
    prompt: Prompt,
    expand: ExpandConfig | None,
    language: str,
    engine: EngineConfig,
) -> tuple[Examples, Mapping[str, int]]:
    """Read the rankings with full critiques; under a launcher the first process alone pays."""
    file = folder / SCRATCH / "critiques.json"
    if rank_and_world()[0] == 0:
        questions = {record.id: record.question for record in corpus.rows("records", Record)}
        writer, checker = (None, None) if expand is None else writers_of(expand, engine)
        expanded = expand_notes(
            [r for r in corpus.rows("rankings", Ranking) if r.record in questions],
            questions,
            prompt,
            writer=writer,
            checker=checker,
            journal=root / JOURNAL,
            concurrency=1 if expand is None else expand.concurrency,
            tries=1 if expand is None else expand.tries,
            language=language,
        )
        entries = [[*place, critique] for place, critique in expanded.critiques.items()]
        write_text(file, json.dumps({"critiques": entries, "origins": dict(expanded.origins)}))
    deadline = time.monotonic() + AWAIT_S
    while not file.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    stored = json.loads(file.read_text(encoding="utf-8"))
    critiques = {(ranking, candidate): text for ranking, candidate, text in stored["critiques"]}
    return read_examples(corpus, critiques), stored["origins"]


class _Training:
    """One run: the model, what it learns from, and where it stands."""

    def __init__(
        self,
        examples: Examples,
        config: CriticConfig,
        settings: CriticSettings,
        engine: EngineConfig,
        backbone: Path,
        folder: Path,
        seed: int,
        name: str,
    ) -> None:
        assert config.train.lora is not None
        self.config = config
        self.engine = engine
        self.backbone = backbone
        self.folder = folder
        self.seed = seed
        self.name = name
        network, tokenizer = load_backbone(backbone, engine)
        room = min(settings.max_length, context_of(network))
        self.settings = settings = replace(settings, max_length=room)
        network = add_adapter(network, config.train.lora, ADAPTER, seed=seed)
        if config.train.gradient_checkpointing:
            recompute_activations(network)
        self.layout = settings.layout(Chat(tokenizer))
        self.model = CriticModel(network, attention=engine.attention)
        self.critic = Critic(
            self.model, self.layout, writes=settings.writes, adapter=ADAPTER, engine=engine
        )
        self.lots = draw_lots([(e.id, e.question, e.ranks) for e in examples.train], config, seed)
        fitting = [e for e in examples.train if self.layout.ask(e.question).room > 0]
        self.train_set = [e for e in fitting if e.id not in self.lots.watched]
        self.watched = [e for e in fitting if e.id in self.lots.watched]
        self.held_out = examples.held_out
        self.too_long = len(examples.train) - len(fitting)
        kept = {e.id for e in fitting}
        self.warnings = left_out(
            (e.language for e in examples.train),
            (e.language for e in examples.train if e.id not in kept),
            f"no room beside the question for an answer and a critique in {room} tokens, the "
            f"smaller of {name}.train.max_length and the model's context",
        )
        if not fitting:
            raise ConfigError(
                f"{name}.train.max_length: no question leaves room for an answer and a critique in "
                f"{settings.max_length} tokens; raise it, or take a model with a longer context"
            )
        if not _telling(fitting):
            raise ConfigError(
                f"{name}.train.max_length: no ranking that tells a better from a worse answer "
                f"leaves room for an answer and a critique in {room} tokens; raise it, or take a "
                "model with a longer context"
            )
        learned, watched = _telling(self.train_set), _telling(self.watched)
        if not learned or (config.watch_share > 0 and not watched):
            raise ConfigError(
                f"{name}.watch_share: {config.watch_share:g} of the questions leaves {learned} "
                f"rankings that tell a better from a worse answer to train on and {watched} to "
                "watch; neither may be none: change the share or rank more questions"
            )
        self.critiques_cut = self._critiques_cut()
        self.warnings += self._told_of_cut()
        self.fitting = micro_batch_limit(network, engine, self._extent(), config.batch)
        self.schedule = self.scheduled()
        self._own: tuple[int, list[dict[int, tuple[int, ...]]]] = (-1, [])
        self.watch = EpochWatch(
            self.look,
            lambda: dict(trainable_parameters(self.model)),
            folder,
            used=self.used,
            epochs=config.epochs,
            refresh_gap=config.refresh_gap,
            patience=config.patience,
        )

    def scheduled(self) -> Schedule:
        """Return the order of the training, in which some rankings may stand apart."""
        numbers = range(len(self.train_set))
        own_epochs = self.config.own_epochs if self.settings.writes else 0
        apart = [n for n in numbers if self.train_set[n].id in self.lots.apart]
        taught = tuple(n for n in numbers if n not in apart)
        if self.settings.writes and self.config.apart_share > 0 and not (apart and taught):
            raise ConfigError(
                f"{self.name}.apart_share: {self.config.apart_share:g} of the questions leaves "
                f"{len(apart)} rankings to score and {len(taught)} to learn writing from; neither "
                "may be none"
            )
        return Schedule(taught, tuple(apart), self.config.batch, self.config.epochs, own_epochs)

    def _critiques_cut(self) -> list[str]:
        """Return the language of every critique to train on that is longer than critiques may be;
        none for a scorer that reads none."""
        if not self.settings.writes:
            return []
        return [
            example.language
            for example in self.train_set
            for text in example.critiques
            if not self.layout.whole(text)
        ]

    def _told_of_cut(self) -> list[str]:
        """Say for the summary how many critiques of each language were cut."""
        known = counted(e.language for e in self.train_set for text in e.critiques if text)
        return [
            f"{count} of {known[language]} critiques in {language} cut, so that no end of theirs "
            f"is learned: longer than {self.name}.max_critique_tokens "
            f"({self.settings.max_critique_tokens})"
            for language, count in counted(self.critiques_cut).items()
        ]

    @property
    def used(self) -> Source:
        """Which critiques the head reads at work."""
        return "own" if self.settings.writes else "none"

    def _extent(self) -> Extent:
        """Return the longest group there can be, its critiques at their limit."""
        asked = [self.layout.ask(example.question) for example in self.train_set]
        pairs = list(zip(asked, self.train_set, strict=True))
        read = max(len(self.layout.read(a, answer).ids) for a, e in pairs for answer in e.answers)
        critique = self.layout.max_critique_tokens + 1
        return Extent(
            max(len(a.prefix) for a in asked),
            max(len(e.answers) for e in self.train_set) + self.config.foils,
            read + critique,
        )

    def run(self) -> dict[str, Any]:
        """Train, measure, and write the artefact's files; return its summary."""
        history = train_loop(
            Trainee(self.model, self.loss, self.engine),
            self.stream,
            self.config.train,
            steps=self.schedule.steps,
            folder=self.folder,
            engine=self.engine,
            seed=self.seed,
            label=self.name,
        )
        if rank_and_world()[0] != 0:
            return {}
        epochs = self.schedule.turn(len(history))[0]
        kept = self.watch.take_best(epochs) if self.watched else epochs
        self.save()
        table = self.measure()
        answers = [answer for e in self.train_set for answer in e.answers]
        reads = [
            self.layout.read(self.layout.ask(e.question), answer)
            for e in self.train_set
            for answer in e.answers
        ]
        return {
            "questions": len(self.train_set),
            "answers": len(answers),
            "pairs": sum(
                pairs_in(_ranks([e.ranks]))
                for n, e in enumerate(self.train_set)
                if not self.schedule.only_teaches(n)
            ),
            "apart": len(self.schedule.apart),
            "too_long": self.too_long,
            "warnings": self.warnings,
            "cut": sum(not read.whole for read in reads),
            "critiques_cut": len(self.critiques_cut),
            "watched": len(self.watched),
            "steps": len(history),
            "epochs": epochs,
            "epoch_kept": kept,
            "last_loss": history[-1]["loss"],
            "accuracy": {s: table[s] for s in ("gold", "own", "none", "shuffled") if s in table},
            "used": table["used"],
        }

    def loss(self, model: nn.Module, micro: MicroBatch) -> LossSum:
        """P3 over some of a step's lessons."""
        assert isinstance(model, CriticModel)
        reading = model.read([lesson.group for lesson in micro.lessons])
        device = reading.scores_N.device
        ranks_QK = _ranks([lesson.ranks for lesson in micro.lessons]).to(device)
        scores_QK = torch.zeros(ranks_QK.shape, device=device)
        scores_QK = scores_QK.masked_scatter(ranks_QK > 0, reading.scores_N)
        score = score_loss(scores_QK, ranks_QK, margin=self.config.rank_margin)
        critique = score.new_zeros(())
        if self.settings.writes:
            taught_NT = _taught(
                reading.states.mask_NT,
                [n for x in micro.lessons for n in x.taught],
                [cut for x in micro.lessons for cut in x.cut],
            )
            logprobs_NT = model.critique_logprobs(reading.states, taught_NT)
            critique = critique_loss(logprobs_NT, taught_NT[:, 1:])
        loss = critic_loss(
            critique,
            score,
            tokens=micro.tokens,
            pairs=micro.pairs,
            critique_weight=self.config.critique_weight,
            score_weight=self.config.score_weight,
        )
        # Where a step has no critiques or no pairs, nothing is told of them: 0 would be a figure.
        metrics = {}
        if micro.tokens:
            metrics["critique_loss"] = critique.detach() / micro.tokens
        if micro.pairs:
            metrics["score_loss"] = score.detach() / micro.pairs
            metrics["pair_accuracy"] = pairs_right(scores_QK, ranks_QK) / micro.pairs
        return LossSum(loss, metrics)

    def stream(self, step: int) -> StepWork[MicroBatch] | None:
        """Return a step's lessons, as the schedule says.

        None where what was watched says that another epoch is not worth it.
        """
        epoch, place = self.schedule.turn(step)
        between = place == 0 and epoch > 0 and bool(self.watched)
        if between and not from_first_process(lambda: self.watch.goes_on(epoch)):
            return None
        rankings = self.schedule.rankings(epoch, place, self.shuffled)
        lessons = [self.lesson(number, epoch) for number in rankings]
        tokens = sum(sum(lesson.taught) for lesson in lessons)
        pairs = pairs_in(_ranks([lesson.ranks for lesson in lessons]))
        together = min(self.config.train.micro_batch, self.fitting)
        mine = in_chunks(share_of_process(lessons), together)
        taught = sum(n > 0 for lesson in lessons for n in lesson.taught)
        rows = sum(len(lesson.taught) for lesson in lessons)
        return StepWork(
            [MicroBatch(tuple(chunk), tokens, pairs) for chunk in mine],
            {"pairs": float(pairs), "true_critiques": taught / rows},
        )

    def lesson(self, number: int, epoch: int) -> Lesson:
        """Lay one ranking out for an epoch, with true critiques, its own, or none."""
        example = self.example(number, epoch)
        asked = self.layout.ask(example.question)
        reads = [self.layout.read(asked, answer) for answer in example.answers]
        critiques = [self.layout.critique(text) for text in example.critiques]
        ranks = example.ranks
        if not self.settings.writes:
            replaced: dict[int, tuple[int, ...]] = dict.fromkeys(range(len(reads)), ())
        elif self.schedule.only_teaches(number):
            replaced, ranks = {}, (1,) * len(ranks)
        elif epoch >= self.config.epochs:
            replaced = self.own_critiques(epoch)[number]
        else:
            bare = self.by_lot(example, self.config.bare_share, "bare", epoch, number)
            replaced = dict.fromkeys(bare, ())
        learned = number not in self.schedule.apart
        cut = [not self.layout.whole(text) for text in example.critiques]
        taught = [
            len(ids) + (not short) if ids and learned else 0
            for ids, short in zip(critiques, cut, strict=True)
        ]
        for place, ids in replaced.items():
            critiques[place], taught[place], cut[place] = ids, 0, False
        return Lesson(self.layout.group(asked, reads, critiques), ranks, tuple(taught), tuple(cut))

    def example(self, number: int, epoch: int) -> Example:
        """Return a ranking with the epoch's foils."""
        example = self.train_set[number]
        randomness = self.randomness("foils", epoch, number)
        return with_foils(example, self.train_set, self.config.foils, randomness)

    def by_lot(self, example: Example, share: float, *parts: object) -> list[int]:
        """Return the places of a share of the answers, by lot."""
        coins_K = torch.rand(len(example.answers), generator=self.randomness(*parts))
        return [place for place, coin in enumerate(coins_K.tolist()) if coin < share]

    def own_critiques(self, epoch: int) -> list[dict[int, tuple[int, ...]]]:
        """Return the critic's own critiques that an epoch reads, written once, at its start.

        A question's entry goes from an answer's place to the critique's ids. They are kept on disk,
        since a run that goes on from the middle of the epoch has other weights.
        """
        if self._own[0] != epoch:
            rows = from_first_process(lambda: self._stored(epoch))
            self._own = (epoch, [{place: tuple(ids) for place, ids in row} for row in rows])
        return self._own[1]

    def _stored(self, epoch: int) -> list[list[tuple[int, list[int]]]]:
        file = self.folder / SCRATCH / f"own-{epoch}.json"
        if not file.is_file():
            write_text(file, json.dumps(self.write_own(epoch)))
        rows: list[list[tuple[int, list[int]]]] = json.loads(file.read_text(encoding="utf-8"))
        return rows

    def own_share(self, epoch: int) -> float:
        """Return which share of the critiques are its own in one of the own epochs."""
        share = self.config.own_share
        first, last = share if isinstance(share, tuple) else (share, share)
        done = epoch - self.config.epochs
        return first + (last - first) * done / max(self.config.own_epochs - 1, 1)

    def write_own(self, epoch: int) -> list[list[tuple[int, tuple[int, ...]]]]:
        """Write critiques of a share of each question's answers, drawn by lot."""
        examples = [self.example(number, epoch) for number in range(len(self.train_set))]
        places = [
            []
            if self.schedule.only_teaches(number)
            else self.by_lot(example, self.own_share(epoch), "own", epoch, number)
            for number, example in enumerate(examples)
        ]
        written = self.critic.write(
            [example.question for example in examples],
            [[e.answers[k] for k in row] for e, row in zip(examples, places, strict=True)],
            temperature=OWN_TEMPERATURE,
            seed=seed_of(self.seed, "own critiques"),
            key=(epoch,),
            label=f"{self.name}: its own critiques",
        )
        return [
            [(place, one.ids) for place, one in zip(row, critiques, strict=True)]
            for row, critiques in zip(places, written, strict=True)
        ]

    def shuffled(self, count: int, *parts: object) -> list[int]:
        """Return the whole numbers below `count` in an order that the parts name."""
        order: list[int] = torch.randperm(count, generator=self.randomness(*parts)).tolist()
        return order

    def randomness(self, *parts: object) -> torch.Generator:
        """Return a generator seeded by the run's seed and the parts."""
        return torch.Generator().manual_seed(seed_of(self.seed, "critic", *parts))

    def save(self) -> None:
        """Write adapter, head and settings."""
        from safetensors.torch import save_file

        save_adapter(self.model.model, ADAPTER, self.folder / MODEL, base=self.backbone)
        weight = self.model.head.weight.detach().cpu().contiguous()
        save_file({"weight": weight}, self.folder / HEAD)
        write_text(
            self.folder / SETTINGS, json.dumps(asdict(self.settings), indent=2, ensure_ascii=False)
        )

    def look(self) -> Mapping[str, Any]:
        """Return the accuracies on the watched questions, by what the head reads."""
        scores = measure(self.critic, self.watched, seed=self.seed)[1]
        return accuracy_table(self.watched, scores, used=self.used)

    def measure(self) -> dict[str, Any]:
        """Write the accuracies on held-out questions and the critiques of their answers."""
        examples = self.held_out
        label = f"{self.name}: critiques of held-out answers"
        written, scores = measure(self.critic, examples, seed=self.seed, label=label)
        table = accuracy_table(examples, scores, used=self.used)
        write_text(self.folder / "accuracy.json", json.dumps(table, indent=2, ensure_ascii=False))
        if self.critic.writes:
            write_text(self.folder / CRITIQUES, dump_lines(_shown(examples, written)))
        return table


def measure(
    critic: Critic, examples: Sequence[Example], *, seed: int, label: str = ""
) -> tuple[list[list[Written]], dict[Source, list[list[float]]]]:
    """Score the examples' answers with their own, the true, no, and each other's critiques.

    label:   under which it is shown how far the writing is.
    returns: the critiques written (empty for a scorer that writes none), and scores [Q][K] per
             source. A scorer that writes none is measured as it is used, without. An answer that
             has no true critique has no gold score.
    """
    questions = [example.question for example in examples]
    answers = [example.answers for example in examples]
    empty: list[list[tuple[int, ...]]] = [[()] * len(row) for row in answers]
    scores: dict[Source, list[list[float]]] = {"none": critic.reread(questions, answers, empty)}
    if not critic.writes:
        return [], scores
    written = critic.write(questions, answers, label=label)
    gold = [[critic.layout.critique(text) for text in example.critiques] for example in examples]
    generator = torch.Generator().manual_seed(seed_of(seed, "shuffle"))
    shuffled = []
    for row in written:
        turn = int(torch.randint(1, max(len(row), 2), (), generator=generator))
        shuffled.append([row[(place + turn) % len(row)].ids for place in range(len(row))])
    gold_scores = critic.reread(questions, answers, gold)
    scores["gold"] = [
        [score if ids else float("nan") for score, ids in zip(row, texts, strict=True)]
        for row, texts in zip(gold_scores, gold, strict=True)
    ]
    scores["own"] = [[one.score for one in row] for row in written]
    scores["shuffled"] = critic.reread(questions, answers, shuffled)
    return written, scores


def _shown(
    examples: Sequence[Example], written: Sequence[Sequence[Written]]
) -> list[dict[str, object]]:
    """Rows for people to read: each held-out answer, the true critique and the critic's own."""
    return [
        {
            "ranking": example.id,
            "kind": example.kind,
            "language": example.language,
            "question": example.question,
            "candidate": example.candidates[place],
            "answer": example.answers[place],
            "rank": example.ranks[place],
            "gold": example.critiques[place],
            "own": one.text,
            "finish": one.finish,
            "score": None if one.score != one.score else one.score,
        }
        for example, row in zip(examples, written, strict=True)
        for place, one in enumerate(row)
    ]


def _telling(examples: Sequence[Example]) -> int:
    """Count the rankings that tell a better from a worse answer."""
    return sum(len(set(example.ranks)) > 1 for example in examples)


def _ranks(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return [Q, K] ranks, shorter rankings padded with 0."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def _taught(mask_NT: Tensor, counts: Sequence[int], cut: Sequence[bool]) -> Tensor:
    """Return [N, T] true on the last `counts` of each row's real tokens; of a row whose critique is
    `cut`, on the last ones before its end token."""
    counts_N1 = torch.tensor(counts, device=mask_NT.device).unsqueeze(1)
    cut_N1 = torch.tensor(cut, device=mask_NT.device).unsqueeze(1)
    ends_N1 = mask_NT.sum(dim=1, keepdim=True) - cut_N1.long()
    columns_T = torch.arange(mask_NT.shape[1], device=mask_NT.device)
    return mask_NT & (columns_T >= ends_N1 - counts_N1) & (columns_T < ends_N1)
