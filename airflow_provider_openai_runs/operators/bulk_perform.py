# SPDX-License-Identifier: Apache-2.0
"""From the arguments of a bulk task to its session, and from what that ends with to what Airflow knows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_openai_runs.attempts.task_state import state_in_worker
from airflow_provider_openai_runs.bulk.batch.session import BatchSession
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.inputs import BulkInput, open_input
from airflow_provider_openai_runs.bulk.item_request import ItemRequest
from airflow_provider_openai_runs.bulk.journal import KEY
from airflow_provider_openai_runs.bulk.progress import said_of
from airflow_provider_openai_runs.bulk.session import BulkSession
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.storage import MANIFEST
from airflow_provider_openai_runs.bulk.work import Concluded, Waits, where_left
from airflow_provider_openai_runs.bulk.worker_session import WorkerSession
from airflow_provider_openai_runs.operators.by_batch import check_batch
from airflow_provider_openai_runs.operators.parse_checks import waits_of
from airflow_provider_openai_runs.operators.response import FIELDS
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.ceiling import check_ceilings
from airflow_provider_openai_runs.runs.errors import (
    CeilingReachedError,
    OpenAIRunError,
    RunConnectionError,
    RunEndedError,
    RunRequestError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.runs.output_arguments import checked_output_path
from airflow_provider_openai_runs.runs.policies import check_policies
from airflow_provider_openai_runs.runs.processing import background_options
from airflow_provider_openai_runs.runs.record import token_prefix
from airflow_provider_openai_runs.runs.request import checked_timeouts, fingerprint, task_metadata
from airflow_provider_openai_runs.task_store import TaskStore
from airflow_provider_openai_runs.triggers import BatchCompletionTrigger, BulkCompletionTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

_NO_STORE = (
    "There is no task state store here, so that a retry would pay for every item again. Nothing was sent."
)
_FIX_PRICES = "Fix the prices; a retry goes on with the items that have none yet."
#: After these a worker waits itself: the next trigger would only end the same way.
_STAYS = frozenset({"died", "denied", "unreadable"})


def session_of(operator: Any, context: Context) -> WorkerSession:
    """
    Return the session of an attempt. It reads nothing yet, so that a kill finds it early.

    :param operator: a ``BulkCreateResponsesOperator``.
    :raises RunRequestError: if there is no task state store; nothing was sent.
    """
    store = context.get("task_state_store")
    if store is None:
        raise RunRequestError(_NO_STORE)
    ti: Any = context["ti"]
    session: type[WorkerSession] = BatchSession if operator.by_batch else BulkSession
    return session(
        _what_is_asked(operator, ti),
        ti=ti,
        store=TaskStore(store=store, key=KEY),
        ask=partial(state_in_worker, ti),
        open_input=partial(_input, operator),
        log=operator.log,
    )


def _what_is_asked(operator: Any, ti: Any) -> BulkSettings:
    """Return the settings, or why the attempt cannot go on with what says how to end it."""
    try:
        settings = _settings(operator, ti)
        if operator.by_batch:
            check_batch(operator)
    except OpenAIRunError as error:
        return BulkSettings(
            error=error,
            cancel_on_kill=operator.cancel_on_kill,
            cancel_on_timeout=operator.cancel_on_timeout,
        )
    return settings


def go_on(
    operator: Any,
    session: WorkerSession,
    context: Context,
    *,
    event: Mapping[str, Any],
) -> dict[str, Any]:
    """
    Run a session to its end: return the result, fail, or defer.

    :param event: of the trigger, of a task that resumes.
    :raises OpenAIRunError: if the task is no success; its result has been pushed.
    """
    if event.get("reason") == "unreadable":
        operator.log.warning(
            "The trigger could not read what to wait for (%s); the worker waits in its place",
            event.get("failure"),
        )
    ends_at = event.get("attempt_deadline")
    step = session.run(
        attempt_deadline=float(ends_at) if isinstance(ends_at, (int, float)) else None,
        may_defer=event.get("reason") not in _STAYS,
    )
    if isinstance(step, Waits):
        _defer(operator, step)
    result = _result(step)
    if not step.manifest.rows and step.stopped is None:
        operator.log.warning("The input has no rows: nothing was sent, and the task succeeds")
    error = _error(operator, step, result)
    if error is not None:
        if error.retryable and result["active"]:
            error = error.saying(f"{error} {where_left(step.folder.uri)}")
        if operator.do_xcom_push:
            context["ti"].xcom_push(key="return_value", value=result)
        raise error
    return result


def _defer(operator: Any, step: Waits) -> NoReturn:
    what = "batches" if operator.by_batch else "runs"
    operator.log.info("The triggerer waits from here for %d %s", step.count, what)
    interval = operator.poll_interval
    trigger_of = (
        partial(BatchCompletionTrigger, wake_at=step.wake_at) if operator.by_batch else BulkCompletionTrigger
    )
    trigger = trigger_of(
        path=step.path,
        conn_id=step.conn_id,
        count=step.count,
        deadline=step.deadline,
        attempt_deadline=step.attempt_deadline,
        ends=step.wake_up.ends,
        failures=step.wake_up.failures,
        collect_within=step.wake_up.collect_within,
        polls_per_second=operator.polls_per_second,
        poll_interval=None if interval is None else checks.seconds("poll_interval", interval),
        cancel_on_kill=operator.cancel_on_kill,
        cancel_on_timeout=operator.cancel_on_timeout,
        progress=dict(step.progress),
        deferred_at=time.time(),
    )
    # No timeout here: Airflow's would kill the task and the server would not know.
    operator.defer(trigger=trigger, method_name="execute_complete", timeout=None)
    raise AssertionError  # it does not return


def _settings(operator: Any, ti: Any) -> BulkSettings:
    check_policies(operator)
    arguments = operator.given_arguments()
    timeouts = checked_timeouts(operator.timeouts)
    include = arguments.get("include") or ()
    window: Any = operator.completion_window
    execution_timeout = operator.execution_timeout
    return BulkSettings(
        conn_id=operator.connection_of_run(),
        output_path=checked_output_path(operator.output_path) or "",
        request_of=_request_of(operator, arguments, ti),
        fingerprint=fingerprint(arguments),
        metadata=_names(operator, ti),
        model=arguments.get("model"),
        ceiling=check_ceilings(max_total_tokens=operator.max_total_tokens, max_cost=operator.max_cost),
        limits=Limits(
            max_active=operator.max_active,
            max_unrecorded=operator.max_unrecorded,
            item_retries=operator.item_retries,
            max_failed=operator.max_failed,
            on_lost_create=operator.on_lost_create,
            max_resubmits=operator.max_resubmits,
        ),
        completion_window=checks.completion_window(window),
        poll_interval=None
        if operator.poll_interval is None
        else checks.seconds("poll_interval", operator.poll_interval),
        polls_per_second=operator.polls_per_second,
        requests_per_minute=operator.requests_per_minute,
        tokens_per_minute=operator.tokens_per_minute,
        collect_within=operator.collect_within,
        create_within=timeouts["create"],
        delete_within=timeouts["delete"],
        execution_timeout=None if execution_timeout is None else execution_timeout.total_seconds(),
        deferrable=operator.deferrable,
        cancel_on_kill=operator.cancel_on_kill,
        cancel_on_timeout=operator.cancel_on_timeout,
        on_incomplete=operator.on_incomplete,
        on_unendable=operator.on_unendable,
        output_type=operator.output_type,
        include=tuple(include),
    )


def _request_of(operator: Any, arguments: Mapping[str, Any], ti: Any) -> ItemRequest:
    identity = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
    asks_for_window = background_options(operator.processing) is not None
    return ItemRequest(
        arguments=arguments,
        names=frozenset(FIELDS),
        metadata=_names(operator, ti),
        waits=waits_of(operator),
        continuation_id=token_prefix(identity).rstrip("/") if asks_for_window else None,
    )


def _names(operator: Any, ti: Any) -> dict[str, str]:
    return task_metadata(ti) if operator.provider_metadata else {}


def _input(operator: Any) -> BulkInput:
    items = operator.items
    return open_input(
        items=getattr(items, "value", items),
        input_path=operator.input_path,
        request=operator.request,
        on_lost_create=operator.on_lost_create,
        log=operator.log,
    )


def _result(step: Concluded) -> dict[str, Any]:
    manifest, folder = step.manifest, step.folder
    return {
        "manifest": folder.uri_of(MANIFEST),
        "rows": manifest.rows,
        **manifest.counts,
        **manifest.spent,
        "seconds": manifest.seconds,
        "stopped": manifest.stopped,
        "failed_path": None if manifest.failed is None else folder.uri_of(manifest.failed),
    }


def _error(operator: Any, step: Concluded, result: Mapping[str, Any]) -> OpenAIRunError | None:
    counts, rows = step.manifest.counts, step.manifest.rows
    said = (
        f"{counts['succeeded']} of {rows} items succeeded, {counts['failed']} failed, {counts['lost']} lost, "
        f"{counts['active']} active, {counts['not_created']} not created; "
        f"{said_of(step.manifest.results, in_all=step.manifest.in_all)}"
    )
    frequent = step.manifest.frequent_error
    why = "" if frequent is None else f" The most frequent error: {frequent}."
    where = f"The results are there: {result['manifest']}."
    again = "A second task that reads failed.jsonl as its input_path runs the others."
    if counts["active"]:
        again += f" Those that are active go on and bill. {where_left(step.folder.uri)}"
    if step.refusal is not None and step.stopped in {StopReason.WINDOW_OVER, StopReason.TOO_MANY_FAILED}:
        why += f" Before, nothing more could be created: {step.refusal}"
    match step.stopped:
        case StopReason.WINDOW_OVER:
            text = f"completion_window={operator.completion_window} was over: {said}.{why} {where} {again}"
            return RunTimeoutError(text, retryable=False)
        case StopReason.TOO_MANY_FAILED:
            text = f"More items failed than max_failed={operator.max_failed}: {said}.{why} {where} {again}"
            return RunEndedError(text, retryable=False)
        case StopReason.CEILING if step.refusal is not None:
            reached = isinstance(step.refusal, CeilingReachedError)
            next_step = "Raise the ceiling, or clear the task to spend it again." if reached else _FIX_PRICES
            refusal = str(step.refusal).removesuffix(" Nothing was sent.").removesuffix(".")
            text = f"{refusal}. Nothing more was created: {said}. {where} {next_step}"
            return step.refusal.saying(text, retryable=not reached)
        case StopReason.INPUT:
            unread = step.manifest.input_error or step.refusal or "The log says why."
            text = f"The input cannot be read: {unread} Nothing more was created: {said}. {where}"
            return RunRequestError(text, retryable=False)
        case StopReason.UPLOAD if step.refusal is not None:
            text = f"{step.refusal} Nothing more was created: {said}. {where} Once it is taken: {again}"
            return step.refusal.saying(text, retryable=False)
        case StopReason.DENIED:
            last = "" if step.denied is None else f" The last create was refused: {step.denied}."
            text = (
                f"For minutes the server refused the key of connection {operator.conn_id!r}, or its address, "
                f"or the account had no quota: {said}.{last} {where} A retry goes on with the items that "
                "have none yet."
            )
            return RunConnectionError(text, retryable=True)
    if rows and not counts["succeeded"]:
        return RunEndedError(f"Not a single item succeeded: {said}.{why} {where}", retryable=False)
    operator.log.info("%s.%s %s", said, why, where)
    return None
