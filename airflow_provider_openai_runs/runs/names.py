# SPDX-License-Identifier: Apache-2.0
"""Names of arguments that somebody has written, and those that were meant."""

from __future__ import annotations

from collections.abc import Collection

from airflow_provider_openai_runs.runs import checks

#: Names that other packages, or the API's other kind of run, have for an argument of ours.
_OTHER_NAMES = {
    "openai_conn_id": ("conn_id",),
    "connection_id": ("conn_id",),
    "timeout": ("completion_window", "execution_timeout"),
    "wait_timeout": ("completion_window",),
    "wait_for_completion": ("completion_window",),
    "wait": ("completion_window",),
    "wait_seconds": ("completion_window", "poll_interval"),
    "poke_interval": ("poll_interval",),
    "polling_interval": ("poll_interval",),
    "check_interval": ("poll_interval",),
    "poll_interval": ("poke_interval",),
    "completion_window": ("timeout",),
    "max_tokens": ("max_output_tokens",),
    "max_completion_tokens": ("max_output_tokens",),
    "max_output_tokens": ("max_completion_tokens",),
    "messages": ("input", "thread"),
    "input_text": ("input",),
    "response_format": ("output_type", "text"),
    "reasoning_effort": ("reasoning",),
    "conversation_id": ("conversation",),
    "tool_outputs": ("outputs",),
}


def no_argument(owner: str, name: str, known: Collection[str]) -> str:
    """Return the sentence that refuses an argument, with the one that was meant where one is near."""
    meant = [other for other in _OTHER_NAMES.get(name, ()) if other in known]
    return f"{owner} has no argument {name!r}{checks.did_you_mean(name, known, meant=meant)}"
