from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic_core import PydanticUndefined
from rich.console import Console

from drenpa.commands.init import RECIPE, TEMPLATES, ProjectError, make_project
from drenpa.config import BaselineConfig, Config, MemoryConfig, Recipe, load_recipe
from drenpa.core.knowledge import KINDS
from drenpa.core.records import Ranking, Record
from drenpa.corpus.curate import curate
from drenpa.pipeline import steps_of


def made(folder: Path) -> str:
    out = io.StringIO()
    make_project(folder, Console(file=out, width=200))
    return out.getvalue()


def config_in(annotation: Any) -> type[Config] | None:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    return next((found for part in get_args(annotation) if (found := config_in(part))), None)


def places(
    node: Any, model: type[Config], whole: Any = None
) -> Iterator[tuple[type[Config], str, Any, int]]:
    """Every field of the template: whose it is, its name, its default there, its line (from 0)."""
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from places(entry, model)
        return
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        field = model.model_fields[key.value]
        default = getattr(whole, key.value, field.get_default(call_default_factory=True))
        yield model, key.value, default, key.start_mark.line
        inner = config_in(field.annotation)
        if inner is not None:
            yield from places(value, inner, default)


def every_config(
    model: type[Config], seen: frozenset[type[Config]] = frozenset()
) -> set[type[Config]]:
    seen = seen | {model}
    inner = [config_in(field.annotation) for field in model.model_fields.values()]
    return {model}.union(
        *(every_config(found, seen) for found in inner if found is not None and found not in seen)
    )


SHIPPED = (TEMPLATES / RECIPE).read_text(encoding="utf-8")
TEMPLATE = re.sub(r"^#( +(?:\w+:|# default))", r" \1", SHIPPED, flags=re.MULTILINE).replace(
    "memory: null", "memory:     "
)
"""The template with its memory switched on, as its comment says how."""
PLACES = list(places(yaml.compose(TEMPLATE), Recipe))


@pytest.mark.parametrize("model", sorted(every_config(Recipe), key=lambda m: m.__name__))
def test_every_field_of_the_config_stands_in_the_template(model: type[Config]) -> None:
    if model is BaselineConfig:  # a model's name is enough; docs/benchmark.md has the rest
        return
    named = {field for owner, field, _, _ in PLACES if owner is model}
    assert named == set(model.model_fields)


def test_every_default_that_the_template_tells_is_the_real_one() -> None:
    lines = TEMPLATE.splitlines()
    told = 0
    for _, field, real, line in PLACES:
        comment = re.search(r"# default: (.*)", lines[line])
        if comment is None and line + 1 < len(lines):
            comment = re.match(r"\s*# default: (.*)", lines[line + 1])
        if comment is None:
            continue
        assert real is not PydanticUndefined, field
        words = re.match(r'(\[[^\]]*\]|"[^"]*"|[^\s,;]+)', comment.group(1))
        assert words is not None
        word = words.group(1).rstrip(".")
        if word == "none" and real != "none":
            assert not real, (field, real)
        elif word in ("this", "these"):  # the line's own value
            assert recipe_value(line) == real, field
        elif word.startswith("{"):
            assert yaml.safe_load(word) == real, field
        elif word == "all":
            assert set(real.values()) == {1.0}
        else:
            stored = yaml.safe_load(word)
            assert (list(real) if isinstance(real, tuple) else real) == stored, (field, real)
        told += 1
    assert told > 90


def test_the_template_trains_everything_until_its_memory_is_switched_on() -> None:
    assert Recipe.model_validate(yaml.safe_load(SHIPPED)).memory is None
    assert Recipe.model_validate(yaml.safe_load(TEMPLATE)).memory == MemoryConfig()


def recipe_value(line: int) -> Any:
    text = TEMPLATE.splitlines()[line].split("# ")[0]
    return next(iter(yaml.safe_load(text.strip().removeprefix("- ")).values()))


def test_a_new_project_is_a_recipe_that_holds_and_data_that_is_read(tmp_path: Path) -> None:
    text = made(tmp_path / "bees")
    for name in ("recipe.yaml", "README.md", "records.jsonl", "rankings.jsonl", "benchmark.jsonl"):
        assert name in text
    recipe = load_recipe(tmp_path / "bees" / RECIPE)
    corpus = curate(recipe.corpus, root=tmp_path / "run", seed=recipe.seed)
    records = corpus.rows("records", Record)
    items = corpus.rows("benchmark", Record)
    assert {record.kind for record in records} == set(KINDS)
    assert {item.kind for item in items} == set(KINDS)
    assert {ranking.split for ranking in corpus.rows("rankings", Ranking)} == {"train", "held_out"}
    assert corpus.summary["dropped"] == {}
    assert corpus.summary["warnings"] == []
    assert (corpus.path / "leakage.jsonl").read_text(encoding="utf-8") == ""
    assert steps_of(recipe)[-1].name == "report"


def test_an_empty_folder_may_be_filled_even_where_one_stands(away: Path) -> None:
    made(Path())
    assert {path.name for path in away.iterdir()} == {"README.md", "data", "recipe.yaml"}
    assert load_recipe(Path(RECIPE)).name == away.name


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("bees", "bees"),
        ("Bees & hives", "Bees-hives"),
        ("2026", "2026"),
        ("a-name-that-is-longer-than-the-templates", "a-name-that-is-longer-than-the-templates"),
        ("..b", "b"),
        ("སྦྲང་མ", "my-field"),
    ],
)
def test_a_new_project_is_called_as_its_folder(tmp_path: Path, folder: str, name: str) -> None:
    made(tmp_path / folder)
    assert load_recipe(tmp_path / folder / RECIPE).name == name


def test_the_commands_that_come_next_can_be_pasted_whatever_the_folder_is_called(
    tmp_path: Path,
) -> None:
    told = made(tmp_path / "my bees; hives")
    lines = [shlex.split(line) for line in told.splitlines() if line.startswith("  drenpa")]
    place = str(tmp_path / "my bees; hives" / RECIPE)
    assert lines == [["drenpa", command, place] for command in ("curate", "doctor", "run")]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(ProjectError, match="is not empty"):
        made(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(ProjectError, match="is no folder"):
        made(tmp_path / "taken")
    with pytest.raises(ProjectError, match="cannot be written"):
        made(tmp_path / "taken" / "inside")
