# SPDX-License-Identifier: Apache-2.0
"""What every operator that creates a run shares: its arguments, and how Airflow reaches the attempt."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_openai_runs.exceptions import airflow_errors, task_errors
from airflow_provider_openai_runs.links import OpenAIRunLink
from airflow_provider_openai_runs.operators.parse_checks import (
    Unanswered,
    check_ceilings_of,
    check_create,
    check_names,
)
from airflow_provider_openai_runs.operators.text_templates import RenderedOutOfSight
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.arguments import check_no_stream
from airflow_provider_openai_runs.runs.output_arguments import check_text_in_xcom
from airflow_provider_openai_runs.runs.policies import (
    OnActiveRun,
    OnApproval,
    OnIncomplete,
    OnLostCreate,
    OnToolCalls,
    OnUnendable,
)
from airflow_provider_openai_runs.runs.tools import names_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_openai_runs.attempts.attempt import Attempt
    from airflow_provider_openai_runs.attempts.settings import CreateSettings
    from airflow_provider_openai_runs.attempts.steps import AttemptStep
    from airflow_provider_openai_runs.runs.model import RunRef
    from airflow_provider_openai_runs.runs.request import RunRequest

#: The method that Airflow names when a trigger died or timed out.
_TRIGGER_DIED = "__fail__"


class BaseCreateOperator(RenderedOutOfSight, BaseOperator):
    """
    Create a run once, and wait for it.

    :param conn_id: a connection of type ``openai``.
    :param completion_window: seconds (or a timedelta) to wait for the run, from its creation; retries do not
        move the end. None creates the run and does not wait.
    :param poll_interval: seconds between polls; None lets it grow with the run's age, from 1 to 30 s.
    :param deferrable: wait in the triggerer; Airflow's ``[operators] default_deferrable`` unless given.
    :param cancel_on_kill: cancel the run when the task is killed, marked or cleared.
    :param cancel_on_timeout: cancel the run when ``completion_window`` or ``execution_timeout`` is over.
    :param on_incomplete: ``"fail"``, or ``"accept"`` the partial answer of a run that reached a ceiling.
    :param on_lost_create: what to do when nobody can say whether a create was accepted: ``"fail"``, or
        ``"resubmit"`` at the risk of paying twice.
    :param max_resubmits: how many lost creates are sent again, over all retries, until the task is cleared.
    :param on_active_run: when another run is active on the thread, or the conversation is locked: ``"fail"``,
        ``"wait"`` for its end (without a worker if deferrable, for ``completion_window`` from the task's
        start), or ``"cancel"`` it first.
    :param on_unendable: when a clear meets an earlier run that cannot be ended in ``timeouts["delete"]``:
        ``"give_up"`` that run, which may go on and bill, and create the next one, or ``"fail"``.
    :param timeouts: whole budgets in seconds, ``{"create": 600, "read": 300, "delete": 300}``.
    :param functions: Python functions that the model may call; they run in the worker, between two waits.
    :param max_rounds: how many times the model's calls are answered.
    :param max_tool_errors: how many calls in a row may go wrong before the task fails.
    :param on_tool_calls: when nobody here can answer a call: ``"fail"``, or ``"return"`` the run with its
        ``tool_calls``, for ``SubmitToolOutputsOperator``.
    :param approve: calls that a person has to approve first (Airflow 3.3+): True for all, a list of names, or
        a callable ``(name, arguments) -> bool``.
    :param approval_timeout: seconds (or a timedelta) for the person; never beyond the run's own limits.
    :param approval_subject: the title of the page, with ``{function}``, ``{task}``, ``{dag}``, ``{count}``,
        ``{deadline}`` and the arguments of a single call by their names.
    :param on_approval_timeout: then ``"reject"`` the calls, or ``"fail"``.
    :param on_second_approval: below 3.4 Airflow shows one approval page in the life of a task instance; what
        a further round that needs one gets there: ``"reject"``, or ``"fail"``.
    :param end_from_trigger: let the triggerer finish the task of a deferred run that completes, so that a
        worker is used once instead of twice; every other end is a worker's. Without effect where something
        would be lost, which the log says: outlets, ``post_execute``, ``functions``, ``approve``,
        ``output_type``, ``output_path``, ``include``, an XCom backend of your own, a task that is mapped over
        the result.
    :param output_type: a pydantic model or a JSON Schema that the answer has to fit; the result holds it as
        ``output``.
    :param output_path: write the whole reply and every produced file below this URI, any that Airflow's
        ``ObjectStoragePath`` takes, with its connection: ``"s3://my_aws@bucket/folder"``.
    :param text_in_xcom: bytes of a text of the model that may be in XCom; a longer one is in ``output_path``
        only. None is no limit. With 0 no word of prompt or answer is in Airflow's database or logs.
    :param max_total_tokens: ceiling of the tokens of all runs, rounds and attempts from one clear to the next
        (Airflow 3.3+), checked before each request that pays; it needs a ceiling of what a run writes.
    :param max_cost: the same of what they cost, by the prices in the connection; text with a point, a
        Decimal or a number.
    :param provider_metadata: name Dag, task and Dag run in the metadata of each run, ``airflow_dag_id``,
        ``airflow_task_id`` and ``airflow_run_id``, as far as ``metadata`` leaves room for them.
    """

    operator_extra_links = (OpenAIRunLink(),)
    #: Of the runs that it creates.
    run_kind: str = ""
    #: What the parse of the Dag says of function tools, if nobody here has an answer to their calls.
    _unanswered_tools: Unanswered = "allow"

    @airflow_errors()
    def __init__(
        self,
        *,
        conn_id: str = "openai_default",
        completion_window: float | timedelta | None = None,
        poll_interval: float | timedelta | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        on_incomplete: OnIncomplete = "fail",
        on_lost_create: OnLostCreate = "fail",
        max_resubmits: int = 1,
        on_active_run: OnActiveRun = "fail",
        on_unendable: OnUnendable = "give_up",
        timeouts: Mapping[str, float] | None = None,
        functions: Sequence[Callable[..., Any]] = (),
        max_rounds: int = 20,
        max_tool_errors: int = 3,
        on_tool_calls: OnToolCalls = "fail",
        approve: bool | Sequence[str] | Callable[..., bool] | None = None,
        approval_timeout: float | timedelta | None = None,
        approval_subject: str | None = None,
        on_approval_timeout: OnApproval = "reject",
        on_second_approval: OnApproval = "reject",
        output_type: Any = None,
        end_from_trigger: bool = False,
        output_path: str | None = None,
        text_in_xcom: int | None = None,
        max_total_tokens: int | None = None,
        max_cost: Decimal | float | str | None = None,
        provider_metadata: bool = False,
        **kwargs: Any,
    ) -> None:
        check_no_stream(kwargs)
        check_names(type(self), kwargs)
        super().__init__(**kwargs)
        text_in_xcom = check_text_in_xcom(
            text_in_xcom,
            output_path=output_path,
            needs_text="approve"
            if approve
            else "on_tool_calls='return'"
            if on_tool_calls == "return"
            else None,
        )
        self.conn_id = conn_id
        given = {"completion_window": completion_window, "output_path": output_path}
        self.left_out = frozenset(name for name, value in given.items() if value is None)
        self.completion_window = completion_window
        self.poll_interval = poll_interval
        self.deferrable = checks.flag("deferrable", deferrable)
        self.cancel_on_kill = checks.flag("cancel_on_kill", cancel_on_kill)
        self.cancel_on_timeout = checks.flag("cancel_on_timeout", cancel_on_timeout)
        self.on_incomplete = on_incomplete
        self.on_lost_create = on_lost_create
        self.max_resubmits = checks.count("max_resubmits", max_resubmits)
        self.on_active_run = on_active_run
        self.on_unendable = on_unendable
        self.timeouts = timeouts
        self.functions = checks.sequence("functions", functions)
        self.max_rounds = checks.count("max_rounds", max_rounds)
        self.max_tool_errors = checks.count("max_tool_errors", max_tool_errors)
        self.on_tool_calls = on_tool_calls
        self.approve = approve
        self.approval_timeout = (
            None if approval_timeout is None else checks.seconds("approval_timeout", approval_timeout)
        )
        self.approval_subject = approval_subject
        self.on_approval_timeout = on_approval_timeout
        self.on_second_approval = on_second_approval
        self.output_type = output_type
        self.end_from_trigger = checks.flag("end_from_trigger", end_from_trigger)
        self.output_path = output_path
        self.text_in_xcom = text_in_xcom
        self.max_total_tokens = max_total_tokens
        self.max_cost = max_cost
        self.provider_metadata = checks.flag("provider_metadata", provider_metadata)
        #: The page that shows the run to a person; the link reads it.
        self.run_url = ""
        self._known_run: RunRef | None = None
        self._attempt: Attempt | None = None
        self._is_killed = False

    def build_request(self) -> RunRequest:
        """Check the arguments of this attempt and return what to ask for."""
        raise NotImplementedError

    def given_outputs(self) -> Mapping[str, Any]:
        """Return the answers to calls that are given, by call id."""
        return {}

    def connection_of_run(self) -> str:
        """Return the id of the connection to create the run with."""
        return self.conn_id

    def tools_with_functions(self) -> Sequence[Mapping[str, Any]] | None:
        """Return ``tools`` and the functions that none of them describes already."""
        given = getattr(self, "tools", None)
        if not self.functions:
            return given
        given = [] if given is None else checks.sequence("tools", given)
        from airflow_provider_openai_runs.tool_calls.function_tool import FunctionTool  # noqa: PLC0415 # brings pydantic

        named = names_of(given)
        tools = map(FunctionTool, self.functions)
        return [*given, *(tool.definition() for tool in tools if tool.name not in named)]

    def check_arguments(self) -> None:
        """Check while the Dag is parsed what is no template; called when all arguments are known."""
        check_create(self, unanswered=self._unanswered_tools)
        self._check_ceilings()

    def _check_ceilings(self) -> None:
        """Check that a ceiling has something to go by."""
        check_ceilings_of(self)

    def output_format(self, kind: str) -> dict[str, Any]:
        """Return what asks for ``output_type``, in the form of the kind's API."""
        from airflow_provider_openai_runs.typed.output import OutputType  # noqa: PLC0415 # brings pydantic

        return OutputType(self.output_type).format_of(kind)

    def execute(self, context: Context) -> Any:
        """Create the run, or go on with the one of an earlier attempt, and wait for it."""
        return self._perform(context, lambda attempt: attempt.execute(started_at=time.time()))

    def execute_after_active_run(
        self, context: Context, event: Any = None, waiting_since: float | None = None
    ) -> Any:
        """Try again, now that the thread may be free; the event does not matter, the server knows."""
        del event
        started_at = waiting_since or time.time()
        return self._perform(context, lambda attempt: attempt.execute(started_at=started_at))

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Finish after the wait in the triggerer: read the run, push it, or fail with its fate."""
        return self._perform(context, lambda attempt: attempt.complete(event), resumes=True)

    def execute_after_approval(
        self, context: Context, event: Any = None, progress: dict[str, Any] | None = None
    ) -> Any:
        """Answer the model's calls as a person has decided, and wait again."""
        stored = progress or {}
        return self._perform(context, lambda attempt: attempt.complete_approval(event, stored), resumes=True)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; when the trigger died, poll the run first: it may have completed, or need an end."""
        if next_method == _TRIGGER_DIED:
            ended = self._perform(context, lambda attempt: attempt.after_the_triggers_death(), resumes=True)
            if ended is not None:
                return ended
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """End the run of a task that is killed while it is in a worker."""
        self._is_killed = True
        if self._attempt is not None:
            self._attempt.kill()

    def _perform(
        self, context: Context, step: Callable[[Attempt], AttemptStep | None], *, resumes: bool = False
    ) -> Any:
        # Imported here and nowhere above: it brings the SDK, and a Dag file is parsed every few seconds.
        from airflow_provider_openai_runs.operators.perform import perform  # noqa: PLC0415
        from airflow_provider_openai_runs.operators.rendered import settings_of  # noqa: PLC0415

        ti: Any = context["ti"]
        may_own = resumes or getattr(ti, "try_number", 1) > 1
        with task_errors(self.log, run=lambda: (self._known_run, self.run_url)):
            with self._watching(context) if may_own else nullcontext():
                settings = settings_of(self, may_own=may_own, ti=ti)
            attempt = self._begin(settings, context)
            with attempt.guard():
                ends_with = step(attempt)
                return None if ends_with is None else perform(self, ends_with, settings, context)

    def _begin(self, settings: CreateSettings, context: Context) -> Attempt:
        from airflow_provider_openai_runs.attempts.attempt import Attempt  # noqa: PLC0415 # see _perform

        self._attempt = Attempt(
            settings,
            context,
            log=self.log,
            show_page=self._show_page,
            page_key=OpenAIRunLink().xcom_key,
        )
        if self._is_killed:  # before there was an attempt to tell
            self._attempt.kill()
        return self._attempt

    def _watching(self, context: Context) -> AbstractContextManager[None]:
        """Watch over a run of before while the arguments are made, where that may take long."""
        del context
        return nullcontext()

    @property
    def takes_calls(self) -> bool:
        """Whether the model may call what is no tool of the server's."""
        return bool(self.functions or self.approve or self.on_tool_calls == "return")

    def request_of_resume(self) -> RunRequest:
        """Return as much of the request as finishing from its run takes."""
        from airflow_provider_openai_runs.runs.request import RunRequest  # noqa: PLC0415 # not for a Dag file

        return RunRequest(kind=self.run_kind, body={})

    def _show_page(self, ref: RunRef, url: str) -> None:
        self.run_url, self._known_run = url, ref
