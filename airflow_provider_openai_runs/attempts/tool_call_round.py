# SPDX-License-Identifier: Apache-2.0
"""One round of a model's calls: answered, put before a person, or given up."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from airflow_provider_openai_runs.attempts.create import Acquired
from airflow_provider_openai_runs.attempts.kill import KillHandler
from airflow_provider_openai_runs.attempts.parts import AttemptParts
from airflow_provider_openai_runs.attempts.read_run import endured
from airflow_provider_openai_runs.attempts.settings import CreateSettings
from airflow_provider_openai_runs.attempts.steps import AwaitApproval
from airflow_provider_openai_runs.runs.answers import NotSent
from airflow_provider_openai_runs.runs.budgets import NOT_SHOWN_YET
from airflow_provider_openai_runs.runs.errors import CeilingReachedError, OpenAIRunError
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.response_request import conversation_of
from airflow_provider_openai_runs.runs.tools import name_calls
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.runs.withheld import without_text
from airflow_provider_openai_runs.tool_calls.answering import (
    Answering,
    Answers,
    GivesUp,
    Limit,
    NeedsApproval,
    NobodyHere,
    NothingToAnswer,
    out_of_time,
)
from airflow_provider_openai_runs.tool_calls.approval_request import AwaitPerson
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook


@dataclass(kw_only=True)
class ToolCallRound:
    """
    Answers the calls that a run waits for.

    :param hook: of the run's connection.
    :param attempt_deadline: Unix seconds at which execution_timeout is over.
    """

    hook: OpenAIRunsHook
    settings: CreateSettings
    parts: AttemptParts
    kill_handler: KillHandler
    attempt_deadline: float | None
    log: Logger

    def answer(self, acquired: Acquired, *, approval: Any = None) -> Acquired | AwaitApproval | None:
        """
        Answer the calls and return the run that goes on; None if nobody here can.

        :param approval: what Airflow resumed the task with after a person's decision.
        :raises OpenAIRunError: if they are not going to be answered, or could not be for now.
        """
        tracked, created = acquired.run, acquired.created
        run = created if created is not None and created.tool_calls else self._read(tracked)
        conversation = conversation_of(self.settings.request.body)
        close = partial(wire_of(run.ref.kind).close, run, conversation=conversation)
        self.kill_handler.watch(run.ref, close=close)
        limits = self.settings.limits(deadline=tracked.deadline, attempt_deadline=self.attempt_deadline)
        if run.needs_action:
            self._check_ceiling(run, tracked)
        answerer = self.parts.answerer(self.kill_handler, after_approval=bool(approval))
        answering = answerer.answer(run, tracked.rounds, limits)
        if isinstance(answering, NeedsApproval):
            request = self.parts.approval_request(answering)
            decided = request.decisions(approval) if approval else request.ask()
            if isinstance(decided, AwaitPerson):
                self.kill_handler.raise_if_ended()
                stored = replace(tracked, attempt_deadline=self.attempt_deadline)
                return AwaitApproval(run=stored, timeout=decided.timeout)
            answering = (
                decided
                if isinstance(decided, GivesUp)
                else answerer.answer(run, tracked.rounds, limits, decisions=decided)
            )
        return self._carry_out(answering, tracked)

    def _carry_out(self, answering: Answering, tracked: TrackedRun) -> Acquired | None:
        match answering:
            case NothingToAnswer():
                if answering.not_shown_yet:
                    self.hook.sleep(NOT_SHOWN_YET)
                # A poll does not know the request, and may take for pending what the server has done itself.
                return Acquired(run=replace(tracked, created_at=time.time()), finished=answering.has_ended)
            case NobodyHere():
                return None
            case GivesUp():
                raise self._given_up(answering.run, answering.error, tracked)
            case Answers():
                try:
                    sent = self.parts.sender(self.hook, self.kill_handler).send(
                        answering, deadline=tracked.deadline
                    )
                except CeilingReachedError as error:
                    raise self._given_up(answering.run, error, tracked) from None
                if isinstance(sent, NotSent):
                    raise self._not_sent(sent, answering, tracked)
                answered = answering.run
                if self.settings.withholds:
                    answered = without_text(answered, 0)
                names = name_calls(answered.tool_calls)
                self.log.info("Answered %s (round %d): %s", tracked.ref, answering.rounds.answered, names)
                return sent
            case NeedsApproval():  # a person has decided about all of them
                raise AssertionError(answering)
            case _:
                assert_never(answering)

    def _check_ceiling(self, run: Run, tracked: TrackedRun) -> None:
        """Give up before a function is called, or a person asked, for an answer that may not be sent."""
        try:
            self.parts.ledger.check_answer(run, tracked.rounds)
        except CeilingReachedError as error:
            raise self._given_up(run, error, tracked) from None

    def _not_sent(self, sent: NotSent, answers: Answers, tracked: TrackedRun) -> OpenAIRunError:
        match sent.reason:
            case "later":
                return sent.error
            case "rejected":
                return self._given_up(answers.run, sent.error, tracked)
            case "late":
                limit = Limit(ends_at=answers.until or 0.0, text=answers.limit) if answers.limit else None
                error = out_of_time(answers.run, limit, "the answer to its calls")
                return self._given_up(answers.run, error, tracked)
            case _:
                assert_never(sent.reason)

    def _given_up(self, run: Run, error: OpenAIRunError, tracked: TrackedRun) -> OpenAIRunError:
        described = self.parts.finisher(self.hook, tracked).give_up(run, error)
        self.kill_handler.settle()
        return described

    def _read(self, tracked: TrackedRun) -> Run:
        # The run alone: what its API keeps elsewhere is not needed to answer.
        ref = tracked.ref
        request = wire_of(ref.kind).retrieve(ref, self.settings.request.that_created(ref))

        budget = self.settings.timeouts["read"]

        def read() -> Run:
            return self.hook.run_flow(flows.with_retries(flows.single(request), budget=budget))

        try:
            return endured(self.hook, read, ref, log=self.log)
        except ApiRequestFailed as failed:
            error = self.hook.error_of(failed.failure, doing=f"read {ref}", kind=ref.kind)
            if failed.failure.says_gone or error.retryable:
                raise error from None
            text = f"{error} It waits for the answer to its calls; a retry goes on with it."
            raise error.saying(text, retryable=True) from None
