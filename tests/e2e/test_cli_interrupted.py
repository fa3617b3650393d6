"""Ctrl-C in the middle of a run, and the same command again."""

from __future__ import annotations

import json
import os
import signal
import time

from tests.tiny_run import write_tiny_run

from drenpa.core.artefacts import MANIFEST


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(drenpa, tiny_chat, tmp_path):
    training = {"learning_rate": 0.01, "checkpoint_every": 1, "lora": {"rank": 2, "alpha": 4}}
    recipe = write_tiny_run(
        tmp_path, tiny_chat(), finetune={"epochs": 12, "batch": 4, "train": training}
    )
    run = tmp_path / "run"

    def steps_done() -> int:
        logs = list(run.glob("finetune-*.partial/metrics.jsonl"))
        return len(logs[0].read_text().splitlines()) if logs else 0

    running = drenpa.start("finetune", recipe)
    deadline = time.monotonic() + 120
    while steps_done() < 3:
        assert time.monotonic() < deadline, "training did not begin"
        time.sleep(0.01)
    os.kill(running.number, signal.SIGINT)
    stopped = running.wait()

    assert stopped.status == 130, stopped.said
    assert stopped.said.endswith("drenpa: stopped; run the same command again to go on\n")
    assert "Traceback" not in stopped.said
    before = steps_done()
    assert not list(run.glob(f"finetune-??????????/{MANIFEST}"))

    again = drenpa.run("finetune", recipe)

    assert again.status == 0, again.said
    (folder,) = [path.parent for path in run.glob(f"finetune-??????????/{MANIFEST}")]
    text = (folder / "metrics.jsonl").read_text()
    steps = [json.loads(line)["step"] for line in text.splitlines()]
    assert steps == list(range(1, len(steps) + 1))
    assert before < len(steps)
