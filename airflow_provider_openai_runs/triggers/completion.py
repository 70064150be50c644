# SPDX-License-Identifier: Apache-2.0
"""Waits in the triggerer for a run of any kind."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_provider_openai_runs.attempts.task_state import task_was_ended
from airflow_provider_openai_runs.runs.model import RunRef, plain
from airflow_provider_openai_runs.runs.polling import NOT_FOUND_GRACE, WaitLimits

if TYPE_CHECKING:
    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

#: Seconds to wait for the end of a run that is cancelled because its time is over.
_CANCEL_WAIT = 20.0
#: An event that fires sooner than this many seconds after the task was deferred may overtake the executor's
#: word that the worker has finished; the scheduler then takes the task for killed and fails the attempt
#: (https://github.com/apache/airflow/issues/72716). So the event of a quicker run is held back.
_EARLIEST_EVENT = 8.0
#: Airflow bounds ``on_kill`` to 30 s.
_KILL_WAIT = 10.0
#: Cancels under way; asyncio itself holds its tasks only weakly.
_endings: set[asyncio.Task[None]] = set()

#: The hook's module, once it is imported as a whole.
_modules: list[ModuleType] = []


class RunCompletionTrigger(BaseTrigger):
    """
    Look at a run until it ends, or until its time is over; then cancel it before the event is fired.

    Only ids, times (Unix seconds, absolute, so that a restart moves no deadline) and flags travel in the
    arguments, which Airflow stores in plain JSON. Arguments of a later version are ignored.

    :param ref: the run, as in XCom.
    :param created_at: when its create call returned.
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
        **_of_a_later_version: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves it untyped
        self.ref = RunRef.from_json(ref)
        self.created_at = created_at
        self.deadline = deadline
        self.attempt_deadline = attempt_deadline
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.deferred_at = deferred_at
        self.target_statuses = list(target_statuses)
        self.rounds = rounds
        self.end = end

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to start this wait again."""
        return (
            "airflow_provider_openai_runs.triggers.RunCompletionTrigger",
            {
                "ref": self.ref.to_json(),
                "created_at": self.created_at,
                "deadline": self.deadline,
                "attempt_deadline": self.attempt_deadline,
                "poll_interval": self.poll_interval,
                "cancel_on_kill": self.cancel_on_kill,
                "cancel_on_timeout": self.cancel_on_timeout,
                "deferred_at": self.deferred_at,
                "target_statuses": self.target_statuses,
                **({"rounds": self.rounds} if self.rounds else {}),
                **({"end": self.end} if self.end else {}),
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire one event when the wait is over; it says how, and carries no output, or ends the task."""
        hook = await self._hook()
        waits = importlib.import_module("airflow_provider_openai_runs.wire.wait")
        limits = WaitLimits(
            created_at=self.created_at,
            deadline=self.deadline,
            attempt_deadline=self.attempt_deadline,
            poll_interval=self.poll_interval,
            not_found_grace_until=self.created_at + NOT_FOUND_GRACE,
            targets=frozenset(self.target_statuses),
        )
        flow = waits.wait(
            self.ref,
            limits,
            cancel_on_timeout=self.cancel_on_timeout,
            cancel_wait=_CANCEL_WAIT,
            note=self._note,
        )
        result = await hook.arun_flow(flow)
        success: TaskSuccessEvent | None = None
        if self.task_instance is not None:  # there is none in dag.test(), which has no executor
            if self.end and not self.rounds:
                ending = importlib.import_module("airflow_provider_openai_runs.triggers.success")
                success = await ending.success_event(
                    hook, result, task_instance=self.task_instance, log=self.log, **self.end
                )
            held_back = self.deferred_at + _EARLIEST_EVENT - time.time()
            await asyncio.sleep(min(max(0.0, held_back), _EARLIEST_EVENT))
        yield success or TriggerEvent(result.to_json() | self._handed_back())

    def _note(self, line: str) -> None:
        self.log.info(line)  # not before there is a line: ten thousand loggers take half a second

    def _handed_back(self) -> dict[str, Any]:
        limits = {"deadline": self.deadline, "attempt_deadline": self.attempt_deadline}
        handed_back: dict[str, Any] = plain(limits | {"created_at": self.created_at, "rounds": self.rounds})
        return handed_back

    async def on_kill(self) -> None:
        """
        Cancel the run after a user's mark or clear.

        Airflow 3.3 calls this also when a trigger merely moves to another triggerer, and may call it when the
        cleared task has started anew: only an ended, cleared or deleted task instance gives the run up.
        """
        if not self.cancel_on_kill:
            return
        # Airflow cancels a trigger again at every turn of its loop, which would end a slower on_kill midway.
        ending = asyncio.create_task(self._end_run())
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)
        await asyncio.shield(ending)

    async def _end_run(self) -> None:
        state = await task_was_ended(self.task_instance)
        if not state.ended:
            self.log.info("%s: left alone, its task is %s", self.ref, state.raw_status)
            return
        hook = await self._hook()
        flows = importlib.import_module("airflow_provider_openai_runs.wire.flows")
        flow = flows.cancel(self.ref, wait=_KILL_WAIT, visible_by=self.created_at + NOT_FOUND_GRACE)
        flow = flows.with_retries(flow, budget=_KILL_WAIT)
        ended = await hook.arun_flow(flow)
        fate = ended.polled.raw_status if ended.polled else f"not cancelled ({ended.failure})"
        self.log.info("%s: cancelled because its task is %s; the run is %s", self.ref, state.raw_status, fate)

    async def _hook(self) -> OpenAIRunsHook:
        if not _modules:
            # The first import of the SDK takes most of a second, which the event loop does not have.
            _modules.append(
                await asyncio.to_thread(
                    importlib.import_module, "airflow_provider_openai_runs.hooks.openai_runs"
                )
            )
        hook: OpenAIRunsHook = _modules[0].OpenAIRunsHook(self.ref.conn_id)
        return hook
