# SPDX-License-Identifier: Apache-2.0
"""After the wait: read the run, return it, or fail with its fate, its result pushed before."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs import results
from airflow_provider_openai_runs.attempts.ledger import Ledger
from airflow_provider_openai_runs.attempts.output_files import Collected, OutputFiles
from airflow_provider_openai_runs.attempts.read_run import PAID_FOR, RunReader
from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.attempts.settings import CreateSettings
from airflow_provider_openai_runs.runs.budgets import (
    CANCEL_WAIT,
    CLOSE_BUDGET,
)
from airflow_provider_openai_runs.runs.end_of_attempt import has_retry_left
from airflow_provider_openai_runs.runs.error_of_run import (
    about_run,
    error_of_answer,
    error_of_run,
    error_of_type,
    error_of_wait,
)
from airflow_provider_openai_runs.runs.errors import (
    OpenAIRunError,
    RunCallError,
    RunStorageError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.runs.fate import CancelResult, Fate
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.polling import Outcome
from airflow_provider_openai_runs.runs.record import NoLongerOwnerError
from airflow_provider_openai_runs.runs.response_request import conversation_of
from airflow_provider_openai_runs.runs.rounds import as_one
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.runs.withheld import is_too_long
from airflow_provider_openai_runs.typed.output import OutputType, OutputTypeFault
from airflow_provider_openai_runs.wire import flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.wait import WaitResult

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook


@dataclass(kw_only=True)
class RunFinisher:
    """
    Ends one attempt of a task.

    :param hook: of the run's connection.
    :param run: the run of this task, and the rounds of calls that were answered.
    :param ledger: keeps account of what was paid for.
    :param context: Airflow's.
    :param output: writes what runs have brought; None where nothing is to be written.
    """

    hook: OpenAIRunsHook
    run: TrackedRun
    settings: CreateSettings
    context: Any
    store: RecordStore
    ledger: Ledger
    log: Logger
    output: OutputFiles | None = None

    @cached_property
    def _reader(self) -> RunReader:
        return RunReader(hook=self.hook, settings=self.settings, log=self.log, output=self.output)

    # -- with a result ------------------------------------------------------------------------------------

    def conclude(
        self, result: WaitResult, *, created: Run | None = None, may_answer: bool = False
    ) -> dict[str, Any] | None:
        """
        Return the run's dict, or fail; None if it waits for calls that may be answered after all.

        :param created: the answer to its create, if the run had ended by then.
        :param may_answer: whether somebody may answer calls that the wait has not seen.
        :raises OpenAIRunError: if the run is no success, or its time was over.
        """
        if result.outcome in {Outcome.ENDED, Outcome.NEEDS_ACTION}:
            return self._finish(result.ref, created, may_answer=may_answer)
        if result.fate is not Fate.LEFT_RUNNING:
            # One that is gone is asked for again: the connection may lead elsewhere by now.
            has_ended = result.fate is Fate.CANCELLED
            self._update_record(ended_by_us=True, **({"ended": True} if has_ended else {}))
        error = error_of_wait(
            result.outcome,
            result.ref,
            limit=self.settings.limit_text(result.outcome),
            fate=result.fate,
            raw_status=result.raw_status,
            failure=result.failure,
        )
        run = self._reader.once_more(result.ref)
        raise self._pushed(error, run and self._as_one((), run))

    def _finish(self, ref: RunRef, created: Run | None, *, may_answer: bool) -> dict[str, Any] | None:
        collected = self._reader.at_its_end(ref, created)
        if may_answer and collected.run.needs_action:
            return None
        earlier = self._reader.earlier(self.run.rounds)
        run = self._as_one(earlier, collected.run)
        self.log.info("%s", results.summary(run))
        error = error_of_run(
            run,
            on_incomplete=self.settings.on_incomplete,
            is_adopted=self._may_be_adopted(run),
            withholds=self.settings.withholds,
        )
        unwritten = next((one.error for one in (*earlier, collected) if one.error is not None), None)
        if error is None:
            return self._result(run, unwritten)
        if unwritten is not None:
            self.log.warning("%s", unwritten)
        if run.needs_action:
            if self.settings.on_tool_calls == "return":
                self.log.info("The model waits for the answer to its calls (on_tool_calls='return')")
                return self._values(run)
            error = self._without_answer(run, error)
        elif run.status.is_terminal:
            self._update_record(ended=True, **({"refused": True} if run.is_empty else {}))
        else:  # its server has taken the end back
            is_left = has_retry_left(self.context["ti"]) or not self.settings.cancel_on_kill
            error = error.saying(f"{error} {Fate.LEFT_RUNNING.sentence() if is_left else self._end(run.ref)}")
        raise self._pushed(error, run)

    def _as_one(self, earlier: Sequence[Collected], last: Run) -> Run:
        """Count what was paid for, and return a chain of runs as one, with what its task has paid in all."""
        *chain, end = [self.ledger.settle(run) for run in (*(one.run for one in earlier), last)]
        return self.ledger.shown(as_one(chain, end))

    def _result(self, run: Run, unwritten: RunStorageError | None) -> dict[str, Any]:
        """
        Return the dict of a run that has ended well.

        :param unwritten: why its files are not there: a retry finishes from the same run, and pays nothing.
        """
        output: dict[str, Any] = {}
        if self.settings.output_type is not None:
            if run.is_unread:
                text = f"{run.ref.subject} has completed, and its answer was not listed. {PAID_FOR}"
                raise self._pushed(RunCallError(text), run)
            try:
                output["output"] = OutputType(self.settings.output_type).parse_answer(run)
            except ValueError as unfit:
                self._update_record(ended=True, refused=True)
                error = error_of_answer(run, str(unfit), withholds=self.settings.withholds)
                raise self._pushed(error, run) from None
            except OutputTypeFault as fault:
                self._update_record(ended=True, ended_by_us=False)
                error = error_of_type(run, str(fault), withholds=self.settings.withholds)
                raise self._pushed(error, run) from None
        # An earlier attempt may have meant to end it, and has come too late: a retry finishes from it.
        self._update_record(ended=True, ended_by_us=False)
        if unwritten is not None:
            raise self._pushed(self._next_step(unwritten), run)
        if output and self.output is not None and self._is_too_long(output["output"]):
            try:
                run = replace(run, output_uri=self.output.write_typed(run.ref, output["output"]))
            except RunStorageError as error:
                raise self._pushed(self._next_step(error), run) from None
            output = {"output": None}
        return {**self._values(run), **output}

    def _next_step(self, unwritten: RunStorageError) -> RunStorageError:
        """Say what to do where no retry follows that would write it."""
        is_left = has_retry_left(self.context["ti"])
        return unwritten if is_left else unwritten.saying(f"{unwritten} {PAID_FOR}")

    def _is_too_long(self, output: Any) -> bool:
        return is_too_long(json.dumps(output, ensure_ascii=False), self.settings.text_in_xcom)

    def _values(self, run: Run) -> dict[str, Any]:
        return results.to_xcom(run, log=self.log, text_limit=self.settings.text_in_xcom)

    def _may_be_adopted(self, run: Run) -> bool:
        """Whether an earlier attempt has created the run, and may be who has cancelled it."""
        if run.status is not RunStatus.CANCELLED:
            return False
        try_number = self.context["ti"].try_number
        try:
            record = self.store.current()
        except Exception as error:  # noqa: BLE001 # the end of the run matters more
            self.log.warning("Could not read the record of the run: %s", message_text(error))
            record = None
        created_in = record.attempt if record is not None else None
        return bool(try_number > 1) if created_in is None else created_in != try_number

    # -- without one --------------------------------------------------------------------------------------

    def give_up(self, run: Run, error: OpenAIRunError) -> OpenAIRunError:
        """End a run whose calls are not going to be answered, and return the error that says so."""
        error = self._without_answer(run, error)
        reader = self._reader
        found = reader.with_steps(run) if self.output is None else reader.once_more(run.ref)
        return self._pushed(error, self._as_one(reader.earlier(self.run.rounds), found or run))

    def after_the_triggers_death(self, *, is_last_try: bool) -> Outcome | None:
        """Poll the run of a trigger that died: how it has ended; if not, end it unless a retry is left."""
        ref = self.run.ref
        polled = self._reader.last(flows.single(wire_of(ref.kind).poll(ref)), f"{ref}, whose trigger died")
        if polled is not None:
            if polled.needs_action:
                return Outcome.NEEDS_ACTION
            if polled.status.is_terminal:
                return Outcome.ENDED
        if is_last_try and self.settings.cancel_on_kill:
            ended = self._cancel(ref, visible_by=self.run.visible_by(time.time()))
            if ended.came_too_late and ended.polled is not None:
                return Outcome.NEEDS_ACTION if ended.polled.needs_action else Outcome.ENDED
            self._update_record(ended_by_us=True)
            became = ended.fate.sentence(raw_status=ended.raw_status)
            self.log.warning("The trigger of %s died and no retry is left. %s", ref, became)
        else:
            self.log.warning("The trigger of %s died. %s", ref, Fate.LEFT_RUNNING.sentence())
        return None

    def _without_answer(self, run: Run, error: OpenAIRunError) -> OpenAIRunError:
        """End a run that waits for an answer: it would go on waiting and block its thread."""
        if isinstance(error, RunTimeoutError) and not self.settings.cancel_on_timeout:
            left = "It goes on waiting (cancel_on_timeout=False); a retry answers it in a window of its own."
            return error.saying(f"{error} {left}")
        if run.status is RunStatus.COMPLETED:
            return self._closed(run, error) if self._update_record(refused=True) else error
        return error.saying(f"{error} {self._end(run.ref)}")

    def _end(self, ref: RunRef) -> str:
        """End a run, and say what became of it."""
        # Before the cancel: it may be the run of a later attempt by now, which has an answer.
        if not self._update_record(ended_by_us=True):
            return f"{ref} was left to the attempt that has taken over."
        ended = self._cancel(ref)
        return ended.fate.sentence(raw_status=ended.raw_status)

    def _closed(self, run: Run, error: OpenAIRunError) -> OpenAIRunError:
        """Answer the calls of a response with an error; one left open would block its conversation."""
        conversation = conversation_of(self.settings.request.body)
        close = wire_of(run.ref.kind).close(run, conversation=conversation)
        try:
            name = self.hook.run_flow(flows.with_retries(close, budget=CLOSE_BUDGET))
        except ApiRequestFailed as failed:
            return error.saying(
                f"{error} Conversation {run.ref.thread_id or conversation} is left with calls that nobody "
                f"answered ({failed.failure}), and may refuse every other response. A retry or a clear of "
                "this task tries again; else add an output for each, or use another conversation.",
            )
        self._update_record(ended=True)  # and not before: a retry or a clear would leave the calls open
        if name is None:
            return error
        text = (
            f"{error} Its calls were answered with an error in conversation {name}, which can be used again."
        )
        return error.saying(text)

    def _cancel(self, ref: RunRef, *, visible_by: float = 0.0) -> CancelResult:
        return self.hook.run_flow(flows.cancel(ref, wait=CANCEL_WAIT, visible_by=visible_by))

    # -- shared -------------------------------------------------------------------------------------------

    def _update_record(self, **changes: bool) -> bool:
        """Change the record of the run; return False if it is another attempt's by now."""
        try:
            record = self.store.current()
            if record is not None and not record.unreadable:
                if record.run is None and self.run.ref not in record.rounds.earlier:
                    record = record.with_run(self.run)  # the write after the create had failed
                self.store.save(replace(record, **changes))  # type: ignore[arg-type]  # flags only
        except NoLongerOwnerError:
            self.log.warning("A later attempt has taken over; its record is left as it is")
            return False
        except Exception as error:  # noqa: BLE001 # why the task fails matters more
            self.log.warning("Could not read the record of the run to update it: %s", message_text(error))
        return True

    def _pushed(self, error: OpenAIRunError, run: Run | None) -> OpenAIRunError:
        """Push what is known of the run, unless nothing is to be pushed; return the error that says so."""
        if run is not None:
            about_run(error, run)
        if self.store.is_behind:
            self._update_record()
        if run is None or not self.settings.push_xcom:
            return error
        values = self._values(run)
        results.push(self.context, values, multiple_outputs=self.settings.multiple_outputs)
        return error.saying(f"{error} {results.IN_XCOM}")
