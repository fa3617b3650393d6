"""What the faithfulness gate stops and what it lets through, on critiques that people labelled.

MetaCritique cuts critiques of answers into claims and says of each whether it holds, given the
question, the answer, a reference answer and a reference critique. Here the reference answer and
critique are the note, and each claim is a critique: the gate should stop those labelled false and
pass the others.

Shepherd has people's notes and the same made fluent by people: the gate should pass these, and
stop the fluent critique of another answer.

    python benchmarks/critic_gate.py --metacritique annotation_data.json \\
        --shepherd FOLDER_WITH_human_data_raw_and_for_model

With `--checker MODEL` a local model is asked about claims of MetaCritique as the gate's second
model is, each claim as a critique by itself, as many that hold as do not.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drenpa.core.statistics import Scored, interval
from drenpa.critic.faithful import (
    CHECK_SLOTS,
    new_names,
    new_numbers,
    new_quotations,
    new_terms,
    unfaithful,
    unsupported_claims,
)

CRITIQUES = ("human_critique", "llm1_critique", "llm2_critique")
CHECK_TOKENS = 64
PARTS = {
    "numbers": new_numbers,
    "names": new_names,
    "quotations": new_quotations,
    "terms": new_terms,
}


def claims(items: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, bool]]:
    """Yield (question, sources, claim, whether people say that it holds)."""
    for item in items:
        sources = "\n".join(sources_of(item))
        for name in CRITIQUES:
            found = item.get(name)
            if found is not None:
                for claim, holds in zip(found["aius"], found["precision_labels"], strict=True):
                    yield str(item["shepherd_id"]), sources, claim, bool(holds)


def sources_of(item: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return question, answer, and the reference answer and critique that stand for the note."""
    return (
        item["question"],
        item["response"],
        item["gpt4_answer"],
        item["gpt4_critique"]["critique"],
    )


def gate_figures(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return precision and recall of the gate on single claims, and of each of its parts."""
    rows = [
        (cluster, holds, {part: bool(find(claim, sources)) for part, find in PARTS.items()})
        for cluster, sources, claim, holds in claims(items)
    ]
    told: dict[str, Any] = {
        "claims": len(rows),
        "unsupported": sum(not holds for _, holds, _ in rows),
    }
    for part in ("any", *PARTS):
        flagged = [
            (c, holds, any(f.values()) if part == "any" else f[part]) for c, holds, f in rows
        ]
        told[part] = {
            "flagged": sum(flag for _, _, flag in flagged),
            "precision": share([(c, not holds) for c, holds, flag in flagged if flag]),
            "recall": share([(c, flag) for c, holds, flag in flagged if not holds]),
            "stopped though they hold": share([(c, flag) for c, holds, flag in flagged if holds]),
        }
    told["whole critiques"] = whole_critiques(items)
    return told


def checker_figures(items: Sequence[Mapping[str, Any]], model: str, count: int) -> dict[str, Any]:
    """Ask the second model about `count` claims, half of which hold; of the half of the questions
    with the shortest sources, since a small model reads slowly.

    A reply that cannot be read stops a critique, so it counts as flagged.
    """
    from drenpa.core.prompts import load_prompt
    from drenpa.critic.client import LocalWriter, Reply

    def length(item: Mapping[str, Any]) -> int:
        return sum(len(text) for text in sources_of(item))

    short = sorted(items, key=length)[: len(items) // 2]
    rows = [
        (item, claim, bool(holds))
        for item in short
        for name in CRITIQUES
        if item.get(name) is not None
        for claim, holds in zip(item[name]["aius"], item[name]["precision_labels"], strict=True)
    ]
    lot = random.Random(0)
    chosen = [
        row
        for wanted in (True, False)
        for row in lot.sample([row for row in rows if row[2] is wanted], count // 2)
    ]
    prompt = load_prompt("expand_check", "en", slots=CHECK_SLOTS)
    writer = LocalWriter(model, max_tokens=CHECK_TOKENS)
    requests = []
    for item, claim, _ in chosen:
        question, answer, *note = sources_of(item)
        text = prompt.fill(
            {"question": question, "answer": answer, "note": "\n".join(note), "critique": claim}
        )
        requests.append(writer.request([{"role": "user", "content": text}]))
    replies: dict[int, Reply] = {}
    writer.send(requests, replies.__setitem__, at_once=1, spent=0.0, lose=lambda _: None)
    found = [unsupported_claims(replies[place].text) for place in range(len(chosen))]
    judged = [
        (str(item["shepherd_id"]), holds, claims is None or bool(claims))
        for (item, _, holds), claims in zip(chosen, found, strict=True)
    ]
    return {
        "claims": len(chosen),
        "unreadable": sum(claims is None for claims in found),
        "recall": share([(c, flag) for c, holds, flag in judged if not holds]),
        "stopped though they hold": share([(c, flag) for c, holds, flag in judged if holds]),
        "replies": [replies[place].text for place in range(3)],
    }


def whole_critiques(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The gate as it works, on whole critiques: one is unfaithful when a claim of it does not hold.

    Length, and what is kept of the note, is left out of account: these critiques were not written
    from the note.
    """
    rows = []
    for item in items:
        note = f"{item['gpt4_answer']}\n{item['gpt4_critique']['critique']}"
        for name in CRITIQUES:
            if (found := item.get(name)) is None:
                continue
            text = found["critique"]
            faults = [
                fault
                for fault in unfaithful(item["question"], item["response"], note, text)
                if not about_length(fault) and "what the note says" not in fault
            ]
            rows.append((str(item["shepherd_id"]), all(found["precision_labels"]), bool(faults)))
    return {
        "critiques": len(rows),
        "unfaithful": sum(not holds for _, holds, _ in rows),
        "flagged": sum(flag for _, _, flag in rows),
        "precision": share([(c, not holds) for c, holds, flag in rows if flag]),
        "recall": share([(c, flag) for c, holds, flag in rows if not holds]),
        "stopped though they hold": share([(c, flag) for c, holds, flag in rows if holds]),
    }


def share(rows: Sequence[tuple[str, bool]]) -> dict[str, float | None]:
    """A share with its interval, questions drawn again."""
    found = interval(
        Scored(
            tuple(2.0 * flag for _, flag in rows),
            tuple(map(str, range(len(rows)))),
            tuple(cluster for cluster, _ in rows),
            (0,) * len(rows),
        )
    )
    return {
        "share": rounded(found.percent),
        "low": rounded(found.low),
        "high": rounded(found.high),
        "n": len(rows),
    }


def rounded(percent: float) -> float | None:
    """A share for JSON; None for no number."""
    return None if math.isnan(percent) else round(percent / 100, 3)


def shepherd_figures(folder: Path) -> dict[str, Any]:
    """Return how many faithful critiques the gate stops, and how many of another answer's."""
    raw, fluent = (
        {row["id"]: row for row in map(json.loads, (folder / name).open(encoding="utf-8"))}
        for name in ("human_data_raw.jsonl", "human_data_for_model.jsonl")
    )
    rows = []
    for name, row in fluent.items():
        note = "\n".join(written(raw[name]["latestLabel"]["jsonResponse"]))
        if note and row["feedback"].strip() and row["question"].strip():
            rows.append((str(name), row["question"], row["answer"], note, row["feedback"]))
    told: dict[str, Any] = {}
    for title, length in (("with bounds on length", True), ("without", False)):
        own, other = [], []
        for place, (name, question, answer, note, feedback) in enumerate(rows):
            foreign = rows[(place + len(rows) // 2) % len(rows)][4]
            for found, text in ((own, feedback), (other, foreign)):
                faults = unfaithful(question, answer, note, text)
                found.append((name, any(length or not about_length(fault) for fault in faults)))
        told[title] = {
            "faithful ones stopped": share(own),
            "another answer's stopped": share(other),
        }
    return told


def about_length(fault: str) -> bool:
    """Whether a fault is of length alone."""
    return fault.startswith("The critique has")


def written(label: Any) -> Iterator[str]:
    """Yield every text that the person wrote into the form."""
    if isinstance(label, dict):
        for key, value in label.items():
            if key == "text" and isinstance(value, str) and value.strip():
                yield value.strip()
            else:
                yield from written(value)
    elif isinstance(label, list):
        for value in label:
            yield from written(value)


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metacritique", type=Path, help="annotation_data.json")
    parser.add_argument("--shepherd", type=Path, help="the folder of the two files")
    parser.add_argument("--checker", default="", help="a local model that checks claims")
    parser.add_argument("--claims", type=int, default=40, help="how many claims it is asked about")
    given = parser.parse_args()
    told = {}
    if given.metacritique:
        items = json.loads(given.metacritique.read_text(encoding="utf-8"))
        if given.checker:
            told["checker"] = checker_figures(items, given.checker, given.claims)
        else:
            told["metacritique"] = gate_figures(items)
    if given.shepherd:
        told["shepherd"] = shepherd_figures(given.shepherd)
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
