# SPDX-License-Identifier: Apache-2.0
"""Waits in the triggerer for a run of any kind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_provider_openai_runs import tracing
from airflow_provider_openai_runs.attempts.state_questions import ask_ahead
from airflow_provider_openai_runs.attempts.task_state import task_state
from airflow_provider_openai_runs.runs.budgets import (
    CANCEL_WAIT,
    CLOSE_BUDGET,
    EARLIEST_EVENT,
    TRIGGER_ASK_SECONDS,
    TRIGGER_KILL_WAIT,
)
from airflow_provider_openai_runs.runs.fate import Fate
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.plain import plain
from airflow_provider_openai_runs.runs.polling import WaitLimits
from airflow_provider_openai_runs.runs.prices import Tariff
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.runs.usage import Totals
from airflow_provider_openai_runs.triggers.success import success_event
from airflow_provider_openai_runs.wire import flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.wait import wait

if TYPE_CHECKING:
    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

#: Cancels under way; asyncio itself holds its tasks only weakly.
_endings: set[asyncio.Task[None]] = set()


class RunCompletionTrigger(BaseTrigger):
    """
    Poll a run until it ends, or until its time is over; then cancel it before the event is fired.

    Only ids, times (Unix seconds, absolute, so that a restart moves no deadline) and flags travel in the
    arguments, which Airflow stores in plain JSON. Arguments of a later version are ignored.

    :param ref: the run, as in XCom.
    :param created_at: when its create returned.
    :param deadline: end of the completion window.
    :param attempt_deadline: start of the attempt + execution_timeout.
    :param poll_interval: a fixed interval in seconds; None lets it grow with the run's age.
    :param cancel_on_kill: cancel the run when a user marks or clears the task (Airflow 3.3+).
    :param cancel_on_timeout: cancel the run when its time is over.
    :param deferred_at: when the worker handed over; no event is fired right after it.
    :param target_statuses: end the wait in one of these statuses, for sensors.
    :param rounds: the rounds of calls that were answered so far; handed back in the event, as the deadlines
        are, for the worker that answers the next one.
    :param end: ``{"push", "multiple_outputs"}``: finish the task here if the run completes and needs nothing
        from a worker, and push its dict. None lets a worker finish it.
    :param besides: with ``end``: what the task has paid for besides this run.
    :param tariff: with ``end``: what the run costs, where the connection has prices.
    :param withholds: repeat nothing that the server says of an error: it may quote a prompt or an answer.
    """

    def __init__(
        self,
        *,
        ref: dict[str, Any],
        created_at: float = 0.0,
        deadline: float | None = None,
        attempt_deadline: float | None = None,
        poll_interval: float | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        deferred_at: float = 0.0,
        target_statuses: Sequence[str] = (),
        rounds: dict[str, Any] | None = None,
        end: dict[str, bool] | None = None,
        withholds: bool = False,
        besides: dict[str, Any] | None = None,
        tariff: dict[str, Any] | None = None,
        **_of_a_later_version: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.tracked = TrackedRun(
            ref=RunRef.from_json(ref),
            created_at=created_at,
            deadline=deadline,
            attempt_deadline=attempt_deadline,
            rounds=Rounds.from_json(rounds),
        )
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.deferred_at = deferred_at
        self.target_statuses = list(target_statuses)
        self.end = end
        self.withholds = withholds
        self.besides, self.tariff = besides or None, tariff or None
        self._has_fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to start this wait again."""
        return (
            "airflow_provider_openai_runs.triggers.RunCompletionTrigger",
            {
                **self.tracked.to_json(),
                "poll_interval": self.poll_interval,
                "cancel_on_kill": self.cancel_on_kill,
                "cancel_on_timeout": self.cancel_on_timeout,
                "deferred_at": self.deferred_at,
                "target_statuses": self.target_statuses,
                **({"end": self.end} if self.end else {}),
                **({"withholds": True} if self.withholds else {}),
                **({"besides": self.besides} if self.end and self.besides else {}),
                **({"tariff": self.tariff} if self.end and self.tariff else {}),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event when the wait is over; it says how, and carries no output, or ends the task."""
        if self.cancel_on_kill:
            ask_ahead(self.task_instance)
        hook = await self._hook()
        flow = wait(
            self.tracked.ref,
            WaitLimits.of(
                self.tracked, poll_interval=self.poll_interval, targets=frozenset(self.target_statuses)
            ),
            cancel_on_timeout=self.cancel_on_timeout,
            cancel_wait=CANCEL_WAIT,
            note=self._note,
        )
        with tracing.waiting(self.tracked.ref) as span:
            result = await hook.arun_flow(flow)
            span.over(result.outcome, result.raw_status)
        success: TaskSuccessEvent | None = None
        if self.task_instance is not None:  # there is none in dag.test(), which has no executor
            if self.end and not self.tracked.rounds.answered:
                success = await success_event(
                    hook,
                    result,
                    task_instance=self.task_instance,
                    besides=Totals.from_json(self.besides),
                    tariff=Tariff.from_json(self.tariff),
                    log=self.log,
                    **self.end,
                )
            held_back = self.deferred_at + EARLIEST_EVENT - time.time()
            await asyncio.sleep(min(max(0.0, held_back), EARLIEST_EVENT))
        self._has_fired = True
        yield success or TriggerEvent(plain(self.tracked.to_json() | result.to_json()))

    def _note(self, level: int, line: str) -> None:
        self.log.log(level, line)  # not before there is a line: ten thousand loggers take half a second

    async def on_kill(self) -> None:
        """
        Cancel the run after a user's mark or clear.

        Airflow 3.3 calls this also when a trigger merely moves to another triggerer, and may call it when the
        cleared task has started anew, which ends what it finds on record. There only an ended, cleared or
        deleted task instance gives the run up.
        """
        if not self.cancel_on_kill:
            return
        # Airflow cancels a trigger again at every turn of its loop, which would end a slower on_kill midway.
        ending = asyncio.create_task(self._end_run())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)
        await asyncio.shield(ending)

    async def _end_run(self) -> None:
        state = await task_state(self.task_instance, within=TRIGGER_ASK_SECONDS, has_fired=self._has_fired)
        if not state.known:
            self.log.error(
                "%s: Airflow did not say whether its task goes on. %s Another triggerer, a retry or a clear "
                "goes on from there; if the task was marked, cancel the run yourself",
                self.tracked.ref,
                Fate.LEFT_RUNNING.sentence(),
            )
            return
        if not state.ended:
            self.log.info("%s: left alone, its task is %s", self.tracked.ref, state.name)
            return
        hook = await self._hook()
        visible_by = self.tracked.visible_by(time.time())
        flow = flows.cancel(self.tracked.ref, wait=TRIGGER_KILL_WAIT, visible_by=visible_by)
        ended = await hook.arun_flow(flows.with_retries(flow, budget=TRIGGER_KILL_WAIT))
        fate = ended.raw_status or f"not cancelled ({ended.failure})"
        self.log.info(
            "%s: cancelled because its task is %s; the run is %s",
            self.tracked.ref,
            state.name or "cleared",
            fate,
        )
        if ended.polled is not None and ended.polled.needs_action:
            await self._close(hook)

    async def _close(self, hook: OpenAIRunsHook) -> None:
        """Answer the calls with which a response ended before the cancel came: nobody else will."""
        try:
            await hook.arun_flow(flows.with_retries(flows.close(self.tracked.ref), budget=CLOSE_BUDGET))
        except ApiRequestFailed as failed:
            self.log.warning(
                "Could not answer the calls that %s leaves open: %s", self.tracked.ref, failed.failure
            )

    async def _hook(self) -> OpenAIRunsHook:
        # The first import of the SDK takes most of a second, which the event loop does not have.
        hook = _hook_type() if _hook_type.cache_info().currsize else await asyncio.to_thread(_hook_type)
        return hook(self.tracked.ref.conn_id, withholds=self.withholds)


@cache
def _hook_type() -> type[OpenAIRunsHook]:
    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook  # noqa: PLC0415 # brings the SDK

    return OpenAIRunsHook
