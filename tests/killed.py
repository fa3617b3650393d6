"""Programs that kill themselves with -9 at a moment which a test names, however fast they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

AT_STATEMENT = """
import os, signal, sqlite3

left = {count}

def die(statement):
    global left
    left -= {pattern!r} in statement
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Connection(sqlite3.Connection):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.set_trace_callback(die)

connect = sqlite3.connect
sqlite3.connect = lambda *arguments, **options: connect(*arguments, factory=Connection, **options)
"""

AFTER_CALL = """
import importlib, os, signal

left = {count}
module = importlib.import_module({module!r})
function = getattr(module, {name!r})

def call_and_die(*arguments, **options):
    global left
    found = function(*arguments, **options)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(module, {name!r}, call_and_die)
"""


def killed_at_statement(program: str, *arguments: object, pattern: str, count: int = 1) -> None:
    """Run a Python program that dies before its `count`-th SQL statement that holds the pattern.

    raises: AssertionError when it ended otherwise.
    """
    _run(AT_STATEMENT.format(pattern=pattern, count=count) + program, arguments)


def killed_after_call(
    program: str, *arguments: object, module: str, name: str, count: int = 1
) -> None:
    """Run a Python program that dies after its `count`-th call of a module's function.

    raises: AssertionError when it ended otherwise.
    """
    _run(AFTER_CALL.format(module=module, name=name, count=count) + program, arguments)


def _run(program: str, arguments: tuple[object, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
