"""A memory before a policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fakes import FakeGenerator
from tests.memory_fakes import FakeKnowingModel

from drenpa.config import MemoryConfig, RecallConfig
from drenpa.core.artefacts import Artefact, Plan, run_plan, write_rows
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Record
from drenpa.core.roles import Sampling
from drenpa.memory.cycle import select_memory
from drenpa.memory.lookup import open_lookup

RECORDS = [
    Record(id=name, kind="foundation", question=question, answer=answer)
    for name, question, answer in (
        ("tea", "How is butter tea made?", "It is churned with salt."),
        ("wool", "Where does wool come from?", "It is shorn from sheep in summer."),
        ("salt", "Who carries salt over the pass?", "Yaks carry it in small bags."),
    )
]
KNOWN, STORED = RECORDS[0].question, RECORDS[1].question


class FakePolicy:
    """Answers with the prompt's length, and has room for 400 characters."""

    def __init__(self) -> None:
        self.generator = FakeGenerator()
        self.generate = self.generator.generate

    def check_room(self, questions, max_new_tokens):
        faults = [f"question '{q[:20]}' is too long" for q in questions if len(q) > 400]
        if faults:
            raise DataError(faults)

    def answer(self, question, *, temperature, max_new_tokens, seed):
        return f"{len(question)} at {temperature}"


def corpus(root: Path) -> Artefact:
    def work(folder: Path):
        write_rows(folder / "records.parquet", RECORDS)
        return {}

    return run_plan(Plan("corpus", "corpus", root, {}, {}, (), work))


@pytest.fixture
def memory(tmp_path: Path) -> Artefact:
    """Of a model that knows how tea is made."""
    model = FakeKnowingModel({KNOWN: RECORDS[0].answer or ""})
    return select_memory(
        corpus(tmp_path), "base", MemoryConfig(), root=tmp_path, load_model=lambda: model
    )


def test_each_question_goes_its_own_way_and_the_policy_is_asked_once_for_all(memory):
    policy = FakePolicy()
    with open_lookup(memory, RecallConfig()) as lookup:
        sampling = Sampling(max_new_tokens=8)
        drafts = lookup.before(policy).generate(
            [KNOWN, STORED], group=2, sampling=sampling, key=(3,)
        )

    ((prompts, group, asked_with, key),) = policy.generator.calls
    assert prompts[0] == KNOWN
    assert '"It is shorn from sheep in summer."' in prompts[1]
    assert prompts[1].endswith(STORED)
    assert (group, asked_with, key) == (2, sampling, (3,))
    assert [len(row) for row in drafts] == [2, 2]


def test_the_routes_tell_which_questions_were_looked_up(memory):
    asked = [row.model_copy(update={"id": f"asked-{row.id}"}) for row in RECORDS[:2]]
    with open_lookup(memory, RecallConfig(passages=1)) as lookup:
        routes = {row.item: row for row in lookup.routes(asked)}

    assert (routes["asked-tea"].source, routes["asked-tea"].passages) == ("weights", ())
    assert (routes["asked-wool"].source, routes["asked-wool"].passages) == ("store", ("wool",))
    assert routes["asked-wool"].reason == "wool is external"


def test_one_answer_is_given_by_the_same_route(memory):
    with open_lookup(memory, RecallConfig()) as lookup:
        policy = lookup.before(FakePolicy())
        assert policy.answer(KNOWN) == f"{len(KNOWN)} at 0.0"
        assert policy.answer(STORED, temperature=0.5) == f"{len(lookup.prompt(STORED))} at 0.5"


def test_passages_that_leave_no_room_are_told_with_what_to_lower(memory):
    with open_lookup(memory, RecallConfig()) as lookup:
        policy = lookup.before(FakePolicy())
        policy.check_room([KNOWN], 8)
        with pytest.raises(DataError, match=r"lower memory\.recall\.passages") as raised:
            policy.check_room([KNOWN, STORED + " please" * 60], 8)

    assert str(raised.value).count("is too long") == 1


def test_only_a_memory_can_be_asked(tmp_path):
    with (
        pytest.raises(ArtefactError, match="is a corpus, but a memory is needed"),
        open_lookup(corpus(tmp_path), RecallConfig()),
    ):
        pass
