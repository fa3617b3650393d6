"""What the data are made of: how many questions and records of each kind, in which languages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from drenpa.core.artefacts import Artefact, open_artefact
from drenpa.core.errors import DrenpaError
from drenpa.core.knowledge import KINDS, Kind
from drenpa.core.records import Record, Verdict
from drenpa.report.charts import ACCENT, KIND_COLOURS, QUIET

CountRows = list[tuple[str, list[tuple[str, int, str]]]]
"""Kind → (language, how many, colour) …, as `count_chart` draws it."""


def question_counts(verdicts: Sequence[Verdict]) -> CountRows:
    """Count the distinct questions that were asked."""
    return _counted({(row.kind, row.item): row.language for row in verdicts}.items())


def corpora_of(verdicts: Sequence[Artefact]) -> list[Artefact]:
    """Return the corpora that benchmarks stand on, each once; without those that are gone."""
    found: dict[str, Artefact] = {}
    for artefact in verdicts:
        try:
            corpus = open_artefact(artefact.input_path("corpus"), "corpus")
        except DrenpaError:
            continue
        found[corpus.digest] = corpus
    return list(found.values())


def record_counts(corpora: Sequence[Artefact]) -> CountRows:
    """Count the records that the first corpus teaches."""
    taught = [r for corpus in corpora[:1] for r in corpus.rows("records", Record)]
    return _counted(((r.kind, r.id), r.language) for r in taught if r.split == "train")


def _counted(rows: Iterable[tuple[tuple[Kind, str], str]]) -> CountRows:
    counts: Counter[tuple[Kind, str]] = Counter((kind, language) for (kind, _), language in rows)
    languages = sorted({language for _, language in counts})
    palette = [KIND_COLOURS["metacognition"], KIND_COLOURS["profession"], ACCENT, QUIET]
    colours = {name: palette[min(place, 3)] for place, name in enumerate(languages)}
    return [
        (kind, [(name, counts[kind, name], colours[name]) for name in languages])
        for kind in KINDS
        if any(owner == kind for owner, _ in counts)
    ]
