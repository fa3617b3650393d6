"""What requests may cost, before any is sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.tiny import byte_tokenizer

from drenpa.core.endpoint import (
    ChatClient,
    Endpoint,
    EndpointError,
    Purse,
    _Pace,
    address_of,
    spread,
)
from drenpa.core.errors import ConfigError, ScoringError

TEXTS = ("What is a morpheme?", "什么是语素？", "ཚིག་ཕྲད་ཞེས་པ་ཅི་ཡིན།", "🐝\ud800")


def client(**settings: Any) -> ChatClient:
    # A port where nothing listens: whatever is sent fails otherwise than these tests say.
    endpoint = Endpoint("m", base_url="http://127.0.0.1:9/v1", retries=0, **settings)
    return ChatClient(endpoint, "critic.expand")


def test_no_text_has_more_tokens_than_are_counted_before_it_is_sent():
    bytes_alone = byte_tokenizer()
    for text in TEXTS:
        readable = text.encode(errors="replace").decode()
        tokens, written, money = client(price_in=2.0, price_out=10.0).most(
            {"messages": [{"role": "user", "content": text}], "max_tokens": 100}
        )
        assert tokens >= len(bytes_alone.encode(readable))
        assert written == 100
        assert money == pytest.approx((2 * tokens + 10 * 100) / 1e6)


@pytest.mark.parametrize(
    ("request_of_recipe", "most"),
    [
        ({"max_tokens": None, "max_completion_tokens": 900}, 900),
        ({"max_tokens": 100, "max_completion_tokens": 900}, 900),
        ({"max_tokens": -1}, 0),
        ({}, 0),
    ],
)
def test_the_larger_of_both_limits_bounds_the_output(request_of_recipe, most):
    assert client().most({"messages": []} | request_of_recipe)[1] == most


@pytest.mark.parametrize("limit", [None, 0, -1])
def test_a_sum_without_a_limit_of_output_is_refused_when_the_client_is_made(limit):
    priced = {"price_in": 1.0, "price_out": 1.0, "max_cost": 5.0}
    with pytest.raises(ConfigError, match=r"critic\.expand\.request: takes max_tokens away"):
        client(request={"max_tokens": limit}, **priced)
    client(request={"max_tokens": limit, "max_completion_tokens": 900}, **priced)
    client(request={"max_tokens": limit}, price_in=1.0, max_cost=5.0)  # output costs nothing


def test_a_request_without_a_limit_of_output_is_not_sent_where_there_is_a_sum():
    asking = client(price_out=1.0, max_cost=5.0)
    with pytest.raises(ScoringError, match="no max_tokens and no max_completion_tokens"):
        asking.ask([{"role": "user", "content": "q"}])


@pytest.mark.parametrize("limit", ["1k", [1], True, 1.5])
def test_a_limit_of_output_is_a_number_of_tokens(limit):
    with pytest.raises(ConfigError, match=r"critic\.expand\.request\.max_tokens: .* is no number"):
        client(request={"max_tokens": limit})


@pytest.mark.parametrize("key", ["“sk-1”", "sk\x07"])
def test_what_cannot_be_a_key_is_told_and_not_shown(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError, match=r"key_env: what \$OPENAI_API_KEY holds") as caught:
        client()
    assert key not in str(caught.value)


def test_blanks_around_a_key_are_no_part_of_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\n")
    assert client()._client.api_key == "sk-1"


def test_an_empty_address_means_what_the_environment_says(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert address_of("") == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert address_of("") == "http://127.0.0.1:1/v1"
    assert address_of("http://127.0.0.1:2/v1") == "http://127.0.0.1:2/v1"
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    asking = ChatClient(Endpoint("m"), "judge")
    assert asking.identity["base_url"].rstrip("/") == address_of("")


def test_nobody_sits_out_a_wait_when_all_is_stopped():
    stopped, begun = threading.Event(), threading.Event()
    pace = _Pace(0, stopped)

    def work(number: int) -> int:
        if number == 0:
            begun.wait(10)
            raise KeyboardInterrupt
        begun.set()
        pace.rest(600)
        return number

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(spread(work, [0, 1], 2, stopped))
    assert time.monotonic() - began < 60
    assert [found for _, found in spread(str, [1], 1, stopped)] == ["1"]
    assert not stopped.is_set()


def purse(limit: float, spent: float = 0.0) -> Purse:
    return Purse(limit, spent, lambda cost: None)


@contextmanager
def waiting_for(held: Purse, most: float) -> Iterator[None]:
    """A request that may cost so much waits meanwhile; afterwards it must have gone on."""
    thread = threading.Thread(target=held.hold, args=(most,), daemon=True)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    yield
    thread.join(5)
    assert not thread.is_alive()


def test_a_request_waits_while_others_may_still_leave_room_for_it():
    one = purse(1.0, spent=0.25)
    one.hold(0.5)
    with waiting_for(one, 0.5):
        one.settle(0.5, 0.125)  # 0.375 is spent, and 0.5 beside it is not too much


def test_a_request_that_has_no_room_beside_what_is_spent_ends_the_run():
    one = purse(1.0, spent=0.25)
    one.hold(0.5)
    with pytest.raises(EndpointError, match=r"0\.25 is spent, and the next request may cost 0\.8"):
        one.hold(0.8)
    one.settle(0.5, 0.5)
    with pytest.raises(EndpointError) as caught:
        one.hold(0.5)
    assert caught.value.for_all


def test_a_whole_sum_can_be_spent_whatever_rounding_leaves():
    one = purse(0.5)
    for most in (0.1, 0.2, 0.1):  # 0.1 + 0.2 - 0.1 - 0.2 is 2.8e-17 in floating point
        one.hold(most)
    for most in (0.2, 0.1, 0.1):
        one.settle(most, 0.0)
    one.hold(0.5)


def test_without_a_limit_nothing_waits():
    one = purse(0.0)
    for _ in range(3):
        one.hold(1e9)


def test_what_is_lost_is_spent_and_handed_on():
    lost: list[float] = []
    one = Purse(1.0, 0.0, lost.append)
    one.hold(0.75)
    one.lose(0.75)
    assert (one.spent, lost) == (0.75, [0.75])
    one.hold(0.0)
    one.lose(0.0)  # without prices there is nothing to keep
    assert lost == [0.75]
