# SPDX-License-Identifier: Apache-2.0
"""
What the API takes for files and batches, as far as the package asks for it; the description of runs lacks it.

Sources: ``openai.types.file_create_params``, ``file_list_params``, ``batch_create_params`` and
``batch_list_params`` of the SDK; a form's fields stand here as those of an object.
"""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_PAGE = {"after": _TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": 100}}
_METADATA = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"maxLength": 64},
    "additionalProperties": {"type": "string", "maxLength": 512},
}


def _query(schemas: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"in": "query", "name": name, "schema": schema} for name, schema in schemas.items()]


def _takes(required: list[str], **properties: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}


PATHS: dict[str, Any] = {
    "/files": {
        "get": {"parameters": _query({**_PAGE, "order": {"enum": ["asc", "desc"]}, "purpose": _TEXT})},
        "post": _takes(
            ["purpose", "file"],
            **{
                "purpose": {"enum": ["batch"]},
                "file": {"type": "object"},
                "expires_after[anchor]": {"enum": ["created_at"]},
                "expires_after[seconds]": {"type": "string", "pattern": r"^\d+$"},
            },
        ),
    },
    "/batches": {
        "get": {"parameters": _query(_PAGE)},
        "post": _takes(
            ["input_file_id", "endpoint", "completion_window"],
            input_file_id=_TEXT,
            endpoint={"enum": ["/v1/responses"]},
            completion_window={"enum": ["24h"]},
            metadata=_METADATA,
        ),
    },
    "/batches/{batch_id}": {"get": {}},
    "/batches/{batch_id}/cancel": {"post": {}},
}
