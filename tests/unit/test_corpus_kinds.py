"""A classifier trained on people's kinds says what it is worth before it suggests anything."""

import json

import pytest

from drenpa.core.errors import DataError
from drenpa.corpus.kinds import measure_kinds, suggest_kinds, tell_kinds


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "records.jsonl"
    rows = [
        {
            "id": f"{kind}-{number}",
            "kind": kind,
            "question": f"What of {words} number {number}?",
            "answer": f"Of {words} we say this.",
            "source": f"book {number % 5}",
        }
        for kind, words in (("foundation", "verbs and nouns"), ("profession", "goats and barns"))
        for number in range(10)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_it_is_measured_with_sources_kept_together(labelled):
    found = measure_kinds([labelled])
    assert (found.n, found.accuracy, found.macro_f1) == (20, 1.0, 1.0)


def test_each_row_gets_a_suggestion_with_its_source_and_reasons(labelled, tmp_path):
    items = tmp_path / "drafts.jsonl"
    items.write_text(
        '{"id": "x", "question": "How are goats kept?", "tags": ["barns"]}\n{"id": "y"}\n'
        '{"id": "z", "text": "verbs"}\n'
    )
    rows = []
    with pytest.raises(DataError, match=r"drafts.jsonl:2: needs an 'id' and one of question"):
        rows.extend(suggest_kinds([labelled], items))
    items.write_text(items.read_text().replace('{"id": "y"}\n', ""))
    first, second = suggest_kinds([labelled], items)
    assert (first["id"], first["label"], first["source"]) == ("x", "profession", "model")
    assert "'goats' speaks for profession" in first["reasons"]
    assert (second["label"], second["probability"] > 0.5) == ("foundation", True)


def test_what_it_is_worth_is_said_and_suggestions_are_written(labelled, tmp_path):
    said: list[str] = []
    tell_kinds([labelled], labelled, tmp_path / "out.jsonl", say=said.append)
    assert said[0].startswith("20 records in five folds by source: accuracy 1.00, macro-F1 1.00")
    assert said[-1] == f"20 suggestions in {tmp_path / 'out.jsonl'}"
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 20
    with pytest.raises(DataError, match="belong together"):
        tell_kinds([labelled], labelled, None, say=said.append)
