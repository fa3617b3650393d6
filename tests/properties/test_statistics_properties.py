"""What holds of every cell and every interval."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drenpa.core.statistics import Scored, cell_percent, holm, interval, paired_difference

rows = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 2.0]), st.integers(0, 9), st.integers(0, 3), st.integers(1, 2)
    ),
    min_size=1,
    max_size=40,
)


def column(entries: list[tuple[float, int, int, int]]) -> Scored:
    return Scored(
        scores=tuple(score for score, *_ in entries),
        items=tuple(f"c{cluster}q{item}" for _, item, cluster, _ in entries),
        clusters=tuple(f"c{cluster}" for _, _, cluster, _ in entries),
        seeds=tuple(seed for *_, seed in entries),
    )


@given(rows)
def test_figures_stay_between_0_and_100_and_inside_their_interval(
    entries: list[tuple[float, int, int, int]],
) -> None:
    found = interval(column(entries), resamples=200)
    assert 0 <= found.percent <= 100
    if found.clusters > 1:
        assert 0 <= found.low <= found.high <= 100


@given(rows, st.randoms(use_true_random=False))
def test_the_order_of_the_answers_changes_nothing(
    entries: list[tuple[float, int, int, int]], random: object
) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = interval(column(entries), resamples=50), interval(column(shuffled), resamples=50)
    assert one.percent == pytest.approx(other.percent)
    assert one.low == pytest.approx(other.low, nan_ok=True)


@given(rows)
def test_a_column_differs_from_itself_by_nothing(
    entries: list[tuple[float, int, int, int]],
) -> None:
    found = paired_difference(column(entries), column(entries), resamples=50)
    assert found.points == 0
    assert found.p_value == 1


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1))
def test_a_cell_of_single_samples_is_the_mean_of_its_items(scores: list[float]) -> None:
    items = tuple(str(number) for number in range(len(scores)))
    found = interval(Scored(tuple(scores), items, items, (1,) * len(scores)), resamples=10)
    assert found.percent == pytest.approx(cell_percent(scores))


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    ordered = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)
