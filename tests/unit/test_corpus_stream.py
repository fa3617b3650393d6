"""Files of any size: results come in order, and near-duplicates are those found in memory."""

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from tests.environments import own_environment
from typer.testing import CliRunner

from drenpa.cli import app
from drenpa.core.errors import DataError
from drenpa.corpus.clean_pages import Cleaning, clean_into
from drenpa.corpus.deduplicate import similar_groups, similarity
from drenpa.corpus.stream import deduplicate_files, mapped

ROOT = Path(__file__).parents[2]


def doubled(numbers):
    return [2 * number for number in numbers]


def rows_of(count=300, seed=5):
    """Rows of made-up words; each tenth copies the one before, every other time with a change."""
    draw = random.Random(seed)
    known = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(500)]
    rows = []
    for number in range(count):
        words = draw.choices(known, k=40)
        if number % 10 == 9:
            words = rows[-1]["text"].split()
            if number % 20 == 9:
                words[draw.randrange(40)] = "changed"
        rows.append({"id": f"p{draw.randrange(10**9):09}", "text": " ".join(words)})
    return rows


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_input(workers):
    parts = list(mapped(doubled, range(100), batch=7, workers=workers))
    assert [number for part in parts for number in part] == list(range(0, 200, 2))
    assert [len(part) for part in parts] == [7] * 14 + [2]


@pytest.mark.parametrize(("workers", "most"), [(1, 10), (2, 60)])
def test_only_a_few_batches_are_under_way(workers, most):
    taken = 0

    def items():
        nonlocal taken
        while taken < 1000:
            taken += 1
            yield taken

    results = mapped(doubled, items(), batch=10, workers=workers)
    next(results)
    assert taken <= most
    results.close()


def test_what_is_found_in_files_is_what_is_found_in_memory(tmp_path):
    rows = rows_of()
    texts = [row["text"] for row in rows]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    found = deduplicate_files([path], tmp_path / "out", workers=1)
    groups = similar_groups(texts)
    assert len(groups) == 30
    clusters = read_rows(tmp_path / "out" / "clusters.jsonl")
    ids = {frozenset((c["kept"], *(copy["id"] for copy in c["copies"]))) for c in clusters}
    assert ids == {frozenset(rows[place]["id"] for place in group) for group in groups}
    assert (found.rows, found.kept, found.exact, found.near, found.clusters) == (
        300,
        270,
        15,
        15,
        30,
    )


def test_a_cluster_says_where_each_copy_stands_and_how_near_it_is(tmp_path):
    text = "the yak carries loads over the high pass in winter and in summer alike"
    first = write_rows(tmp_path / "a.jsonl", [{"id": "b", "text": text}])
    second = write_rows(
        tmp_path / "b.jsonl",
        [{"id": "x", "question": "Why?", "answer": "No."}, {"id": "a", "text": f"{text} too"}],
    )
    deduplicate_files([first, second], tmp_path / "out", workers=1)
    (cluster,) = read_rows(tmp_path / "out" / "clusters.jsonl")
    assert cluster["kept"] == "a"
    assert cluster["copies"] == [
        {
            "id": "b",
            "file": str(first),
            "line": 1,
            "similarity": round(similarity(text, f"{text} too"), 3),
        }
    ]
    assert [row["id"] for row in read_rows(tmp_path / "out" / "rows.jsonl")] == ["x", "a"]


def test_rows_stay_byte_for_byte_and_lines_that_are_none_are_told(tmp_path):
    lines = [
        b'{"id": 1,  "text": "rain"}',
        b"{broken",
        b'["x"]',
        b'{"id": 2, "text": "\xe0\xbd\x80"}',
    ]
    lines += [
        b'{"id": 3}',
        b'{"text": "no id"}',
        b'{"id": 4, "text": 7}',
        b'{"id": 5, "text": "hail"}',
    ]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\r\n".join(lines))
    found = deduplicate_files([path], tmp_path / "out", workers=1)
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == b"\n".join(
        [lines[0], lines[3], lines[7], b""]
    )
    assert found.rows + len(found.faults) == len(lines)
    assert [fault.rpartition(":")[0].rpartition(":")[2] for fault in found.faults] == list("23567")
    assert (tmp_path / "out" / "faults.txt").read_text().splitlines() == list(found.faults)


def test_the_order_of_rows_and_files_changes_nothing(tmp_path):
    rows = rows_of(120)
    kept = []
    for number, draw in enumerate((None, random.Random(1), random.Random(2))):
        mixed = draw.sample(rows, len(rows)) if draw else rows
        cut = draw.randrange(len(rows)) if draw else 60
        paths = [
            write_rows(tmp_path / f"{number}-a.jsonl", mixed[:cut]),
            write_rows(tmp_path / f"{number}-b.jsonl", mixed[cut:]),
        ]
        deduplicate_files(paths, tmp_path / f"out-{number}", workers=1)
        kept.append({row["id"] for row in read_rows(tmp_path / f"out-{number}" / "rows.jsonl")})
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == 108


def test_two_workers_leave_the_same_bytes_as_one(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", rows_of(2500))
    for workers in (1, 2):
        deduplicate_files([path], tmp_path / str(workers), workers=workers)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == ["clusters.jsonl", "faults.txt", "rows.jsonl"]
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_nothing_is_overwritten_and_nothing_read_is_an_error(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", rows_of(3))
    with pytest.raises(DataError, match="is there already"):
        deduplicate_files([path], tmp_path)
    with pytest.raises(DataError, match=r"none.jsonl: no such file"):
        deduplicate_files([tmp_path / "none.jsonl"], tmp_path / "out")
    path.write_text("{}\n")
    with pytest.raises(DataError, match="no row could be read"):
        deduplicate_files([path], tmp_path / "out")


def test_deduplicate_is_a_command(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", rows_of(40))
    done = CliRunner().invoke(
        app, ["deduplicate", str(path), f"--out={tmp_path / 'out'}", "--workers=1"]
    )
    assert done.exit_code == 0, done.output
    assert "40 rows: 36 kept, 2 exact and 2 near copies in 4 groups, 0 lines" in done.output
    assert len(read_rows(tmp_path / "out" / "rows.jsonl")) == 36


RAY = """
import sys
from pathlib import Path
import ray
from drenpa.corpus.clean_pages import Cleaning, clean_into
from drenpa.corpus.stream import deduplicate_files
rows, out = Path(sys.argv[1]), Path(sys.argv[2])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
clean_into([str(rows)], out / "clean", Cleaning(), workers=2, engine="ray")
pages = out / "clean" / "pages.jsonl"
print(deduplicate_files([pages], out / "unique", workers=2, engine="ray"))
"""


@pytest.mark.slow
def test_a_local_ray_leaves_the_same_bytes(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", rows_of(2500))
    local, there = tmp_path / "local", tmp_path / "ray"
    clean_into([str(rows)], local / "clean", Cleaning(), workers=1)
    ours = deduplicate_files([local / "clean" / "pages.jsonl"], local / "unique", workers=1)
    assert (ours.rows, ours.kept) == (2500, 2250)
    python = own_environment("ray", "ray>=2.40", "pydantic", "pyyaml", "numpy", "pyarrow")
    done = subprocess.run(
        [python, "-c", RAY, str(rows), str(there)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "300",  # of a machine that has much else to do
            "HOME": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(ours)
    left = sorted(path.relative_to(local) for path in local.rglob("*") if path.is_file())
    assert len(left) == 9
    for name in left:
        mine, theirs = (place / name for place in (local, there))
        assert mine.read_bytes() == theirs.read_bytes().replace(bytes(there), bytes(local)), name


def test_without_ray_the_flag_names_the_extra():
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(DataError, match=r"pip install 'drenpa\[ray\]'"):
            next(mapped(doubled, [1], engine="ray"))
    else:
        pytest.skip("ray is installed")
