"""What end-to-end tests share: one host of commands, and tiny models with room for our prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.command_host import CommandHost


@pytest.fixture(scope="session")
def drenpa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandHost]:
    """Runs the real command in processes of their own."""
    host = CommandHost(tmp_path_factory.mktemp("commands"))
    yield host
    host.close()


@pytest.fixture
def tiny_chat(tiny_folder: Callable[..., Path]) -> Callable[..., Path]:
    """A function from a family to a tiny model's folder that reads up to 1024 bytes."""

    def make(family: str = "llama", **options: object) -> Path:
        return tiny_folder(family, **{"max_position_embeddings": 1024, **options})

    return make
