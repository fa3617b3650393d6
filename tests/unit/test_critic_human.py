"""The benchmark on human pairs: what its loaders make of each set, and that no group straddles."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.critic_gate import claims, gate_figures
from benchmarks.critic_human import (
    SETS,
    clear_pairs,
    compared,
    corpus_of,
    pairs_of,
    ranked,
    ranks_of,
    split,
)

from drenpa.core.records import Ranking, Record
from drenpa.critic.pairs import Pair

DATA = Path(os.environ.get("DRENPA_SHARED", Path(__file__).parents[3] / "shared")) / "data"


def rankings(count=40):
    """Two rankings to each question, of whose three answers two are even."""
    return [
        ranked("s", f"Question {n // 2}?", (f"a{n}", f"b{n}", f"c{n}"), (1, 2, 2), ("good", "", ""))
        for n in range(count)
    ]


def test_ratings_that_are_near_share_a_rank():
    assert ranks_of([3.0, 3.4, 1.0, 2.9]) == (1, 1, 3, 2)
    assert ranks_of([2.0, 2.0]) == (1, 1)


def test_a_pair_to_test_on_is_one_that_raters_can_tell_apart():
    row = ranked("s", "q", ("a", "b", "c", "d"), (1, 1, 3, 2), ("",) * 4)
    row = replace(row, ratings=(3.0, 3.4, 1.0, 2.9))
    # Ranks part a from d, whose ratings are 0.1 apart.
    assert len(pairs_of([row])) == 5
    told = {(pair["answer_a"], pair["answer_b"]) for pair in clear_pairs([row])}
    assert told == {("a", "c"), ("b", "c"), ("b", "d"), ("d", "c")}
    assert clear_pairs(rankings(4)) == pairs_of(rankings(4))


def test_no_question_stands_on_both_sides_of_a_split():
    for seed in range(5):
        train, held = split(rankings(), 0.25, seed)
        assert len(train) + len(held) == 40
        assert len(held) == 10
        assert not {row.group for row in train} & {row.group for row in held}
    assert split(rankings(), 0.25, 1) != split(rankings(), 0.25, 2)


def test_case_and_spaces_make_no_other_question():
    assert ranked("s", "What  IS it?\n", ("a",), (1,), ("",)).group == "what is it?"


def test_pairs_and_corpus_say_the_same(tmp_path):
    rows = rankings(4)
    pairs = [Pair(**pair) for pair in pairs_of(rows)]
    assert len(pairs) == 8  # of three answers, two are even: two pairs a ranking
    assert pairs[0].critique_a == "good"
    corpus = corpus_of(rows, tmp_path)
    kept = corpus.rows("rankings", Ranking)
    assert [[c.rank for c in row.candidates] for row in kept] == [[1, 2, 2]] * 4
    assert kept[0].candidates[0].critique == "good"
    assert len(corpus.rows("records", Record)) == 4


def test_arms_are_compared_on_the_same_pairs_over_all_seeds():
    pairs = pairs_of(rankings(8))
    tests = {seed: {"s": pairs} for seed in (1, 2)}
    right, wrong = [1.0] * len(pairs), [0.0] * len(pairs)
    found = {
        seed: {"critic": {"s": {"own": right}}, "scalar": {"s": {"none": wrong}}} for seed in (1, 2)
    }
    told = compared(found, tests)["s"]
    assert told["critic, own"]["percent"] == 100.0
    assert told["critic, own − scalar, none"]["points"] == 100.0
    assert told["critic, own − scalar, none"]["seeds"] == 2


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}; set DRENPA_SHARED")
@pytest.mark.parametrize(
    ("name", "least"), [("shepherd", 1000), ("hhh", 200), ("topical_chat", 60), ("sfres", 400)]
)
def test_the_real_sets_become_pairs_that_eval_reads(name, least):
    rows = list(SETS[name](DATA))
    assert len(rows) >= least
    pairs = [Pair(**pair) for pair in pairs_of(rows)]
    assert len(pairs) >= least
    assert all(row.source == name and len(set(row.ranks)) > 1 for row in rows)
    assert any(pair.critique_b for pair in pairs) == (name == "shepherd")


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
