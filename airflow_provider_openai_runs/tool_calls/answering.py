# SPDX-License-Identifier: Apache-2.0
"""Answers the calls that a run waits for: by functions in the worker, by given outputs, by a person's no."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.attempts.answers import (
    AnswerRefusedError,
    AnswerSender,
    AnswerTooLateError,
)
from airflow_provider_openai_runs.attempts.create import TrackedRun
from airflow_provider_openai_runs.runs.errors import (
    OpenAIRunError,
    RunRequestError,
    RunTimeoutError,
    ToolCallsFailedError,
)
from airflow_provider_openai_runs.runs.failure import safe_text
from airflow_provider_openai_runs.runs.model import Run, ToolCall
from airflow_provider_openai_runs.runs.tools import describe_calls
from airflow_provider_openai_runs.tool_calls.approval_page import Decision
from airflow_provider_openai_runs.tool_calls.function_caller import CallAnswer, FunctionCaller, OutOfTimeError
from airflow_provider_openai_runs.wire import Answer, flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

FUNCTION = "function"
MCP_APPROVAL = "mcp_approval_request"
#: Seconds before the end of a limit in which an answer still has to reach the server.
_TO_SEND = 1.0
#: Seconds until a server is asked again that does not show yet what it has taken.
_NOT_SHOWN_YET = 2.0
_MAX_NAMED = 5
_NOBODY_ASKED = "The call was not made: it needs a person's approval, and none was asked for."


class UnansweredError(Exception):
    """
    The calls of ``run`` are not going to be answered.

    :param error: what the user is to read; it does not say yet what became of the run.
    """

    def __init__(self, run: Run, error: OpenAIRunError) -> None:
        super().__init__(str(error))
        self.run = run
        self.error = error


class ApprovalNeededError(Exception):
    """A person has to decide about ``calls`` of ``run`` first, until ``until`` (Unix seconds) at most."""

    def __init__(self, run: Run, calls: Sequence[ToolCall], *, until: float | None) -> None:
        super().__init__(f"{len(calls)} calls of {run.ref}")
        self.run = run
        self.calls = calls
        self.until = until


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Until when calls may be answered, in Unix seconds, and how that limit reads in an error."""

    ends_at: float
    text: str


@dataclass(kw_only=True)
class ToolCallAnswerer:
    """
    Answers the calls of one task's run, round after round.

    :param hook: of the run's connection.
    :param functions: None where there are none.
    :param outputs: given by the user, by call id, for the first round; they go before any function.
    :param needing_approval: picks the calls that a person has to see.
    """

    hook: OpenAIRunsHook
    sender: AnswerSender
    functions: FunctionCaller | None
    calls_to_approve: Callable[[Sequence[ToolCall]], list[ToolCall]]
    max_rounds: int
    max_tool_errors: int
    read_budget: float
    log: Logger
    outputs: Mapping[str, Answer] = field(default_factory=dict)
    clock: Callable[[], float] = time.time

    def answer(
        self, tracked: TrackedRun, limits: Sequence[Limit], *, decisions: Mapping[str, Decision] | None = None
    ) -> TrackedRun | None:
        """
        Answer the calls that the run waits for; return how it goes on, or None if nobody here can answer.

        :param decisions: what a person has decided, by call id.
        :raises UnansweredError: when they are not going to be answered.
        :raises ApprovalNeededError: when a person has to decide first.
        """
        run = tracked.run if tracked.run is not None and tracked.run.tool_calls else self._read(tracked)
        if not run.needs_action:
            return TrackedRun(
                ref=tracked.ref, created_at=self.clock(), deadline=tracked.deadline, rounds=tracked.rounds
            )
        if tracked.rounds.just_answered(run, now=self.clock()):
            # Another replica has the answer. To make the calls again would make them twice.
            self.hook.sleep(_NOT_SHOWN_YET)
            return TrackedRun(
                ref=tracked.ref, created_at=self.clock(), deadline=tracked.deadline, rounds=tracked.rounds
            )
        # They are for the calls that another task has seen; a server may use an id again in a later round.
        given = self.outputs if tracked.rounds.answered == 0 else {}
        if given:
            self._check_outputs(run)
        if not run.tool_calls or not all(self._is_answerable(call, given) for call in run.tool_calls):
            return None
        _check_ids(run)
        limit = self._first_limit(run, limits)
        self._check_rounds(tracked, run)
        self._check_time(run, limit)
        until = None if limit is None else limit.ends_at
        decided = dict(decisions or {})
        asked = [call for call in run.tool_calls if call.id not in given]
        if undecided := [call for call in self.calls_to_approve(asked) if call.id not in decided]:
            if decisions is None:
                raise ApprovalNeededError(run, undecided, until=until)
            # A callable that has changed its mind since the person was asked.
            decided |= {call.id: Decision(approved=False, reason=_NOBODY_ASKED) for call in undecided}
        answers, errors = self._answers(run, limit, decided, given, list(tracked.rounds.errors))
        if len(errors) >= self.max_tool_errors:
            raise UnansweredError(run, _too_many_errors(run, errors))
        self._check_time(run, limit)
        rounds = tracked.rounds.after(run, errors, now=self.clock())
        try:
            again = self.sender.send(run, answers, rounds=rounds, deadline=tracked.deadline, until=until)
        except AnswerRefusedError as refused:
            raise UnansweredError(run, refused.error) from refused
        except AnswerTooLateError as late:
            raise UnansweredError(run, _out_of_time(run, limit, "the answer to its calls")) from late
        self.log.info("Answered %s (round %d): %s", run.ref, rounds.answered, _named(run.tool_calls))
        return again

    def _read(self, tracked: TrackedRun) -> Run:
        # The run alone: what its API keeps elsewhere is not needed to answer.
        flow = flows.with_retries(
            flows.single(wire_of(tracked.ref.kind).retrieve(tracked.ref)), budget=self.read_budget
        )
        try:
            return self.hook.run_flow(flow)
        except ApiRequestFailed as failed:
            raise self.hook.error_of(failed, doing=f"read {tracked.ref}", kind=tracked.ref.kind) from failed

    def _check_outputs(self, run: Run) -> None:
        given, pending = set(self.outputs), {call.id for call in run.tool_calls}
        if given != pending:
            raise RunRequestError(
                f"outputs answers the calls {sorted(given)}, but {run.ref} waits for {sorted(pending)}; all "
                "calls of a round are answered at once. Nothing was sent, and the run goes on waiting."
            )

    def _is_answerable(self, call: ToolCall, given: Mapping[str, Answer]) -> bool:
        if call.id in given:
            return True
        if call.type == MCP_APPROVAL:
            return bool(self.calls_to_approve([call]))
        return call.type == FUNCTION and self.functions is not None

    def _answers(
        self,
        run: Run,
        limit: Limit | None,
        decided: Mapping[str, Decision],
        given: Mapping[str, Answer],
        errors: list[str],
    ) -> tuple[dict[str, Answer], list[str]]:
        """Return the answers, and what has gone wrong since the last call that went well."""
        answers: dict[str, Answer] = {}
        for call in run.tool_calls:
            decision = decided.get(call.id)
            if call.id in given:
                answers[call.id] = given[call.id]
            elif call.type == MCP_APPROVAL:
                answers[call.id] = _approval_item(call, decision)
            elif decision is not None and not decision.approved:
                answers[call.id] = decision.rejection()
            else:
                made = self._call(run, call, limit, decision)
                answers[call.id] = made.text
                errors = [*errors, f"{made.name} ({call.id}): {made.error}"] if made.error else []
                if len(errors) >= self.max_tool_errors:
                    break
        return answers, errors

    def _call(self, run: Run, call: ToolCall, limit: Limit | None, decision: Decision | None) -> CallAnswer:
        assert self.functions is not None  # noqa: S101 # for mypy: _is_answerable has seen to it
        edited = {call.id: decision.arguments} if decision and decision.arguments is not None else {}
        until = None if limit is None else limit.ends_at
        try:
            return self.functions.answer([call], until=until, edited=edited)[0]
        except OutOfTimeError as error:
            raise UnansweredError(run, _out_of_time(run, limit, f"the function {call.name!r}")) from error

    def _first_limit(self, run: Run, limits: Sequence[Limit]) -> Limit | None:
        ends = run.expires_at
        # It is of the server's clock. Over by ours, with a run that waits all the same, it says nothing.
        own = [Limit(ends_at=ends, text="expires_at of the run")] if ends and ends > self.clock() else []
        first = min([*limits, *own], key=lambda limit: limit.ends_at, default=None)
        return first and Limit(ends_at=first.ends_at - _TO_SEND, text=first.text)

    def _check_rounds(self, tracked: TrackedRun, run: Run) -> None:
        if tracked.rounds.answered < self.max_rounds:
            return
        error = ToolCallsFailedError(
            f"{run.ref.subject} asked for calls again after {_rounds(tracked)} (max_rounds="
            f"{self.max_rounds}). The same request would probably do the same again: raise the limit, or say "
            "in the instructions when to stop.",
            retryable=False,
        )
        raise UnansweredError(run, error)

    def _check_time(self, run: Run, limit: Limit | None) -> None:
        if limit is not None and self.clock() >= limit.ends_at:
            raise UnansweredError(run, _out_of_time(run, limit, "the answer to its calls"))


def _check_ids(run: Run) -> None:
    """Refuse calls that no answer can name, before a function runs for nothing."""
    ids = [call.id for call in run.tool_calls]
    if all(ids) and len(set(ids)) == len(ids):
        return
    error = ToolCallsFailedError(
        f"{run.ref.subject} asks for {describe_calls(run.tool_calls)}, and not each call has an id of "
        "its own: the server could not tell the answers apart. No function was called."
    )
    raise UnansweredError(run, error)


def _approval_item(call: ToolCall, decision: Decision | None) -> Answer:
    if decision is not None and decision.approved:
        return True
    item = {"type": "mcp_approval_response", "approval_request_id": call.id, "approve": False}
    return {**item, "reason": _NOBODY_ASKED if decision is None else decision.rejection()}


def _out_of_time(run: Run, limit: Limit | None, what: str) -> OpenAIRunError:
    end = "the time" if limit is None else limit.text
    return RunTimeoutError(
        f"{run.ref.subject} waits for calls, and {what} was not ready when {end} was over; an answer after "
        "that is of no use."
    )


def _too_many_errors(run: Run, errors: Sequence[str]) -> OpenAIRunError:
    return ToolCallsFailedError(
        f"The last {len(errors)} calls of {run.ref} went wrong (max_tool_errors): " + "; ".join(errors) + "."
    )


def _rounds(tracked: TrackedRun) -> str:
    return "1 round" if tracked.rounds.answered == 1 else f"{tracked.rounds.answered} rounds"


def _named(calls: Sequence[ToolCall]) -> str:
    """Name calls without their arguments, which do not belong into a log."""
    names = [f"{safe_text(call.name)[:100]} ({safe_text(call.id)[:100]})" for call in calls[:_MAX_NAMED]]
    return ", ".join(names) + (f" and {len(calls) - _MAX_NAMED} more" if len(calls) > _MAX_NAMED else "")
