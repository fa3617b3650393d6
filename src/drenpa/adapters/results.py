"""What a harness found, read back as verdicts that drenpa's report takes beside its own."""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from zipfile import BadZipFile

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
from drenpa.core.errors import ArtefactError, ConfigError, DataError, not_utf8
from drenpa.core.knowledge import KINDS
from drenpa.core.text import brief
from drenpa.judge.summary import summarise

COLUMN = re.compile(r"[a-z0-9][a-z0-9.-]*")  # as config has the names of models from elsewhere


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
    raises:   ConfigError for a strategy that is no name of a column; ArtefactError when there are
              no results there; DataError when they cannot be read or are not of this folder's
              questions, or an answer is missing or stands twice.
    """
    if not COLUMN.fullmatch(strategy):
        raise ConfigError(
            f"--strategy {brief(strategy)!r}: a column's name is of small letters, digits, . and -"
        )
    opened = bench if isinstance(bench, Bench) else open_bench(bench)
    marks = [mark for file in _files(results, opened) for mark in _marks(file)]
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


def _files(results: Path, bench: Bench) -> list[Path]:
    """The files that hold the marks of the benchmark's newest run."""
    if results.is_file():
        return [results]
    logs = sorted(results.glob("*.eval"))
    if logs:
        return logs[-1:]
    name = bench.settings.name
    samples = [
        file
        for kind in bench.kinds
        for file in sorted(results.rglob(f"samples_{name}_{kind}_*.jsonl"))
        if not _of_another(file.stem.removeprefix(f"samples_{name}_{kind}"))
    ]
    if samples:
        newest = max(file.stem.rpartition("_")[2] for file in samples)
        return [file for file in samples if file.stem.rpartition("_")[2] == newest]
    found = [
        file
        for kind in bench.kinds
        for file in sorted(results.resolve().rglob(f"{name}-{kind}.json"))
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


def _of_another(rest: str) -> bool:
    """Whether a benchmark whose name only begins alike wrote a file: its kind is still to come."""
    return any(f"_{kind}_" in rest for kind in KINDS)


def _marks(file: Path) -> Iterator[Mark]:
    """The marks in a harness's file.

    raises: DataError that names the file, and where it has lines the line.
    """
    if file.suffix == ".jsonl":
        for number, line in enumerate(_text(file).split("\n"), 1):
            if line.strip():
                yield from _sampled(line, f"{file}:{number}")
        return
    entries = _json(_text(file), str(file)) if file.suffix == ".json" else {"eval": None}
    if isinstance(entries, dict) and isinstance(entries.get("details"), list):
        for number, detail in enumerate(entries["details"], 1):
            try:
                yield Mark.from_entries(detail)
            except DataError as error:
                raise DataError(f"{file}: detail {number}: {error}") from error
        return
    if not isinstance(entries, dict) or "eval" not in entries:
        raise DataError(
            f"{file}: holds no `details`, which OpenCompass writes of each answer, and is no log "
            "of inspect's; name what the harness wrote for this benchmark"
        )
    try:
        yield from _inspect().read_log(file)
    except (ValueError, OSError, BadZipFile) as error:
        raise DataError(f"{file}: cannot be read as a log of inspect's ({error})") from error


def _sampled(line: str, place: str) -> Iterator[Mark]:
    """The marks in a line of lm-eval's samples.

    raises: DataError that names the place.
    """
    entries = _json(line, place)
    try:
        told = entries["filtered_resps"][0]
        yield from [Mark.from_json(mark) for mark in told]
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(f"{place}: no sample of lm-eval's with drenpa's marks ({error})") from error
    except DataError as error:
        raise DataError(f"{place}: {error}") from error


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(
            f"{place}: not JSON ({error}); was the run cut off? run it again"
        ) from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: {not_utf8(error)}") from error


def _check(bench: Bench, marks: list[Mark], results: Path) -> None:
    """Refuse results of other questions, and results that lack an answer or have one twice."""
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
    ((item, sample), times), *_ = Counter((mark.item, mark.sample) for mark in marks).most_common(1)
    if times > 1:
        raise DataError(
            f"{results}: answer {sample} to '{item}' stands {times} times; name the results of one "
            "run and one model"
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
