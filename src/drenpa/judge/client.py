"""The client that judges and baselines ask through, from their settings in a recipe."""

from __future__ import annotations

from drenpa.config import EndpointConfig
from drenpa.core.endpoint import ChatClient, Endpoint
from drenpa.core.store import Store


def chat_client(config: EndpointConfig, place: str, store: Store | None = None) -> ChatClient:
    """Return a client for the endpoint that stands at a place of the recipe.

    raises: ConfigError without a model name, a key or the `openai` package.
    """
    endpoint = Endpoint(
        config.model,
        base_url=config.base_url,
        key_env=config.key_env,
        timeout_s=config.timeout_s,
        retries=config.retries,
        requests_per_minute=config.requests_per_minute,
        price_in=config.price_in,
        price_out=config.price_out,
        max_cost=config.max_cost,
        request=config.request,
    )
    return ChatClient(endpoint, place, store)
