# SPDX-License-Identifier: Apache-2.0
"""Routes of models: a few names, and when OpenAI switches them off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.errors import ApiError

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.store import Store

#: As announced by November 2026; None where nothing is announced.
_SHUTDOWN_DATES: dict[str, str | None] = {
    "gpt-6.1-sol": None,
    "gpt-6.1-terra": None,
    "gpt-6-luna": None,
    "gpt-5": "2026-12-11",
    "gpt-5-mini": "2026-12-11",
    "gpt-4.1": "2027-01-14",
    "gpt-4.1-mini": "2027-01-14",
    "gpt-4o": "2027-01-14",
    "gpt-4o-mini": "2027-01-14",
}


def list_models(_store: Store, _request: ApiRequest) -> dict[str, Any]:
    """GET /models: those that are known; any other name works too."""
    return {"object": "list", "data": [_model(name) for name in _SHUTDOWN_DATES]}


def retrieve_model(_store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /models/{id}."""
    name = request.ids["model"]
    if name.startswith("no-such-"):
        message = f"The model '{name}' does not exist"
        raise ApiError(message, status=404, param="model", code="model_not_found")
    return _model(name)


def _model(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "simulator",
        "shutdown_date": _SHUTDOWN_DATES.get(name),
    }


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/models", list_models),
    ("GET", "/models/{model}", retrieve_model),
]
