# SPDX-License-Identifier: Apache-2.0
"""A request as a value, a conversation of several requests as a generator, and what a wire API offers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.ownership import SearchResult
from airflow_provider_openai_runs.runs.request import RunRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiReply:
    """A readable answer: a JSON object, and the headers under lower-case names."""

    data: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest(Generic[T]):
    """
    One request and how to read its answer.

    :param path: relative to the connection's base URL, with ids percent-encoded.
    :param read: turns the reply into what the caller wants; a ``ValueError`` means it is unreadable.
    :param pays: whether the call starts paid work, so that it must never be sent twice by accident.
    :param timeout: seconds for the answer to arrive; None leaves it to the client.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    read: Callable[[ApiReply], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    pays: bool = False
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait before the next call of a flow; with ``reconnect``, read the connection anew before it."""

    seconds: float
    refresh_connection: bool = False


#: The answer to a call: text, true or false to an approval request, or a whole input item of a response.
Answer = str | bool | Mapping[str, Any]
#: Yields calls and pauses, is sent what the calls read (or gets their error thrown in), and returns a result.
Flow = Generator[ApiRequest[Any] | Sleep, Any, T]


class Wire(Protocol):
    """What every wire API offers to the rest of the package."""

    def create(self, request: RunRequest, *, token: str | None, conn_id: str) -> ApiRequest[Run]:
        """Start the run. ``token`` goes into its metadata."""

    def poll(self, ref: RunRef) -> ApiRequest[PollResult]:
        """Ask how the run is doing: the smallest request there is."""

    def retrieve(self, ref: RunRef) -> ApiRequest[Run]:
        """Read the run without its output and steps, where these are separate."""

    def complete(self, run: Run, *, steps: bool) -> Flow[Run]:
        """Add what the API keeps elsewhere: the output text, the files and, if wanted, every step."""

    def cancel(self, ref: RunRef) -> ApiRequest[PollResult]:
        """End the run."""

    def search(self, *, thread_id: str | None, token: str, since: float, conn_id: str) -> Flow[SearchResult]:
        """Find the run whose metadata token starts with ``token``, created after ``since`` (Unix seconds)."""

    def answer(
        self, run: Run, outputs: Mapping[str, Answer], request: RunRequest | None, *, token: str | None
    ) -> ApiRequest[Run]:
        """Answer the model's calls, by call id."""


__all__ = ["Answer", "ApiReply", "ApiRequest", "Flow", "Sleep", "Wire"]
