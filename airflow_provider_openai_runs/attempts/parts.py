# SPDX-License-Identifier: Apache-2.0
"""Puts the parts of an attempt together from its settings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs import tracing
from airflow_provider_openai_runs.attempts.acquire import RunAcquirer
from airflow_provider_openai_runs.attempts.create import RunCreator, Send
from airflow_provider_openai_runs.attempts.finish import RunFinisher
from airflow_provider_openai_runs.attempts.kill import KillHandler
from airflow_provider_openai_runs.attempts.ledger import Ledger
from airflow_provider_openai_runs.attempts.output_files import OutputFiles
from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.attempts.runs_api import RunsApi
from airflow_provider_openai_runs.attempts.send_answers import AnswerSender
from airflow_provider_openai_runs.attempts.settings import CreateSettings
from airflow_provider_openai_runs.runs.acquisition import OwnershipPolicy
from airflow_provider_openai_runs.runs.prices import Prices
from airflow_provider_openai_runs.runs.record import Record, token_prefix
from airflow_provider_openai_runs.runs.request import task_metadata
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.tool_calls.answering import NeedsApproval, ToolCallAnswerer
from airflow_provider_openai_runs.tool_calls.approval import calls_to_approve
from airflow_provider_openai_runs.tool_calls.approval_note import ApprovalNote
from airflow_provider_openai_runs.tool_calls.approval_page import ApprovalPage
from airflow_provider_openai_runs.tool_calls.approval_request import ApprovalRequest
from airflow_provider_openai_runs.tool_calls.function_caller import FunctionCaller
from airflow_provider_openai_runs.wire import wire_of

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
    from airflow_provider_openai_runs.runs.failure import RequestFailure
    from airflow_provider_openai_runs.runs.model import Run


class AttemptParts:
    """
    The parts that one attempt works with.

    :param context: Airflow's.
    :param prices_of: reads the prices of a connection.
    """

    def __init__(
        self,
        settings: CreateSettings,
        context: Any,
        *,
        store: RecordStore,
        prices_of: Callable[[str], Prices],
        log: Logger,
    ) -> None:
        self._settings = settings
        self._context = context
        self._ti: Any = context["ti"]
        self._store = store
        self._log = log
        self._identity = (self._ti.dag_id, self._ti.run_id, self._ti.task_id, self._ti.map_index)
        self._functions: FunctionCaller | None = None
        self._request = settings.request.of_task(
            names=task_metadata(self._ti) if settings.provider_metadata else {},
            continuation_id=token_prefix(self._identity).rstrip("/"),
        )
        self.ledger = Ledger(
            store=store,
            generation=self._ti.max_tries,
            request=settings.request,
            prices_of=prices_of,
            ceiling=settings.ceiling,
            log=log,
        )
        self._token_prefix = token_prefix((*self._identity, self._ti.max_tries))

    def acquirer(self, hook: OpenAIRunsHook, kill_handler: KillHandler) -> RunAcquirer:
        """Return what finds or creates the run."""
        creator, settings = self.creator(hook, kill_handler), self._settings
        return RunAcquirer(
            api=creator.api,
            store=self._store,
            creator=creator,
            policy=OwnershipPolicy(
                generation=self._ti.max_tries,
                window=settings.completion_window,
                create_budget=settings.timeouts["create"],
                cancel_budget=settings.timeouts["delete"],
                token_prefix=self._token_prefix,
                fingerprint=self._request.fingerprint(),
                resubmits=settings.resubmits,
                on_incomplete=settings.on_incomplete,
                on_active_run=settings.on_active_run,
                on_unendable=settings.on_unendable,
                cancel_on_timeout=settings.cancel_on_timeout,
            ),
            guess=self._guess(),
            log=self._log,
        )

    def creator(self, hook: OpenAIRunsHook, kill_handler: KillHandler) -> RunCreator:
        """Return what creates runs."""
        request = self._request
        return RunCreator(
            api=RunsApi(hook=hook, request=request),
            request=request,
            store=self._store,
            ledger=self.ledger,
            identity=self._identity,
            generation=self._ti.max_tries,
            attempt=self._ti.try_number,
            window=self._settings.completion_window,
            timeouts=self._settings.timeouts,
            send_paid=self._traced(partial(kill_handler.send, request.kind, hook.conn_id)),
            before_paying=self._check_before_paying,
        )

    def _traced(
        self, send: Callable[[Record, Send], Run | RequestFailure]
    ) -> Callable[[Record, Send], Run | RequestFailure]:
        settings = self._settings

        def traced(intent: Record, request: Send) -> Run | RequestFailure:
            # A further round asks for something else than the request says.
            withholds = settings.withholds or bool(intent.rounds.answered)
            with tracing.creating(settings.request, withholds=withholds) as span:
                reply = send(intent, request)
                span.answered(reply)
            return reply

        return traced

    def _check_before_paying(self) -> None:
        if self._settings.unsendable is not None:
            raise self._settings.unsendable
        if self._output is not None:
            self._output.check()

    def finisher(self, hook: OpenAIRunsHook, run: TrackedRun) -> RunFinisher:
        """Return what ends the attempt."""
        return RunFinisher(
            hook=hook,
            run=run,
            settings=self._settings,
            context=self._context,
            store=self._store,
            ledger=self.ledger,
            log=self._log,
            output=self._output,
        )

    @cached_property
    def _output(self) -> OutputFiles | None:
        settings = self._settings
        if settings.output_path is None:
            return None
        return OutputFiles(
            path=settings.output_path, ti=self._ti, text_limit=settings.text_in_xcom, log=self._log
        )

    def answerer(self, kill_handler: KillHandler, *, after_approval: bool) -> ToolCallAnswerer:
        """
        Return what answers the calls of a run.

        :param after_approval: whether a person has been asked, whatever the Dag says now.
        """
        settings = self._settings
        # An attempt before may have asked, though the Dag was edited since: a person's no holds.
        asks = after_approval or settings.approve or (self._ti.try_number > 1 and self._store.is_kept)
        note = ApprovalNote.load(self._context["task_state_store"]) if asks else None
        asked = note.calls if note else ()
        if settings.functions and self._functions is None:
            # One for all rounds: what is bound to a thread lasts as long as the attempt in its worker.
            self._functions = FunctionCaller(
                settings.functions,
                context=self._context,
                log=self._log,
                withholds=settings.withholds,
                check=kill_handler.raise_if_killed,
            )
        return ToolCallAnswerer(
            functions=self._functions,
            outputs=settings.outputs,
            calls_to_approve=partial(calls_to_approve, approve=settings.approve, asked=asked),
            max_rounds=settings.max_rounds,
            max_tool_errors=settings.max_tool_errors,
            withholds=settings.withholds,
        )

    def approval_request(self, needed: NeedsApproval) -> ApprovalRequest:
        """Return what puts the calls before a person."""
        settings, store = self._settings, self._context["task_state_store"]
        return ApprovalRequest(
            page=ApprovalPage(
                ti=self._ti,
                ref=needed.run.ref,
                calls=needed.calls,
                round_number=needed.round_number,
                store=store,
                log=self._log,
                words=needed.run.output_text,
                subject=settings.approval_subject,
            ),
            needed=needed,
            timeout=settings.approval_timeout,
            on_timeout=settings.on_approval_timeout,
            on_second=settings.on_second_approval,
        )

    def sender(self, hook: OpenAIRunsHook, kill_handler: KillHandler) -> AnswerSender:
        """Return what sends the answers to calls."""
        return AnswerSender(
            creator=self.creator(hook, kill_handler),
            resubmits=self._settings.resubmits,
            log=self._log,
        )

    def _guess(self) -> Record | None:
        """Return what a retry knows without a store: the part of the token that is no accident."""
        request = self._settings.request
        is_retry = self._ti.try_number > 1
        if self._store.is_kept or not is_retry or not wire_of(request.kind).can_search:
            return None
        began = getattr(self._context.get("dag_run"), "start_date", None)
        return Record(
            generation=self._ti.max_tries,
            token=self._token_prefix,
            intent_at=began.timestamp() if began else 0.0,
            thread_id=request.thread_id,
            # Of another task: it may have been answered by the attempt before.
            run=TrackedRun(ref=request.answers) if request.answers else None,
        )
