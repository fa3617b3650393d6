"""The audit of a store as values and as Markdown: agreement, annotators, doubt, lengths."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from drenpa.core.knowledge import Kind
from drenpa.corpus.annotate import Store
from drenpa.corpus.annotators import AnnotatorReport, likely_kinds, report_annotators
from drenpa.corpus.audit import Agreement, Audit, audit
from drenpa.corpus.lengths import Lengths

DOUBT = 0.9  # below this a kind is doubtful, by Dawid and Skene


@dataclass(frozen=True)
class DoubtfulKind:
    """A record whose kind the raters leave in doubt, or have against its own.

    given:       the kind that it has.
    likely:      the kind that is likeliest, and how likely.
    """

    item: str
    given: Kind | None
    likely: Kind
    probability: float


@dataclass(frozen=True)
class StoreAudit:
    """The audit of a store; `lengths` is empty when no tokenizer was chosen."""

    audit: Audit
    annotators: tuple[AnnotatorReport, ...]
    doubtful: tuple[DoubtfulKind, ...]
    lengths: Mapping[str, Lengths]
    limit: int

    def to_json(self) -> str:
        """Return everything as JSON; what is undefined is null."""
        return json.dumps(_without_nan(asdict(self)), ensure_ascii=False, indent=2)

    def to_markdown(self) -> str:
        """Return everything as tables."""
        parts = [_agreement(self.audit), _people(self.annotators)]
        if self.doubtful:
            parts.append(_doubt(self.doubtful))
        if self.lengths:
            parts.append(_token_lengths(self.lengths, self.limit))
        return "\n".join(parts)


def audit_store(
    store: Store,
    *,
    lengths: Mapping[str, Lengths] | None = None,
    limit: int = 1024,
    resamples: int = 1000,
    seed: int = 1,
) -> StoreAudit:
    """Audit what was rated to the end; control items count for the annotators only."""
    items = store.items()
    rated = [i for i in items if i.ratings and not i.gold and i.phase != "audit"]
    kinds = {item.id: item.kind for item in rated}
    doubtful = []
    for name, likely in likely_kinds(rated).items():
        best = max(likely, key=lambda kind: likely[kind])
        if likely[best] < DOUBT or best != kinds[name]:
            doubtful.append(DoubtfulKind(name, kinds[name], best, likely[best]))
    return StoreAudit(
        audit=audit([item.ratings for item in rated], resamples=resamples, seed=seed),
        annotators=tuple(report_annotators(store, seed=seed)),
        doubtful=tuple(doubtful),
        lengths=lengths or {},
        limit=limit,
    )


def _agreement(found: Audit) -> str:
    rows = [
        [
            aspect,
            *(str(figures.histogram[score]) for score in sorted(figures.histogram)),
            *map(_with_interval, (figures.exact, figures.alpha, figures.ac1, figures.ac2)),
        ]
        for aspect, figures in found.aspects.items()
    ]
    kind = map(_with_interval, (found.kind_exact, found.kind_alpha, found.kind_ac1))
    rows.append(["kind", "", "", "", *kind, ""])
    head = ["", "0", "1", "2", "exact", "α", "AC1", "AC2"]
    return (
        f"## Agreement\n\n{found.records} records with {found.ratings} ratings; 95 % intervals "
        f"over records drawn again. α is ordinal, for kinds nominal.\n\n{_table(head, rows)}"
    )


def _people(reports: Sequence[AnnotatorReport]) -> str:
    head = ["", "steps", "s a step", "control", "kind", "agrees", "error"]
    head += ["rated", "same", "severity", "drift", "accuracy"]
    rows = [
        [
            report.person,
            str(sum(report.steps.values())),
            _figure(report.seconds, "{:.0f}"),
            str(report.gold),
            _figure(report.gold_kind),
            _figure(report.gold_agrees),
            _figure(report.gold_error),
            str(report.rated),
            _figure(report.agreement),
            _figure(report.severity, "{:+.2f}"),
            _with_interval(report.drift, "{:+.2f}"),
            _figure(report.accuracy),
        ]
        for report in reports
    ]
    return (
        "## Annotators\n\nOf control items: share of kinds and of agreement found, mean error of "
        "scores. Of records: share of scores equal to others', mean difference to theirs and its "
        f"change, accuracy of kinds by Dawid and Skene.\n\n{_table(head, rows)}"
    )


def _doubt(doubtful: Sequence[DoubtfulKind]) -> str:
    rows = [[d.item, d.given or "", d.likely, f"{d.probability:.2f}"] for d in doubtful]
    return f"## Kinds in doubt\n\n{_table(['', 'given', 'likely', 'probability'], rows)}"


def _token_lengths(lengths: Mapping[str, Lengths], limit: int) -> str:
    rows = [
        [
            group,
            str(found.records),
            f"{found.median:.0f}",
            str(found.p95),
            str(found.longest),
            f"{found.over} ({found.over / found.records:.0%})",
            f"{found.lost:.1%}",
        ]
        for group, found in lengths.items()
    ]
    head = ["", "records", "median", "95 %", "longest", f"over {limit}", "tokens beyond"]
    return f"## Tokens of a training row\n\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def _with_interval(figure: Agreement, form: str = "{:.2f}") -> str:
    if math.isnan(figure.value):
        return "–"
    return f"{form} [{form}, {form}]".format(figure.value, figure.low, figure.high)


def _figure(value: float, form: str = "{:.2f}") -> str:
    return "–" if math.isnan(value) else form.format(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
