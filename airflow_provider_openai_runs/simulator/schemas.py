# SPDX-License-Identifier: Apache-2.0
"""A plain instance of a JSON Schema of the kind that structured outputs and functions have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_DEEP = 8
_DEEPEST = 60
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "P1D",
    "email": "simulated@example.com",
    "hostname": "simulated.example",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://simulated.example/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance_of(schema: Any) -> Any:
    """Make up a value that fits a schema, always the same one.

    Knows types, `enum`, `const`, `anyOf`, references, required and other properties, numbers of items,
    bounds of numbers, lengths and formats of strings; of patterns and conditions it knows nothing.

    :raises ValueError: when the schema allows no value that ends.
    """
    return _value(schema, schema, 0)


def _value(schema: Any, root: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("The schema contains itself without an end.")
    if not isinstance(schema, Mapping):
        return "simulated"
    if "$ref" in schema:
        return _value(_resolved(schema["$ref"], root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return _value(_chosen(schema[union], depth), root, depth + 1)
    return _of_type(_type(schema), schema, root, depth)


def _of_type(kind: str, schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    match kind:
        case "object":
            shown = schema.get("properties", {})
            if depth > _DEEP:
                shown = {name: shown.get(name) for name in schema.get("required", ())}
            return {name: _value(part, root, depth + 1) for name, part in shown.items()}
        case "array":
            usual = 1 if depth <= _DEEP else 0
            length = min(max(schema.get("minItems", 0), usual), schema.get("maxItems", math.inf))
            return [_value(schema.get("items"), root, depth + 1) for _ in range(length)]
        case "integer":
            return _integer(schema)
        case "number":
            return _number(schema)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema)


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    return str(kind or ("object" if "properties" in schema else "string"))


def _resolved(reference: str, root: Any) -> Any:
    """Follow a reference within the schema, such as `#/$defs/Node`."""
    found = root
    for name in reference.removeprefix("#").split("/")[1:]:
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


def _chosen(options: list[Any], depth: int) -> Any:
    """Choose the first option that is a value; deep inside the one that leads no deeper."""
    nothing = {"type": "null"}
    if depth > _DEEP:
        return nothing if nothing in options else min(options, key=lambda one: "$ref" in one)
    return next((one for one in options if one != nothing), nothing)


def _integer(schema: Mapping[str, Any]) -> int:
    least = max(
        math.ceil(schema["minimum"]) if "minimum" in schema else -math.inf,
        math.floor(schema["exclusiveMinimum"]) + 1 if "exclusiveMinimum" in schema else -math.inf,
    )
    most = min(
        math.floor(schema["maximum"]) if "maximum" in schema else math.inf,
        math.ceil(schema["exclusiveMaximum"]) - 1 if "exclusiveMaximum" in schema else math.inf,
    )
    step = schema.get("multipleOf", 1)
    value = min(max(1, least), most)
    upwards = math.ceil(value / step) * step
    return int(upwards if upwards <= most else math.floor(value / step) * step)


def _number(schema: Mapping[str, Any]) -> float:
    least = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    most = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    if least < 1 < most:
        return 1.0
    if math.isinf(most):
        return float(least + 1)
    return float(most - 1 if math.isinf(least) else (least + most) / 2)


def _string(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(schema.get("format", ""), "simulated")
    padded = text.ljust(schema.get("minLength", 0), ".")
    return padded[: schema.get("maxLength")]
