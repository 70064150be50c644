# SPDX-License-Identifier: Apache-2.0
"""Sends the answers to a run's calls, once: a thread run goes on itself, a response as a new one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.attempts.create import NotCreatedError, RunCreator, TrackedRun
from airflow_provider_openai_runs.attempts.record_store import NoLongerOwnerError
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError
from airflow_provider_openai_runs.runs.failure import FailureKind
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.ownership import lost_create_error
from airflow_provider_openai_runs.runs.policies import OnLostCreate
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import Answer, flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.threads import WIRE as THREADS

if TYPE_CHECKING:
    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

#: Seconds between two tries.
_PAUSE = 2.0
_READ_BUDGET = 30.0
#: The answer itself is wrong, or there is nobody to take it; a key may be mended.
_REFUSALS = frozenset({FailureKind.REJECTED, FailureKind.NOT_FOUND})


class AnswerRefusedError(Exception):
    """
    The server takes no such answer to calls that still wait, whoever sends it again.

    :param error: what the user is to read.
    """

    def __init__(self, error: OpenAIRunError) -> None:
        super().__init__(str(error))
        self.error = error


class _NotAnsweredError(Exception):
    """They could not be answered for now, or not by this attempt."""

    def __init__(self, failed: ApiRequestFailed) -> None:
        super().__init__(str(failed.failure))
        self.failed = failed


class AnswerTooLateError(Exception):
    """The time to answer was over before the server had taken the answer."""


@dataclass(kw_only=True)
class AnswerSender:
    """
    Sends the answers of one round.

    :param hook: of the run's connection.
    :param on_lost_create: what to do when nobody can say whether the next response was created.
    """

    hook: OpenAIRunsHook
    creator: RunCreator
    on_lost_create: OnLostCreate
    clock: Callable[[], float] = time.time

    def send(
        self,
        run: Run,
        answers: Mapping[str, Answer],
        *,
        rounds: Rounds,
        deadline: float | None,
        until: float | None,
    ) -> TrackedRun:
        """
        Answer all calls of a run in one request, and return the run that goes on.

        :param rounds: what is to be remembered once they are answered.
        :param until: Unix seconds after which an answer is of no use.
        :raises OpenAIRunError: if they could not be answered for now; a retry then answers them.
        :raises AnswerRefusedError: if a retry cannot, either.
        :raises AnswerTooLateError: if ``until`` was over.
        """
        self.hook.sleep(0)  # which goes no further once the task is killed
        gives_up_at = self.clock() + self.creator.timeouts["create"]
        gives_up_at = gives_up_at if until is None else min(gives_up_at, until)
        send = self._to_thread if run.ref.kind is RunKind.THREAD_RUN else self._as_response
        try:
            return send(run, answers, rounds, deadline, gives_up_at)
        except NoLongerOwnerError as error:
            raise RunCallError(
                "This attempt is no longer the task's: a later one has taken over, and goes on with its run."
            ) from error
        except _NotAnsweredError as error:
            if until is not None and self.clock() + _PAUSE >= until:
                raise AnswerTooLateError from error.failed
            raise self.creator.error_of(error.failed, f"answer the calls of {run.ref}") from error.failed

    def _to_thread(
        self,
        run: Run,
        answers: Mapping[str, Answer],
        rounds: Rounds,
        deadline: float | None,
        gives_up_at: float,
    ) -> TrackedRun:
        """Submit until the run no longer waits: it takes the outputs of a call only once."""
        while True:
            try:
                budget = max(1.0, gives_up_at - self.clock())
                self.hook.run_flow(flows.with_retries(flows.answer(run, answers, None), budget=budget))
                break
            except ApiRequestFailed as failed:
                if not self._still_waits(run):
                    break
                if failed.failure.kind in _REFUSALS:
                    error = self.creator.error_of(failed, f"answer the calls of {run.ref}")
                    raise AnswerRefusedError(error) from failed
                if not failed.failure.is_transient or self.clock() + _PAUSE >= gives_up_at:
                    raise _NotAnsweredError(failed) from failed
            self.hook.sleep(_PAUSE)
        record = self.creator.records.load()
        if record is not None:
            self.creator.records.save(replace(record, rounds=rounds))
        return TrackedRun(ref=run.ref, created_at=self.clock(), deadline=deadline, rounds=rounds)

    def _still_waits(self, run: Run) -> bool:
        """
        Whether the run waits for these very calls; unknown counts as yes, the server refuses the rest.

        Not by their ids alone: some servers use them again in the next round.
        """
        try:
            flow = flows.single(THREADS.retrieve(run.ref))
            now = self.hook.run_flow(flows.with_retries(flow, budget=_READ_BUDGET))
        except ApiRequestFailed:
            return True
        return now.needs_action and set(now.tool_calls) == set(run.tool_calls)

    def _as_response(
        self,
        run: Run,
        answers: Mapping[str, Answer],
        rounds: Rounds,
        deadline: float | None,
        gives_up_at: float,
    ) -> TrackedRun:
        """Create the response that goes on; one whose answer was lost may be running, and is paid for."""
        before = self.creator.records.load()
        while True:
            try:
                return self.creator.answer(
                    run,
                    answers,
                    rounds=rounds,
                    deadline=deadline,
                    before=before,
                    gives_up_at=gives_up_at,
                )
            except NotCreatedError as error:
                failure, has_time = error.failed.failure, self.clock() + _PAUSE < gives_up_at
                if failure.kind is FailureKind.OUTCOME_UNKNOWN:
                    if self.on_lost_create == "fail" or not has_time:
                        raise lost_create_error(error.intent, f"was not answered ({failure})") from error
                    self.creator.log.warning(
                        "To answer the calls of %s was not answered (%s); it is sent again "
                        "(on_lost_create='resubmit')",
                        run.ref,
                        failure,
                    )
                else:
                    # Nothing was created: a retry goes on where this attempt was.
                    if before is not None:
                        self.creator.records.save(before)
                    if not failure.conversation_locked or not has_time:
                        raise _NotAnsweredError(error.failed) from error
            self.hook.sleep(_PAUSE)
