"""A judge that compares what a model makes of the answer with what it makes of the reference.

A text is the mean of its tokens' last hidden states. Of a language model's states all texts are
alike (0.8 and more by cosine), so a cosine alone says nothing: it is placed between that of texts
on another subject in the same language, which counts 0, and that of the reference itself, which
counts 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drenpa.core.knowledge import Dimension
from drenpa.core.text import units
from drenpa.judge.critic_judge import OFF_TOPIC
from drenpa.judge.judges import Case, Opinion

if TYPE_CHECKING:
    from drenpa.engine.policy import LanguageModel as EngineModel

BATCH = 8  # texts in one forward pass

Vector = NDArray[np.float64]

OTHER_SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "en": (
        OFF_TOPIC["en"],
        "Yeast eats the sugar in the dough and gives off carbon dioxide, so the dough rises in an "
        "hour or two.",
        "The river divides the town in two; the older houses stand on the northern bank.",
        "She learned to play the flute as a child and later taught it at a school.",
    ),
    "zh": (
        OFF_TOPIC["zh"],
        "酵母吃掉面团里的糖，放出二氧化碳，面团一两个小时就发起来了。",
        "一条河把小城分成两半，老房子都在北岸。",
        "她从小学吹笛子，后来在一所学校里教笛子。",
    ),
    "bo": (
        OFF_TOPIC["bo"],
        "རྩབས་ཀྱིས་བག་ཟན་ནང་གི་མངར་ཆ་ཟོས་ནས་རླངས་པ་འབྱིན། ཆུ་ཚོད་གཅིག་གཉིས་ནང་བག་ཟན་རྒྱས།",
        "གཙང་པོ་ཞིག་གིས་གྲོང་བརྡལ་གཉིས་སུ་བགོས་ཡོད། ཁང་པ་རྙིང་པ་རྣམས་བྱང་ངོས་སུ་ཡོད།",
        "ཁོ་མོས་ཆུང་དུས་ནས་གླིང་བུ་སྦྱངས། རྗེས་སུ་སློབ་གྲྭ་ཞིག་ཏུ་གླིང་བུ་བསླབས།",
    ),
}
"""Texts on subjects of their own, by language."""


class StateModel(Protocol):
    """Where a text's mean state comes from; a `StateReader` is one."""

    def mean_states(self, texts: Sequence[str]) -> list[Vector | str]:
        """Return the mean of each text's last hidden states; or why it cannot be read."""
        ...


class LikenessJudge:
    """Relevance as likeness to the reference in a model's own states."""

    sees: tuple[Dimension, ...] = ("relevance",)

    def __init__(
        self, model: StateModel, model_name: str, identity: Mapping[str, Any] | None = None
    ) -> None:
        """model_name: as it stands in every verdict; identity: what tells its bytes."""
        self._model = model
        self._model_name = model_name
        self._model_identity = identity or {"model": model_name}

    @property
    def name(self) -> str:
        """What is compared, and in whose states."""
        return f"likeness: mean states of {self._model_name}"

    @property
    def card(self) -> str:
        """What it looks at and how far it goes."""
        return (
            f"{self.name}: relevance is the cosine between answer and reference in the model's "
            "mean last hidden states, from 0 for what texts on other subjects reach to 2 for the "
            "reference itself; no other dimension is scored, and nothing is without a reference. "
            "The model was made to predict words and not to compare texts: subject and style "
            "weigh more than whether what is said is true."
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, and the texts that say where the scale begins."""
        return {
            "judge": "likeness",
            "others": {language: list(texts) for language, texts in OTHER_SUBJECTS.items()},
            **self._model_identity,
        }

    def judge(self, cases: Sequence[Case]) -> Iterator[tuple[int, Opinion]]:
        """Yield an opinion on each case."""
        for start in range(0, len(cases), BATCH // 2):
            chosen = cases[start : start + BATCH // 2]
            yield from enumerate(self._opinions(chosen), start)

    def _opinions(self, cases: Sequence[Case]) -> list[Opinion]:
        read = [place for place, case in enumerate(cases) if case.reference.strip()]
        read = [place for place in read if units(cases[place].answer)]
        texts = [
            text.strip() for place in read for text in (cases[place].answer, cases[place].reference)
        ]
        states = self._model.mean_states(texts)
        found = [
            Opinion({"relevance": 0.0}, "The answer is empty.", _ONE)
            if case.reference.strip()
            else Opinion(unscored="there is no reference to compare with")
            for case in cases
        ]
        for turn, place in enumerate(read):
            found[place] = self._opinion(cases[place], *states[2 * turn : 2 * turn + 2])
        return found

    def _opinion(self, case: Case, answer: Vector | str, reference: Vector | str) -> Opinion:
        others = self._others.get(case.language, self._others["en"])
        if isinstance(answer, str) or isinstance(reference, str) or isinstance(others, str):
            reason = next(one for one in (answer, reference, others) if isinstance(one, str))
            return Opinion(unscored=f"answer and reference cannot be compared: {reason}")
        floor = float(np.mean([_cosine(reference, other) for other in others]))
        likeness = _cosine(answer, reference)
        place = min(1.0, max(0.0, (likeness - floor) / max(1 - floor, 1e-6)))
        told = f"cosine {likeness:.3f}; texts on other subjects reach {floor:.3f}"
        return Opinion({"relevance": round(2 * place, 4)}, told, _ONE)

    @cached_property
    def _others(self) -> dict[str, list[Vector] | str]:
        """Return the states of the texts on other subjects; or why they cannot be read."""
        found: dict[str, list[Vector] | str] = {}
        for language, texts in OTHER_SUBJECTS.items():
            states = self._model.mean_states(texts)
            told = [state for state in states if isinstance(state, str)]
            found[language] = told[0] if told else [s for s in states if not isinstance(s, str)]
        return found


class StateReader:
    """A model of the engine's as a `StateModel`."""

    def __init__(self, model: EngineModel) -> None:
        self._model = model

    def mean_states(self, texts: Sequence[str]) -> list[Vector | str]:
        """Read each text behind the sign that texts begin with, which is not counted itself: its
        state is many times longer than all others."""
        found: list[Vector | str] = []
        for start in range(0, len(texts), BATCH):
            found += self._read(texts[start : start + BATCH])
        return found

    def _read(self, texts: Sequence[str]) -> list[Vector | str]:
        import torch

        from drenpa.engine.adapters import matrix_precision
        from drenpa.engine.prefix import PrefixGroup, suffix_states

        chat, limit = self._model.chat, self._model.context
        begin = self._model.tokenizer.bos_token_id
        begin = chat.end_id if begin is None else begin
        rows = [chat.text(text) for text in texts]
        found: list[Vector | str] = [_reason(len(row) + 1, limit) for row in rows]
        places = [place for place, reason in enumerate(found) if not reason]
        if not places:
            return found
        group = PrefixGroup((begin,), tuple(rows[place] for place in places))
        with torch.no_grad(), matrix_precision(self._model.engine, self._model.device):
            states = suffix_states(
                self._model.model, [group], attention=self._model.engine.attention
            )
        sums_NH = states.hidden_NTH.double().sum(dim=1)
        means_NH = sums_NH / states.mask_NT.sum(dim=1, keepdim=True)
        for place, mean_H in zip(places, means_NH.cpu().numpy(), strict=True):
            found[place] = mean_H
        return found


_ONE = "only relevance can be read off a reference"


def _reason(tokens: int, limit: int) -> str:
    if tokens < 2:
        return "it has no tokens"
    return f"it takes {tokens} tokens and the model reads {limit}" if tokens > limit else ""


def _cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
