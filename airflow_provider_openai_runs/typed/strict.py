# SPDX-License-Identifier: Apache-2.0
"""
What the API's strict mode takes of JSON Schema, and what can be rewritten for it without loss.

Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas, and what the API was
reported to refuse. A schema that does not fit is sent all the same, and not called strict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.typed.schemas import NAMED

_MAX_DEPTH = 10
_MAX_PROPERTIES = 5000
_MAX_ENUM = 1000
#: Characters of all names and values of a schema; and of the values of one enum with more than so many.
_MAX_CHARACTERS = 120_000
_MAX_ENUM_CHARACTERS = 15_000
_LARGE_ENUM = 250
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
#: Everything that a strict schema may say; annotations among it cost nothing.
_ALLOWED = frozenset(
    {
        *("type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const"),
        *("$ref", "$defs", "definitions", "title", "description"),
        *("pattern", "format", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"),
        *("minItems", "maxItems"),
    }
)
#: Look-around and back references are not regular, and are refused.
_NOT_REGULAR = ("(?=", "(?!", "(?<", "(?P=", *(f"\\{digit}" for digit in range(1, 10)))
#: What only advises, so that nothing is lost without it.
_ADVICE = frozenset(
    {
        *("default", "examples", "example", "deprecated", "readOnly", "writeOnly", "discriminator"),
        *("$schema", "$comment"),
    }
)


def without_loss(schema: Any) -> Any:
    """
    Return a schema as strict mode wants it, where that loses nothing.

    A default is left out, since each field is required then; a union that a discriminator tells apart is
    written as ``anyOf``.
    """
    if isinstance(schema, list):
        return [without_loss(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in NAMED and isinstance(value, Mapping):
            found[key] = {name: without_loss(inner) for name, inner in value.items()}
        elif key == "oneOf" and "anyOf" not in schema and _has_discriminator(schema):
            found["anyOf"] = without_loss(value)
        elif key not in _ADVICE:
            found[key] = value if key in {"const", "enum", "required"} else without_loss(value)
    return found


def _has_discriminator(schema: Mapping[str, Any]) -> bool:
    return isinstance(schema.get("discriminator"), Mapping)


def fits(schema: Mapping[str, Any]) -> bool:
    """Tell whether the API takes a schema as a strict one."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return False
    if len(json.dumps(schema, default=str)) > _MAX_CHARACTERS:
        return False
    counts = {"properties": 0, "enum": 0}
    return _fits(schema, schema, counts, depth=0)


def _fits(schema: object, root: Mapping[str, Any], counts: dict[str, int], depth: int) -> bool:
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH or not set(schema) <= _ALLOWED:
        return False
    if not set(schema) & {"type", "anyOf", "$ref"}:
        return False  # anything at all, or values of several types
    if "$ref" in schema and (len(schema) > 1 or not _is_known(schema["$ref"], root)):
        return False  # the API takes nothing beside a reference
    if "format" in schema and schema["format"] not in _FORMATS:
        return False
    if any(part in str(schema.get("pattern", "")) for part in _NOT_REGULAR):
        return False
    values = schema.get("enum", ())
    counts["enum"] += len(values)
    if len(values) > _LARGE_ENUM and sum(len(str(value)) for value in values) > _MAX_ENUM_CHARACTERS:
        return False
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if ("object" in kinds or "properties" in schema) and not _is_closed(schema):
        return False
    if "array" in kinds and "items" not in schema:
        return False
    properties = list(schema.get("properties", {}).values())
    counts["properties"] += len(properties)
    if counts["properties"] > _MAX_PROPERTIES or counts["enum"] > _MAX_ENUM:
        return False
    named = [inner for key in ("$defs", "definitions") for inner in schema.get(key, {}).values()]
    below = [*properties, *([schema["items"]] if "items" in schema else [])]
    return (
        all(_fits(inner, root, counts, depth + 1) for inner in below)
        and all(_fits(inner, root, counts, depth) for inner in schema.get("anyOf", ()))
        and all(_fits(inner, root, counts, 0) for inner in named)
    )


def _is_closed(schema: Mapping[str, Any]) -> bool:
    """Whether an object names all it has: no others allowed, and all of them required."""
    properties = schema.get("properties", {})
    closed = schema.get("additionalProperties") is False
    return closed and isinstance(properties, Mapping) and set(properties) == set(schema.get("required", ()))


def _is_known(ref: object, root: Mapping[str, Any]) -> bool:
    if ref == "#":
        return True
    parts = str(ref).split("/")
    if len(parts) != 3 or parts[0] != "#":  # noqa: PLR2004 # as in "#/$defs/Name"
        return False
    return parts[2].replace("~1", "/").replace("~0", "~") in root.get(parts[1], {})
