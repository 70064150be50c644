# SPDX-License-Identifier: Apache-2.0
"""After the wait: read the run, return it, or fail with its fate, its result pushed before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs import results
from airflow_provider_openai_runs.attempts.record_store import NoLongerOwnerError, RunRecords
from airflow_provider_openai_runs.runs.error_of_run import Fate, error_of_run, error_of_wait
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunOutputError, RunTimeoutError
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.policies import OnIncomplete, OnToolCalls
from airflow_provider_openai_runs.runs.polling import Outcome
from airflow_provider_openai_runs.runs.rounds import Rounds, as_one
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.wait import WaitResult, fate_of

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
    from airflow_provider_openai_runs.typed.output import OutputType

_NO_ROUNDS = Rounds()
#: Seconds for reading a run whose wait was over anyway.
_LAST_READ_BUDGET = 20.0
#: Seconds to wait for the end of a run that nobody can go on with.
_CANCEL_WAIT = 20.0


@dataclass(kw_only=True)
class RunFinisher:
    """
    Ends one attempt of a task.

    :param on_tool_calls: what a run is that waits for the answer to a call.
    :param output_type: what the answer has to fit; None takes any text.
    :param taken_over: a run of another task, which its own task has counted.
    :param cancel_on_timeout: whether a run is ended that waits for calls when its time is over.
    :param limits: how the task's limits read in an error, by the outcome that they cause.
    :param timeouts: budgets in seconds, of which ``read`` counts here.
    """

    hook: OpenAIRunsHook
    context: Any
    records: RunRecords
    on_incomplete: OnIncomplete
    on_tool_calls: OnToolCalls
    output_type: OutputType | None
    taken_over: RunRef | None
    cancel_on_timeout: bool
    limits: dict[Outcome, str]
    timeouts: dict[str, float]
    multiple_outputs: bool
    log: Logger

    def conclude(
        self, result: WaitResult, *, created: Run | None = None, rounds: Rounds = _NO_ROUNDS
    ) -> dict[str, Any]:
        """
        Return the run's dict, or fail.

        :param created: the answer to its create, if the run had ended by then.
        :param rounds: the rounds of calls that were answered.
        :raises OpenAIRunError: if the run is no success, or its time was over.
        """
        if result.outcome in {Outcome.ENDED, Outcome.NEEDS_ACTION}:
            return self._finish(result.ref, created, rounds)
        if result.fate is not Fate.LEFT_RUNNING:
            self._update_record(ended_by_us=True)
        error = error_of_wait(
            result.outcome,
            result.ref,
            limit=self.limits.get(result.outcome, ""),
            fate=result.fate,
            raw_status=result.raw_status,
            failure=result.failure,
        )
        raise self._pushed(error, self._last_read(result.ref))

    def give_up(self, run: Run, error: OpenAIRunError, rounds: Rounds) -> OpenAIRunError:
        """End a run whose calls are not going to be answered, and return the error that says so."""
        error = self._without_answer(run, error)
        try:
            flow = flows.complete(run, steps=True)
            run = self.hook.run_flow(flows.with_retries(flow, budget=_LAST_READ_BUDGET))
        except ApiRequestFailed as failed:
            self.log.warning("Could not read the steps of %s: %s", run.ref, failed.failure)
        return self._pushed(error, as_one(self._earlier(rounds), run))

    def _finish(self, ref: RunRef, created: Run | None, rounds: Rounds) -> dict[str, Any]:
        # What its create has answered is not asked for again: gateways that ignore ``background`` often keep
        # nothing that could be read.
        flow = flows.read(ref, steps=True) if created is None else flows.complete(created, steps=True)
        try:
            run = self.hook.run_flow(flows.with_retries(flow, budget=self.timeouts["read"]))
        except ApiRequestFailed as failed:
            raise self.hook.error_of(failed, doing=f"read {ref}", kind=ref.kind) from failed
        run = as_one(self._earlier(rounds), run)
        self.log.info("%s", results.summary(run))
        error = error_of_run(run, on_incomplete=self.on_incomplete)
        if error is None:
            return self._result(run)
        if run.needs_action:
            if self.on_tool_calls == "return":
                self.log.info("The model waits for the answer to its calls (on_tool_calls='return')")
                return results.to_xcom(run, log=self.log)
            error = self._without_answer(run, error)
        raise self._pushed(error, run)

    def _earlier(self, rounds: Rounds) -> list[Run]:
        """Read the responses before the last one, which count as the same run."""
        found = []
        for ref in rounds.earlier:
            if ref == self.taken_over:
                continue
            try:
                flow = flows.with_retries(flows.read(ref, steps=True), budget=_LAST_READ_BUDGET)
                found.append(self.hook.run_flow(flow))
            except ApiRequestFailed as failed:
                self.log.warning("Tokens and steps lack those of %s: %s", ref, failed.failure)
        return found

    def _result(self, run: Run) -> dict[str, Any]:
        values = results.to_xcom(run, log=self.log)
        if self.output_type is None:
            return values
        try:
            return {**values, "output": self.output_type.parse(run.output_text)}
        except ValueError as unfit:
            self._update_record(refused=True)
            error = RunOutputError(
                f"The answer of {run.ref} does not fit output_type: {unfit}. A retry starts a new run."
            )
            raise self._pushed(error, run) from unfit

    def after_the_triggers_death(self, ref: RunRef, *, is_last_try: bool, cancel: bool) -> Outcome | None:
        """Look at the run of a trigger that died: how it has ended; if not, end it unless a retry is left."""
        try:
            polled = self.hook.run_flow(
                flows.with_retries(flows.single(wire_of(ref.kind).poll(ref)), budget=_LAST_READ_BUDGET)
            )
        except ApiRequestFailed as failed:
            self.log.warning("The trigger of %s died, and it cannot be looked at: %s", ref, failed.failure)
        else:
            if polled.needs_action:
                return Outcome.NEEDS_ACTION
            if polled.status.is_terminal:
                return Outcome.ENDED
        if is_last_try and cancel:
            became = self._cancel(ref)
            self._update_record(ended_by_us=True)
            self.log.warning("The trigger of %s died and no retry is left. %s", ref, became)
        else:
            self.log.warning("The trigger of %s died. %s", ref, Fate.LEFT_RUNNING.sentence())
        return None

    def _without_answer(self, run: Run, error: OpenAIRunError) -> OpenAIRunError:
        """End a thread run that waits for an answer: it would go on waiting and block its thread."""
        if isinstance(error, RunTimeoutError) and not self.cancel_on_timeout:
            left = "It goes on waiting (cancel_on_timeout=False); a retry answers it in a window of its own."
            return type(error)(f"{error} {left}", retryable=error.retryable)
        if run.status is RunStatus.COMPLETED:
            self._update_record(refused=True)
            return error
        # Before the cancel: it may be the run of a later attempt by now, which has an answer.
        if self._update_record(ended_by_us=True):
            became = self._cancel(run.ref)
        else:
            became = f"{run.ref} was left to the attempt that has taken over."
        return type(error)(f"{error} {became}", retryable=error.retryable)

    def _cancel(self, ref: RunRef) -> str:
        """End a run, and say what became of it."""
        flow = flows.cancel(ref, wait=_CANCEL_WAIT)
        ended = self.hook.run_flow(flows.with_retries(flow, budget=_CANCEL_WAIT))
        return fate_of(ended).sentence(raw_status=ended.polled.raw_status if ended.polled else None)

    def _last_read(self, ref: RunRef) -> Run | None:
        try:
            flow = flows.read(ref, steps=True)
            return self.hook.run_flow(flows.with_retries(flow, budget=_LAST_READ_BUDGET))
        except ApiRequestFailed as failed:
            self.log.warning("Could not read %s once more: %s", ref, failed.failure)
            return None

    def _update_record(self, **changes: bool) -> bool:
        """Change the record of the run; return False if it is another attempt's by now."""
        try:
            record = self.records.load()
            if record is not None:
                self.records.save(replace(record, **changes))  # type: ignore[arg-type]  # flags only
        except NoLongerOwnerError:
            self.log.warning("A later attempt has taken over; its record is left as it is")
            return False
        except Exception as error:  # noqa: BLE001 # why the task fails matters more
            self.log.warning("Could not read the record of the run to update it: %s", error)
        return True

    def _pushed(self, error: OpenAIRunError, run: Run | None) -> OpenAIRunError:
        """Push what is known of the run, and return the error that says so."""
        if run is None:
            return error
        values = results.to_xcom(run, log=self.log)
        results.push(self.context, values, multiple_outputs=self.multiple_outputs)
        return type(error)(
            f"{error} XCom 'return_value' of this task holds what is known of it.",
            retryable=error.retryable,
            retry_after=error.retry_after,
        )
