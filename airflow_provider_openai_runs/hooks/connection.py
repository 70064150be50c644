# SPDX-License-Identifier: Apache-2.0
"""From an Airflow connection to clients, and flows run on them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

import openai
from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.openai.hooks.openai import OpenAIHook
from asgiref.sync import sync_to_async

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.hooks.diagnosis import Level, diagnose
from airflow_provider_openai_runs.hooks.settings import client_settings, unused_port
from airflow_provider_openai_runs.hooks.urls import account_of, address_of, run_url
from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.budgets import CONNECTION_BUDGET, CONNECTION_PAUSE
from airflow_provider_openai_runs.runs.error_of_request import error_of_request
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunConnectionError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.prices import Prices
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.transport import download, driver, sdk
from airflow_provider_openai_runs.transport.api_key import in_a_thread
from airflow_provider_openai_runs.transport.failures import not_sent
from airflow_provider_openai_runs.transport.limits import BoundedClient
from airflow_provider_openai_runs.transport.shared_client import shared
from airflow_provider_openai_runs.wire import Flow, flows, wire_of
from airflow_provider_openai_runs.wire.protocol import ApiRequest

if TYPE_CHECKING:
    import httpx2
    from airflow.providers.common.compat.sdk import Connection

T = TypeVar("T")

#: Types of connections whose secret may be meant for OpenAI though they name no address.
_OWN_TYPES = frozenset({"openai", "", None})


class ConnectionHook(OpenAIHook):
    """
    The official hook, and flows run on its clients.

    :param conn_id: the connection; its form is that of the official provider. Extra may also hold
        ``run_url_template``, ``api_key_provider`` and ``prices``.
    :param sleep: how to pause between tries; operators pass one that a kill interrupts.
    :param existed: a run was created with this connection. Not to find it is then a failure that may pass:
        Airflow says the same when its database is away.
    :param withholds: do not repeat in errors what the server said: it may quote a prompt or an answer.
    """

    def __init__(
        self,
        conn_id: str = OpenAIHook.default_conn_name,
        *,
        sleep: Callable[[float], None] = time.sleep,
        existed: bool = False,
        withholds: bool = False,
    ) -> None:
        super().__init__(conn_id)
        self.sleep = sleep
        self.existed = existed
        self.withholds = withholds
        self._others: dict[str, Self] = {}
        self._held: list[AsyncExitStack] = []

    async def __aenter__(self) -> Self:
        """Keep the shared client open from one asynchronous call to the next: each would make its own."""
        held = AsyncExitStack()
        await held.enter_async_context(shared(self))
        self._held.append(held)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of it."""
        await self._held.pop().aclose()

    def for_connection(self, conn_id: str) -> Self:
        """Return a hook for the connection of a run that exists, with the same way to sleep."""
        return type(self)(conn_id, sleep=self.sleep, existed=True, withholds=self.withholds)

    def await_connection(self, run: str | None) -> None:
        """
        Read the connection; the one of a run is asked for again for a while.

        :param run: names the run that the connection is needed for, if there is one.
        :raises RunConnectionError: if it is not found, or not usable.
        """
        ends, pause = time.monotonic() + CONNECTION_BUDGET, 1.0
        while True:
            try:
                _ = self._connection
            except RunConnectionError as error:
                if not error.retryable:
                    raise
                if time.monotonic() + pause >= ends:
                    text = f"{error} {run or 'The run'} may be running and billing. A retry asks again."
                    with airflow_errors():
                        raise RunConnectionError(text, retryable=True) from None
                self.log.warning("%s Asking again in %.0f s", error, pause)
                self.sleep(pause)
                pause = min(pause * 2, CONNECTION_PAUSE)
            else:
                return

    @cached_property
    def _connection(self) -> tuple[Connection, dict[str, Any]]:
        """The connection and its extra, read once for each hook."""
        return self.read_connection()

    def read_connection(self) -> tuple[Connection, dict[str, Any]]:
        """Read the connection and its extra anew."""
        with airflow_errors(), _connection_errors(self.conn_id, existed=self.existed):
            connection = self.get_connection(self.conn_id)
            return connection, _extra(connection.extra_dejson)

    @property
    def prices(self) -> Prices:
        """
        What the deployment says of prices, in the extra ``prices``; no client gets to see it.

        :raises RunConnectionError: if the table is wrong; it names the entry.
        """
        with airflow_errors(), _connection_errors(self.conn_id):
            return Prices.from_json(self._connection[1].get("prices"))

    def get_conn(self) -> openai.OpenAI:
        """Build a client of its own; ``conn`` is the one that this hook keeps."""
        with airflow_errors(), _connection_errors(self.conn_id):
            return openai.OpenAI(**{"http_client": BoundedClient(), **self._client_kwargs(*self._connection)})

    async def aread_connection(self) -> tuple[Connection, dict[str, Any]]:
        """Read the connection and its extra anew, without blocking the event loop."""
        with airflow_errors(), _connection_errors(self.conn_id, existed=self.existed):
            try:
                connection = await get_async_connection(self.conn_id, hook=self)
            except Exception as error:
                if not _is_missing(error):
                    raise
                # Within dag.test(), Airflow (3.3) finds what is in its database by a synchronous read only.
                connection = await sync_to_async(self.get_connection, thread_sensitive=False)(self.conn_id)
            return connection, _extra(await get_async_extra_dejson(connection))

    def build_async_client(
        self, connection: Connection, extras: dict[str, Any], http_client: httpx2.AsyncClient
    ) -> openai.AsyncOpenAI:
        """Build an asynchronous client; it takes 25 ms of CPU, so do it in a thread."""
        with airflow_errors(), _connection_errors(self.conn_id):
            settings = self._client_kwargs(connection, extras)
            if callable(settings.get("api_key")):
                settings["api_key"] = in_a_thread(settings["api_key"])
            return openai.AsyncOpenAI(**{"http_client": http_client, **settings})

    def _client_kwargs(self, conn: Connection, extras: dict[str, Any]) -> dict[str, Any]:
        """Build the client's keyword arguments, with the key of ``api_key_provider`` where one is named."""
        settings = super()._client_kwargs(conn, extras)
        if conn.conn_type not in _OWN_TYPES and not settings.get("base_url"):
            raise RunConnectionError(
                f"Connection {self.conn_id!r} is of type {message_text(conn.conn_type)!r} and names no Host: "
                "its secret would be sent to OpenAI. Nothing was sent. Use a connection of type 'openai'.",
                retryable=False,
            )
        found = client_settings(settings, conn, extras)
        if conn.host and (unused := unused_port(found.get("base_url"), conn.port)):
            self.log.warning("Connection %r: %s", self.conn_id, unused)
        return found

    def run_url(self, ref: RunRef) -> str:
        """Return the page that shows a run, or nothing: no link rather than a broken one."""
        try:
            template = self._connection[1].get("run_url_template")
            return run_url(ref, base_url=str(self.conn.base_url), template=template)
        except Exception as error:  # noqa: BLE001
            # A run that has just been paid for must not be given up for its link.
            self.log.warning("There is no link: %s", message_text(error))
            return ""

    def run_flow(self, flow: Flow[T]) -> T:
        """
        Run a flow to its result.

        :raises ApiRequestFailed: for the caller to decide about.
        """
        if self.withholds:
            flow = flows.withholding(flow)
        return driver.run(
            flow, send=self._send, sleep=self.sleep, refresh_connection=self._refresh_connection
        )

    def _send(self, request: ApiRequest[T]) -> T:
        try:
            client = self.conn
        except Exception as error:  # noqa: BLE001 # what it says is kept
            raise not_sent(error) from None
        return sdk.send(client, request) if request.receiver is None else download.send(client, request)

    async def arun_flow(self, flow: Flow[T]) -> T:
        """Run a flow on the client that all waits of this event loop share."""
        if self.withholds:
            flow = flows.withholding(flow)
        async with shared(self) as client:
            return await client.run_flow(flow)

    def _refresh_connection(self) -> None:
        """Read the connection anew: its key was refused, or its route is missing."""
        for name in ("_connection", "conn"):
            self.__dict__.pop(name, None)

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the connection can serve runs, and in sentences what is known of it."""
        findings = list(diagnose(self))
        works = all(finding.level is not Level.FAILED for finding in findings)
        return works, " ".join(finding.text for finding in findings)

    def error_of(self, failure: RequestFailure, *, doing: str, kind: str) -> OpenAIRunError:
        """Return the public error for a request that failed for good."""
        missing_route = wire_of(kind).missing_route(failure)
        return error_of_request(
            failure, doing=doing, conn_id=self.conn_id, missing_route=missing_route, base_url=self._address()
        )

    @property
    def account(self) -> Account | None:
        """Where this connection leads, and as whom; None if it makes no client."""
        try:
            # What a provider gives may be another key each hour.
            return account_of(self.conn, key=self._connection[1].get("api_key_provider"))
        except Exception:  # noqa: BLE001 # whoever sends a request hears of it
            return None

    def _address(self) -> str:
        """
        Return where requests go, without what may be a secret; nothing if there is no client yet.

        None is built for it: on an event loop that would block.
        """
        return address_of(self.conn.base_url) if "conn" in self.__dict__ else ""


def _extra(value: object) -> dict[str, Any]:
    """
    Require the extra of a connection to be what its fields are read from.

    :raises ValueError: if it is not.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"its Extra must be a JSON object, not a {type(value).__name__}")  # noqa: TRY004 # no bug
    settings = value.get("openai_client_kwargs")
    if settings and not isinstance(settings, Mapping):
        raise ValueError("openai_client_kwargs in its Extra must be a JSON object")
    return dict(value)


@contextmanager
def _connection_errors(conn_id: str, *, existed: bool = False) -> Iterator[None]:
    """Say which connection is missing or unusable, instead of a class name of the SDK."""
    try:
        yield
    except OpenAIRunError:
        raise
    except openai.OpenAIError as error:
        text = message_text(error)
        if "api_key" in text:
            text = f"it has no key, which belongs into its Password ({text})"
        raise RunConnectionError(f"Connection {conn_id!r} makes no usable client: {text}") from None
    except (ValueError, TypeError, ImportError) as error:  # the last of a SOCKS proxy without its package
        raise RunConnectionError(f"Connection {conn_id!r} is not usable: {message_text(error)}") from None
    except Exception as error:
        if not _is_missing(error):
            raise
        missing = f"There is no connection {conn_id!r} ({message_text(error)})"
        if existed:
            text = f"{missing}, though a run was created with it: Airflow may not reach its database."
            raise RunConnectionError(text, retryable=True) from None
        raise RunConnectionError(f"{missing}. Create it with type openai, or name another conn_id.") from None


def _is_missing(error: Exception) -> bool:
    """Whether Airflow knows no such connection; it says so differently in the worker and in the triggerer."""
    text = f"{type(error).__name__} {error}"
    return re.search(r"not.?found|isn't defined", text, re.IGNORECASE) is not None
