"""The critic at work: it writes a critique of each answer, then scores the answer with it.  [P5]

The score comes from the live cache: the end token is fed after the critique, and the head reads its
state, which is the very position that training read. A critique that the limit cut short gets its
end token too.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from drenpa.config import EngineConfig
from drenpa.core.artefacts import MANIFEST, Artefact, open_artefact
from drenpa.core.errors import ArtefactError, ModelError
from drenpa.core.progress import track
from drenpa.core.prompts import Prompt
from drenpa.core.roles import Finish, Sampling, Scores
from drenpa.critic.layout import Asked, Layout, Read
from drenpa.critic.model import CriticModel
from drenpa.engine.adapters import (
    adapter_names,
    at_rest,
    load_adapter,
    load_backbone,
    matrix_precision,
    use_adapter,
)
from drenpa.engine.chat import Chat
from drenpa.engine.loop import in_chunks
from drenpa.engine.memory_bound import decode_limits, read_limit
from drenpa.engine.models import resolve_model
from drenpa.engine.policy import MODEL, LanguageModel
from drenpa.engine.prefix import PrefixGroup
from drenpa.engine.sample import sample

SETTINGS = "critic.json"
HEAD = "head.safetensors"
FORMAT: Literal[1] = 1
REREAD_ROWS = 32  # rows in one forward pass over given critiques


@dataclass(frozen=True)
class Written:
    """A critique that the critic wrote, and the score it then gave.

    ids:    its tokens, as they were sampled.
    finish: "length" when the limit cut it.
    """

    text: str
    ids: tuple[int, ...]
    finish: Finish
    score: float


UNSCORED = Written("", (), "stop", math.nan)


class Critic:
    """Scores answers, reasons first; the `Scorer` role for a model on this machine.

    writes:  false for the plain scalar scorer, which gives no reasons.
    adapter: the name its adapter has on the model; active only while it works, since a policy may
             have another on the same backbone.
    """

    def __init__(
        self,
        model: CriticModel,
        layout: Layout,
        *,
        writes: bool,
        adapter: str,
        engine: EngineConfig,
    ) -> None:
        self.model = model
        self.layout = layout
        self.writes = writes
        self.adapter = adapter
        self.engine = engine

    def score(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> Scores:
        """Return rewards and critiques as [Q][G], critiques written greedily.

        An answer longer than its question leaves room for is read without its end; where the
        question alone is too long, the rewards are NaN, which means unscored.
        """
        began = time.perf_counter()
        if self.writes:
            written = self.write(questions, answers)
            rewards = [[one.score for one in row] for row in written]
            critiques = [tuple(one.text for one in row) for row in written]
        else:
            rewards = self.reread(questions, answers, [[()] * len(row) for row in answers])
            critiques = [("",) * len(row) for row in answers]
        return Scores(
            tuple(tuple(row) for row in rewards), tuple(critiques), time.perf_counter() - began
        )

    def write(
        self,
        questions: Sequence[str],
        answers: Sequence[Sequence[str]],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        key: tuple[int, ...] = (),
        label: str = "",
    ) -> list[list[Written]]:
        """Return [Q][G] critiques with their scores; see `score` for what is too long.

        label: under which progress is shown; none is without one.
        """
        written = [[UNSCORED] * len(row) for row in answers]
        places, groups = [], []
        for number, asked, reads in self._readable(questions, answers):
            places.append(number)
            groups.append(PrefixGroup(asked.prefix, tuple(read.ids for read in reads)))
        if not groups:
            return written
        sampling = Sampling(
            max_new_tokens=self.layout.max_critique_tokens, temperature=temperature, seed=seed
        )
        chat = self.layout.chat
        limits = decode_limits(self.model.model, self.engine, groups, sampling)
        count = sum(len(group.suffixes) for group in groups)
        shown = track(label, count, within=True) if label else nullcontext()
        with self._working(), shown as progress:
            sampled = sample(
                self.model.model,
                groups,
                sampling,
                stop_ids=chat.stop_ids,
                close_id=self.layout.end_id,
                key=key,
                attention=self.engine.attention,
                max_rows=limits.rows,
                max_tokens=limits.tokens,
                cuda_graphs=self.engine.cuda_graphs,
                told=progress.advance if progress else None,
            )
            for number, rows in zip(places, sampled, strict=True):
                states = [row.closing_state for row in rows if row.closing_state is not None]
                scores = self.model.scores(torch.stack(states)).tolist()
                written[number] = [
                    Written(chat.decode(row.tokens), tuple(row.tokens), row.finish, score)
                    for row, score in zip(rows, scores, strict=True)
                ]
        return written

    def reread(
        self,
        questions: Sequence[str],
        answers: Sequence[Sequence[str]],
        critiques: Sequence[Sequence[Sequence[int]]],
    ) -> list[list[float]]:
        """Return [Q][G] scores that the answers get with the given critiques, as token ids.

        An empty critique is none: the score is read right after the cue. However many rows a
        question has, no more than `REREAD_ROWS` are read at once.

        raises: ConfigError when memory does not hold one question's rows, or so many of them.
        """
        scores = [[math.nan] * len(row) for row in answers]
        places: list[tuple[int, int]] = []
        groups: list[PrefixGroup] = []
        for number, asked, reads in self._readable(questions, answers):
            places += [(number, place) for place in range(len(reads))]
            groups += _parts(self.layout.group(asked, reads, critiques[number]))
        together = self._together(groups)
        with self._working():
            found = [
                score
                for part in in_chunks(groups, together)
                for score in self.model.read(part).scores_N.tolist()
            ]
        for (number, place), score in zip(places, found, strict=True):
            scores[number][place] = score
        return scores

    def _readable(
        self, questions: Sequence[str], answers: Sequence[Sequence[str]]
    ) -> Iterator[tuple[int, Asked, list[Read]]]:
        """Yield the questions that leave room for an answer and have one."""
        for number, (question, row) in enumerate(zip(questions, answers, strict=True)):
            asked = self.layout.ask(question)
            if row and asked.room > 0:
                yield number, asked, [self.layout.read(asked, answer) for answer in row]

    def _together(self, groups: Sequence[PrefixGroup]) -> int:
        """Return how many groups are read at once: about `REREAD_ROWS` rows, or what fits."""
        if not groups:
            return 1
        asked = max(1, REREAD_ROWS // max(len(group.suffixes) for group in groups))
        return read_limit(self.model.model, self.engine, groups, asked)

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Switch to the critic's adapter in eval mode; put back what was there before."""
        with (
            torch.no_grad(),
            at_rest(self.model),
            use_adapter(self.model.model, self.adapter),
            matrix_precision(self.engine, self.model.head.weight.device),
        ):
            yield


def _parts(group: PrefixGroup) -> list[PrefixGroup]:
    """Cut a question's rows into groups of at most `REREAD_ROWS`."""
    return [
        PrefixGroup(group.prefix, tuple(rows)) for rows in in_chunks(group.suffixes, REREAD_ROWS)
    ]


@dataclass(frozen=True)
class CriticSettings:
    """What a critic must know to read rows as it did in training; `critic.json`.

    backbone: the model it stands on, where its artefact does not say.
    """

    backbone: str
    language: str
    prompt_name: str
    prompt: str
    writes: bool
    max_length: int
    max_critique_tokens: int
    format: Literal[1] = FORMAT

    def layout(self, chat: Chat) -> Layout:
        """Return the rows' layout for a chat format."""
        return Layout(
            chat,
            Prompt(self.prompt_name, self.prompt),
            max_length=self.max_length,
            max_critique_tokens=self.max_critique_tokens if self.writes else 0,
        )


def load_critic(
    place: Artefact | Path | str,
    *,
    engine: EngineConfig | None = None,
    backbone: LanguageModel | None = None,
) -> Critic:
    """Load a critic from its artefact or from a folder with its files.

    backbone: a model that already carries a policy's adapter, to hold one set of weights for both;
              the critic's adapter joins it and is active only while the critic works. It must
              stand on the weights that the critic was trained on.
    raises:   ArtefactError or ModelError when the folder holds no critic or it does not fit.
    """
    if isinstance(place, str | Path) and (Path(place) / MANIFEST).is_file():
        place = open_artefact(place, "critic")
    artefact = place if isinstance(place, Artefact) else None
    if artefact is not None and artefact.kind != "critic":
        raise ArtefactError(f"{artefact.path}: is a {artefact.kind}, but a critic is needed here")
    folder = artefact.path if artefact is not None else Path(str(place))
    settings = read_settings(folder)
    if backbone is None:
        engine = engine or EngineConfig()
        source = (
            artefact.input_path("backbone") / MODEL
            if artefact is not None and "backbone" in artefact.inputs
            else resolve_model(settings.backbone)
        )
        bare, tokenizer = load_backbone(source, engine)
        model, chat, name = load_adapter(bare, folder / MODEL, "critic"), Chat(tokenizer), "critic"
    else:
        engine = engine or backbone.engine
        chat = backbone.chat
        model, name = _join(backbone.model, folder / MODEL)
    critic = CriticModel(model, attention=engine.attention)
    _load_head(critic, folder / HEAD)
    critic.requires_grad_(False) if backbone is None else critic.head.requires_grad_(False)
    return Critic(
        critic, settings.layout(chat), writes=settings.writes, adapter=name, engine=engine
    )


def _join(model: Any, folder: Path) -> tuple[Any, str]:
    """Load an adapter beside those that the model has, which stay as active and trainable as they
    were."""
    names = adapter_names(model)
    if not names:
        raise ModelError(
            "the backbone to share carries no adapter, so the critic's could not be switched off; "
            "load the critic without `backbone`"
        )
    name = next(f"critic{n}" for n in range(len(names) + 1) if f"critic{n}" not in names)
    before = model.active_adapter
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    load_adapter(model, folder, name)
    model.set_adapter(before, inference_mode=True)
    for parameter in trainable:
        parameter.requires_grad_(True)
    return model.eval(), name


def read_settings(folder: Path) -> CriticSettings:
    """Read `critic.json`.

    raises: ArtefactError when it is missing or not one.
    """
    file = folder / SETTINGS
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if stored.get("format") != FORMAT:
            raise ArtefactError(
                f"{file}: written in format {stored.get('format')}; this drenpa reads {FORMAT}"
            )
        return CriticSettings(**stored)
    except FileNotFoundError:
        raise ArtefactError(f"{folder}: has no {SETTINGS}, so it is no critic") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{file}: not a critic's settings ({error})") from error


def _load_head(critic: CriticModel, file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weight = load_file(file)["weight"]
    except (FileNotFoundError, SafetensorError, KeyError) as error:
        raise ArtefactError(
            f"{file}: holds no score head ({error}); make or fetch the critic again"
        ) from error
    if weight.shape != critic.head.weight.shape:
        raise ModelError(
            f"{file}: the score head is for hidden states of {weight.shape[-1]}, the backbone has "
            f"{critic.head.weight.shape[-1]}"
        )
    critic.head.weight.data.copy_(weight)
