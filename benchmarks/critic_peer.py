"""TRL's RewardTrainer on the pairs that `critic_human.py` gives it; runs in an interpreter that has
TRL and needs nothing of drenpa.

    python critic_peer.py FOLDER     # reads peer.json there, writes scores.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch


def peer(scratch: Path) -> None:
    """Train and measure TRL's RewardTrainer; runs in the interpreter that has it."""
    from datasets import Dataset
    from peft import LoraConfig as PeftLora
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    given = json.loads((scratch / "peer.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        given["model"], num_labels=1, dtype=torch.float32
    )
    model.config.pad_token_id = tokenizer.pad_token_id

    def turns(question: str, answer: str) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]

    rows = [
        {"chosen": turns(question, better), "rejected": turns(question, worse)}
        for question, better, worse in given["train"]
    ]
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(scratch / "trl"),
            per_device_train_batch_size=given["batch"],
            num_train_epochs=1,
            learning_rate=given["learning_rate"],
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=0.05,
            max_length=given["max_length"],
            max_grad_norm=1.0,
            seed=given["seed"],
            report_to="none",
            save_strategy="no",
            use_cpu=not torch.cuda.is_available(),
            bf16=given["dtype"] == "bfloat16",
            gradient_checkpointing=False,
            disable_tqdm=True,
            logging_strategy="no",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=PeftLora(
            r=given["rank"],
            lora_alpha=2 * given["rank"],
            task_type="SEQ_CLS",
            target_modules="all-linear",
            modules_to_save=["score"],
        ),
    )
    trainer.train()
    scorer = trainer.model.eval()

    @torch.no_grad()
    def score(question: str, answer: str) -> float:
        ids = tokenizer.apply_chat_template(
            turns(question, answer), return_tensors="pt", return_dict=True
        )["input_ids"][:, : given["max_length"]]
        network = scorer.base_model.model
        with torch.autocast(scorer.device.type, torch.bfloat16, given["dtype"] == "bfloat16"):
            hidden_TH = network.model(input_ids=ids.to(scorer.device)).last_hidden_state[0]
        return float(network.score(hidden_TH[-1].float())[0])  # in bfloat16 many would be equal

    found = {
        place: [[score(question, answer) for answer in answers] for question, answers in tested]
        for place, tested in given["tests"].items()
    }
    (scratch / "scores.json").write_text(json.dumps(found))


if __name__ == "__main__":
    peer(Path(sys.argv[1]))
