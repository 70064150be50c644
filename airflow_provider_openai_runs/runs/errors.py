# SPDX-License-Identifier: Apache-2.0
"""
What this package raises.

* OpenAIRunError
    x RunRequestError            asked for something that cannot be sent; nothing was sent
    x RunConnectionError         no such connection, or its key is refused
    x RunCallError               a request failed; nothing is known to run because of it
        - RunNotFoundError       the server knows no such run, thread, response or conversation
        - ThreadsNotServedError  the server has no Assistants API (OpenAI since 2026-08-26)
        - ThreadBusyError        another run is active on the thread, another response in the conversation
    x LostCreateError            a create may or may not have been accepted; it was not sent again
    x CeilingReachedError        max_total_tokens or max_cost would be passed; nothing was sent for it
    x RunUnreachableError        the run was left alone after five minutes without an answer about it
    x RunStorageError            the run has ended, and its files could not be written to output_path
    x RunTimeoutError            the completion window, or execution_timeout, is over
    x RunEndedError              the run ended without an answer
        - RunFailedError
        - RunExpiredError
        - RunCancelledError      by somebody else
        - RunIncompleteError     a ceiling was reached, or the content filter stepped in
        - ToolCallsPendingError  the model waits for an answer to its calls, and nobody is there to give it
        - ToolCallsFailedError   the calls went wrong too often, took too long, or came without an end
        - RunOutputError         the answer does not fit output_type

Every error says by ``retryable`` whether Airflow's retry can help, and holds what is known of its run:
``ref``, ``status``, ``usage``, ``url``. The operators raise them as Airflow's own kinds besides:
``AirflowException``, or ``AirflowFailException`` where a retry would only fail again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self


class OpenAIRunError(Exception):
    """Anything this package raises about a run."""

    #: Whether the same task may succeed when it is tried again.
    retryable: bool = True
    #: Seconds that the server asked to wait before the next try, where it said so.
    retry_after: float | None = None
    #: The run, as in the XCom ``ref``; None where there is none, or none is known.
    ref: Mapping[str, str] | None = None
    #: The run's status at the last poll, as its server calls it.
    status: str | None = None
    #: What the run has used, under the names of the result's ``usage``.
    usage: Mapping[str, Any] | None = None
    #: The page that shows the run, where there is one.
    url: str | None = None
    #: Of a class that Airflow understands: what it is without that.
    plain: ClassVar[type[OpenAIRunError] | None] = None
    #: The log has a line of it already.
    is_logged: bool = False

    def __init__(
        self, message: str, *, retryable: bool | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable
        if retry_after is not None:
            self.retry_after = retry_after

    def about(
        self,
        *,
        ref: Mapping[str, str] | None = None,
        status: str | None = None,
        usage: Mapping[str, Any] | None = None,
        url: str | None = None,
    ) -> Self:
        """Add what is known of the run; what was said of it before stays."""
        self.ref = self.ref or ref
        self.status = self.status or status
        self.usage = self.usage or usage
        self.url = self.url or url
        return self

    def as_kind(self, kind: type[Self], text: str, *, retryable: bool | None = None) -> Self:
        """Return the same error of a kind and with a text of its own."""
        retryable = self.retryable if retryable is None else retryable
        again = kind(text, retryable=retryable, retry_after=self.retry_after)
        again.is_logged = self.is_logged
        return again.about(ref=self.ref, status=self.status, usage=self.usage, url=self.url)

    def saying(self, text: str, *, retryable: bool | None = None) -> Self:
        """Return the same error with another text; whether Airflow retries it is to be decided anew."""
        kind: Any = self.plain or type(self)
        return self.as_kind(kind, text, retryable=retryable)


class RunRequestError(OpenAIRunError, ValueError):
    """Asked for something that cannot be sent; nothing was sent."""

    retryable = False


class RunConnectionError(OpenAIRunError):
    """There is no such connection, or its key is refused."""

    retryable = False


class RunCallError(OpenAIRunError):
    """A request failed for good, and no run is known to exist because of it."""


class RunNotFoundError(RunCallError):
    """The server knows no such run, thread, response or conversation."""

    retryable = False


class ThreadsNotServedError(RunCallError):
    """The server does not speak the Assistants API."""

    retryable = False


class ThreadBusyError(RunCallError):
    """Another run is active on the thread, or another response in the conversation."""


class LostCreateError(OpenAIRunError):
    """A create may or may not have been accepted; sending it again could pay twice."""

    retryable = False


class CeilingReachedError(OpenAIRunError):
    """``max_total_tokens`` or ``max_cost`` would be passed; a clear may spend it again."""

    retryable = False


class RunUnreachableError(OpenAIRunError):
    """Nobody could say for minutes how the run is doing; it was left alone."""


class RunStorageError(OpenAIRunError):
    """What a run has brought could not be written to ``output_path``; a retry writes it, and pays nothing."""


class RunTimeoutError(OpenAIRunError):
    """The completion window or the task's execution_timeout was over before the run ended."""


class RunEndedError(OpenAIRunError):
    """The run ended without an answer."""


class RunFailedError(RunEndedError):
    """The server gave the run up with an error."""


class RunExpiredError(RunEndedError):
    """The server's own limit (about ten minutes for a thread run) was over."""


class RunCancelledError(RunEndedError):
    """Somebody else cancelled the run; to start it again would go against them."""

    retryable = False


class RunIncompleteError(RunEndedError):
    """A ceiling was reached or the content filter stepped in; the same request would end the same way."""

    retryable = False


class ToolCallsPendingError(RunEndedError):
    """The model waits for an answer to its calls, and nobody is there to give it."""

    retryable = False


class ToolCallsFailedError(RunEndedError):
    """The model's calls went wrong too often, took too long, or came without an end."""


class RunOutputError(RunEndedError):
    """The answer does not fit ``output_type``."""
