# SPDX-License-Identifier: Apache-2.0
"""Text that a user's code or a model wrote, made fit for a message, a log line, or the model."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import redact

from airflow_provider_openai_runs.runs.text import message_text


def clean(text: object) -> str:
    """Return message text, without the secrets that Airflow knows."""
    return message_text(text, redact=lambda head: str(redact(head)))
