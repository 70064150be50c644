# SPDX-License-Identifier: Apache-2.0
"""A thread with an active run, or a conversation with another response at work: wait until it is free."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunStatus

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
    from airflow_provider_openai_runs.runs.errors import OpenAIRunError


#: A locked conversation does not say which response is at work in it, so that nobody can look: ask again.
_ASK_AGAIN_SECONDS = 15.0
_ENDS = tuple(status.value for status in RunStatus if status.is_terminal)


class BusyThreadError(Exception):
    """
    Nothing could be created now, and ``on_active_run="wait"``.

    :param error: what to raise when the time is over.
    :param ref: the run that is at work; None where the server does not say.
    """

    def __init__(self, error: OpenAIRunError, ref: RunRef | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.ref = ref


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyWait:
    """
    Waits for somebody else's run, which is never cancelled.

    :param until: Unix seconds at which the task gives up.
    """

    busy: BusyThreadError
    until: float
    poll_interval: float | None
    log: Logger

    def check(self) -> None:
        """
        Go on only while there is time.

        :raises OpenAIRunError: when there is none left.
        """
        if time.time() >= self.until:
            raise self.busy.error
        self.log.info("Waiting until it is free: %s", self.busy)

    def trigger(self) -> Any:
        """Return the trigger that waits without a worker."""
        if self.busy.ref is None:
            from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger  # noqa: PLC0415

            return TimeDeltaTrigger(timedelta(seconds=_ASK_AGAIN_SECONDS))
        from airflow_provider_openai_runs.triggers import RunCompletionTrigger  # noqa: PLC0415 # triggers only

        now = time.time()
        return RunCompletionTrigger(
            ref=self.busy.ref.to_json(),
            created_at=now,
            deadline=self.until,
            poll_interval=self.poll_interval,
            cancel_on_kill=False,
            cancel_on_timeout=False,
            deferred_at=now,
            target_statuses=_ENDS,
        )

    def in_worker(self, hook: OpenAIRunsHook) -> None:
        """Wait in the worker."""
        from airflow_provider_openai_runs.runs.polling import (  # noqa: PLC0415
            NOT_FOUND_GRACE,
            Outcome,
            WaitLimits,
        )
        from airflow_provider_openai_runs.wire import wait as waits  # noqa: PLC0415 # brings the SDK

        now = time.time()
        if self.busy.ref is None:
            hook.sleep(min(_ASK_AGAIN_SECONDS, max(0.0, self.until - now)))
            return
        limits = WaitLimits(
            created_at=now,
            deadline=self.until,
            poll_interval=self.poll_interval,
            not_found_grace_until=now + NOT_FOUND_GRACE,
            targets=frozenset(_ENDS),
        )
        found = hook.run_flow(
            waits.wait(self.busy.ref, limits, cancel_on_timeout=False, cancel_wait=0, note=self.log.info)
        )
        if found.outcome is Outcome.UNREACHABLE:
            # Nobody can say when it ends, so the create itself has to ask.
            hook.sleep(min(_ASK_AGAIN_SECONDS, max(0.0, self.until - time.time())))
