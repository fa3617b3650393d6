"""The recipes that come with drenpa, by name: `drenpa run demo` works from any folder."""

from __future__ import annotations

from pathlib import Path

import drenpa
from drenpa.core.errors import ConfigError, did_you_mean


def find_recipe(place: Path) -> Path:
    """Return a recipe's file: a file of one's own, or one that comes with drenpa, by its name.

    raises: ConfigError when it is neither.
    """
    if place.is_file():
        return place
    shipped = {file.stem: file for file in sorted(_folder().glob("*.yaml"))}
    if str(place) in shipped:
        return shipped[str(place)]
    raise ConfigError(
        f"{place}: no such recipe; drenpa brings {', '.join(shipped)}"
        f"{did_you_mean(str(place), shipped)}"
    )


def _folder() -> Path:
    """The recipes' folder, in an installed package or in a checkout."""
    package = Path(drenpa.__file__).resolve().parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent.parent / "recipes"
