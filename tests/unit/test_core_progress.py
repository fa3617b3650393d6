"""Work tells how far it is: on a terminal as a bar, elsewhere as a line now and then."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

from drenpa.core.progress import Track, track


def test_a_line_says_how_far_how_long_and_how_long_still():
    # 30 of 40 in 60 seconds: 2 seconds each, 10 left.
    work = Track("sft", 40, done=30, started=time.monotonic() - 60)
    assert work.line() == "sft 30/40 1:00, 0:20 left"
    work.advance(10, note="loss 0.5")
    assert work.line() == "sft 40/40 1:00, 0:00 left  loss 0.5"


def test_work_done_before_says_nothing_about_speed():
    work = Track("rl", 40, started=time.monotonic() - 60)
    work.resume_at(30)
    assert work.line() == "rl 30/40 1:00"
    work.advance(2)  # 2 in 60 seconds, 8 left
    assert work.line() == "rl 32/40 1:00, 4:00 left"


def test_a_note_stays_until_the_next_one():
    work = Track("x", 3)
    work.advance(note="a")
    work.advance()
    assert work.note == "a"
    work.advance(note="b")
    assert (work.done, work.note) == (3, "b")


def test_off_a_terminal_the_first_and_the_last_step_are_told_on_standard_error(capsys):
    with track("probe", 50) as work:
        for _ in range(50):
            work.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[1] for line in err.splitlines()] == ["1/50", "50/50"]


def on_a_terminal(code: str) -> str:
    """Run code whose standard error is a terminal; return what stood there."""
    near, far = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", code], stderr=far, env=environment, check=False)
    os.close(far)
    shown = os.read(near, 1 << 16).decode()
    os.close(near)
    assert done.returncode == 0, shown
    return shown


def test_on_a_terminal_there_is_a_bar_that_ends_full():
    shown = on_a_terminal(
        "from drenpa.core.progress import track\n"
        "with track('probe', 4) as work:\n"
        "    work.resume_at(2)\n"
        "    work.advance(2, note='[done] 1/2')\n"
    )
    assert "probe" in shown
    assert "4/4" in shown
    assert "[done] 1/2" in shown  # a note is text and no markup


def test_work_within_work_is_told_in_lines_above_the_bar():
    shown = on_a_terminal(
        "from drenpa.core.progress import track\n"
        "with track('outer', 2) as outer:\n"
        "    with track('inner', 3, within=True) as inner:\n"
        "        inner.advance(3)\n"
        "    outer.advance(2)\n"
    )
    assert "inner 3/3" in shown
    assert "2/2" in shown
