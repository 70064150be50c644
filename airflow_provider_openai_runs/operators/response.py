# SPDX-License-Identifier: Apache-2.0
"""Create a background response and wait for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_provider_openai_runs.operators.base import BaseCreateOperator
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.request import RunRequest, check_response_presence, response_request
from airflow_provider_openai_runs.runs.status import RunKind

_FIELDS = (
    "model",
    "input",
    "instructions",
    "tools",
    "conversation",
    "previous_response_id",
    "metadata",
    "temperature",
    "top_p",
    "max_output_tokens",
    "max_tool_calls",
    "reasoning",
    "text",
    "background_options",
    "service_tier",
    "include",
    "background",
    "store",
    "extra_body",
)


class CreateResponseOperator(BaseCreateOperator):
    """
    Create a background response once, and wait for it (``POST /responses``).

    The remaining arguments are those of ``BaseCreateOperator``: connection, window, deferral, cancel, retry.

    :param model: the model's name.
    :param input: the prompt, or a list of input items.
    :param instructions: what the model reads before the input.
    :param tools: tools it may use; functions in the nested or the flat form.
    :param conversation: id of a conversation to continue; excludes ``previous_response_id``.
    :param previous_response_id: id of a response to continue.
    :param metadata: at most 15 pairs of text; the sixteenth is this package's token.
    :param temperature: 0 to 2.
    :param top_p: 0 to 1.
    :param max_output_tokens: ceiling of what is written, reasoning included.
    :param max_tool_calls: ceiling of built-in tool calls.
    :param reasoning: for example ``{"effort": "low"}``.
    :param text: for example ``{"format": {"type": "json_schema", ...}}``.
    :param background_options: for example ``{"completion_window": "2h"}``, the API's own window.
    :param service_tier: for example ``"flex"``.
    :param include: what else to include in the answer.
    :param background: sent as true unless given.
    :param store: sent as true unless given: without it some projects delete the answer early.
    :param extra_body: further parameters of the API, by name.
    """

    template_fields: Sequence[str] = ("conn_id", "completion_window", *_FIELDS)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "tools": "json",
        "metadata": "json",
        "reasoning": "json",
        "text": "json",
        "extra_body": "json",
    }
    ui_color = "#d7f0e4"

    def __init__(
        self,
        *,
        input: str | list[Any] | None = None,  # noqa: A002 # the API's own name
        model: str | None = None,
        instructions: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        conversation: str | Mapping[str, Any] | None = None,
        previous_response_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        max_output_tokens: int | None = None,
        max_tool_calls: int | None = None,
        reasoning: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        background_options: Mapping[str, Any] | None = None,
        service_tier: str | None = None,
        include: Sequence[str] | None = None,
        background: bool = True,
        store: bool = True,
        extra_body: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.output_type is not None and isinstance(text, Mapping) and "format" in text:
            raise RunRequestError("output_type sets text['format']; give one of them. Nothing was sent.")
        self.input = input
        self.model = model
        self.instructions = instructions
        self.tools = tools
        self.conversation = conversation
        self.previous_response_id = previous_response_id
        self.metadata = metadata
        self.temperature = temperature
        self.top_p = top_p
        self.max_output_tokens = max_output_tokens
        self.max_tool_calls = max_tool_calls
        self.reasoning = reasoning
        self.text = text
        self.background_options = background_options
        self.service_tier = service_tier
        self.include = include
        self.background = background
        self.store = store
        self.extra_body = extra_body
        check_response_presence(
            input=input, conversation=conversation, previous_response_id=previous_response_id
        )

    def build_request(self) -> RunRequest:
        """Check the rendered arguments."""
        given = {name: getattr(self, name) for name in _FIELDS}
        given["tools"] = self.tools_with_functions()
        if self.output_type is not None:
            given["text"] = {**(self.text or {}), "format": self.output_format(RunKind.RESPONSE)}
        return response_request(**given)
