"""What a harness found, read back as verdicts that drenpa's report takes beside its own."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from drenpa.adapters.bench_folder import QUESTIONS, Bench, open_bench
from drenpa.adapters.scoring import Mark, verdicts_of
from drenpa.core.artefacts import (
    Artefact,
    Plan,
    file_input,
    open_artefact,
    refuse_existing,
    run_plan,
    write_rows,
)
from drenpa.core.errors import ArtefactError, ConfigError, DataError
from drenpa.judge.summary import summarise


def read_results(
    bench: Bench | Path,
    results: Path,
    root: Path,
    *,
    strategy: str,
    model: str,
    seed: int = 1,
) -> Artefact:
    """Write a harness's results as an artefact of verdicts.

    results:  a log of Inspect's (`.eval` or `.json`), or its folder of logs; lm-eval's
              `--output_path`, written with `--log_samples`; OpenCompass's `-w`, or one of its runs.
              Of several runs the newest counts.
    root:     the run's folder that the artefact is to stand in; `drenpa report RUN RUN` pools them.
    strategy, model: what the report calls them by.
    raises:   ArtefactError when there are no results there; DataError when they are not of this
              folder's questions, or an answer is missing.
    """
    opened = bench if isinstance(bench, Bench) else open_bench(bench)
    marks = [mark for file in _files(results, opened.settings.name) for mark in _marks(file)]
    _check(opened, marks, results)
    verdicts = verdicts_of(opened, marks, strategy=strategy, model=model, seed=seed)
    judge = marks[0].judge

    def work(folder: Path) -> Mapping[str, Any]:
        write_rows(folder / "verdicts.parquet", verdicts)
        return summarise(verdicts) | {
            "judge": judge,
            "judge_card": f"{judge}, asked by another harness over {opened.folder.name}.",
        }

    return run_plan(
        Plan(
            kind="verdicts",
            name=f"benchmark-{strategy}",
            root=root,
            config={
                "strategy": strategy,
                "model": model,
                "seed": seed,
                "language": opened.settings.language,
                "instruction": opened.settings.instruction,
                "judge": opened.settings.judge.model_dump(mode="json"),
            },
            inputs={
                "results": file_input(results),
                "questions": file_input(opened.folder / QUESTIONS),
            },
            rooms=(),
            work=work,
        )
    )


def _files(results: Path, name: str) -> list[Path]:
    """The files that hold the marks of the newest run of the benchmark called `name`."""
    if results.is_file():
        return [results]
    logs = sorted(results.glob("*.eval"))
    if logs:
        return logs[-1:]
    samples = sorted(results.rglob(f"samples_{name}_*.jsonl"))
    if samples:
        newest = max(file.stem.rpartition("_")[2] for file in samples)
        return [file for file in samples if file.stem.rpartition("_")[2] == newest]
    found = [
        file
        for file in sorted(results.resolve().rglob(f"{name}-*.json"))
        if file.parents[1].name == "results"
    ]
    if found:
        run = max(file.parents[2] for file in found)
        of_run = [file for file in found if file.parents[2] == run]
        models = sorted({file.parent.name for file in of_run})
        if len(models) > 1:
            raise ArtefactError(
                f"{run / 'results'}: holds {', '.join(models)}; name the folder of one of them"
            )
        return of_run
    raise ArtefactError(
        f"{results}: holds no results of {name}; lm-eval writes them with --log_samples "
        "--output_path, inspect with --log-dir, OpenCompass with -w"
    )


def _marks(file: Path) -> Iterator[Mark]:
    if file.suffix == ".jsonl":
        for line in filter(str.strip, file.read_text(encoding="utf-8").split("\n")):
            for told in json.loads(line)["filtered_resps"][0]:
                yield Mark.from_json(told)
        return
    entries = json.loads(file.read_text(encoding="utf-8")) if file.suffix == ".json" else {}
    if "details" in entries:
        for detail in entries["details"]:
            yield Mark(**detail)
        return
    yield from _inspect().read_log(file)


def _check(bench: Bench, marks: list[Mark], results: Path) -> None:
    """Refuse results of other questions, and results that lack an answer."""
    asked = set(bench.items)
    answered = {mark.item for mark in marks}
    strange, missing = sorted(answered - asked), sorted(asked - answered)
    if strange:
        raise DataError(f"{results}: '{strange[0]}' is no question of {bench.folder}")
    if missing:
        raise DataError(
            f"{results}: {len(missing)} of {len(asked)} questions have no answer, the first is "
            f"'{missing[0]}'; run all tasks of the folder, without a limit"
        )


def write_inspect_log(verdicts: Artefact | Path, file: Path) -> Path:
    """Write a benchmark's verdicts as a log of Inspect's.

    raises: ArtefactError when the file is there already; ConfigError without inspect.
    """
    artefact = verdicts if isinstance(verdicts, Artefact) else open_artefact(verdicts, "verdicts")
    refuse_existing(file, "file")
    return cast(Path, _inspect().write_log(artefact, file))


def _inspect() -> ModuleType:
    """The bridge to Inspect, which needs Inspect.

    raises: ConfigError without it.
    """
    try:
        return importlib.import_module("drenpa.adapters.inspect_ai")
    except ImportError as error:
        raise ConfigError(
            "inspect's logs are read and written with inspect; install it with pip install "
            "'drenpa[inspect]'"
        ) from error
