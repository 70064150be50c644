# SPDX-License-Identifier: Apache-2.0
"""What every operator that creates a run shares: its arguments, and how Airflow reaches the attempt."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf, mask_secret

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.links import OpenAIRunLink
from airflow_provider_openai_runs.operators import results
from airflow_provider_openai_runs.runs.policies import OnActiveRun, OnIncomplete, OnLostCreate

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_openai_runs.operators.attempt import Attempt
    from airflow_provider_openai_runs.runs.request import RunRequest

#: The method that Airflow names when a trigger died or timed out.
_TRIGGER_DIED = "__fail__"


class BaseCreateOperator(BaseOperator):
    """
    Create a run once, and wait for it.

    :param conn_id: a connection of type ``openai``.
    :param completion_window: seconds (or a timedelta) to wait for the run, from its creation; retries do not
        move the end. None creates the run and does not wait.
    :param poll_interval: seconds between looks; None lets it grow with the run's age, from 1 to 30 s.
    :param deferrable: wait in the triggerer; Airflow's ``[operators] default_deferrable`` unless given.
    :param cancel_on_kill: cancel the run when the task is killed, marked or cleared.
    :param cancel_on_timeout: cancel the run when ``completion_window`` or ``execution_timeout`` is over.
    :param on_incomplete: ``"fail"``, or ``"accept"`` the partial answer of a run that reached a ceiling.
    :param on_lost_create: what to do when nobody can say whether a create was accepted: ``"fail"``, or
        ``"resubmit"`` at the risk of paying twice.
    :param on_active_run: when another run is active on the thread, or the conversation is locked: ``"fail"``,
        ``"wait"`` for its end (without a worker if deferrable, for ``completion_window`` from the task's
        start), or ``"cancel"`` it first.
    :param timeouts: whole budgets in seconds, ``{"create": 600, "read": 300, "delete": 300}``.
    """

    operator_extra_links = (OpenAIRunLink(),)

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
        on_active_run: OnActiveRun = "fail",
        timeouts: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.completion_window = completion_window
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.on_incomplete = on_incomplete
        self.on_lost_create = on_lost_create
        self.on_active_run = on_active_run
        self.timeouts = timeouts
        #: Where a person can look at the run; the link reads it.
        self.run_url = ""
        self._attempt: Attempt | None = None

    def build_request(self) -> RunRequest:
        """Check the arguments of this attempt and return what to ask for."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        """Create the run, or go on with the one of an earlier attempt, and wait for it."""
        with airflow_errors():
            return self._attempt_in(context).execute(started_at=time.time())

    def execute_after_active_run(
        self, context: Context, event: Any = None, waiting_since: float | None = None
    ) -> Any:
        """Try again, now that the thread may be free; the event does not matter, the server knows."""
        del event
        with airflow_errors():
            return self._attempt_in(context).execute(started_at=waiting_since or time.time())

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Finish after the wait in the triggerer: read the run, push it, or fail with its fate."""
        with airflow_errors():
            return self._attempt_in(context).complete(event)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; when the trigger died, look at the run first: it may have completed, or need an end."""
        if next_method == _TRIGGER_DIED:
            with airflow_errors():
                ended = self._attempt_in(context).after_the_triggers_death()
            if ended is not None:
                return ended
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """End the run of a task that is killed while it is in a worker."""
        if self._attempt is not None:
            self._attempt.kill()

    def _attempt_in(self, context: Context) -> Attempt:
        # Imported here and nowhere above: it brings the SDK, and a Dag file is parsed every few seconds.
        from airflow_provider_openai_runs.operators.attempt import Attempt  # noqa: PLC0415

        self._attempt = Attempt(self, context)
        return self._attempt

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        # Airflow stores the rendered fields right after this, also those of a mapped task.
        super()._do_render_template_fields(*args, **kwargs)
        for secret in results.secrets_of(getattr(self, "tools", None)):
            mask_secret(secret)
