"""The report stage: verdicts and what training logged become tables, figures and one page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from drenpa.config import ReportConfig
from drenpa.core.artefacts import Artefact, Plan, as_input, run_plan, write_text
from drenpa.core.errors import ArtefactError
from drenpa.core.records import Verdict
from drenpa.report.curves import read_accuracy, read_training
from drenpa.report.examples import EXAMPLES_FILE, choose_examples, examples_text
from drenpa.report.formats import to_csv, to_latex, to_markdown
from drenpa.report.notes import RunFacts, caution_notes, headline, run_facts
from drenpa.report.page import PageContent, figures, page_html
from drenpa.report.table import make_table, table_files
from drenpa.report.terminal import print_summary

INDEX = "index.html"

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
    table = make_table(rows, resamples=config.resamples)
    facts = run_facts(rows)
    title = config.title or _title(facts)
    trainings = [read_training(heading, item) for heading, item in training.items()]
    critics = {heading: read_accuracy(item) for heading, item in training.items()}
    examples = choose_examples(rows, config.examples)
    cautions = [
        *caution_notes(table, facts, rows, _cards(verdicts)),
        *_warnings([*verdicts, *training.values()]),
    ]
    content = PageContent(
        title=title,
        table=table,
        facts=facts,
        cautions=cautions,
        trainings=[training for training in trainings if training.steps],
        critics={heading: found for heading, found in critics.items() if found},
        examples=examples,
        sources=[*verdicts, *training.values()],
        resamples=config.resamples,
        with_paper=config.paper_columns,
    )
    for file, text in {
        **table_files(table),
        "table.md": to_markdown(table, title),
        "table.csv": to_csv(table),
        "table.tex": to_latex(table, title),
        EXAMPLES_FILE: examples_text(examples),
        INDEX: page_html(content),
        **{f"figures/{stem}.svg": str(chart) for stem, chart in figures(table, trainings).items()},
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
    }


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
