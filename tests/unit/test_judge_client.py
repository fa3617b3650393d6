"""The client that judges and baselines ask through."""

from __future__ import annotations

import gc

from drenpa.config import JudgeConfig
from drenpa.judge.client import chat_client


def test_a_client_that_is_dropped_leaves_no_connection_open():
    config = JudgeConfig(name="openai", model="m", base_url="http://127.0.0.1:9/v1")
    client = chat_client(config, "benchmark.judge")
    inner = client._client
    assert not inner.is_closed()
    del client
    gc.collect()
    assert inner.is_closed()
