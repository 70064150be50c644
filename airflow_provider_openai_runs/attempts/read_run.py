# SPDX-License-Identifier: Apache-2.0
"""Reads runs that have ended, whole: within the budget of a read, or once more where the task fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_openai_runs import tracing
from airflow_provider_openai_runs.attempts.output_files import Collected, OutputFiles
from airflow_provider_openai_runs.attempts.settings import CreateSettings
from airflow_provider_openai_runs.runs.budgets import LAST_READ_BUDGET, NOT_SHOWN_YET
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError, RunConnectionError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.wire import Flow, flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

T = TypeVar("T")

#: Between reads of a run that has ended which were refused.
READ_PAUSES = (2.0, 5.0, 15.0, 30.0)
#: What to do about a run that has ended, and of which not all could be had.
PAID_FOR = (
    "What it wrote is paid for: a retry reads it, and pays nothing. Without a retry left, a Get operator "
    "with this ref does; a clear pays for another run."
)
#: How often a run that has ended without any answer is read again.
_READS_OF_NOTHING = 2


def endured(hook: OpenAIRunsHook, read: Callable[[], T], ref: RunRef, *, log: Logger) -> T:
    """
    Read again for a minute what is refused: a key may be rotated, a gateway's server be back.

    :raises ApiRequestFailed: with the last refusal, or what was tried in vain within its budget.
    """
    for pause in READ_PAUSES:
        try:
            return read()
        except ApiRequestFailed as failed:
            if failed.failure.is_transient or failed.failure.kind is FailureKind.TOO_LARGE:
                raise
            log.warning("Could not read %s: %s. Again in %.0f s", ref, failed.failure, pause)
        hook.run_flow(flows.pause(pause, refresh_connection=True))
    return read()


@dataclass(kw_only=True)
class RunReader:
    """
    Reads the runs of one task.

    :param hook: of their connection.
    :param output: writes what runs have brought; None where nothing is to be written.
    """

    hook: OpenAIRunsHook
    settings: CreateSettings
    log: Logger
    output: OutputFiles | None = None

    def at_its_end(self, ref: RunRef, created: Run | None) -> Collected:
        """
        Read a run that has ended, again where nothing is there yet.

        What it wrote is paid for: one refusal of the server, or of a gateway on the way, is not believed.

        :param created: the answer to its create, if the run had ended by then.
        :raises OpenAIRunError: if it cannot be read.
        """
        collected = self._endured(ref, created)
        for _ in range(_READS_OF_NOTHING if created is None else 0):
            if not _may_show_more(collected.run):
                break
            # Some servers say that a run has ended before they show what it wrote.
            self.hook.sleep(NOT_SHOWN_YET)
            again = self._tried(lambda: self._read(ref, LAST_READ_BUDGET), f"{ref} once more")
            collected = again or collected
        if collected.run.is_unread:
            self.log.warning(
                "%s has completed, and no answer is among the messages that its server lists", ref
            )
        return collected

    def _endured(self, ref: RunRef, created: Run | None) -> Collected:
        read = partial(self._read, ref, self.settings.timeouts["read"], created=created)
        try:
            return endured(self.hook, read, ref, log=self.log)
        except ApiRequestFailed as failed:
            raise self._unread(ref, failed.failure) from None

    def _unread(self, ref: RunRef, failure: RequestFailure) -> OpenAIRunError:
        """Return the error for a run whose wait is over: a retry may read it, and a clear pays again."""
        error = self.hook.error_of(failure, doing=f"read {ref}", kind=ref.kind)
        if failure.kind is FailureKind.TOO_LARGE or failure.says_gone:
            return error
        text = f"{ref.subject} could not be read (connection {ref.conn_id!r}): {failure}."
        unread = RunConnectionError if failure.is_of_account else RunCallError
        return unread(f"{text} {PAID_FOR}", retryable=True, retry_after=error.retry_after)

    def earlier(self, rounds: Rounds) -> list[Collected]:
        """Read the runs before the last one, which count as the same run; not one of another task."""
        own = (ref for ref in rounds.earlier if ref != self.settings.request.answers)
        found = (
            self._tried(
                partial(self._read, ref, LAST_READ_BUDGET),
                f"{ref}, whose tokens and steps the result lacks",
            )
            for ref in own
        )
        return [one for one in found if one is not None]

    def _read(self, ref: RunRef, budget: float, *, created: Run | None = None) -> Collected:
        """
        Read a run with all that it says, and write what it has brought if that is wanted.

        What its create has answered is not asked for again: gateways that ignore ``background`` often keep
        nothing that could be read.
        """
        with tracing.reading(ref, withholds=self.settings.withholds) as span:
            found = self._collect(ref, budget, created=created)
            span.read(found.run)
        return found

    def _collect(self, ref: RunRef, budget: float, *, created: Run | None) -> Collected:
        request = self.settings.request.that_created(ref)
        if self.output is not None:
            return self.output.collect(self.hook, ref, budget=budget, request=request, created=created)
        flow = (
            self._completed(created) if created is not None else flows.read(ref, steps=True, request=request)
        )
        return Collected(run=self.hook.run_flow(flows.with_retries(flow, budget=budget)))

    def once_more(self, ref: RunRef) -> Run | None:
        """Read a run that is no success; what cannot be written of it does not matter more than that."""
        found = self._tried(partial(self._read, ref, LAST_READ_BUDGET), f"{ref} once more")
        if found is not None and found.error is not None:
            self.log.warning("%s", found.error)
        return found.run if found is not None else None

    def with_steps(self, run: Run) -> Run | None:
        """Add to a run what its API keeps elsewhere; None if that cannot be read."""
        return self.last(self._completed(run), f"the steps of {run.ref}")

    def _completed(self, run: Run) -> Flow[Run]:
        request = self.settings.request.that_created(run.ref)
        return flows.complete(run, steps=True, include=request.include if request else ())

    def last(self, flow: Flow[T], what: str) -> T | None:
        """Run a flow whose failure does not matter more than the end that is known already."""
        return self._tried(
            lambda: self.hook.run_flow(flows.with_retries(flow, budget=LAST_READ_BUDGET)), what
        )

    def _tried(self, read: Callable[[], T], what: str) -> T | None:
        try:
            return read()
        except ApiRequestFailed as failed:
            self.log.warning("Could not read %s: %s", what, failed.failure)
            return None


def _may_show_more(run: Run) -> bool:
    return run.is_empty or run.is_unread or (run.status.is_active and not run.needs_action)
