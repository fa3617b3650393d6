"""A policy as the probe needs it: how probable it finds an answer when it is *asked* the question.

The probe must ask as users do. In this file, and in no other of the room, torch is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import torch

from drenpa.config import EngineConfig
from drenpa.core.artefacts import Artefact
from drenpa.core.errors import DataError
from drenpa.core.roles import Draft, Sampling
from drenpa.engine.adapters import matrix_precision
from drenpa.engine.logprobs import next_token_logprobs
from drenpa.engine.loop import in_chunks
from drenpa.engine.memory_bound import read_limit
from drenpa.engine.policy import Policy, load_policy
from drenpa.engine.prefix import PrefixGroup, suffix_states

GROUPS = 8  # questions in one forward pass


class AskedPolicy:
    """A policy whose `logprobs` put the context into its chat format, under its instruction.

    parameters: how many weights the model has, adapters included.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        model = policy.language_model.model
        self.parameters: int = sum(weight.numel() for weight in model.parameters())

    def too_long(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Return for each (question, answer) why the model cannot read it, or an empty text."""
        room = self._policy.language_model
        asked = {q: len(self._policy.prompt_ids(q)) for q in dict.fromkeys(q for q, _ in pairs)}
        told = {a: len(room.chat.text(a)) for a in dict.fromkeys(a for _, a in pairs)}
        lengths = [asked[question] + told[answer] for question, answer in pairs]
        return [
            f"it takes {length} tokens with the instruction, and the model reads {room.context}"
            if length > room.context
            else ""
            for length in lengths
        ]

    @torch.no_grad()
    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        """Return for each (question, answer) the answer's log-probability and its tokens.

        The token that ends an answer does not count. An empty answer is (0.0, 0).

        raises: DataError that names every pair which the model cannot read; ConfigError when memory
                does not hold one question's answers.
        """
        room = self._policy.language_model
        faults = [
            f"question '{shorten(question, 60)}' with answer '{shorten(answer, 60)}': {reason}; "
            "shorten them"
            for (question, answer), reason in zip(pairs, self.too_long(pairs), strict=True)
            if reason
        ]
        if faults:
            raise DataError(faults)
        told: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
        for number, (question, answer) in enumerate(pairs):
            ids = room.chat.text(answer)
            if ids:
                told.setdefault(question, []).append((number, ids))
        found = [(0.0, 0)] * len(pairs)
        if not told:
            return found
        groups = []
        for question, rows in told.items():
            prompt = self._policy.prompt_ids(question)
            suffixes = tuple((prompt[-1], *ids) for _, ids in rows)
            groups.append(PrefixGroup(prompt[:-1], suffixes))
        sums_N: list[float] = []
        for part in in_chunks(groups, read_limit(room.model, room.engine, groups, GROUPS)):
            with matrix_precision(room.engine, room.device):
                states = suffix_states(room.model, part, attention=room.engine.attention)
                values = next_token_logprobs(room.model, states)
            sums_N += values.logprobs_NT.double().sum(dim=1).tolist()
        asked_rows = [row for rows in told.values() for row in rows]
        for (number, ids), total in zip(asked_rows, sums_N, strict=True):
            found[number] = (total, len(ids))
        return found

    def generate(
        self, prompts: Sequence[str], *, group: int, sampling: Sampling, key: tuple[int, ...] = ()
    ) -> list[list[Draft]]:
        """Return [P][G] answers, as the policy's own `generate` does."""
        return self._policy.generate(prompts, group=group, sampling=sampling, key=key)


def load_asked(
    place: Artefact | Path | str, *, engine: EngineConfig, instruction: str
) -> AskedPolicy:
    """Load a policy to be probed, from its artefact, a model's folder, or a model's name."""
    return AskedPolicy(load_policy(place, engine=engine, instruction=instruction))
