"""Bad input is told by file, line and field; good input reads alike in every format."""

import json
from datetime import date
from pathlib import Path

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from drenpa.config import CorpusConfig
from drenpa.core.errors import DataError
from drenpa.core.records import Ranking, Record
from drenpa.corpus.curate import curate
from drenpa.corpus.formats import MAX_ROW_BYTES
from drenpa.corpus.intake import read_pages, read_rankings, read_records, source_files

RECORD = {"id": "a", "kind": "foundation", "question": "Why?", "answer": "Because."}
RANKING = {
    "id": "r",
    "record": "a",
    "candidates": [
        {"id": "x", "answer": "Because of rain.", "rank": 1, "note": "right"},
        {"id": "y", "answer": "No reason.", "rank": 2},
    ],
}


def lines(folder: Path, *entries: object, name: str = "rows.jsonl") -> Path:
    path = folder / name
    text = "\n".join(e if isinstance(e, str) else json.dumps(e) for e in entries)
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(path: Path, read=read_records) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    return str(caught.value).replace(f"{path}:", "FILE:")


def test_a_broken_json_line_is_named_with_its_column(tmp_path):
    path = lines(tmp_path, RECORD, '{"id": "b", "kind":')
    assert faults_of(path).startswith("FILE:2: broken JSON at column 20: Expecting value")


def test_an_unknown_kind_is_answered_with_the_four_kinds_and_the_nearest(tmp_path):
    path = lines(tmp_path, RECORD | {"kind": "metacogniton"})
    assert faults_of(path) == (
        "FILE:1: field 'kind': 'metacogniton' is not one of foundation, profession, "
        "metacognition, connection; did you mean 'metacognition'?"
    )


def test_a_missing_and_an_empty_answer_are_faults(tmp_path):
    without = {key: value for key, value in RECORD.items() if key != "answer"}
    path = lines(tmp_path, without, RECORD | {"id": "b", "answer": "  "})
    assert faults_of(path).splitlines() == [
        "FILE:2: field 'answer': empty; write it",
        "FILE:1: field 'answer': missing; write the answer",
    ]


def test_a_null_answer_is_withheld_only_where_that_is_allowed(tmp_path):
    path = lines(tmp_path, RECORD | {"answer": None})
    assert "field 'answer': missing" in faults_of(path)
    assert read_records(path, withheld=True)[0].answer is None


def test_an_id_that_stands_twice_is_named_with_both_places(tmp_path):
    path = lines(tmp_path, RECORD, "", RECORD | {"question": "How?"})
    assert faults_of(path) == (
        "FILE:3: field 'id': 'a' stands already at FILE:1; give each its own"
    )


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_an_empty_file_is_a_fault(tmp_path, name):
    assert "holds no rows" in faults_of(lines(tmp_path, "", name=name))


def test_an_unknown_field_is_answered_with_the_nearest(tmp_path):
    path = lines(tmp_path, RECORD | {"langauge": "en"})
    assert faults_of(path) == ("FILE:1: field 'langauge': unknown field; did you mean 'language'?")


def test_a_number_that_is_none_is_a_fault(tmp_path):
    path = lines(
        tmp_path, '{"id":"a","kind":"foundation","question":"q","answer":"a","demand":NaN}'
    )
    assert faults_of(path).startswith("FILE:1: field 'demand': nan is not a finite number")


def test_a_file_in_another_encoding_is_told_to_be_saved_as_utf8(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        json.dumps(RECORD | {"question": "水为什么往低处流？"}, ensure_ascii=False).encode(
            "gb18030"
        )
    )
    assert "not UTF-8 (byte 0xcd at byte 56" in faults_of(path)
    path.write_bytes(json.dumps(RECORD).encode("utf-16"))
    assert faults_of(path) == "FILE:1: UTF-16 or UTF-32, not UTF-8; save the file as UTF-8"


def test_a_huge_line_is_refused_and_the_next_one_still_read(tmp_path):
    path = lines(tmp_path, RECORD | {"answer": "x" * MAX_ROW_BYTES}, RECORD | {"kind": "meta"})
    first, second = faults_of(path).splitlines()
    assert first.startswith("FILE:1: longer than 8 MiB")
    assert second.startswith("FILE:2: field 'kind'")


def test_a_json_document_over_several_lines_is_one_fault(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps([RECORD] * 40, indent=1))
    fault = faults_of(path)
    assert fault.count("\n") == 0
    assert "one object on each line" in fault


def test_a_key_that_stands_twice_is_a_fault(tmp_path):
    path = lines(tmp_path, '{"id": "a", "id": "b"}')
    assert "the key 'id' stands twice" in faults_of(path)


def test_twenty_faults_are_shown_and_the_rest_counted(tmp_path):
    path = lines(tmp_path, *[RECORD | {"id": str(n), "kind": "no"} for n in range(50)])
    shown = faults_of(path).splitlines()
    assert len(shown) == 21
    assert shown[-1] == "… and 30 more like these"


def test_a_ranking_of_an_unknown_record_is_a_fault(tmp_path):
    path = lines(tmp_path, RANKING | {"record": "record-2"})
    with pytest.raises(
        DataError, match=r"no record has the id 'record-2'; did you mean 'record-1'"
    ):
        read_rankings(path, records=["record-1"])


def test_a_file_of_rankings_that_fits_no_record_is_one_fault(tmp_path):
    path = lines(tmp_path, RANKING, RANKING | {"id": "s"})
    with pytest.raises(DataError) as caught:
        read_rankings(path, records=["other"])
    assert len(caught.value.faults) == 1
    assert "none of its 2 rankings is of one of the records" in str(caught.value)


def test_a_fault_in_a_candidate_is_told_once(tmp_path):
    wrong = RANKING["candidates"][1] | {"rank": 0}
    path = lines(tmp_path, RANKING | {"candidates": [RANKING["candidates"][0], wrong]})
    assert faults_of(path, read_rankings) == (
        "FILE:1: field 'candidates[1].rank': Input should be greater than or equal to 1 (it is 0)"
    )


def test_a_ranking_that_names_a_candidate_twice_or_only_one_is_a_fault(tmp_path):
    one = RANKING["candidates"][0]
    path = lines(tmp_path, RANKING | {"candidates": [one]}, RANKING | {"candidates": [one, one]})
    first, second = faults_of(path, read_rankings).splitlines()
    assert first == "FILE:1: field 'candidates': needs 2 or more, there is 1"
    assert "candidate ids repeat" in second


def test_one_answer_with_two_ranks_is_a_fault(tmp_path):
    one = RANKING["candidates"][0]
    path = lines(tmp_path, RANKING | {"candidates": [one, one | {"id": "z", "rank": 3}]})
    assert "'x' and 'z' are one answer with ranks 1 and 3" in faults_of(path, read_rankings)


def test_a_test_item_among_training_records_is_a_fault(tmp_path):
    path = lines(tmp_path, RECORD | {"split": "test"})
    assert "field 'split': a test item among training records" in faults_of(path)


def test_records_read_alike_from_json_lines_csv_tsv_and_parquet(tmp_path):
    entry = RECORD | {"tags": ["rain", "cause"], "demand": 3.5, "answer": 'He said, "rain;\nmore"'}
    wanted = [Record.model_validate(entry)]
    csv = tmp_path / "rows.csv"
    csv.write_text(
        "\ufeffid,kind,question,answer,tags,demand,source\r\n"
        'a,foundation,Why?,"He said, ""rain;\nmore""",rain; cause,3.5,\r\n',
        encoding="utf-8",
        newline="",
    )
    parquet = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([entry | {"source": None}]), parquet)
    tsv = tmp_path / "rows.tsv"
    tsv.write_text(csv.read_text(encoding="utf-8").replace("He said, ", "He said; "))
    tsv.write_text(
        "id\tkind\tquestion\tanswer\ttags\tdemand\n"
        'a\tfoundation\tWhy?\t"He said, ""rain;\nmore"""\train; cause\t3.5\n'
    )
    for path in (lines(tmp_path, entry), csv, tsv, parquet):
        assert read_records(path) == wanted, path.suffix


def test_rankings_read_alike_from_json_lines_csv_and_parquet(tmp_path):
    entry = RANKING | {"annotator": "dolma", "id": "a-dolma"}
    wanted = [Ranking.model_validate(entry)]
    csv = lines(
        tmp_path,
        "record,annotator,candidate,answer,rank,note",
        "a,dolma,x,Because of rain.,1,right",
        "a,dolma,y,No reason.,2,",
        name="rankings.csv",
    )
    parquet = tmp_path / "rankings.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([entry]), parquet)
    for path in (lines(tmp_path, entry), csv, parquet):
        assert read_rankings(path) == wanted, path.suffix


def test_a_csv_with_missing_repeated_and_unknown_columns_is_told_so_once(tmp_path):
    path = lines(tmp_path, "id,kind,kind,qestion", "a,foundation,b,c", "b,c,d,e", name="rows.csv")
    assert faults_of(path).splitlines() == [
        "FILE:1: field 'kind': the column stands twice; keep one",
        "FILE:1: field 'qestion': unknown column; did you mean 'question'?",
        "FILE:1: field 'question': the column is missing; add it to the header",
        "FILE:1: field 'answer': the column is missing; add it to the header",
    ]


def test_a_csv_line_with_too_many_cells_or_an_open_quote_is_a_fault(tmp_path):
    path = lines(
        tmp_path,
        "id,kind,question,answer",
        "a,foundation,Why, though?,Because.",
        'b,foundation,Why?,"Because.',
        name="rows.csv",
    )
    first, second = faults_of(path).splitlines()
    assert first.startswith("FILE:2: 5 cells where the header names 4 columns")
    assert second.startswith("FILE:3: not CSV (unexpected end of data)")


def test_a_semicolon_csv_is_told_to_use_commas(tmp_path):
    path = lines(tmp_path, "id;kind;question;answer", "a;b;c;d", name="rows.csv")
    assert faults_of(path) == "FILE:1: one column only; separate the columns with commas"


def test_bytes_that_are_no_parquet_are_a_fault(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    assert "not Parquet that can be read" in faults_of(path)


def test_pages_are_read(tmp_path):
    path = lines(tmp_path, {"id": "p", "text": "<p>snow</p>", "url": "https://example.org/p"})
    assert read_pages(path)[0].url == "https://example.org/p"


def test_the_starter_corpus_is_found_and_a_missing_file_is_named_with_its_neighbour(tmp_path):
    assert {path.name.split(".")[1] for path in source_files(["starter"], "rankings")} == {
        "rankings"
    }
    lines(tmp_path, RECORD, name="records.jsonl")
    with pytest.raises(
        DataError, match=r"recrods.jsonl: no such file.*did you mean 'records.jsonl'"
    ):
        source_files([str(tmp_path / "recrods.jsonl")], "records")
    with pytest.raises(DataError, match=r"'\.docx' is not a format that is read"):
        source_files([str(lines(tmp_path, "x", name="book.docx"))], "records")
    with pytest.raises(DataError, match="is a folder"):
        source_files([str(tmp_path)], "records")


def workbook(path: Path, *sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(f"sheet {number}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_workbook_reads_as_a_table_does_with_numbers_and_dates_as_they_are_shown(tmp_path):
    path = workbook(
        tmp_path / "book.xlsx",
        [
            ["id", "kind", "question", "answer", "demand", "tags", "source", None],
            [7, "foundation", "Why?", "Because.", 3.5, "rain; cause", date(2026, 5, 1), None],
            [None] * 8,
            ["b", "profession", "How?", "So."],
        ],
        [],
    )
    first, second = read_records(path)
    assert (first.id, first.demand, first.tags) == ("7", 3.5, ("rain", "cause"))
    assert first.source == "2026-05-01"
    assert (second.id, second.demand, second.source) == ("b", 1.0, "")


def test_a_workbook_with_two_filled_sheets_or_a_broken_formula_is_a_fault(tmp_path):
    head = ["id", "kind", "question", "answer"]
    two = workbook(tmp_path / "two.xlsx", [head], [["notes"]])
    assert faults_of(two) == (
        "FILE: rows in 2 sheets (sheet 0, sheet 1); save each as a file of its own"
    )
    broken = workbook(
        tmp_path / "broken.xlsx", [head, ["a", "foundation", "q", "#REF!"], ["b", "meta", "q", "a"]]
    )
    first, second = faults_of(broken).splitlines()
    assert first == "FILE:2: a cell holds #REF!; repair its formula"
    assert second.startswith("FILE:3: field 'kind'")


def test_bytes_that_are_no_workbook_are_a_fault(tmp_path):
    path = tmp_path / "rows.xlsx"
    path.write_bytes(b"PK\x03\x04 nothing")
    assert "not XLSX that can be read" in faults_of(path)


def test_rankings_of_a_workbook_take_a_line_for_each_candidate(tmp_path):
    path = workbook(
        tmp_path / "rankings.xlsx",
        [
            ["record", "annotator", "candidate", "answer", "rank", "note"],
            ["a", "dolma", "x", "Because of rain.", 1, "right"],
            ["a", "dolma", "y", "No reason.", 2],
        ],
    )
    (ranking,) = read_rankings(path)
    assert ranking == Ranking.model_validate(RANKING | {"annotator": "dolma", "id": "a-dolma"})


def test_arrow_files_as_datasets_saves_them_read_as_parquet_does(tmp_path):
    table = pyarrow.Table.from_pylist([RECORD, RECORD | {"id": "b"}])
    stream, whole = tmp_path / "stream.arrow", tmp_path / "whole.arrow"
    with pyarrow.ipc.new_stream(stream, table.schema) as out:
        out.write_table(table)
    with pyarrow.ipc.new_file(whole, table.schema) as out:
        out.write_table(table)
    assert [row.id for row in read_records(stream)] == ["a", "b"]
    assert read_records(whole) == read_records(stream)
    stream.write_bytes(stream.read_bytes()[:200])
    assert "not Arrow that can be read" in faults_of(stream)


def test_a_csv_line_that_is_none_does_not_take_the_next_ones_with_it(tmp_path):
    path = lines(
        tmp_path,
        "id,kind,question,answer",
        'a,foundation,"Why" not?,Because.',
        "b,meta,Why?,Because.",
        name="rows.csv",
    )
    first, second = faults_of(path).splitlines()
    assert first.startswith("FILE:2: not CSV (")
    assert second.startswith("FILE:3: field 'kind': 'meta'")


def test_a_long_cell_is_read_whole(tmp_path):
    path = lines(
        tmp_path, "id,kind,question,answer", f"a,foundation,q,{'x' * 300_000}", name="rows.csv"
    )
    assert len(read_records(path)[0].answer or "") == 300_000


def test_a_pattern_names_the_data_files_it_matches(tmp_path):
    for name in ("train-1.jsonl", "train-0.jsonl", "test.jsonl", "train.txt"):
        lines(tmp_path, RECORD, name=name)
    found = source_files([f"{tmp_path}/train-*"], "records")
    assert [path.name for path in found] == ["train-0.jsonl", "train-1.jsonl"]
    with pytest.raises(DataError, match="no such file of records"):
        source_files([f"{tmp_path}/valid-*"], "records")


def test_one_fault_found_by_two_checks_is_told_once(tmp_path):
    path = lines(tmp_path, RECORD, RECORD)
    config = CorpusConfig(records=(str(path),), rankings=(), benchmark=())
    with pytest.raises(DataError) as caught:
        curate(config, root=tmp_path / "run")
    assert caught.value.faults == (
        f"{path}:2: field 'id': 'a' stands already at {path}:1; give each its own",
    )


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("source", "s\ud800", "source"),
        ("tags", ["snow", "\udfff"], "tags[1]"),
        ("question", "\ud800?", "question"),
    ],
)
def test_half_a_character_is_told_with_its_line_and_field(tmp_path, field, value, named):
    path = lines(tmp_path, RECORD, RECORD | {"id": "b", field: value})
    assert faults_of(path).startswith(f"FILE:2: field '{named}': holds half a character")
    faults_of(path).encode()


def test_lines_of_a_table_keep_their_numbers_after_one_that_is_not_utf8(tmp_path):
    path = tmp_path / "rows.csv"
    head, good = b"id,kind,question,answer\n", b"a,foundation,Why?,Because.\n"
    long = b'c,foundation,"Why\nnot?",Because.\n'
    path.write_bytes(
        head + good + b"b,foundation,\xff,So.\n" + long + b"d,meta,Why?,So.\n" + b"e,x\n"
    )
    places = [line.split(": ")[0] for line in faults_of(path).splitlines()]
    assert sorted(places) == ["FILE:3", "FILE:6", "FILE:7"]
