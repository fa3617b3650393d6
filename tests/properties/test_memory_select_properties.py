"""What holds of any selection [P13]."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from drenpa.config import SelectConfig
from drenpa.core.knowledge import KINDS, STABILITIES
from drenpa.core.records import Record
from drenpa.memory.select import Decision, internalised, select


@st.composite
def worlds(draw):
    """Records, probe scores, tokens, a budget."""
    count = draw(st.integers(1, 12))
    records = [
        Record(
            id=f"r{number}",
            kind=draw(st.sampled_from(KINDS)),
            question="Q",
            answer="A",
            demand=draw(st.integers(0, 8)) / 2,
            stability=draw(st.sampled_from((*STABILITIES, "timeless", "timeless"))),
        )
        for number in range(count)
    ]
    known = {one.id: draw(st.integers(0, 10)) / 10 for one in records}
    tokens = {one.id: draw(st.integers(1, 60)) for one in records}
    return records, known, tokens, float(draw(st.integers(0, 600)))


def chosen(records, known, tokens, budget, config=None) -> list[str]:
    return internalised(
        select(records, known, tokens, config or SelectConfig(), budget_bits=budget)
    )


@given(worlds())
def test_the_budget_is_never_exceeded(world):
    records, known, tokens, budget = world
    decisions = select(records, known, tokens, SelectConfig(), budget_bits=budget)
    assert sum(one.cost for one in decisions if one.place == "internalise") <= budget


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_the_records_changes_no_decision(world, shuffler: random.Random):
    records, known, tokens, budget = world
    shuffled = list(records)
    shuffler.shuffle(shuffled)

    def by_name(rows) -> dict[str, Decision]:
        decisions = select(rows, known, tokens, SelectConfig(), budget_bits=budget)
        return {one.record: one for one in decisions}

    assert by_name(records) == by_name(shuffled)


@given(worlds(), st.data())
def test_more_demand_never_costs_a_record_its_place(world, data):
    records, known, tokens, budget = world
    place = data.draw(st.integers(0, len(records) - 1))
    more = records[place].model_copy(
        update={"demand": records[place].demand + data.draw(st.integers(0, 8)) / 2}
    )
    asked_more = [*records[:place], more, *records[place + 1 :]]
    if more.id in chosen(records, known, tokens, budget):
        assert more.id in chosen(asked_more, known, tokens, budget)


@given(worlds(), st.sampled_from(KINDS), st.integers(0, 8))
def test_more_weight_never_costs_a_kind_a_place(world, kind, extra):
    records, known, tokens, budget = world
    base = SelectConfig()
    heavier = SelectConfig(weights={**base.weights, kind: base.weights[kind] + extra})
    kinds = {one.id: one.kind for one in records}
    before = {r for r in chosen(records, known, tokens, budget, base) if kinds[r] == kind}
    assert before <= set(chosen(records, known, tokens, budget, heavier))


@given(worlds())
def test_a_larger_budget_takes_the_same_records_and_perhaps_more(world):
    records, known, tokens, budget = world
    fits = [one for one in records if tokens[one.id] * SelectConfig().bits_per_token <= budget]
    few = chosen(fits, known, tokens, budget)
    many = chosen(fits, known, tokens, budget * 2)
    assert many[: len(few)] == few


@given(worlds())
def test_nothing_volatile_personal_or_known_is_trained_and_every_decision_says_why(world):
    records, known, tokens, budget = world
    decisions = select(records, known, tokens, SelectConfig(), budget_bits=budget)
    for one, decision in zip(records, decisions, strict=True):
        assert decision.reason
        if one.stability in ("volatile", "personal"):
            assert decision.place == "external"
        if known[one.id] >= SelectConfig().known_above:
            assert decision.place in ("watch", "external")
    order = [decision for decision in decisions if decision.place == "internalise"]
    order.sort(key=lambda decision: decision.order)
    assert [decision.order for decision in order] == list(range(1, len(order) + 1))
    assert [d.value for d in order] == sorted((d.value for d in order), reverse=True)
