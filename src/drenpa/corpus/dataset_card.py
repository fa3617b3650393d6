"""The card of a released dataset: what it is, where it comes from, how it was made and divided,
how far it can be trusted, whom to ask; with the head that the hub reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from drenpa.core.artefacts import Artefact, counted
from drenpa.core.records import Ranking, Record
from drenpa.corpus.audit import ASPECTS, Agreement, Audit
from drenpa.corpus.facts import ReleaseFacts

_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_SHORT = {1_000: "1K", 10_000: "10K", 100_000: "100K", 1_000_000: "1M", 10_000_000: "10M"}


def dataset_card(
    corpus: Artefact,
    facts: ReleaseFacts,
    train: Sequence[Record],
    test: Sequence[Record],
    rankings: Sequence[Ranking],
    canary: str,
) -> str:
    """Write the card as Markdown."""
    parts = [
        f"# {facts.name}",
        facts.description,
        f"Version {facts.version}. Licence: {facts.license}."
        + (f" By {', '.join(facts.creators)}." if facts.creators else ""),
        "## What is in it",
        f"{len(train)} questions with answers to train on, {len(test)} questions to test with, "
        f"{len(rankings)} rankings of candidate answers with a note on each.",
        _table(
            ("kind", "train", "test"),
            _beside((row.kind for row in train), (row.kind for row in test)),
        ),
        _table(
            ("language", "train", "test"),
            _beside((row.language for row in train), (row.language for row in test)),
        ),
        "The test answers are withheld: the column is null, and `commitment` holds the HMAC-SHA256 "
        "of each under a key that its keepers can publish later, to show that no answer was "
        "changed. They score predictions on request and tell the overall figures only.",
        "Please keep this dataset out of training data other than what it is meant for. Filter for "
        f"`{canary}`; each test row has an identifier of its own in `canary`.",
        "## Where it comes from",
        _provenance(corpus),
        _table(
            ("source", "records", "licence"),
            [
                (source, count, facts.license_of("" if source == _UNNAMED else source))
                for source, count in counted(
                    row.source or _UNNAMED for row in (*train, *test)
                ).items()
            ],
        ),
        "## How it was made",
        "Texts were normalised without changing what they say; rows that were dropped, by reason:",
        _table(("reason", "rows"), corpus.summary["dropped"].items())
        if corpus.summary["dropped"]
        else "None.",
        *(["### The people", facts.people] if facts.people else []),
        "## How far the raters agreed",
        _agreement(facts.agreement),
        "## How it was divided",
        _split_method(corpus),
        "What test and train still share:",
        _leakage(corpus.summary["leakage"]),
        "## Known biases and limits",
        facts.limits,
        "## Contact and takedown",
        f"Whoever finds their text here against their will writes to {facts.contact}; it is taken "
        "out of the next version.",
        *(["## How to cite", f"```\n{facts.citation.strip()}\n```"] if facts.citation else []),
        "## Is it unchanged?",
        "`sha256sum -c SHA256SUMS` in this folder tells.",
    ]
    head = yaml.safe_dump(_head(facts, train, test, rankings), sort_keys=False, allow_unicode=True)
    return f"---\n{head.strip()}\n---\n\n" + "\n\n".join(parts) + "\n"


_UNNAMED = "unnamed"


def _head(
    facts: ReleaseFacts,
    train: Sequence[Record],
    test: Sequence[Record],
    rankings: Sequence[Ranking],
) -> dict[str, Any]:
    configs: list[dict[str, Any]] = [
        {
            "config_name": "default",
            "data_files": [
                {"split": split, "path": f"data/{split}.parquet"} for split in ("train", "test")
            ],
        }
    ]
    splits = sorted({ranking.split for ranking in rankings}, reverse=True)
    if splits:
        files = [{"split": split, "path": f"rankings/{split}.parquet"} for split in splits]
        configs.append({"config_name": "rankings", "data_files": files})
    return {
        "license": facts.license,
        "language": sorted({record.language for record in (*train, *test)}),
        "pretty_name": facts.name,
        "task_categories": ["question-answering"],
        "size_categories": [_size(len(train) + len(test))],
        "configs": configs,
    }


def _size(rows: int) -> str:
    """The hub's name for a number of rows.

    >>> _size(364), _size(20_000)
    ('n<1K', '10K<n<100K')
    """
    if rows < _SIZES[0]:
        return "n<1K"
    below = max(size for size in _SIZES if size <= rows)
    above = next((size for size in _SIZES if size > rows), None)
    return f"{_SHORT[below]}<n<{_SHORT[above]}" if above else f"n>{_SHORT[below]}"


def _beside(train: Iterable[str], test: Iterable[str]) -> list[tuple[str, int, int]]:
    ours, theirs = counted(train), counted(test)
    return [
        (name, ours.get(name, 0), theirs.get(name, 0)) for name in dict.fromkeys((*ours, *theirs))
    ]


def _provenance(corpus: Artefact) -> str:
    files = [
        (role.partition(".")[0], Path(entry["path"]).name, entry["digest"][:16])
        for role, entry in corpus.inputs.items()
    ]
    return "\n\n".join(
        [
            f"Made with drenpa {corpus.version} (code {corpus.code}) on {corpus.created[:10]} from "
            f"these files, as corpus {corpus.digest[:16]} with seed {corpus.config['seed']}:",
            _table(("role", "file", "sha256 begins"), files),
        ]
    )


def _split_method(corpus: Artefact) -> str:
    if corpus.config["files"]["benchmark"]:
        return (
            "The test items were given. What nearly repeats their questions or answers, or quotes "
            "an answer, was taken out of train."
        )
    return (
        "Records hang together when they come from one source, are near-duplicates (Jaccard index "
        "of five-character pieces 0.8 or more), share a run of eight words, syllables or Chinese "
        "characters, or quote each other's answer. Such groups went to train or test as a whole, "
        f"{corpus.config['test']:.0%} to test, stratified by kind and language, with seed "
        f"{corpus.config['seed']}."
    )


def _leakage(found: Mapping[str, Any]) -> str:
    rows = [
        ("a question or answer that nearly stands in train", found["near"]),
        ("else an answer that stands word for word in a train text", found["quoted"]),
        ("else a run of eight units", found["run"]),
        ("together", found["leaking"]),
        ("apart from these, a run that stands in more than ten records", found["formula_only"]),
        ("a source that has records in train", found["same_source"]),
    ]
    return _table((f"of {found['benchmark_items']} test items", "items"), rows)


def _agreement(audit: Audit | None) -> str:
    if audit is None:
        return "Not measured, or not told."
    rows: list[tuple[str, str, str, str]] = [
        (
            aspect,
            _figure(audit.aspects[aspect].exact),
            _figure(audit.aspects[aspect].alpha),
            _figure(audit.aspects[aspect].ac2),
        )
        for aspect in ASPECTS
        if aspect in audit.aspects
    ]
    rows.append(
        ("kind", _figure(audit.kind_exact), _figure(audit.kind_alpha), _figure(audit.kind_ac1))
    )
    return "\n\n".join(
        [
            f"{audit.ratings} ratings of {audit.records} records, each aspect from 0 to 2. On "
            "short and skewed scales chance corrections differ widely, so both are told; intervals "
            "are 95 %, from drawing records again. For the kind, α is nominal and the last column "
            "AC1.",
            _table(("aspect", "exact", "Krippendorff's α (ordinal)", "Gwet's AC2"), rows),
        ]
    )


def _figure(found: Agreement) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any]) -> str:
        shown = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(shown)} |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)])
