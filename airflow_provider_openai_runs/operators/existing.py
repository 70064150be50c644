# SPDX-License-Identifier: Apache-2.0
"""Read or cancel a run that exists already."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.links import OpenAIRunLink
from airflow_provider_openai_runs.operators.named_run import NamedRun
from airflow_provider_openai_runs.operators.parse_checks import check_names
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS, NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.output_arguments import check_text_in_xcom, checked_output_path
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook


class ExistingRunOperator(NamedRun, BaseOperator):
    """
    What the operators for an existing run share.

    :param conn_id: of type ``openai``; unless given, the one in ``ref``, else ``openai_default``.
    :param ref: the run, as in the XCom ``ref`` of the task that created it.
    """

    operator_extra_links = (OpenAIRunLink(),)
    ui_color = "#e4ecf7"

    @airflow_errors()
    def __init__(
        self, *, ref: Mapping[str, Any] | None = None, conn_id: str | None = None, **kwargs: Any
    ) -> None:
        check_names(type(self), kwargs)
        super().__init__(**kwargs)
        self.ref = ref
        self.conn_id = conn_id


class _GetOperator(ExistingRunOperator):
    """Reads a run and returns its dict, whatever its status."""

    @airflow_errors()
    def __init__(
        self,
        *,
        include_steps: bool = False,
        include: Sequence[str] | None = None,
        output_path: str | None = None,
        text_in_xcom: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.include_steps = include_steps
        self.include = include
        self.output_path = output_path
        self.text_in_xcom = check_text_in_xcom(text_in_xcom, output_path=output_path)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the run."""
        with self.task_errors():
            ref, steps = self.named_run(), checks.flag("include_steps", self.include_steps)
            hook, path = self.hook_of(ref), checked_output_path(self.output_path)
            hook.withholds = self.text_in_xcom == 0
            if path is None:
                run = hook.retrieve(ref, include_steps=steps, include=self.included())
            else:
                run = self._collected(hook, ref, path, context)
            if run.is_unread:
                self.log.warning("%s has completed, and its server did not list its answer", ref)
            run = run if steps else replace(run, steps=None)
            return self.returned(context, run, text_limit=self.text_in_xcom)

    def _collected(self, hook: OpenAIRunsHook, ref: RunRef, path: str, context: Context) -> Run:
        """Read the run and write all that it has brought, if it has ended."""
        from airflow_provider_openai_runs.attempts.output_files import OutputFiles  # noqa: PLC0415 # the SDK

        output = OutputFiles(path=path, ti=context["ti"], text_limit=self.text_in_xcom, log=self.log)
        try:
            collected = output.collect(hook, ref, budget=DEFAULT_TIMEOUTS["read"], include=self.included())
        except ApiRequestFailed as failed:
            raise hook.error_of(failed.failure, doing=f"read {ref}", kind=ref.kind) from None
        if collected.error is not None:
            raise collected.error
        return collected.run


class GetThreadRunOperator(_GetOperator):
    """
    Read a thread run (``GET /threads/{thread_id}/runs/{run_id}``); one that does not exist is an error.

    The remaining arguments, ``ref`` and ``conn_id``, are those of ``ExistingRunOperator``.

    :param thread_id: its thread.
    :param run_id: its id, or thread and run as ``"thread_abc:run_xyz"``.
    :param include_steps: read every page of its steps, too.
    :param include: what its steps leave out unless it is asked for, by the API's names.
    :param output_path: write the whole reply of a run that has ended, and its files, below this URI.
    :param text_in_xcom: bytes of a text of the model that may be in XCom; the rest is in ``output_path``.
    """

    kind = RunKind.THREAD_RUN
    classes_of_other_kinds: ClassVar[Mapping[str, str]] = {RunKind.RESPONSE: "GetResponseOperator"}
    template_fields: Sequence[str] = (
        *("conn_id", "ref", "thread_id", "run_id", "include_steps", "include", "output_path"),
    )

    @airflow_errors()
    def __init__(self, *, thread_id: str | None = None, run_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thread_id = thread_id
        self.run_id = run_id
        RunRef.check_presence(ref=self.ref, thread_id=thread_id, run_id=run_id)


class GetResponseOperator(_GetOperator):
    """
    Read a response (``GET /responses/{response_id}``); one that does not exist is an error.

    The remaining arguments, ``ref`` and ``conn_id``, are those of ``ExistingRunOperator``.

    :param response_id: its id.
    :param include_steps: add its output items as ``steps``.
    :param include: what the API leaves out unless it is asked for, by its names.
    :param output_path: write the whole reply of a run that has ended, and its files, below this URI.
    :param text_in_xcom: bytes of a text of the model that may be in XCom; the rest is in ``output_path``.
    """

    kind = RunKind.RESPONSE
    classes_of_other_kinds: ClassVar[Mapping[str, str]] = {RunKind.THREAD_RUN: "GetThreadRunOperator"}
    template_fields: Sequence[str] = (
        *("conn_id", "ref", "response_id", "include_steps", "include", "output_path"),
    )

    @airflow_errors()
    def __init__(self, *, response_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.response_id = response_id
        RunRef.check_presence(ref=self.ref, response_id=response_id)


class CancelRunOperator(ExistingRunOperator):
    """
    End a run of any kind and wait for its end; a run that has ended already is success.

    Returns the run's dict as it ended: check ``status``, it may have completed before the cancel came. The
    remaining arguments, ``ref`` and ``conn_id``, are those of ``ExistingRunOperator``.

    :param thread_id: the thread of a thread run.
    :param run_id: its id, or thread and run as ``"thread_abc:run_xyz"``.
    :param response_id: the id of a response.
    :param wait: seconds to wait for the end.
    """

    template_fields: Sequence[str] = ("conn_id", "ref", "thread_id", "run_id", "response_id", "wait")

    @airflow_errors()
    def __init__(
        self,
        *,
        thread_id: str | None = None,
        run_id: str | None = None,
        response_id: str | None = None,
        wait: float = DEFAULT_TIMEOUTS["delete"],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.thread_id = thread_id
        self.run_id = run_id
        self.response_id = response_id
        self.wait = wait
        RunRef.check_presence(ref=self.ref, thread_id=thread_id, run_id=run_id, response_id=response_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Cancel the run, and read it once it has ended."""
        with self.task_errors():
            ref, wait = self.named_run(), checks.seconds("wait", self.wait)
            # It may have been created a moment ago.
            visible_by = time.time() + min(wait, NOT_FOUND_GRACE)
            run = self.hook_of(ref).cancel(ref, wait=wait, visible_by=visible_by)
            self.log.info("%s is %s", ref, run.raw_status)
            return self.returned(context, run, text_limit=None)
