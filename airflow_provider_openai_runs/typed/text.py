# SPDX-License-Identifier: Apache-2.0
"""Text that a user's code or a model wrote, made fit for a message, a log line, or the model."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import redact

from airflow_provider_openai_runs.runs.failure import safe_text
from airflow_provider_openai_runs.runs.model import plain


def clean(text: object) -> str:
    """Return one line of at most 500 characters; secrets are taken out first, while they are whole."""
    return str(plain(safe_text(redact(text_of(text)))))


def text_of(value: object) -> str:
    """Return the text of anything, of an exception too that fails to say what it is."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 # whatever it is
        return f"<{type(value).__name__}>"
