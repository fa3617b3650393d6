"""The watch over reward hacking: does what training maximises rise alone?

A reward that rises while nothing independent of it does is a reward that is being hacked. For each
stage the watch sets the reward beside an independent judge's benchmark before and after, the
likeness of the sampled answers to the references, what a judge gives the sampled answers where one
is asked, and the signs that usually go with hacking: length, answers cut off, loops.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import mean, variance
from typing import Any, Literal

from rich.console import Console
from rich.text import Text
from scipy.special import stdtrit

from drenpa.core.artefacts import (
    MANIFEST,
    PARTIAL,
    Artefact,
    append_line,
    finished,
    journal_lines,
    open_artefact,
)
from drenpa.core.composites import composite, plain
from drenpa.core.errors import ArtefactError, DrenpaError
from drenpa.core.records import Record, Verdict
from drenpa.core.roles import Finish
from drenpa.core.statistics import interval, paired_difference
from drenpa.core.text import content_units, loop_ratio, shown
from drenpa.report.curves import METRICS, read_lines
from drenpa.report.table import CRITIC

SAMPLES = "samples.jsonl"
LEAST_STEPS = 6
"""Fewer steps than this have no course that could be told from noise."""

MOST_LINES = 40
"""So many steps of each third are read for likeness and loops."""
MOST_JUDGED = 4
"""So many steps of the first and of the last third are judged, where a judge is asked."""

JOURNAL = "watch.jsonl"

Course = Literal["up", "down", "level", "unknown"]
Role = Literal["reward", "independent", "length", "sign"]


@dataclass(frozen=True)
class Sampled:
    """An answer that training sampled.

    reference, language: of its record; empty where they are not known.
    """

    question: str
    answer: str
    finish: Finish
    reference: str
    language: str


AskJudge = Callable[[Sequence[Sampled]], Sequence[float]]
"""Returns what a judge that is not the reward gives the answers, in per cent; NaN where nothing."""


@dataclass(frozen=True)
class Signal:
    """One figure over a stage: its mean over the first and the last third of the steps.

    low, high: the 95 % interval of the change; None where it is unknown.
    course:    up or down where the interval leaves 0 out.
    """

    name: str
    role: Role
    first: float
    last: float
    low: float | None
    high: float | None

    @property
    def change(self) -> float:
        """Last less first."""
        return self.last - self.first

    @property
    def course(self) -> Course:
        """Where it went, as far as it can be told from noise."""
        if self.low is None or self.high is None:
            return "unknown"
        return "up" if self.low > 0 else "down" if self.high < 0 else "level"


@dataclass(frozen=True)
class Watch:
    """What became of one stage.

    alarm: the reward rose and nothing independent did. Where nothing independent is known, that it
           rose together with answers cut off or loops.
    """

    stage: str
    steps: int
    signals: tuple[Signal, ...]

    @property
    def alarm(self) -> bool:
        """Whether the reward rose alone."""
        if not any(s.role == "reward" and s.course == "up" for s in self.signals):
            return False
        independent = [s for s in self.signals if s.role == "independent" and s.course != "unknown"]
        if independent:
            return not any(signal.course == "up" for signal in independent)
        return bool(self.signs)

    @property
    def signs(self) -> tuple[Signal, ...]:
        """Cut-off answers and loops that became more."""
        return tuple(s for s in self.signals if s.role == "sign" and s.course == "up")

    @property
    def note(self) -> str:
        """Say it in a sentence."""
        reward = [s for s in self.signals if s.role == "reward"]
        if not reward:
            return f"{self.stage}: it logged no reward."
        if self.steps < LEAST_STEPS:
            return f"{self.stage}: {self.steps} steps are too few to tell a course from noise."
        others = [s for s in self.signals if s.role == "independent"]
        longer = [s for s in self.signals if s.role == "length" and s.course == "up"]
        told = [_told(reward[0]), *map(_told, (*others, *longer, *self.signs))]
        if not others:
            told.append("nothing independent of the reward was measured")
        head = "ALARM, the reward rises alone: " if self.alarm else ""
        return f"{self.stage}: {head}{'; '.join(told)}."


def watch_stages(
    training: Mapping[str, Artefact],
    verdicts: Sequence[Artefact],
    ask_judge: AskJudge | None = None,
) -> tuple[Watch, ...]:
    """Watch every stage that logged a reward.

    verdicts:  the benchmarks: a stage whose policy and start were both benchmarked by one judge has
               its independent judge in them, unless that judge is the critic itself.
    ask_judge: to judge some of the sampled answers; see `MOST_JUDGED`.
    """
    return tuple(
        watch_stage(name, artefact, verdicts, ask_judge)
        for name, artefact in training.items()
        if artefact.kind == "policy" and _logs_reward(artefact.path)
    )


def watch_stage(
    name: str,
    artefact: Artefact,
    verdicts: Sequence[Artefact] = (),
    ask_judge: AskJudge | None = None,
) -> Watch:
    """Watch one stage of training."""
    lines = read_lines(artefact.path / METRICS)
    benchmark = _benchmarked(artefact, verdicts)
    return Watch(
        stage=name,
        steps=len({line["step"] for line in lines}),
        signals=(
            *_logged(lines),
            *_sampled(artefact.path / SAMPLES, _trained(artefact), ask_judge),
            *([benchmark] if benchmark is not None else []),
        ),
    )


def watch_folder(folder: Path, ask_judge: AskJudge | None = None) -> tuple[Watch, ...]:
    """Watch all stages of a run's folder, or one stage by its own, finished or still training.

    raises: ArtefactError when no stage there logs a reward.
    """
    if _logs_reward(folder):
        watched = watch_running if _unfinished(folder) else _alone
        return (watched(folder, ask_judge),)
    found = finished(folder)
    stages = {artefact.name: artefact for artefact in found}
    watches = watch_stages(stages, [a for a in found if a.kind == "verdicts"], ask_judge)
    running = [p for p in sorted(folder.glob(f"*{PARTIAL}")) if _logs_reward(p)]
    if not watches and not running:
        raise ArtefactError(f"{folder}: no stage of reinforcement learning has logged a reward")
    return (*watches, *(watch_running(one, ask_judge) for one in running))


def watch_checkpoint(folder: Path, step: int) -> Watch:
    """Watch a stage at a checkpoint, as the trainer calls it: a line in `watch.jsonl`, and on an
    alarm a warning, once.

    folder: where the stage writes; step: how many it has made.
    """
    watch = watch_running(folder)
    rang = any(line["alarm"] for line in journal_lines(folder / JOURNAL))
    append_line(folder / JOURNAL, {"step": step, "alarm": watch.alarm, "note": watch.note})
    if watch.alarm and not rang:
        warnings.warn(f"step {step}: {watch.note}", RewardAlarm, stacklevel=2)
    return watch


class RewardAlarm(UserWarning):
    """The reward rises and nothing independent of it does."""


def _unfinished(folder: Path) -> bool:
    return not (folder / MANIFEST).is_file()


def _alone(folder: Path, ask_judge: AskJudge | None) -> Watch:
    artefact = open_artefact(folder, "policy")
    verdicts = [beside for beside in finished(folder.parent) if beside.kind == "verdicts"]
    return watch_stage(artefact.name, artefact, verdicts, ask_judge)


def watch_running(folder: Path, ask_judge: AskJudge | None = None) -> Watch:
    """Watch a stage that is still training; its questions' records are in the corpus beside it."""
    lines = read_lines(folder / METRICS)
    corpora = [beside for beside in finished(folder.parent) if beside.kind == "corpus"]
    records = {key: record for corpus in corpora for key, record in _records(corpus).items()}
    signals = (*_logged(lines), *_sampled(folder / SAMPLES, records, ask_judge))
    return Watch(folder.name, len({line["step"] for line in lines}), signals)


def print_watch(watches: Sequence[Watch], console: Console) -> None:
    """Print each stage's sentence, an alarm in red, and its figures."""
    for watch in watches:
        console.print(Text(shown(watch.note), "bold red" if watch.alarm else ""))
        for signal in watch.signals:
            told = f"  {signal.role:12} {signal.name:28} {signal.first:9.4g} {signal.last:9.4g}"
            console.print(Text(f"{told}  {signal.course}", "dim"))


def watch_json(watches: Sequence[Watch]) -> str:
    """Return the watches as JSON."""
    told = [
        {
            **asdict(watch),
            "signals": [{**asdict(s), "course": s.course} for s in watch.signals],
            "alarm": watch.alarm,
            "note": watch.note,
        }
        for watch in watches
    ]
    return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _logs_reward(folder: Path) -> bool:
    file = folder / METRICS
    if not file.is_file():
        return False
    with file.open(encoding="utf-8") as opened:
        line = opened.readline()
        return '"reward"' in line or '"unscored_groups"' in line


def _logged(lines: Sequence[Mapping[str, Any]]) -> list[Signal]:
    """Reward, length and answers cut off, as the stage logged them."""
    named: tuple[tuple[str, str, Role], ...] = (
        ("reward", "reward", "reward"),
        ("length", "tokens an answer", "length"),
        ("truncated", "share cut off", "sign"),
    )
    found = []
    for key, name, role in named:
        values = [
            float(line[key])
            for line in lines
            if isinstance(line.get(key), int | float) and math.isfinite(line[key])
        ]
        if values:
            found.append(_over_thirds(name, role, values))
    return found


def _sampled(file: Path, records: Mapping[str, Record], ask_judge: AskJudge | None) -> list[Signal]:
    """Loops, likeness to the references where there are any, and the judge's scores where one is
    asked, of the sampled answers."""
    if not file.is_file():
        return []
    steps: dict[float, dict[str, Any]] = {}
    for line in read_lines(file):
        steps[line["step"]] = line  # of a step that was sampled twice the later counts
    ordered = [steps[step] for step in sorted(steps)]
    chosen = _spread(ordered, 3 * MOST_LINES)
    references = {key: record.answer for key, record in records.items() if record.answer}
    loops, likeness = [], []
    for line in chosen:
        answers = [(g["record"], a["text"]) for g in line.get("groups", ()) for a in g["answers"]]
        loops += [mean(loop_ratio(text) for _, text in answers)] if answers else []
        alike = [_likeness(text, references[r]) for r, text in answers if r in references]
        likeness += [mean(alike)] if alike else []
    found = [_over_thirds("share in loops", "sign", loops)] if loops else []
    if likeness:
        found.append(_over_thirds("likeness to the references", "independent", likeness))
    if ask_judge is not None:
        found += _judged(ordered, records, ask_judge)
    return found


def _judged(
    lines: Sequence[dict[str, Any]], records: Mapping[str, Record], ask_judge: AskJudge
) -> list[Signal]:
    """The judge's means of some steps of the first third against those of the last."""
    size = len(lines) // 3
    chosen = [_spread(part, MOST_JUDGED) for part in (lines[:size], lines[len(lines) - size :])]
    answers = [
        (side, place, _sample(g["question"], a, records.get(g["record"])))
        for side, part in enumerate(chosen)
        for place, line in enumerate(part)
        for g in line.get("groups", ())
        for a in g["answers"]
    ]
    if not answers:
        return []
    means: tuple[dict[int, list[float]], ...] = ({}, {})
    scores = ask_judge([answer for *_, answer in answers])
    for (side, place, _), score in zip(answers, scores, strict=True):
        if math.isfinite(score):
            means[side].setdefault(place, []).append(score)
    first, last = ([mean(found) for found in part.values()] for part in means)
    return [_compared("judge, %", "independent", first, last)] if first and last else []


def _sample(question: str, answer: Mapping[str, Any], record: Record | None) -> Sampled:
    reference = (record.answer or "") if record is not None else ""
    language = record.language if record is not None else ""
    return Sampled(question, answer["text"], answer["finish"], reference, language)


def _spread(lines: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    if len(lines) <= most:
        return list(lines)
    return [lines[round(place * (len(lines) - 1) / (most - 1))] for place in range(most)]


def _likeness(answer: str, reference: str) -> float:
    """F1 of the content units that answer and reference share."""
    ours, theirs = set(content_units(answer)), set(_reference_units(reference))
    return 2 * len(ours & theirs) / (len(ours) + len(theirs)) if ours and theirs else 0.0


@cache
def _reference_units(reference: str) -> tuple[str, ...]:
    return tuple(content_units(reference))


def _trained(artefact: Artefact) -> dict[str, Record]:
    """The records that were trained on; none where the corpus is gone."""
    try:
        return _records(open_artefact(artefact.input_path("corpus"), "corpus"))
    except DrenpaError:
        return {}


def _records(corpus: Artefact) -> dict[str, Record]:
    return {record.id: record for record in corpus.rows("records", Record)}


def _benchmarked(artefact: Artefact, verdicts: Sequence[Artefact]) -> Signal | None:
    """A judge's mean of the stage's policy against that of the policy it started from."""
    after = _by_judge(verdicts, artefact.digest)
    before = _by_judge(verdicts, artefact.inputs.get("start", {}).get("digest", ""))
    both = [judge for judge in after if judge in before]
    if not both:
        return None
    ours, theirs = (composite(rows[both[-1]], plain) for rows in (after, before))
    found = paired_difference(ours, theirs)
    known = math.isfinite(found.low)
    if not math.isfinite(found.points):
        return None
    start = interval(theirs, resamples=1).percent
    return Signal(
        "benchmark, %",
        "independent",
        start,
        start + found.points,
        found.low if known else None,
        found.high if known else None,
    )


def _by_judge(verdicts: Sequence[Artefact], digest: str) -> dict[str, list[Verdict]]:
    """What each judge but the critic said of a policy's own answers, the newest judge last.

    A column that one judge judged twice counts as it was judged last. What was answered with the
    memory says nothing of the policy.
    """
    columns: dict[tuple[str, str, int, str], list[Verdict]] = {}
    for artefact in sorted(verdicts, key=lambda one: one.created):
        policy = artefact.inputs.get("policy", {}).get("digest")
        if not digest or policy != digest or "recall" in artefact.config:
            continue
        newer: dict[tuple[str, str, int, str], list[Verdict]] = {}
        for row in artefact.rows("verdicts", Verdict):
            if not row.judge.startswith(CRITIC):
                newer.setdefault((row.judge, row.strategy, row.seed, row.model), []).append(row)
        columns = {key: rows for key, rows in columns.items() if key not in newer} | newer
    judges: dict[str, list[Verdict]] = {}
    for (judge, *_), rows in columns.items():
        judges[judge] = [*judges.pop(judge, []), *rows]
    return judges


def _over_thirds(name: str, role: Role, values: Sequence[float]) -> Signal:
    """The means of the first and last third; few values have no course."""
    size = max(1, len(values) // 3)
    first, last = values[:size], values[-size:]
    if len(values) < LEAST_STEPS:
        return Signal(name, role, mean(first), mean(last), None, None)
    return _compared(name, role, first, last)


def _compared(name: str, role: Role, first: Sequence[float], last: Sequence[float]) -> Signal:
    """Two means, and Welch's interval of their difference."""
    low = high = None
    if min(len(first), len(last)) > 1:
        parts = [variance(part) / len(part) for part in (first, last)]
        error = math.sqrt(sum(parts))
        reach = 0.0
        if error:
            lengths = (len(first), len(last))
            below = sum(v**2 / (n - 1) for v, n in zip(parts, lengths, strict=True))
            reach = -float(stdtrit(sum(parts) ** 2 / below, 0.025)) * error
        low, high = mean(last) - mean(first) - reach, mean(last) - mean(first) + reach
    return Signal(name, role, mean(first), mean(last), low, high)


def _told(signal: Signal) -> str:
    verbs = {"up": "rose", "down": "fell", "level": "did not move", "unknown": "cannot be told"}
    return f"{signal.name} {verbs[signal.course]} ({signal.first:.3g} to {signal.last:.3g})"
