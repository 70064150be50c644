# SPDX-License-Identifier: Apache-2.0
"""How a long answer begins: what it says of its run before its output, which is what makes it long."""

from __future__ import annotations

import json
import re
from typing import Any

from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.wire import reading

#: Bytes of a beginning; the API writes the status into the first hundreds.
HEAD_BYTES = 1024 * 1024
_MEMBER = re.compile(r'\s*[{,]\s*("(?:[^"\\]|\\.){0,100}")\s*:\s*')


def head_of(content: bytes) -> dict[str, Any]:
    """Read the members that are whole in the beginning of a JSON object, up to the first that is not."""
    text = content[:HEAD_BYTES].decode(errors="replace")
    decoder = json.JSONDecoder()
    found: dict[str, Any] = {}
    at = 0
    while (member := _MEMBER.match(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, member.end())
        except (ValueError, RecursionError):
            break
        if at == len(text):  # a number may go on
            break
        found[json.loads(member[1])] = value
    return found


def says_ended(content: bytes) -> bool:
    """Whether an answer begins with the status of a run that has ended."""
    try:
        return RunStatus.parse(reading.raw_status(head_of(content))).is_terminal
    except ValueError:
        return False
