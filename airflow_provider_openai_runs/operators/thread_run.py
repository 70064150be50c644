# SPDX-License-Identifier: Apache-2.0
"""Create a thread run and wait for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.operators.base import BaseCreateOperator
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.create_arguments import ThreadRunArguments
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.thread_run_request import (
    check_thread_run_presence,
    thread_run_request,
)

_FIELDS = tuple(ThreadRunArguments.__annotations__)


class CreateRunOperator(BaseCreateOperator):
    """
    Create a thread run once, and wait for it (``POST /threads/{thread_id}/runs``).

    OpenAI itself removed this API on 2026-08-26; compatible servers still speak it. The remaining arguments
    are those of ``BaseCreateOperator``: connection, window, deferral, cancel, retry.

    :param thread_id: the thread to run on; excludes ``thread``.
    :param thread: a thread to create first, ``{"messages": [{"role": "user", "content": "..."}]}``.
    :param assistant_id: the assistant that runs.
    :param model: in place of the assistant's.
    :param instructions: in place of the assistant's.
    :param additional_instructions: appended to the assistant's.
    :param additional_messages: added to the thread before the run.
    :param tools: in place of the assistant's; ``code_interpreter``, ``file_search`` or ``function``.
    :param metadata: at most 15 pairs of text; the sixteenth is this package's token.
    :param temperature: 0 to 2.
    :param top_p: 0 to 1.
    :param max_tokens: the contract's name for ``max_completion_tokens``.
    :param max_completion_tokens: ceiling of what is written over the whole run.
    :param max_prompt_tokens: ceiling of what is read over the whole run.
    :param truncation_strategy: ``{"type": "auto"}`` or ``{"type": "last_messages", "last_messages": 10}``.
    :param tool_choice: ``"none"``, ``"auto"``, ``"required"`` or a tool.
    :param parallel_tool_calls: whether calls may come several at once.
    :param response_format: for example ``{"type": "json_object"}``.
    :param reasoning_effort: for example ``"low"``.
    :param include: what else to include in the run's steps.
    :param stream_for_tool: accepted and never sent; it was never a parameter of runs.
    :param extra_body: further parameters of the API, by name.
    """

    run_kind = RunKind.THREAD_RUN
    template_fields: Sequence[str] = (
        "conn_id",
        "completion_window",
        "output_path",
        "approval_subject",
        *_FIELDS,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "thread": "json",
        "additional_messages": "json",
        "tools": "json",
        "metadata": "json",
        "extra_body": "json",
    }
    ui_color = "#d7f0e4"
    _unanswered_tools = "warn"

    @airflow_errors()
    def __init__(
        self,
        *,
        thread_id: str | None = None,
        thread: Mapping[str, Any] | None = None,
        assistant_id: str | None = None,
        model: str | None = None,
        instructions: str | None = None,
        additional_instructions: str | None = None,
        additional_messages: Sequence[Mapping[str, Any]] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        metadata: Mapping[str, str] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_tokens: int | None = None,
        max_completion_tokens: int | None = None,
        max_prompt_tokens: int | None = None,
        truncation_strategy: Mapping[str, Any] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: str | Mapping[str, Any] | None = None,
        reasoning_effort: str | None = None,
        include: Sequence[str] | None = None,
        stream_for_tool: Any = None,
        extra_body: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.output_type is not None:
            checks.not_given("response_format", response_format, sets="output_type")
        self.thread_id = thread_id
        self.thread = thread
        self.assistant_id = assistant_id
        self.model = model
        self.instructions = instructions
        self.additional_instructions = additional_instructions
        self.additional_messages = additional_messages
        self.tools = tools
        self.metadata = metadata
        self.temperature = temperature
        self.top_p = top_p
        self.max_tokens = max_tokens
        self.max_completion_tokens = max_completion_tokens
        self.max_prompt_tokens = max_prompt_tokens
        self.truncation_strategy = truncation_strategy
        self.tool_choice = tool_choice
        self.parallel_tool_calls = parallel_tool_calls
        self.response_format = response_format
        self.reasoning_effort = reasoning_effort
        self.include = include
        self.stream_for_tool = stream_for_tool
        self.extra_body = extra_body
        self.check_arguments()
        check_thread_run_presence(thread_id=thread_id, thread=thread, assistant_id=assistant_id)

    def build_request(self) -> RunRequest:
        """Check the rendered arguments."""
        given = {name: getattr(self, name) for name in _FIELDS}
        given["tools"] = self.tools_with_functions()
        if self.output_type is not None:
            checks.not_given("response_format", self.response_format, sets="output_type")
            given["response_format"] = self.output_format(RunKind.THREAD_RUN)
        return thread_run_request(**given)
