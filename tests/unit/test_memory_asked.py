"""The policy as it is probed: asked in its chat format, against the plain model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from drenpa.config import EngineConfig, MemoryConfig
from drenpa.core.artefacts import Plan, run_plan, write_rows
from drenpa.core.errors import ConfigError, DataError
from drenpa.core.records import Record
from drenpa.core.roles import Sampling
from drenpa.engine.chat import Message
from drenpa.engine.memory_bound import Extent, read_parts
from drenpa.engine.policy import load_policy
from drenpa.memory.asked import AskedPolicy, load_asked
from drenpa.memory.cycle import select_memory
from drenpa.memory.probe import AnswerLogprobs, probe_block
from drenpa.memory.select import Decision

ENGINE = EngineConfig(device="cpu", dtype="float32")
PAIRS = [("who?", "me"), ("who?", "you, then <|im_end|>"), ("why", ""), ("why", "ཚེག་")]


@pytest.fixture(scope="module")
def asked(tiny_folder) -> AskedPolicy:
    return load_asked(tiny_folder(), engine=ENGINE, instruction="Be brief.")


def test_an_answers_log_probability_is_that_of_the_whole_chat_run_through_the_model(asked):
    room = asked._policy.language_model
    expected = []
    for question, answer in PAIRS:
        prompt = room.chat.prompt([Message("system", "Be brief."), Message("user", question)])
        ids = room.chat.text(answer)
        with torch.no_grad():
            logits = room.model(torch.tensor([[*prompt, *ids]])).logits[0].log_softmax(-1)
        steps = [float(logits[len(prompt) - 1 + n, token]) for n, token in enumerate(ids)]
        expected.append((pytest.approx(sum(steps), abs=1e-4), len(ids)))
    assert asked.logprobs(PAIRS) == expected


def test_pairs_come_back_in_the_order_they_were_asked(asked):
    forth, back = asked.logprobs(PAIRS), asked.logprobs(PAIRS[::-1])
    for (total, tokens), (other, same) in zip(forth, back[::-1], strict=True):
        assert total == pytest.approx(other, abs=1e-4)
        assert tokens == same


def test_little_memory_changes_no_probability_and_too_little_is_refused(asked, tiny_folder):
    def within(memory):
        engine = ENGINE.model_copy(update={"memory_gb": memory / 1e9})
        policy = load_asked(tiny_folder(), engine=engine, instruction="Be brief.")
        return [total for total, _ in policy.logprobs(PAIRS)]

    room = asked._policy
    longest = max(len(room.prompt_ids(question)) for question, _ in PAIRS)
    extent = Extent(
        longest - 1, 2, 1 + max(len(room.language_model.chat.text(a)) for _, a in PAIRS)
    )
    one = read_parts(room.language_model.model, ENGINE, extent, 1).total + 1

    assert within(one) == pytest.approx([total for total, _ in asked.logprobs(PAIRS)], abs=1e-4)
    with pytest.raises(ConfigError, match="one group of 2 rows"):
        within(one / 2)


def test_the_weights_are_counted(asked):
    model = asked._policy.language_model.model
    assert asked.parameters == model.num_parameters() > 1000


def test_it_samples_as_its_policy_does(asked, tiny_folder):
    policy = load_policy(tiny_folder(), engine=ENGINE, instruction="Be brief.")
    sampling = Sampling(max_new_tokens=5, seed=3)
    assert asked.generate(["who?"], group=2, sampling=sampling) == policy.generate(
        ["who?"], group=2, sampling=sampling
    )


def test_a_plain_language_model_can_be_probed_too(tiny_folder):
    model: AnswerLogprobs = load_policy(tiny_folder(), engine=ENGINE).language_model
    rows = [
        Record(id=name, kind="foundation", question=f"what is {name}", answer=f"it is {name}")
        for name in ("ka", "kha", "ga")
    ]
    assert [probe.record for probe in probe_block(rows, model)] == ["ka", "kha", "ga"]


def test_a_selection_runs_on_a_real_model(tiny_folder, tmp_path: Path):
    rows = [
        Record(id=name, kind="foundation", question=f"what is {name}", answer=f"it is {name}")
        for name in ("ka", "kha", "ga")
    ]

    def work(folder: Path):
        write_rows(folder / "records.parquet", rows)
        return {}

    corpus = run_plan(Plan("corpus", "corpus", tmp_path, {}, {}, (), work))
    config = MemoryConfig(probe={"samples": 1, "max_new_tokens": 4})
    memory = select_memory(corpus, str(tiny_folder()), config, root=tmp_path, engine=ENGINE)
    assert memory.inputs["policy"]["path"] == str(tiny_folder())
    assert {row.place for row in memory.rows("decisions", Decision)} == {"internalise"}
    assert memory.summary["mean_known"] < 0.3


def test_what_is_longer_than_the_model_reads_is_refused_with_its_place(asked):
    long = "me " * 2000
    assert asked.too_long([("who?", "me")]) == [""]
    (reason,) = asked.too_long([("who?", long)])
    assert reason.startswith("it takes 6")
    assert f"the model reads {asked._policy.language_model.context}" in reason
    with pytest.raises(DataError, match=r"question 'who\?' with answer 'me me .*: it takes 6"):
        asked.logprobs([("who?", "me"), ("who?", long)])


def test_the_reason_comes_with_the_first_token_too_many(asked):
    limit = asked._policy.language_model.context
    room = limit - len(asked._policy.prompt_ids("who?"))
    letters = len(asked._policy.language_model.chat.text("a" * room))
    assert letters == room  # the tiny model reads letters
    assert asked.too_long([("who?", "a" * room), ("who?", "a" * (room + 1))])[0] == ""
    assert asked.too_long([("who?", "a" * (room + 1))])[0]
    assert asked.logprobs([("who?", "a" * room)])[0][1] == room
