"""The probe: does the model know a record?

Only probabilities are asked, and they are read on the model's own scale. How much does the answer
surprise the model, in nats a token,

    after another record's question   S0   it has nothing to go by: the shuffled questions
    after its own question            S    what it has in its weights counts
    after its own question, with the answer laid open before it   S1   it has all there is

    known = (S0 - S) / (S0 - S1), held within 0 and 1:

the share of what an open book would tell the model that it can say without the book. A model that
does not look at the question scores 0; one that says the answer as if it read it off scores 1.

The rank that is given besides (is the answer lifted more by its question than other records'
answers are?) is what one would try first, and it does not measure knowledge: topic and shared words
are enough for it. docs/memory.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drenpa.config import ProbeConfig
from drenpa.core.errors import DataError, ScoringError
from drenpa.core.records import Identifier, Record, Row
from drenpa.core.roles import Generator, Sampling
from drenpa.memory.ledger import Share

Floats = NDArray[np.float64]
TooLong = Callable[[Sequence[tuple[str, str]]], Sequence[str]]
"""Says of each (question, answer) why the model cannot read it; nothing where it can."""
MIN_SPAN = 0.1  # nats a token that an open book must tell before anything can be measured by it


class AnswerLogprobs(Protocol):
    """A model that says how probable a continuation is after a context."""

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        """Return for each (question, answer) the answer's log-probability and its tokens."""
        ...


class Probe(Row):
    """What one probe found of one record.

    known:     the share of the open book, from 0 to 1; the mean of that and `agreement` where
               answers were sampled.
    blind, surprise, open: S0, S and S1, in nats a token.
    rank:      share of the block's other answers that its question lifts less; chance is one half.
    tokens:    of the answer.
    agreement: how near sampled answers come to the reference, by chrF: 0 is as near as to other
               records' references, 1 is the reference itself; None when none were sampled.
    former:    of the answers that the record had before, the one that is known best; empty when
               there are none.
    former_known: how well.
    """

    record: Identifier
    known: Share
    blind: float
    surprise: float
    open: float
    rank: Share
    tokens: int = Field(ge=1)
    agreement: Share | None = None
    former: str = ""
    former_known: Share = 0.0


def blind_means(means_BB: Floats) -> Floats:
    """Return each answer's mean over the questions that are neither the row's nor its own.

    means_BB: [B, B] nats a token of answer (column) after question (row), B >= 3.
    returns:  [B, B]; on the diagonal the own question alone is left out.
    """
    size = len(means_BB)
    foreign_B = means_BB.sum(axis=0) - np.diag(means_BB)
    blind_BB: Floats = (foreign_B - means_BB) / (size - 2)
    np.fill_diagonal(blind_BB, foreign_B / (size - 1))
    return blind_BB


def own_ranks(scores_BB: Floats) -> Floats:
    """Return for each row the share of the other columns that lie below its own; ties count half.

    >>> own_ranks(np.array([[2.0, 1, 1], [3, 2, 2], [0, 1, 0]]))
    array([1.  , 0.25, 0.25])
    """
    own_B1 = np.diag(scores_BB)[:, None]
    below_BB = (scores_BB < own_B1) + 0.5 * (scores_BB == own_B1)
    ranks_B: Floats = (below_BB.sum(axis=1) - 0.5) / (len(scores_BB) - 1)
    return ranks_B


def share_between(low: float, value: float, high: float) -> float:
    """Return where a value lies between two anchors, held within 0 and 1.

    Where the anchors are less than `MIN_SPAN` apart nothing can be told, and nothing is known.

    >>> share_between(-4.0, -3.0, -2.0), share_between(-4.0, -5.0, -2.0), share_between(0, 1, 0)
    (0.5, 0.0, 0.0)
    """
    if high - low < MIN_SPAN:
        return 0.0
    return min(max((value - low) / (high - low), 0.0), 1.0)


def blocks_of(records: Sequence[Record], size: int) -> list[list[Record]]:
    """Divide records into blocks of about `size` neighbours, three at least.

    Neighbours share language, kind and source where they can, so that a topic alone is worth
    little. Languages with fewer than three records are put together. Which records stand together
    does not depend on the order they come in.

    raises: DataError when there are fewer than three records, or an answer is withheld.
    """
    withheld = [record.id for record in records if record.answer is None]
    if withheld:
        raise DataError([f"record {name}: its answer is withheld" for name in withheld])
    if len(records) < 3:
        raise DataError(f"{len(records)} records: a probe compares three at least; add records")
    languages: dict[str, list[Record]] = {}
    for record in records:
        languages.setdefault(record.language, []).append(record)
    groups = [rows for _, rows in sorted(languages.items()) if len(rows) >= 3]
    rest = [row for _, rows in sorted(languages.items()) if len(rows) < 3 for row in rows]
    if len(rest) >= 3 or not groups:
        groups.append(rest)
    else:
        groups[-1] = groups[-1] + rest
    blocks: list[list[Record]] = []
    for rows in filter(None, groups):
        rows = sorted(rows, key=lambda row: (row.language, row.kind, row.source, row.id))
        count = max(1, min(round(len(rows) / size), len(rows) // 3))
        edges = [number * len(rows) // count for number in range(count + 1)]
        blocks += [rows[low:high] for low, high in pairwise(edges)]
    return blocks


def open_book(question: str, answer: str) -> str:
    """Return the question with its answer laid open before it."""
    return f"{answer}\n\n{question}"


def probe_block(
    records: Sequence[Record],
    model: AnswerLogprobs,
    *,
    former: Mapping[str, Sequence[str]] | None = None,
) -> list[Probe]:
    """Probe one block of records, B >= 3, by probabilities.

    former: record id → answers that its question had before.
    raises: ScoringError when a log-probability is not a number.
    """
    size = len(records)
    older = _older(records, former or {})
    found = model.logprobs([pair for *_, pair in _asked(records, older)])
    if not all(np.isfinite(total) for total, _ in found):
        raise ScoringError(
            f"the model's log-probabilities of {records[0].id} and its neighbours are not all "
            "numbers; look at the model before probing it"
        )
    means = np.array([total / max(tokens, 1) for total, tokens in found])
    means_BB = means[: size * size].reshape(size, size)
    open_B = means[size * size :][:size]
    older_OB = means[size * size + size :].reshape(-1, size + 1)
    blind_BB = blind_means(means_BB)
    ranks_B = own_ranks(means_BB - blind_BB)
    best = _best_former(older, older_OB)
    probes = []
    for place, record in enumerate(records):
        blind, own, opened_mean = blind_BB[place, place], means_BB[place, place], open_B[place]
        text, former_known = best.get(place, ("", 0.0))
        probes.append(
            Probe(
                record=record.id,
                known=share_between(blind, own, opened_mean),
                blind=-blind,
                surprise=-own,
                open=-opened_mean,
                rank=ranks_B[place],
                tokens=max(found[place][1], 1),
                former=text,
                former_known=former_known,
            )
        )
    return probes


def check_room(blocks: Sequence[Sequence[Record]], too_long: TooLong) -> None:
    """Check that the model can read every question and answer that the probe puts together.

    raises: DataError that names every record that is too long, or two that are so together.
    """
    faults: list[str] = []
    for block in blocks:
        rows = _asked(block, [])
        reasons = too_long([pair for *_, pair in rows])
        found = {
            (asking, told): reason
            for (asking, told, _), reason in zip(rows, reasons, strict=True)
            if reason
        }
        alone = {told for asking, told in found if asking == told}
        for (asking, told), reason in found.items():
            if asking == told:
                put = "its answer laid open before its question, and said after it"
                faults.append(f"record {told}: {put}: {reason}; shorten it or leave it out")
            elif not {asking, told} & alone:
                put = f"its answer after the question of record {asking}"
                faults.append(f"record {told}: {put}: {reason}; shorten one or leave it out")
    if faults:
        raise DataError(faults)


def readable_former(
    blocks: Sequence[Sequence[Record]], former: Mapping[str, Sequence[str]], too_long: TooLong
) -> tuple[dict[str, list[str]], list[str]]:
    """Leave out the former answers that the model cannot read with the questions of their blocks.

    Nobody can shorten them any more, so they must not keep the probe from beginning.

    returns: record id → former answers, and a line about each that was left out.
    """
    kept: dict[str, list[str]] = {}
    told: list[str] = []
    for block in blocks:
        for place, text in _older(block, former):
            record = block[place]
            reasons = too_long([pair for *_, pair in _asked_of_former(block, place, text)])
            reason = next(filter(None, reasons), "")
            if reason:
                told.append(f"record {record.id}: a former answer was not probed: {reason}")
            else:
                kept.setdefault(record.id, []).append(text)
    return kept, told


def _older(records: Sequence[Record], former: Mapping[str, Sequence[str]]) -> list[tuple[int, str]]:
    """Return the places of the records that had other answers before, with each of these."""
    return [
        (place, text) for place, record in enumerate(records) for text in former.get(record.id, ())
    ]


def _asked(
    records: Sequence[Record], older: Sequence[tuple[int, str]]
) -> list[tuple[str, str, tuple[str, str]]]:
    """Return what the probe of a block reads: whose question, whose answer, and both texts.

    First every answer after every question, then each with an open book, then the same of each
    former answer.
    """
    rows = [
        (asking.id, told.id, (asking.question, told.answer or ""))
        for asking, told in product(records, records)
    ]
    rows += [
        (one.id, one.id, (open_book(one.question, one.answer or ""), one.answer or ""))
        for one in records
    ]
    for place, text in older:
        rows += _asked_of_former(records, place, text)
    return rows


def _asked_of_former(
    records: Sequence[Record], place: int, text: str
) -> list[tuple[str, str, tuple[str, str]]]:
    """Return what is read of a former answer of the record at a place, as `_asked` has it."""
    own = records[place]
    rows = [(asking.id, own.id, (asking.question, text)) for asking in records]
    return [*rows, (own.id, own.id, (open_book(own.question, text), text))]


def _best_former(
    older: Sequence[tuple[int, str]], means_OB: Floats
) -> dict[int, tuple[str, float]]:
    """Return the best known of each record's former answers, by the record's place.

    means_OB: [O, B+1] nats a token of each former answer after each of the B questions, and with
              an open book last.
    """
    best: dict[int, tuple[str, float]] = {}
    for (place, text), means_B in zip(older, means_OB, strict=True):
        blind = float(np.delete(means_B[:-1], place).mean())
        known = share_between(blind, float(means_B[place]), float(means_B[-1]))
        if known > best.get(place, ("", -1.0))[1]:
            best[place] = (text, known)
    return best


def sample_block(
    records: Sequence[Record],
    probes: Sequence[Probe],
    generator: Generator,
    config: ProbeConfig,
    *,
    seed: int,
    key: tuple[int, ...] = (),
) -> list[Probe]:
    """Add what sampled answers show, and let `known` be the mean of both.

    key: joins the seed of every answer's random stream, so that no two blocks draw alike.
    """
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    sampling = Sampling(max_new_tokens=config.max_new_tokens, temperature=0.7, seed=seed)
    drafts = generator.generate(
        [record.question for record in records], group=config.samples, sampling=sampling, key=key
    )
    references = [record.answer or "" for record in records]
    sampled = []
    for place, (probe, row) in enumerate(zip(probes, drafts, strict=True)):
        agreements = []
        for draft in row:
            scores_B = [metric.sentence_score(draft.text, [text]).score for text in references]
            others = np.delete(scores_B, place).mean()
            agreements.append(share_between(others, scores_B[place], 100.0))
        agreement = float(np.mean(agreements))
        sampled.append(
            probe.model_copy(
                update={"agreement": agreement, "known": (probe.known + agreement) / 2}
            )
        )
    return sampled
