# SPDX-License-Identifier: Apache-2.0
"""What operators and sensors share that work on a run somebody else has created."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_openai_runs import results
from airflow_provider_openai_runs.exceptions import task_errors
from airflow_provider_openai_runs.operators.text_templates import RenderedAsText
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import noun_of
from airflow_provider_openai_runs.wire import wire_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
    from airflow_provider_openai_runs.runs.model import Run


class NamedRun(RenderedAsText):
    """Finds the run that the arguments ``ref``, ``thread_id``, ``run_id`` and ``response_id`` name."""

    conn_id: str | None
    #: The one kind of run that a class is for, and the classes for the others; None is any kind.
    kind: ClassVar[str | None] = None
    classes_of_other_kinds: ClassVar[Mapping[str, str]] = {}
    #: The page that shows the run to a person; the link reads it.
    run_url: str = ""
    _known_run: RunRef | None = None
    _hook: OpenAIRunsHook | None = None

    def named_run(self) -> RunRef:
        """
        Return the run, of the connection that was recorded with it unless another one is given.

        :raises RunRequestError: when it is named in no way, or in several, or is of another kind.
        """
        named = {name: getattr(self, name, None) for name in ("ref", "thread_id", "run_id", "response_id")}
        ref = RunRef.resolve(**named, conn_id=self.conn_id)
        wire_of(ref.kind)  # raises for an unknown kind, before anything is sent
        self._known_run = ref
        if self.kind is not None and ref.kind != self.kind:
            other = self.classes_of_other_kinds.get(ref.kind)
            raise RunRequestError(
                f"{type(self).__name__} is for a {noun_of(self.kind)}, and the ref names a {ref.noun}"
                f"{f': use {other}' if other else ''}. Nothing was sent. ({ref})"
            )
        return ref

    def task_errors(self: Any) -> AbstractContextManager[None]:
        """Raise errors as Airflow's own kinds, with what is known of the run, and log them in a line."""
        return task_errors(self.log, run=lambda: (self._known_run, self.run_url))

    def returned(self: Any, context: Context, run: Run, *, text_limit: int | None) -> dict[str, Any]:
        """Return the run's dict, what the next task reads by its name pushed before."""
        values = results.to_xcom(run, log=self.log, text_limit=text_limit)
        # With multiple_outputs Airflow pushes every key of the result.
        if self.do_xcom_push and not self.multiple_outputs:
            results.push_named(context["ti"], values, log=self.log)
        return values

    def included(self) -> list[str]:
        """Return the rendered argument ``include``, checked."""
        given = getattr(self, "include", None)
        items = [] if given is None else checks.sequence("include", given)
        return [checks.text(f"include[{place}]", item) for place, item in enumerate(items)]

    def hook_of(self, ref: RunRef) -> OpenAIRunsHook:
        """Return the hook of the run's connection, one for the life of the task, and make the link known."""
        from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook  # noqa: PLC0415

        if self._hook is None:
            self._hook = OpenAIRunsHook(ref.conn_id)
        self.run_url = self._hook.run_url(ref)
        return self._hook
