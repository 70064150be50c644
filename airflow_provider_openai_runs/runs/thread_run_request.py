# SPDX-License-Identifier: Apache-2.0
"""A thread run to create: its arguments, checked and translated, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.arguments import Arguments
from airflow_provider_openai_runs.runs.as_json import as_json
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.messages import check_says_something, checked_thread
from airflow_provider_openai_runs.runs.named_ids import named_id
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind


def thread_run_request(
    *,
    thread_id: str | None = None,
    thread: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    max_completion_tokens: int | None = None,
    **arguments: Any,
) -> RunRequest:
    """
    Check the arguments of a thread run.

    :param max_tokens: the contract's word; sent as ``max_completion_tokens``.
    :raises RunRequestError: naming argument, value and rule.
    """
    check_thread_run_presence(thread_id=thread_id, thread=thread, assistant_id=arguments.get("assistant_id"))
    if max_tokens is not None and max_completion_tokens is not None:
        raise RunRequestError(
            f"max_tokens={max_tokens!r} and max_completion_tokens={max_completion_tokens!r} are the same "
            "limit under its old and its new name; give one. Nothing was sent."
        )
    if max_tokens is not None:
        max_completion_tokens = checks.count("max_tokens", as_json("max_tokens", max_tokens))
    checked = Arguments(given={**arguments, "max_completion_tokens": max_completion_tokens})
    body = checked.body()
    check_says_something("additional_messages", body.get("additional_messages", []))
    return RunRequest(
        kind=RunKind.THREAD_RUN,
        body=body,
        thread_id=None if thread_id is None else named_id("thread_id", thread_id, of="thread"),
        thread=None if thread is None else checked_thread(as_json("thread", thread)),
        warnings=tuple(checked.warnings),
    )


def check_thread_run_presence(*, thread_id: object, thread: object, assistant_id: object) -> None:
    """
    Check what must be there, and only that: before templates are rendered, values say nothing.

    :raises RunRequestError: naming the arguments.
    """
    if (thread_id is None) == (thread is None):
        raise RunRequestError(
            f"Give either thread_id or thread, not {'neither' if thread is None else 'both'}: thread_id "
            "runs on an existing thread, thread={'messages': [...]} creates one first. Nothing was sent."
        )
    if assistant_id is None:
        raise checks.invalid("assistant_id", None, "is required")
