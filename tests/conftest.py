"""What every test stands on: one thread, no network, its own cache, and tiny models on request."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before torch, transformers or a subprocess reads them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["MPLBACKEND"] = "Agg"

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for `from tests.fakes import …`

# Machines differ in speed, and a slow one is no failing test.
settings.register_profile(
    "drenpa",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.load_profile("drenpa")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep models that a test unpacks out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRENPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function from the arguments of `tests.tiny.save_tiny_folder` to a folder, made once."""
    made: dict[str, Path] = {}

    def make(family: str = "llama", **options: object) -> Path:
        from tests.tiny import save_tiny_folder

        key = repr((family, sorted(options.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp(f"tiny-{family}")
            made[key] = save_tiny_folder(folder, family, **options)
        return made[key]

    return make


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, as a user who has only installed the package."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
