"""The cards of a recipe's judges: where each goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny_run import write_tiny_run

from drenpa.commands.judge_card import write_judge_cards
from drenpa.config import Recipe, load_recipe
from drenpa.core.errors import ConfigError

PANEL = {"name": "panel", "members": [{"name": "rules"}, {"name": "rules"}]}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(
        write_tiny_run(tmp_path, tmp_path / "no-model"), settings=["benchmark.judge=" + str(PANEL)]
    )


def test_two_members_of_one_name_have_a_card_each(recipe: Recipe, tmp_path: Path) -> None:
    pages = write_judge_cards(recipe, tmp_path / "cards", questions=1, tell=lambda _line: None)
    folders = [page.parent.name for page in pages]
    assert [folder.partition("-")[0] for folder in folders] == ["1", "2"]
    assert folders[0][2:] == folders[1][2:] != ""
    assert all(page.is_file() for page in pages)


def test_a_panel_is_not_compared_with_one_older_card(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--against .* is a panel of 2; take one of its members"):
        write_judge_cards(recipe, tmp_path / "cards", questions=1, against=tmp_path)
