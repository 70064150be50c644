# SPDX-License-Identifier: Apache-2.0
"""The batches of a task, as one trigger waits for them: they are few, so each is polled in its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Self

from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.failed_polls import FailedPolls
from airflow_provider_openai_runs.bulk.waiting import WakeUp
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.budgets import (
    BATCH_MISSING_SECONDS,
    BATCH_POLL_BOUNDS,
    PERMANENT_FAILURE_BUDGET,
    POLL_TIMEOUT,
)
from airflow_provider_openai_runs.transport.shared_client import shared
from airflow_provider_openai_runs.wire import batches
from airflow_provider_openai_runs.wire.batches import Batch
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest

_TICK = 0.2


class ManyBatches:
    """
    What ``ManyRuns`` is for runs: the batches that are active.

    :param found: the batches; the id of each is a run's.
    :param poll_interval: a fixed interval in seconds; None lets it grow with a batch's age.
    :param wake_at: Unix seconds at which a worker is needed in any case.
    :ivar ended: how many were found ended; ``failed`` of them badly.
    :ivar answered: those that were to be ended, and had ended already.
    """

    def __init__(
        self,
        found: Sequence[NewRun],
        *,
        conn_id: str,
        poll_interval: float | None,
        wake_at: float | None = None,
    ) -> None:
        self.ended = 0
        self.failed = 0
        self.answered: list[NewRun] = []
        self.failed_polls = FailedPolls()
        self._batches = {batch.id: batch for batch in found}
        self._count = len(found)
        self._interval = poll_interval
        self._wake_at = wake_at
        self._due = dict.fromkeys(self._batches, 0.0)
        self._found: dict[str, Batch] = {}
        #: Whether an ended one has left items that may be sent again, while there is time.
        self._has_failed = False
        self._denied_since: float | None = None
        self._missing_since: dict[str, float] = {}
        self._hook = OpenAIRunsHook(conn_id, existed=True)
        self._stack = AsyncExitStack()

    def __len__(self) -> int:
        return self._count

    async def __aenter__(self) -> Self:
        self._client = await self._stack.enter_async_context(shared(self._hook))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def progress(self) -> dict[str, int]:
        """Return how many requests of all batches are done, as the servers count them."""
        counts = [found.counts for found in self._found.values()]
        return {
            "batches_active": len(self._batches),
            "batches_ended": self.ended,
            **{
                f"requests_{name}": sum(one.get(name, 0) for one in counts)
                for name in ("total", "completed", "failed")
            },
        }

    def names(self, of: Iterable[NewRun]) -> str:
        """Name batches with their files, for a line of the log."""
        known = {batch.id: self._found.get(batch.id) for batch in of}
        return ", ".join(f"{name} ({found.files})" if found else name for name, found in known.items())

    async def wait(self, wake_up: WakeUp, *, until: float | None) -> str:
        """
        Poll until a worker is needed, and return why.

        :param until: Unix seconds; then the reason is ``time_is_over``.
        """
        while True:
            await self._poll_due()
            now = time.time()
            if self._denied_since is not None and now - self._denied_since >= PERMANENT_FAILURE_BUDGET:
                return "denied"
            reason = wake_up.reason(
                active=len(self._batches), ended=self.ended, failed=self.failed, first_end_ago=None
            )
            if reason is not None and (self._count or self._wake_at is None):
                return reason
            if self._has_failed or (self._wake_at is not None and now >= self._wake_at):
                return "again"
            if until is not None and now >= until:
                return "time_is_over"
            await asyncio.sleep(_TICK)

    async def end_all(self, *, within: float) -> int:
        """
        Ask all to end, and wait for it; return how many may go on.

        :param within: seconds.
        """
        ends = time.time() + within
        asked: set[str] = set()
        while True:
            for batch in [one for one in self._batches.values() if one.id not in asked]:
                if await self._cancel(batch):
                    asked.add(batch.id)
            await self._poll_due()
            if not self._batches or time.time() >= ends:
                return len(self._batches)
            await asyncio.sleep(_TICK if len(asked) == len(self._batches) else 1.0)

    async def end_after_mark(self, *, within: float) -> int:
        """Ask all to end, once, and wait for nothing; return how many were not reached."""
        asking = [asyncio.create_task(self._cancel(batch)) for batch in [*self._batches.values()]]
        if not asking:
            return 0
        done, late = await asyncio.wait(asking, timeout=within)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(asking) - sum(task.result() for task in done)

    async def _poll_due(self) -> None:
        now = time.time()
        for batch in [one for one in self._batches.values() if now >= self._due[one.id]]:
            self._due[batch.id] = now + self._pause(batch, now)
            await self._ask(batch, batches.retrieve(batch.id))

    async def _cancel(self, batch: NewRun) -> bool:
        """Ask a batch to end; return whether it is ending, or has ended."""
        self._due[batch.id] = 0.0
        if await self._ask(batch, batches.cancel(batch.id)):
            return True
        await self._ask(batch, batches.retrieve(batch.id))
        if (has_ended := batch.id not in self._batches) and batch not in self.answered:
            self.answered.append(batch)
        return has_ended

    async def _ask(self, batch: NewRun, request: ApiRequest[Batch]) -> bool:
        try:
            found = await self._client.send(replace(request, timeout=POLL_TIMEOUT))
        except ApiRequestFailed as failed:
            self.failed_polls.on_poll(failed.failure)
            failure, now = failed.failure, time.time()
            if failure.is_of_account:
                self._denied_since = now if self._denied_since is None else self._denied_since
            if not failure.says_gone:
                self._missing_since.pop(batch.id, None)
            elif now >= self._missing_since.setdefault(batch.id, now) + BATCH_MISSING_SECONDS:
                self._on_ended(batch, is_good=False)
            return False
        self.failed_polls.on_poll(found)
        self._denied_since = None
        self._missing_since.pop(batch.id, None)
        self._found[batch.id] = found
        if found.has_ended:
            is_good = found.status == "completed"
            self._has_failed = self._has_failed or not is_good or bool(found.counts.get("failed"))
            self._on_ended(batch, is_good=is_good)
        return True

    def _on_ended(self, batch: NewRun, *, is_good: bool) -> None:
        if self._batches.pop(batch.id, None) is not None:
            self.ended += 1
            self.failed += not is_good

    def _pause(self, batch: NewRun, now: float) -> float:
        if self._interval is not None:
            return self._interval
        return min(max((now - batch.created_at) / 10, BATCH_POLL_BOUNDS[0]), BATCH_POLL_BOUNDS[1])
