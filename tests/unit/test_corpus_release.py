"""A release opens with the same columns in each split, and no withheld answer stands in it."""

import hashlib
import hmac
import json
import stat

import pyarrow.parquet
import pytest
import yaml

from drenpa.config import CorpusConfig
from drenpa.core.artefacts import open_artefact, write_rows
from drenpa.core.errors import ArtefactError, DataError
from drenpa.core.records import Record
from drenpa.corpus.curate import curate
from drenpa.corpus.intake import read_rankings, read_records
from drenpa.corpus.release import (
    ReleaseFacts,
    check_nothing_leaks,
    commitment,
    verify_release,
    write_release,
)

FACTS = ReleaseFacts(
    name="Mountain questions",
    license="cc-by-4.0",
    description="Questions of the mountains.",
    contact="takedown@example.org",
    limits="Few voices.",
    licenses={"starter/foundation/language": "cc0-1.0"},
)
KEY = b"sixteen secret bytes"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return curate(CorpusConfig(), root=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def released(corpus, tmp_path_factory):
    place = tmp_path_factory.mktemp("release")
    counts = write_release(corpus, place / "public", place / "private.jsonl", FACTS, key=KEY)
    return place, counts


def test_no_withheld_answer_stands_anywhere_in_the_release(corpus, released):
    place, _ = released
    test = corpus.rows("benchmark", Record)
    tables = [
        json.dumps(pyarrow.parquet.read_table(path).to_pylist(), ensure_ascii=False)
        for path in sorted((place / "public").rglob("*.parquet"))
    ]
    others = [
        path.read_bytes().decode("utf-8", "replace")
        for path in (place / "public").rglob("*")
        if path.is_file()
    ]
    assert len(tables) == 4
    assert len(test) >= 120
    for item in test:
        assert not any(item.answer in text for text in [*tables, *others]), item.id


def test_the_splits_have_the_same_columns_and_types(released):
    place, counts = released
    train, test = (
        pyarrow.parquet.read_table(place / "public" / "data" / f"{split}.parquet")
        for split in ("train", "test")
    )
    assert train.schema.equals(test.schema)
    assert (train.num_rows, test.num_rows) == (counts["train"], counts["test"])
    assert train["answer"].null_count == 0
    assert test["answer"].null_count == test.num_rows
    assert train["commitment"].null_count == train.num_rows
    assert test["commitment"].null_count == 0


def test_the_release_reads_back_as_records_and_rankings(corpus, released):
    place, _ = released
    train = read_records(place / "public" / "data" / "train.parquet")
    assert train == corpus.rows("records", Record)
    test = read_records(place / "public" / "data" / "test.parquet", withheld=True)
    assert all(record.answer is None for record in test)
    ids = {record.id for record in train}
    for split in ("train", "held_out"):
        assert read_rankings(place / "public" / "rankings" / f"{split}.parquet", records=ids)


def test_a_commitment_is_an_hmac_that_no_other_pair_shares():
    message = b"2:abThe answer."
    assert (
        commitment(KEY, "ab", "The answer.") == hmac.new(KEY, message, hashlib.sha256).hexdigest()
    )
    assert commitment(KEY, "a", "b:c") != commitment(KEY, "a:b", "c")
    assert commitment(KEY, "a", "bc") != commitment(KEY, "ab", "c")
    assert commitment(KEY, "a", "b") != commitment(b"another secret key", "a", "b")


def test_the_card_carries_what_the_hub_reads(released):
    place, _ = released
    card = (place / "public" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["license"] == "cc-by-4.0"
    assert facts["language"] == ["bo", "en", "zh"]
    files = [file["path"] for config in facts["configs"] for file in config["data_files"]]
    assert all((place / "public" / name).is_file() for name in files)
    for told in ("takedown@example.org", "cc0-1.0", "Few voices.", "0 of 148 test items"):
        assert told in body


def test_private_answers_are_for_the_owner_and_hold_against_the_commitments(released):
    place, _ = released
    assert stat.S_IMODE((place / "private.jsonl").stat().st_mode) == 0o600
    verify_release(place / "public", place / "private.jsonl")


def test_a_changed_answer_or_file_is_found(released, tmp_path):
    place, _ = released
    lines = (place / "private.jsonl").read_text().splitlines()
    entry = json.loads(lines[1]) | {"answer": "another"}
    (tmp_path / "other.jsonl").write_text("\n".join([lines[0], json.dumps(entry), *lines[2:]]))
    with pytest.raises(DataError, match=f"{entry['id']}: the private answer is not"):
        verify_release(place / "public", tmp_path / "other.jsonl")
    sums = (place / "public" / "SHA256SUMS").read_text()
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "SHA256SUMS").write_text(sums)
    with pytest.raises(ArtefactError, match="is not the file that was released"):
        verify_release(copy, place / "private.jsonl")


def test_nothing_is_overwritten_and_answers_are_not_put_inside(corpus, released, tmp_path):
    place, _ = released
    with pytest.raises(ArtefactError, match="never overwritten"):
        write_release(corpus, place / "public", tmp_path / "p", FACTS)
    with pytest.raises(ArtefactError, match="lies inside the release"):
        write_release(corpus, tmp_path / "r", tmp_path / "r" / "data" / "p", FACTS)
    with pytest.raises(DataError, match="16 secret bytes"):
        write_release(corpus, tmp_path / "r", tmp_path / "p", FACTS, key=b"short")


def test_a_corpus_that_leaks_is_not_released(corpus, tmp_path):
    import shutil

    folder = tmp_path / "leaky"
    shutil.copytree(corpus.path, folder)
    test = corpus.rows("benchmark", Record)[0]
    leak = Record(
        id="leak", kind="foundation", question="Q?", answer=f"As they say: {test.answer.upper()}"
    )
    write_rows(folder / "records.parquet", [*corpus.rows("records", Record), leak])
    with pytest.raises(DataError, match=rf"leak.answer: holds the withheld answer of {test.id}"):
        write_release(open_artefact(folder), tmp_path / "r", tmp_path / "p", FACTS)
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "p").exists()


def test_a_short_answer_counts_only_as_a_whole_field(tmp_path):
    (tmp_path / "notes.txt").write_text("yes we can\nYes.\n")
    item = Record(id="t", kind="foundation", question="Is it yes or no?", answer="Yes!")
    with pytest.raises(DataError) as caught:
        check_nothing_leaks(tmp_path, [item])
    assert caught.value.faults[0] == "notes.txt: line 2: holds the withheld answer of t"
    assert len(caught.value.faults) == 2


def test_the_release_opens_in_datasets(released):
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    place, counts = released
    loaded = datasets.load_dataset(str(place / "public"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {
        "train": counts["train"],
        "test": counts["test"],
    }
