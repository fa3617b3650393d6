"""A whole step of reinforcement learning, drenpa's and TRL's, each in a process of its own.

`python benchmarks/step.py MODEL --prompt 128` runs both in turn and prints the ratios. Both sides
sample 4 x 8 answers of 64 tokens, have the same critic write 64 tokens about each and score it,
and update a low-rank adapter of the same shape with the divergence from the reference in the loss,
`--micro` questions at a time, and `--peer-micro` on TRL's side, by accumulating gradients. On
drenpa's side that is a stage of its own pipeline. On TRL's it is `GRPOTrainer` with a reward
function as its users write one: `generate`, then a second forward pass.

The clock stands in the reward: from one call of it to the next is one whole step, logging included.
The first step is left out; the peak is the most memory the process ever held (VmHWM).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROMPTS, GROUP = 4, 8
MICRO = 2  # as the recipes say
RANK, ALPHA = 16, 32
LEARNING_RATE, KL = 1e-6, 0.001
FILLER = " and"


@dataclass(frozen=True)
class Shape:
    """prompt, answer, critique: tokens. micro, peer_micro: questions in one micro-batch. recompute:
    activations are computed again going back. dtype: of frozen weights and matrix work."""

    prompt: int
    answer: int = 64
    critique: int = 64
    micro: int = MICRO
    peer_micro: int = PROMPTS
    recompute: bool = False
    threads: int = 1
    steps: int = 4
    dtype: str = "bfloat16"


def step_ratio(model: Path, shape: Shape, rounds: int, *, peer_python: str) -> dict[str, Any]:
    """Let both sides take turns; return peer / drenpa of CPU seconds a step and of peak memory."""
    told: dict[str, list[dict[str, float]]] = {"drenpa": [], "trl": []}
    with tempfile.TemporaryDirectory() as scratch:
        prepare(model, Path(scratch), shape)
        for turn in range(rounds):
            for side in ("drenpa", "trl") if turn % 2 == 0 else ("trl", "drenpa"):
                python = sys.executable if side == "drenpa" else peer_python
                told[side].append(_in_process(python, side, Path(scratch), shape))
    middle = {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for side, runs in told.items()
    }
    return {
        "dtype": shape.dtype,
        "prompt": shape.prompt,
        "answer": shape.answer,
        "critique": shape.critique,
        "micro": shape.micro,
        "peer_micro": shape.peer_micro,
        "recompute": shape.recompute,
        "speed_ratio": middle["trl"]["cpu"] / middle["drenpa"]["cpu"],
        "memory_ratio": middle["trl"]["peak_mb"] / middle["drenpa"]["peak_mb"],
        "drenpa": middle["drenpa"],
        "peer": middle["trl"],
    }


def has_trl(python: str) -> bool:
    """Say whether an interpreter finds TRL."""
    if python == sys.executable:
        return importlib.util.find_spec("trl") is not None
    return not subprocess.run([python, "-c", "import trl"], capture_output=True).returncode


def _in_process(python: str, side: str, scratch: Path, shape: Shape) -> dict[str, float]:
    command = [python, __file__, "--side", side, "--scratch", str(scratch)]
    done = subprocess.run(
        [*command, "--shape", json.dumps(asdict(shape))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(shape.threads), "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def prepare(model: Path, scratch: Path, shape: Shape) -> None:
    """Write what both sides start from: questions of the right length, and the critic's adapter."""
    import torch
    from safetensors.torch import save_file

    from drenpa.config import EngineConfig, LoraConfig
    from drenpa.core.prompts import load_prompt
    from drenpa.critic.score import HEAD, SETTINGS, CriticSettings
    from drenpa.critic.train import SLOTS
    from drenpa.engine.adapters import add_adapter, load_backbone, save_adapter
    from drenpa.engine.policy import MODEL, LanguageModel, Policy

    engine = EngineConfig(device="cpu", dtype=shape.dtype, tracker="none")
    network, tokenizer = load_backbone(model, engine)
    policy = Policy(LanguageModel(network, tokenizer, engine), load_prompt("answer", "en").text)
    questions = [filled(policy, f"Question {n}:", shape.prompt) for n in range(16)]
    (scratch / "questions.json").write_text(
        json.dumps([[q, tokenizer.decode(policy.prompt_ids(q))] for q in questions])
    )
    shutil.copytree(model, scratch / "backbone")
    critic = scratch / "critic"
    network = add_adapter(network, LoraConfig(rank=RANK, alpha=ALPHA), "critic", seed=2)
    save_adapter(network, "critic", critic / MODEL, base=scratch / "backbone")
    hidden = network.get_base_model().config.hidden_size
    weight = torch.randn(1, hidden, generator=torch.Generator().manual_seed(1))
    save_file({"weight": weight}, critic / HEAD)
    prompt = load_prompt("critique", "en", slots=SLOTS)
    settings = CriticSettings(
        str(scratch / "backbone"), "en", prompt.name, prompt.text, True, 1024, shape.critique
    )
    (critic / SETTINGS).write_text(json.dumps(asdict(settings)))


def filled(policy: Any, question: str, tokens: int) -> str:
    """Lengthen a question until its whole prompt has so many tokens."""
    missing = tokens - len(policy.prompt_ids(question))
    if missing < 0:
        raise SystemExit(f"a prompt takes {tokens - missing} tokens at least, not {tokens}")
    longer = question + FILLER * missing
    found = len(policy.prompt_ids(longer))
    if found != tokens:
        raise SystemExit(f"the filler is no single token here: {found} tokens, not {tokens}")
    return longer


class Clock:
    """Remembers when it was told of the beginning of a reward."""

    def __init__(self) -> None:
        self.ticks: list[tuple[float, float]] = []

    def tick(self) -> None:
        self.ticks.append((time.process_time(), time.perf_counter()))

    def told(self) -> dict[str, float]:
        """Return medians of the whole steps but the first, and the peak."""
        spans = list(zip(self.ticks[1:], self.ticks[2:], strict=False))
        status = Path("/proc/self/status").read_text()
        return {
            "cpu": statistics.median(after[0] - before[0] for before, after in spans),
            "wall": statistics.median(after[1] - before[1] for before, after in spans),
            "peak_mb": 1.024e-3 * int(status.partition("VmHWM:")[2].split()[0]),
        }


def drenpa_side(scratch: Path, shape: Shape) -> dict[str, float]:
    """Run a stage of reinforcement learning as `drenpa run` does."""
    from drenpa.config import EngineConfig, LoraConfig, ObjectiveConfig, StageConfig, TrainConfig
    from drenpa.core.artefacts import Artefact, Plan, run_plan, write_rows
    from drenpa.core.knowledge import KINDS
    from drenpa.core.records import Record
    from drenpa.critic.score import Critic, load_critic
    from drenpa.engine import policy
    from drenpa.engine.chat import Chat
    from drenpa.grpo.train import plan_reinforce

    class Endless(Chat):
        """No answer and no critique ends early, on either side."""

        def __init__(self, tokenizer: Any) -> None:
            super().__init__(tokenizer)
            self.stop_ids = frozenset()

    policy.Chat = Endless
    clock = Clock()
    questions = [question for question, _ in json.loads((scratch / "questions.json").read_text())]
    records = [
        Record(id=f"{n}", kind=KINDS[n % len(KINDS)], question=question, answer="-")
        for n, question in enumerate(questions)
    ]

    def artefact(name: str, kind: str, work: Any) -> Artefact:
        return run_plan(Plan(kind, name, root, {}, {}, (), work))

    def copied(source: str, target: str) -> Any:
        def work(folder: Path) -> dict[str, Any]:
            shutil.copytree(scratch / source, folder / target, dirs_exist_ok=True)
            return {}

        return work

    def written(folder: Path) -> dict[str, Any]:
        write_rows(folder / "records.parquet", records)
        return {}

    class Clocked:
        def __init__(self, critic: Critic) -> None:
            self.critic, self.model = critic, critic.model

        def score(self, questions: Sequence[str], answers: Sequence[Sequence[str]]) -> Any:
            clock.tick()
            return self.critic.score(questions, answers)

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        backbone = artefact("finetune", "policy", copied("backbone", "model"))
        stage = StageConfig(
            name="main",
            steps=shape.steps,
            prompts=PROMPTS,
            group=GROUP,
            max_new_tokens=shape.answer,
            objective=ObjectiveConfig(margin_weight=0.0, kl_coef=KL),
            train=TrainConfig(
                learning_rate=LEARNING_RATE,
                schedule="constant",
                micro_batch=shape.micro,
                gradient_checkpointing=shape.recompute,
                lora=LoraConfig(rank=RANK, alpha=ALPHA),
            ),
        )
        made = run_plan(
            plan_reinforce(
                backbone,
                backbone,
                artefact("corpus", "corpus", written),
                {"critic": artefact("critic", "critic", copied("critic", "."))},
                stage,
                load_scorer=lambda artefact, *, engine, backbone: Clocked(
                    load_critic(artefact.path, engine=engine, backbone=backbone)
                ),
                strategy="memory",
                engine=EngineConfig(device="cpu", dtype=shape.dtype, tracker="none"),
                root=root,
            )
        )
        idle = made.summary["zero_spread"]
    if idle:
        raise SystemExit(f"{idle:.0%} of the groups carried no signal and were not updated")
    return clock.told()


def trl_side(scratch: Path, shape: Shape) -> dict[str, float]:
    """Run the same with TRL's trainer."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    clock = Clock()
    folder = str(scratch / "backbone")
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    settings = json.loads((scratch / "critic/critic.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, shape.dtype))
    critic = PeftModel.from_pretrained(base, scratch / "critic/model").eval()
    head = load_file(scratch / "critic/head.safetensors")["weight"]

    def reward(completions: list[str], question: list[str], **_: Any) -> list[float]:
        clock.tick()
        texts = [
            tokenizer.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": settings["prompt"]
                        .replace("{question}", asked)
                        .replace("{answer}", said),
                    }
                ],
                tokenize=False,
                add_generation_prompt=True,
            )
            for asked, said in zip(question, completions, strict=True)
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        new = shape.critique
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, shape.dtype == "bfloat16"):
            written = critic.generate(
                **batch, max_new_tokens=new, min_new_tokens=new, do_sample=False
            )
            ends = torch.full_like(written[:, :1], tokenizer.eos_token_id)
            mask = torch.ones_like(torch.cat([written, ends], dim=1))
            mask[:, : batch.attention_mask.shape[1]] = batch.attention_mask
            states = critic.get_base_model().model(
                input_ids=torch.cat([written, ends], dim=1), attention_mask=mask, use_cache=False
            )
            last = states.last_hidden_state[:, -1].float()
        return (last @ head.T)[:, 0].tolist()

    rows = json.loads((scratch / "questions.json").read_text())
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, shape.dtype)),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=tempfile.mkdtemp(dir=scratch),
            per_device_train_batch_size=shape.peer_micro * GROUP,
            gradient_accumulation_steps=PROMPTS // shape.peer_micro,
            num_generations=GROUP,
            max_completion_length=shape.answer,
            generation_kwargs={"min_new_tokens": shape.answer},
            max_steps=shape.steps,
            learning_rate=LEARNING_RATE,
            beta=KL,
            loss_type="grpo",
            gradient_checkpointing=shape.recompute,
            use_cpu=True,
            bf16=shape.dtype == "bfloat16",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": text, "question": q} for q, text in rows]),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    lengths = [log["completions/mean_length"] for log in trainer.state.log_history if "loss" in log]
    if any(length != shape.answer for length in lengths):
        raise SystemExit(f"answers of {lengths} tokens on average, not {shape.answer}")
    return clock.told()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="a model's name or folder")
    parser.add_argument("--prompt", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="in each round; the first is left out")
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--critique", type=int, default=64)
    parser.add_argument("--micro", type=int, choices=[1, 2, 4], default=MICRO)
    parser.add_argument("--peer-micro", type=int, choices=[1, 2, 4], default=PROMPTS)
    parser.add_argument("--dtype", choices=["auto", "bfloat16", "float32"], default="auto")
    parser.add_argument("--recompute", action="store_true", help="checkpointing, both sides")
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has TRL")
    parser.add_argument("--side", choices=["drenpa", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.steps < 3:
        parser.error("--steps: 3 at least: the first is left out, and one more opens the clock")
    if chosen.side:
        work = drenpa_side if chosen.side == "drenpa" else trl_side
        shape = Shape(**json.loads(chosen.shape))
        import torch

        torch.set_num_threads(shape.threads)
        print("\n" + json.dumps(work(chosen.scratch, shape)))
        return
    import torch

    from drenpa.engine.models import pick_dtype, resolve_model

    dtype = pick_dtype(chosen.dtype, torch.device("cpu"))
    for prompt in chosen.prompt:
        shape = Shape(
            prompt,
            chosen.answer,
            chosen.critique,
            chosen.micro,
            chosen.peer_micro,
            chosen.recompute,
            chosen.threads,
            chosen.steps,
            dtype,
        )
        row = step_ratio(
            resolve_model(chosen.model), shape, chosen.rounds, peer_python=chosen.peer_python
        )
        print(line(row), flush=True)


def line(row: dict[str, Any]) -> str:
    """Return a row as it is printed."""
    ours, peer = row["drenpa"], row["peer"]
    way = ", activations recomputed" if row["recompute"] else ""
    return (
        f"step   {row['dtype']} prompt={row['prompt']} answer={row['answer']} "
        f"critique={row['critique']} "
        f"micro={row['micro']} (peer {row['peer_micro']}){way}: "
        f"{row['speed_ratio']:.2f}x cpu ({peer['cpu']:.1f} / {ours['cpu']:.1f} s), "
        f"{row['memory_ratio']:.2f}x peak ({peer['peak_mb']:.0f} / {ours['peak_mb']:.0f} MB)"
    )


if __name__ == "__main__":
    main()
