"""A policy: a language model that answers questions under an instruction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from drenpa.config import EngineConfig
from drenpa.core.artefacts import MANIFEST, Artefact, open_artefact
from drenpa.core.errors import DataError, ModelError
from drenpa.core.roles import Draft, Sampling
from drenpa.engine.adapters import load_adapter, load_backbone, matrix_precision
from drenpa.engine.chat import Chat, Message
from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.loop import in_chunks
from drenpa.engine.memory_bound import decode_limits, read_limit
from drenpa.engine.models import context_of, resolve_model
from drenpa.engine.prefix import PrefixGroup, suffix_states
from drenpa.engine.sample import sample

MODEL = "model"
LOGPROB_GROUPS = 8  # contexts in one forward pass of `logprobs`


class LanguageModel:
    """A model with its tokenizer, its chat format and the machine's settings."""

    def __init__(self, model: Any, tokenizer: Any, engine: EngineConfig) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.engine = engine
        self.chat = Chat(tokenizer)
        self.device: torch.device = next(model.parameters()).device

    @property
    def context(self) -> int:
        """How many tokens the model can read at most."""
        return context_of(self.model)

    @torch.no_grad()
    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        """Return for each (context, continuation) the continuation's log-probability and its
        tokens.

        The texts are plain, outside any chat format; an empty context stands for the beginning of
        a text, and an empty continuation has log-probability 0 over 0 tokens.

        raises: DataError that names every text longer than the model can read; ConfigError when
                memory does not hold one context.
        """
        bos = self.tokenizer.bos_token_id
        start = self.chat.end_id if bos is None else bos
        told: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
        for number, (context, continuation) in enumerate(pairs):
            ids = self.chat.text(continuation)
            if ids:
                told.setdefault(context, []).append((number, ids))
        found: list[tuple[float, int]] = [(0.0, 0)] * len(pairs)
        if not told:
            return found
        groups = []
        for context, rows in told.items():
            head = (start, start, *self.chat.text(context))
            groups.append(PrefixGroup(head[:-1], tuple((head[-1], *ids) for _, ids in rows)))
        self._check_length(groups, list(told))
        sums_N: list[float] = []
        for part in in_chunks(groups, read_limit(self.model, self.engine, groups, LOGPROB_GROUPS)):
            with matrix_precision(self.engine, self.device):
                states = suffix_states(self.model, part, attention=self.engine.attention)
                values = next_token_logprobs(self.model, states)
            sums_N += values.logprobs_NT.double().sum(dim=1).tolist()
        asked = [row for rows in told.values() for row in rows]
        for (number, ids), total in zip(asked, sums_N, strict=True):
            found[number] = (total, len(ids))
        return found

    def _check_length(self, groups: Sequence[PrefixGroup], contexts: Sequence[str]) -> None:
        faults = []
        for group, context in zip(groups, contexts, strict=True):
            # The last token is foretold and not read.
            longest = len(group.prefix) + max(len(suffix) for suffix in group.suffixes) - 1
            if longest > self.context:
                faults.append(
                    f"text '{shorten(context, 60)}': with what follows it is {longest} tokens, and "
                    f"the model reads {self.context}; shorten it or take another model"
                )
        if faults:
            raise DataError(faults)


class Policy:
    """Answers questions; the `Generator` role for a model on this machine."""

    def __init__(self, language_model: LanguageModel, instruction: str) -> None:
        self.language_model = language_model
        self.instruction = instruction

    def prompt_ids(self, question: str) -> tuple[int, ...]:
        """Return the ids of a question under the instruction, up to where the answer begins."""
        messages = [Message("system", self.instruction)] if self.instruction else []
        return self.language_model.chat.prompt([*messages, Message("user", question)])

    def check_room(self, questions: Sequence[str], max_new_tokens: int) -> None:
        """Check that each question and its answer fit what the model can read.

        raises: DataError that names every question that does not.
        """
        limit = self.language_model.context
        faults = []
        for question in questions:
            tokens = len(self.prompt_ids(question))
            if tokens + max_new_tokens > limit:
                faults.append(
                    f"question '{shorten(question, 60)}': with the instruction it is {tokens} "
                    f"tokens, which leaves {max(limit - tokens, 0)} of the model's {limit} for an "
                    f"answer of up to {max_new_tokens}; shorten it or lower max_new_tokens"
                )
        if faults:
            raise DataError(faults)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        group: int,
        sampling: Sampling,
        key: tuple[int, ...] = (),
    ) -> list[list[Draft]]:
        """Return [P][G] answers to the questions in `prompts`; the model is left in eval mode.

        raises: DataError when a question leaves no room for an answer; ConfigError when memory
                does not hold one row.
        """
        if not prompts:
            return []
        room = self.language_model
        self.check_room(prompts, sampling.max_new_tokens)
        prompt_ids = [self.prompt_ids(question) for question in prompts]
        groups = [PrefixGroup(ids[:-1], (ids[-1:],) * group) for ids in prompt_ids]
        room.model.eval()
        limits = decode_limits(room.model, room.engine, groups, sampling)
        with matrix_precision(room.engine, room.device):
            rows = sample(
                room.model,
                groups,
                sampling,
                stop_ids=room.chat.stop_ids,
                key=key,
                attention=room.engine.attention,
                max_rows=limits.rows,
                max_tokens=limits.tokens,
                cuda_graphs=room.engine.cuda_graphs,
            )
        return [
            [
                Draft(
                    room.chat.decode(row.tokens),
                    tuple(row.tokens),
                    tuple(row.logprobs),
                    row.finish,
                    row.stop,
                )
                for row in group_rows
            ]
            for group_rows in rows
        ]

    def answer(
        self, question: str, *, temperature: float = 0.0, max_new_tokens: int = 256, seed: int = 0
    ) -> str:
        """Return one answer to one question."""
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
        return self.generate([question], group=1, sampling=sampling)[0][0].text


def load_policy(
    place: Artefact | Path | str, *, engine: EngineConfig | None = None, instruction: str = ""
) -> Policy:
    """Load a policy from its artefact, a model's folder, or the name of a model.

    instruction: the system prompt it answers under; none when empty.
    raises:      ModelError or ArtefactError when there is no model at that place.
    """
    engine = engine or EngineConfig()
    folder, adapter = model_folders(place)
    model, tokenizer = load_backbone(folder, engine)
    if adapter is not None:
        model = load_adapter(model, adapter, "policy")
    return Policy(LanguageModel(model.eval(), tokenizer, engine), instruction)


def model_folders(place: Artefact | Path | str) -> tuple[Path, Path | None]:
    """Return the folder of the backbone, and of the adapter over it if there is one."""
    if isinstance(place, str | Path) and (Path(place) / MANIFEST).is_file():
        place = open_artefact(place, "policy")
    if isinstance(place, Artefact):
        folder = place.path / MODEL
        if (folder / "adapter_config.json").is_file():
            return place.input_path("backbone") / MODEL, folder
        return folder, None
    folder = resolve_model(str(place))
    if (folder / "adapter_config.json").is_file():
        entries = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        base = entries.get("base_model_name_or_path") or ""
        if not base:
            raise ModelError(f"{folder}: adapter_config.json names no base model")
        return resolve_model(base), folder
    return folder, None
