# SPDX-License-Identifier: Apache-2.0
"""A request as a value, a flow of several requests as a generator, and what a wire API offers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

from airflow_provider_openai_runs.runs.acquisition import SearchResult
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.request import RunRequest

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiReply:
    """
    A readable answer: a JSON object, and the headers under lower-case names.

    :param content: the body as it came, where it is in memory.
    """

    data: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)


class Receiver(Protocol):
    """
    Takes a body piece by piece, of whatever size, and says what is to be read of it.

    :param limit: bytes; a larger body is an error.
    """

    limit: int

    def restart(self) -> None:
        """Forget what has arrived: the request is sent again."""

    def take(self, piece: bytes) -> None:
        """Keep what has arrived."""

    def read(self) -> Mapping[str, Any]:
        """
        Return the JSON object; an empty one of a body that is not read.

        :raises ValueError: if it is none.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """
    A file of this machine that is sent in pieces.

    :param name: what the server is to call it.
    """

    path: Path
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest(Generic[T]):
    """
    One request and how to read its answer.

    :param path: relative to the connection's base URL, with ids percent-encoded.
    :param read: turns the reply into what the caller wants; a ``ValueError`` means it is unreadable.
    :param pays: whether the request starts paid work, so that it must never be sent twice by accident.
    :param head_is_enough: whether the beginning of an answer will do if it is too large to be read whole.
    :param timeout: seconds for the answer to arrive; None leaves it to the client.
    :param leave_by: Unix seconds, after which it must not leave any more. Not of the monotonic clock, which
        stands still while a machine is suspended.
    :param once: its flow decides itself what follows a failure, so ``with_retries`` does not send it again.
    :param receiver: takes the body, where it may be too large for memory; only the synchronous client can.
    :param upload: is sent as a form's file, with ``body`` as its other fields; the same holds.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    read: Callable[[ApiReply], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    pays: bool = False
    head_is_enough: bool = False
    timeout: float | None = None
    leave_by: float | None = None
    once: bool = False
    receiver: Receiver | None = None
    upload: Upload | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """
    Wait before the next request of a flow.

    :param refresh_connection: read the connection anew before that.
    :param because: what failed, for the log; a pause that goes without saying has none.
    """

    seconds: float
    refresh_connection: bool = False
    because: str | None = None


#: The answer to a call: text, true or false to an approval request, or a whole output item of a response.
Answer = str | bool | Mapping[str, Any]
#: Yields requests and pauses, is sent what these read (or gets their error thrown in), and returns a result.
Flow = Generator[ApiRequest[Any] | Sleep, Any, T]


class Wire(Protocol):
    """
    What every wire API offers to the rest of the package: all that differs by kind is asked here.

    :param can_search: whether a run can be found by the token in its metadata.
    :param answers_in_place: whether a run whose calls are answered goes on itself; else a new one does, which
        is created and paid for.
    """

    can_search: bool
    answers_in_place: bool

    def create_thread_for(self, request: RunRequest) -> ApiRequest[str] | None:
        """Create the thread that ``request`` brings along, and read its id; None if it brings none."""

    def create(self, request: RunRequest, *, token: str | None, conn_id: str) -> ApiRequest[Run]:
        """Start the run. ``token`` goes into its metadata."""

    def poll(self, ref: RunRef) -> ApiRequest[PollResult]:
        """Ask how the run is doing: the smallest request there is."""

    def retrieve(
        self, ref: RunRef, request: RunRequest | None = None, *, include: Sequence[str] = ()
    ) -> ApiRequest[Run]:
        """
        Read the run without its output and steps, where these are separate.

        :param request: what it was created with, where that is known: it says which tools were offered.
        :param include: what the API leaves out of an answer unless it is asked for.
        """

    def complete(self, run: Run, *, steps: bool, include: Sequence[str] = ()) -> Flow[Run]:
        """Add what the API keeps elsewhere: the output text, the files and, if wanted, every step."""

    def whole(
        self, ref: RunRef, request: RunRequest | None, receiver: Receiver, *, include: Sequence[str] = ()
    ) -> Flow[Run]:
        """Read the run with its output and every step, and let ``receiver`` take all of the reply."""

    def cancel(self, ref: RunRef) -> ApiRequest[PollResult]:
        """End the run."""

    def search(self, *, thread_id: str | None, token: str, since: float, conn_id: str) -> Flow[SearchResult]:
        """Find the run whose metadata token starts with ``token``, created after ``since`` (Unix seconds)."""

    def answer(
        self, run: Run, outputs: Mapping[str, Answer], request: RunRequest | None, *, token: str | None
    ) -> ApiRequest[Run]:
        """
        Answer the model's calls, by call id.

        :raises RunRequestError: if an answer is none that its call takes.
        """

    def close(self, run: Run, *, conversation: str | None) -> Flow[str | None]:
        """
        Answer calls that nobody has answered with an error, so that what the run stands in can be used again.

        :param conversation: as the request named it; a server may not echo it.
        :return: what can be used again; None where there is nothing to close.
        """

    def unanswered(self, run: Run, *, conversation: str | None) -> Flow[tuple[dict[str, Any], ...]]:
        """Return the input items that ``close`` sends; a create brings them where no route takes them."""

    def output_format(self, *, name: str, schema: Mapping[str, Any], strict: bool) -> dict[str, Any]:
        """Ask for an answer of this JSON Schema, in the API's own form."""

    def page_template(self, host: str) -> str | None:
        """Return the page that shows a run of a server, with ``{id}`` in it; None where there is none."""

    def missing_route(self, failure: RequestFailure) -> str | None:
        """Return what to do if the failure means that the server does not speak this API; else None."""


__all__ = ["Answer", "ApiReply", "ApiRequest", "Flow", "Receiver", "Sleep", "Upload", "Wire"]
