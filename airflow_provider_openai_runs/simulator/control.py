# SPDX-License-Identifier: Apache-2.0
"""The `/simulator/` routes: what `Simulator` offers in Python, for those outside of its process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from airflow_provider_openai_runs.simulator.batch_scenario import BatchScenario
from airflow_provider_openai_runs.simulator.faults import Fault
from airflow_provider_openai_runs.simulator.limits import Limits
from airflow_provider_openai_runs.simulator.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from airflow_provider_openai_runs.simulator.store import Store

    Control = Callable[[Store, Any], dict[str, Any]]


def control_routes(store: Store) -> list[Route]:
    """Make the routes; wrong input is answered 400 with `{"error": {"message": ...}}`."""
    return [_route(store, method, path, control) for method, path, control in _CONTROLS]


def runs(store: Store) -> list[dict[str, Any]]:
    """Describe every run, response and batch that was ever created, as it is now."""
    with store.lock:
        now = store.clock.now()
        return [record.summary(now) for record in store.history]


def active(store: Store) -> list[dict[str, Any]]:
    """Describe those that have not ended."""
    with store.lock:
        now = store.clock.now()
        return [record.summary(now) for record in store.history if not record.timeline.is_terminal(now)]


def _route(store: Store, method: str, path: str, control: Control) -> Route:
    async def endpoint(request: Request) -> JSONResponse:
        try:
            body = await request.json() if await request.body() else {}
            with store.lock:
                return JSONResponse(control(store, body))
        except ValueError as error:
            return JSONResponse({"error": {"message": str(error)}}, status_code=400)

    return Route(f"/simulator/{path}", endpoint, methods=[method])


def _health(store: Store, _body: Any) -> dict[str, Any]:
    return {"status": "ok", "now": store.clock.now(), "runs": len(store.history)}


def _requests(store: Store, _body: Any) -> dict[str, Any]:
    return {"data": [request.to_json() for request in store.requests.all()]}


def _runs(store: Store, _body: Any) -> dict[str, Any]:
    return {"data": runs(store)}


def _script(store: Store, body: Any) -> dict[str, Any]:
    scenarios = [Scenario.from_json(one) for one in _as_list(body)]
    for scenario in scenarios:
        store.scripts.plan(scenario)
    return {"planned": len(scenarios)}


def _script_batches(store: Store, body: Any) -> dict[str, Any]:
    scenarios = [BatchScenario.from_json(one) for one in _as_list(body)]
    for scenario in scenarios:
        store.batch_scripts.plan(scenario)
    return {"planned": len(scenarios)}


def _limit(store: Store, body: Any) -> dict[str, Any]:
    store.limit(Limits.from_json(body))
    return {}


def _fault(store: Store, body: Any) -> dict[str, Any]:
    faults = [Fault.from_json(one) for one in _as_list(body)]
    for fault in faults:
        store.faults.add(fault)
    return {"planned": len(faults)}


def _reset(store: Store, _body: Any) -> dict[str, Any]:
    store.reset()
    return {}


def _advance(store: Store, body: Any) -> dict[str, Any]:
    seconds = body.get("seconds") if isinstance(body, dict) else None
    if not isinstance(seconds, int | float):
        raise ValueError('Send {"seconds": <number>}.')  # noqa: TRY004 - wrong input, answered as 400
    store.clock.advance(seconds)
    return {"now": store.clock.now()}


def _as_list(body: Any) -> list[Any]:
    return body if isinstance(body, list) else [body]


_CONTROLS: list[tuple[str, str, Control]] = [
    ("GET", "health", _health),
    ("GET", "requests", _requests),
    ("GET", "runs", _runs),
    ("POST", "scenarios", _script),
    ("POST", "batch-scenarios", _script_batches),
    ("POST", "faults", _fault),
    ("POST", "limits", _limit),
    ("POST", "reset", _reset),
    ("POST", "advance", _advance),
]
