"""Runs `drenpa` commands in processes of their own, without paying for the imports each time.

Started as a program, it imports everything once and then forks a child for each command that it
reads: `{"argv": [...], "env": {...}, "cwd": "...", "log": "..."}` is answered with the child's
number, `{"wait": number}` with its exit status and its seconds of CPU time. A child is an ordinary
process: it can be killed, its disk can be full, and its mistakes die with it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    status:      minus the signal's number when it was killed.
    cpu_seconds: time it spent computing, whatever else the machine did.
    """

    status: int
    cpu_seconds: float
    said: str


class Running:
    """A command under way."""

    def __init__(self, host: CommandHost, number: int, log: Path) -> None:
        self._host = host
        self._log = log
        self.number = number

    def wait(self) -> Outcome:
        status, seconds = self._host.ask({"wait": self.number})
        return Outcome(status, seconds, self._log.read_text(encoding="utf-8", errors="replace"))

    def kill_when(self, sign: Callable[[], bool], *, patience_s: float = 120.0) -> Outcome:
        """Kill the command with -9 while the sign is there.

        It is stopped first, so that the sign still holds when it dies.
        raises: AssertionError when the command ended before.
        """
        deadline = time.monotonic() + patience_s
        while not self._stopped_at(sign):
            state = Path(f"/proc/{self.number}/stat").read_text().rpartition(")")[2].split()[0]
            assert state != "Z", self.wait().said
            assert time.monotonic() < deadline, "the sign did not come"
            time.sleep(0.002)
        os.kill(self.number, signal.SIGKILL)
        outcome = self.wait()
        assert outcome.status == -signal.SIGKILL, outcome.said
        return outcome

    def _stopped_at(self, sign: Callable[[], bool]) -> bool:
        if not sign():
            return False
        os.kill(self.number, signal.SIGSTOP)
        if sign():
            return True
        os.kill(self.number, signal.SIGCONT)
        return False


class CommandHost:
    """The parent's end of the pipe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )

    def ask(self, wish: Mapping[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self, *argv: object, env: Mapping[str, str] | None = None, largest_file: int | None = None
    ) -> Running:
        """Start `drenpa ARGV`; `largest_file` bounds what it may write into one file, in bytes."""
        self._count += 1
        log = self._folder / f"command-{self._count}.log"
        wish = {
            "argv": [str(part) for part in argv],
            "env": dict(env or {}),
            "log": str(log),
            "largest_file": largest_file,
        }
        return Running(self, self.ask(wish), log)

    def run(
        self, *argv: object, env: Mapping[str, str] | None = None, largest_file: int | None = None
    ) -> Outcome:
        """Run `drenpa ARGV` to its end."""
        return self.start(*argv, env=env, largest_file=largest_file).wait()

    def close(self) -> None:
        assert self._process.stdin is not None
        with self._process:  # closes both pipes; at its end of input the host leaves
            self._process.stdin.close()


def _serve() -> None:
    _import_everything()
    for line in sys.stdin:
        wish = json.loads(line)
        if "wait" in wish:
            _, status, used = os.wait4(wish["wait"], 0)
            seconds = used.ru_utime + used.ru_stime
            print(json.dumps([os.waitstatus_to_exitcode(status), seconds]), flush=True)
            continue
        number = os.fork()
        if number == 0:
            _become(wish)
        print(number, flush=True)


def _import_everything() -> None:
    import accelerate  # noqa: F401
    import peft  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen2.modeling_qwen2
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401

    import drenpa.cli
    import drenpa.critic.train
    import drenpa.engine.policy
    import drenpa.finetune.train
    import drenpa.grpo.train
    import drenpa.judge.bench
    import drenpa.pipeline
    import drenpa.report.build  # noqa: F401


def _become(wish: Mapping[str, object]) -> None:
    """Turn this forked process into the command; does not return."""
    status = 70
    try:
        out = os.open(str(wish["log"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.update(wish["env"])  # type: ignore[call-overload]
        if wish["largest_file"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(str(wish["largest_file"])),) * 2)
        # A shell that starts the tests in the background has them ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # As in pytest: a warning of ours would be an error.
        warnings.filterwarnings("error", module=r"drenpa\.")
        sys.argv = ["drenpa", *wish["argv"]]  # type: ignore[misc]
        import drenpa.cli

        drenpa.cli.main()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
