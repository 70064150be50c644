# SPDX-License-Identifier: Apache-2.0
"""Whether a connection can serve runs: its route, its key, its models, and the kinds of run that it knows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.prices import Prices
from airflow_provider_openai_runs.runs.status import RunKind, noun_of
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.wire import Flow, flows, reading, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest

T = TypeVar("T")

#: Seconds for each question; a person waits for the answers.
_BUDGET = 5.0
#: Days before a model is switched off from which on it is said.
_SOON = 90
#: Ids that no server has given to anything, to ask whether it knows the route.
_NOBODY = {
    "id": "resp_0000000000000000000000000000000000000000000000000000",
    "thread_id": "thread_000000000000000000000000",
}
#: Failures of a question that are an answer all the same.
_TELLING = frozenset({FailureKind.NOT_FOUND, FailureKind.REJECTED})
_MISSING = frozenset({404, 405, 410, 501})
#: How a server speaks of a thing that it does not know, as against a route that it does not have.
_THING_IS_MISSING = re.compile(r"(?i)\b(response|run|thread|id)\b|_0{6}")
_ROUTE_IS_MISSING = re.compile(r"(?i)invalid url|cannot get|route|no such endpoint|<html")


class Hook(Protocol):
    """What is asked: a hook of this package."""

    conn_id: str

    @property
    def conn(self) -> Any:
        """The client, which is made of the connection."""

    @property
    def prices(self) -> Prices:
        """What the connection says of prices."""

    def run_flow(self, flow: Flow[T]) -> T:
        """Run a flow to its result."""


class Level(StrEnum):
    """How good what was found is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    The answer to one question about a connection, or about Airflow.

    :param about: what was asked about, in a word or two.
    :param text: a sentence; where the level is not ``OK`` it says what to do.
    """

    about: str
    level: Level
    text: str

    def to_json(self) -> dict[str, str]:
        """Return the form for scripts."""
        return {"about": self.about, "level": str(self.level), "text": self.text}


def diagnose(hook: Hook, *, models: Collection[str] = (), today: date | None = None) -> Iterator[Finding]:
    """
    Ask a connection's server, and yield a finding for each question. Nothing is created or paid.

    :param models: names that should be there.
    :param today: decides how soon a model is switched off; the present day in UTC if it is not given.
    """
    try:
        base_url = urlsplit(str(hook.conn.base_url))
    except Exception as error:  # noqa: BLE001 # whatever is wrong with it, it says so
        yield Finding(about="connection", level=Level.FAILED, text=message_text(error))
        return
    yield from _about_prices(hook)
    host = f"{base_url.scheme}://{base_url.hostname}{f':{base_url.port}' if base_url.port else ''}"
    where = message_text(f"{host}{base_url.path}").rstrip("/")
    listed = _ask(hook, _models())
    if isinstance(listed, RequestFailure) and listed.kind not in _TELLING:
        yield _unusable(listed, where, hook.conn_id)
        return
    failures = {kind: _failure_of_nobodys_run(hook, kind) for kind in RunKind}
    known = [kind for kind, failure in failures.items() if _is_known(kind, failure)]
    if not known:
        yield _nothing_known(failures.values(), where, hook.conn_id)
        return
    yield Finding(about="route and key", level=Level.OK, text=f"{where} answers, and takes the key.")
    for kind in failures:
        yield _about_kind(kind, kind in known)
    for name in models:
        yield _about_model(hook, name, listed, today or datetime.now(UTC).date())


def _about_prices(hook: Hook) -> Iterator[Finding]:
    try:
        prices = hook.prices
    except OpenAIRunError as error:
        yield Finding(about="prices", level=Level.FAILED, text=f"{error} No task creates a run with them.")
        return
    if prices.by_pattern:
        patterns = ", ".join(map(message_text, prices.by_pattern))
        yield Finding(about="prices", level=Level.OK, text=f"There are prices for {patterns}.")


def _ask(hook: Hook, request: ApiRequest[T]) -> T | RequestFailure:
    try:
        return hook.run_flow(flows.with_retries(flows.single(request), budget=_BUDGET))
    except ApiRequestFailed as failed:
        return failed.failure


def _failure_of_nobodys_run(hook: Hook, kind: str) -> RequestFailure | None:
    found = _ask(hook, wire_of(kind).poll(RunRef(kind=kind, conn_id=hook.conn_id, **_NOBODY)))
    return found if isinstance(found, RequestFailure) else None


def _is_known(kind: str, failure: RequestFailure | None) -> bool:
    """Tell whether the answer to a question about nobody's run comes from the route of its kind."""
    if failure is None:
        return True
    if failure.kind not in _TELLING or wire_of(kind).missing_route(failure) is not None:
        return False
    thing = _THING_IS_MISSING.search(failure.text) and not _ROUTE_IS_MISSING.search(failure.text)
    return failure.http_status not in _MISSING or bool(thing)


def _nothing_known(failures: Iterable[RequestFailure | None], where: str, conn_id: str) -> Finding:
    for failure in failures:
        if failure is not None and failure.kind not in _TELLING:
            return _unusable(failure, where, conn_id)
    return Finding(
        about="route",
        level=Level.FAILED,
        text=f"{where} answers, but knows neither responses nor thread runs. The Host of connection "
        f"{conn_id!r} usually ends in /v1: is it right?",
    )


def _unusable(failure: RequestFailure, where: str, conn_id: str) -> Finding:
    match failure.kind:
        case FailureKind.ACCESS_DENIED:
            about, text = "key", f"{where} refuses the key or its rights ({failure}). Set another password"
        case FailureKind.NO_QUOTA:
            about, text = (
                "account",
                f"{where} takes the key, but the account cannot pay ({failure}). Check it",
            )
        case FailureKind.NOT_SENT:
            about, text = "route", f"{where} cannot be reached ({failure}). Check the Host and the proxy"
        case _:
            about, text = "route", f"{where} does not answer as it should ({failure}). Try again, or check"
    return Finding(about=about, level=Level.FAILED, text=f"{text} of connection {conn_id!r}.")


def _about_kind(kind: str, known: bool) -> Finding:
    noun = noun_of(kind)
    if known:
        return Finding(about=f"{noun}s", level=Level.OK, text=f"The server knows {noun}s.")
    return Finding(
        about=f"{noun}s",
        level=Level.WARNING,
        text=f"The server does not know {noun}s. Tasks that create one need another connection.",
    )


def _about_model(hook: Hook, name: str, listed: dict[str, object] | RequestFailure, today: date) -> Finding:
    about = f"model {message_text(name)}"
    if isinstance(listed, RequestFailure):
        return Finding(
            about=about, level=Level.WARNING, text="The server has no list of models; nobody knows."
        )
    # Not every server lists what it has: fine-tuned models, other names of a model.
    found: dict[str, object] | RequestFailure = listed
    if name not in listed:
        found = _ask(hook, _model(name))
    if isinstance(found, RequestFailure):
        if found.http_status == HTTPStatus.NOT_FOUND:
            return Finding(
                about=about,
                level=Level.FAILED,
                text=f"There is no such model, or not for this key ({found}).",
            )
        return Finding(about=about, level=Level.WARNING, text=f"The server does not say ({found}).")
    ends = _day(found.get(name))
    if ends is None:
        return Finding(about=about, level=Level.OK, text="It is there; no day is announced for its end.")
    left = (ends - today).days
    if left <= 0:
        return Finding(
            about=about,
            level=Level.FAILED,
            text=f"It was switched off on {ends}. Name another one in the Dags.",
        )
    soon = left <= _SOON
    return Finding(
        about=about,
        level=Level.WARNING if soon else Level.OK,
        text=f"It is there, and is switched off on {ends}, in {left} days."
        + (" Name another one in the Dags." if soon else ""),
    )


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10]) if value else None
    except ValueError:
        return None


def _models() -> ApiRequest[dict[str, object]]:
    """Ask for all models: the name of each, and the day on which it is switched off."""

    def read(reply: ApiReply) -> dict[str, object]:
        models = reading.objects_of(reply.data.get("data"))
        return {str(model.get("id")): model.get("shutdown_date") for model in models}

    return ApiRequest(method="GET", path="/models", read=read)


def _model(name: str) -> ApiRequest[dict[str, object]]:
    def read(reply: ApiReply) -> dict[str, object]:
        return {name: reply.data.get("shutdown_date")}

    return ApiRequest(method="GET", path=f"/models/{quote(name, safe='')}", read=read)
