# SPDX-License-Identifier: Apache-2.0
"""Text that a user's code or a model wrote, made fit for a message, a log line, or the model."""

from __future__ import annotations

import json
import re

from airflow.providers.common.compat.sdk import redact

from airflow_provider_openai_runs.runs.text import encodable, message_text

#: An escape of JSON: those of one or more surrogates, or any other.
_ESCAPE = re.compile(
    r"\\(?:(?:u[dD][89a-fA-F][0-9a-fA-F]{2})(?:\\u[dD][89a-fA-F][0-9a-fA-F]{2})*|.)", re.DOTALL
)
_A_SURROGATE = 6


def clean(text: object) -> str:
    """Return message text, without the secrets that Airflow knows."""
    return message_text(text, redact=lambda head: str(redact(head)))


def whole_characters(written: str) -> str:
    r"""Return JSON text with U+FFFD in place of half a character (``\ud83d``), over which pydantic fails."""
    found = encodable(written)
    return _ESCAPE.sub(_whole, found) if "\\u" in found else found


def _whole(escape: re.Match[str]) -> str:
    written = escape[0]
    return (
        json.dumps(encodable(json.loads(f'"{written}"')))[1:-1] if len(written) >= _A_SURROGATE else written
    )
