"""Score predictions against the withheld answers of a release, and tell aggregates only.

Whoever may ask often enough can turn any scorer into an answer sheet: change one prediction, see
whether the figure moves. So the keeper's scorer

- needs a prediction for every item, so that no subset can be asked about;
- tells nothing about fewer than 20 items, and no figure that rests on fewer than 10 items above
  zero;
- refuses predictions that differ from earlier ones, anybody's, in fewer than 10 items;
- takes three submissions a day from each submitter, and tells the same file the same again;
- rounds to a hundredth;
- writes every submission and every refusal into a log, with fingerprints of the predictions under
  the release's key.

It slows probing down and leaves a trail; it does not make it impossible. A keeper reads the log.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drenpa.core.artefacts import append_line, journal_lines
from drenpa.core.errors import DataError, did_you_mean
from drenpa.core.records import Identifier, Row
from drenpa.core.text import units
from drenpa.corpus.formats import Faults
from drenpa.corpus.intake import check_ids, read_rows
from drenpa.corpus.withheld import HiddenAnswer, PrivateAnswers, find_canaries, read_private

MEASURES = ("exact", "f1", "chrf")


class Prediction(Row):
    """What a model answers to one test item; it may be empty."""

    id: Identifier
    answer: str


@dataclass(frozen=True)
class Guard:
    """How the withheld answers are protected.

    least:   items that a figure must rest on.
    changed: items in which predictions must differ from all earlier ones, or not at all; and items
             above zero that a figure must rest on.
    per_day: submissions that one submitter may make within 24 hours.
    digits:  decimals of a figure.
    """

    least: int = 20
    changed: int = 10
    per_day: int = 3
    digits: int = 2


@dataclass(frozen=True)
class HiddenScore:
    """Figures from 0 to 1 over all items and by kind.

    A figure is None where it would rest on too few items to be told.
    contaminated: whether a prediction holds the private canary, so its model has seen the answers.
    exact: share of predictions that are the answer but for case, punctuation and spelling variants.
    f1:    mean overlap of units (words, Chinese characters, Tibetan syllables).
    chrf:  mean overlap of character n-grams (chrF).
    """

    release: str
    items: int
    whole: Mapping[str, float | None]
    kinds: Mapping[str, Mapping[str, float | None]]
    contaminated: bool


def score_hidden(
    predictions: Path,
    answers: Path,
    *,
    submitter: str,
    log: Path | None = None,
    guard: Guard | None = None,
    now: datetime.datetime | None = None,
) -> HiddenScore:
    """Score a file of predictions, one for every test item, unless that would give answers away.

    predictions: `id` and `answer`, in any format that rows are read from.
    answers:     the private file of the release.
    log:         where submissions are written; beside the answers by default.
    raises:      DataError when a prediction is missing or of no item, or the guard refuses.
    """
    guard = guard or Guard()
    private = read_private(answers)
    given = _read_predictions(Path(predictions), private)
    if len(private.answers) < guard.least:
        raise DataError(
            f"{answers}: {len(private.answers)} answers; figures over fewer than {guard.least} "
            "would give single answers away"
        )
    now = now or datetime.datetime.now(datetime.UTC)
    log = log or Path(answers).with_suffix(".log.jsonl")
    fingerprints = {
        name: _fingerprint(private.key, name, text) for name, text in sorted(given.items())
    }
    entry = {
        "time": now.isoformat(timespec="seconds"),
        "submitter": submitter,
        "fingerprints": fingerprints,
    }
    with _locked(log):
        earlier = [line for line in journal_lines(log) if "fingerprints" in line]
        for line in earlier:
            if line["fingerprints"] == fingerprints and "score" in line:
                return HiddenScore(**line["score"])
        refusal = _refusal(fingerprints, submitter, earlier, guard, now)
        if refusal:
            append_line(log, {**entry, "refused": refusal})
            raise DataError(f"{predictions}: {refusal}")
        score = _score(given, private, guard)
        append_line(log, {**entry, "score": vars(score)})
    return score


def shown(score: HiddenScore) -> list[str]:
    """Return a score as lines to print."""
    lines = [f"{score.release}: {score.items} hidden answers"]
    for name, figures in (("all", score.whole), *score.kinds.items()):
        cells = [
            f"{measure} {'too few' if value is None else f'{value:.2f}'}"
            for measure, value in figures.items()
        ]
        lines.append(f"  {name:14} {'  '.join(cells)}")
    if score.contaminated:
        lines.append("a prediction holds the private canary: its model has seen the answers")
    return lines


def unit_f1(prediction: str, answer: str) -> float:
    """Return the harmonic mean of the shares of units that prediction and answer have in common.

    >>> unit_f1("The yak!", "the old yak")
    0.8
    """
    ours, theirs = Counter(units(prediction)), Counter(units(answer))
    shared = (ours & theirs).total()
    return 2 * shared / (ours.total() + theirs.total()) if shared else 0.0


def _read_predictions(path: Path, private: PrivateAnswers) -> dict[str, str]:
    faults = Faults()
    rows = read_rows(path, Prediction, faults)
    check_ids(rows, faults)
    known = {answer.id for answer in private.answers}
    for entry in rows:
        if entry.row.id not in known:
            hint = did_you_mean(entry.row.id, known)
            faults.add(entry.place, f"field 'id': '{entry.row.id}' is no test item{hint}")
    given = {entry.row.id: entry.row.answer for entry in rows}
    missing = sorted(known - given.keys())
    if missing and not faults.lines:
        faults.add(
            str(path),
            f"{len(missing)} of {len(known)} test items have no prediction, for example "
            f"'{missing[0]}'; predict all of them, with an empty answer where there is none",
        )
    faults.check()
    return given


def _fingerprint(key: bytes, name: str, text: str) -> str:
    message = f"prediction:{len(name)}:{name}{' '.join(units(text))}".encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:16]


def _refusal(
    fingerprints: Mapping[str, str],
    submitter: str,
    earlier: Sequence[Mapping[str, Any]],
    guard: Guard,
    now: datetime.datetime,
) -> str:
    """Say why this submission would tell too much; an empty string accepts it."""
    scored = [line for line in earlier if "score" in line]
    since = now - datetime.timedelta(days=1)
    today = [
        line
        for line in scored
        if line["submitter"] == submitter and datetime.datetime.fromisoformat(line["time"]) > since
    ]
    if len(today) >= guard.per_day:
        return f"{submitter} has submitted {len(today)} times within a day; come back tomorrow"
    for line in scored:
        changed = sum(line["fingerprints"].get(name) != own for name, own in fingerprints.items())
        if changed < guard.changed:
            return (
                f"differs from an earlier submission in fewer than {guard.changed} items, whose "
                "answers the difference would tell"
            )
    return ""


def _score(given: Mapping[str, str], private: PrivateAnswers, guard: Guard) -> HiddenScore:
    figures = {answer.id: _figures(given[answer.id], answer.answer) for answer in private.answers}
    by_kind: dict[str, list[HiddenAnswer]] = {}
    for answer in private.answers:
        by_kind.setdefault(answer.kind, []).append(answer)

    def told(items: Sequence[HiddenAnswer]) -> dict[str, float | None]:
        columns = zip(*(figures[item.id] for item in items), strict=True)
        return {
            name: round(sum(column) / len(column), guard.digits)
            if sum(value > 0 for value in column) >= guard.changed
            else None
            for name, column in zip(MEASURES, columns, strict=True)
        }

    return HiddenScore(
        release=private.release,
        items=len(figures),
        whole=told(private.answers),
        kinds={kind: told(by_kind[kind]) for kind in tellable(by_kind, guard.least)},
        contaminated=any(
            sighting.depth == "private"
            for text in given.values()
            for sighting in find_canaries(text, private)
        ),
    )


def tellable(groups: Mapping[str, Sequence[object]], least: int) -> list[str]:
    """Return the groups that may be told beside the whole: neither they nor what is left when they
    are taken off has fewer than `least` members, unless nothing is left.

    >>> tellable({"a": range(50), "b": range(30), "c": range(5)}, 20)
    ['a']
    """
    by_size = sorted(groups, key=lambda name: (len(groups[name]), name))
    kept = [name for name in by_size if len(groups[name]) >= least]
    rest = sum(len(groups[name]) for name in by_size if name not in kept)
    while kept and 0 < rest < least:
        rest += len(groups[kept.pop(0)])
    return sorted(kept)


def _figures(prediction: str, answer: str) -> tuple[float, float, float]:
    """The measures of one prediction, in the order of `MEASURES`."""
    from sacrebleu.metrics.chrf import CHRF

    exact = float(units(prediction) == units(answer))
    chrf = CHRF().sentence_score(prediction, [answer]).score / 100
    return exact, unit_f1(prediction, answer), chrf


@contextmanager
def _locked(log: Path) -> Iterator[None]:
    """Let one submission at a time look at the log and write to it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch(mode=0o600)
    with log.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
