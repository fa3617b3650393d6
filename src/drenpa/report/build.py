"""The report stage: verdicts and what training logged become tables, figures and one page."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from drenpa.config import ReportConfig
from drenpa.core.artefacts import Artefact, Plan, as_input, file_input, run_plan, write_text
from drenpa.core.errors import ArtefactError
from drenpa.core.fonts import font_warnings
from drenpa.core.records import Verdict, Vote
from drenpa.report.browser import BROWSER, browser_html
from drenpa.report.curves import read_accuracy, read_training
from drenpa.report.examples import EXAMPLES_FILE, choose_examples, examples_text
from drenpa.report.formats import to_csv, to_latex, to_markdown
from drenpa.report.gap import read_meters
from drenpa.report.notes import RunFacts, caution_notes, headline, run_facts
from drenpa.report.page import PageContent, figures, page_html
from drenpa.report.readings import (
    READINGS_FILE,
    Readings,
    make_readings,
    read_people,
    readings_text,
)
from drenpa.report.shape import corpora_of, question_counts, record_counts
from drenpa.report.table import make_table, table_files
from drenpa.report.terminal import print_summary
from drenpa.report.unscored import open_cells, reply_rates
from drenpa.report.watch import watch_json, watch_stages
from drenpa.report.wide import wide_csv, wide_latex, wide_markdown, wide_table

INDEX = "index.html"
VOTES = "votes"
"""The table of single opinions that a benchmark by several judges, or with repeats, leaves."""

__all__ = ["plan_report", "print_summary", "write_report"]


def plan_report(
    verdicts: Sequence[Artefact],
    training: Mapping[str, Artefact],
    config: ReportConfig,
    *,
    name: str,
    root: Path,
) -> Plan:
    """Plan the report of some benchmarks, in the order in which their strategies shall stand.

    verdicts: artefacts of kind verdicts, of any strategies, seeds and models.
    training: what to show under which heading: policies (their curves) and critics (their
              accuracies too).
    raises: ArtefactError when an artefact is of the wrong kind or there is no verdict.
    """
    for artefact in verdicts:
        if artefact.kind != "verdicts":
            raise ArtefactError(f"{artefact.path}: is a {artefact.kind}, not verdicts")
    for heading, artefact in training.items():
        if artefact.kind not in ("policy", "critic"):
            raise ArtefactError(
                f"{artefact.path}: is a {artefact.kind}; under '{heading}' a policy or a critic "
                "is needed"
            )
    if not verdicts:
        raise ArtefactError(f"{root / name}: there are no verdicts; run the benchmark first")
    inputs = {f"verdicts {place:03}": as_input(item) for place, item in enumerate(verdicts)}
    inputs |= {
        f"people {place:03}": _people_input(Path(item)) for place, item in enumerate(config.people)
    }
    inputs |= {
        f"training {place:03} {heading}": as_input(item)
        for place, (heading, item) in enumerate(training.items())
    }
    return Plan(
        kind="report",
        name=name,
        root=root,
        config=config.model_dump(mode="json"),
        inputs=inputs,
        rooms=("report",),
        work=partial(_write, verdicts, training, config),
    )


def write_report(
    verdicts: Sequence[Artefact],
    training: Mapping[str, Artefact],
    config: ReportConfig,
    *,
    name: str = "report",
    root: Path,
) -> Artefact:
    """Write the report, unless it is there already, and return it."""
    return run_plan(plan_report(verdicts, training, config, name=name, root=root))


def _write(
    verdicts: Sequence[Artefact],
    training: Mapping[str, Artefact],
    config: ReportConfig,
    folder: Path,
) -> dict[str, Any]:
    rows = [row for artefact in verdicts for row in artefact.rows("verdicts", Verdict)]
    people = read_people(map(Path, config.people))
    readings = make_readings(rows, people, _opinions(verdicts), resamples=config.resamples)
    table = make_table(rows, resamples=config.resamples)
    facts = run_facts(rows)
    title = config.title or _title(facts)
    trainings = [read_training(heading, item) for heading, item in training.items()]
    critics = {heading: read_accuracy(item) for heading, item in training.items()}
    examples = choose_examples(rows, config.examples)
    watches = watch_stages(training, verdicts)
    corpora = corpora_of(verdicts)
    cautions = [
        *(watch.note for watch in watches if watch.alarm),
        *_people_notes(readings),
        *caution_notes(table, facts, rows, _cards(verdicts)),
        *_warnings([*corpora, *verdicts, *training.values()]),
        *font_warnings(facts.languages),
    ]
    data = {
        title: counted
        for title, counted in (
            ("questions asked", question_counts(rows)),
            ("records taught", record_counts(corpora)),
        )
        if counted
    }
    wide = wide_table(table, with_paper=config.paper_columns)
    content = PageContent(
        title=title,
        table=table,
        facts=facts,
        cautions=cautions,
        trainings=[training for training in trainings if training.steps],
        critics={heading: found for heading, found in critics.items() if found},
        meters={heading: read_meters(item) for heading, item in training.items()},
        examples=examples,
        sources=[*verdicts, *training.values()],
        resamples=config.resamples,
        with_paper=config.paper_columns,
        readings=readings,
        watches=watches,
        data=data,
        replies=reply_rates(verdicts),
        open_cells=open_cells(verdicts),
        wide=wide if len(table.models) > 1 or config.paper_columns else None,
    )
    for file, text in {
        **table_files(table),
        "table.md": to_markdown(table, title),
        "table.csv": to_csv(table),
        "table.tex": to_latex(table, title),
        "table3.md": wide_markdown(wide, title),
        "table3.csv": wide_csv(wide),
        "table3.tex": wide_latex(wide, title),
        EXAMPLES_FILE: examples_text(examples),
        READINGS_FILE: readings_text(readings),
        "watch.json": watch_json(watches),
        BROWSER: browser_html(rows, title, key=_digest_of(verdicts)),
        INDEX: page_html(content),
        **{
            f"figures/{stem}.svg": str(chart)
            for stem, chart in figures(table, trainings, data).items()
        },
    }.items():
        write_text(folder / file, text)
    return {
        "title": title,
        "headline": {model: headline(table, model) for model in table.models},
        "strategies": list(facts.strategies),
        "models": list(facts.models),
        "seeds": list(facts.seeds),
        "judges": list(facts.judges),
        "questions": dict(facts.questions),
        "answers": facts.answers,
        "cautions": cautions,
        "alarms": [watch.note for watch in watches if watch.alarm],
    }


def _people_input(place: Path) -> dict[str, str]:
    if not place.exists():
        raise ArtefactError(
            f"report.people: {place} is not there; export it from a report's items.html"
        )
    return file_input(place)


def _digest_of(verdicts: Sequence[Artefact]) -> str:
    return hashlib.sha256("".join(v.digest for v in verdicts).encode()).hexdigest()[:16]


def _opinions(verdicts: Sequence[Artefact]) -> list[Vote]:
    """Single opinions under their judge's name; with one judge, under the repeat's."""
    votes = [
        vote
        for artefact in verdicts
        if (artefact.path / f"{VOTES}.parquet").is_file()
        for vote in artefact.rows(VOTES, Vote)
    ]
    if len({vote.judge for vote in votes}) > 1:
        return votes
    return [v.model_copy(update={"judge": f"{v.judge}, {v.repeat}"}) for v in votes]


def _people_notes(readings: Readings) -> list[str]:
    """What people's scores say against the judge, in a sentence."""
    people = readings.people
    if people is None:
        return [
            "No person scored any of these answers, so that how far the judge errs is not known; "
            "items.html takes scores, and report.people reads them."
        ]
    known = [row for row in people.agreement if row.kappa is not None]
    told = ", ".join(f"{row.dimension} {row.kappa:.2f}" for row in known)
    lost = f" {people.unknown} of their rows belong to no answer here." if people.unknown else ""
    return [f"Weighted kappa of judge and people on {people.answers} answers: {told}.{lost}"]


def _cards(verdicts: Sequence[Artefact]) -> dict[str, str]:
    """What each judge says of itself."""
    return {
        str(artefact.summary["judge"]): str(artefact.summary["judge_card"])
        for artefact in verdicts
        if "judge" in artefact.summary and "judge_card" in artefact.summary
    }


def _title(facts: RunFacts) -> str:
    strategies = list(dict.fromkeys((facts.strategies[0], facts.strategies[-1])))
    return f"{', '.join(facts.models)}: {' to '.join(strategies)}"


def _warnings(artefacts: Sequence[Artefact]) -> list[str]:
    """What the stages themselves warn about, each said once."""
    told = [
        f"{re.sub(r'-[0-9a-f]{10}$', '', artefact.path.name)}: {warning}"
        for artefact in artefacts
        for warning in artefact.summary.get("warnings", ())
    ]
    return list(dict.fromkeys(told))
