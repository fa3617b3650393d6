"""The benchmark on human pairs: what its loaders make of each set, that no group straddles, what is
tried in an epoch, and how arms are compared."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from critic_gate import claims, gate_figures
from critic_human import (
    ARMS,
    EPOCHS,
    Arm,
    Setting,
    agreeing,
    keep,
    marks,
    prepared,
    row_of,
    spread,
)
from critic_sets import (
    LINES,
    SETS,
    SIZES,
    Parts,
    Sizes,
    amount,
    clear_pairs,
    evidence,
    in_words,
    note,
    parted,
    ranked,
    ranks_of,
)
from critic_told import told

from drenpa.commands.critic_trial import read_pairs
from drenpa.critic.score import load_critic
from drenpa.critic.train import MicroBatch

DATA = Path(os.environ.get("DRENPA_SHARED", Path(__file__).parents[3] / "shared")) / "data"


def rankings(count=40):
    """Two rankings to each question, of whose three answers two are even."""
    return [
        ranked(
            "s", f"Question {n // 2}?", (f"a{n}", f"b{n}", f"c{n}"), (1, 2, 2), ("Good.", "", "")
        )
        for n in range(count)
    ]


def test_a_note_is_what_people_found_without_evidence():
    row = ranked("grounded", "Q?", ("a", "b"), (1, 2), ("From the fact: x.", "From the fact: y."))
    assert note(replace(row, ratings=(2 / 3, 1 / 3))).critiques == (
        "Uses the fact.",
        "Leaves the fact out.",
    )
    with pytest.raises(SystemExit, match="dialogue has others"):
        note(replace(row, source="dialogue"))


def test_ratings_that_are_near_share_a_rank():
    assert ranks_of([3.0, 3.4, 1.0, 2.9]) == (1, 1, 3, 2)
    assert ranks_of([2.0, 2.0]) == (1, 1)


def test_a_pair_to_test_on_is_one_that_raters_can_tell_apart():
    row = ranked("s", "q", ("a", "b", "c", "d"), (1, 1, 3, 2), ("",) * 4)
    assert len(clear_pairs(row)) == 5
    # Ranks part a from d, whose ratings are 0.1 apart.
    assert (0, 3) not in clear_pairs(replace(row, ratings=(3.0, 3.4, 1.0, 2.9)))
    assert len(clear_pairs(replace(row, ratings=(3.0, 3.4, 1.0, 2.9)))) == 4


def test_no_question_stands_in_two_parts_and_three_seeds_test_on_all_of_the_pool():
    sizes = Sizes(dev=4, pool=15, train=7)
    tested = []
    for seed in (1, 2, 3):
        parts = parted(rankings(), sizes, seed)
        names = [{row.group for row in part} for part in (parts.train, parts.dev, parts.test)]
        assert [len(found) for found in names] == [7, 4, 5]
        assert len(set.union(*names)) == 16
        assert parts.dev == parted(rankings(), sizes, 1).dev
        tested.append(names[2])
    assert len(set.union(*tested)) == 15


def test_case_and_spaces_make_no_other_question():
    assert ranked("s", "What  IS it?\n", ("a",), (1,), ("",)).group == "what is it?"


def test_ratings_become_a_verdict_and_its_reason_and_overall_is_no_part_of_it():
    ratings = {"naturalness": 3.0, "coherence": 1.0, "engagingness": 2.0, "understandability": 1.0}
    assert in_words(ratings | {"overall": 1.0}, LINES) == "Middling: incoherent."
    best = dict.fromkeys(("naturalness", "coherence"), 3.0)
    assert in_words(best | {"overall": 1.0}, LINES) == "Good."


def test_evidence_is_what_a_line_has_from_a_fact_in_its_order_and_no_more_than_six_words():
    fact = "Bruce Lee and Bill Murray played one two hustlers, Murray's supreme achievement: five."
    assert evidence(fact, "a supreme MURRAY, supreme as ever") == "From the fact: supreme, murray."
    assert evidence(fact, "i agree, one and two") == "From the fact: nothing."
    line = "five hustlers played bruce, bill, murray and an achievement"
    assert evidence(fact, line) == "From the fact: five, hustlers, played, bruce, bill, murray."
    levels = [amount(fact, words) for words in ("so?", "bill?", "bill bruce", line)]
    assert [level.split(":")[0] for level in levels] == ["Little.", "Little", "Some", "Much"]


def test_the_critique_that_agrees_best_with_the_ranking_is_kept_or_none():
    # The other answer's mean score is 1; only the second try puts the better answer above it.
    assert agreeing([[0.0, 1.0], [2.0, 1.0]], (1, 2), 0) == 1
    assert agreeing([[0.0, 1.0], [0.5, 1.0]], (1, 2), 0) is None
    assert agreeing([[0.0, 1.0], [2.0, 1.0]], (1, 1), 0) is None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_rankings_that_keep_their_order_stand_apart_and_the_others_teach_writing(
    tiny_folder, tmp_path
):
    rows = rankings(6)
    rows = [*rows[:2], *(replace(row, ranks=(1, 1, 1)) for row in rows[2:])]
    run = prepared(Setting(tiny_folder(), tmp_path, passes=3), ARMS["apart"], rows, 1, "apart")
    assert (run.schedule.apart, run.schedule.taught) == ((0, 1), (2, 3, 4, 5))
    assert run.schedule.own_epochs == 3


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_where_answers_are_hidden_the_head_reads_the_critic_s_own_critiques_alone(
    tiny_folder, tmp_path
):
    setting = Setting(tiny_folder(), tmp_path)
    seen = {}
    for share in (0.0, 1.0):
        arm = Arm(own_share=1.0, hide_share=share)
        run = prepared(setting, arm, rankings(4), 1, f"hidden-{share}")
        seen[share] = run.lesson(0, EPOCHS)
        written = run.own_critiques(EPOCHS)[0]
        example = run.example(0, EPOCHS)
        asked = run.layout.ask(example.question)
        for place, answer in enumerate(example.answers):
            shown = asked.cue if share else run.layout.read(asked, answer).ids
            expected = (*shown, *written[place], run.layout.end_id)
            assert seen[share].group.suffixes[place] == expected
        assert run.lesson(0, 0).taught != (0, 0, 0)
    assert seen[0.0].taught == seen[1.0].taught == (0, 0, 0)
    assert seen[0.0].ranks == seen[1.0].ranks


def test_the_likeliest_critiques_share_their_weight_and_score_as_when_they_are_read(
    tiny_folder, tmp_path
):
    arm = Arm(own_share=1.0, spread=True)
    run = prepared(Setting(tiny_folder(), tmp_path), arm, rankings(2), 1, "spread")
    torch.nn.init.normal_(run.model.head.weight, generator=torch.Generator().manual_seed(1))
    example = run.example(0, EPOCHS)
    (likely,) = spread(run.critic, [example.question], [example.answers])
    assert [sum(weight for weight, _, _ in some) for some in likely] == pytest.approx([1.0] * 3)
    for answer, some in zip(example.answers, likely, strict=True):
        assert len({ids[0] for _, ids, _ in some}) == len(some)
        asked, read = [example.question], [[answer] * len(some)]
        (again,) = run.critic.reread(asked, read, [[ids for _, ids, _ in some]])
        assert again == pytest.approx([score for _, _, score in some], abs=0.05)


def test_an_answer_s_score_in_training_is_the_mean_over_its_likeliest_critiques(
    tiny_folder, tmp_path
):
    arm = Arm(own_share=1.0, spread=True)
    run = prepared(Setting(tiny_folder(), tmp_path), arm, rankings(2), 1, "spread")
    lesson = run.lesson(0, EPOCHS)
    assert [len(row) for row in lesson.weights] == [3, 3, 3]
    assert len(lesson.group.suffixes) == 9
    loss = run.loss(run.model, MicroBatch((lesson,), 0, 2))
    # The head starts at zero: all scores are equal, and a pair costs log 2.
    assert loss.loss.item() == pytest.approx(math.log(2))
    loss.loss.backward()
    assert run.model.head.weight.grad.abs().sum() > 0


def test_a_ranking_s_own_critiques_are_by_the_writer_whose_turn_it_is(tiny_folder, tmp_path):
    setting = Setting(tiny_folder(), tmp_path)
    run = prepared(setting, Arm(own_share=1.0, crossed=True), rankings(4), 1, "crossed")
    writers = [prepared(setting, Arm(), rankings(4), seed, f"w{seed}").critic for seed in (2, 3)]
    for n, writer in enumerate(writers):
        torch.nn.init.constant_(writer.model.head.weight, float(n))
    run.writers = tuple(writers)
    tried = run.tried([run.example(n, EPOCHS) for n in range(4)], EPOCHS, 0)
    assert [any(one.score for one in row) for row in tried] == [False, True, False, True]


def test_a_trained_arm_is_left_as_a_critic_beside_the_pairs_it_is_tested_on(tiny_folder, tmp_path):
    rows = tuple(rankings(2))
    run = prepared(Setting(tiny_folder(), tmp_path), Arm(), rows, 1, "half")
    keep(run, {"s": Parts((), (), rows)})
    pairs = read_pairs(run.folder.parent / "s.jsonl")
    assert [(p.better, p.worse) for p in pairs[:2]] == [("a0", "b0"), ("a0", "c0")]
    assert len(pairs) == 4
    asked, answers = [rows[0].question], [rows[0].answers]
    kept = load_critic(run.folder).write(asked, answers)
    assert kept == run.critic.write(asked, answers)


def test_marks_say_what_became_of_each_pair():
    rows = rankings(2)
    assert marks(rows, [[3.0, 1.0, 3.0], [0.0, float("nan"), 1.0]]) == "1h-0"


def test_arms_are_compared_on_the_same_pairs_over_all_seeds():
    rows = rankings(8)
    good, bad = [[2.0, 1.0, 1.0]] * 8, [[0.0, 1.0, 1.0]] * 8
    kept = [
        row_of(arm, seed, "test", rows, scores)
        for seed in (1, 2)
        for arm, scores in (
            ("half", {"gold": good, "own": good, "shuffled": bad}),
            ("scalar", {"none": bad}),
        )
    ]
    cell = told(json.loads(json.dumps(kept)), "test")["s"]["half"]
    assert cell["own"]["value"] == cell["use"]["value"] == cell["own - scalar"]["value"] == 100.0
    assert cell["gap"]["value"] == 0.0
    assert cell["use"]["groups"] == 4
    assert cell["use"]["by_seed"] == {1: 100.0, 2: 100.0}
    assert told(kept, "dev")["s"] == {}


def test_the_rows_that_were_run_are_of_the_pairs_that_the_sets_still_have():
    file = Path(__file__).parents[2] / "benchmarks" / "results" / "critic-human.jsonl"
    for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        pairs = sum(size for _, size in row["groups"])
        assert {len(found) for found in row["right"].values()} == {pairs}
        if DATA.is_dir():
            parts = parted(list(SETS[row["set"]](DATA)), SIZES[row["set"]], row["seed"])
            found = getattr(parts, row["part"])
            assert pairs == sum(len(clear_pairs(one)) for one in found)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}; set DRENPA_SHARED")
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("shepherd", 200),
        ("hhh", 100),
        ("dialogue", 60),
        ("substance", 60),
        ("grounded", 46),
        ("graded", 46),
        ("acts", 400),
    ],
)
def test_the_real_sets_become_rankings_that_can_be_tested_on(name, least):
    rows = list(SETS[name](DATA))
    assert len(rows) >= least
    assert all(row.source == name and len(set(row.ranks)) > 1 for row in rows)
    assert sum(len(clear_pairs(row)) for row in rows) >= least
    assert all(all(row.critiques) for row in rows) == (name != "hhh")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}; set DRENPA_SHARED")
def test_what_the_rule_of_evidence_and_that_of_length_are_worth_is_what_the_docs_say():
    def share(value) -> int:
        marks = [
            (value(row, better) > value(row, worse)) + (value(row, better) == value(row, worse)) / 2
            for row in rows
            for better, worse in clear_pairs(row)
        ]
        assert len(marks) == 333
        return round(100 * sum(marks) / len(marks))

    def named(row, place) -> int:
        said = row.critiques[place]
        return 0 if said == "From the fact: nothing." else said.count(",") + 1

    rows = list(SETS["grounded"](DATA))
    assert share(named) == 93
    assert share(lambda row, place: len(row.answers[place])) == 82


def test_the_gate_is_measured_on_what_people_say_of_each_claim():
    item = {
        "shepherd_id": 1,
        "question": "Who found it?",
        "response": "A man did.",
        "gpt4_answer": "Newton found it in 1687.",
        "gpt4_critique": {"critique": "The name is missing."},
        "human_critique": {
            "critique": "The name Newton is missing. Einstein helped in 1905.",
            "aius": ["The name Newton is missing.", "It was Einstein in 1905.", "It is rude."],
            "precision_labels": [True, False, False],
        },
    }
    assert [holds for _, _, _, holds in claims([item])] == [True, False, False]
    told = json.loads(json.dumps(gate_figures([item])))
    assert (told["claims"], told["unsupported"], told["any"]["flagged"]) == (3, 2, 1)
    assert told["any"]["precision"]["share"] == 1.0
    assert told["any"]["recall"]["share"] == 0.5
    assert told["whole critiques"]["recall"]["share"] == 1.0
