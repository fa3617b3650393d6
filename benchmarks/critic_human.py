"""The critic against a plain scalar scorer and TRL's RewardTrainer, on pairs that people judged.

All arms start from one model and see the same rankings, in as many epochs, with adapters of one
rank, at one learning rate, under the same seeds; all are measured on the same pairs. Rankings of
one question stay on one side of every split, and whole sets can be kept for testing alone.

    python benchmarks/critic_human.py --model MODEL --data ../shared/data --out runs/critic-human \\
        --train shepherd sfres --test hhh topical_chat --seeds 1 2 3 --peer-python PYTHON

Sets, and what a preference means in each:

- `shepherd`: people rated a model's answer and criticised it; beside it stands a right answer. The
  right one is preferred to one rated 3 or less of 5 for relevance: inferred, nobody compared them.
- `sfres`, `topical_chat`: people's mean ratings "overall" order the outputs of several systems.
- `hhh`: people chose one of two answers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

RANK, ALPHA = 16, 32
HELD_OUT = 0.25
LEAST_APART = 0.5
"""Mean ratings nearer than this are a tie: three raters do not tell them apart."""
HHH = re.compile(
    r"###The instruction to evaluate:\n(.*?)\n\n"
    r"###Response to evaluate:\n(.*?)\n\n###Score Rubrics",
    re.S,
)


@dataclass(frozen=True)
class Ranked:
    """Answers to one question with ranks, 1 the best, and people's critiques where there are some.

    group:   what no split may cut.
    ratings: people's mean ratings, where ranks come from these.
    """

    source: str
    group: str
    question: str
    answers: tuple[str, ...]
    ranks: tuple[int, ...]
    critiques: tuple[str, ...]
    ratings: tuple[float, ...] = ()


@dataclass(frozen=True)
class Budget:
    """What every arm gets."""

    epochs: int
    own_epochs: int
    batch: int
    learning_rate: float
    max_length: int
    max_critique_tokens: int


def shepherd(data: Path) -> Iterator[Ranked]:
    """Yield a right answer above each answer that people rated low, with their critique of it."""
    folder = data / "critique" / "Shepherd"
    fluent = {
        row["id"]: row["feedback"] for row in json_lines(folder / "human_data_for_model.jsonl")
    }
    for row in json_lines(folder / "human_data_raw.jsonl"):
        told = row["metadata"]
        label = row["latestLabel"]["jsonResponse"].get("CLASSIFICATION_JOB_1")
        good, candidate = told["output_correct"].strip(), told["output_candidate"].strip()
        if not label or not good or not candidate or good == candidate:
            continue
        if int(label["categories"][0]["name"][0]) <= 3:
            critique = fluent.get(row["id"], "").strip()
            question = told["context"].strip()
            yield ranked("shepherd", question, (good, candidate), (1, 2), ("", critique))


def hhh(data: Path) -> Iterator[Ranked]:
    """Yield the answer that people chose above the one that they did not."""
    for row in read_json(data / "preference" / "prometheus" / "hhh_alignment_eval.json"):
        chosen, rejected = (
            HHH.search(row[f"{name}_instruction"]) for name in ("chosen", "rejected")
        )
        if chosen and rejected and chosen[1] == rejected[1]:
            answers = chosen[2].strip(), rejected[2].strip()
            if all(answers) and answers[0] != answers[1]:
                yield ranked("hhh", chosen[1].strip(), answers, (1, 2), ("", ""))


def topical_chat(data: Path) -> Iterator[Ranked]:
    """Yield six systems' next lines of a conversation, in the order of their mean rating."""
    yield from rated(data / "preference" / "UniEval" / "topical_chat.json", "topical_chat", "{}")


def sfres(data: Path) -> Iterator[Ranked]:
    """Yield several systems' wordings of one dialogue act, in the order of their mean rating."""
    yield from rated(
        data / "preference" / "UniEval" / "sfres.json", "sfres", "Say in one sentence: {}"
    )


def rated(file: Path, name: str, asks: str) -> Iterator[Ranked]:
    """Put outputs for one source together and rank them; distinct outputs only."""
    outputs: dict[str, dict[str, float]] = {}
    for row in read_json(file):
        text = row["system_output"].strip()
        if text:
            outputs.setdefault(row["source"].strip(), {})[text] = row["scores"]["overall"]
    for source, found in outputs.items():
        ranks = ranks_of(list(found.values()))
        if len(set(ranks)) > 1:
            row = ranked(name, asks.format(source), tuple(found), ranks, ("",) * len(found))
            yield replace(row, ratings=tuple(found.values()))


def ranks_of(scores: Sequence[float]) -> tuple[int, ...]:
    """Rank scores, the highest first; one that is nearer than `LEAST_APART` to the first of a rank
    shares it.

    >>> ranks_of([1.0, 4.0, 3.7, 3.2])
    (3, 1, 1, 2)
    """
    ranks = [0] * len(scores)
    rank, first = 0, float("inf")
    for place in sorted(range(len(scores)), key=lambda place: -scores[place]):
        if first - scores[place] >= LEAST_APART:
            rank, first = rank + 1, scores[place]
        ranks[place] = rank
    return tuple(ranks)


SETS = {"shepherd": shepherd, "hhh": hhh, "topical_chat": topical_chat, "sfres": sfres}


def ranked(
    source: str,
    question: str,
    answers: tuple[str, ...],
    ranks: tuple[int, ...],
    critiques: tuple[str, ...],
) -> Ranked:
    """Make a ranking whose group is its question, whatever its case and spaces."""
    group = " ".join(question.casefold().split())
    return Ranked(source, group, question, answers, ranks, critiques)


def split(rankings: Sequence[Ranked], share: float, seed: int) -> tuple[list[Ranked], list[Ranked]]:
    """Part rankings by group into those to train on and a share to test on."""
    groups = sorted({row.group for row in rankings})
    random.Random(seed).shuffle(groups)
    held = set(groups[: round(share * len(groups))])
    return [r for r in rankings if r.group not in held], [r for r in rankings if r.group in held]


def clear_pairs(rankings: Sequence[Ranked]) -> list[dict[str, str]]:
    """Return the pairs to test on: of two neighbouring ranks, ratings may be nearer to each other
    than raters can tell, and such a pair proves nothing."""
    return [
        pair
        for row in rankings
        for pair in pairs_of([row])
        if not row.ratings or _apart(row, pair) >= LEAST_APART
    ]


def _apart(row: Ranked, pair: Mapping[str, str]) -> float:
    rating = dict(zip(row.answers, row.ratings, strict=True))
    return rating[pair["answer_a"]] - rating[pair["answer_b"]]


def pairs_of(rankings: Sequence[Ranked]) -> list[dict[str, str]]:
    """Return every pair of unequal rank as `drenpa critic eval` reads it."""
    return [
        {
            "question": row.question,
            "answer_a": row.answers[better],
            "answer_b": row.answers[worse],
            "preferred": "a",
            "group": row.group,
            "critique_a": row.critiques[better],
            "critique_b": row.critiques[worse],
        }
        for row in rankings
        for better, high in enumerate(row.ranks)
        for worse, low in enumerate(row.ranks)
        if high < low
    ]


def corpus_of(rankings: Sequence[Ranked], root: Path) -> Any:
    """Write rankings as a corpus that nothing is held out of."""
    from drenpa.core.artefacts import Plan, run_plan, write_rows
    from drenpa.core.records import Candidate, Ranking, Record

    records, rows = {}, []
    for number, row in enumerate(rankings):
        name = f"r{number}"
        records[name] = Record(
            id=name, kind="foundation", question=row.question, answer=row.answers[0]
        )
        candidates = tuple(
            Candidate(id=str(place), answer=answer, rank=rank, critique=critique)
            for place, (answer, rank, critique) in enumerate(
                zip(row.answers, row.ranks, row.critiques, strict=True)
            )
        )
        rows.append(Ranking(id=name, record=name, candidates=candidates))

    def work(folder: Path) -> dict[str, int]:
        write_rows(folder / "records.parquet", list(records.values()))
        write_rows(folder / "rankings.parquet", rows)
        return {"rankings": len(rows)}

    described = {"rankings": [asdict(row) for row in rankings]}
    return run_plan(Plan("corpus", "corpus", root, described, {}, (), work))


def train_ours(
    arm: str, corpus: Any, model: Path, budget: Budget, seed: int, root: Path, dtype: str
) -> Any:
    """Train the critic, or the scalar scorer, which gets its own epochs as ordinary ones."""
    from drenpa.config import CriticConfig, EngineConfig, LoraConfig, TrainConfig
    from drenpa.critic.train import train_critic

    writes = arm == "critic"
    config = CriticConfig(
        train=TrainConfig(
            learning_rate=budget.learning_rate,
            max_length=budget.max_length,
            lora=LoraConfig(rank=RANK, alpha=ALPHA),
        ),
        epochs=budget.epochs + (0 if writes else budget.own_epochs),
        own_epochs=budget.own_epochs if writes else 0,
        batch=budget.batch,
        critique_weight=1.0 if writes else 0.0,
        max_critique_tokens=budget.max_critique_tokens,
    )
    engine = EngineConfig(tracker="none", dtype=dtype)
    return train_critic(corpus, model, config, root=root, seed=seed, name=arm, engine=engine)


def score_ours(place: Path, tests: Mapping[str, Sequence[dict[str, str]]], dtype: str) -> Any:
    """Return, per set and source, which pairs are right (1, ½, 0 or null)."""
    from drenpa.config import EngineConfig
    from drenpa.critic.evaluate import outcomes, score_pairs
    from drenpa.critic.pairs import Pair
    from drenpa.critic.score import load_critic

    critic = load_critic(place, engine=EngineConfig(tracker="none", dtype=dtype))
    found: dict[str, dict[str, list[float | None]]] = {}
    for name, rows in tests.items():
        pairs = [Pair(**row) for row in rows]
        scores = score_pairs(critic, pairs).scores
        found[name] = {s: [o.right for o in outcomes(pairs, both)] for s, both in scores.items()}
    return found


def peer(scratch: Path, budget: Budget, seed: int) -> None:
    """Train and measure TRL's RewardTrainer; runs in the interpreter that has it."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    given = read_json(scratch / "peer.json")
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
        {
            "chosen": turns(pair["question"], pair["answer_a"]),
            "rejected": turns(pair["question"], pair["answer_b"]),
        }
        for pair in given["train"]
    ]
    # As many pairs a step as the others' questions have on the average, so that steps are as many.
    batch = max(1, round(budget.batch * len(rows) / given["rankings"]))
    cuda = torch.cuda.is_available()
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(scratch / f"trl-{seed}"),
            per_device_train_batch_size=batch,
            num_train_epochs=budget.epochs + budget.own_epochs,
            learning_rate=budget.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,
            max_length=budget.max_length,
            max_grad_norm=1.0,
            seed=seed,
            report_to="none",
            save_strategy="no",
            use_cpu=not cuda,
            bf16=cuda,
            gradient_checkpointing=False,
            disable_tqdm=True,
            logging_strategy="no",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
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
        )["input_ids"][:, : budget.max_length]
        return float(scorer(input_ids=ids.to(scorer.device)).logits[0, 0])

    found: dict[str, dict[str, list[float]]] = {}
    for name, pairs in given["tests"].items():
        right = []
        for pair in pairs:
            better, worse = (score(pair["question"], pair[f"answer_{x}"]) for x in "ab")
            right.append(0.5 if better == worse else float(better > worse))
        found[name] = {"none": right}
    (scratch / f"peer-{seed}.json").write_text(json.dumps(found))


def run_peer(
    python: str,
    model: Path,
    train: Sequence[Ranked],
    tests: Mapping[str, Sequence[dict[str, str]]],
    budget: Budget,
    seed: int,
    scratch: Path,
) -> Any:
    """Let the other interpreter do the same work, and read what came of it."""
    scratch.mkdir(parents=True, exist_ok=True)
    given = {"model": str(model), "train": pairs_of(train), "rankings": len(train), "tests": tests}
    (scratch / "peer.json").write_text(json.dumps(given))
    command = [python, __file__, "--peer", str(scratch), "--seeds", str(seed)]
    done = subprocess.run(
        [*command, "--budget", json.dumps(asdict(budget))],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise SystemExit(f"the peer failed:\n{done.stderr[-4000:]}")
    return read_json(scratch / f"peer-{seed}.json")


def compared(
    found: Mapping[int, Mapping[str, Any]], tests: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Pool the seeds: each arm's accuracy on each set, and the critic's lead over each other arm.

    found: seed → arm → set → source → right of each pair.
    """
    from drenpa.core.statistics import interval, paired_difference

    told: dict[str, Any] = {}
    arms = list(next(iter(found.values())))
    for name in next(iter(tests.values())):
        columns = {
            (arm, source): _scored(found, tests, arm, name, source)
            for arm in arms
            for source in next(iter(found.values()))[arm][name]
        }
        told[name] = {
            f"{arm}, {source}": _rounded(vars(interval(column)), "percent")
            for (arm, source), column in columns.items()
        }
        for (arm, source), column in columns.items():
            if ("critic", "own") in columns and (arm, source) != ("critic", "own"):
                difference = paired_difference(columns["critic", "own"], column)
                told[name][f"critic, own − {arm}, {source}"] = _rounded(
                    vars(difference), "points", "p_value"
                )
    return told


def _scored(
    found: Mapping[int, Any], tests: Mapping[int, Any], arm: str, name: str, source: str
) -> Any:
    from drenpa.core.statistics import Scored

    rows = [
        (2 * right, f"{pair['question']}\0{pair['answer_a']}\0{pair['answer_b']}", pair, seed)
        for seed in found
        for pair, right in zip(tests[seed][name], found[seed][arm][name][source], strict=True)
        if right is not None
    ]
    return Scored(
        tuple(right for right, _, _, _ in rows),
        tuple(item for _, item, _, _ in rows),
        tuple(pair["group"] for _, _, pair, _ in rows),
        tuple(seed for _, _, _, seed in rows),
    )


def _rounded(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    kept = {name: values[name] for name in (*names, "low", "high", "items", "clusters", "seeds")}
    return {
        name: None if value != value else round(value, 3) if isinstance(value, float) else value
        for name, value in kept.items()
    }


def json_lines(file: Path) -> Iterator[Any]:
    """Yield the rows of a file of JSON Lines."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip():
            yield json.loads(line)


def read_json(file: Path) -> Any:
    """Read a file of JSON."""
    return json.loads(file.read_text(encoding="utf-8"))


def main() -> None:
    """Train and measure every arm under every seed, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/critic-human"))
    parser.add_argument("--train", nargs="+", choices=SETS, default=["shepherd", "sfres"])
    parser.add_argument("--test", nargs="*", choices=SETS, default=["hhh", "topical_chat"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--limit", type=int, default=0, help="rankings of each set; 0 takes all")
    parser.add_argument("--peer-python", default="", help="an interpreter with TRL; empty: no peer")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--budget", type=json.loads, default={}, help="JSON over the defaults")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    settings = {
        "epochs": 1,
        "own_epochs": 1,
        "batch": 4,
        "learning_rate": 2e-4,
        "max_length": 768,
        "max_critique_tokens": 64,
    }
    budget = Budget(**(settings | given.budget))
    if given.peer:
        peer(given.peer, budget, given.seeds[0])
        return
    if set(given.train) & set(given.test):
        parser.error("a set in --test is kept for testing alone; take it out of --train")
    found: dict[int, Any] = {}
    tests: dict[int, Any] = {}
    sets = {name: list(SETS[name](given.data)) for name in (*given.train, *given.test)}
    for seed in given.seeds:
        train: list[Ranked] = []
        held: dict[str, list[Ranked]] = {}
        for name, rows in sets.items():
            some = random.Random(0).sample(rows, min(given.limit or len(rows), len(rows)))
            if name in given.test:
                held[name] = some
                continue
            mine, held[name] = split(some, HELD_OUT, seed)
            train += mine
        tests[seed] = {name: clear_pairs(rows) for name, rows in held.items()}
        known = {row.group for row in train}
        assert not known & {pair["group"] for pairs in tests[seed].values() for pair in pairs}
        root = given.out / f"seed-{seed}"
        corpus = corpus_of(train, root)
        found[seed] = {}
        for arm in ("critic", "scalar"):
            made = train_ours(arm, corpus, given.model, budget, seed, root, given.dtype)
            found[seed][arm] = score_ours(made.path, tests[seed], given.dtype)
        if given.peer_python:
            found[seed]["trl"] = run_peer(
                given.peer_python, given.model, train, tests[seed], budget, seed, root / "peer"
            )
    told = {
        "budget": asdict(budget),
        "model": given.model.name,
        "seeds": given.seeds,
        "sets": compared(found, tests),
    }
    (given.out / "critic-human.json").write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    sys.exit(main())
