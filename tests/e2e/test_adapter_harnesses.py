"""lm-eval, inspect and OpenCompass as they are, each in an environment of its own, over one
recorded benchmark: the same cells come out of all three, and out of drenpa itself."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.environments import own_environment
from tests.recorded_bench import (
    PRIVATE,
    RECORDED,
    SAMPLES,
    Endpoint,
    expected,
    recorded_corpus,
    recorded_endpoint,
)

from drenpa.adapters.bench_folder import Bench, write_bench
from drenpa.adapters.results import read_results
from drenpa.config import Recipe
from drenpa.core.artefacts import Artefact
from drenpa.core.errors import DataError
from drenpa.core.knowledge import DIMENSIONS
from drenpa.core.records import Verdict
from drenpa.core.statistics import interval, scored_of

ROOT = Path(__file__).parents[2]
PINS = ("-c", str(ROOT / "constraints.txt"))
OPENCOMPASS = ("opencompass==0.5.4", "torch==2.13.0", "pyarrow<22", "transformers<5", "numpy<2")
ANSWERS = len(RECORDED) * SAMPLES

pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with recorded_endpoint() as served:
        yield served


@pytest.fixture
def bench(tmp_path: Path, endpoint: Endpoint) -> Bench:
    judge = {"name": "openai", "model": "judge", "base_url": endpoint.url, "max_unscored": 0.5}
    recipe = Recipe.model_validate(
        {"name": "bees", "benchmark": {"samples": SAMPLES, "judge": judge}}
    )
    return write_bench(recipe, recorded_corpus(tmp_path / "corpus"), tmp_path / "bench")


def harness(*command: str, cwd: Path, **environment: str) -> str:
    """Run a harness's own command, off the network, and return what it printed."""
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(cwd / "cache")}
    keys = {"OPENAI_API_KEY": "none", "RECORDED_API_KEY": "none"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**kept, **offline, **keys, **environment},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def beside(python: str, name: str) -> str:
    return str(Path(python).with_name(name))


def assert_cells(found: Callable[[str, str], float], bench: Bench) -> None:
    """Hold what a harness shows against the cells that were worked out by hand."""
    for kind in bench.kinds:
        for name, percent in expected(kind).items():
            assert found(kind, name) == pytest.approx(percent, abs=1e-9), (kind, name)
        assert found(kind, "unscored") == (2 if kind == "profession" else 0)


def assert_read_back(bench: Bench, results: Path, root: Path) -> Artefact:
    """Read a harness's results, and hold the report's own figures against the same cells."""
    made = read_results(bench, results, root, strategy="elsewhere", model="recorded")
    rows = made.rows("verdicts", Verdict)
    told = {(row.item, row.model_answer) for row in rows}
    assert told == {(item.id, text) for item in RECORDED for text in item.answers}
    assert all(PRIVATE in row.reference for row in rows)
    for kind in bench.kinds:
        for dimension in DIMENSIONS:
            column = scored_of((row for row in rows if row.kind == kind), dimension)
            percent = interval(column, resamples=1).percent
            assert percent == pytest.approx(expected(kind)[dimension], abs=1e-9)
    return made


def assert_no_reference(folder: Path) -> None:
    """Nothing that a harness wrote holds a reference."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if PRIVATE.encode() in path.read_bytes()]


def test_lm_eval_shows_the_cells(bench: Bench, endpoint: Endpoint, tmp_path: Path) -> None:
    python = own_environment("lm-eval", *PINS, "-e", f"{ROOT}[lm-eval]")
    harness(
        beside(python, "lm_eval"),
        *("--include_path", str(bench.folder / "lm_eval"), "--tasks", "bees"),
        *("--model", "local-chat-completions", "--apply_chat_template"),
        *("--model_args", f"model=m,base_url={endpoint.url}/chat/completions,num_concurrent=2"),
        *("--log_samples", "--output_path", str(tmp_path / "out")),
        cwd=tmp_path,
    )
    assert (len(endpoint.answered), len(endpoint.judged)) == (ANSWERS, ANSWERS + 2)
    system, user = endpoint.answered[0]["messages"]
    assert system == {"role": "system", "content": bench.settings.instruction}
    assert user["content"] in {item.question for item in RECORDED}
    (file,) = (tmp_path / "out").rglob("results_*.json")
    told = json.loads(file.read_text())["results"]
    assert_cells(lambda kind, name: told[f"bees_{kind}"][f"{name},judged"], bench)
    assert_no_reference(tmp_path / "out")
    assert_read_back(bench, tmp_path / "out", tmp_path / "run")


def test_inspect_shows_the_cells_and_logs_go_both_ways(
    bench: Bench, endpoint: Endpoint, tmp_path: Path
) -> None:
    python = own_environment("inspect", *PINS, "-e", f"{ROOT}[inspect]")
    inspect, drenpa = beside(python, "inspect"), beside(python, "drenpa")
    logs = tmp_path / "logs"
    harness(
        *(inspect, "eval", "drenpa/benchmark", "-T", f"folder={bench.folder}"),
        *("--model", "openai-api/recorded/m", "--model-base-url", endpoint.url),
        *("--log-dir", str(logs), "--display", "none"),
        cwd=tmp_path,
    )
    assert (len(endpoint.answered), len(endpoint.judged)) == (ANSWERS, ANSWERS + 2)
    assert_inspect_cells(inspect, next(logs.glob("*.eval")), bench, tmp_path)
    # its log becomes verdicts, in inspect's environment; and those a log again
    place = harness(
        *(drenpa, "adapter", "read", str(bench.folder), str(logs), str(tmp_path / "run")),
        *("--strategy", "elsewhere", "--model", "recorded"),
        cwd=tmp_path,
    ).strip()
    written = tmp_path / "again.eval"
    harness(drenpa, "adapter", "log", place, str(written), cwd=tmp_path)
    assert_inspect_cells(inspect, written, bench, tmp_path)
    # that log's JSON needs no inspect to be read
    dumped = tmp_path / "dumped.json"
    dumped.write_text(harness(inspect, "log", "dump", str(written), cwd=tmp_path))
    assert PRIVATE not in dumped.read_text()
    samples = json.loads(dumped.read_text())["samples"]
    assert len(samples) == ANSWERS
    assert {sample["epoch"] for sample in samples} == {1, 2}


def assert_inspect_cells(inspect: str, log: Path, bench: Bench, cwd: Path) -> None:
    header = json.loads(harness(inspect, "log", "dump", "--header-only", str(log), cwd=cwd))
    assert header["status"] == "success"
    (score,) = header["results"]["scores"]
    metrics = {name: entry["value"] for name, entry in score["metrics"].items()}
    assert_cells(lambda kind, name: metrics[f"{kind} {name}"], bench)


def test_opencompass_shows_the_cells(bench: Bench, endpoint: Endpoint, tmp_path: Path) -> None:
    python = own_environment("opencompass", *PINS, *OPENCOMPASS)
    install_wheel(python, tmp_path)
    model = {
        "abbr": "recorded",
        "type": "opencompass.models.OpenAISDK",
        "path": "m",
        "key": "none",
        "openai_api_base": endpoint.url,
        "tokenizer_path": str(tokenizer_for_transformers_4(tmp_path / "tokenizer")),
        "max_out_len": bench.settings.max_new_tokens,
        "batch_size": 4,
        "query_per_second": 100,
        "meta_template": {
            "round": [
                {"role": "HUMAN", "api_role": "HUMAN"},
                {"role": "BOT", "api_role": "BOT", "generate": True},
            ],
            "reserved_roles": [{"role": "SYSTEM", "api_role": "SYSTEM"}],
        },
    }
    (bench.folder / "opencompass" / "models").mkdir()
    file = bench.folder / "opencompass" / "models" / "recorded.py"
    file.write_text(f"models = [{model!r}]\n")
    out = tmp_path / "out"
    harness(
        *(beside(python, "opencompass"), "--config-dir", str(bench.folder / "opencompass")),
        *("--models", "recorded", "--datasets", "bees", "-w", str(out), "--debug"),
        cwd=tmp_path,
    )
    assert (len(endpoint.answered), len(endpoint.judged)) == (ANSWERS, ANSWERS + 2)
    system, user = endpoint.answered[0]["messages"]
    assert system == {"role": "system", "content": bench.settings.instruction}
    assert user["content"] in {item.question for item in RECORDED}
    told = {
        kind: json.loads(next(out.rglob(f"results/recorded/bees-{kind}.json")).read_text())
        for kind in bench.kinds
    }
    assert_cells(lambda kind, name: told[kind][name], bench)
    (summary,) = out.rglob("summary_*.csv")
    lines = [line.split(",") for line in summary.read_text().splitlines()[1:]]
    shown = {(line[0], line[2]): float(line[4]) for line in lines}
    for kind in bench.kinds:
        for name, percent in expected(kind).items():
            assert math.isclose(shown[f"bees-{kind}", name], percent, abs_tol=0.005)
    assert_no_reference(out)
    assert_read_back(bench, out, tmp_path / "run")
    first = next(out.rglob("results/recorded/bees-profession.json"))
    with pytest.raises(DataError, match="4 of 6 questions have no answer"):
        read_results(bench, first, tmp_path / "run", strategy="a-part", model="recorded")


def install_wheel(python: str, scratch: Path) -> None:
    """Put drenpa as it stands into an environment, without what it depends on."""
    pip = (python, "-m", "pip", "--quiet")
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(scratch), str(ROOT)], check=True)
    (wheel,) = scratch.glob("drenpa-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--force-reinstall", str(wheel)], check=True)


def tokenizer_for_transformers_4(folder: Path) -> Path:
    """A tokenizer's folder; its class is the one that both transformers 4 and 5 know."""
    from tests.tiny import byte_tokenizer

    byte_tokenizer().save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    entries: dict[str, Any] = json.loads(file.read_text())
    file.write_text(json.dumps(entries | {"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder
