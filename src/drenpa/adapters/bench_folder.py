"""A recipe's benchmark as a folder from which other harnesses run it.

The folder holds the questions, the instruction, how answers are sampled, who judges, and a few
lines of glue for each harness. References stand in a file of their own, which only the scoring
reads: a harness logs and uploads its documents, and a reference is not among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from pprint import pformat
from typing import Any

import yaml
from pydantic import ValidationError

from drenpa.config import BenchmarkConfig, Config, Count, JudgeConfig, NotNegative, Recipe
from drenpa.core.artefacts import Artefact, refuse_existing, whole_folder, write_text
from drenpa.core.errors import ArtefactError, ConfigError
from drenpa.core.knowledge import KINDS, Kind
from drenpa.core.records import Record
from drenpa.judge.answers import answer_instruction, choose_items
from drenpa.judge.ladder import Setting, check_judges, members_of

BENCH, QUESTIONS, REFERENCES = "bench.yaml", "questions.jsonl", "references.jsonl"
_GLUE = {  # what stands in the folder, from what ships with drenpa
    "lm_eval/bench.py": "lm_eval_bench.py.in",
    "lm_eval/_every_kind": "lm_eval_every_kind.yaml.in",
}


class BenchSettings(Config):
    """What `bench.yaml` says.

    name:        of the recipe; the harnesses' tasks are called by it.
    model:       whose probabilities the offline judge reads, unless `judge.model` names another.
    instruction: given to the model as its system message.
    corpus:      the digest of the corpus that the questions come from.
    """

    name: str
    model: str
    language: str
    instruction: str
    corpus: str
    samples: Count
    temperature: NotNegative
    max_new_tokens: Count
    judge: JudgeConfig


@dataclass(frozen=True)
class Bench:
    """A folder that was opened: its settings and its items, references put back."""

    folder: Path
    settings: BenchSettings
    items: Mapping[str, Record]

    def of_kind(self, kind: Kind) -> list[Record]:
        """The items of one kind, in the folder's order."""
        return [item for item in self.items.values() if item.kind == kind]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that have an item."""
        return tuple(kind for kind in KINDS if self.of_kind(kind))


def write_bench(recipe: Recipe, corpus: Artefact, folder: Path) -> Bench:
    """Write the benchmark of a recipe over its corpus.

    raises: ArtefactError when the folder is there already; ConfigError for a judge that no harness
            can ask.
    """
    refuse_existing(folder)
    config: BenchmarkConfig = recipe.benchmark
    if any(member.name == "critic" for member in members_of(config.judge)):
        raise ConfigError("benchmark.judge.name: a critic judges within a run only; choose another")
    instruction = answer_instruction(config.prompt, recipe.language)
    check_judges(config.judge, Setting(recipe.model, recipe.language))
    settings = BenchSettings(
        name=recipe.name,
        model=recipe.model,
        language=recipe.language,
        instruction=instruction,
        corpus=corpus.digest,
        samples=config.samples,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        judge=_at_home(config.judge),
    )
    items = choose_items(corpus.rows("benchmark", Record), config.items_per_kind)
    with whole_folder(folder) as part:
        _write_folder(part, settings, items)
    return open_bench(folder)


def _write_folder(part: Path, settings: BenchSettings, items: Sequence[Record]) -> None:
    """Write the questions, the answers to be kept, and what each harness runs."""
    told = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(part / BENCH, told)
    _write_lines(part / QUESTIONS, [_question(item) for item in items])
    references = [{"id": item.id, "answer": item.answer} for item in items if item.answer]
    _write_lines(part / REFERENCES, references)
    (part / REFERENCES).chmod(0o600)
    for place, name in _GLUE.items():
        text = resources.files("drenpa.adapters").joinpath("glue", name).read_text("utf-8")
        write_text(part / place, text)
    bench = open_bench(part)
    _write_lm_eval(bench)
    _write_opencompass(bench)


def open_bench(folder: Path | str) -> Bench:
    """Open a folder that `write_bench` wrote.

    raises: ArtefactError when it is none or was damaged.
    """
    place = Path(folder).resolve()
    try:
        entries = yaml.safe_load((place / BENCH).read_text(encoding="utf-8"))
        settings = BenchSettings.model_validate(entries)
        lines = _lines(place / REFERENCES) if (place / REFERENCES).is_file() else []
        answers = {line["id"]: line["answer"] for line in lines}
        rows = [Record.model_validate(line) for line in _lines(place / QUESTIONS)]
    except FileNotFoundError as error:
        raise ArtefactError(
            f"{error.filename}: missing; `drenpa adapter write RECIPE FOLDER` makes the folder"
        ) from error
    except (ValueError, KeyError, TypeError, yaml.YAMLError, ValidationError) as error:
        raise ArtefactError(f"{place}: cannot be read ({error}); write it again") from error
    full = [row.model_copy(update={"answer": answers.get(row.id)}) for row in rows]
    return Bench(place, settings, {row.id: row for row in full})


def _at_home(judge: JudgeConfig) -> JudgeConfig:
    """A judge whose recording is found from any folder."""
    file = str(Path(judge.file).resolve()) if judge.file else ""
    members = tuple(_at_home(member) for member in judge.members)
    return judge.model_copy(update={"file": file, "members": members})


def _question(item: Record) -> dict[str, Any]:
    """What a harness may know of an item, and log."""
    return item.model_dump(
        mode="json", include={"id", "kind", "question", "language", "source", "split"}
    )


def _write_lm_eval(bench: Bench) -> None:
    """Write one task a kind, and the group that holds them."""
    settings = bench.settings
    tasks = {kind: f"{settings.name}_{kind}" for kind in bench.kinds}
    generation: dict[str, Any] = {
        "until": [],
        "max_gen_toks": settings.max_new_tokens,
        "do_sample": settings.temperature > 0,
        "temperature": settings.temperature,
    }
    for kind, task in tasks.items():
        entries = {
            "include": "_every_kind",
            "task": task,
            "task_alias": kind,
            "test_split": kind,
            "description": _verbatim(settings.instruction),
            "generation_kwargs": generation,
            "repeats": settings.samples,
        }
        _write_yaml(bench.folder / "lm_eval" / f"{kind}.yaml", entries)
    group = {"group": settings.name, "task": list(tasks.values())}
    _write_yaml(bench.folder / "lm_eval" / "group.yaml", group)


def _write_opencompass(bench: Bench) -> None:
    """Write one dataset a kind; mmengine puts the file's folder in for `fileDirname`."""
    settings = bench.settings
    folder = "{{ fileDirname }}/../.."
    system = {"role": "SYSTEM", "fallback_role": "HUMAN", "prompt": settings.instruction}
    template = {"begin": [system], "round": [{"role": "HUMAN", "prompt": "{question}"}]}
    datasets = [
        {
            "abbr": f"{settings.name}-{kind}",
            "type": "drenpa.adapters.opencompass.BenchDataset",
            "folder": folder,
            "kind": kind,
            "n": settings.samples,
            "k": 1,
            "reader_cfg": {"input_columns": ["question"], "output_column": None},
            "infer_cfg": {
                "prompt_template": {"type": "PromptTemplate", "template": template},
                "retriever": {"type": "ZeroRetriever"},
                "inferencer": {"type": "GenInferencer", "max_out_len": settings.max_new_tokens},
            },
            "eval_cfg": {
                "evaluator": {
                    "type": "drenpa.adapters.opencompass.BenchEvaluator",
                    "folder": folder,
                }
            },
        }
        for kind in bench.kinds
    ]
    told = f"drenpa_datasets = {pformat(datasets, sort_dicts=False, width=100)}\n"
    write_text(bench.folder / "opencompass" / "datasets" / f"{settings.name}.py", told)


def _verbatim(text: str) -> str:
    """A text that a Jinja template leaves as it is."""
    return f"{{% raw %}}{text}{{% endraw %}}" if "{" in text else text


def _write_yaml(path: Path, entries: Mapping[str, Any]) -> None:
    write_text(path, yaml.safe_dump(entries, sort_keys=False, allow_unicode=True))


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]
