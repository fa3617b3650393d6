"""A whole benchmark with a tiny random model: offline judge, critic, endpoint that fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes import FakeScorer

from drenpa.config import BenchmarkConfig, EngineConfig
from drenpa.core.artefacts import Artefact, Plan, run_plan, write_rows
from drenpa.core.errors import ScoringError
from drenpa.core.knowledge import KINDS
from drenpa.core.records import Record, Verdict
from drenpa.core.store import Store
from drenpa.judge.bench import STORE, benchmark, plan_benchmark

FLOAT32 = EngineConfig(dtype="float32", device="cpu")


@pytest.fixture
def corpus(tmp_path: Path) -> Artefact:
    rows = [
        Record(
            id=f"{kind}-{number}",
            kind=kind,
            question=f"What is {number} of {kind}?",
            answer=f"It is the number {number}.",
            source=f"{kind}/{number % 2}",
            split="test",
        )
        for kind in KINDS
        for number in range(3)
    ]

    def work(folder: Path) -> dict[str, int]:
        write_rows(folder / "benchmark.parquet", rows)
        return {}

    return run_plan(Plan("corpus", "corpus", tmp_path, {}, {}, ("corpus",), work))


def test_a_local_model_is_benchmarked_and_a_second_run_is_the_same(
    corpus: Artefact, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    folder = str(tiny_folder())
    config = BenchmarkConfig(items_per_kind=2, samples=2, max_new_tokens=6)
    settings = {"strategy": "base", "model": folder, "engine": FLOAT32, "seed": 5}
    found = benchmark(folder, corpus, config, root=tmp_path / "one", **settings)
    verdicts = found.rows("verdicts", Verdict)
    assert len(verdicts) == 2 * 2 * 4
    assert {verdict.judge for verdict in verdicts} == {found.summary["judge"]}
    assert found.summary["judge"].startswith("offline-v1: rules + reference + probabilities")
    assert found.summary["unscored"] == dict.fromkeys(found.summary["unscored"], 0)
    assert {verdict.cluster for verdict in verdicts} <= {f"{k}/{n}" for k in KINDS for n in (0, 1)}
    assert len({verdict.model_answer for verdict in verdicts}) > 8
    assert not (found.path / "scratch").exists()
    again = benchmark(folder, corpus, config, root=tmp_path / "two", **settings)
    assert again.digest == found.digest


def test_the_critic_may_judge_under_its_flag(
    corpus: Artefact, tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    folder = str(tiny_folder())
    critic = run_plan(Plan("critic", "critic", tmp_path, {}, {}, ("critic",), lambda folder: {}))
    found = benchmark(
        folder,
        corpus,
        BenchmarkConfig.model_validate(
            {"items_per_kind": 1, "max_new_tokens": 4, "judge": {"name": "critic"}}
        ),
        strategy="base",
        model=folder,
        engine=FLOAT32,
        root=tmp_path,
        critic=critic,
        load_scorer=lambda artefact: FakeScorer(),
    )
    assert {verdict.judge for verdict in found.rows("verdicts", Verdict)} == {
        "critic judges its own pupil"
    }


def test_above_the_allowed_share_of_unscored_the_benchmark_fails_and_keeps_its_answers(
    corpus: Artefact,
    tmp_path: Path,
    tiny_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = str(tiny_folder())
    monkeypatch.setenv("JUDGE_KEY", "k")
    config = BenchmarkConfig.model_validate(
        {
            "max_new_tokens": 4,
            "judge": {
                "name": "openai",
                "model": "nobody",
                "base_url": "http://127.0.0.1:9/v1",  # nobody listens there
                "key_env": "JUDGE_KEY",
                "retries": 0,
            },
        }
    )
    plan = plan_benchmark(
        folder, corpus, config, strategy="base", model=folder, engine=FLOAT32, root=tmp_path
    )
    with pytest.raises(ScoringError, match=r"12 of 12 answers have no score for relevance") as told:
        run_plan(plan)
    assert "APIConnectionError" in str(told.value)
    assert not plan.done
    with Store(tmp_path / STORE) as store:
        assert len(store) == 1  # the one chunk of answers, and no verdict


def test_judging_needs_no_torch_until_a_model_is_read() -> None:
    code = (
        "import sys, drenpa.judge.bench, drenpa.judge.offline, drenpa.judge.critic_judge;"
        "assert not {'torch', 'transformers', 'openai', 'sacrebleu'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
