"""The endpoint judge and a baseline against a real server: `transformers serve` on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from drenpa.config import BaselineConfig, JudgeConfig
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.roles import Sampling
from drenpa.core.store import Store
from drenpa.judge.answers import EndpointGenerator
from drenpa.judge.endpoint import EndpointJudge
from drenpa.judge.judges import Case

pytestmark = pytest.mark.slow
START_S = 600.0


@pytest.fixture(scope="module")
def model() -> str:
    """The folder of a small chat model: $DRENPA_TEST_MODEL, or the one that comes as a wheel."""
    named = os.environ.get("DRENPA_TEST_MODEL")
    if named:
        return named
    from drenpa.engine.models import resolve_model

    return str(resolve_model("smollm2-135m"))


@pytest.fixture(scope="module")
def url(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("fastapi", reason="transformers serve needs FastAPI and Uvicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("served") / "log").open("w+")
    command = [str(Path(sys.executable).with_name("transformers")), "serve", model]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_S
        while True:
            assert server.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline, "the server did not start"
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def test_a_small_model_behind_a_real_server_is_scored_or_unscored_with_a_reason(
    url: str, model: str, tmp_path: Path
) -> None:
    config = JudgeConfig(
        name="openai",
        model=model,
        base_url=url,
        key_env="NO_SUCH_KEY",
        concurrency=1,
        timeout_s=300,
        request={"max_tokens": 80},
    )
    cases = [
        Case("Why does bread dough rise?", "Yeast gives off gas, which the dough holds."),
        Case("Why does bread dough rise?", "The bus leaves at nine."),
    ]
    with Store(tmp_path / "s.sqlite") as store:
        found = dict(EndpointJudge(config, store=store).judge(cases))
        replies = len(store)
        again = dict(EndpointJudge(config, store=store).judge(cases))
        assert len(store) == replies >= 2  # the server did reply
    assert again == found
    assert sorted(found) == [0, 1]
    for opinion in found.values():
        assert set(opinion.scores) == set(DIMENSIONS) or opinion.unscored
        assert "endpoint" not in opinion.unscored  # whatever is missing, the server is not why


def test_it_answers_as_a_baseline(url: str, model: str, tmp_path: Path) -> None:
    baseline = BaselineConfig.model_validate(
        {"name": "small", "model": model, "base_url": url, "key_env": "NO_KEY", "timeout_s": 300}
    )
    with Store(tmp_path / "s.sqlite") as store:
        elsewhere = EndpointGenerator(baseline, "Answer in one short sentence.", store)
        sampling = Sampling(max_new_tokens=16, temperature=0.0)
        ((draft,),) = elsewhere.generate(["What is bread made of?"], group=1, sampling=sampling)
    assert draft.text.strip()
    assert draft.finish in ("stop", "length")
