"""What a model learned in former rounds: a question of theirs tests nothing in the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drenpa.core.artefacts import Artefact
from drenpa.core.records import Ranking, Record


@dataclass(frozen=True)
class Former:
    """The training records and the rankings of former rounds' corpora, the last round first.

    All of a corpus counts as learned, also what a memory kept out of the weights: a critic may have
    read it.
    """

    rounds: tuple[tuple[list[Record], list[Ranking]], ...] = ()

    def bars(self, records: Sequence[Record]) -> set[int]:
        """Return the places of the records that stood in training, by name or word for word."""
        learned = [row for rows, _ in self.rounds for row in rows]
        names = {row.id for row in learned}
        texts = {_texts(row) for row in learned}
        return {
            place
            for place, record in enumerate(records)
            if record.id in names or _texts(record) in texts
        }

    def beside(self, records: Sequence[Record]) -> tuple[list[Record], list[Ranking]]:
        """Return the learned records that are not among these as they are, each once, and all
        learned rankings, under names that are theirs alone."""
        names = {_texts(record): record.id for record in records}
        others: list[Record] = []
        ranked: list[Ranking] = []
        for number, (rows, rankings) in enumerate(self.rounds, 1):
            called: dict[str, str] = {}
            for row in rows:
                if _texts(row) not in names:
                    names[_texts(row)] = f"{row.id} (past {number})"
                    others.append(row.model_copy(update={"id": names[_texts(row)]}))
                called[row.id] = names[_texts(row)]
            ranked += [
                ranking.model_copy(update={"record": called[ranking.record]})
                for ranking in rankings
                if ranking.record in called
            ]
        return others, ranked


def read_former(corpora: Sequence[Artefact]) -> Former:
    """Read what former rounds taught, from their corpora.

    raises: ArtefactError when a file is missing.
    """
    return Former(
        tuple((one.rows("records", Record), one.rows("rankings", Ranking)) for one in corpora)
    )


def _texts(record: Record) -> tuple[str, str]:
    return record.question, record.answer or ""
