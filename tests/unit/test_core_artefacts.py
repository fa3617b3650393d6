"""An artefact is whole or absent, never made twice, and says so when it is not what is needed."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import drenpa
from drenpa.core import artefacts
from drenpa.core.artefacts import (
    MANIFEST,
    Plan,
    append_line,
    as_input,
    check_files,
    check_sizes,
    code_version,
    file_input,
    finished,
    journal_lines,
    open_artefact,
    point,
    read_rows,
    run_plan,
    write_rows,
    write_text,
)
from drenpa.core.errors import ArtefactError
from drenpa.core.records import Candidate, Page, Ranking, Record, Verdict

SCORES = {"relevance": 2.0, "safety": 2.0, "quality": 1.5, "satisfaction": 1.0, "richness": 0.0}
HOSTILE = (
    '{"a": [1, null]}',
    "null",
    "[1, 2]",
    "3.0",
    '"quoted"',
    "རྨང་གཞིའི་ཤེས་བྱ།\u2028\x85next\x1cline\r\n\ttab\x00nul 🙂",
    "{answer} {{question}} <|im_end|>",
)


def wrote(text: str = "done", calls: list[Path] | None = None):
    """Work that writes one file, and notes that it was called."""

    def work(folder: Path) -> Mapping[str, object]:
        if calls is not None:
            calls.append(folder)
        write_text(folder / "result.txt", text)
        return {"words": len(text.split())}

    return work


def a_plan(root: Path, **changes: object) -> Plan:
    plan = Plan(
        kind="corpus",
        name="corpus",
        root=root,
        config={"seed": 1, "share": 0.5},
        inputs={},
        rooms=("corpus",),
        work=wrote(),
    )
    return replace(plan, **changes)


# the manifest -----------------------------------------------------------------------------------


def test_a_finished_artefact_tells_what_it_is_and_where_it_came_from(tmp_path):
    source = run_plan(a_plan(tmp_path / "in"))
    made = run_plan(
        a_plan(tmp_path, kind="policy", name="sft", inputs={"corpus": as_input(source)})
    )
    assert open_artefact(made.path, "policy") == made
    assert (made.kind, made.name, made.version) == ("policy", "sft", drenpa.__version__)
    assert made.config == {"seed": 1, "share": 0.5}
    assert made.summary == {"words": 1}
    assert made.input_path("corpus") == source.path
    assert made.path == tmp_path / f"sft-{made.key[:10]}"
    assert (made.path / "result.txt").read_text() == "done"


def test_the_manifest_is_written_after_everything_else(tmp_path):
    def work(folder: Path) -> Mapping[str, object]:
        assert not (folder / MANIFEST).exists()
        assert folder.name.endswith(".partial")
        assert not plan.folder.exists()
        return {}

    plan = a_plan(tmp_path, work=work)
    assert run_plan(plan).path == plan.folder
    assert not list(tmp_path.glob("*.partial"))


def test_a_finished_artefact_is_not_made_again(tmp_path):
    calls: list[Path] = []
    first = run_plan(a_plan(tmp_path, work=wrote(calls=calls)))
    before = (first.path / MANIFEST).stat().st_mtime_ns
    again = run_plan(a_plan(tmp_path, work=wrote("other", calls=calls)))
    assert again == first
    assert len(calls) == 1
    assert (first.path / MANIFEST).stat().st_mtime_ns == before


def test_work_that_fails_leaves_no_artefact_and_what_it_had_is_there_the_next_time(tmp_path):
    def broken(folder: Path) -> Mapping[str, object]:
        write_text(folder / "scratch" / "checkpoint", "step 7")
        raise RuntimeError("power cut")

    def resumed(folder: Path) -> Mapping[str, object]:
        return {"resumed": (folder / "scratch" / "checkpoint").read_text()}

    plan = a_plan(tmp_path, work=broken)
    with pytest.raises(RuntimeError, match="power cut"):
        run_plan(plan)
    assert not plan.done
    with pytest.raises(ArtefactError, match="does not exist"):
        open_artefact(plan.folder)
    made = run_plan(a_plan(tmp_path, work=resumed))
    assert made.summary == {"resumed": "step 7"}
    assert not (made.path / "scratch").exists()


def test_a_kill_between_the_work_and_the_new_name_costs_no_work(tmp_path):
    # The worst moment: the manifest stands, `scratch` and the old name are still there.
    plan = a_plan(tmp_path)
    made = run_plan(plan)
    partial = made.path.rename(f"{made.path}.partial")
    write_text(partial / "scratch" / "checkpoint", "step 9")
    calls: list[Path] = []
    again = run_plan(a_plan(tmp_path, work=wrote(calls=calls)))
    assert not calls
    assert again == made
    assert not (again.path / "scratch").exists()
    check_files(again)


def test_what_a_kill_left_half_written_does_not_become_part_of_the_artefact(tmp_path):
    plan = a_plan(tmp_path)
    partial = plan.folder.with_name(plan.folder.name + ".partial")
    for name in ("manifest.json.part", "rows.parquet.part", "model/x.part"):
        write_text(partial / name, "hal")
    made = run_plan(plan)
    check_files(made)
    assert sorted(path.name for path in made.path.rglob("*")) == [
        MANIFEST,
        "model",
        "result.txt",
    ]


def test_kill_9_in_the_middle_of_work_leaves_an_unfinished_folder_and_a_rerun_finishes(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from drenpa.core.artefacts import Plan, append_line, journal_lines, run_plan

        def work(folder):
            journal = folder / "scratch" / "paid.jsonl"
            paid = [line["n"] for line in journal_lines(journal)]
            for n in range(len(paid), 5):
                append_line(journal, {"n": n})
                if n == 2 and sys.argv[2] == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
            (folder / "sum.txt").write_text(str(len(paid)))
            return {"found": len(paid)}

        made = run_plan(Plan("corpus", "c", Path(sys.argv[1]), {}, {}, ("corpus",), work))
        print(made.summary["found"])
        """
    )

    def run(how):
        return subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), how],
            capture_output=True,
            text=True,
            check=False,
        )

    killed = run("kill")
    assert killed.returncode == -signal.SIGKILL
    (unfinished,) = tmp_path.glob("*.partial")
    with pytest.raises(ArtefactError, match="unfinished"):
        open_artefact(unfinished)
    finished = run("on")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "3"  # the three that were paid for are not paid for again
    assert [path.suffix for path in tmp_path.iterdir()] == [""]  # no lock, no partial folder


def test_two_processes_do_not_make_one_artefact_together(tmp_path):
    def work(folder: Path) -> Mapping[str, object]:
        append_line(folder / "journal.jsonl", {"n": 1})
        with pytest.raises(ArtefactError, match=rf"process {os.getpid()} on .* is making it; wait"):
            run_plan(a_plan(tmp_path, work=work))
        return {}

    made = run_plan(a_plan(tmp_path, work=work))
    assert len([*journal_lines(made.path / "journal.jsonl")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == [made.path.name]


def test_work_that_was_finished_on_the_way_to_the_lock_is_not_done_again(tmp_path, monkeypatch):
    calls: list[Path] = []
    plan = a_plan(tmp_path, work=wrote(calls=calls))
    lock = artefacts.fcntl.flock

    def late(file, how):
        monkeypatch.setattr(artefacts.fcntl, "flock", lock)
        run_plan(plan)  # the other one, from the beginning to the end
        lock(file, how)

    monkeypatch.setattr(artefacts.fcntl, "flock", late)
    assert run_plan(plan).digest == open_artefact(plan.folder).digest
    assert len(calls) == 1


def test_a_file_system_without_locks_is_written_on_all_the_same(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(artefacts.fcntl, "flock", none)
    assert run_plan(a_plan(tmp_path)).summary == {"words": 1}


# opening ----------------------------------------------------------------------------------------


def test_an_artefact_of_another_kind_is_refused_by_name(tmp_path):
    made = run_plan(a_plan(tmp_path))
    with pytest.raises(ArtefactError, match=r"is a corpus, but a policy is needed here"):
        open_artefact(made.path, "policy")


def test_a_folder_without_a_manifest_is_no_artefact(tmp_path):
    with pytest.raises(ArtefactError, match="unfinished or no artefact"):
        open_artefact(tmp_path)
    with pytest.raises(ArtefactError, match="does not exist"):
        open_artefact(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"format": 1}', "\udcff", '{"format": 1, "kind": "corpus"}']
)
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / MANIFEST).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ArtefactError, match=r"manifest\.json: not a manifest"):
        open_artefact(tmp_path)


def test_a_manifest_of_another_format_is_refused(tmp_path):
    made = run_plan(a_plan(tmp_path))
    stored = json.loads((made.path / MANIFEST).read_text())
    (made.path / MANIFEST).write_text(json.dumps(stored | {"format": 2}))
    with pytest.raises(ArtefactError, match="format 2; this drenpa reads 1"):
        open_artefact(made.path)


@pytest.mark.parametrize("damage", ["changed", "removed", "added"])
def test_files_that_are_not_the_manifests_are_noticed(tmp_path, damage):
    made = run_plan(a_plan(tmp_path))
    check_files(made)
    if damage == "changed":
        (made.path / "result.txt").write_text("dome")
    elif damage == "removed":
        (made.path / "result.txt").unlink()
    else:
        (made.path / "extra.txt").write_text("")
    told = {
        "changed": r"result\.txt: is not the file that was made; remove the artefact's folder",
        "removed": r"result\.txt: is missing; remove the artefact's folder",
        "added": r"extra\.txt: is no part of the artefact; take it out",
    }
    with pytest.raises(ArtefactError, match=told[damage]):
        check_files(made)
    stored = json.loads((made.path / MANIFEST).read_text())
    stored.pop("files")  # as older manifests are
    (made.path / MANIFEST).write_text(json.dumps(stored))
    with pytest.raises(ArtefactError, match="not those its manifest names"):
        check_files(open_artefact(made.path))


def test_a_file_of_another_size_is_noticed_without_reading_it(tmp_path):
    def work(folder: Path) -> Mapping[str, object]:
        write_text(folder / "model" / "deep" / "weights", "1234")
        write_text(folder / "model2" / "weights", "1234")
        return {}

    made = run_plan(a_plan(tmp_path, work=work))
    check_sizes(made.path / "model")
    (made.path / "model2" / "weights").write_text("12")
    (made.path / "model" / "deep" / "weights").write_text("4321")
    check_sizes(made.path / "model")
    (made.path / "model" / "deep" / "weights").write_text("123")
    with pytest.raises(ArtefactError, match="deep/weights: is not the file that was made; remove"):
        check_sizes(made.path / "model")
    (made.path / MANIFEST).write_text("{}")  # of another program
    check_sizes(made.path / "model")


def test_how_long_the_work_took_is_no_part_of_what_came_of_it(tmp_path):
    def timed(seconds: str):
        def work(folder: Path) -> Mapping[str, object]:
            write_text(folder / "metrics.jsonl", seconds)
            return wrote()(folder)

        return work

    slow = run_plan(a_plan(tmp_path / "a", work=timed("9")))
    quick = run_plan(a_plan(tmp_path / "b", work=timed("1")))
    assert slow.digest == quick.digest


def test_a_run_that_was_moved_finds_its_inputs_beside_it(tmp_path):
    source = run_plan(a_plan(tmp_path / "run"))
    run_plan(
        a_plan(tmp_path / "run", kind="policy", name="sft", inputs={"corpus": as_input(source)})
    )
    (tmp_path / "run").rename(tmp_path / "moved")
    policy = next(a for a in finished(tmp_path / "moved") if a.name == "sft")
    assert policy.input_path("corpus") == tmp_path / "moved" / source.path.name
    with pytest.raises(ArtefactError, match="not made from a 'critic'"):
        policy.input_path("critic")
    (tmp_path / "moved" / source.path.name).rename(tmp_path / "elsewhere")
    with pytest.raises(ArtefactError, match="is gone; put it back"):
        policy.input_path("corpus")


def test_an_input_that_was_made_anew_is_not_the_one_it_was_made_from(tmp_path):
    source = run_plan(a_plan(tmp_path / "run"))
    policy = run_plan(
        a_plan(tmp_path / "run", kind="policy", name="sft", inputs={"corpus": as_input(source)})
    )
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    shutil.rmtree(source.path)
    other = run_plan(a_plan(tmp_path / "run", work=wrote("other bytes")))
    assert other.path == source.path
    with pytest.raises(ArtefactError, match="not the one that this was made from; put that back"):
        policy.input_path("corpus")
    copied = open_artefact(tmp_path / "copy" / policy.path.name)
    assert copied.input_path("corpus") == tmp_path / "copy" / source.path.name


# the key ----------------------------------------------------------------------------------------


def test_the_key_follows_kind_config_inputs_and_code_and_nothing_else(tmp_path):
    plan = a_plan(tmp_path)
    digest = {"path": "/a", "digest": "1"}
    keys = {
        "plain": plan.key,
        "seed": replace(plan, config={"seed": 2, "share": 0.5}).key,
        "kind": replace(plan, kind="memory").key,
        "input": replace(plan, inputs={"corpus": digest}).key,
        "other input": replace(plan, inputs={"corpus": {**digest, "digest": "2"}}).key,
        "other name": replace(plan, inputs={"critic": digest}).key,
        "rooms": replace(plan, rooms=("judge",)).key,
    }
    assert len(set(keys.values())) == len(keys)
    same = replace(plan, config={"share": 0.5, "seed": 1}, root=tmp_path / "x", work=wrote("y"))
    assert same.key == plan.key
    moved = replace(plan, inputs={"corpus": {"path": "/b", "digest": "1"}})
    assert moved.key == keys["input"]


def test_a_new_key_makes_a_new_folder_beside_the_old(tmp_path):
    old = run_plan(a_plan(tmp_path))
    new = run_plan(a_plan(tmp_path, config={"seed": 2}))
    assert old.path != new.path
    assert open_artefact(old.path) == old


def test_code_counts_and_words_about_code_do_not(tmp_path, monkeypatch):
    room = tmp_path / "room"
    (tmp_path / "core").mkdir()
    monkeypatch.setattr(artefacts.resources, "files", lambda name: tmp_path)

    def version(code: str, prompt: str = "Hello") -> str:
        write_text(room / "prompt.md", prompt)
        write_text(room / "step.py", code)
        code_version.cache_clear()
        return code_version(("room",))

    try:
        plain = version("def f(x):\n    return x + 1\n")
        reworded = '"""About."""\n\n\ndef f(x):\n    """Add."""\n    return x + 1  # one\n'
        assert version(reworded) == plain
        assert version("def f(x):\n    return x + 2\n") != plain
        assert version("def f(x):\n    return x + 1\n", prompt="Hallo") != plain
        assert version("def f(x):\n    return x + 1\n") == plain
        for stray in ("__pycache__/step.pyc", ".DS_Store", ".step.py.swp", "step.py~"):
            write_text(room / stray, "noise")
        assert version("def f(x):\n    return x + 1\n") == plain
    finally:
        code_version.cache_clear()


def test_a_users_folder_is_known_by_every_file_in_it(tmp_path):
    # `samples.jsonl` and the like are left out of an artefact's digest, never out of a user's.
    write_text(tmp_path / "samples.jsonl", "one")
    before = file_input(tmp_path)
    write_text(tmp_path / "samples.jsonl", "two")
    assert file_input(tmp_path)["digest"] != before["digest"]
    file = file_input(tmp_path / "samples.jsonl")
    write_text(tmp_path / "samples.jsonl", "three")
    assert file_input(tmp_path / "samples.jsonl")["digest"] != file["digest"]


# no place to write ------------------------------------------------------------------------------


def test_a_root_that_is_a_file_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(ArtefactError, match=r"runs.*cannot be written.*--set out=FOLDER"):
        run_plan(a_plan(tmp_path / "runs" / "demo"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error_with_a_remedy(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ArtefactError, match=r"cannot be written \(Permission denied\)"):
            run_plan(a_plan(tmp_path / "runs"))
    finally:
        tmp_path.chmod(0o700)


needs_dev_full = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="no /dev/full to stand for a full disk"
)


@needs_dev_full
@pytest.mark.parametrize("name", ["rows.parquet", "notes.txt", "paid.jsonl"])
def test_a_full_disk_during_the_work_is_an_error_that_keeps_what_was_done(tmp_path, name):
    # The kernel itself answers "no space left" to every write to /dev/full.
    def work(folder: Path) -> Mapping[str, object]:
        write_text(folder / "early.txt", "kept")
        if name == "rows.parquet":
            (folder / "rows.parquet.part").symlink_to("/dev/full")
            write_rows(folder / name, [Page(id="a", text="x")])
        elif name == "notes.txt":
            (folder / "notes.txt.part").symlink_to("/dev/full")
            write_text(folder / name, "x")
        else:
            (folder / name).symlink_to("/dev/full")
            append_line(folder / name, {"a": 1})
        return {}

    plan = a_plan(tmp_path, work=work)
    with pytest.raises(ArtefactError, match=r"cannot be written \(.*[Nn]o space left on device"):
        run_plan(plan)
    assert not plan.done
    partial = plan.folder.with_name(plan.folder.name + ".partial")
    assert (partial / "early.txt").read_text() == "kept"


def test_a_disk_that_refuses_the_manifest_costs_no_checkpoint(tmp_path):
    # The kernel refuses to let this process's files grow past 4 kB, and the manifest needs more.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def work(folder: Path) -> Mapping[str, object]:
        write_text(folder / "scratch" / "checkpoint", "step 7")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        return {"told": "much " * 4096}

    plan = a_plan(tmp_path, work=work)
    try:
        with pytest.raises(ArtefactError, match=r"cannot be written \(File too large\)"):
            run_plan(plan)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not plan.done
    partial = plan.folder.with_name(plan.folder.name + ".partial")
    assert (partial / "scratch" / "checkpoint").read_text() == "step 7"
    check_files(run_plan(a_plan(tmp_path)))


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(111, "refused"), FileNotFoundError(2, "gone", "in.jsonl")]
)
def test_an_error_that_is_not_about_writing_is_not_told_as_one(tmp_path, error):
    def work(folder: Path) -> Mapping[str, object]:
        raise error

    with pytest.raises(type(error)) as caught:
        run_plan(a_plan(tmp_path, work=work))
    assert caught.value is error


# rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_text_that_looks_like_json_comes_back_as_the_same_text(tmp_path, text):
    rows = [
        Verdict(
            item="a",
            kind="foundation",
            cluster=text,
            strategy="sft",
            model="m",
            seed=1,
            sample=0,
            question="q",
            model_answer=text,
            judge="offline",
            scores=SCORES,
            thoughts=text,
        )
    ]
    write_rows(tmp_path / "v.parquet", rows)
    assert read_rows(tmp_path / "v.parquet", Verdict) == rows


def test_nested_and_missing_values_come_back_as_they_were(tmp_path):
    records = [
        Record(id="a", kind="profession", question="Q?", answer=None, tags=("x", "y")),
        Record(id="b", kind="connection", question="Q!", answer='{"a": 1}', demand=0.1 + 0.2),
    ]
    write_rows(tmp_path / "r.parquet", records)
    assert read_rows(tmp_path / "r.parquet", Record) == records
    rankings = [
        Ranking(
            id="r",
            record="a",
            candidates=(
                Candidate(id="1", answer="yes", rank=1, note="[]"),
                Candidate(id="2", answer="no", rank=1),
                Candidate(id="3", answer="null", rank=3),
            ),
        )
    ]
    write_rows(tmp_path / "k.parquet", rankings)
    assert read_rows(tmp_path / "k.parquet", Ranking) == rankings


def test_rows_whose_lists_are_all_empty_or_whose_answers_are_all_missing_come_back(tmp_path):
    rows = [Record(id=str(n), kind="foundation", question="Q?") for n in range(3)]
    write_rows(tmp_path / "r.parquet", rows)
    assert read_rows(tmp_path / "r.parquet", Record) == rows


def test_verdicts_that_miss_different_scores_keep_them_missing(tmp_path):
    common = {
        "kind": "foundation",
        "cluster": "c",
        "strategy": "s",
        "model": "m",
        "seed": 0,
        "sample": 0,
        "question": "q",
        "model_answer": "",
        "judge": "j",
    }
    rows = [
        Verdict(item="a", scores=SCORES, **common),
        Verdict(item="b", scores={"safety": 0.0}, unscored="no JSON", **common),
        Verdict(item="c", scores={}, unscored="timeout", **common),
    ]
    write_rows(tmp_path / "v.parquet", rows)
    assert read_rows(tmp_path / "v.parquet", Verdict) == rows


def test_no_rows_are_rows_too(tmp_path):
    write_rows(tmp_path / "none.parquet", [])
    assert read_rows(tmp_path / "none.parquet", Verdict) == []


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ArtefactError, match=r"rows\.parquet: missing"):
        read_rows(tmp_path / "rows.parquet", Record)


def test_rows_of_another_sort_are_refused(tmp_path):
    write_rows(tmp_path / "p.parquet", [Page(id="a", text="x")])
    with pytest.raises(ArtefactError, match="does not hold Record rows"):
        read_rows(tmp_path / "p.parquet", Record)
    with pytest.raises(ArtefactError, match="does not hold Verdict rows"):
        read_rows(tmp_path / "p.parquet", Verdict)


def test_a_damaged_table_is_named_wherever_it_is_damaged(tmp_path):
    rows = [Page(id=str(n), text=f"text {n} " * 20) for n in range(200)]
    file = tmp_path / "p.parquet"
    write_rows(file, rows)
    whole = file.read_bytes()
    damaged = [b"", b"PAR1", whole[: len(whole) // 2], whole[:-1], b"x" * len(whole)]
    damaged += [whole[:4] + b"\xff" * 400 + whole[404:]]
    for data in damaged:
        file.write_bytes(data)
        with pytest.raises(ArtefactError, match=r"p\.parquet: does not hold Page rows"):
            read_rows(file, Page)


def test_a_write_that_fails_leaves_the_old_rows(tmp_path):
    file = tmp_path / "p.parquet"
    write_rows(file, [Page(id="old", text="x")])
    (tmp_path / "p.parquet.part").mkdir()
    with pytest.raises(OSError, match=r"p\.parquet\.part"):
        write_rows(file, [Page(id="new", text="x")])
    assert read_rows(file, Page) == [Page(id="old", text="x")]


# the journal ------------------------------------------------------------------------------------


def test_a_journal_gives_back_every_line_in_order_whatever_the_text(tmp_path):
    file = tmp_path / "deep" / "paid.jsonl"
    assert list(journal_lines(file)) == []
    for text in HOSTILE:
        append_line(file, {"text": text})
    assert [line["text"] for line in journal_lines(file)] == list(HOSTILE)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_a_kill_cut_short_costs_itself_and_no_other(tmp_path, cut):
    # Cut anywhere, also in the middle of a Tibetan letter's three bytes.
    file = tmp_path / "paid.jsonl"
    append_line(file, {"n": 1})
    append_line(file, {"t": "དྲན"})
    file.write_bytes(file.read_bytes()[:-cut])
    whole = cut == 1  # only the line's end is missing
    assert list(journal_lines(file)) == [{"n": 1}] + [{"t": "དྲན"}] * whole
    append_line(file, {"n": 3})
    assert list(journal_lines(file)) == [{"n": 1}] + [{"t": "དྲན"}] * whole + [{"n": 3}]


# names of runs ----------------------------------------------------------------------------------


def test_the_finished_artefacts_of_a_run_stand_oldest_first_without_unfinished_ones(tmp_path):
    assert finished(tmp_path) == []
    first = run_plan(a_plan(tmp_path))
    newer = run_plan(a_plan(tmp_path, config={"seed": 2}))
    unfinished = a_plan(tmp_path, config={"seed": 4})
    (tmp_path / f"{unfinished.folder.name}.partial").mkdir()
    stored = json.loads((first.path / MANIFEST).read_text())
    (first.path / MANIFEST).write_text(json.dumps(stored | {"created": "9999"}))
    assert [artefact.path for artefact in finished(tmp_path)] == [newer.path, first.path]
    point(tmp_path / "report", first.path)
    assert len(finished(tmp_path)) == 2


def test_a_pointer_is_moved_and_survives_a_move_of_the_whole_run(tmp_path):
    run = tmp_path / "run"
    old, new = run / "sft-1", run / "sft-2"
    for folder in (old, new):
        folder.mkdir(parents=True)
    point(run / "sft", old)
    point(run / "sft", new)
    assert (run / "sft").resolve() == new
    run.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "sft").resolve() == tmp_path / "moved" / "sft-2"
