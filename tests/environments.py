"""Environments of their own for peers that are too big, or too fast-moving, for the test extra."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest


def own_environment(name: str, *requirements: str) -> str:
    """Return the Python of an environment that holds the requirements, made once per machine.

    The test is skipped, with the reason, where they cannot be installed.
    """
    wanted = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:10]
    folder = Path(tempfile.gettempdir()) / f"drenpa-{name}-{wanted}"
    python = folder / "bin" / "python"
    done = folder / "done"
    if not done.is_file():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"{', '.join(requirements)} cannot be installed: {made.stderr[-300:]}")
        done.touch()
    return str(python)
