# SPDX-License-Identifier: Apache-2.0
"""What is done to the JSON Schemas that pydantic makes, and to its errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

if TYPE_CHECKING:
    from pydantic import ValidationError

#: So many problems of one value are named.
MAX_PROBLEMS = 5
#: Under these keys are schemas by name; any string may be a name, also "title".
NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
#: Under these keys are values, not schemas.
_VALUES = frozenset({"default", "const", "enum", "examples", "required"})


class PlainJsonSchema(GenerateJsonSchema):
    """JSON Schema without a warning for each default that JSON cannot carry; it is left out."""

    def emit_warning(self, kind: str, detail: str) -> None:
        """Do nothing."""


def without_titles(schema: Any) -> Any:
    """Return a schema without the titles that pydantic derives from names: each one costs tokens."""
    if isinstance(schema, list):
        return [without_titles(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: value
        if key in _VALUES
        else _named_without_titles(value)
        if key in NAMED
        else without_titles(value)
        for key, value in schema.items()
        if key != "title"
    }


def problems(error: ValidationError) -> str:
    """Describe pydantic's error in one line: what and where, without the values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    named = [
        f"{item['msg']} (at {'.'.join(map(str, item['loc']))})" if item["loc"] else item["msg"]
        for item in found[:MAX_PROBLEMS]
    ]
    more = len(found) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _named_without_titles(schemas: Any) -> Any:
    if not isinstance(schemas, Mapping):
        return schemas
    return {name: without_titles(schema) for name, schema in schemas.items()}
