"""An exported folder means the same to transformers 4, which many servers still use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.test_adapter_harnesses import OPENCOMPASS, PINS
from tests.environments import own_environment
from tests.unit.test_export import QUESTION, Run

from drenpa.export import export_policy

READ = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, question = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder).float().eval()
messages = [{"role": "user", "content": question}]
text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
with torch.no_grad():
    logits = model(ids).logits[0, -1]
print(json.dumps([transformers.__version__, ids[0].tolist(), logits.tolist()]))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_transformers_4_reads_the_same_tokens_and_the_same_logits(
    tmp_path: Path, tiny_folder: Callable[..., Path]
) -> None:
    rope = {"rope_type": "default", "rope_theta": 77.0}
    run = Run(tmp_path / "run", tiny_folder(rope_parameters=rope))
    folder = export_policy(run.policy, tmp_path / "out")
    told = []
    for python in (sys.executable, own_environment("opencompass", *PINS, *OPENCOMPASS)):
        done = subprocess.run(
            [python, "-c", READ, str(folder), QUESTION], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
    (five, tokens, logits), (four, same_tokens, same_logits) = told
    assert (five.split(".")[0], four.split(".")[0]) == ("5", "4")
    assert same_tokens == tokens
    assert same_logits == pytest.approx(logits, abs=1e-5)
