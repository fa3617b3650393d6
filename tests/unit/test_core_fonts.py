"""Fonts for scripts: named where there, warned of where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drenpa.core.fonts import font_warnings, installed_font


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    installed_font.cache_clear()
    yield
    installed_font.cache_clear()


def machine_with(told: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose fc-list says this."""
    program = folder / "fc-list"
    program.write_text(f"#!/bin/sh\nprintf '{told}'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")


def test_a_machine_without_a_font_is_warned_of_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with("", tmp_path, monkeypatch)
    assert installed_font("bo") == ""
    (warning,) = font_warnings(["en", "bo"])
    assert "Tibetan" in warning
    assert "fonts-noto-core" in warning


def test_a_machine_with_a_font_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_with("Noto Serif Tibetan,Other\\nJomolhari\\n", tmp_path, monkeypatch)
    assert installed_font("bo") == "Jomolhari"
    assert font_warnings(["bo", "zh-Hans", "en"]) == []


def test_where_fonts_cannot_be_listed_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_font("bo") is None
    assert font_warnings(["bo"]) == []
