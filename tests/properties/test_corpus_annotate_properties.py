"""Whatever people try, replay gives the same state, and agreement does not depend on names."""

import math
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drenpa.core.agreement import exact_agreement, gwet_ac, krippendorff_alpha
from drenpa.corpus.annotate import Store
from drenpa.corpus.rounds import Draft, RuleError, replay

kinds = st.sampled_from(["foundation", "profession", "connection"])
scores = st.integers(0, 2)
steps = st.one_of(
    st.tuples(
        st.just("edit_question"),
        st.fixed_dictionaries(
            {
                "question": st.sampled_from(["Why?", "How?"]),
                "kind": kinds,
                "stability": st.just("slow"),
                "demand": st.integers(0, 3),
            }
        ),
    ),
    st.tuples(
        st.just("edit_answer"), st.fixed_dictionaries({"answer": st.just("So."), "kind": kinds})
    ),
    st.tuples(
        st.just("rate"),
        st.fixed_dictionaries(
            {
                "agrees": st.booleans(),
                "kind": kinds,
                "quality": scores,
                "diversity": scores,
                "timeliness": scores,
                "professionalism": scores,
            }
        ),
    ),
    st.tuples(
        st.just("adjudicate"),
        st.fixed_dictionaries(
            {
                "outcome": st.sampled_from(["accepted", "rejected", "question", "answer"]),
                "kind": kinds,
            }
        ),
    ),
    st.tuples(
        st.just("repair"),
        st.fixed_dictionaries({"question": st.just("Q?"), "answer": st.just("A."), "kind": kinds}),
    ),
    st.tuples(st.just("undo"), st.fixed_dictionaries({"version": st.integers(1, 12)})),
    st.tuples(
        st.just("suggest"),
        st.fixed_dictionaries({"kind": kinds, "source": st.sampled_from(["model", "person"])}),
    ),
    st.tuples(
        st.just("add_candidate"),
        st.sampled_from([{"id": "x", "answer": "One."}, {"id": "y", "answer": "Two."}]),
    ),
    st.tuples(
        st.just("rank"),
        st.permutations(["x", "y"]).map(
            lambda names: {"ranks": [{"candidate": n, "rank": r} for r, n in enumerate(names, 1)]}
        ),
    ),
    st.tuples(
        st.just("assign"),
        st.fixed_dictionaries(
            {
                "phase": st.sampled_from(["question", "answer", "audit", "accepted"]),
                "people": st.lists(st.sampled_from(["ama", "pema", "tashi", "dolma"]), max_size=4),
            }
        ),
    ),
)
people = st.sampled_from(["ama", "pema", "tashi", "dolma", "nyima"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(people, steps, st.integers(0, 3)), max_size=25))
def test_replay_gives_the_state_that_the_store_has(script):
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.db") as store:
        store.add([Draft(id="a", question="What?")], actor="import")
        done = 1
        for person, (action, content), late in script:
            before = store.item("a")
            try:
                store.act("a", action, person, content, seen=before.version - late)
                done += 1
            except RuleError:
                assert store.item("a") == before
        assert len(store.events()) == done
        assert list(replay(store.events()).values()) == store.items()
        with Store(Path(folder) / "s.db") as other:
            assert other.items() == store.items()
        item = store.item("a")
        assert not item.editors & {rating.rater for rating in item.ratings}
        assert len({rating.rater for rating in item.ratings}) == len(item.ratings) <= 3
        assert (item.phase in ("accepted", "rejected", "adjudication")) == (len(item.ratings) == 3)


ratings = st.integers(2, 4).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, math.nan]), min_size=width, max_size=width),
        min_size=1,
        max_size=8,
    )
)


@given(ratings, st.randoms(use_true_random=False))
def test_agreement_does_not_depend_on_the_order_of_raters_or_records(rows, draw):
    array = np.array(rows)
    shuffled = array[draw.sample(range(len(array)), len(array))]
    shuffled = shuffled[:, draw.sample(range(array.shape[1]), array.shape[1])]
    for figure in (exact_agreement, krippendorff_alpha, gwet_ac):
        np.testing.assert_allclose(figure(array), figure(shuffled), atol=1e-12)


@given(ratings)
def test_reversing_the_scale_changes_no_ordinal_figure(rows):
    array = np.array(rows)
    for figure in (krippendorff_alpha, lambda rows: gwet_ac(rows, weights="ordinal")):
        np.testing.assert_allclose(figure(array), figure(2 - array), atol=1e-12)


@given(ratings)
def test_no_agreement_is_above_one(rows):
    for figure in (exact_agreement, krippendorff_alpha, gwet_ac):
        value = figure(np.array(rows))
        assert math.isnan(value) or value <= 1 + 1e-12
