# SPDX-License-Identifier: Apache-2.0
"""Decides how the calls that a run waits for are answered: by functions, given outputs, a person's no."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_openai_runs.runs.budgets import TIME_TO_ANSWER
from airflow_provider_openai_runs.runs.errors import (
    OpenAIRunError,
    RunRequestError,
    RunTimeoutError,
    ToolCallsFailedError,
)
from airflow_provider_openai_runs.runs.model import Run, ToolCall
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.text import encodable
from airflow_provider_openai_runs.runs.tools import describe_calls
from airflow_provider_openai_runs.runs.withheld import without_text
from airflow_provider_openai_runs.tool_calls.approval import FUNCTION, MCP_APPROVAL, ApprovalDecision
from airflow_provider_openai_runs.tool_calls.function_caller import CallAnswer, FunctionCaller, OutOfTimeError
from airflow_provider_openai_runs.typed.text import clean
from airflow_provider_openai_runs.wire import Answer, wire_of

#: Errors that the record holds, and with it the trigger and the event.
_MOST_ERRORS = 10
_NOBODY_ASKED = "The call was not made: it needs a person's approval, and none was asked for."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """
    All calls of ``run`` have an answer.

    :param outputs: by call id.
    :param rounds: what is to be remembered once they are sent.
    :param until: Unix seconds after which they are of no use.
    :param limit: how that limit reads in an error.
    """

    run: Run
    outputs: Mapping[str, Answer]
    rounds: Rounds
    until: float | None
    limit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsApproval:
    """
    A person has to decide about calls of ``run`` first.

    :param round_number: which one of the run it is; a server may use the id of a call again in a later one.
    :param until: Unix seconds at which it is too late.
    """

    run: Run
    calls: Sequence[ToolCall]
    round_number: int
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivesUp:
    """
    The calls of ``run`` are not going to be answered.

    :param error: what the user is to read; it does not say yet what became of the run.
    """

    run: Run
    error: OpenAIRunError


@dataclass(frozen=True, slots=True)
class NobodyHere:
    """The run waits for calls that this task has no answer to."""


@dataclass(frozen=True, slots=True)
class NothingToAnswer:
    """
    The run goes on by itself, or has ended.

    :param not_shown_yet: the server has taken the answer, and another replica of it does not show that yet.
    """

    not_shown_yet: bool = False
    has_ended: bool = False


Answering = Answers | NeedsApproval | GivesUp | NobodyHere | NothingToAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Until when calls may be answered, in Unix seconds, and how that limit reads in an error."""

    ends_at: float
    text: str


@dataclass(kw_only=True)
class ToolCallAnswerer:
    """
    Answers the calls of one task's run, round after round.

    :param functions: None where there are none.
    :param withholds: repeat nothing in errors that the model wrote.
    :param outputs: given by the user, by call id, for the first round; they go before any function.
    :param calls_to_approve: picks the calls that a person has to see.
    """

    functions: FunctionCaller | None
    calls_to_approve: Callable[[Sequence[ToolCall]], list[ToolCall]]
    max_rounds: int
    max_tool_errors: int
    withholds: bool = False
    outputs: Mapping[str, Answer] = field(default_factory=dict)
    clock: Callable[[], float] = time.time

    def answer(
        self,
        run: Run,
        rounds: Rounds,
        limits: Sequence[Limit],
        *,
        decisions: Mapping[ToolCall, ApprovalDecision] | None = None,
    ) -> Answering:
        """
        Answer the calls that the run waits for.

        :param rounds: those that were answered before.
        :param decisions: what a person has decided about exactly these calls; None if nobody was asked yet.
        :raises RunRequestError: if the outputs that were given are not for these calls.
        """
        if not run.needs_action:
            return NothingToAnswer(has_ended=run.status.is_terminal)
        if rounds.just_answered(run, now=self.clock()):
            # Another replica has the answer. To make the calls again would make them twice.
            return NothingToAnswer(not_shown_yet=True)
        # They are for the calls that another task has seen; a server may use an id again in a later round.
        given = self.outputs if rounds.answered == 0 else {}
        if given:
            self._check_outputs(run)
        if not run.tool_calls or not all(self._is_answerable(call, given) for call in run.tool_calls):
            return NobodyHere()
        limit = self._first_limit(run, limits)
        shown = without_text(run, 0) if self.withholds else run
        if refused := _without_own_ids(shown) or self._too_many_rounds(run, rounds) or self._late(run, limit):
            return GivesUp(run=run, error=refused)
        decided = dict(decisions or {})
        asked = [call for call in run.tool_calls if call.id not in given]
        if undecided := [call for call in self.calls_to_approve(asked) if call not in decided]:
            if decisions is None:
                until = limit.ends_at if limit else None
                number = rounds.answered + 1
                return NeedsApproval(run=run, calls=undecided, round_number=number, until=until)
            # A callable that has changed its mind since the person was asked.
            decided |= dict.fromkeys(undecided, ApprovalDecision(approved=False, reason=_NOBODY_ASKED))
        return self._made(run, limit, decided, given, rounds)

    def _made(
        self,
        run: Run,
        limit: Limit | None,
        decided: Mapping[ToolCall, ApprovalDecision],
        given: Mapping[str, Answer],
        rounds: Rounds,
    ) -> Answers | GivesUp:
        """
        Make the calls; an error counts until a call goes well.

        The run is not ended by errors of which the model has read none, nor in a round in which a call went
        well: a retry would make that call again.
        """
        outputs: dict[str, Answer] = {}
        errors, went_well = list(rounds.errors), False
        for call in run.tool_calls:
            decision = decided.get(call)
            if call.id in given:
                outputs[call.id] = given[call.id]
            elif call.type == MCP_APPROVAL:
                outputs[call.id] = _approval_item(call, decision)
            elif decision is not None and not decision.approved:
                outputs[call.id] = decision.rejection()
            else:
                try:
                    made = self._call(call, limit, decision)
                except OutOfTimeError:
                    return GivesUp(run=run, error=out_of_time(run, limit, f"the function {call.name!r}"))
                outputs[call.id] = made.text
                went_well = went_well or made.error is None
                errors = [*errors, f"{made.name} ({clean(call.id)}): {made.error}"] if made.error else []
                if self._are_too_many(errors, rounds, went_well=went_well):
                    return GivesUp(run=run, error=_too_many_errors(run, errors, retryable=not went_well))
        if late := self._late(run, limit):
            return GivesUp(run=run, error=late)
        in_place = wire_of(run.ref.kind).answers_in_place
        kept = max(self.max_tool_errors, _MOST_ERRORS)
        return Answers(
            run=run,
            outputs=outputs,
            rounds=rounds.after(run, errors[-kept:], in_place=in_place, now=self.clock()),
            until=limit.ends_at if limit else None,
            limit=limit.text if limit else "",
        )

    def _are_too_many(self, errors: Sequence[str], rounds: Rounds, *, went_well: bool) -> bool:
        if self.max_tool_errors == 1:
            return bool(errors)
        return len(errors) >= self.max_tool_errors and bool(rounds.errors) and not went_well

    def _call(self, call: ToolCall, limit: Limit | None, decision: ApprovalDecision | None) -> CallAnswer:
        assert self.functions is not None  # noqa: S101 # for mypy: _is_answerable has seen to it
        arguments = decision.arguments if decision else None
        return self.functions.answer(call, until=limit.ends_at if limit else None, arguments=arguments)

    def _check_outputs(self, run: Run) -> None:
        given, pending = set(self.outputs), {call.id for call in run.tool_calls}
        if given != pending:
            raise RunRequestError(
                f"outputs answers the calls {sorted(given)}, but {run.ref} waits for {sorted(pending)}; all "
                "calls of a round are answered at once. Nothing was sent, and the run goes on waiting."
            )
        # Before an intent is on record: an answer that no call takes is not sent.
        wire_of(run.ref.kind).answer(run, self.outputs, None, token=None)

    def _is_answerable(self, call: ToolCall, given: Mapping[str, Answer]) -> bool:
        if call.id in given:
            return True
        if call.type == MCP_APPROVAL:
            return bool(self.calls_to_approve([call]))
        return call.type == FUNCTION and self.functions is not None

    def _first_limit(self, run: Run, limits: Sequence[Limit]) -> Limit | None:
        ends = run.expires_at
        # It is of the server's clock. Over by ours, with a run that waits all the same, it says nothing.
        own = [Limit(ends_at=ends, text="expires_at of the run")] if ends and ends > self.clock() else []
        first = min([*limits, *own], key=lambda limit: limit.ends_at, default=None)
        return first and Limit(ends_at=first.ends_at - TIME_TO_ANSWER, text=first.text)

    def _too_many_rounds(self, run: Run, rounds: Rounds) -> OpenAIRunError | None:
        if rounds.answered < self.max_rounds:
            return None
        count = "1 round" if rounds.answered == 1 else f"{rounds.answered} rounds"
        return ToolCallsFailedError(
            f"{run.ref.subject} asked for calls again after {count} (max_rounds="
            f"{self.max_rounds}). The same request would probably do the same again: raise the limit, or say "
            "in the instructions when to stop.",
            retryable=False,
        )

    def _late(self, run: Run, limit: Limit | None) -> OpenAIRunError | None:
        is_late = limit is not None and self.clock() >= limit.ends_at
        return out_of_time(run, limit, "the answer to its calls") if is_late else None


def _without_own_ids(run: Run) -> OpenAIRunError | None:
    """Refuse calls that no answer can name, before a function runs for nothing."""
    ids = [call.id for call in run.tool_calls]
    if all(ids) and len(set(ids)) == len(ids) and all(encodable(name) == name for name in ids):
        return None
    return ToolCallsFailedError(
        f"{run.ref.subject} asks for {describe_calls(run.tool_calls)}, and not each call has an id of its "
        "own that can be sent back: the server could not tell the answers apart. No function was called."
    )


def _approval_item(call: ToolCall, decision: ApprovalDecision | None) -> Answer:
    if decision is not None and decision.approved:
        return True
    item = {"type": "mcp_approval_response", "approval_request_id": call.id, "approve": False}
    return {**item, "reason": _NOBODY_ASKED if decision is None else decision.rejection()}


def out_of_time(run: Run, limit: Limit | None, what: str) -> OpenAIRunError:
    """Return the error for calls whose answer came too late."""
    end = "the time" if limit is None else limit.text
    return RunTimeoutError(
        f"{run.ref.subject} waits for calls, and {what} was not ready when {end} was over; an answer after "
        "that is of no use."
    )


def _too_many_errors(run: Run, errors: Sequence[str], *, retryable: bool) -> OpenAIRunError:
    count = "call" if len(errors) == 1 else f"{len(errors)} calls"
    text = f"The last {count} of {run.ref} went wrong (max_tool_errors): {'; '.join(errors)}."
    again = "" if retryable else " It is not tried again: other calls of the round went well."
    return ToolCallsFailedError(text + again, retryable=retryable)
