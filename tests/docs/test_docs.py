"""The docs as they stand: their examples run, their links lead somewhere, their names exist."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from drenpa.config import Config, Recipe, StageConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
PAPER = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)\s]+)\)")

by_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@by_page
def test_the_examples_run(page: Path, away: Path) -> None:
    options = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    found = doctest.testfile(
        str(page), module_relative=False, optionflags=options, encoding="utf-8", verbose=False
    )
    assert found.failed == 0


def test_the_public_api_has_examples_that_run() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert len(doctest.DocTestParser().get_examples(text)) > 30


@by_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{page.name}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings]
            assert heading in slugs, f"{page.name}: {target}"


def test_the_paper_page_has_every_equation() -> None:
    told = [int(number) for number in re.findall(r"^\*\*P(\d+), ", PAPER, re.MULTILINE)]
    assert told == list(range(1, 15))


NAMES = sorted(set(re.findall(r"`(drenpa(?:\.\w+)+)`", PAPER)))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_in_the_paper_page_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


def config_of(annotation: Any) -> type[Config] | None:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return annotation
    return next((found for part in get_args(annotation) if (found := config_of(part))), None)


def leads_to_a_field(path: str, start: type[Config]) -> bool:
    model: type[Config] | None = start
    for key in path.split("."):
        if model is None or key not in model.model_fields:
            return False
        model = config_of(model.model_fields[key].annotation)
    return True


def test_every_config_field_in_the_paper_page_exists() -> None:
    rooms = {*Recipe.model_fields, "objective", "train"}
    named = {
        path
        for path in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?::[^`]*)?`", PAPER)
        if path.partition(".")[0] in rooms
    }
    assert len(named) > 15
    for path in named:
        starts = [Recipe, StageConfig]
        assert any(leads_to_a_field(path, start) for start in starts), path
