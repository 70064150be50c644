# SPDX-License-Identifier: Apache-2.0
"""The validation of a batch: its file as a whole, then line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST_LINES = 50_000
MOST_BYTES = 200_000_000
_REQUIRED = ("custom_id", "method", "url", "body")


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request of a batch."""

    custom_id: str
    body: dict[str, Any]


@dataclass(slots=True)
class _Seen:
    """What the lines so far have in common."""

    endpoint: str
    custom_ids: set[str]
    model: str | None = None


def read_lines(data: bytes, endpoint: str) -> tuple[list[BatchLine], list[dict[str, Any]]]:
    """Read the requests in a file, and the errors for which the batch fails."""
    if len(data) > MOST_BYTES:
        return [], [_error("file_too_large", f"The input file is larger than {MOST_BYTES:,} bytes.")]
    rows = data.split(b"\n")
    if rows and not rows[-1].strip():
        rows.pop()
    if not rows:
        return [], [_error("empty_file", "The input file is empty.")]
    if len(rows) > MOST_LINES:
        return [], [_error("too_many_tasks", f"The input file has more than {MOST_LINES:,} requests.")]
    lines: list[BatchLine] = []
    errors: list[dict[str, Any]] = []
    seen = _Seen(endpoint, set())
    for number, row in enumerate(rows, start=1):
        request = _parsed(row)
        found = list(_complaints(request, seen))
        errors += [{**error, "line": number} for error in found]
        if not found:
            lines.append(BatchLine(request["custom_id"], request["body"]))
            seen.custom_ids.add(request["custom_id"])
            seen.model = seen.model or request["body"].get("model")
    return lines, errors


def _parsed(row: bytes) -> Any:
    try:
        return json.loads(row)
    except ValueError:
        return None


def _complaints(request: Any, seen: _Seen) -> Iterator[dict[str, Any]]:
    """Give the first thing that is wrong with a line."""
    if not isinstance(request, dict):
        yield _error("invalid_json_line", "This line is not parseable as valid JSON.")
        return
    if lacking := [name for name in _REQUIRED if request.get(name) is None]:
        message = f"Missing required parameter: '{lacking[0]}'."
        yield _error("missing_required_parameter", message, lacking[0])
    elif not isinstance(request["custom_id"], str) or not isinstance(request["body"], dict):
        yield _error("invalid_type", "A custom_id is a string, and a body is an object.")
    elif request["custom_id"] in seen.custom_ids:
        message = "The custom_id for this request is a duplicate of another request."
        yield _error("duplicate_custom_id", message, "custom_id")
    elif request["method"] != "POST":
        yield _error("invalid_method", f"Invalid method: '{request['method']}'. Use POST.", "method")
    elif request["url"] != seen.endpoint:
        message = "The URL provided for this request does not match the batch endpoint."
        yield _error("url_mismatch", message, "url")
    else:
        yield from _model_complaints(request["body"].get("model"), seen.model)


def _model_complaints(model: Any, others: str | None) -> Iterator[dict[str, Any]]:
    """Refuse a second model, and one that does not exist; a request without one fails on its own."""
    if isinstance(model, str) and model.startswith("no-such-"):
        message = f"The provided model '{model}' is not supported by the Batch API."
        yield _error("model_not_found", message, "body.model")
    elif model is not None and others is not None and model != others:
        message = f"The provided model '{model}' does not match the model of the batch, '{others}'."
        yield _error("model_mismatch", message, "body.model")


def _error(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, "line": None}
