"""Cleaning settles, the order of rows does not matter, and nothing crosses the split."""

import random
from itertools import combinations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from drenpa.core.records import Record
from drenpa.corpus.clean import clean_text, drop_debris
from drenpa.corpus.deduplicate import Links, Match, best_matches, similar_groups, similarity
from drenpa.corpus.html import decode, html_to_text
from drenpa.corpus.leakage import audit_leakage
from drenpa.corpus.split import chosen_groups, components
from drenpa.corpus.tibetan import normalise_tibetan, sentences

tibetan = st.text(
    st.sampled_from(
        [chr(code) for code in range(0x0F00, 0x0FDB)] + list(" \t\n་་།།ང\u200d\u00a0ab")
    ),
    max_size=25,
)
anything = st.text(max_size=40) | tibetan
short_words = st.sampled_from(["snow", "rain", "wind", "hail", "mist", "frost", "cloud", "storm"])
texts = st.lists(st.lists(short_words, min_size=1, max_size=14).map(" ".join), max_size=9)


@settings(max_examples=400, deadline=None)
@given(anything)
def test_cleaning_a_clean_text_changes_nothing(text):
    clean = clean_text(text)
    assert clean_text(clean) == clean


joined = st.text(
    "\u2009 \n\u200c\u200d་༌།ཀང9e\u0301\u0316\u094d\u0958"
    "\u0f71\u0f72\u0f73\u0f77\u0f39\u0f90\u0f7e",
    max_size=9,
)
piled = st.tuples(
    joined, st.sampled_from("\u0301\u0f35\u0f86\u0f90\u0344"), st.integers(25, 40), joined
)


@settings(max_examples=1500, deadline=None)
@given(joined | piled.map(lambda parts: parts[0] + parts[1] * parts[2] + parts[3] * 3))
@example("\u2009\u200c\u2009་")  # with the space gone the joiner stands beside the tsheg
@example("ང\u200c\u0f37\u094d\u200d")  # with the marks in order a joiner stands beside one
@example("\u0f42\u0f73\u0f77\u094d")
def test_cleaning_joiners_spaces_and_piled_up_marks_twice_is_cleaning_them_once(text):
    clean = clean_text(text)
    assert clean_text(clean) == clean


@settings(max_examples=400, deadline=None)
@given(tibetan)
def test_normalising_tibetan_twice_is_normalising_it_once(text):
    once = normalise_tibetan(text)
    assert normalise_tibetan(once) == once


@given(st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20)))
def test_cleaning_changes_nothing_but_spaces_in_plain_english(text):
    assert clean_text(text).split() == text.split()


@given(anything)
def test_dropping_debris_twice_drops_nothing_more(text):
    left, _ = drop_debris(clean_text(text), "bo")
    again, dropped = drop_debris(left, "bo")
    assert (again, dropped) == (left, ())


@given(anything)
def test_sentences_lose_no_letter(text):
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@given(st.binary(max_size=200))
def test_any_bytes_can_be_decoded(data):
    text, encoding = decode(data)
    assert isinstance(text, str)
    assert encoding


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("<>/ap!-b=\"' \n&;div"), max_size=60) | st.text(max_size=60))
def test_any_html_can_be_read(html):
    assert "\x00" not in html_to_text(html).text


@settings(deadline=None)
@given(texts, st.randoms(use_true_random=False))
def test_duplicates_do_not_depend_on_the_order(texts, draw):
    shuffled = list(range(len(texts)))
    draw.shuffle(shuffled)
    groups = similar_groups(texts, threshold=0.6)
    others = similar_groups([texts[place] for place in shuffled], threshold=0.6)
    assert sorted(groups) == sorted(tuple(sorted(shuffled[p] for p in group)) for group in others)


@settings(deadline=None)
@given(texts, texts)
def test_the_best_match_is_as_similar_as_it_says_and_none_is_better(ours, theirs):
    for text, match in zip(ours, best_matches(ours, theirs, threshold=0.6), strict=True):
        best = max((similarity(text, other) for other in theirs), default=0.0)
        if match is None:
            assert best < 0.6
        else:
            assert match.similarity == similarity(text, theirs[match.index]) == best


templated = st.lists(
    st.tuples(
        st.sampled_from(["What does {} mean", "When is {} said"]), st.text("abc", max_size=7)
    ),
    min_size=13,
    max_size=30,
).map(lambda rows: [f"{start.format(word)} in the songs of the hills?" for start, word in rows])


@settings(max_examples=40, deadline=None)
@given(templated, st.sampled_from([0.6, 0.7, 0.8, 0.9]))
def test_crowds_of_templated_texts_are_grouped_as_pair_by_pair(texts, threshold):
    links = Links(len(texts))
    for first, second in combinations(range(len(texts)), 2):
        if similarity(texts[first], texts[second]) >= threshold:
            links.join(first, second)
    groups = [group for group in links.groups() if len(group) > 1]
    assert similar_groups(texts, threshold=threshold) == groups


@settings(max_examples=40, deadline=None)
@given(templated, templated, st.sampled_from([0.6, 0.7, 0.8, 0.9]))
def test_the_best_match_in_a_crowd_is_the_first_of_the_most_similar(ours, theirs, threshold):
    for text, match in zip(ours, best_matches(ours, theirs, threshold=threshold), strict=True):
        found = [similarity(text, other) for other in theirs]
        best = max(found)
        assert match == (Match(found.index(best), best) if best >= threshold else None)


records = st.lists(
    st.builds(
        dict,
        question=st.lists(short_words, min_size=3, max_size=12).map(" ".join),
        answer=st.lists(short_words, min_size=3, max_size=12).map(" ".join),
        kind=st.sampled_from(["foundation", "connection"]),
        source=st.sampled_from(["", "a", "b", "c"]),
    ),
    max_size=10,  # what stands in more is a formula
).map(lambda rows: [Record(id=f"r{number:02}", **row) for number, row in enumerate(rows)])


@settings(deadline=None)
@given(records, st.floats(0, 1), st.integers(0, 99), st.randoms(use_true_random=False))
def test_no_component_crosses_the_split_whatever_the_order(records, share, seed, draw):
    def test_ids(rows):
        groups = components(rows)
        assert sorted(place for group in groups for place in group) == list(range(len(rows)))
        names = [row.id for row in rows]
        chosen = chosen_groups(groups, [row.kind for row in rows], names, share=share, seed=seed)
        assert all(chosen >= set(group) or chosen.isdisjoint(group) for group in groups)
        return {names[place] for place in chosen}

    test = test_ids(records)
    train = {row.id: row for row in records if row.id not in test}
    assert not {row.source for row in train.values() if row.source} & {
        row.source for row in records if row.id in test
    }
    assert not audit_leakage([row for row in records if row.id in test], list(train.values())).leaks
    shuffled = random.Random(draw.random()).sample(records, len(records))
    assert test_ids(shuffled) == test


@settings(max_examples=300, deadline=None)
@given(st.permutations(list("\u0f90\u0fb1\u0f71\u0f72\u0f7e")), st.sampled_from("ཀདབས"))
def test_the_order_in_which_the_marks_of_a_stack_were_typed_does_not_matter(marks, base):
    first = [mark for mark in marks if "\u0f8d" <= mark <= "\u0fbc"]
    typed = base + "".join(marks)
    assert normalise_tibetan(typed) == base + "".join(first) + "\u0f71\u0f72\u0f7e"
