"""The commands of the README are run as they stand there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def commands() -> list[list[str]]:
    """Return every command line of the README's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_the_make_targets_of_the_readme_are_there():
    targets = [words[1] for words in commands() if words[0] == "make"]
    assert targets == ["demo", "test"]
    for target in targets:
        done = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_drenpa_commands_of_the_readme_work_one_after_the_other(tmp_path):
    told = [words for words in commands() if words[0] == "drenpa"]
    assert [words[1] for words in told] == ["init", "doctor", "run"]
    for words in told:
        extra = ["--dry-run"] if words[1] == "run" else []  # a run takes an hour
        done = subprocess.run(
            [sys.executable, "-c", "from drenpa.cli import main; main()", *words[1:], *extra],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "will run" in done.stdout
