"""The digits' shares, read from a real model in one pass, against a plain forward of each row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from drenpa.config import EngineConfig
from drenpa.core.errors import ModelError
from drenpa.engine.chat import Message
from drenpa.engine.policy import load_policy
from drenpa.judge.judges import Case
from drenpa.judge.local import LocalJudge
from drenpa.judge.probability import MARK, Reader, Support, supports

FLOAT32 = EngineConfig(dtype="float32", device="cpu")


@pytest.fixture
def folder(tiny_folder: Callable[..., Path]) -> Path:
    return tiny_folder("llama", max_position_embeddings=512)


def test_the_shares_are_those_of_a_plain_forward_of_the_whole_prompt(folder: Path) -> None:
    model = load_policy(folder, engine=FLOAT32).language_model
    lines = ["one line", "another, which is longer", "x"]
    messages = [f"Judge {{this}}. {MARK} End.", f"And that: {MARK}"]
    (first, second) = Reader(model).digit_shares([(message, lines) for message in messages])
    assert not isinstance(first, str)
    assert not isinstance(second, str)
    for message, rows in zip(messages, (first, second), strict=True):
        for line, shares in zip(lines, rows, strict=True):
            before, after = model.chat.split_prompt([Message("user", message)], at=MARK)
            ids = [*before, *model.chat.text(line), *after]
            digits = [model.chat.text(digit)[-1] for digit in "012"]
            with torch.no_grad():
                logits = model.model(torch.tensor([ids])).logits[0, -1]
            expected = logits[digits].softmax(-1).tolist()
            assert shares == pytest.approx(expected, abs=1e-5)
            assert sum(shares) == pytest.approx(1)


def test_what_does_not_fit_is_told_and_the_others_are_read(folder: Path) -> None:
    reader = Reader(load_policy(folder, engine=FLOAT32).language_model)
    found = reader.digit_shares([(f"{'long ' * 200}{MARK}", ["a"]), (f"short {MARK}", ["a"])])
    assert isinstance(found[0], str)
    assert "reads 512" in found[0]
    assert not isinstance(found[1], str)
    cases = [Case("q " * 400, "an answer"), Case("q", "an answer")]
    read = supports(cases, reader)
    assert isinstance(read[0], str)
    assert isinstance(read[1], Support)


def test_a_tokenizer_that_writes_digits_alike_is_refused(folder: Path) -> None:
    model = load_policy(folder, engine=FLOAT32).language_model
    model.chat.text = lambda text: (7,)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="cannot be compared"):
        Reader(model).digit_shares([(f"a {MARK}", ["x"])])


def test_the_local_judge_scores_with_a_real_model_and_says_the_same_twice(folder: Path) -> None:
    reader = Reader(load_policy(folder, engine=FLOAT32).language_model)
    cases = [Case(f"q{n}?", f"Answer {n}.") for n in range(5)] + [Case("q?", "")]
    long = Case("q?", "and so on " * 200)
    ((_, opinion),) = LocalJudge(reader, "tiny").judge([long])
    assert "reads 512" in opinion.unscored
    first = dict(LocalJudge(reader, "tiny").judge(cases))
    assert sorted(first) == list(range(6))
    assert all(0 <= score <= 2 for opinion in first.values() for score in opinion.scores.values())
    assert first[5].scores["quality"] == 0
    assert dict(LocalJudge(reader, "tiny").judge(cases)) == first
