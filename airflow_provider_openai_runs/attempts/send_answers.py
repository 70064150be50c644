# SPDX-License-Identifier: Apache-2.0
"""Sends the answers to a run's calls, once: some runs go on by themselves then, others as a new run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.attempts.create import Acquired, RunCreator
from airflow_provider_openai_runs.runs.answers import (
    NotSent,
    after_failed_answer,
    after_failed_continuation,
)
from airflow_provider_openai_runs.runs.budgets import ADOPT_BUDGET, LEAST_REPLY_TIMEOUT
from airflow_provider_openai_runs.runs.errors import RunCallError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.lost_create import runs_of
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.record import NoLongerOwnerError
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.tool_calls.answering import Answers
from airflow_provider_openai_runs.wire import wire_of

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

_NOT_TAKEN = "The answer to the calls of %s was not accepted (%s); it is sent again in %.0f s"


@dataclass(kw_only=True)
class AnswerSender:
    """
    Sends the answers of one round.

    :param resubmits: how often the next run may be created again when nobody can say whether it was.
    """

    creator: RunCreator
    resubmits: int
    log: Logger
    clock: Callable[[], float] = time.time

    def send(self, answers: Answers, *, deadline: float | None) -> Acquired | NotSent:
        """
        Answer all calls of a run in one request, and return the run that goes on.

        :param deadline: of the run, in Unix seconds.
        :raises RunCallError: if a later attempt has taken over.
        :raises CeilingReachedError: if they would pass a ceiling; nothing was sent.
        """
        self.creator.api.sleep(0)  # which goes no further once the task is killed
        until = answers.until
        gives_up_at = self.clock() + self.creator.timeouts["create"]
        gives_up_at = gives_up_at if until is None else min(gives_up_at, until)
        in_place = wire_of(answers.run.ref.kind).answers_in_place
        send = self._to_the_run if in_place else self._as_a_new_run
        try:
            return send(answers, deadline, gives_up_at)
        except NoLongerOwnerError as error:
            raise RunCallError(
                "This attempt is no longer the task's: a later one has taken over, and goes on with its run."
            ) from error

    def _to_the_run(self, answers: Answers, deadline: float | None, gives_up_at: float) -> Acquired | NotSent:
        """Submit until the run no longer waits: it takes the outputs of a call only once."""
        run, api, tries = answers.run, self.creator.api, 0
        self._reserve(answers)
        while True:
            timeout = max(LEAST_REPLY_TIMEOUT, gives_up_at - self.clock())
            reply = api.answer(None, run, answers.outputs, self.creator.request, timeout=timeout)
            if not isinstance(reply, RequestFailure):
                break
            asked_to_wait = reply.may_be_sent_again
            if not asked_to_wait and not self._still_waits(run):
                break
            next_step = after_failed_answer(
                reply,
                error=api.error_of(reply, f"answer the calls of {run.ref}"),
                tries=tries,
                now=self.clock(),
                gives_up_at=gives_up_at,
                until=answers.until,
            )
            if isinstance(next_step, NotSent):
                # An earlier try may have been taken all the same.
                if asked_to_wait and not self._still_waits(run):
                    break
                return next_step
            self.log.warning(_NOT_TAKEN, run.ref, reply, next_step.seconds)
            api.sleep(next_step.seconds)
            tries += 1
        record = self.creator.store.current()
        tracked = TrackedRun(ref=run.ref, created_at=self.clock(), deadline=deadline, rounds=answers.rounds)
        if record is not None and record.run is not None:
            self.creator.store.save(replace(record, run=replace(record.run, rounds=answers.rounds)))
        return Acquired(run=tracked)

    def _reserve(self, answers: Answers) -> None:
        """Write down what the answer may take, where there is a ceiling, before it is sent."""
        store = self.creator.store
        self.creator.ledger.extend(answers.run, answers.outputs, answers.rounds)
        if store.is_behind:
            store.save(store.current())

    def _still_waits(self, run: Run) -> bool:
        """
        Whether the run waits for these very calls; unknown counts as yes, the server refuses the rest.

        Not by their ids alone: some servers use them again in the next round.
        """
        now = self.creator.api.retrieve(run.ref, budget=ADOPT_BUDGET)
        if isinstance(now, RequestFailure):
            return True
        return now.needs_action and set(now.tool_calls) == set(run.tool_calls)

    def _as_a_new_run(
        self, answers: Answers, deadline: float | None, gives_up_at: float
    ) -> Acquired | NotSent:
        """Create the run that goes on; one whose answer was lost may be running, and is paid for."""
        before, tries = self.creator.store.current(), 0
        lost = before.lost if before else ()
        while True:
            made = self.creator.answer(
                answers.run,
                answers.outputs,
                rounds=answers.rounds,
                deadline=deadline,
                before=before,
                lost=lost,
                gives_up_at=gives_up_at,
            )
            if isinstance(made, Acquired):
                return made
            next_step = after_failed_continuation(
                made,
                resubmits=self.resubmits,
                tries=tries,
                now=self.clock(),
                gives_up_at=gives_up_at,
                until=answers.until,
            )
            if next_step.forget:
                self.creator.store.save(before)
            if isinstance(next_step, NotSent):
                return next_step
            if made.failure.kind is FailureKind.OUTCOME_UNKNOWN:
                lost = (*lost, made.intent.token)
                before = before and replace(before, lost=lost)
                self.log.warning(
                    "The answer to the calls of %s was itself not answered (%s); %s may be running and "
                    "billing. It is sent again in %.0f s (on_lost_create='resubmit', %d of max_resubmits=%d)",
                    answers.run.ref,
                    made.failure,
                    runs_of(made.intent),
                    next_step.seconds,
                    len(lost),
                    self.resubmits,
                )
            else:
                self.log.warning(_NOT_TAKEN, answers.run.ref, made.failure, next_step.seconds)
            self.creator.api.sleep(next_step.seconds)
            tries += 1
