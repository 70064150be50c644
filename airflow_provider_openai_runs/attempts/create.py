# SPDX-License-Identifier: Apache-2.0
"""Sends the call that is paid for: its intent is on record before it, its run right after it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.attempts.record_store import NoLongerOwnerError, RunRecords
from airflow_provider_openai_runs.runs.error_of_run import error_of_run
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.record import Record, new_token
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.wire import Answer, Flow, flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """
    The run that belongs to this task instance. Times are Unix seconds.

    :param created_at: when it was created, or its calls were last answered: from when it works by itself.
    :param run: as its create call answered; None when it is one of an earlier attempt.
    :param finished: it has done its work already, and only has to be read.
    :param rounds: the rounds of calls that were answered.
    """

    ref: RunRef
    created_at: float
    deadline: float | None
    run: Run | None = None
    finished: bool = False
    rounds: Rounds = field(default_factory=Rounds)


class NotCreatedError(Exception):
    """The create failed for now; whether it was accepted all the same, ``failed`` tells."""

    def __init__(self, intent: Record, failed: ApiRequestFailed) -> None:
        super().__init__(str(failed.failure))
        self.intent = intent
        self.failed = failed


@dataclass(kw_only=True)
class RunCreator:
    """
    Creates the runs of one task instance.

    :param identity: Dag id, Dag run id, task id, map index.
    :param cycle: ``max_tries``, which a clear changes and a retry does not.
    :param window: seconds to wait for the run; None is fire and forget.
    :param timeouts: budgets in seconds, of which ``create`` counts here.
    :param on_created: told of a run as soon as it exists, before anything else.
    """

    hook: OpenAIRunsHook
    request: RunRequest
    records: RunRecords
    identity: tuple[object, ...]
    generation: int
    window: float | None
    timeouts: dict[str, float]
    log: Logger
    on_created: Callable[[RunRef], None]
    clock: Callable[[], float] = time.time

    def create(self, record: Record | None, *, gives_up_at: float) -> TrackedRun:
        """
        Create the run, or take over the one whose calls the request answers.

        :param record: of an earlier attempt; its thread is used again.
        :param gives_up_at: Unix seconds.
        :raises NotCreatedError: if the call failed.
        """
        if self.request.answers is not None:
            return self._taken_over(self.request.answers)
        request = self._on_its_thread(record)

        def flow(token: str) -> Flow[Run]:
            return flows.create(request, token=token, conn_id=self.hook.conn_id)

        return self._send(self._intent(thread_id=request.thread_id), flow, record, gives_up_at)

    def answer(
        self,
        parent: Run,
        outputs: Mapping[str, Answer],
        *,
        rounds: Rounds,
        deadline: float | None,
        before: Record | None,
        gives_up_at: float,
    ) -> TrackedRun:
        """
        Create the response that answers the calls of ``parent``.

        :param rounds: what is to be remembered then.
        :param before: what was remembered until now.
        :raises NotCreatedError: if the call failed.
        """
        intent = replace(self._intent(thread_id=None), rounds=rounds, deadline=deadline)
        is_first_of_another = self.request.answers is not None and rounds.answered == 1
        request = self.request if is_first_of_another else _free_to_answer(self.request)

        def flow(token: str) -> Flow[Run]:
            return flows.answer(parent, outputs, request, token=token)

        return self._send(intent, flow, before, gives_up_at)

    def error_of(self, failed: ApiRequestFailed, doing: str) -> OpenAIRunError:
        """Return the public error for a call that failed for good."""
        return self.hook.error_of(failed, doing=doing, kind=self.request.kind)

    def _intent(self, *, thread_id: str | None) -> Record:
        return Record(
            generation=self.generation,
            token=new_token((*self.identity, self.generation), random_part=secrets.token_hex(8)),
            intent_at=self.clock(),
            thread_id=thread_id,
            fingerprint=self.request.fingerprint(),
        )

    def _send(
        self,
        intent: Record,
        flow: Callable[[str], Flow[Run]],
        before: Record | None,
        gives_up_at: float,
    ) -> TrackedRun:
        def write_intent() -> None:
            # Anew before each send: a lost answer is searched for from the last time on.
            nonlocal intent
            intent = replace(intent, intent_at=self.clock())
            self.records.save(intent, is_intent=True)

        def take_back() -> None:
            # Whoever dies in the pause has created nothing, and his retry must not take it for a lost create.
            if before is None:
                self.records.drop()
            else:
                self.records.save(before)

        budget = max(1.0, gives_up_at - self.clock())
        retried = flows.with_retries(
            flow(intent.token), budget=budget, before_paying=write_intent, after_refusal=take_back
        )
        try:
            run = self.hook.run_flow(retried)
        except ApiRequestFailed as failed:
            raise NotCreatedError(intent, failed) from failed
        return self._created(intent, run)

    def _created(self, intent: Record, run: Run) -> TrackedRun:
        self.on_created(run.ref)
        now = self.clock()
        window_ends = None if self.window is None else now + self.window
        deadline = window_ends if intent.deadline is None else intent.deadline
        try:
            self.records.save(intent.with_run(run.ref, created_at=now, deadline=deadline))
        except NoLongerOwnerError as error:
            raise RunCallError(
                f"This attempt is no longer the task's: a later one has taken over. {run.ref}, which it "
                f"had just created, was {self._ended(run.ref)}."
            ) from error
        return TrackedRun(ref=run.ref, created_at=now, deadline=deadline, run=run, rounds=intent.rounds)

    def _ended(self, ref: RunRef) -> str:
        ended = self.hook.run_flow(flows.with_retries(flows.cancel(ref, wait=3), budget=3))
        return "cancelled" if ended.has_ended else "not cancelled and may be running and billing"

    def _on_its_thread(self, record: Record | None) -> RunRequest:
        """Create the thread first, so that it is on record before a run on it is paid for."""
        if self.request.thread is None:
            return self.request
        if (
            record is not None
            and record.ref is None
            and record.thread_id
            and record.generation == self.generation
        ):
            return replace(self.request, thread_id=record.thread_id)
        try:
            flow = flows.single(THREADS.create_thread(self.request.thread))
            thread_id = self.hook.run_flow(flows.with_retries(flow, budget=self.timeouts["create"]))
        except ApiRequestFailed as failed:
            raise self.error_of(failed, "create a thread") from failed
        return replace(self.request, thread_id=thread_id)

    def _taken_over(self, ref: RunRef) -> TrackedRun:
        """Own a run that somebody else has created and that waits for its answer; nothing is paid yet."""
        try:
            flow = flows.single(wire_of(ref.kind).retrieve(ref))
            run = self.hook.run_flow(flows.with_retries(flow, budget=self.timeouts["read"]))
        except ApiRequestFailed as failed:
            raise self.error_of(failed, f"read {ref}") from failed
        if not run.needs_action:
            raise error_of_run(run, is_ours=False) or RunCallError(
                f"{run.ref.subject} waits for no answer: its status is {run.raw_status}. Nothing was sent.",
                retryable=False,
            )
        now = self.clock()
        deadline = None if self.window is None else now + self.window
        self.records.save(self._intent(thread_id=None).with_run(ref, created_at=now, deadline=deadline))
        return TrackedRun(ref=ref, created_at=now, deadline=deadline, run=run)


def _free_to_answer(request: RunRequest) -> RunRequest:
    """Let the model choose: one that has to call a function would do so again, and never come to an end."""
    choice = request.body.get("tool_choice")
    if choice is None or choice in ("auto", "none"):
        return request
    allows = isinstance(choice, Mapping) and choice.get("type") == "allowed_tools"
    free = {**choice, "mode": "auto"} if allows else "auto"
    return replace(request, body={**request.body, "tool_choice": free})
