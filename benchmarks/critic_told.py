"""What rows of marks say: accuracies, gap, use, leads over the scalar scorers, and their chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drenpa.core.statistics import Scored, interval, paired_difference

COMPARED = (
    ("gap", "gold", "own"),
    ("use", "own", "shuffled"),
    ("spread_gap", "gold", "spread"),
    ("spread_use", "spread", "spread_shuffled"),
    ("spread_minus_own", "spread", "own"),
    ("mean_use", "mean", "mean_shuffled"),
    ("mean_minus_one", "mean", "one"),
    ("mean_minus_own", "mean", "own"),
)

BASELINES = {"scalar": "none", "trl": "none", "noted": "own"}
"""What the arms are held against, and what its head reads."""


def told(rows: Sequence[Mapping[str, Any]], part: str) -> dict[str, Any]:
    """Return per set, and over those with people's critiques together, each arm's accuracies, gap
    and use, and its lead over the baselines on the same pairs.

    Seeds are pooled: each tests on groups of its own, and the intervals draw groups again. Seeds
    are not drawn, since three are too few to draw from; the figures of each stand beside.
    """
    table: dict[str, Any] = {}
    names = [*dict.fromkeys(row["set"] for row in rows)]
    for name, sets in (*((n, {n}) for n in names), ("all but hhh", {*names} - {"hhh"})):
        columns: dict[tuple[str, str], Column] = {}
        for arm in dict.fromkeys(row["arm"] for row in rows):
            mine = [r for r in rows if r["arm"] == arm and r["set"] in sets and r["part"] == part]
            for source in dict.fromkeys(s for r in mine for s in r["right"]):
                columns[arm, source] = column_of(mine, source)
        table[name] = {}
        for arm in dict.fromkeys(arm for arm, _ in columns):
            own = {source: c for (a, source), c in columns.items() if a == arm and c}
            cell: dict[str, Any] = {source: figures(column) for source, column in own.items()}
            for label, more, less in COMPARED:
                if more in own and less in own:
                    cell[label] = figures(own[more], own[less])
            for other, read in BASELINES.items():
                for source in ("own", "spread", "mean", "none"):
                    if source in own and other != arm and columns.get((other, read)):
                        cell[f"{source} - {other}"] = figures(own[source], columns[other, read])
            table[name][arm] = {label: cell for label, cell in cell.items() if cell["pairs"]}
    return table


Column = Mapping[tuple[int, str, str], float]
"""The marks of an arm, from 0 to 2, by seed, group and pair."""


def column_of(rows: Sequence[Mapping[str, Any]], source: str) -> Column:
    """Return an arm's marks under one source, over all seeds and sets given."""
    value = {"1": 2.0, "0": 0.0, "h": 1.0}
    found = {}
    for row in rows:
        places = [(group, n) for group, size in row["groups"] for n in range(size)]
        if source not in row["right"]:
            continue
        pairs = zip(row["right"][source], places, strict=True)
        for number, (mark, (group, _)) in enumerate(pairs):
            if mark in value:
                found[row["seed"], group, f"{row['set']}-{number}"] = value[mark]
    return found


def figures(ours: Column, theirs: Column | None = None) -> dict[str, Any]:
    """Return a share of pairs in per cent, or the difference of two in points on the pairs that
    both have, with its interval and that of each seed."""
    kept = [key for key in ours if theirs is None or key in theirs]
    if not kept:
        return {"pairs": 0}
    found = (
        interval(scored(ours, kept))
        if theirs is None
        else paired_difference(scored(ours, kept), scored(theirs, kept))
    )
    marks_of = {key: ours[key] - (theirs[key] if theirs else 0.0) for key in kept}
    seeds = {
        seed: [mark for (s, _, _), mark in marks_of.items() if s == seed]
        for seed in sorted({s for s, _, _ in kept})
    }
    return {
        "value": round(50 * sum(marks_of.values()) / len(kept), 1),
        "low": round(found.low, 1),
        "high": round(found.high, 1),
        "pairs": len(kept),
        "groups": found.clusters,
        "by_seed": {seed: round(50 * sum(m) / len(m), 1) for seed, m in seeds.items()},
    }


def scored(column: Column, keys: Sequence[tuple[int, str, str]]) -> Scored:
    """Return some marks as the statistics take them."""
    return Scored(
        tuple(column[key] for key in keys),
        tuple(f"{seed}-{pair}" for seed, _, pair in keys),
        tuple(group for _, group, _ in keys),
        (0,) * len(keys),
    )


def shown(table: Mapping[str, Any]) -> str:
    """Write the tables for people."""
    lines = []
    for name, arms in table.items():
        for arm, cell in arms.items():
            lines.append(f"{name} · {arm}")
            for label, f in cell.items():
                span = f"[{f['low']}, {f['high']}]"
                counts = f"{f['pairs']} pairs, {f['groups']} groups, seeds {f['by_seed']}"
                lines.append(f"    {label:18} {f['value']:6} {span:16} {counts}")
    return "\n".join(lines)


SHARES = {"people": 0.0, "quarter": 0.25, "half": 0.5, "three": 0.75, "most": 0.9, "own": 1.0}
SOURCES = {"gold": "people's", "own": "its own", "none": "none", "shuffled": "its own, shuffled"}


def plot(table: Mapping[str, Any], file: Path, name: str) -> None:
    """Draw what the head gets right over the share of own critiques, and gap and use of all arms.

    The curves have only the arms that were run with all seeds.

    name: which set's figures.
    """
    from matplotlib.figure import Figure

    arms = table[name]
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    seeds = {arm: len(cell["own"]["by_seed"]) for arm, cell in arms.items() if "own" in cell}
    whole = [arm for arm in SHARES if arm in seeds and seeds[arm] == max(seeds.values())]
    shares = [(SHARES[arm], arms[arm]) for arm in whole]
    for (source, label), sign in zip(SOURCES.items(), "osD^", strict=True):
        cells = [(share, cell[source]) for share, cell in shares if source in cell]
        if cells:
            left.errorbar(
                [share for share, _ in cells],
                [cell["value"] for _, cell in cells],
                [
                    [c["value"] - c["low"] for _, c in cells],
                    [c["high"] - c["value"] for _, c in cells],
                ],
                marker=sign,
                capsize=3,
                label=label,
            )
    for other, style in (("scalar", "--"), ("trl", ":")):
        if other in arms:
            cell = arms[other]["none"]
            count = len(cell["by_seed"])
            label = f"{other}, {count} seed{'s' * (count > 1)}"
            left.axhline(cell["value"], color="grey", linestyle=style, label=label)
    left.set_xlabel("share of its own critiques in the last epoch")
    left.set_ylabel("pairs in people's order, %")
    left.legend(fontsize=8, loc="best")
    for arm, cell in arms.items():
        for kind, sign in (("", "o"), ("spread_", "s")):
            if f"{kind}gap" not in cell or f"{kind}use" not in cell:
                continue
            gap, use = cell[f"{kind}gap"], cell[f"{kind}use"]
            count = len(gap["by_seed"])
            right.errorbar(
                gap["value"],
                use["value"],
                [[use["value"] - use["low"]], [use["high"] - use["value"]]],
                [[gap["value"] - gap["low"]], [gap["high"] - gap["value"]]],
                marker=sign,
                capsize=3,
                label=f"{arm}{', weighed' if kind else ''}, {count} seed{'s' * (count > 1)}",
            )
    right.axhline(0, color="grey", linewidth=0.8)
    right.axvline(5, color="grey", linewidth=0.8, linestyle="--")
    right.set_xlabel("gap: people's − its own, points")
    right.set_ylabel("use: its own − shuffled, points")
    right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1.0))
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
