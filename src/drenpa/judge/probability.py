"""What a language model's probabilities say of an answer: conditional PMI, surprise, the score.

A model that is too small to write a verdict still finds some answers more probable than others.
Conditional pointwise mutual information is `log p(a|q) − log p(a)`: how much the question lends the
answer. The expected score is the mean of 0, 1 and 2 under the probabilities that the model gives
these three digits where its score would stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from drenpa.core.errors import ModelError
from drenpa.judge.judges import Case

if TYPE_CHECKING:
    from drenpa.engine.policy import LanguageModel as EngineModel

READ = 300  # characters of an answer whose probability is read
WITH, WITHOUT = "Question: {question}\nAnswer:", "Answer:"
MARK = "\ue010"  # a private-use character: where a prompt's rows part
DIGITS = ("0", "1", "2")


class LanguageModel(Protocol):
    """Where probabilities come from; a `Reader` is one."""

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        """Return for each (context, continuation) its log-probability and its tokens."""
        ...

    def too_long(self, text: str) -> str:
        """Say why the model cannot read a text in one piece, or return ""."""
        ...


class ScoringModel(LanguageModel, Protocol):
    """One that can also be asked for a digit."""

    def digit_shares(self, prompts: Sequence[tuple[str, Sequence[str]]]) -> list[Shares | str]:
        """Return for each prompt how the digits 0, 1 and 2 share the next token's probability.

        prompts: a user's message with one `MARK` in it, and the texts to put there in turn.
        returns: [prompts][texts] of three shares that sum to 1; or why a prompt cannot be read.
        """
        ...


Shares = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Support:
    """pmi: nats per token that the question lends the answer. surprise: nats per token of the
    answer without its question."""

    pmi: float
    surprise: float


def supports(cases: Sequence[Case], model: LanguageModel) -> list[Support | str]:
    """Return the support of each answer's beginning; or why it cannot be read.

    cases: with answers that have at least one unit.
    """
    contexts = [WITH.replace("{question}", case.question) for case in cases]
    beginnings = [" " + case.answer.strip()[:READ] for case in cases]
    found: list[Support | str] = [
        model.too_long(context + beginning)
        for context, beginning in zip(contexts, beginnings, strict=True)
    ]
    places = [place for place, reason in enumerate(found) if not reason]
    probabilities = model.logprobs(
        [
            *((contexts[place], beginnings[place]) for place in places),
            *((WITHOUT, beginnings[place]) for place in places),
        ]
    )
    for place, (given, tokens), (plain, _) in zip(
        places, probabilities[: len(places)], probabilities[len(places) :], strict=True
    ):
        tokens = max(1, tokens)
        found[place] = Support((given - plain) / tokens, -plain / tokens)
    return found


class Reader:
    """A model of the engine's as a `ScoringModel`."""

    def __init__(self, model: EngineModel) -> None:
        self._model = model

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        """Return for each (context, continuation) its log-probability and its tokens."""
        return self._model.logprobs(pairs)

    def too_long(self, text: str) -> str:
        """Compare a text's tokens, and two to begin with, with the model's context."""
        return self._over(len(self._model.chat.text(text)) + 2)

    def digit_shares(self, prompts: Sequence[tuple[str, Sequence[str]]]) -> list[Shares | str]:
        """Run each prompt once as the prefix that its texts share, and read the three digits.

        raises: ModelError when the model's tokens do not tell the digits apart.
        """
        import torch

        from drenpa.engine.adapters import matrix_precision
        from drenpa.engine.backbone import backbone_of
        from drenpa.engine.chat import Message
        from drenpa.engine.prefix import PrefixGroup, suffix_states

        chat = self._model.chat
        head, digits = self._digits()
        found: list[Shares | str] = []
        groups, places = [], []
        for message, texts in prompts:
            before, after = chat.split_prompt([Message("user", message)], at=MARK)
            rows = tuple((*chat.text(text), *after, *head) for text in texts)
            reason = self._over(len(before) + max(len(row) for row in rows) + 1)
            if not reason:
                groups.append(PrefixGroup(before, rows))
                places.append(len(found))
            found.append(reason)
        if not groups:
            return found
        device = self._model.device
        with torch.no_grad(), matrix_precision(self._model.engine, device):
            states = suffix_states(
                self._model.model, groups, attention=self._model.engine.attention
            )
            last_N = states.mask_NT.sum(dim=1) - 1
            last_NH = states.hidden_NTH[torch.arange(len(last_N), device=device), last_N]
            logits_NV = backbone_of(self._model.model).logits(last_NH).float()
            shares_N3 = logits_NV[:, list(digits)].softmax(dim=-1).tolist()
        rows_left = iter(shares_N3)
        for place, group in zip(places, groups, strict=True):
            found[place] = tuple(tuple(next(rows_left)) for _ in group.suffixes)
        return found

    def _digits(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the tokens that stand before any digit, and the three digits' own."""
        ids = [self._model.chat.text(digit) for digit in DIGITS]
        heads = {one[:-1] for one in ids}
        last = tuple(one[-1] for one in ids)
        if len(heads) > 1 or len(set(last)) < len(last):
            raise ModelError(
                "the judge's model writes 0, 1 and 2 in ways that cannot be compared; choose "
                "another with benchmark.judge.model"
            )
        return heads.pop(), last

    def _over(self, tokens: int) -> str:
        limit = self._model.context
        return (
            f"it takes {tokens} tokens and the judge's model reads {limit}"
            if tokens > limit
            else ""
        )
