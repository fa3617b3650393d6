"""Make a corpus artefact from files of records, rankings and benchmark items.

A user's files and the starter corpus take the same way: read and check everything, clean, drop what
is of another language or stands twice, keep the benchmark apart from training, and set ranked
questions aside on which the critic is measured. Every row that is dropped is written down with its
reason, and what training and benchmark still share is reported.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar, get_args

from drenpa.config import CorpusConfig
from drenpa.core.artefacts import (
    Artefact,
    Plan,
    as_input,
    counted,
    file_input,
    run_plan,
    write_rows,
    write_text,
)
from drenpa.core.errors import DataError
from drenpa.core.knowledge import KINDS
from drenpa.core.languages import LANGUAGES
from drenpa.core.records import Candidate, Ranking, Record
from drenpa.core.text import script_ratio
from drenpa.corpus.clean import clean_text
from drenpa.corpus.deduplicate import best_matches, similar_groups, similarity
from drenpa.corpus.formats import Faults
from drenpa.corpus.former import Former, read_former
from drenpa.corpus.intake import (
    Role,
    check_ids,
    check_rankings,
    located_rankings,
    located_records,
    source_files,
)
from drenpa.corpus.leakage import NEAR, Leakage, Quoted, Way, audit_leakage
from drenpa.corpus.personal import CERTAIN, PersonalData, scrub_personal
from drenpa.corpus.split import chosen_groups, tied_groups, ties

RowType = TypeVar("RowType", Record, Ranking)
PartType = TypeVar("PartType", Record, Ranking, Candidate)

MIN_SCRIPT = 0.5  # share of letters in the language's script, of question and answer together
SHOWN_LEAKS = 20


@dataclass
class _Corpus:
    """A corpus in the making, what was taken out of it so far, and what was found to hang
    together."""

    records: list[Record]
    rankings: list[Ranking]
    benchmark: list[Record]
    dropped: list[dict[str, str]] = field(default_factory=list)
    clusters: list[dict[str, Any]] = field(default_factory=list)
    components: list[dict[str, Any]] = field(default_factory=list)

    def drop(self, role: Role, name: str, reason: str, detail: str = "") -> None:
        self.dropped.append({"from": role, "id": name, "reason": reason, "detail": detail})


def plan_curate(
    config: CorpusConfig,
    *,
    root: Path,
    seed: int,
    past: Sequence[Artefact] = (),
    lost: Sequence[str] = (),
) -> Plan:
    """Plan the corpus artefact of a recipe.

    past: the corpora on which the recipe's model was trained in former rounds, the last one first.
          What they taught is kept out of the test part that is drawn, and is looked through with
          the training records for what the benchmark holds.
    lost: what could not be found of them, a line each, for the warnings.

    Its files: `records.parquet` (Record, split train), `rankings.parquet` (Ranking, split train or
    held_out), `benchmark.parquet` (Record, split test, answers kept); to look at: `dropped.jsonl`,
    `clusters.jsonl` (near-duplicates), `components.jsonl` (what hung together when a test part was
    taken out), `leakage.jsonl` (what test and training still share).

    raises: DataError when a file that the config names does not exist; the work raises it with
            every fault in the files, when nothing is left to train or test on, and when more than
            `max_leakage` of the benchmark items stand in training in some way.
    """
    files: dict[Role, list[Path]] = {
        "records": source_files(config.records, "records"),
        "rankings": source_files(config.rankings, "rankings"),
        "benchmark": source_files(config.benchmark, "benchmark"),
    }

    def work(folder: Path) -> dict[str, Any]:
        former = read_former(past)
        corpus = _read(files)
        cleaned = _clean(corpus)
        personal = _treat_personal(corpus, config.personal)
        cautions = _keep_languages(corpus, config.languages)
        _drop_duplicates(corpus)
        if files["benchmark"]:
            _keep_benchmark_apart(corpus)
        else:
            _take_test_by_source(corpus, config.test, seed, former)
        _clear_candidates(corpus)
        cautions += [*_hold_out(corpus, config.held_out, seed), *lost]
        _check_something_is_left(corpus)
        learned, ranked = former.beside(corpus.records)
        leakage = audit_leakage(
            corpus.benchmark, [*corpus.records, *learned], [*corpus.rankings, *ranked]
        )
        _write(folder, corpus, leakage)
        _refuse_leakage(leakage, config.max_leakage, folder)
        return {"cleaned": cleaned, "personal": personal, **_summary(corpus, leakage, cautions)}

    return Plan(
        kind="corpus",
        name="corpus",
        root=root,
        config={
            "files": {role: len(paths) for role, paths in files.items()},
            "languages": sorted(config.languages),
            "held_out": config.held_out,
            "test": config.test,
            "max_leakage": config.max_leakage,
            "personal": config.personal,
            "seed": seed,
        },
        inputs={
            f"{role}.{number}": file_input(path)
            for role, paths in files.items()
            for number, path in enumerate(paths)
        }
        | {f"past.{number}": as_input(corpus) for number, corpus in enumerate(past, 1)},
        rooms=("corpus",),
        work=work,
    )


def curate(
    config: CorpusConfig, *, root: Path, seed: int = 1, past: Sequence[Artefact] = ()
) -> Artefact:
    """Return the corpus artefact of a recipe, made unless it is there already.

    raises: DataError, as `plan_curate` does.
    """
    return run_plan(plan_curate(config, root=root, seed=seed, past=past))


def told(corpus: Artefact) -> list[str]:
    """Say in a few lines what a corpus holds, what was dropped, and what its audit found."""
    summary, leakage = corpus.summary, corpus.summary["leakage"]
    trained, held_out = (summary["rankings"][split]["total"] for split in ("train", "held_out"))
    dropped = ", ".join(f"{count} {reason}" for reason, count in summary["dropped"].items())
    return [
        f"{summary['records']['total']} records to train on, {summary['benchmark']['total']} "
        f"benchmark items, {trained} rankings and {held_out} held out; {summary['cleaned']} rows "
        "changed by cleaning",
        f"dropped: {dropped or 'none'}; groups of near-duplicates: {summary['clusters']}",
        f"of {leakage['benchmark_items']} benchmark items {leakage['leaking']} stand in training: "
        f"{leakage['near']} nearly, {leakage['quoted']} by a quoted answer, {leakage['run']} by a "
        f"shared run; besides, {leakage['formula_only']} share a formula, "
        f"{leakage['same_source']} a source",
        *(f"warning: {warning}" for warning in summary["warnings"]),
    ]


def _read(files: dict[Role, list[Path]]) -> _Corpus:
    faults = Faults()
    records = located_records(files["records"], faults)
    benchmark = located_records(files["benchmark"], faults, withheld=True)
    rankings = located_rankings(files["rankings"], faults)
    check_ids([*records, *benchmark], faults)
    check_rankings(rankings, {entry.row.id for entry in records}, faults)
    faults.check()
    return _Corpus(
        records=sorted((entry.row for entry in records), key=lambda row: row.id),
        rankings=sorted((entry.row for entry in rankings), key=lambda row: row.id),
        benchmark=sorted((entry.row for entry in benchmark), key=lambda row: row.id),
    )


def _clean(corpus: _Corpus) -> int:
    """Clean every text; return how many rows changed. Rows with nothing left are dropped."""
    before = {(type(row), row.id): row for row in _all_rows(corpus)}
    corpus.records = _cleaned_records(corpus, "records", corpus.records)
    corpus.benchmark = _cleaned_records(corpus, "benchmark", corpus.benchmark)
    rankings: list[Ranking] = []
    for ranking in corpus.rankings:
        candidates = tuple(
            candidate.model_copy(
                update={
                    name: clean_text(getattr(candidate, name))
                    for name in ("answer", "note", "critique")
                }
            )
            for candidate in ranking.candidates
        )
        _add_ranking(corpus, rankings, ranking, [c for c in candidates if c.answer], "empty")
    corpus.rankings = rankings
    return sum(before[type(row), row.id] != row for row in _all_rows(corpus))


def _treat_personal(corpus: _Corpus, treatment: PersonalData) -> dict[str, int]:
    """Count, scrub or drop what may identify a person; return how many rows held each sort."""
    rows_with: Counter[str] = Counter()

    def treated(role: Role, rows: Sequence[RowType]) -> list[RowType]:
        left = []
        for row in rows:
            scrubbed, found = _scrubbed(row)
            rows_with.update(found)
            certain = sorted(found & set(CERTAIN))
            if certain and treatment == "drop":
                corpus.drop(role, row.id, "personal", ", ".join(certain))
            else:
                left.append(scrubbed if treatment == "scrub" else row)
        return left

    if treatment != "keep":
        corpus.records = treated("records", corpus.records)
        corpus.benchmark = treated("benchmark", corpus.benchmark)
        corpus.rankings = treated("rankings", corpus.rankings)
        _drop_orphans(corpus)
    return dict(sorted(rows_with.items()))


def _scrubbed(row: RowType) -> tuple[RowType, set[str]]:
    """The row without what may identify a person, and the sorts of it that were there."""
    found: set[str] = set()

    def scrub(part: PartType, *names: str) -> PartType:
        changed = {}
        for name in names:
            text, counts = scrub_personal(getattr(part, name) or "")
            if counts:
                found.update(counts)
                changed[name] = text
        return part.model_copy(update=changed) if changed else part

    if isinstance(row, Ranking):
        candidates = tuple(scrub(c, "answer", "note", "critique") for c in row.candidates)
        return row.model_copy(update={"candidates": candidates}), found
    return scrub(row, "question", "answer"), found


def _all_rows(corpus: _Corpus) -> list[Record | Ranking]:
    return [*corpus.records, *corpus.benchmark, *corpus.rankings]


def _cleaned_records(corpus: _Corpus, role: Role, records: Iterable[Record]) -> list[Record]:
    kept = []
    for record in records:
        question = clean_text(record.question)
        answer = record.answer and clean_text(record.answer)
        if not question or answer == "":
            corpus.drop(role, record.id, "empty", "no text is left after cleaning")
        else:
            kept.append(record.model_copy(update={"question": question, "answer": answer}))
    return kept


def _keep_languages(corpus: _Corpus, languages: Sequence[str]) -> list[str]:
    """Drop records in languages not asked for, and those not written in their language's
    script. Return a warning where no record is in a language, and one of languages not known."""
    there = counted(record.language for record in corpus.records)

    def kept(role: Role, records: list[Record]) -> list[Record]:
        left = []
        for record in records:
            text = f"{record.question}\n{record.answer or ''}"
            if languages and record.language not in languages:
                corpus.drop(role, record.id, "language", record.language)
            elif script_ratio(text, record.language) < MIN_SCRIPT:
                corpus.drop(role, record.id, "script", f"not written in {record.language}")
            else:
                left.append(record)
        return left

    corpus.records = kept("records", corpus.records)
    corpus.benchmark = kept("benchmark", corpus.benchmark)
    _drop_orphans(corpus)
    absent = ", ".join(language for language in languages if language not in there)
    told = ", ".join(f"{language} {count}" for language, count in there.items())
    unknown = ", ".join(sorted({record.language for record in corpus.records} - set(LANGUAGES)))
    return [
        *([f"corpus.languages: no record is in {absent}; there are {told}"] if absent else []),
        *(
            [f"no profile of {unknown}: the script of such records is not checked"]
            if unknown
            else []
        ),
    ]


def _drop_duplicates(corpus: _Corpus) -> None:
    """Keep one of each group of near-duplicates, the first by id; its rankings become the kept
    one's."""
    moved: dict[str, str] = {}

    def kept(role: Role, records: list[Record]) -> list[Record]:
        texts = [f"{record.question}\n{record.answer or ''}" for record in records]
        copies: dict[str, str] = {}
        for first, *rest in similar_groups(texts, threshold=NEAR):
            copies.update({records[place].id: records[first].id for place in rest})
            corpus.clusters.append(
                {
                    "from": role,
                    "kept": records[first].id,
                    "text": texts[first],
                    "copies": [
                        {
                            "id": records[place].id,
                            "similarity": round(similarity(texts[first], texts[place]), 3),
                            "text": texts[place],
                        }
                        for place in rest
                    ],
                }
            )
        for copy, original in copies.items():
            corpus.drop(role, copy, "duplicate", f"of {original}")
        if role == "records":
            moved.update(copies)
        return [record for record in records if record.id not in copies]

    corpus.records = kept("records", corpus.records)
    corpus.benchmark = kept("benchmark", corpus.benchmark)
    corpus.rankings = [
        ranking.model_copy(update={"record": moved.get(ranking.record, ranking.record)})
        for ranking in corpus.rankings
    ]


def _keep_benchmark_apart(corpus: _Corpus) -> None:
    """Drop the records whose question or answer nearly stands in the benchmark, or that hold a
    benchmark answer word for word."""
    benchmark = corpus.benchmark
    questions = [item.question for item in benchmark]
    answers = [item.answer or item.question for item in benchmark]
    near_questions = best_matches(
        [record.question for record in corpus.records], questions, threshold=NEAR
    )
    near_answers = best_matches(
        [record.answer or "" for record in corpus.records], answers, threshold=NEAR
    )
    quoted = Quoted({item.id: item.answer or "" for item in benchmark})
    left = []
    for record, question, answer in zip(corpus.records, near_questions, near_answers, strict=True):
        match = question or answer
        if match is not None:
            part = "question" if question else "answer"
            item = benchmark[match.index].id
            corpus.drop("records", record.id, "benchmark", f"its {part} is nearly that of {item}")
        elif held := quoted.within(record.question) | quoted.within(record.answer or ""):
            detail = f"holds the answer of {', '.join(sorted(held))}"
            corpus.drop("records", record.id, "benchmark", detail)
        else:
            left.append(record)
    corpus.records = left
    _drop_orphans(corpus)


def _clear_candidates(corpus: _Corpus) -> None:
    """Drop candidate answers that are nearly a benchmark answer, or hold one word for word."""
    answers = [item.answer or item.question for item in corpus.benchmark]
    quoted = Quoted({item.id: item.answer or "" for item in corpus.benchmark})
    candidates = [c.answer for ranking in corpus.rankings for c in ranking.candidates]
    matches = iter(best_matches(candidates, answers, threshold=NEAR))
    rankings: list[Ranking] = []
    for ranking in corpus.rankings:
        apart = [
            c
            for c in ranking.candidates
            if next(matches) is None
            and not any(quoted.within(text) for text in (c.answer, c.note, c.critique))
        ]
        _add_ranking(corpus, rankings, ranking, apart, "benchmark")
    corpus.rankings = rankings


def _add_ranking(
    corpus: _Corpus,
    rankings: list[Ranking],
    ranking: Ranking,
    candidates: Sequence[Candidate],
    reason: str,
) -> None:
    """Keep the ranking with the candidates that are left, if they are two or more."""
    gone = [c.id for c in ranking.candidates if c.id not in {kept.id for kept in candidates}]
    if len(candidates) < 2:
        corpus.drop("rankings", ranking.id, reason, f"candidates {', '.join(gone)}: too few left")
        return
    for name in gone:
        corpus.drop("rankings", f"{ranking.id}/{name}", reason, "this candidate only")
    rankings.append(ranking.model_copy(update={"candidates": tuple(candidates)}))


def _take_test_by_source(corpus: _Corpus, share: float, seed: int, former: Former) -> None:
    """Move whole groups of records that hang together into the benchmark, stratified by kind.

    No group is taken that holds, or hangs together with, what a former round taught; the others
    give as much as all of them would have.
    """
    records = corpus.records
    learned, _ = former.beside(records)
    barred = former.bars(records) | set(range(len(records), len(records) + len(learned)))
    names = [record.id for record in [*records, *learned]]
    found = ties([*records, *learned])
    groups = tied_groups(len(names), found)
    free = [group for group in groups if barred.isdisjoint(group)]
    if records and share and not free:
        raise DataError(
            f"corpus.test: all {len(records)} records stood in the training of the model that "
            "memory.past leads to, or hang together with what did; give benchmark files that it "
            "was not trained on"
        )
    if barred and free:
        share = min(1.0, share * len(records) / sum(map(len, free)))
    chosen = chosen_groups(
        free,
        [(record.kind, record.language) for record in records],
        [record.id for record in records],
        share=share,
        seed=seed,
    )
    if records and share and not chosen:
        reasons = counted(tie.why for tie in found)
        told = ", ".join(f"{count} by {_WHY[why]}" for why, count in reasons.items())
        why = (
            f"they hang together in {len(groups)} group(s) by source or shared text, the smallest "
            f"of {min(map(len, groups))} (ties: {told})"
            if found
            else "there is only one"
        )
        raise DataError(
            f"corpus.test: no {share:.0%} of the {len(records)} records can be set apart, since "
            f"{why}; name more sources, raise corpus.test, or give benchmark files"
        )
    by_group: dict[int, list[dict[str, str]]] = {group[0]: [] for group in groups}
    first_of = {place: group[0] for group in groups for place in group}
    for tie in found:
        pair = {"first": names[tie.first], "second": names[tie.second], "why": tie.why}
        by_group[first_of[tie.first]].append(pair)
    corpus.components = [
        {
            "split": "test" if group[0] in chosen else "train",
            "members": [names[place] for place in group],
            "ties": by_group[group[0]],
        }
        for group in sorted(groups, key=lambda group: (-len(group), group[0]))
    ]
    corpus.benchmark = [record for place, record in enumerate(records) if place in chosen]
    corpus.records = [record for place, record in enumerate(records) if place not in chosen]
    _drop_orphans(corpus, reason="test")


_WHY = {"source": "source", "near": "near text", "run": "shared run", "quoted": "quoted answer"}


def _drop_orphans(corpus: _Corpus, reason: str = "record") -> None:
    """Drop the rankings whose record is no longer among the training records."""
    known = {record.id for record in corpus.records}
    for ranking in corpus.rankings:
        if ranking.record not in known:
            detail = "is a test item" if reason == "test" else "was dropped"
            corpus.drop("rankings", ranking.id, reason, f"its record {ranking.record} {detail}")
    corpus.rankings = [ranking for ranking in corpus.rankings if ranking.record in known]


def _hold_out(corpus: _Corpus, share: float, seed: int) -> list[str]:
    """Mark the rankings of a share of the ranked questions as held out; near-equal questions stay
    together. Return a warning where there are none."""
    ranked = {ranking.record for ranking in corpus.rankings}
    records = [record for record in corpus.records if record.id in ranked]
    questions = [record.question for record in records]
    groups = similar_groups(questions, threshold=NEAR)
    grouped = {place for group in groups for place in group}
    groups += [(place,) for place in range(len(records)) if place not in grouped]
    chosen = chosen_groups(
        groups,
        [(record.kind, record.language) for record in records],
        [record.id for record in records],
        share=share,
        seed=seed,
    )
    held_out = {records[place].id for place in chosen}
    corpus.records = [record.model_copy(update={"split": "train"}) for record in corpus.records]
    corpus.benchmark = [item.model_copy(update={"split": "test"}) for item in corpus.benchmark]
    corpus.rankings = [
        ranking.model_copy(update={"split": "held_out" if ranking.record in held_out else "train"})
        for ranking in corpus.rankings
    ]
    if chosen or not records:
        return []
    if not share:
        why = "set corpus.held_out above 0"
    elif len(records) == 1:
        why = "there is only one; rank more questions"
    else:
        why = (
            f"the {len(records)} questions are nearly equal, in {len(groups)} group(s); rank "
            "others too, or raise corpus.held_out"
        )
    return [f"no ranked question is held out, so the critic's accuracy cannot be measured: {why}"]


def _check_something_is_left(corpus: _Corpus) -> None:
    for role, rows in (("records", corpus.records), ("benchmark", corpus.benchmark)):
        if not rows:
            reasons = counted(entry["reason"] for entry in corpus.dropped if entry["from"] == role)
            told = ", ".join(f"{count} for {reason}" for reason, count in reasons.items())
            others = counted(
                entry["detail"]
                for entry in corpus.dropped
                if entry["from"] == role and entry["reason"] == "language"
            )
            there = ", ".join(f"{language} {count}" for language, count in others.items())
            remedy = f"set corpus.languages to what there is ({there}), or " if there else ""
            raise DataError(
                f"corpus.{role}: none is left ({told or 'none was given'}); {remedy}give more files"
            )


def _refuse_leakage(leakage: Leakage, most: float, folder: Path) -> None:
    """Go on only when no more of the benchmark stands in training than is allowed."""
    if leakage.share <= most:
        return
    shown = [
        f"{leak.test} and {leak.train}: {_LEAKS[leak.way]}: {shorten(leak.text, 100)}"
        for leak in leakage.leaks[:SHOWN_LEAKS]
    ]
    rest = len(leakage.leaks) - len(shown)
    raise DataError(
        [
            f"corpus.max_leakage: {len(leakage.leaks)} of {leakage.items} benchmark items "
            f"({leakage.share:.0%}) stand in training in some way, more than {most:.0%}; take the "
            "records or the items out, or raise corpus.max_leakage and say so where you publish",
            *shown,
            *([f"… and {rest} more"] if rest > 0 else []),
            f"all of them: {folder / 'leakage.jsonl'}",
        ]
    )


_LEAKS = {"near": "nearly the same text", "quoted": "the answer is quoted", "run": "a shared run"}


def _write(folder: Path, corpus: _Corpus, leakage: Leakage) -> None:
    write_rows(folder / "records.parquet", corpus.records)
    write_rows(folder / "rankings.parquet", corpus.rankings)
    write_rows(folder / "benchmark.parquet", corpus.benchmark)
    shared = [
        *map(vars, leakage.leaks),
        *({**vars(run), "way": "formula"} for run in leakage.formulas),
    ]
    for name, entries in (
        ("dropped", corpus.dropped),
        ("clusters", corpus.clusters),
        ("components", corpus.components),
        ("leakage", shared),
    ):
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]
        write_text(folder / f"{name}.jsonl", "".join(lines))


def _summary(corpus: _Corpus, leakage: Leakage, cautions: Sequence[str]) -> dict[str, Any]:
    """Counts by split, what was dropped and why, and what training and benchmark still share."""
    kind_of = {record.id: record.kind for record in corpus.records}
    held_out = [ranking for ranking in corpus.rankings if ranking.split == "held_out"]
    trained = [ranking for ranking in corpus.rankings if ranking.split == "train"]
    return {
        "records": _counts(corpus.records),
        "benchmark": _counts(corpus.benchmark),
        "rankings": {
            split: {
                "total": len(rankings),
                "questions": len({ranking.record for ranking in rankings}),
                "pairs": sum(_pairs(ranking) for ranking in rankings),
                "kind": counted(kind_of[ranking.record] for ranking in rankings),
            }
            for split, rankings in (("train", trained), ("held_out", held_out))
        },
        "dropped": counted(f"{entry['from']}: {entry['reason']}" for entry in corpus.dropped),
        "clusters": len(corpus.clusters),
        "leakage": leakage.summary(SHOWN_LEAKS),
        "warnings": _warnings(corpus, leakage, cautions),
    }


def _counts(records: Sequence[Record]) -> dict[str, Any]:
    return {
        "total": len(records),
        "kind": counted(record.kind for record in records),
        "language": counted(record.language for record in records),
        "stability": counted(record.stability for record in records),
    }


def _pairs(ranking: Ranking) -> int:
    """How many pairs of candidates have different ranks."""
    ranks = Counter(candidate.rank for candidate in ranking.candidates)
    total = len(ranking.candidates)
    return (total * total - sum(count * count for count in ranks.values())) // 2


def _warnings(corpus: _Corpus, leakage: Leakage, cautions: Sequence[str]) -> list[str]:
    found = [
        f"no {what} of kind {kind}"
        for what, rows in (("record", corpus.records), ("benchmark item", corpus.benchmark))
        for kind in KINDS
        if not any(row.kind == kind for row in rows)
    ]
    found += cautions
    if leakage.leaks:
        ways = {_LEAKS[way]: leakage.count(way) for way in get_args(Way)}
        told = ", ".join(f"{what} {count}" for what, count in ways.items() if count)
        found.append(
            f"{len(leakage.leaks)} of {leakage.items} benchmark items stand in training in some "
            f"way ({told}); leakage.jsonl names them"
        )
    return found
