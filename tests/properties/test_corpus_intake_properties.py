"""No bytes crash the readers: they give rows, or faults that name the file."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from drenpa.core.errors import DataError
from drenpa.core.records import Record
from drenpa.corpus.intake import read_pages, read_rankings, read_records

READERS = (read_records, read_rankings, read_pages)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
field_names = st.sampled_from(
    ["id", "kind", "question", "answer", "tags", "demand", "candidates", "record", "text", "rank"]
)


def rows_or_message(read: Callable[[Path], list[Any]], path: Path) -> tuple[list[Any], str]:
    try:
        return read(path), ""
    except DataError as error:
        return [], str(error)


def read_or_fault(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(content)
        for read in READERS:
            rows, message = rows_or_message(read, path)
            assert bool(rows) != bool(message)
            assert all(line.startswith((str(path), "…")) for line in message.split("\n") if message)
            message.encode("utf-8")  # what cannot be encoded cannot be printed


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=400),
    st.sampled_from([".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".xlsx"]),
)
def test_arbitrary_bytes_never_crash_the_readers(content, suffix):
    read_or_fault(content, suffix)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(field_names | st.text(max_size=5), json_values), max_size=3))
def test_arbitrary_json_objects_never_crash_the_readers(entries):
    read_or_fault("\n".join(json.dumps(entry) for entry in entries).encode(), ".jsonl")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(field_names | st.text(max_size=8), max_size=5), max_size=5))
def test_arbitrary_tables_never_crash_the_readers(table):
    text = "\n".join(",".join(row) for row in table)
    read_or_fault(text.encode("utf-8", "surrogatepass"), ".csv")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_parquet_file_with_one_byte_changed_never_crashes_the_readers(place, value):
    content = bytearray(_parquet())
    content[place % len(content)] = value
    read_or_fault(bytes(content), ".parquet")


def _parquet() -> bytes:
    import io

    import pyarrow
    import pyarrow.parquet

    row = {"id": "a", "kind": "foundation", "question": "q", "answer": "b", "tags": ["x"]}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row] * 3), sink, compression="none")
    return sink.getvalue()


printable = st.text(min_size=1).filter(
    lambda text: text.strip() and not any(0xD800 <= ord(sign) <= 0xDFFF for sign in text)
)


@settings(deadline=None)
@given(st.lists(st.tuples(printable, printable), min_size=1, max_size=4), st.randoms())
def test_what_is_written_as_json_lines_is_read_back(pairs, random):
    records = [
        Record(id=str(number), kind="foundation", question=question, answer=answer)
        for number, (question, answer) in enumerate(pairs)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes("\r\n".join(record.model_dump_json() for record in records).encode())
        assert read_records(path) == records
