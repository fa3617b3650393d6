"""The client that judges and baselines ask through, from their settings in a recipe."""

from __future__ import annotations

from drenpa.config import EndpointConfig
from drenpa.core.endpoint import ChatClient, Endpoint
from drenpa.core.store import Store


def chat_client(config: EndpointConfig, place: str, store: Store | None = None) -> ChatClient:
    """Return a client for the endpoint that stands at a place of the recipe.

    raises: ConfigError without a model name, a key or the `openai` package.
    """
    return ChatClient(Endpoint.of(config), place, store)
