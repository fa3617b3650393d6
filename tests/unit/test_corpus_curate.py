"""Curating: what is not kept is counted under its reason; test and train stay apart."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from drenpa.cli import app
from drenpa.config import CorpusConfig
from drenpa.core.errors import DataError
from drenpa.core.records import Ranking, Record
from drenpa.corpus.curate import curate

TOPICS = ["snow", "rain", "wind", "hail", "mist", "frost", "cloud", "storm", "river", "lake"]


def record(name, question, answer, **more):
    return {"id": name, "kind": "foundation", "question": question, "answer": answer} | more


def weather(count=8, kind="foundation"):
    """Records on unlike topics, each from a source of its own."""
    return [
        record(
            f"{kind}-{topic}",
            f"What does {topic} tell of {kind}?",
            f"{topic.capitalize()} makes the {topic} road {kind} slow, so {topic} is a warning.",
            kind=kind,
            source=f"{kind}/{topic}",
        )
        for topic in TOPICS[:count]
    ]


def ranking(name, of, *answers):
    candidates = [
        {"id": str(rank), "answer": answer, "rank": rank} for rank, answer in enumerate(answers, 1)
    ]
    return {"id": name, "record": of, "candidates": candidates}


@pytest.fixture
def make(tmp_path):
    """Curate the given rows and return (records, rankings, benchmark, dropped, summary)."""

    def made(records, rankings=(), benchmark=(), *, seed=1, **config):
        names = {}
        for role, rows in (
            ("records", records),
            ("rankings", rankings),
            ("benchmark", benchmark),
        ):
            names[role] = ()
            if rows:
                path = tmp_path / f"{role}.jsonl"
                path.write_text("\n".join(json.dumps(row) for row in rows))
                names[role] = (str(path),)
        corpus = curate(CorpusConfig(**names, **config), root=tmp_path / "runs", seed=seed)
        dropped = [
            json.loads(line) for line in (corpus.path / "dropped.jsonl").read_text().splitlines()
        ]
        return (
            corpus.rows("records", Record),
            corpus.rows("rankings", Ranking),
            corpus.rows("benchmark", Record),
            {(entry["from"], entry["id"]): entry["reason"] for entry in dropped},
            corpus.summary,
        )

    return made


@pytest.fixture
def rounds(tmp_path):
    """Curate rows in a round that follows others; without a benchmark file a fifth is drawn."""

    def made(name, rows, *past, benchmark=(), **config):
        places = {}
        for role, lines in (("records", rows), ("benchmark", benchmark)):
            path = tmp_path / f"{name}-{role}.jsonl"
            path.write_text("\n".join(json.dumps(row) for row in lines))
            places[role] = (str(path),) if lines else ()
        chosen = CorpusConfig(**places, rankings=(), **config)
        return curate(chosen, root=tmp_path / name, past=past)

    return made


def ids(corpus, part):
    return {row.id for row in corpus.rows(part, Record)}


def test_what_was_trained_in_one_round_is_not_drawn_as_a_test_in_the_next(rounds):
    first = rounds("first", weather(10))
    learned = min(ids(first, "records"))
    again = [{**row, "id": "renamed"} if row["id"] == learned else row for row in weather(10)]
    second = rounds("second", [*again, *weather(10, "profession")], first, test=0.5)
    tested = ids(second, "benchmark")
    assert not tested & {*ids(first, "records"), "renamed"}
    assert len(tested) == 10
    third = rounds("third", [*again, *weather(10, "profession")], second, first, test=1.0)
    assert ids(third, "benchmark") <= ids(second, "benchmark")


def test_an_unchanged_world_is_tested_on_what_it_was_tested_on(rounds):
    first = rounds("first", weather(10))
    second = rounds("second", weather(10), first)
    assert ids(second, "benchmark") == ids(first, "benchmark")
    assert second.key != first.key


def test_where_all_was_trained_nothing_is_drawn(rounds):
    first = rounds("first", weather(8), benchmark=[ITEM])
    with pytest.raises(DataError, match=r"corpus\.test: all 8 records stood in the training"):
        rounds("second", weather(8), first)


def test_a_benchmark_that_an_earlier_round_was_trained_on_is_refused(rounds):
    item = {**weather(1)[0], "id": "t-snow"}
    first = rounds("first", weather(8), benchmark=[ITEM])
    assert rounds("alone", weather(8), benchmark=[ITEM, item]).summary["leakage"]["leaking"] == 0
    with pytest.raises(DataError, match=r"corpus\.max_leakage: 1 of 2 benchmark items") as told:
        rounds("second", weather(8), first, benchmark=[ITEM, item])
    assert "t-snow and foundation-snow (past 1): nearly the same text" in str(told.value)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


ITEM = record("t1", "Which animal carries loads over the pass?", "The yak carries them.")


def test_the_starter_corpus_passes_whole_and_leaks_nothing(tmp_path):
    corpus = curate(CorpusConfig(), root=tmp_path)
    summary = corpus.summary
    assert summary["dropped"] == {}
    assert summary["leakage"]["leaking"] == summary["leakage"]["formula_only"] == 0
    assert summary["warnings"] == []
    for kind in ("foundation", "profession", "metacognition", "connection"):
        assert summary["records"]["kind"][kind] >= 40
        assert summary["benchmark"]["kind"][kind] >= 30
        questions = sum(summary["rankings"][split]["kind"][kind] for split in ("train", "held_out"))
        assert questions >= 30
    assert set(summary["records"]["language"]) == {"en", "zh", "bo"}


def test_only_the_languages_asked_for_are_kept_and_the_others_counted(tmp_path):
    corpus = curate(CorpusConfig(languages=("bo",)), root=tmp_path)
    assert set(corpus.summary["records"]["language"]) == {"bo"}
    assert corpus.summary["dropped"]["records: language"] >= 160
    assert {r.language for r in corpus.rows("benchmark", Record)} == {"bo"}


def test_rows_and_drops_add_up(make):
    records = [*weather(), record("twin", *list(weather()[0].values())[2:4])]
    kept, _, _, dropped, _ = make(records, benchmark=[ITEM])
    assert len(kept) + len(dropped) == len(records)
    assert dropped == {("records", "twin"): "duplicate"}


def test_the_ranking_of_a_duplicate_moves_to_the_record_that_stays(make):
    records = [*weather(), record("twin", *list(weather()[0].values())[2:4])]
    _, rankings, _, dropped, _ = make(
        records, [ranking("r", "twin", "a good one", "a bad one")], [ITEM]
    )
    assert rankings[0].record == "foundation-snow"
    assert ("rankings", "r") not in dropped


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("which animal carries LOADS over the pass", "A truck may do so as well these days."),
        ("Who is strong?", "the yak carries them"),
    ],
)
def test_what_nearly_stands_in_the_benchmark_is_not_trained_on(make, question, answer):
    records = [*weather(), record("leak", question, answer)]
    kept, rankings, benchmark, dropped, _ = make(
        records, [ranking("r", "leak", "one", "two")], [ITEM]
    )
    assert "leak" not in {row.id for row in kept}
    assert [item.id for item in benchmark] == ["t1"]
    assert rankings == []
    assert dropped == {("records", "leak"): "benchmark", ("rankings", "r"): "record"}


def test_a_candidate_that_gives_a_benchmark_answer_away_is_taken_out_of_its_ranking(make):
    answers = ["Snow slows the road.", "The yak carries them!", "Snow is warm."]
    rankings = [
        ranking("three", "foundation-snow", *answers),
        ranking("two", "foundation-rain", *answers[1:]),
    ]
    _, kept, _, dropped, _ = make(weather(), rankings, [ITEM])
    assert [[c.rank for c in row.candidates] for row in kept] == [[1, 3]]
    assert dropped == {("rankings", "three/2"): "benchmark", ("rankings", "two"): "benchmark"}


SONG = "one two three four five six seven eight"
SINGING = record("r", "Can you count?", f"{SONG}, and so on up to a hundred.")
SUNG = record("t", "Which are the first numbers of the song that children sing?", f"{SONG} up.")


def test_a_run_of_eight_words_shared_with_the_benchmark_is_reported(make):
    *_, summary = make([*weather(), SINGING], benchmark=[SUNG], max_leakage=1.0)
    leak = {"test": "t", "train": "r", "way": "run", "text": SONG}
    told = summary["leakage"]
    assert (told["benchmark_items"], told["leaking"], told["run"]) == (1, 1, 1)
    assert told["examples"] == [leak]
    assert "1 of 1 benchmark items stand in training in some way" in summary["warnings"][-1]


def test_a_corpus_that_leaks_more_than_it_may_is_refused_and_says_where(make, tmp_path):
    with pytest.raises(DataError) as caught:
        make([*weather(), SINGING], benchmark=[SUNG, ITEM], max_leakage=0.4)
    first, leak, place = caught.value.faults
    assert "corpus.max_leakage: 1 of 2 benchmark items (50%)" in first
    assert leak == f"t and r: a shared run: {SONG}"
    (written,) = (tmp_path / "runs").rglob("leakage.jsonl")
    assert place.endswith(str(written))
    assert json.loads(written.read_text())["train"] == "r"
    make([*weather(), SINGING], benchmark=[SUNG, ITEM], max_leakage=0.5)


def test_a_record_that_quotes_a_benchmark_answer_is_not_trained_on(make):
    quoting = record("q", "What do they say?", "People say that the yak carries them; mules, less.")
    noted = ranking("r", "foundation-snow", "Snow slows the road.", "Snow is warm.")
    noted["candidates"][1]["note"] = "Write that the yak carries them."
    _, rankings, _, dropped, summary = make([*weather(), quoting], [noted], [ITEM])
    assert dropped == {("records", "q"): "benchmark", ("rankings", "r"): "benchmark"}
    assert rankings == []
    assert summary["leakage"]["leaking"] == 0


def test_clusters_and_components_are_written_down(tmp_path):
    rows = weather()
    twin = {**rows[0], "id": "twin", "source": ""}
    same = [{**row, "source": "one book"} if row["id"].endswith("wind") else row for row in rows]
    other = record("other", "Which pass is the highest?", "Nobody knows.", source="one book")
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [*same, twin, other]))
    config = CorpusConfig(records=(str(path),), rankings=(), benchmark=(), test=0.3)
    corpus = curate(config, root=tmp_path / "runs")
    (cluster,) = read_lines(corpus.path / "clusters.jsonl")
    assert cluster["kept"] == "foundation-snow"
    assert [(copy["id"], copy["similarity"]) for copy in cluster["copies"]] == [("twin", 1.0)]
    groups = read_lines(corpus.path / "components.jsonl")
    assert groups[0]["members"] == ["foundation-wind", "other"]
    assert groups[0]["ties"] == [{"first": "foundation-wind", "second": "other", "why": "source"}]
    test = {row.id for row in corpus.rows("benchmark", Record)}
    for group in groups:
        inside = set(group["members"])
        assert inside <= test if group["split"] == "test" else inside.isdisjoint(test)


def test_texts_are_cleaned_and_what_is_empty_after_it_is_dropped(make):
    records = [*weather(), record("z", "\u200b \ufeff", "x"), record("y", "Why\u00a0 not?", "ཡིན་།")]
    kept, _, _, dropped, summary = make(records, benchmark=[ITEM])
    assert dropped == {("records", "z"): "empty"}
    clean = next(row for row in kept if row.id == "y")
    assert (clean.question, clean.answer) == ("Why not?", "ཡིན།")
    assert summary["cleaned"] == 1


def test_a_record_not_written_in_its_language_is_dropped(make):
    records = [*weather(), record("b", "What is this?", "An English answer.", language="bo")]
    _, _, _, dropped, _ = make(records, benchmark=[ITEM])
    assert dropped == {("records", "b"): "script"}


def test_without_a_benchmark_file_whole_sources_are_set_apart_by_kind(make):
    records = [row for kind in ("foundation", "connection") for row in weather(10, kind)]
    rankings = [ranking(row["id"], row["id"], "good", "bad") for row in records]
    kept, left, benchmark, dropped, summary = make(records, rankings, test=0.3)
    assert {r.source for r in kept}.isdisjoint({t.source for t in benchmark})
    assert summary["benchmark"]["kind"] == {"connection": 3, "foundation": 3}
    assert {row.split for row in benchmark} == {"test"}
    assert len(kept) + len(benchmark) == 20
    assert {row.record for row in left} == {row.id for row in kept}
    assert set(dropped.values()) == {"test"}


@pytest.mark.parametrize("how", ["answer", "note"])
def test_a_candidate_that_gives_an_item_of_a_drawn_test_away_is_taken_out(make, how):
    rows = weather(10)
    _, _, test, *_ = make(rows, test=0.3)
    told = {row.id: row.answer for row in test}
    kept = next(row["id"] for row in rows if row["id"] not in told)
    ranked = ranking("r", kept, "So it is.", "It is not so.", "Off the topic of the question.")
    ranked["candidates"][2][how] = next(iter(told.values()))
    _, rankings, again, dropped, summary = make(rows, [ranked], test=0.3, held_out=0)
    assert {row.id for row in again} == set(told)  # the same items are drawn
    assert [c.id for c in rankings[0].candidates] == ["1", "2"]
    assert dropped == {("rankings", "r/3"): "benchmark"}
    assert summary["leakage"]["leaking"] == 0


LANGUAGES = ("en", "fr", "de", "es")


def test_a_small_corpus_in_several_languages_is_split_though_no_language_could_give_its_share(make):
    # 4 languages of 2 records: a fifth of 2 is nearer to none, a fifth of all 8 is nearer to 2.
    records = [row | {"language": LANGUAGES[place // 2]} for place, row in enumerate(weather(8))]
    rankings = [ranking(row["id"], row["id"], "good", "bad") for row in records]
    kept, left, test, _, summary = make(records, rankings, test=0.2, held_out=0.2)
    assert (len(kept), len(test)) == (6, 2)
    assert len({item.language for item in test}) == 2
    assert [row.split for row in left].count("held_out") == 1
    assert not any("held out" in warning for warning in summary["warnings"])


def test_two_records_are_one_to_train_on_and_one_to_test(make):
    kept, _, test, _, _ = make(weather(2), test=0.1)
    assert (len(kept), len(test)) == (1, 1)
    with pytest.raises(DataError, match=r"of the 1 records .*, since there is only one; name more"):
        make(weather(1), test=0.1)


def test_two_lumps_that_are_too_large_to_set_apart_say_so(make):
    records = [row | {"source": f"s{place // 4}"} for place, row in enumerate(weather(8))]
    with pytest.raises(DataError, match=r"in 2 group.*the smallest of 4 \(ties: 6 by source\)"):
        make(records, test=0.2)


@pytest.mark.parametrize(
    ("questions", "held_out", "why"),
    [
        (["What is rain?"], 0.25, "there is only one; rank more questions"),
        (["What is rain?", "Why do bees dance?"], 0, "set corpus.held_out above 0"),
        (
            ["What is rain now?", "what is rain now"],
            0.2,
            "the 2 questions are nearly equal, in 1 group(s)",
        ),
    ],
)
def test_why_no_ranked_question_is_held_out_is_told_with_the_remedy(make, questions, held_out, why):
    records = [
        record(f"q{n}", question, f"{TOPICS[n]} {TOPICS[n + 2]} {TOPICS[n + 4]} and so on.")
        for n, question in enumerate(questions)
    ]
    rankings = [ranking(row["id"], row["id"], "good", "bad") for row in records]
    *_, summary = make(records, rankings, [ITEM], held_out=held_out)
    told = [warning for warning in summary["warnings"] if "held out" in warning]
    assert len(told) == 1
    assert f"cannot be measured: {why}" in told[0]


def test_one_single_source_cannot_be_split_and_says_so(make):
    records = [row | {"source": "one"} for row in weather()]
    with pytest.raises(DataError, match=r"hang together in 1 group.*name more sources"):
        make(records, test=0.2)


def test_held_out_questions_are_a_share_of_each_kind_and_hang_on_the_seed(make):
    records = [row for kind in ("foundation", "connection") for row in weather(8, kind)]
    rankings = [ranking(row["id"], row["id"], "good", "bad") for row in records]
    rankings += [ranking(f"{row['id']}-again", row["id"], "so so", "bad") for row in records]
    seen = []
    for seed in (1, 1, 2):
        _, kept, _, _, _ = make(records, rankings, [ITEM], held_out=0.25, seed=seed)
        held_out = {row.record for row in kept if row.split == "held_out"}
        assert held_out.isdisjoint({row.record for row in kept if row.split == "train"})
        assert (
            sorted(name.split("-")[0] for name in held_out)
            == ["connection"] * 2 + ["foundation"] * 2
        )
        seen.append(held_out)
    assert seen[0] == seen[1] != seen[2]


def test_all_faults_of_all_files_are_told_at_once(make, tmp_path):
    with pytest.raises(DataError) as caught:
        make(
            [*weather(), record("t1", "Twice?", "Yes."), record("x", "No kind?", "No.", kind="x")],
            [ranking("r", "nobody", "good", "bad")],
            [ITEM],
        )
    faults = caught.value.faults
    assert len(faults) == 3
    assert any("'x' is not one of foundation" in fault for fault in faults)
    assert any("'t1' stands already at" in fault for fault in faults)
    assert any("no record has the id 'nobody'" in fault for fault in faults)


def test_nothing_left_is_an_error_that_says_why(make):
    told = r"none is left \(8 for language\); set corpus.languages to what there is \(en 8\), or"
    with pytest.raises(DataError, match=f"corpus.records: {told}"):
        make(weather(), benchmark=[ITEM | {"language": "zh"}], languages=("zh",))


def test_a_language_that_no_record_is_in_is_told_with_those_that_there_are(make):
    *_, summary = make(weather(), benchmark=[ITEM], languages=("en", "fr"))
    told = "corpus.languages: no record is in fr; there are en 8"
    assert [line for line in summary["warnings"] if "languages" in line] == [told]


def test_languages_that_are_not_known_are_one_warning(make):
    records = [row | {"language": ("en", "xx", "fr-CA")[n % 3]} for n, row in enumerate(weather())]
    kept, *_, summary = make(records, benchmark=[ITEM])
    assert len(kept) == 8
    told = [line for line in summary["warnings"] if "profile" in line]
    assert told == ["no profile of fr-CA, xx: the script of such records is not checked"]


def test_what_is_no_language_code_is_a_fault_with_the_code_that_was_meant(make):
    languages = ("english", "zh_CN", "", "en")
    records = [row | {"language": code} for row, code in zip(weather(4), languages, strict=True)]
    with pytest.raises(DataError) as caught:
        make(records, benchmark=[ITEM])
    assert [fault.partition(": ")[2] for fault in caught.value.faults] == [
        "field 'language': 'english' is no language code; did you mean 'en'?",
        "field 'language': 'zh_CN' is no language code; did you mean 'zh-CN'?",
        "field 'language': '' is no language code; write one as en, zh or pt-BR",
    ]


def test_the_order_of_rows_in_the_files_changes_nothing(make):
    records = weather()
    rankings = [ranking(row["id"], row["id"], "good", "bad") for row in records]
    first = make(records, rankings, [ITEM])
    second = make(records[::-1], rankings[::-1], [ITEM])
    assert first == second


def test_a_second_run_is_skipped_and_another_seed_is_not(tmp_path):
    first = curate(CorpusConfig(), root=tmp_path, seed=1)
    assert curate(CorpusConfig(), root=tmp_path, seed=1).created == first.created
    assert curate(CorpusConfig(), root=tmp_path, seed=2).path != first.path


def test_kinds_that_are_missing_are_warned_of(make):
    *_, summary = make(weather(), [ranking("r", "foundation-snow", "good", "bad")], [ITEM])
    assert "no record of kind connection" in summary["warnings"]
    assert any("no ranked question is held out" in warning for warning in summary["warnings"])


def test_the_corpus_and_the_desk_need_no_torch():
    rooms = "curate, split, annotate, audit, classify, clean, intake, language, release, rounds"
    code = (
        f"from drenpa.corpus import {rooms}; import drenpa.desk.app, sys; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_curated_corpus_goes_through_again_unchanged(make, tmp_path):
    records = [*weather(10), *weather(10, "connection")]
    records.append(record("twin", *list(records[0].values())[2:4]))
    records.append(record("y", "Why\u00a0 not?", "Rain  and\u200b hail, of course."))
    rankings = [ranking(row["id"], row["id"], "good", "bad") for row in records[:20]]
    first = make(records, rankings, [ITEM])
    again = make(
        *([json.loads(row.model_dump_json()) for row in rows] for rows in first[:2]),
        [json.loads(row.model_dump_json(exclude={"split"})) for row in first[2]],
    )
    assert again[3] == {}  # nothing is dropped any more
    assert again[4]["cleaned"] == 0
    assert again[:3] == first[:3]


def test_curate_prints_what_is_still_shared(tmp_path):
    (tmp_path / "records.jsonl").write_text(
        "\n".join(json.dumps(row) for row in [*weather(), SINGING])
    )
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(row) for row in [SUNG, ITEM]))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: t\nout: {tmp_path / 'runs'}\ncorpus: {{records: [records.jsonl], rankings: [], "
        "benchmark: [items.jsonl], max_leakage: 0.5}\n"
    )
    done = CliRunner().invoke(app, ["curate", str(recipe)])
    assert done.exit_code == 0, done.output
    assert "9 records to train on, 2 benchmark items, 0 rankings" in done.output
    assert (
        "of 2 benchmark items 1 stand in training: 0 nearly, 0 by a quoted answer, 1 by a shared "
        "run" in " ".join(done.output.split())
    )
    refused = CliRunner().invoke(app, ["curate", str(recipe), "-s", "corpus.max_leakage=0.1"])
    assert isinstance(refused.exception, DataError)
