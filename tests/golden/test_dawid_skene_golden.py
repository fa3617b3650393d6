"""Dawid and Skene's estimate against their own worked example, and what must always hold of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drenpa.core.errors import ShapeError
from drenpa.corpus.dawid_skene import dawid_skene

# Dawid & Skene (1979), table 1: 45 patients, five anaesthetists, fitness from 1 to 4; the first
# anaesthetist saw each patient three times. The table is that of a public copy; the loops of an
# independent script end within 2e-8 of all estimates.
PATIENTS = """
111 1 1 1 1/333 4 3 3 4/112 2 1 2 2/222 3 1 2 1/222 3 2 2 2/222 3 3 2 2/122 2 1 1 1/333 3 4 3 3/
222 2 2 2 3/232 2 2 2 3/444 4 4 4 4/222 3 3 4 3/111 1 1 1 1/222 3 2 1 2/121 1 1 1 1/111 2 1 1 1/
111 1 1 1 1/111 1 1 1 1/222 2 2 2 1/222 1 3 2 2/222 2 2 2 2/222 2 2 2 1/222 3 2 2 2/221 2 2 2 2/
111 1 1 1 1/111 1 1 1 1/232 2 2 2 2/111 1 1 1 1/111 1 1 1 1/112 1 1 2 1/111 1 1 1 1/333 3 2 3 3/
111 1 1 1 1/222 2 2 2 2/222 3 2 3 2/433 4 3 4 3/221 2 2 3 2/232 3 2 3 3/333 3 4 3 2/111 1 1 1 1/
111 1 1 1 1/121 2 1 1 1/232 2 2 2 2/121 1 1 1 1/222 2 2 2 2
"""


def counted(table, classes):
    rows = [row.split() for row in table.split("/")]
    counts = np.zeros((len(rows), len(rows[0]), classes))
    for record, row in enumerate(rows):
        for rater, given_classes in enumerate(row):
            for label in given_classes:
                counts[record, rater, int(label) - 1] += 1
    return counts


def test_the_anaesthetists_of_the_paper():
    truth = dawid_skene(counted(PATIENTS, 4))
    np.testing.assert_allclose(truth.share_Q, [0.40, 0.42, 0.11, 0.07], atol=0.005)
    np.testing.assert_allclose(
        truth.errors_RQQ[0],
        [[0.89, 0.11, 0, 0], [0.07, 0.88, 0.05, 0], [0, 0.34, 0.66, 0], [0, 0, 0.56, 0.44]],
        atol=0.005,
    )
    best = truth.classes_NQ.argmax(axis=1) + 1
    assert [best[place] for place in (0, 1, 2, 10, 11, 35)] == [1, 4, 2, 4, 3, 4]


def test_one_rater_against_two_of_equal_skill_loses_and_is_less_accurate():
    # two raters always agree; the third differs on one of four records
    truth = dawid_skene(counted("1 1 1/2 2 2/1 1 1/2 2 1", 2))
    assert truth.classes_NQ.argmax(axis=1).tolist() == [0, 1, 0, 1]
    right = truth.accuracies()
    assert right[0] == pytest.approx(1.0)
    assert right[2] == pytest.approx(0.75)


def test_a_class_that_a_rater_never_saw_says_nothing_of_them():
    truth = dawid_skene(counted("1 1/1 1", 2))
    assert np.isnan(truth.errors_RQQ[:, 1]).all()
    assert truth.accuracies().tolist() == [1.0, 1.0]


def test_a_record_or_a_rater_without_ratings_is_refused():
    with pytest.raises(ShapeError, match="every record needs a rating"):
        dawid_skene(np.zeros((2, 2, 2)))
    with pytest.raises(ShapeError, match=r"\[records, raters, classes\]"):
        dawid_skene(np.ones((2, 2)))


counts = st.integers(1, 6).flatmap(
    lambda records: st.lists(
        st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=records, max_size=records
    )
)


@settings(max_examples=60, deadline=None)
@given(counts, st.randoms(use_true_random=False))
def test_likelihood_only_grows_and_the_order_of_records_does_not_matter(labels, draw):
    one_hot = np.eye(3)[np.array(labels)]
    truth = dawid_skene(one_hot)
    assert (np.diff(truth.likelihood) > -1e-6).all()
    np.testing.assert_allclose(truth.classes_NQ.sum(axis=1), 1)
    order = draw.sample(range(len(labels)), len(labels))
    np.testing.assert_allclose(
        dawid_skene(one_hot[order]).classes_NQ, truth.classes_NQ[order], atol=1e-6
    )
