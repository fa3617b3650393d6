"""A release opens with the same columns in each split, and no withheld answer stands in it."""

import hashlib
import hmac
import json
import os
import stat
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.environments import own_environment
from typer.testing import CliRunner

from drenpa.cli import app
from drenpa.config import CorpusConfig
from drenpa.core.artefacts import open_artefact, write_rows
from drenpa.core.errors import ArtefactError, ConfigError, DataError
from drenpa.core.records import Ranking, Record
from drenpa.corpus.audit import Rating, audit
from drenpa.corpus.curate import curate
from drenpa.corpus.facts import ReleaseFacts, read_facts
from drenpa.corpus.intake import read_rankings, read_records
from drenpa.corpus.release import check_nothing_leaks, corpus_at, verify_release, write_release
from drenpa.corpus.withheld import (
    Sighting,
    commitment,
    dataset_canary,
    find_canaries,
    item_canary,
    private_canary,
    read_private,
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


def test_the_card_carries_what_the_hub_reads_and_where_it_comes_from(corpus, released):
    place, _ = released
    card = (place / "public" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["license"] == "cc-by-4.0"
    assert facts["language"] == ["bo", "en", "zh"]
    files = [file["path"] for config in facts["configs"] for file in config["data_files"]]
    assert all((place / "public" / name).is_file() for name in files)
    for told in (
        "takedown@example.org",
        "cc0-1.0",
        "Few voices.",
        "of 148 test items",
        dataset_canary(KEY),
        "The test items were given.",
    ):
        assert told in body
    for name, entry in corpus.inputs.items():
        assert f"| {name.partition('.')[0]} | {Path(entry['path']).name} |" in body


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


def test_folders_beside_a_release_are_left_alone_and_nothing_else_is_left(corpus, tmp_path):
    (tmp_path / "public.part").mkdir()
    for own in ("public.part/mine.txt", "private.jsonl.part"):
        (tmp_path / own).write_text("mine")
    write_release(corpus, tmp_path / "public", tmp_path / "private.jsonl", FACTS)
    assert (tmp_path / "public.part" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "private.jsonl.part").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "private.jsonl",
        "private.jsonl.part",
        "public",
        "public.part",
    ]


def test_a_link_to_nowhere_is_a_target_that_is_there(corpus, tmp_path):
    (tmp_path / "public").symlink_to(tmp_path / "gone")
    with pytest.raises(ArtefactError, match="never overwritten"):
        write_release(corpus, tmp_path / "public", tmp_path / "p", FACTS)


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
    assert [path.name for path in tmp_path.iterdir()] == ["leaky"]


def test_a_short_answer_counts_only_as_a_whole_field(tmp_path):
    (tmp_path / "notes.txt").write_text("yes we can\nYes.\n")
    item = Record(id="t", kind="foundation", question="Is it yes or no?", answer="Yes!")
    with pytest.raises(DataError) as caught:
        check_nothing_leaks(tmp_path, [item])
    assert caught.value.faults[0] == "notes.txt: line 2: holds the withheld answer of t"
    assert len(caught.value.faults) == 2


def test_an_answer_is_found_across_a_sign_that_ends_a_line_elsewhere(tmp_path):
    answer = "The yak carries them\u2028over the pass in spring."
    (tmp_path / "notes.json").write_text(json.dumps({"note": answer}, ensure_ascii=False))
    item = Record(id="t", kind="foundation", question="Who carries them?", answer=answer)
    with pytest.raises(DataError) as caught:
        check_nothing_leaks(tmp_path, [item])
    assert caught.value.faults[0] == "notes.json: line 1: holds the withheld answer of t"


def test_a_row_has_the_licence_of_its_source(released):
    place, _ = released
    rows = pyarrow.parquet.read_table(place / "public" / "data" / "train.parquet").to_pylist()
    own = {row["license"] for row in rows if row["source"] == "starter/foundation/language"}
    assert own == {"cc0-1.0"}
    assert {row["license"] for row in rows} == {"cc0-1.0", "cc-by-4.0"}


def test_the_longest_name_that_fits_says_the_licence_of_a_source():
    facts = FACTS.model_copy(
        update={"licenses": {"web/*": "cc-by-sa-4.0", "web/udhr*": "mit", "web/udhr/bo": "cc0-1.0"}}
    )
    sources = ["web/udhr/bo", "web/udhr/dz", "web/news", "book"]
    assert [facts.license_of(name) for name in sources] == [
        "cc0-1.0",
        "mit",
        "cc-by-sa-4.0",
        "cc-by-4.0",
    ]


def test_canaries_stand_at_three_depths_and_the_private_one_only_with_the_answers(released):
    place, counts = released
    public = b"".join(path.read_bytes() for path in (place / "public").rglob("*.*"))
    for path in (place / "public").rglob("*.parquet"):
        kept = pyarrow.parquet.read_schema(path).metadata
        assert kept[b"canary"].decode() == dataset_canary(KEY)
    rows = pyarrow.parquet.read_table(place / "public" / "data" / "test.parquet").to_pylist()
    assert [row["canary"] for row in rows] == [item_canary(KEY, row["id"]) for row in rows]
    assert len({row["canary"] for row in rows}) == counts["test"]
    assert private_canary(KEY).encode() not in public
    assert private_canary(KEY) in (place / "private.jsonl").read_text()


def test_a_canary_in_a_text_tells_which_release_and_item_it_comes_from(released):
    place, _ = released
    private = read_private(place / "private.jsonl")
    item = private.answers[3].id
    text = f"A page. {item_canary(KEY, item).upper()}, {dataset_canary(KEY)}."
    assert find_canaries(text, private) == [Sighting("item", item), Sighting("dataset")]
    assert find_canaries(private_canary(KEY), private) == [Sighting("private")]
    assert find_canaries(dataset_canary(b"the key of another one"), private) == []


def test_the_private_canary_is_searched_for_too(tmp_path):
    (tmp_path / "notes.txt").write_text(f"do not publish {private_canary(KEY)}")
    with pytest.raises(DataError, match=r"notes.txt: line 1: holds the private canary"):
        check_nothing_leaks(tmp_path, [], secret=private_canary(KEY))


def test_the_metadata_names_each_file_with_its_hash_and_each_column(released):
    place, _ = released
    told = json.loads((place / "public" / "croissant.json").read_text())
    files = {file["contentUrl"]: file["sha256"] for file in told["distribution"]}
    assert files == {
        path.relative_to(place / "public").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (place / "public").rglob("*.parquet")
    }
    columns = {
        field["source"]["extract"]["column"]
        for records in told["recordSet"]
        for field in records["field"]
        if records["@id"] == "records-test"
    }
    schema = pyarrow.parquet.read_schema(place / "public" / "data" / "test.parquet")
    assert columns == set(schema.names)
    assert told["conformsTo"] == "http://mlcommons.org/croissant/1.0"


def test_checksums_cover_every_file(released):
    place, _ = released
    lines = (place / "public" / "SHA256SUMS").read_text().splitlines()
    named = {line.split("  ", 1)[1] for line in lines}
    files = {
        path.relative_to(place / "public").as_posix()
        for path in (place / "public").rglob("*")
        if path.is_file()
    }
    assert named == files - {"SHA256SUMS"}


RATINGS = [
    [
        Rating(
            rater=rater,
            agrees=True,
            kind="foundation",
            quality=quality,
            diversity=1,
            timeliness=2,
            professionalism=2,
        )
        for rater, quality in zip("abc", scores, strict=True)
    ]
    for scores in [(2, 2, 2), (2, 1, 2), (1, 1, 1), (0, 0, 1)]
]


def test_the_card_tells_how_far_the_raters_agreed(corpus, tmp_path):
    (tmp_path / "audit.json").write_text(json.dumps(asdict(audit(RATINGS, resamples=20))))
    (tmp_path / "facts.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "Rated",
                "license": "mit",
                "description": "d",
                "contact": "c@example.org",
                "limits": "l",
                "agreement": "audit.json",
            }
        )
    )
    facts = read_facts(tmp_path / "facts.yaml")
    write_release(corpus, tmp_path / "public", tmp_path / "private.jsonl", facts)
    card = (tmp_path / "public" / "README.md").read_text()
    assert "12 ratings of 4 records" in card
    # pairs of raters that say the same of quality: 3, 1, 3, 1 of 3 each
    assert "| quality | 0.67 (" in card


def test_faults_of_the_facts_are_told_together(tmp_path):
    (tmp_path / "facts.yaml").write_text("name: x\nlicence: mit\nversion: '1'\ncontact: ''\n")
    with pytest.raises(ConfigError) as caught:
        read_facts(tmp_path / "facts.yaml")
    told = str(caught.value)
    assert "licence: unknown key; did you mean 'license'?" in told
    for key in ("license: missing", "limits: missing", "contact: ", "version: "):
        assert f"facts.yaml: {key}" in told
    (tmp_path / "facts.yaml").write_text("agreement: none.json")
    with pytest.raises(ConfigError, match=r"none.json: cannot be read"):
        read_facts(tmp_path / "facts.yaml")


def test_an_altered_private_file_is_not_read(released, tmp_path):
    place, _ = released
    head, *lines = (place / "private.jsonl").read_text().splitlines()
    path = tmp_path / "private.jsonl"
    for text, what in (
        (head.replace(KEY.hex(), b"another secret key!!".hex()), "do not belong together"),
        ("\n".join([head, lines[0], lines[0]]), "names an item twice"),
        ("", "not a private file"),
        (f"{head}\n{{}}", "not a private file"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=what):
            read_private(path)


OPENS = """
import sys, datasets, mlcroissant
folder = sys.argv[1]
records = datasets.load_dataset(folder)
rankings = datasets.load_dataset(folder, "rankings")
print({split: rows.num_rows for split, rows in records.items()})
print(sorted(rankings), set(records["test"]["answer"]), records["train"][0]["answer"][:9])
told = mlcroissant.Dataset(f"{folder}/croissant.json")
assert not told.metadata.ctx.issues.warnings
print(next(iter(told.records("records-train")))["records-train/id"].decode())
print(next(iter(told.records("records-test")))["records-test/answer"])
candidates = next(iter(told.records("rankings-train")))["rankings-train/candidates"]
print([candidate["rankings-train/candidates/rank"] for candidate in candidates])
"""


@pytest.mark.slow
def test_the_release_opens_in_datasets_and_its_metadata_in_mlcroissant(corpus, released, tmp_path):
    place, counts = released
    python = own_environment("release", "datasets==5.2.0", "mlcroissant==1.1.1")
    done = subprocess.run(
        [python, "-c", OPENS, str(place / "public")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    first = corpus.rows("records", Record)[0]
    ranking = next(row for row in corpus.rows("rankings", Ranking) if row.split == "train")
    assert done.stdout.splitlines() == [
        str({"train": counts["train"], "test": counts["test"]}),
        f"['held_out', 'train'] {{None}} {first.answer[:9]}",
        first.id,
        "None",
        str([candidate.rank for candidate in ranking.candidates]),
    ]


def test_release_and_score_hidden_are_commands(corpus, tmp_path):
    facts = tmp_path / "facts.yaml"
    facts.write_text(yaml.safe_dump({**FACTS.model_dump(exclude={"agreement", "creators"})}))
    public, private = tmp_path / "public", tmp_path / "private.jsonl"
    run = CliRunner().invoke
    made = run(
        app,
        ["release", str(corpus.path.parent), str(facts), f"--out={public}", f"--private={private}"],
    )
    assert made.exit_code == 0, made.output
    assert f"{public}: 216 train, 148 test, 156 rankings" in made.output
    verify_release(public, private)
    later = [f"--out={tmp_path / 'p2'}", f"--private={tmp_path / 'k2'}", f"--key-of={private}"]
    assert run(app, ["release", str(corpus.path), str(facts), *later]).exit_code == 0
    verify_release(tmp_path / "p2", private)  # the first version's answers fit the second
    predictions = tmp_path / "predictions.jsonl"
    rows = [{"id": a.id, "answer": a.answer} for a in read_private(private).answers]
    predictions.write_text("\n".join(map(json.dumps, rows)))
    scored = run(
        app, ["score-hidden", str(predictions), f"--answers={private}", "--submitter=team"]
    )
    assert scored.exit_code == 0, scored.output
    assert "Mountain questions 1.0.0: 148 hidden answers" in scored.output
    assert "all            exact 1.00  f1 1.00  chrf 1.00" in scored.output
    assert (tmp_path / "private.log.jsonl").is_file()


def test_a_folder_without_a_corpus_is_not_released(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(ArtefactError, match=r"holds no finished corpus|does not exist"):
            corpus_at(place)


@given(st.integers(0, 147), st.sampled_from(["quote", "shout", "spread", "tail"]))
@settings(max_examples=25)
def test_a_withheld_answer_is_found_however_it_is_dressed(released, number, dress):
    place, _ = released
    answer = read_private(place / "private.jsonl").answers[number]
    text = {
        "quote": f"He said: “{answer.answer}” and left.",
        "shout": answer.answer.upper(),
        "spread": " \u00a0 ".join(answer.answer.split(" ")),
        "tail": f"{answer.answer} So it is, and more besides.",
    }[dress]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.md").write_text(f"A page.\n{text}\n")
        with pytest.raises(DataError, match=f"holds the withheld answer of {answer.id}"):
            check_nothing_leaks(
                Path(folder), [Record(**answer.model_dump(), question="What is it?")]
            )
