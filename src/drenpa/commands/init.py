"""Make a folder for one's own data: a recipe with every field explained, and example files."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from importlib import resources
from pathlib import Path

import yaml
from rich.console import Console
from rich.text import Text

from drenpa.core.errors import DrenpaError

RECIPE = "recipe.yaml"
TEMPLATES = Path(str(resources.files("drenpa"))) / "templates"


class ProjectError(DrenpaError):
    """A new project's folder cannot be made."""


def make_project(folder: Path, console: Console) -> None:
    """Write recipe, data and README into a new folder, whole or not at all, and say what comes
    next. The recipe bears the folder's name.

    raises: ProjectError when the folder holds anything or cannot be written.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ProjectError(f"{folder}: is no folder; name one that does not exist yet")
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise ProjectError(f"{folder}: is not empty; name a folder that does not exist yet")
        home = folder.resolve()
        home.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
        try:
            for file in sorted(TEMPLATES.rglob("*")):
                if file.is_file():
                    target = part / file.relative_to(TEMPLATES)
                    target.parent.mkdir(exist_ok=True)
                    shutil.copyfile(file, target)
            recipe = part / RECIPE
            recipe.write_text(named(recipe.read_text(encoding="utf-8"), home.name), "utf-8")
            part.chmod(0o755)
            if home.is_dir():  # empty, and perhaps where the user stands
                for entry in part.iterdir():
                    os.replace(entry, home / entry.name)
            else:
                os.replace(part, home)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise ProjectError(
            f"{folder}: cannot be written ({error.strerror or error}); name another folder"
        ) from error
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        console.print(Text(f"made {file}"), soft_wrap=True)
    console.print(Text(f"now put your own lines into {folder / 'data'}, then"), soft_wrap=True)
    for command in ("curate", "doctor", "run"):
        console.print(
            Text(f"  drenpa {command} {shlex.quote(str(folder / RECIPE))}"), soft_wrap=True
        )


def named(recipe: str, folder: str) -> str:
    """Return the template's recipe under a folder's name, without what a name cannot hold.

    >>> named("name: my-field            # letters", "Bees & hives")
    'name: Bees-hives          # letters'
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder).strip("._-") or "my-field"
    written = yaml.safe_dump(name).splitlines()[0]  # in quotes where YAML would read a number
    return recipe.replace(f"{'name: my-field':<26}", f"{f'name: {written} ':<26}", 1)
