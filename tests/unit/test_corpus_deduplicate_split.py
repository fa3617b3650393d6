"""Near-duplicates are found by their true similarity, and what hangs together is never divided."""

import random
import time
import tracemalloc

import numpy as np
import pytest

from drenpa.core.records import Candidate, Ranking, Record
from drenpa.corpus.deduplicate import (
    Links,
    Match,
    band_hashes,
    band_shape,
    best_matches,
    comparison_key,
    count_bits,
    count_bits_plainly,
    link_similar,
    piece_set,
    similar_groups,
    similarity,
)
from drenpa.corpus.leakage import Quoted, audit_leakage, is_telling, shared_runs, text_runs
from drenpa.corpus.split import chosen_groups, components, ties


def words(count, seed):
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(count)]


def edited(text, share, seed):
    draw = random.Random(seed)
    pieces = list(text)
    for place in draw.sample(range(len(pieces)), round(share * len(pieces))):
        pieces[place] = "0"
    return pieces


def record(name, question, answer="x", **more):
    return Record(id=name, kind="foundation", question=question, answer=answer, **more)


def test_the_similarity_is_the_share_of_common_pieces():
    # "abcdef" has the pieces abcde bcdef; "abcdeg" has abcde bcdeg: one of three in common
    assert similarity("abcdef", "ABCDEG!") == pytest.approx(1 / 3)
    assert similarity("abc", "abd") == 0.0
    assert similarity("", "!?") == 1.0


def test_spelling_case_and_punctuation_make_no_difference():
    assert comparison_key("Ｗhy — does RAIN fall？") == comparison_key("why does rain fall")
    assert comparison_key("བོད་ཡིག་། །") == comparison_key("བོད་ཡིག")


def test_planted_copies_are_all_found_and_nothing_else():
    texts = [" ".join(words(120, seed)) for seed in range(40)]
    copies = ["".join(edited(text, 0.02, seed)) for seed, text in enumerate(texts[:20])]
    groups = similar_groups([*texts, *copies], threshold=0.7)
    assert groups == [(place, 40 + place) for place in range(20)]


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_a_pair_at_the_threshold_is_hardly_ever_missed(threshold):
    bands, rows = band_shape(threshold)
    assert bands * rows <= 128
    assert (1 - threshold**rows) ** bands <= 1e-6
    more = rows + 1  # and no fewer pairs could be proposed at that
    assert (1 - threshold**more) ** (128 // more) > 1e-6


@pytest.mark.parametrize(("changed", "threshold"), [(0.02, 0.8), (0.05, 0.8), (0.1, 0.7)])
def test_every_planted_copy_is_found_and_every_find_is_true(changed, threshold):
    draw = random.Random(3)
    known = words(2000, 9)
    texts = [" ".join(draw.choices(known, k=100)) for _ in range(150)]
    copies = []
    for text in texts[:60]:
        pieces = text.split()
        for place in draw.sample(range(100), round(changed * 100)):
            pieces[place] = draw.choice(known)
        copies.append(" ".join(pieces))
    planted = {
        (place, 150 + place)
        for place, copy in enumerate(copies)
        if similarity(texts[place], copy) >= threshold
    }
    assert len(planted) > 50
    assert set(similar_groups([*texts, *copies], threshold=threshold)) == planted


def test_many_copies_of_one_text_take_few_comparisons():
    text = " ".join(words(100, 1))
    keys = [f"{text} {number}" for number in range(400)]
    asked = []
    links = Links(len(keys))

    def pieces(place):
        asked.append(place)
        return piece_set(keys[place])

    link_similar(band_hashes(keys), pieces, 0.8, links)
    assert len(links.groups()) == 1
    assert len(asked) == 400  # each text is looked at once; half a million pairs would take seconds


def test_records_of_which_one_nearly_says_what_another_says_or_asks_stay_together():
    rows = [  # seven units, one of them a little otherwise: no shared run, and no quotation
        Record(
            id="a",
            kind="foundation",
            question="Why flat?",
            answer="Rivers carry sand to the sea bed.",
        ),
        Record(
            id="b",
            kind="foundation",
            question="What fills it?",
            answer="Rivers carry sand to the sea beds.",
        ),
        Record(
            id="c",
            kind="foundation",
            question="Rivers carry sand to the sea bedded?",
            answer="Yes.",
        ),
        Record(id="d", kind="foundation", question="Who sang?", answer="A choir of forty monks."),
    ]
    assert components(rows) == [(0, 1, 2), (3,)]
    assert {tie.why for tie in ties(rows)} == {"near"}


def templated(count, seed=7):
    """Questions of one template, nearly all just below the threshold of 0.8 to each other."""
    draw = random.Random(seed)
    made_up = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=9)) for _ in range(count)]
    return [f"What does the Tibetan word {word} mean, and when is it said?" for word in made_up]


def test_questions_of_one_template_take_seconds():
    texts = templated(1000)
    assert 0.6 < similarity(texts[0], texts[1]) < 0.8
    began = time.process_time()
    groups = similar_groups([*texts, texts[7] + " Often?"])
    assert (7, 1000) in groups
    assert time.process_time() - began < 8  # 16 pair by pair
    assert sum(match is not None for match in best_matches(texts[:500], texts[500:])) < 50


def test_no_set_of_the_pairs_that_were_compared_is_kept():
    texts = templated(400)
    tracemalloc.start()
    similar_groups(texts)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 6e6  # the set takes 11 MB


def test_two_templates_and_their_copies_in_one_bucket_are_kept_apart():
    texts = templated(300)
    copies = [f"{text} So." for text in texts[:40]]
    others = [text.replace("said", "sung at the feast of the new year") for text in texts]
    groups = similar_groups([*texts, *copies, *others])
    assert {(place, 300 + place) for place in range(40)} <= set(groups)


def test_bits_are_counted_alike_with_and_without_numpy_2():
    words = np.array([0, 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF], dtype=np.uint64)
    assert count_bits_plainly(words).tolist() == [int(word).bit_count() for word in words]
    assert count_bits(words).tolist() == count_bits_plainly(words).tolist()


def test_a_text_without_letters_is_like_no_other():
    assert not band_hashes(["", "a"])[:, 0].any()
    assert similar_groups(["a rainy day", "?!", "a sunny day"]) == []


def test_a_chain_of_near_duplicates_is_one_group():
    pieces = words(100, 1)
    chain = [" ".join(pieces[start : start + 80]) for start in (0, 5, 10)]
    assert similarity(chain[0], chain[2]) < 0.8 <= similarity(chain[0], chain[1])
    assert similar_groups(chain, threshold=0.8) == [(0, 1, 2)]


def test_the_best_match_is_the_most_similar_one():
    text = " ".join(words(100, 1))
    near, nearer = text[:-60], text[:-20]
    assert best_matches([text, "quite another thing"], [near, nearer], threshold=0.7) == [
        Match(1, similarity(text, nearer)),
        None,
    ]
    assert best_matches([text], [near, text, text]) == [Match(1, 1.0)]
    assert best_matches([], ["a"]) == []


def test_a_long_text_that_contains_a_short_one_is_not_its_copy():
    text = " ".join(words(100, 1))
    assert similar_groups([text, text[:200]], threshold=0.8) == []


def test_runs_count_words_syllables_and_chinese_characters():
    assert text_runs("a b c d e f g") == set()
    assert len(text_runs("水往低处流人往高处")) == 2
    assert len(text_runs("ང་ལ་དེབ་གཅིག་ཡོད་པ་རེད་ད།")) == 1


def test_a_shared_run_is_named_with_both_items():
    found = shared_runs(
        {"t1": ["nothing here", "so a b c d e f g h i"], "t2": ["a b c d e f g"]},
        {"r2": ["A, b, c, d, e, f, g, h!"], "r1": ["i j k"]},
    )
    assert [(run.test, run.train, run.run) for run in found] == [("t1", "r2", "a b c d e f g h")]


def test_of_several_shared_runs_the_rarest_is_told():
    common, rare = "a b c d e f g h", "i j k l m n o p"
    train = {f"r{number}": [f"{common} {number}"] for number in range(4)} | {"s": [rare]}
    (found,) = shared_runs({"t": [f"{common}. {rare}."]}, train)
    assert (found.train, found.run, found.holders) == ("s", rare, 2)  # s and t itself
    assert not found.formula


def test_a_quoted_answer_is_found_whatever_its_case_and_punctuation():
    quoted = Quoted({"t": "The yak carries them.", "u": "Yes."})
    assert quoted.within("They say: the YAK carries them; always.") == {"t"}
    assert quoted.within("the yak carries the men") == set()
    assert quoted.within("yes we can") == set()
    assert quoted.being("yes!") == {"u"}
    assert not is_telling("in the year")
    assert is_telling("in the sixties")


def test_each_way_of_knowing_a_test_item_is_told_once_the_plainest_first():
    run = "one two three four five six seven eight"
    train = [
        record("a", "Which animal carries loads over the pass?", source="s"),
        record("b", "What do we see in spring?", f"We hear that {run} and the yak calves early."),
        record("c", "Which song do children sing?", f"{run} nine ten"),
    ]
    test = [
        record("near", "which animal carries loads over the pass", "A mule.", source="s"),
        record("quoted", "When are they born?", "The yak calves early."),
        record("run", "Can you count up to eight?", f"I can: {run}."),
        record("free", "Why does rain fall?", "Drops grow heavy."),
    ]
    ranking = Ranking(
        id="r",
        record="b",
        candidates=(
            Candidate(id="1", answer="so", rank=1),
            Candidate(id="2", answer="no", rank=2, note="Drops grow heavy, you should say."),
        ),
    )
    found = audit_leakage(test, train)
    assert [(leak.test, leak.train, leak.way) for leak in found.leaks] == [
        ("near", "a", "near"),
        ("quoted", "b", "quoted"),
        ("run", "b", "run"),
    ]
    assert found.share == 3 / 4
    assert found.sources == ("near",)
    noted = audit_leakage(test, train, [ranking])
    assert noted.leaks[0].test == "free"
    assert (noted.leaks[0].train, noted.leaks[0].way) == ("b", "quoted")


def test_a_formula_is_told_of_and_is_no_leak():
    formula = "in the sense of the law on water of"
    train = [
        record(f"r{n}", f"{name}?", f"{formula} {name}") for n, name in enumerate(words(11, 3))
    ]
    test = [record("t", "And the last one?", f"{formula} something else")]
    found = audit_leakage(test, train)
    assert found.leaks == ()
    assert [(run.run, run.holders) for run in found.formulas] == [(formula[:-3], 12)]
    assert len(audit_leakage(test, train[:9]).leaks) == 1


def test_each_tie_says_why_and_no_tie_is_there_twice():
    run = "one two three four five six seven eight"
    records = [
        record("a", "first?", "The yak carries them.", source="s"),
        record("b", f"second thing {run}?", source="s"),
        record("c", "third matter?", f"{run} of a kind"),
        record("d", "fourth?", "We know that the yak carries them up."),
    ]
    found = ties(records)
    assert [(tie.first, tie.second, tie.why) for tie in found] == [
        (0, 1, "source"),
        (1, 2, "run"),
        (0, 3, "quoted"),
    ]
    assert components(records) == [(0, 1, 2, 3)]


def test_records_hang_together_by_source_by_shared_text_and_by_near_questions():
    run = "one two three four five six seven eight"
    records = [
        record("a", "first?", source="s"),
        record("b", "second thing?", source="s"),
        record("c", "third matter?", f"{run} of a kind"),
        record("d", "fourth subject?", f"they say {run}"),
        record("e", "Which animal carries loads over the pass in winter?"),
        record("f", "Which animal carries loads over the pass in winters?"),
        record("g", "alone, and of no source?"),
    ]
    assert components(records) == [(0, 1), (2, 3), (4, 5), (6,)]


def test_a_formula_that_many_records_share_does_not_make_one_lump_of_them():
    formula = "in the sense of the law on water of"
    names = words(11, 3)
    records = [record(name, f"{name}?", f"{formula} {name}") for name in names]
    assert len(components(records[:10])) == 1
    assert len(components(records)) == 11


def test_groups_are_chosen_whole_and_each_stratum_gets_its_share():
    groups = [(0, 1, 2), *((place,) for place in range(3, 23))]
    strata = ["x"] * 13 + ["y"] * 10
    names = [f"n{place}" for place in range(23)]
    chosen = chosen_groups(groups, strata, names, share=0.3, seed=5)
    assert chosen.isdisjoint({0, 1, 2}) or chosen >= {0, 1, 2}
    assert sum(place < 13 for place in chosen) == 4  # 3.9 wanted
    assert sum(place >= 13 for place in chosen) == 3


def test_strata_too_small_to_give_one_give_together():
    groups = [(place,) for place in range(20)]
    strata = [place // 2 for place in range(20)]
    names = [f"n{place}" for place in range(20)]
    chosen = chosen_groups(groups, strata, names, share=0.2, seed=1)
    assert len(chosen) == 4
    assert len({strata[place] for place in chosen}) == 4


@pytest.mark.parametrize(("share", "expected"), [(0.01, {3}), (0.99, {0, 1, 2})])
def test_neither_part_stays_empty_where_one_can_be_moved(share, expected):
    groups = [(0, 1, 2), (3,)]
    assert chosen_groups(groups, "aaaa", "abcd", share=share, seed=1) == expected
    assert chosen_groups([(0, 1), (2, 3)], "aaaa", "abcd", share=0.1, seed=1) == set()


def test_no_share_chooses_nothing_and_the_whole_share_everything():
    groups = [(0, 1), (2,)]
    assert chosen_groups(groups, "aab", "abc", share=0, seed=1) == set()
    assert chosen_groups(groups, "aab", "abc", share=1, seed=1) == {0, 1, 2}
