"""The order of the critic's training."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drenpa.critic.schedule import Schedule


def shuffled(count, *parts):
    order = list(range(count))
    random.Random(repr(parts)).shuffle(order)
    return order


@st.composite
def schedules(draw):
    count = draw(st.integers(1, 9))
    apart = draw(st.integers(0, count - 1))
    numbers = draw(st.permutations(range(count)))
    return Schedule(
        tuple(numbers[apart:]),
        tuple(numbers[:apart]),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 3)),
    )


@given(schedules())
def test_every_epoch_goes_once_through_the_rankings_it_is_for(schedule):
    seen = {}
    for step in range(schedule.steps):
        epoch, place = schedule.turn(step)
        seen.setdefault(epoch, []).extend(schedule.rankings(epoch, place, shuffled))
    assert list(seen) == list(range(schedule.epochs + schedule.own_epochs))
    for epoch, numbers in seen.items():
        meant = schedule.apart if schedule.scores_apart(epoch) else schedule.taught
        assert sorted(n for n in numbers if n in meant) == sorted(meant)


@given(schedules())
def test_the_taught_rankings_beside_those_apart_take_even_turns(schedule):
    beside = Counter()
    for step in range(schedule.steps):
        epoch, place = schedule.turn(step)
        if schedule.scores_apart(epoch):
            numbers = schedule.rankings(epoch, place, shuffled)
            taught = [n for n in numbers if n in schedule.taught]
            assert len(taught) == len(numbers) - len(taught)
            beside.update(taught)
    if beside:
        counts = [beside[n] for n in schedule.taught]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("number", range(4))
def test_a_ranking_only_teaches_where_others_stand_apart_and_it_does_not(number):
    assert not Schedule((0, 1, 2, 3), (), 2, 1, 1).only_teaches(number)
    assert Schedule((0, 2, 3), (1,), 2, 1, 1).only_teaches(number) == (number != 1)
