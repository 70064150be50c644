# SPDX-License-Identifier: Apache-2.0
"""The arguments of creates, by kind: what operators render, and the hook takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class ResponseArguments(TypedDict, total=False):
    """Arguments of a background response; ``CreateResponseOperator`` says what they mean."""

    model: str | None
    input: str | list[Any] | None
    prompt: Mapping[str, Any] | None
    instructions: str | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    max_tool_calls: int | None
    conversation: str | Mapping[str, Any] | None
    previous_response_id: str | None
    metadata: Mapping[str, str] | None
    temperature: float | None
    top_p: float | None
    top_logprobs: int | None
    max_output_tokens: int | None
    reasoning: Mapping[str, Any] | None
    text: Mapping[str, Any] | None
    image: Mapping[str, Any] | None
    truncation: str | None
    context_management: Sequence[Mapping[str, Any]] | None
    background_options: Mapping[str, Any] | None
    service_tier: str | None
    prompt_cache_key: str | None
    prompt_cache_options: Mapping[str, Any] | None
    prompt_cache_retention: str | None
    moderation: Mapping[str, Any] | None
    safety_identifier: str | None
    access_programs: Mapping[str, Any] | None
    user: str | None
    include: Sequence[str] | None
    background: bool
    store: bool
    extra_body: Mapping[str, Any] | None


class ThreadRunArguments(TypedDict, total=False):
    """Arguments of a thread run; ``CreateRunOperator`` says what they mean."""

    thread_id: str | None
    thread: Mapping[str, Any] | None
    assistant_id: str | None
    model: str | None
    instructions: str | None
    additional_instructions: str | None
    additional_messages: Sequence[Mapping[str, Any]] | None
    tools: Sequence[Mapping[str, Any]] | None
    metadata: Mapping[str, str] | None
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    max_completion_tokens: int | None
    max_prompt_tokens: int | None
    truncation_strategy: Mapping[str, Any] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    response_format: str | Mapping[str, Any] | None
    reasoning_effort: str | None
    include: Sequence[str] | None
    stream_for_tool: Any
    extra_body: Mapping[str, Any] | None
