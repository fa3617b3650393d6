"""`drenpa critic eval` and `drenpa critic card`: a trained critic put to pairs that people judged.

The pairs are read like all other files of people's, and the plot is drawn like those of the report;
what is measured is the critic's own room's business.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from drenpa.config import EngineConfig
from drenpa.core.artefacts import journal_lines, open_artefact, write_text
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Ranking, Record
from drenpa.corpus.formats import Faults
from drenpa.corpus.intake import read_rows
from drenpa.critic.pairs import CRITIQUES, Pair, pairs_in_rankings
from drenpa.report.charts import Point, reliability_chart

SOURCES: Mapping[str, str] = {
    "own": "its own",
    "none": "none",
    "shuffled": "its own, changed round",
    "gold": "people's",
}
METERS: Mapping[str, str] = {
    "gap": "gap: people's − its own",
    "use": "use: its own − changed round",
}
BOUNDS = (
    "confidence at least",
    "scores apart by",
    "objective.pair_floor",
    "pairs kept",
    "in order",
    "95 %",
)
PLOT = "reliability.svg"
DRAW_SEED = 0


def read_pairs(path: Path) -> list[Pair]:
    """Read a file of judged pairs in JSON Lines, CSV or Parquet.

    raises: DataError with every fault as `file:line: field: what is wrong`.
    """
    faults = Faults()
    rows = read_rows(path, Pair, faults)
    faults.check()
    return [located.row for located in rows]


def held_out_pairs(place: Path) -> list[Pair]:
    """Return the pairs of the held-out rankings that a critic's artefact was measured on, with
    people's critiques as it was measured with them: notes made full, where they were.

    raises: ArtefactError when the folder is no critic's artefact or its corpus is gone;
            DataError when nothing was held out.
    """
    critic = open_artefact(place, "critic")
    corpus = open_artefact(critic.input_path("corpus"), "corpus")
    shown = journal_lines(critic.path / CRITIQUES)
    critiques = {(row["ranking"], row["candidate"]): row["gold"] for row in shown}
    questions = {record.id: record.question for record in corpus.rows("records", Record)}
    rankings = [r for r in corpus.rows("rankings", Ranking) if r.split == "held_out"]
    pairs = pairs_in_rankings(rankings, questions, critiques)
    if not pairs:
        raise DataError(f"{corpus.path}: no ranking is held out; name a file with --pairs")
    return pairs


def drawn(pairs: Sequence[Pair], questions: int) -> list[Pair]:
    """Keep the pairs of so many questions, drawn by lot and always alike; 0 keeps all."""
    names = sorted({pair.question for pair in pairs})
    if not 0 < questions < len(names):
        return list(pairs)
    chosen = set(random.Random(DRAW_SEED).sample(names, questions))
    return [pair for pair in pairs if pair.question in chosen]


def evaluate(place: Path, file: Path, *, engine: EngineConfig | None = None) -> dict[str, Any]:
    """Measure a critic on a file of pairs.

    raises: ArtefactError or ModelError when there is no critic; DataError when the file is wrong.
    """
    pairs = read_pairs(file)
    from drenpa.critic.evaluate import evaluation
    from drenpa.critic.score import load_critic

    critic = load_critic(place, engine=engine)
    return {"critic": str(place), "file": str(file), **evaluation(critic, pairs)}


def make_card(
    place: Path,
    *,
    pairs: Path | None = None,
    questions: int = 0,
    samples: int = 4,
    engine: EngineConfig | None = None,
) -> dict[str, Any]:
    """Measure what `drenpa critic card` tells, on a file's pairs or the critic's held-out ones.

    raises: what `evaluate` and `held_out_pairs` raise; DataError when no pair is decided.
    """
    source = str(pairs) if pairs is not None else "the held-out rankings of its corpus"
    if pairs is None and not (place / "manifest.json").is_file():
        raise ArtefactError(f"{place}: is no artefact, so no corpus is known; name --pairs")
    rows = drawn(read_pairs(pairs) if pairs is not None else held_out_pairs(place), questions)
    if not any(pair.decided for pair in rows):
        raise DataError(f"{source}: every pair is a tie; a card needs pairs that people decided")
    from drenpa.critic.card import card
    from drenpa.critic.score import load_critic

    critic = load_critic(place, engine=engine)
    return {"critic": str(place), "from": source, **card(critic, rows, samples=samples)}


def write_evaluation(told: Mapping[str, Any], folder: Path) -> None:
    """Write the figures as JSON, and the reliability plot."""
    write_text(folder / "eval.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    _write_plot(told["calibration"], folder)


def write_card(told: Mapping[str, Any], folder: Path) -> None:
    """Write the card for people and for programs, and the reliability plot."""
    write_text(folder / "card.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    write_text(folder / "card.md", card_text(told))
    _write_plot(told["calibration"], folder)


def print_evaluation(told: Mapping[str, Any], console: Console) -> None:
    """Print the figures as tables."""
    table = _table(("critique read", "pairs in order", "95 %", "pairs", "groups", "unscored"))
    for key, label in (*SOURCES.items(), ("longer", "no critic: the longer answer")):
        if key in told:
            found = told[key]
            table.add_row(
                _plain(label),
                _percent(found["accuracy"]),
                _limits(found),
                str(found["pairs"]),
                str(found["questions"]),
                str(found["unscored"]),
            )
    console.print(table)
    for key, label in METERS.items():
        if key in told:
            found = told[key]
            console.print(_plain(f"{label}: {_points(found['difference'])} {_limits(found)}"))
    for line in (_ties_line(told["ties"]), *_calibration_lines(told["calibration"])):
        console.print(_plain(line))
    if bounds := told["calibration"].get("bounds"):
        table = _table(BOUNDS)
        for row in bounds:
            table.add_row(*_bound_cells(row))
        console.print(table)


def card_text(told: Mapping[str, Any]) -> str:
    """Write the card as Markdown."""
    return "\n".join(_card_lines(told)) + "\n"


def _card_lines(told: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Card of the critic `{Path(told['critic']).name}`\n"
    yield (
        f"On {told['pairs']} pairs of {told['groups']} groups from {told['from']}. Scored as at "
        f"work, with {'its own critiques' if told['used'] == 'own' else 'no critique'}. Intervals "
        "are 95 % and draw whole groups again. Nothing is passed or failed here: the figures are "
        "shares of pairs.\n"
    )
    yield "## In the people's order\n"
    yield from _markdown_table(
        ("critique read", "pairs in order", "95 %", "pairs"),
        [
            (label, _percent(f["accuracy"]), _limits(f), f["pairs"])
            for key, label in SOURCES.items()
            if (f := told["accuracy"].get(key))
        ],
    )
    for key, label in METERS.items():
        if found := told["accuracy"].get(key):
            yield f"- {label}: {_points(found['difference'])} {_limits(found)}"
    yield "\n## What it is asked to withstand\n"
    yield from _markdown_table(
        ("check", "share", "95 %", "n", "of what", "besides"),
        [
            (
                check["name"],
                _percent(check["told"]["accuracy"]),
                _limits(check["told"]),
                check["told"]["pairs"],
                check["asks"],
                "; ".join(f"{name} {_number(value)}" for name, value in check["more"].items()),
            )
            for check in told["checks"]
        ],
    )
    if "consistency" in told:
        yield from _critique_lines(told)
    yield "\n## What a score costs\n"
    cost = told["latency"]
    yield (
        f"{_seconds(cost['alone'])} for an answer alone (the median of {cost['timed alone']}), "
        f"{_seconds(cost['together'])} each when asked for together, on {cost['device']} "
        f"({cost['processor']}).\n"
    )
    yield "## What a difference of scores means\n"
    yield from (f"- {line}" for line in _calibration_lines(told["calibration"]))
    if bounds := told["calibration"].get("bounds"):
        yield ""
        yield from _markdown_table(BOUNDS, [_bound_cells(row) for row in bounds])
        yield f"\n![reliability]({PLOT})"


def _critique_lines(told: Mapping[str, Any]) -> Iterator[str]:
    found = told["consistency"]
    yield f"\n## Several critiques of one answer ({found['samples']} sampled)\n"
    yield from _markdown_table(
        ("score of", "pairs in order", "95 %"),
        [
            (label, _percent(found[key]["accuracy"]), _limits(found[key]))
            for key, label in (
                ("greedy", "the greedy critique"),
                ("single", "one sampled critique"),
                ("mean", "the mean over the samples"),
            )
        ],
    )
    for key, label in (
        ("mean_minus_single", "the mean minus one sampled"),
        ("mean_minus_greedy", "the mean minus the greedy one"),
    ):
        yield f"- {label}: {_points(found[key]['difference'])} {_limits(found[key])}"
    yield (
        f"- standard deviation of scores: {_number(found['within'])} within an answer, "
        f"{_number(found['between'])} between answers"
    )
    yield "\n## Length of the critique\n"
    yield from _markdown_table(
        ("tokens at most", "critiques that end within", "pairs in order", "95 %"),
        [
            (row["tokens"], _percent(row.get("whole")), _percent(row["accuracy"]), _limits(row))
            for row in told["budget"]
        ],
    )
    live = told["live"]
    yield (
        f"\nThe score from the live cache and that of the row encoded again differ by at most "
        f"{_number(live['largest difference'])} over {live['answers']} answers."
    )


def _ties_line(ties: Mapping[str, Any]) -> str:
    if not ties["pairs"]:
        return "No ties."
    near = (
        f"; their scores stand nearer than a decided pair's in {_percent(ties['nearer'])} of all "
        "comparisons (50 % is chance)"
        if ties["nearer"] is not None
        else ""
    )
    return f"Ties, which have no order to get right: {ties['pairs']}{near}."


def _calibration_lines(found: Mapping[str, Any]) -> Iterator[str]:
    if "loss" not in found:
        yield (
            f"{found['pairs']} pairs of {found['groups']} groups are too few to say what a "
            "difference of scores means."
        )
        return
    if found["temperature"] is None:
        yield "A difference of scores says nothing about what people prefer on these pairs."
    else:
        yield (
            f"Temperature {_number(found['temperature'])}: the answer whose score is δ higher is "
            f"preferred with probability 1 / (1 + exp(−δ / {_number(found['temperature'])}))."
        )
    loss = found["loss"]
    yield (
        f"On pairs it was not fitted on: log loss {_number(loss['calibrated']['mean'])} "
        f"({_range(loss['calibrated'])}), before {_number(loss['raw']['mean'])}, a coin "
        f"{_number(loss['coin'])}; calibration error {_percent(found['error'])}."
    )
    if found["temperature"] is not None and (margin := found["margin"]):
        difference = margin["paper_minus_plain"]
        yield (
            f"P6 with w = k = 0.5 instead of w = 0 changes the log loss by "
            f"{_number(difference['mean'])} ({_range(difference)}; below 0 is for P6); best of the "
            f"grid: w = {_number(margin['weight'])}"
            + (f", k = {_number(margin['rate'])}." if margin["rate"] is not None else ".")
        )


def _write_plot(found: Mapping[str, Any], folder: Path) -> None:
    if found.get("bins"):
        points = [
            Point(row["confidence"], row["right"], row["low"], row["high"]) for row in found["bins"]
        ]
        write_text(folder / PLOT, str(reliability_chart("As right as it is sure?", points)))


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"


def _table(head: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left")
    return table


def _plain(text: str) -> Text:
    return Text(text)


def _bound_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What is left of the pairs above one confidence, and the floor that leaves out the others."""
    return (
        _percent(row["confidence"]),
        _number(row["difference"]),
        _number(row["pair_floor"]),
        _percent(row["kept"]),
        _percent(row["right"]),
        _limits(row),
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f} points".replace("-", "−")


def _limits(found: Mapping[str, Any]) -> str:
    low, high = found["low"], found["high"]
    if low is None or high is None:
        return ""
    return f"[{100 * low:.1f}, {100 * high:.1f}]".replace("-", "−")


def _range(found: Mapping[str, Any]) -> str:
    return f"{_number(found['low'])} to {_number(found['high'])}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}".replace("-", "−")


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g} s"
