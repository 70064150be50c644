# SPDX-License-Identifier: Apache-2.0
"""What both APIs have in common of a model's call: whether it is done already, and its arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_openai_runs.wire import reading

#: Where servers write what came of a call.
_RESULTS = ("output", "result", "error")
_NOTHING: tuple[object, ...] = (None, "", [])
#: Members of a call that are not what is to be done.
_NOT_THE_ACTION = frozenset({"id", "call_id", "type", "status", "name", "namespace", "caller", "created_by"})


def brings_its_result(call: Mapping[str, Any]) -> bool:
    """Whether a call says what came of it: some servers run functions, and write the result into it."""
    return has_any(call, _RESULTS) or call.get("status") == "failed"


def has_any(item: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether one of the members is not empty; some servers write every member."""
    values = (item.get(name) for name in names)
    return any(
        any(value.values()) if isinstance(value, Mapping) else value not in _NOTHING for value in values
    )


def arguments_of(value: object) -> str:
    """Return arguments as text; some servers write none as JSON's null, as nothing, or not at all."""
    written = reading.json_text(value)
    return "{}" if written.strip() in {"", "null"} else written


def action_of(call: Mapping[str, Any]) -> str:
    """Return of a call without arguments the whole of what is to be done."""
    return reading.json_text({key: value for key, value in call.items() if key not in _NOT_THE_ACTION})
