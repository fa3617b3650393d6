"""Likeness to the reference in a model's states: the scale, what cannot be read, the states."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from drenpa.config import EngineConfig
from drenpa.core.text import units
from drenpa.engine.policy import load_policy
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.likeness import OTHER_SUBJECTS, LikenessJudge, StateReader, Vector

REFERENCE = "Cool the burn under running water for twenty minutes."


class FakeStates:
    """A word is an axis, and one axis is long in every text, as a language model's states have."""

    def __init__(self, longest: int = 10_000) -> None:
        self.words: dict[str, int] = {}
        self.longest = longest

    def mean_states(self, texts: Sequence[str]) -> list[Vector | str]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Vector | str:
        if len(text) > self.longest:
            return f"it takes {len(text)} tokens"
        state = np.zeros(1000)
        state[0] = 6.0
        for unit in units(text):
            state[1 + self.words.setdefault(unit, len(self.words))] += 1
        return state


def relevance(answer: str, reference: str = REFERENCE, language: str = "en") -> float:
    ((_, opinion),) = LikenessJudge(FakeStates(), "m").judge(
        [Case("What to do?", answer, reference, language)]
    )
    return opinion.scores["relevance"]


def test_the_reference_itself_is_worth_two_and_texts_on_other_subjects_about_nothing() -> None:
    assert relevance(REFERENCE) == 2.0
    assert max(relevance(text) for text in OTHER_SUBJECTS["en"]) < 0.5
    near = relevance("Hold the burn under cool water for twenty minutes.")
    assert 0.5 < relevance("Put cool water on it.") < near < 2.0


@pytest.mark.parametrize("language", ["en", "zh", "bo"])
def test_the_scale_begins_at_texts_of_the_same_language(language: str) -> None:
    texts = OTHER_SUBJECTS[language]
    assert len(texts) >= 4
    judge = LikenessJudge(FakeStates(), "m")
    ((_, opinion),) = judge.judge([Case("?", texts[1], texts[2], language)])
    others = [FakeStates()._one(text) for text in (texts[2], *texts)]
    assert len(others) == 1 + len(texts)
    assert opinion.scores["relevance"] < 0.6
    assert "texts on other subjects reach" in opinion.thoughts


def test_what_cannot_be_compared_is_unscored_and_an_empty_answer_is_worth_nothing() -> None:
    cases = [
        Case("q", "an answer"),
        Case("q", " \n", REFERENCE),
        Case("q", "long " * 100, REFERENCE),
        Case("q", REFERENCE, REFERENCE),
    ]
    found = dict(LikenessJudge(FakeStates(longest=200), "m").judge(cases))
    assert sorted(found) == [0, 1, 2, 3]
    assert found[0] == Opinion(unscored="there is no reference to compare with")
    assert found[1].scores == {"relevance": 0.0}
    assert "it takes 499 tokens" in found[2].unscored
    assert found[3].scores == {"relevance": 2.0}


def test_a_model_too_small_for_the_scale_says_so() -> None:
    ((_, opinion),) = LikenessJudge(FakeStates(longest=60), "m").judge(
        [Case("q", "Cool it.", REFERENCE)]
    )
    assert opinion.scores == {}
    assert "cannot be compared" in opinion.unscored


def test_who_judges_is_plain_and_told_apart_by_the_model() -> None:
    one = LikenessJudge(FakeStates(), "m", {"model": "m", "revision": "a"})
    assert json.loads(json.dumps(one.identity)) == one.identity
    assert (
        one.identity != LikenessJudge(FakeStates(), "m", {"model": "m", "revision": "b"}).identity
    )
    assert one.name == "likeness: mean states of m"


def test_a_mean_state_is_that_of_a_plain_forward_without_the_first_sign(
    tiny_folder: Callable[..., Path],
) -> None:
    folder = tiny_folder("llama", max_position_embeddings=64)
    engine = EngineConfig(dtype="float32", device="cpu")
    model = load_policy(folder, engine=engine).language_model
    texts = ["one two", "བོད་", "three", "x" * 200]
    *read, too_long = StateReader(model).mean_states(texts)
    bos = model.tokenizer.bos_token_id
    begin = model.chat.end_id if bos is None else bos
    for text, state in zip(texts, read, strict=False):
        ids = torch.tensor([[begin, *model.chat.text(text)]])
        with torch.no_grad():
            hidden = model.model(ids, output_hidden_states=True).hidden_states[-1][0, 1:]
        assert state == pytest.approx(hidden.mean(0).double().numpy(), abs=1e-5)
    assert isinstance(too_long, str)
    assert "reads 64" in too_long
