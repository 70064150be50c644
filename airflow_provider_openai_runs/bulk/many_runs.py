# SPDX-License-Identifier: Apache-2.0
"""Thousands of runs to wait for on one event loop: a heap says whose poll is next, and no run has a task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.requests import BulkRequests
from airflow_provider_openai_runs.bulk.waiting import WakeUp
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.polling import Done
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.transport.shared_client import shared

_TICK = 0.2
_GOOD = frozenset({RunStatus.COMPLETED, RunStatus.INCOMPLETE})


class ManyRuns:
    """
    The runs of a bulk task that are active, as one trigger waits for them.

    :param polls_per_second: polls of all runs together.
    :param poll_interval: a fixed interval in seconds; None lets it grow with a run's age.
    :param seen: when each was last seen active, as ``BulkRequests`` keeps it; for who ends them later.
    :ivar ended: how many were found ended; ``failed`` of them badly.
    :ivar answered: those that were to be ended, and had ended with an answer.
    """

    def __init__(
        self,
        runs: Sequence[NewRun],
        *,
        conn_id: str,
        polls_per_second: float,
        poll_interval: float | None,
        seen: dict[str, float],
    ) -> None:
        self.ended = 0
        self.failed = 0
        self.answered: list[NewRun] = []
        self._seen = seen
        self._runs = {run.row: run for run in runs}
        self._count = len(runs)
        self._polls = Polls(per_second=polls_per_second, deadline=None, poll_interval=poll_interval)
        self._polls.add(runs, now=time.time())
        self.failed_polls = self._polls.failed
        self._hook = OpenAIRunsHook(conn_id, existed=True)
        self._stack = AsyncExitStack()
        self._requests: BulkRequests | None = None
        self._polling: set[asyncio.Task[None]] = set()
        self._first_end_at: float | None = None
        self._is_denied = False

    def __len__(self) -> int:
        return self._count

    async def __aenter__(self) -> Self:
        client = await self._stack.enter_async_context(shared(self._hook))
        self._requests = BulkRequests(sender=client, conn_id=self._hook.conn_id, seen=self._seen)
        return self

    async def __aexit__(self, *_: object) -> None:
        polling = [*self._polling]
        for task in polling:
            task.cancel()
        await asyncio.gather(*polling, return_exceptions=True)
        await self._stack.aclose()

    def progress(self) -> dict[str, int]:
        """Return what the XCom ``progress`` says of them."""
        return {"active": self._count - self.ended, "ended": self.ended}

    async def wait(self, wake_up: WakeUp, *, until: float | None) -> str:
        """
        Poll until a worker is needed, and return why.

        :param until: Unix seconds; then the reason is ``time_is_over``.
        """
        while True:
            now = time.time()
            for row in self._polls.due(now):
                task = asyncio.create_task(self._poll(self._runs[row]))
                self._polling.add(task)
                task.add_done_callback(self._polling.discard)
            first = self._first_end_at
            reason = wake_up.reason(
                active=len(self._runs),
                ended=self.ended,
                failed=self.failed,
                first_end_ago=None if first is None else now - first,
            )
            if self._is_denied:
                return "denied"  # also where none is left: nobody knows what has become of them
            if reason is not None:
                return reason
            if until is not None and now >= until:
                return "time_is_over"
            await asyncio.sleep(_TICK)

    async def end_all(self, *, within: float) -> int:
        """
        End those that have not ended; return how many may go on.

        :param within: seconds.
        """
        ending = [asyncio.create_task(self._end(run)) for run in self._runs.values()]
        if ending:
            _, late = await asyncio.wait(ending, timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        return len(self._runs)

    async def end_after_mark(self, *, within: float) -> int:
        """End those that have not ended; return how many may go on."""
        return await self.end_all(within=within)

    async def _poll(self, run: NewRun) -> None:
        assert self._requests is not None  # noqa: S101 # for mypy
        found = await self._requests.status(run)
        decision = self._polls.on_poll(run.row, found, now=time.time())
        if not isinstance(decision, Done):
            return
        if isinstance(found, RequestFailure):
            self._is_denied = self._is_denied or found.is_of_account
        is_good = not isinstance(found, RequestFailure) and found.status in _GOOD
        self._on_ended(run, is_good=is_good)

    async def _end(self, run: NewRun) -> None:
        assert self._requests is not None  # noqa: S101 # for mypy
        found = await self._requests.cancel(run)
        if isinstance(found, RequestFailure):
            return
        self._runs.pop(run.row, None)
        if found.status in _GOOD:
            self.answered.append(run)

    def _on_ended(self, run: NewRun, *, is_good: bool) -> None:
        self._runs.pop(run.row, None)
        self.ended += 1
        self.failed += not is_good
        if self._first_end_at is None:
            self._first_end_at = time.time()
