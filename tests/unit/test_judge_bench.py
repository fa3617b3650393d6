"""Which items, which answers, which verdicts, and what a broken run keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes import FakeGenerator
from tests.judge_fakes import FakeJudge

from drenpa.config import BenchmarkConfig, JudgeConfig
from drenpa.core.artefacts import Artefact, Plan, run_plan, write_rows
from drenpa.core.errors import ConfigError, DataError
from drenpa.core.knowledge import DIMENSIONS, KINDS
from drenpa.core.records import Record, Verdict
from drenpa.core.roles import Sampling
from drenpa.core.store import Store
from drenpa.judge.answers import CHUNK, Answer, choose_items, sample_answers
from drenpa.judge.bench import judge_answers, plan_benchmark
from drenpa.judge.judges import Case, Opinion
from drenpa.judge.summary import summarise


def record(number: int, kind: str = "foundation", language: str = "en", source: str = "") -> Record:
    return Record.model_validate(
        {
            "id": f"{kind}-{language}-{number}",
            "kind": kind,
            "question": f"What is {kind} {number}?",
            "answer": f"It is {number}.",
            "language": language,
            "source": source,
            "split": "test",
        }
    )


MANY = [
    record(number, kind, language, f"{kind}/{number % 3}")
    for kind in KINDS
    for language, count in (("en", 24), ("zh", 4), ("bo", 2))
    for number in range(count)
]


def test_the_choice_of_items_is_fixed_and_grows_by_adding() -> None:
    chosen = [{item.id for item in choose_items(MANY, count)} for count in (3, 10, 20)]
    assert [len(ids) for ids in chosen] == [12, 40, 80]
    assert chosen[0] < chosen[1] < chosen[2]
    assert choose_items(MANY[::-1], 10) == choose_items(MANY, 10)
    assert len(choose_items(MANY, 0)) == len(choose_items(MANY, 1000)) == len(MANY)


def test_the_choice_takes_languages_and_sources_in_proportion() -> None:
    chosen = [item for item in choose_items(MANY, 15) if item.kind == "foundation"]
    by_language = {lang: sum(i.language == lang for i in chosen) for lang in ("en", "zh", "bo")}
    assert by_language["en"] == 12
    assert by_language["zh"] + by_language["bo"] == 3
    for place in range(3):
        assert sum(item.source == f"foundation/{place}" for item in chosen) >= 4


def test_a_corpus_without_benchmark_questions_is_refused() -> None:
    with pytest.raises(DataError, match="no benchmark question"):
        choose_items([], 3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.sqlite") as opened:
        yield opened


ORIGIN = {"revision": "abc", "instruction": "Answer."}


def test_a_broken_run_samples_only_the_chunks_that_are_missing(store: Store) -> None:
    items, sampling = MANY[: CHUNK * 2 + 5], Sampling(max_new_tokens=8, seed=3)

    class Killed(FakeGenerator):
        def generate(self, prompts, *, group, sampling, key=()):  # type: ignore[no-untyped-def]
            if key == (2,):
                raise KeyboardInterrupt
            return super().generate(prompts, group=group, sampling=sampling, key=key)

    first, second = Killed(), FakeGenerator()
    asked = {"samples": 2, "sampling": sampling, "store": store, "origin": ORIGIN}
    with pytest.raises(KeyboardInterrupt):
        sample_answers(items, lambda: first, **asked)  # type: ignore[arg-type]
    whole = sample_answers(items, lambda: second, **asked)  # type: ignore[arg-type]
    assert [key for *_, key in first.calls] == [(0,), (1,)]
    assert [key for *_, key in second.calls] == [(2,)]
    assert len(whole) == 2 * len(items)
    assert whole[1] == Answer(items[0].id, 1, f"answer 1 to {items[0].question}", "stop")

    def refuse() -> FakeGenerator:
        raise AssertionError("loaded")

    assert sample_answers(items, refuse, **asked) == whole  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"origin": {**ORIGIN, "revision": "abd"}},
        {"sampling": Sampling(max_new_tokens=9, seed=3)},
        {"sampling": Sampling(max_new_tokens=8, seed=4)},
        {"samples": 3},
    ],
)
def test_other_weights_or_another_decoding_are_never_served_from_the_store(
    store: Store, change: dict[str, object]
) -> None:
    asked = {
        "samples": 2,
        "sampling": Sampling(max_new_tokens=8, seed=3),
        "store": store,
        "origin": ORIGIN,
    }
    sample_answers(MANY[:3], FakeGenerator, **asked)  # type: ignore[arg-type]
    other = FakeGenerator()
    sample_answers(MANY[:3], lambda: other, **{**asked, **change})  # type: ignore[arg-type]
    assert len(other.calls) == 1


def test_answers_are_found_by_their_questions_and_not_by_their_place(store: Store) -> None:
    asked = {"samples": 1, "sampling": Sampling(), "store": store, "origin": ORIGIN}
    sample_answers(MANY[:4], FakeGenerator, **asked)  # type: ignore[arg-type]
    turned = sample_answers(MANY[3::-1], FakeGenerator, **asked)  # type: ignore[arg-type]
    assert [answer.text for answer in turned] == [
        f"answer 0 to {item.question}" for item in MANY[3::-1]
    ]


def answers_to(items: list[Record]) -> list[Answer]:
    return [Answer(item.id, 0, f"answer to {item.id}", "stop") for item in items]


def test_a_killed_judging_pays_for_no_verdict_twice(store: Store) -> None:
    items = MANY[:20]
    answers = answers_to(items)
    killed = FakeJudge(stop_after=8)
    with pytest.raises(KeyboardInterrupt):
        judge_answers(items, answers, killed, store=store)
    second = FakeJudge()
    opinions = judge_answers(items, answers, second, store=store)
    assert len(opinions) == 20
    assert len(killed.seen) == 8
    assert len(second.seen) == 12
    assert not {case.question for case in killed.seen} & {case.question for case in second.seen}


def test_opinions_come_back_to_the_answers_they_are_about(store: Store) -> None:
    items = MANY[:6]
    answers = [Answer(item.id, 0, "x" * place, "stop") for place, item in enumerate(items)]
    judge = FakeJudge(lambda case: Opinion(dict.fromkeys(DIMENSIONS, len(case.answer) / 5)))
    found = judge_answers(items, answers, judge, store=store)
    assert [opinion.scores["quality"] for opinion in found] == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert [case.reference for case in judge.seen] == [item.answer for item in items[::-1]]


def test_the_same_answer_to_the_same_question_is_judged_once(store: Store) -> None:
    items, judge = MANY[:1], FakeJudge()
    answers = [Answer(items[0].id, sample, "the same", "stop") for sample in range(4)]
    assert len(judge_answers(items, answers, judge, store=store)) == 4
    assert len(judge.seen) == 1


def test_what_was_unscored_is_asked_again_and_another_judge_is_not_served_from_the_store(
    store: Store,
) -> None:
    items = MANY[:4]
    answers = answers_to(items)

    def grumpy(case: Case) -> Opinion:
        if case.question == items[0].question:
            return Opinion(unscored="the endpoint answered 500")
        return Opinion(dict.fromkeys(DIMENSIONS, 1.0))

    first = judge_answers(items, answers, FakeJudge(grumpy), store=store)
    assert first[0].unscored
    second = FakeJudge()
    again = judge_answers(items, answers, second, store=store)
    assert [case.question for case in second.seen] == [items[0].question]
    assert again[0].scores["quality"] == 2
    assert again[1].scores["quality"] == 1
    other = FakeJudge(name="another judge")
    judge_answers(items, answers, other, store=store)
    assert len(other.seen) == 4
    once_more = FakeJudge()
    judge_answers(items, answers, once_more, store=store, repeat=1)
    assert [case.repeat for case in once_more.seen] == [1] * 4


def verdict(item: Record, score: float | None, **changes: object) -> Verdict:
    scores = {} if score is None else dict.fromkeys(DIMENSIONS, score)
    return Verdict.model_validate(
        {
            "item": item.id,
            "kind": item.kind,
            "cluster": item.source or item.id,
            "strategy": "sft",
            "model": "m",
            "seed": 1,
            "sample": 0,
            "question": item.question,
            "model_answer": "a",
            "judge": "j",
            "scores": scores,
            "unscored": "" if scores else "silence",
        }
        | changes
    )


def test_the_summary_counts_what_is_missing_and_says_what_can_be_seen() -> None:
    rows = [verdict(item, 1.5) for item in MANY]
    rows[0] = verdict(MANY[0], None, model_answer=" ")
    rows[1] = verdict(MANY[1], 1.5, finish="length")
    told = summarise(rows)
    assert told["items"] == dict.fromkeys(KINDS, 30)
    assert told["unscored"] == dict.fromkeys(DIMENSIONS, 1)
    assert told["unscored_reasons"] == {"silence": 1}
    assert (told["truncated"], told["empty"], told["clusters"]) == (1, 1, 12)
    assert told["percent"]["foundation"]["safety"] == 75.0
    # 29 answers at 1.5 of 2 and an empty one: safe or not, and certainly not relevant
    assert told["bounds"]["foundation"]["safety"] == [72.5, 75.83]
    assert told["bounds"]["foundation"]["relevance"] == [72.5, 72.5]
    assert told["bounds"]["connection"]["safety"] == [75.0, 75.0]
    # 2.8016 · 40 / √30 and 2.8016 · 40 / √120
    assert told["detectable_points"]["foundation"] == 20.5
    assert told["detectable_points"]["all"] == 10.2


@pytest.fixture
def corpus(tmp_path: Path) -> Artefact:
    def work(folder: Path) -> dict[str, int]:
        write_rows(folder / "benchmark.parquet", MANY)
        return {}

    return run_plan(Plan("corpus", "corpus", tmp_path, {}, {}, ("corpus",), work))


def plan(corpus: Artefact, tmp_path: Path, config: BenchmarkConfig, seed: int = 1) -> Plan:
    return plan_benchmark(
        "smollm2-135m",
        corpus,
        config,
        strategy="base",
        model="smollm2-135m",
        root=tmp_path,
        seed=seed,
    )


def test_its_key_depends_on_what_can_change_a_verdict_and_on_nothing_else(
    corpus: Artefact, tmp_path: Path
) -> None:
    config = BenchmarkConfig()
    same = config.model_copy(
        update={"strategies": ("base",), "judge": JudgeConfig().model_copy(update={"retries": 9})}
    )
    other = config.model_copy(update={"temperature": 0.3})
    key = plan(corpus, tmp_path, config).key
    assert plan(corpus, tmp_path, same).key == key
    assert plan(corpus, tmp_path, other).key != key
    assert plan(corpus, tmp_path, config, seed=2).key != key


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"prompt": "judge"}, "cannot have the slot"),
        ({"judge": {"name": "critic"}}, "needs the critic"),
    ],
)
def test_what_cannot_work_is_refused_before_it_costs_anything(
    corpus: Artefact, tmp_path: Path, config: dict[str, object], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        plan(corpus, tmp_path, BenchmarkConfig.model_validate(config))
