# SPDX-License-Identifier: Apache-2.0
"""Create a background response and wait for it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.operators.base import BaseCreateOperator
from airflow_provider_openai_runs.operators.parse_checks import literal, waits_of
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.create_arguments import ResponseArguments
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.processing import Processing, background_options, check_window
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.response_request import (
    check_can_be_answered,
    check_no_format,
    check_response_presence,
    response_request,
)
from airflow_provider_openai_runs.runs.status import RunKind

FIELDS = tuple(ResponseArguments.__annotations__)


class CreateResponseOperator(BaseCreateOperator):
    """
    Create a background response once, and wait for it (``POST /responses``).

    The remaining arguments are those of ``BaseCreateOperator``: connection, window, deferral, cancel, retry.

    :param model: the model's name.
    :param input: the prompt, or a list of input items.
    :param prompt: a prompt template of the API, ``{"id": "pmpt_...", "variables": {...}}``; it needs neither
        ``input`` nor ``model``.
    :param instructions: what the model reads before the input.
    :param tools: tools it may use; functions in the nested or the flat form.
    :param tool_choice: ``"none"``, ``"auto"``, ``"required"`` or a tool.
    :param parallel_tool_calls: whether calls may come several at once.
    :param max_tool_calls: ceiling of built-in tool calls.
    :param conversation: id of a conversation to continue; excludes ``previous_response_id``.
    :param previous_response_id: id of a response to continue.
    :param metadata: at most 15 pairs of text; the sixteenth is this package's token.
    :param temperature: 0 to 2.
    :param top_p: 0 to 1.
    :param top_logprobs: 0 to 20 likely tokens for each place.
    :param max_output_tokens: ceiling of what is written, reasoning included.
    :param reasoning: for example ``{"effort": "low"}``.
    :param text: for example ``{"format": {"type": "json_schema", ...}}``.
    :param image: how images are read, for example ``{"context_compression": "auto"}``.
    :param truncation: ``"auto"`` drops the oldest items of a context that is too long; ``"disabled"`` fails.
    :param context_management: for example ``[{"type": "compaction", "compact_threshold": 200000}]``.
    :param background_options: for example ``{"completion_window": "2h"}``, the API's own window.
    :param service_tier: for example ``"flex"``.
    :param prompt_cache_key: requests with the same key share a cache.
    :param prompt_cache_options: how the cache is used.
    :param prompt_cache_retention: ``"in_memory"`` or ``"24h"``.
    :param moderation: how input and output are moderated.
    :param safety_identifier: a stable name of your end user, hashed, for the API's abuse detection.
    :param access_programs: programs of the API that the request takes part in.
    :param user: the older word for ``safety_identifier`` and ``prompt_cache_key``.
    :param include: what else to include in the answer.
    :param processing: ``"2h"`` or ``"8h"`` is cheaper, and may take as long (``background_options``);
        ``completion_window`` has to be 1.25 times as long, or None. It counts for the answers to calls, too.
        None and ``"standard"`` send nothing.
    :param background: sent as true unless given.
    :param store: sent as true unless given: without it some projects delete the answer early.
    :param extra_body: further parameters of the API, by name.
    """

    run_kind = RunKind.RESPONSE
    template_fields: Sequence[str] = (
        "conn_id",
        "completion_window",
        "output_path",
        "approval_subject",
        *FIELDS,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "prompt": "json",
        "tools": "json",
        "metadata": "json",
        "reasoning": "json",
        "text": "json",
        "extra_body": "json",
    }
    ui_color = "#d7f0e4"
    _unanswered_tools = "refuse"

    @airflow_errors()
    def __init__(
        self,
        *,
        input: str | list[Any] | None = None,  # noqa: A002 # the API's own name
        model: str | None = None,
        prompt: Mapping[str, Any] | None = None,
        instructions: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        max_tool_calls: int | None = None,
        conversation: str | Mapping[str, Any] | None = None,
        previous_response_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_logprobs: int | None = None,
        max_output_tokens: int | None = None,
        reasoning: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        image: Mapping[str, Any] | None = None,
        truncation: str | None = None,
        context_management: Sequence[Mapping[str, Any]] | None = None,
        background_options: Mapping[str, Any] | None = None,
        service_tier: str | None = None,
        prompt_cache_key: str | None = None,
        prompt_cache_options: Mapping[str, Any] | None = None,
        prompt_cache_retention: str | None = None,
        moderation: Mapping[str, Any] | None = None,
        safety_identifier: str | None = None,
        access_programs: Mapping[str, Any] | None = None,
        user: str | None = None,
        include: Sequence[str] | None = None,
        processing: Processing | None = None,
        background: bool = True,
        store: bool = True,
        extra_body: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.output_type is not None:
            check_no_format(text)
        self.input = input
        self.model = model
        self.prompt = prompt
        self.instructions = instructions
        self.tools = tools
        self.tool_choice = tool_choice
        self.parallel_tool_calls = parallel_tool_calls
        self.max_tool_calls = max_tool_calls
        self.conversation = conversation
        self.previous_response_id = previous_response_id
        self.metadata = metadata
        self.temperature = temperature
        self.top_p = top_p
        self.top_logprobs = top_logprobs
        self.max_output_tokens = max_output_tokens
        self.reasoning = reasoning
        self.text = text
        self.image = image
        self.truncation = truncation
        self.context_management = context_management
        self.background_options = background_options
        self.processing = processing
        self.service_tier = service_tier
        self.prompt_cache_key = prompt_cache_key
        self.prompt_cache_options = prompt_cache_options
        self.prompt_cache_retention = prompt_cache_retention
        self.moderation = moderation
        self.safety_identifier = safety_identifier
        self.access_programs = access_programs
        self.user = user
        self.include = include
        self.background = background
        self.store = store
        self.extra_body = extra_body
        self.check_arguments()
        self._check_processing()
        if self.functions or self.approve:
            more = extra_body if isinstance(extra_body, Mapping) else {}
            known = {"store": store, "conversation": conversation, **more}
            check_can_be_answered(store=known["store"], conversation=known["conversation"])
        self._check_presence()

    def _check_presence(self) -> None:
        """Check that there is something to ask."""
        check_response_presence(
            input=self.input,
            prompt=self.prompt,
            conversation=self.conversation,
            previous_response_id=self.previous_response_id,
            extra_body=self.extra_body,
        )

    def build_request(self) -> RunRequest:
        """Check the rendered arguments."""
        request = response_request(**self.given_arguments())
        is_cheaper = background_options(self.processing) is not None
        if is_cheaper:
            check_window(request.body, waits=waits_of(self))
        return replace(request, continues=is_cheaper)

    def given_arguments(self) -> dict[str, Any]:
        """Return the API's arguments as they were given and rendered, by name."""
        given = {name: getattr(self, name) for name in FIELDS}
        given["tools"] = self.tools_with_functions()
        if (options := background_options(self.processing)) is not None:
            checks.not_given("background_options", self.background_options, sets="processing")
            given["background_options"] = options
        if self.output_type is not None:
            given["output_format"] = self.output_format(RunKind.RESPONSE)
        return given

    def _check_processing(self) -> None:
        """Check while the Dag is parsed that the task waits as long as the response may take."""
        options = background_options(self.processing)
        more = self.extra_body if isinstance(self.extra_body, Mapping) else {}
        own = more.get("background_options", self.background_options)
        if self.processing is not None:
            checks.not_given("background_options", own, sets="processing")
        known = {"service_tier": literal(self, "service_tier"), "background": self.background, **more}
        body, waits = {**known, "background_options": options or own}, waits_of(self)
        if options is not None:
            check_window(body, waits=waits)
            return
        try:
            check_window(body, waits=waits, name="background_options['completion_window']")
        except RunRequestError as error:
            text = str(error).removesuffix(" Nothing was sent.")
            warnings.warn(f"{self.task_id}: {text} This will be an error.", FutureWarning, stacklevel=2)
