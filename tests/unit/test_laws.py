"""The laws of the house, each one a test over the source as it stands."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import drenpa

HOUSE = Path(drenpa.__file__).parent
STAGES = ("corpus", "critic", "finetune", "grpo", "judge", "memory", "report")
MODULES = sorted(HOUSE.rglob("*.py"))
WITHOUT_TORCH = ("core", "corpus", "judge", "report", "cli", "commands", "config", "pipeline")


def name_of(path: Path) -> str:
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {path: name_of(path) for path in MODULES}
by_name = pytest.mark.parametrize("path", MODULES, ids=NAMES.values())


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, type checking apart."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by full name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "drenpa" and len(parts) > 1 else ""


@by_name
def test_stages_do_not_import_each_other(path):
    room = room_of(NAMES[path])
    if room in STAGES:
        others = {room_of(module) for module in imports(path)} & set(STAGES) - {room}
        assert not others, f"{path}: stages meet in core and engine"


@by_name
def test_core_and_engine_import_no_stage(path):
    room = room_of(NAMES[path])
    allowed = {"core": {"core"}, "engine": {"core", "engine", "config"}}.get(room)
    if allowed is not None:
        named = {room_of(module) for module in imports(path)} - {""}
        assert named <= allowed | {"__version__"}


@by_name
def test_nothing_but_the_command_line_knows_what_stands_behind_commands(path):
    if NAMES[path] != "drenpa.cli" and room_of(NAMES[path]) != "commands":
        assert "commands" not in {room_of(module) for module in imports(path)}


def loaded_by(*modules: str) -> str:
    """Import modules in a fresh Python where torch cannot be imported; return what went wrong."""
    script = textwrap.dedent(
        """
        import importlib, sys

        class Ban:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {"torch", "transformers", "peft", "accelerate"}:
                    raise AssertionError(f"{name} is imported")

        sys.meta_path.insert(0, Ban())
        for name in sys.argv[1:]:
            try:
                importlib.import_module(name)
            except AssertionError as error:
                print(f"{name}: {error}")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *modules], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ban_on_torch_would_be_noticed():
    assert loaded_by("drenpa.grpo.objective") == "drenpa.grpo.objective: torch is imported\n"


def test_the_rooms_that_need_no_model_load_no_torch():
    modules = [name for name in NAMES.values() if room_of(name) in ("", *WITHOUT_TORCH)]
    assert "drenpa.core.artefacts" in modules
    assert loaded_by(*modules) == ""


def test_the_objective_knows_tensors_and_nothing_else():
    found = imports(HOUSE / "grpo" / "objective.py")
    roots = {module for module in found if not module.startswith(("torch", "typing.", "math"))}
    assert roots == {
        "__future__.annotations",
        "dataclasses.dataclass",
        "drenpa.core.errors.ShapeError",
    }


@by_name
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path}: no docstring"


@by_name
def test_a_name_says_what_a_reader_finds(path):
    vague = {"utils", "util", "helpers", "helper", "manager", "base", "misc", "common", "v2"}
    assert not vague & set(NAMES[path].lower().replace("_", ".").split("."))


CLI = HOUSE / "cli.py"
HELP = "import sys; sys.argv = ['drenpa', '--help']; from drenpa.cli import main; main()"


def cpu_of_children() -> float:
    """Processor seconds of finished subprocesses; what else the machine does is no part of it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.skipif(not CLI.exists(), reason="there is no command line yet")
def test_help_comes_in_half_a_second():
    times = []
    for _ in range(3):  # the first one compiles
        start = cpu_of_children()
        done = subprocess.run(
            [sys.executable, "-c", HELP],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "100"},
        )
        times.append(cpu_of_children() - start)
        assert done.returncode == 0, done.stderr
        assert "drenpa" in done.stdout
        assert "reinforce" in done.stdout
    assert min(times) < 0.5


def test_importing_drenpa_is_light_and_offers_what_it_promises():
    code = "import drenpa, sys; print(sorted(drenpa.__all__)); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(sorted(drenpa.__all__)), "False"]


@pytest.mark.parametrize("name", [name for name in drenpa.__all__ if name != "__version__"])
def test_every_public_name_is_there(name):
    module = drenpa._HOME[name]
    if not (HOUSE.parent / Path(*module.split("."))).with_suffix(".py").exists():
        pytest.skip(f"{module} is not written yet")
    assert callable(getattr(drenpa, name))


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'reinforc'"):
        _ = drenpa.reinforc
