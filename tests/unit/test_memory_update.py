"""P14: what training did to a record, case by case."""

from __future__ import annotations

import pytest

from drenpa.config import MemoryConfig
from drenpa.core.errors import DataError
from drenpa.core.records import Record
from drenpa.memory.ledger import Entry, answer_fingerprint, fingerprint, replay
from drenpa.memory.probe import Probe
from drenpa.memory.select import Decision
from drenpa.memory.update import compare, entries_of, first_state, held_back, replay_queue

CONFIG = MemoryConfig()  # known from 0.6, forgotten below 0.4, learned with a gain of 0.1
RECORD = Record(id="r", kind="foundation", question="Q", answer="A")
CHANGED = RECORD.model_copy(update={"answer": "B"})
REWORDED = RECORD.model_copy(update={"question": "Q?"})
VOLATILE = RECORD.model_copy(update={"stability": "volatile"})


def standings(state: str, known: float = 0.1, record: Record = RECORD):
    entry = Entry(
        at="2026-01-01",
        model="m",
        record=record.id,
        wording=fingerprint(record),
        answer=answer_fingerprint(record),
        known=known,
        state=state,
        reason="r",
    )
    return replay([entry])


def probe(known: float, former_known: float = 0.0, record: str = "r") -> Probe:
    return Probe(
        record=record,
        known=known,
        blind=4.0,
        surprise=2.0,
        open=0.5,
        rank=1.0,
        tokens=9,
        former="Z" if former_known else "",
        former_known=former_known,
    )


@pytest.mark.parametrize(
    ("before", "known_before", "known", "after", "action"),
    [
        ("external", 0.1, 0.7, "learned", "none"),
        ("external", 0.1, 0.5, "external", "store"),
        ("external", 0.55, 0.6, "external", "store"),  # a gain of 0.05 may be noise
        ("known", 0.7, 0.9, "known", "none"),
        ("known", 0.7, 0.5, "known", "none"),  # between the thresholds nothing moves
        ("known", 0.7, 0.3, "forgotten", "replay"),
        ("learned", 0.7, 0.39, "forgotten", "replay"),
        ("forgotten", 0.3, 0.5, "forgotten", "replay"),
        ("forgotten", 0.3, 0.65, "learned", "none"),
        ("forgotten", 0.59, 0.6, "learned", "none"),
        ("contradicted", 0.1, 0.2, "external", "store"),
        ("contradicted", 0.1, 0.8, "learned", "promote"),
        ("demoted", 0.1, 0.2, "external", "store"),
        ("demoted", 0.1, 0.8, "learned", "promote"),
    ],
)
def test_a_stable_record(before, known_before, known, after, action):
    change = compare([RECORD], standings(before, known_before), {"r": probe(known)}, CONFIG)[0]
    assert (change.before, change.after, change.action) == (before, after, action)
    assert f"{known:.2f}" in change.reason or "rose by only 0.05" in change.reason


@pytest.mark.parametrize(("known", "after"), [(0.6, "known"), (0.59, "external")])
def test_what_a_model_knows_of_a_new_record_it_did_not_learn_of_us(known, after):
    (change,) = compare([RECORD], {}, {"r": probe(known)}, CONFIG)
    assert (change.before, change.after) == ("external", after)


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [
        ("known", "demoted", "demote"),
        ("learned", "demoted", "demote"),
        ("demoted", "demoted", "store"),
        ("external", "external", "store"),
        ("forgotten", "external", "store"),
    ],
)
def test_a_record_that_turned_volatile_leaves_the_weights_however_well_it_is_known(
    before, after, action
):
    change = compare([VOLATILE], standings(before), {"r": probe(0.99)}, CONFIG)[0]
    assert (change.after, change.action) == (after, action)


@pytest.mark.parametrize(
    ("before", "after"),
    [("learned", "contradicted"), ("contradicted", "contradicted"), ("external", "external")],
)
def test_what_changed_in_the_world_is_looked_up_at_once(before, after):
    change = compare([CHANGED], standings(before), {"r": probe(0.9)}, CONFIG)[0]
    assert (change.after, change.action) == (after, "store")
    assert "its answer changed" in change.reason


@pytest.mark.parametrize(
    ("before", "known", "after", "action"),
    [
        ("learned", 0.95, "learned", "none"),
        ("learned", 0.5, "learned", "none"),
        ("learned", 0.3, "forgotten", "replay"),
        ("external", 0.3, "external", "store"),
    ],
)
def test_a_question_that_alone_changed_is_judged_by_what_the_model_says_to_it_now(
    before, known, after, action
):
    change = compare([REWORDED], standings(before), {"r": probe(known)}, CONFIG)[0]
    assert (change.after, change.action) == (after, action)
    assert change.reason.startswith(
        f"its question changed; asked the present one, probe {known:.2f}"
    )


def test_a_question_that_alone_changed_is_not_held_back():
    changes = compare([REWORDED], standings("learned"), {"r": probe(0.9)}, CONFIG)
    entry = entries_of(changes, [REWORDED], model="m", at="2026-02-01")[0]
    past = [
        Entry(**standings("learned")["r"].model_dump(include=set(Entry.model_fields)), **told)
        for told in [{"at": "2026-01-01", "reason": "r"}]
    ]
    assert replay([*past, entry])["r"].changes == 0
    assert held_back([REWORDED], replay([*past, entry]), CONFIG) == {}


def test_a_ledger_that_does_not_tell_answers_apart_takes_a_new_wording_for_a_new_answer():
    old = {"r": standings("learned")["r"].model_copy(update={"answer": ""})}
    assert compare([RECORD], old, {"r": probe(0.9)}, CONFIG)[0].after == "learned"
    change = compare([REWORDED], old, {"r": probe(0.9)}, CONFIG)[0]
    assert change.after == "contradicted"
    assert change.reason.startswith("its question or answer changed")


@pytest.mark.parametrize(
    ("known", "former_known", "after"),
    [(0.3, 0.8, "contradicted"), (0.7, 0.8, "contradicted"), (0.8, 0.7, "learned")],
)
def test_weights_that_still_say_the_former_answer_contradict(known, former_known, after):
    found = {"r": probe(known, former_known)}
    assert compare([RECORD], standings("external"), found, CONFIG)[0].after == after


def test_a_former_answer_that_nobody_knows_does_not_contradict():
    found = {"r": probe(0.1, 0.3)}
    assert compare([RECORD], standings("external"), found, CONFIG)[0].after == "external"


def test_a_record_without_a_probe_is_an_error():
    with pytest.raises(DataError, match="record r: it was not probed"):
        compare([RECORD], {}, {}, CONFIG)


def test_changes_become_entries_that_replay_to_their_states():
    changes = compare([CHANGED], standings("learned"), {"r": probe(0.2)}, CONFIG)
    entry = entries_of(changes, [CHANGED], model="m2", at="2026-02-01")[0]
    after = replay([entry])["r"]
    assert (after.state, after.known, after.model) == ("contradicted", 0.2, "m2")
    assert after.wording == fingerprint(CHANGED)


def test_what_changed_is_held_back_until_it_has_stood_unchanged_for_two_probes():
    def entry(record: Record, day: int) -> Entry:
        return Entry(
            at=f"2026-01-0{day}",
            model="m",
            record="r",
            wording=fingerprint(record),
            answer=answer_fingerprint(record),
            known=0.1,
            state="external",
            reason="r",
        )

    past = [entry(RECORD, 1), entry(RECORD, 2)]
    assert held_back([RECORD], replay(past), CONFIG) == {}
    for day, expected in ((3, "0 of 2"), (4, "1 of 2"), (5, None)):
        past.append(entry(CHANGED, day))
        held = held_back([CHANGED], replay(past), CONFIG)
        assert (expected in held["r"]) if expected else (held == {})
    assert "0 of 2" in held_back([RECORD], replay(past), CONFIG)["r"]


def decision(name: str, place: str, order: int) -> Decision:
    return Decision(
        record=name,
        kind="foundation",
        place=place,
        known=0.1,
        cost=1,
        value=1,
        order=order,
        reason="r",
    )


def test_the_replay_queue_holds_forgotten_records_in_order_of_value():
    decisions = [
        decision("a", "internalise", 3),
        decision("b", "internalise", 1),
        decision("c", "internalise", 2),
        decision("d", "external", 0),
    ]
    before = {}
    for name, state in (
        ("a", "forgotten"),
        ("b", "external"),
        ("c", "forgotten"),
        ("d", "forgotten"),
    ):
        before |= standings(state, record=RECORD.model_copy(update={"id": name}))
    assert replay_queue(before, decisions) == ["c", "a"]


def test_before_training_only_what_is_watched_is_known():
    assert first_state(decision("a", "watch", 0)) == "known"
    assert first_state(decision("a", "internalise", 1)) == "external"
    assert first_state(decision("a", "external", 0)) == "external"
