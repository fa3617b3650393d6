"""How far the reward rose in each round of reinforcement, over runs that differ in their seed.

    python benchmarks/rewards.py runs/starter-1 runs/starter-2 runs/starter-3

For each round: the mean reward of the first and of the last quarter of the steps, by run, and the
mean rise with Student's 95 % interval over the runs.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from scipy.special import stdtrit

from drenpa.core.artefacts import journal_lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    ends: dict[str, list[tuple[float, float]]] = {}
    for run in parser.parse_args().runs:
        for folder in sorted(run.glob("reinforce-*")):
            if folder.suffix:  # still training
                continue
            rewards = [line["reward"] for line in journal_lines(folder / "metrics.jsonl")]
            quarter = max(1, len(rewards) // 4)
            first, last = rewards[:quarter], rewards[-quarter:]
            name = folder.name.rpartition("-")[0]
            ends.setdefault(name, []).append((statistics.mean(first), statistics.mean(last)))
    for name, found in ends.items():
        told = ", ".join(f"{first:.2f} to {last:.2f}" for first, last in found)
        rises = [last - first for first, last in found]
        print(f"{name}: {told}; mean rise {statistics.mean(rises):.2f}", end="")
        if len(rises) > 1:
            reach = stdtrit(len(rises) - 1, 0.975) * statistics.stdev(rises) / len(rises) ** 0.5
            middle = statistics.mean(rises)
            print(f" ({middle - reach:.2f} to {middle + reach:.2f})", end="")
        print()


if __name__ == "__main__":
    main()
