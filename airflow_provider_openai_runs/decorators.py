# SPDX-License-Identifier: Apache-2.0
"""``@task.openai_response`` and ``@task.openai_run``: a function returns what to ask, a task asks it."""

from __future__ import annotations

import sys
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator
from airflow_provider_openai_runs.operators.base import BaseCreateOperator
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskDecorator
    from airflow.sdk import Context

    from airflow_provider_openai_runs.runs.request import RunRequest

#: What stands in an argument until the function has been called, and where it is not called any more.
_LATER = "(what the function returns)"
#: Template fields that say how the run is waited for and read; they belong to the decorator.
_OF_THE_DECORATOR = frozenset({"conn_id", "completion_window", "output_path", "include"})


class _AskedByFunction(DecoratedOperator, BaseCreateOperator):
    """
    Let a function say what to ask for, as text or as a dict of the operator's arguments.

    It is called once in each attempt, before the create. After the wait it is called only if the model's
    calls may have to be answered or returned: only its arguments say which tools were offered, and a further
    request repeats them.
    """

    #: The argument of a text, and what stands there before.
    _asks_in: ClassVar[Mapping[str, Any]]
    custom_operator_name: str
    shallow_copy_attrs: Sequence[str] = ("python_callable",)

    @airflow_errors()
    def __init__(
        self, *, python_callable: Callable[..., Any], output_type: Any = None, **kwargs: Any
    ) -> None:
        if iscoroutinefunction(python_callable):
            raise TypeError(
                f"{self.custom_operator_name} takes no async function: {python_callable.__name__}"
            )
        for name in ("input", "prompt", "thread", "additional_messages"):
            if kwargs.get(name) is not None:
                raise TypeError(
                    f"{self.custom_operator_name} takes no {name!r}: "
                    f"it is what {python_callable.__name__} returns"
                )
        later = {} if kwargs.get("thread_id") is not None else self._asks_in
        super().__init__(
            python_callable=python_callable,
            output_type=_annotated(python_callable) if output_type is None else output_type,
            **later,
            **kwargs,
        )
        self._context: Mapping[str, Any] = {}
        self._resumes = False

    def execute(self, context: Context) -> Any:
        """Ask, and wait."""
        # Not by way of DecoratedOperator, which searches the arguments for assets: they may be hidden.
        return BaseCreateOperator.execute(self, context)

    def build_request(self) -> RunRequest:
        """Call the function, and check what it has returned."""
        if not self._resumes or self.takes_calls:
            for name, value in self._arguments().items():
                setattr(self, name, value)
            self.check_arguments()
        return super().build_request()

    def _perform(self, context: Context, step: Any, *, resumes: bool = False) -> Any:
        self._context = typing.cast("Mapping[str, Any]", context)
        self._resumes = resumes
        return super()._perform(context, step, resumes=resumes)

    def _watching(self, context: Context) -> AbstractContextManager[None]:
        from airflow_provider_openai_runs.operators.rendered import settings_to_finish  # noqa: PLC0415 # pydantic

        return self._begin(settings_to_finish(self), context).watching()

    def _call(self) -> Any:
        function, known = self.python_callable, {**self._context, **self.op_kwargs}
        return function(*self.op_args, **determine_kwargs(function, self.op_args, known))

    def _arguments(self) -> Mapping[str, Any]:
        function, returned = self.python_callable, self._call()
        if not isinstance(returned, Mapping):
            return self._arguments_of(returned)
        may = set(self.template_fields) - _OF_THE_DECORATOR - set(DecoratedOperator.template_fields)
        for name in (name for name in returned if name not in may):
            raise RunRequestError(
                f"{function.__name__}() returned {name!r}, which is no argument of the request"
                f"{checks.did_you_mean(str(name), may) or '.'} How to wait and to read is said to the "
                "decorator. Nothing was sent."
            )
        return {**dict.fromkeys(self._asks_in), **returned}

    def _arguments_of(self, text: Any) -> Mapping[str, Any]:
        """Return the arguments that a text, or what else a prompt may be, stands for."""
        raise NotImplementedError


class ResponseDecoratedOperator(_AskedByFunction, CreateResponseOperator):
    """A task whose function returns the input of a background response, or a dict of arguments."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *CreateResponseOperator.template_fields,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **CreateResponseOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.openai_response"
    _asks_in: ClassVar[Mapping[str, Any]] = {"input": _LATER}

    def _arguments_of(self, text: Any) -> Mapping[str, Any]:
        return {"input": text}


class RunDecoratedOperator(_AskedByFunction, CreateRunOperator):
    """A task whose function returns the message of a thread run, or a dict of arguments."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *CreateRunOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **CreateRunOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.openai_run"
    _asks_in: ClassVar[Mapping[str, Any]] = {"thread": {"messages": [{"role": "user", "content": _LATER}]}}

    def _arguments_of(self, text: Any) -> Mapping[str, Any]:
        messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
        if self.thread_id is not None:
            return {"additional_messages": messages}
        return {"thread": {"messages": messages}}


def openai_response_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """
    Create a background response of what the function returns, and wait for it: ``@task.openai_response``.

    A text or a list of input items is the ``input``; a dict holds arguments of ``CreateResponseOperator``.
    A pydantic model as the function's return annotation is the ``output_type`` of the answer.

    :param python_callable: the function; it is called in the worker, and may take what any ``@task`` may.
    :param multiple_outputs: push every key of the result as an XCom of its own.
    :param kwargs: arguments of ``CreateResponseOperator``.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=ResponseDecoratedOperator,
        **kwargs,
    )


def openai_run_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """
    Create a thread run of what the function returns, and wait for it: ``@task.openai_run``.

    A text or a list of messages is added to the thread ``thread_id``, or begins one of its own; a dict holds
    arguments of ``CreateRunOperator`` by name. A pydantic model as the function's return annotation is the
    ``output_type`` of the answer.

    :param python_callable: the function; it is called in the worker, and may take what any ``@task`` may.
    :param multiple_outputs: push every key of the result as an XCom of its own.
    :param kwargs: arguments of ``CreateRunOperator``.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=RunDecoratedOperator,
        **kwargs,
    )


def _annotated(function: Callable[..., Any]) -> Any:
    """Return the pydantic model that a function is annotated to return; None if it is none."""
    annotated = getattr(function, "__annotations__", {}).get("return")
    if isinstance(annotated, str):
        try:
            annotated = typing.get_type_hints(function).get("return")
        except NameError as error:
            warnings.warn(
                f"{function.__name__}: the annotation {annotated!r} cannot be read here ({error}); if it is "
                "a model, give it as output_type=",
                UserWarning,
                stacklevel=2,
            )
            return None
    pydantic = sys.modules.get("pydantic")  # there is no model without it
    base = getattr(pydantic, "BaseModel", None)
    return annotated if base and isinstance(annotated, type) and issubclass(annotated, base) else None


__all__ = ["openai_response_task", "openai_run_task"]
