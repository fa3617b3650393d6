"""Every error that a user can repair is one family, and says what is near."""

from __future__ import annotations

import pytest

from drenpa.core import errors
from drenpa.core.errors import DataError, DrenpaError, ShapeError, did_you_mean

CHILDREN = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, Exception) and value is not DrenpaError
]


@pytest.mark.parametrize("child", CHILDREN, ids=lambda child: child.__name__)
def test_every_error_is_a_drenpa_error_and_keeps_its_words(child):
    assert issubclass(child, DrenpaError)
    assert str(child("file.yaml:3: what; do this")) == "file.yaml:3: what; do this"


def test_a_data_error_lists_every_fault_on_its_own_line():
    error = DataError(fault for fault in ("a.jsonl:1: x", "a.jsonl:2: y"))
    assert error.faults == ("a.jsonl:1: x", "a.jsonl:2: y")
    assert str(error) == "a.jsonl:1: x\na.jsonl:2: y"
    assert DataError("one fault").faults == ("one fault",)


def test_a_shape_error_is_a_value_error_too():
    with pytest.raises(ValueError, match="axes"):
        raise ShapeError("axes")


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("metacogniton", ["foundation", "metacognition"], "; did you mean 'metacognition'?"),
        ("zebra", ["foundation", "metacognition"], ""),
        ("x", [], ""),
    ],
)
def test_a_suggestion_is_made_only_for_a_near_word(word, known, hint):
    assert did_you_mean(word, known) == hint
    assert did_you_mean(word, iter(known)) == hint
