# SPDX-License-Identifier: Apache-2.0
"""
Reading what servers write, liberally: wrong types become None, and only an answer without a run is an error.

Compatible servers send float or millisecond timestamps, null metadata, text as a list, and leave fields out
(the cases that were seen stand in the tests).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from airflow_provider_openai_runs.runs.plain import plain
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.text import MAX_STATUS, is_id, message_text
from airflow_provider_openai_runs.runs.usage import MAX_TOKENS, Usage

#: A Unix time above this is in milliseconds (as seconds it would lie beyond the year 5000).
_MILLISECONDS = 1e11
#: Beyond this even milliseconds mean no time, nor does a float mean a count.
_MAX_TIME = 1e15
#: A count that is written as text.
_COUNT = re.compile("[0-9]{1,19}")
#: Objects within an error's object; what is deeper is shown as text.
_MAX_ERROR_DEPTH = 4
#: The API's own statuses in whatever case, and others of the same meaning: taken for unknown, a run that has
#: ended would be waited for until the end of its window.
_SAME_STATUS = {status.value: status.value for status in RunStatus} | {
    **dict.fromkeys(("canceled", "aborted"), "cancelled"),
    "error": "failed",
    **dict.fromkeys(("timeout", "timed_out"), "expired"),
    **dict.fromkeys(("succeeded", "success", "complete", "done", "finished"), "completed"),
}


def text(value: object) -> str | None:
    """Return a non-empty string, else None."""
    return value if isinstance(value, str) and value else None


def identifier(value: object) -> str:
    """Return an id or a name, which some servers send as a number; whatever else it is says nothing."""
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def name(value: object) -> str | None:
    """Return a server's name for something, as message text; None where it says none."""
    found = text(value)
    return None if found is None else message_text(found, limit=MAX_STATUS)


def optional_id(value: object) -> str | None:
    """Return an id that can be used, else None."""
    found = identifier(value)
    return found if is_id(found) else None


def json_text(value: object) -> str:
    """Return the JSON text of a call's arguments, which some servers send as the object itself."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(plain(value, reserves_keys=False))


def unix_time(value: object) -> int | None:
    """Return whole Unix seconds from a number, also of milliseconds, or from one or ISO 8601 in text."""
    if isinstance(value, str):
        value = _seconds_in(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < _MAX_TIME:
        return None
    return int(value / 1000 if value > _MILLISECONDS else value)


def _seconds_in(written: str) -> float | None:
    with suppress(ValueError):
        return float(written)
    try:
        found = datetime.fromisoformat(written)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def as_int(value: object) -> int | None:
    """Return a whole number, also one that is written as a float, else None."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_TIME:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def object_of(value: object) -> dict[str, Any]:
    """Return a JSON object, or an empty one."""
    return dict(value) if isinstance(value, (dict, Mapping)) else {}


def objects_of(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects of a list, or an empty list."""
    if not value or not isinstance(value, list):
        return []
    # A dict is nearly always what it is, and quicker to tell.
    return [dict(item) for item in value if isinstance(item, (dict, Mapping))]


def items_of(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects of a list, of which some servers write one as itself."""
    return objects_of([value] if isinstance(value, Mapping) else value)


def optional_object(value: object) -> dict[str, Any] | None:
    """Return a non-empty JSON object, else None."""
    return dict(value) if value and isinstance(value, (dict, Mapping)) else None


def error_object(value: object) -> dict[str, Any] | None:
    """Return what a server says of an error, some of them in a sentence; each text of it is message text."""
    if isinstance(value, str) and value:
        return {"message": message_text(value)}
    if isinstance(value, list):
        value = next(iter(objects_of(value)), None)
    return None if (found := optional_object(value)) is None else dict(_as_messages(found))


def incomplete_details(value: object) -> dict[str, Any] | None:
    """Return why an answer is not whole; some servers write the reason in place of the object."""
    return error_object({"reason": value} if isinstance(value, str) and value else value)


def _as_messages(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str) or depth > _MAX_ERROR_DEPTH:
        return message_text(value)
    if isinstance(value, Mapping):
        return {
            message_text(key, limit=MAX_STATUS): _as_messages(item, depth + 1) for key, item in value.items()
        }
    return [_as_messages(item, depth + 1) for item in value] if isinstance(value, list) else value


def text_pairs(value: object) -> dict[str, str]:
    """Return metadata; pairs that are not text are left out."""
    return {
        key: item for key, item in object_of(value).items() if isinstance(key, str) and isinstance(item, str)
    }


def run_id(data: Mapping[str, Any]) -> str:
    """Return the id of a run; an answer without one that can be carried is no run."""
    found = identifier(data.get("id"))
    if not found:
        raise ValueError(f"the answer has no run id, only {sorted(map(str, data))[:8]}")
    return whole_id(found)


def whole_id(found: str) -> str:
    """
    Return an id as it is, since another one would name something else.

    :raises ValueError: if no URL or column can carry it, or it would forge a line of a log.
    """
    if not is_id(found):
        shown = message_text(found, limit=MAX_STATUS)
        raise ValueError(f"its id cannot be used; it has {len(found)} characters and begins {shown!r}")
    return found


def raw_status(data: Mapping[str, Any]) -> str:
    """Return the raw status; an answer without one is unreadable."""
    found = data.get("status")
    if not isinstance(found, str) or not found or "\ufffd" in found:
        raise ValueError(f"the answer has no status, only {sorted(map(str, data))[:8]}")
    if (same := _SAME_STATUS.get(found)) is not None:  # nearly always, and ten thousand waits poll for it
        return same
    shown = message_text(found, limit=MAX_STATUS)
    return _SAME_STATUS.get(shown.lower(), shown)


def with_status(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer to a create with a status: an id alone is a run whose status nobody knows yet."""
    return data if text(data.get("status")) else {**data, "status": RunStatus.UNKNOWN.value}


def usage(value: object) -> Usage | None:
    """Return token counts under either API's names; None where the server sends none that can be one."""
    data = object_of(value)
    prompt = _first_count(data, "prompt_tokens", "input_tokens")
    completion = _first_count(data, "completion_tokens", "output_tokens")
    total = _count(data.get("total_tokens"))
    total = total or (None if prompt or completion else total)  # a zero beside others is no sum
    # As Anthropic counts: what was read from its cache, or written there, beside the rest.
    hits, writes = (_count(data.get(f"cache_{name}_input_tokens")) for name in ("read", "creation"))
    if prompt is not None and (beside := (hits or 0) + (writes or 0)) > prompt:
        prompt += beside
        total = None if total is None else max(total, prompt + (completion or 0))
    if prompt is None and completion is None and total is None:
        return None
    if total is not None and (prompt is None) is not (completion is None):
        prompt = max(0, total - (completion or 0)) if prompt is None else prompt
        completion = max(0, total - prompt) if completion is None else completion
    of_prompt = _details(data, "input_tokens_details", "prompt_tokens_details", "prompt_token_details")
    of_completion = _details(data, "output_tokens_details", "completion_tokens_details")
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        total_tokens=(prompt or 0) + (completion or 0) if total is None else total,
        cached_tokens=_either(_count(of_prompt.get("cached_tokens")), hits),
        cache_write_tokens=_either(_count(of_prompt.get("cache_write_tokens")), writes),
        reasoning_tokens=_count(of_completion.get("reasoning_tokens")),
    )


def _details(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Read how a count is made up, under the names of either API; OpenAI's thread runs misspell theirs."""
    return next((found for name in names if (found := object_of(data.get(name)))), {})


def _first_count(data: Mapping[str, Any], *names: str) -> int | None:
    """Return what one of the names says; a gateway may write both, and a zero under the other API's."""
    return max((found for name in names if (found := _count(data.get(name))) is not None), default=None)


def _either(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


def _count(value: object) -> int | None:
    if isinstance(value, str) and _COUNT.fullmatch(value):
        value = int(value)
    found = as_int(value)
    return found if found is not None and 0 <= found <= MAX_TOKENS else None
