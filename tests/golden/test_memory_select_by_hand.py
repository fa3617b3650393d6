"""P13 worked by hand."""

from __future__ import annotations

import pytest

from drenpa.config import SelectConfig
from drenpa.core.errors import DataError
from drenpa.core.records import Record
from drenpa.memory.select import capacity_bits, internalised, select

CONFIG = SelectConfig(bits_per_token=2.0)


def record(name: str, kind: str = "foundation", demand: float = 2.0, stability="timeless"):
    return Record(id=name, kind=kind, question="Q", answer="A", demand=demand, stability=stability)


# Weights 4, 3, 2, 1. Cost = 2 bits a token. Median demand 2, so below 1 is rare.
#   record      weight demand 1-known tokens cost    value
#   a              4      2     0.5     10    20   4*2*0.5/20 = 0.2
#   b              3      4     1.0     30    60   3*4*1.0/60 = 0.2     (a before b: by name)
#   c              2      2     0.5     10    20   2*2*0.5/20 = 0.1
#   d              1      5     1.0     10    20   1*5*1.0/20 = 0.25    first
#   giant          4      2     1.0    100   200   more than the whole budget of 110
#   rare           4      0.5                      below 1
#   news, mine     volatile, personal
#   sure           known 0.9 >= 0.6
# Order d, a, b, c; bits used 20, 40, 100, 120: c does not fit into 110.
RECORDS = [
    record("sure"),
    record("a"),
    record("b", "profession", 4.0),
    record("c", "metacognition"),
    record("d", "connection", 5.0),
    record("giant"),
    record("rare", demand=0.5),
    record("news", stability="volatile"),
    record("mine", stability="personal"),
]
KNOWN = dict.fromkeys((r.id for r in RECORDS), 0.0) | {"sure": 0.9, "a": 0.5, "c": 0.5}
TOKENS = dict.fromkeys((r.id for r in RECORDS), 10) | {"b": 30, "giant": 100}


def test_selection_by_hand():
    decisions = {one.record: one for one in select(RECORDS, KNOWN, TOKENS, CONFIG, budget_bits=110)}
    assert list(decisions) == [one.id for one in RECORDS]
    assert internalised(list(decisions.values())) == ["d", "a", "b"]
    assert {name: one.place for name, one in decisions.items() if one.order == 0} == {
        "sure": "watch",
        "c": "external",
        "giant": "external",
        "rare": "external",
        "news": "external",
        "mine": "external",
    }
    values = {name: one.value for name, one in decisions.items()}
    assert values["d"] == pytest.approx(0.25)
    assert values["a"] == pytest.approx(0.2)
    assert values["c"] == pytest.approx(0.1)
    reasons = {name: one.reason for name, one in decisions.items()}
    assert reasons["b"] == "number 3 of 4 by value; 100 of 110 bits used"
    assert reasons["c"] == "number 4 of 4 by value; the budget of 110 bits is spent"
    assert reasons["rare"] == "rare: demand 0.5 is below 1"
    assert reasons["news"] == "volatile: it belongs outside the weights"
    assert reasons["sure"] == "known: probe 0.90 reaches 0.60"
    assert reasons["giant"] == "its 200 bits are more than the whole 110"


def test_what_is_held_back_stays_outside_with_its_reason():
    held = {"d": "its answer changed", "sure": "its answer changed"}
    decisions = select(RECORDS, KNOWN, TOKENS, CONFIG, budget_bits=110, held=held)
    assert internalised(decisions) == ["a", "b", "c"]
    by_name = {one.record: one for one in decisions}
    assert (by_name["d"].place, by_name["d"].reason) == ("external", "its answer changed")
    assert by_name["sure"].place == "external"


def test_a_kind_of_weight_zero_is_not_trained():
    config = SelectConfig(weights={"foundation": 1.0})
    decisions = select(RECORDS[1:5], KNOWN, TOKENS, config, budget_bits=1e6)
    assert internalised(decisions) == ["a"]
    assert decisions[1].reason == "worth nothing in the weights: its kind's weight is 0"


def test_capacity_is_bits_times_parameters():
    assert capacity_bits(1000, SelectConfig(bits_per_parameter=0.5)) == 500.0


def test_every_fault_of_the_input_is_told_at_once():
    withheld = record("w").model_copy(update={"answer": None})
    with pytest.raises(DataError) as error:
        select(
            [record("a"), record("a"), record("new"), withheld],
            KNOWN,
            TOKENS,
            CONFIG,
            budget_bits=1,
        )
    assert error.value.faults == (
        "record a: its id stands twice; give each its own",
        "record new: it was not probed; probe it first",
        "record w: its answer is withheld; it cannot be internalised",
    )
