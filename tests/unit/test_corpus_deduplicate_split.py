"""Near-duplicates are found by their true similarity, and what hangs together is never divided."""

import random

import pytest

from drenpa.core.records import Record
from drenpa.corpus.deduplicate import (
    Links,
    Match,
    band_hashes,
    band_shape,
    best_matches,
    comparison_key,
    link_similar,
    similar_groups,
    similarity,
)
from drenpa.corpus.split import chosen_groups, components, shared_runs, text_runs


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
    link_similar(band_hashes(keys), lambda a, b: not asked.append((a, b)), links)
    assert len(links.groups()) == 1
    assert len(asked) == 399


def test_a_pair_that_is_not_similar_is_compared_once():
    keys = ["rain falls on the hill", "rain falls on the hills"]
    asked = []
    link_similar(band_hashes(keys), lambda a, b: bool(asked.append((a, b))), Links(2))
    assert asked == [(0, 1)]


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


def test_no_share_chooses_nothing_and_the_whole_share_everything():
    groups = [(0, 1), (2,)]
    assert chosen_groups(groups, "aab", "abc", share=0, seed=1) == set()
    assert chosen_groups(groups, "aab", "abc", share=1, seed=1) == {0, 1, 2}
