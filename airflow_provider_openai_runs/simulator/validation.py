# SPDX-License-Identifier: Apache-2.0
"""Refusing what the API refuses: unknown and missing parameters, wrong types, values out of range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_openai_runs.simulator.errors import ApiError, missing, no_such_model

Check = Callable[[str, Any], None]
"""Raises ApiError if the value of the named parameter is refused; None never gets that far."""

_TYPE_NAMES: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_METADATA_PAIRS = 16
_METADATA_KEY = 64
_METADATA_VALUE = 512


def check(
    body: Mapping[str, Any], parameters: Mapping[str, Check], *, required: tuple[str, ...] = ()
) -> None:
    """Check a request body against its parameters; a null counts as absent."""
    for name in body:
        if name not in parameters:
            raise ApiError(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    for name in required:
        if body.get(name) is None:
            raise missing(name)
    if body.get("stream") is True:
        raise ApiError("The simulator does not stream: send stream=false and poll.", param="stream")
    for name, value in body.items():
        if value is not None:
            parameters[name](name, value)


def anything(name: str, value: Any) -> None:
    """Accept every value."""


def of_type(*types: type) -> Check:
    """Accept values of these JSON types."""

    def inspect(name: str, value: Any) -> None:
        if type(value) not in types:
            wanted = " or ".join(_TYPE_NAMES[kind] for kind in types)
            got = _TYPE_NAMES[type(value)]
            message = f"Invalid type for '{name}': expected {wanted}, but got {got} instead."
            raise ApiError(message, param=name, code="invalid_type")

    return inspect


def number(least: float, most: float | None = None, *, integer: bool = False) -> Check:
    """Accept numbers within a range, integers only where asked."""
    kind = "integer" if integer else "decimal"
    inspect_type = of_type(int) if integer else of_type(int, float)

    def inspect(name: str, value: Any) -> None:
        inspect_type(name, value)
        if value < least:
            limit, suffix = f">= {least:g}", "below_min"
        elif most is not None and value > most:
            limit, suffix = f"<= {most:g}", "above_max"
        else:
            return
        where = "below minimum" if suffix == "below_min" else "above maximum"
        message = (
            f"Invalid '{name}': {kind} {where} value. Expected a value {limit}, but got {value} instead."
        )
        raise ApiError(message, param=name, code=f"{kind}_{suffix}_value")

    return inspect


def array(most: int | None = None, item: Check = anything) -> Check:
    """Accept an array of at most `most` items that each pass `item`."""

    def inspect(name: str, value: Any) -> None:
        of_type(list)(name, value)
        if most is not None and len(value) > most:
            message = (
                f"Invalid '{name}': array too long. Expected an array with maximum length {most}, "
                f"but got an array with length {len(value)} instead."
            )
            raise ApiError(message, param=name, code="array_above_max_length")
        for index, element in enumerate(value):
            item(f"{name}[{index}]", element)

    return inspect


def one_of(*values: str) -> Check:
    """Accept one of these strings."""

    def inspect(name: str, value: Any) -> None:
        if value not in values:
            supported = ", ".join(f"'{known}'" for known in values)
            message = f"Invalid value: '{value}'. Supported values are: {supported}."
            raise ApiError(message, param=name, code="invalid_value")

    return inspect


def model(name: str, value: Any) -> None:
    """Accept any model, except those that are called `no-such-...` so that a test can ask for a wrong one."""
    string(name, value)
    if value.startswith("no-such-"):
        raise no_such_model(value)


def metadata(name: str, value: Any) -> None:
    """Accept up to 16 pairs of strings, keys of 64 and values of 512 characters at most."""
    mapping(name, value)
    if len(value) > _METADATA_PAIRS:
        message = (
            f"Invalid '{name}': too many properties. Expected an object with at most {_METADATA_PAIRS} "
            f"properties, but got an object with {len(value)} properties instead."
        )
        raise ApiError(message, param=name, code="object_above_max_properties")
    for key, text in value.items():
        where = f"{name}.{key}"
        string(where, text)
        for what, length, most in (("key", len(key), _METADATA_KEY), ("value", len(text), _METADATA_VALUE)):
            if length > most:
                message = (
                    f"Invalid '{where}': {what} too long. Expected a string with maximum length {most}, "
                    f"but got a string with length {length} instead."
                )
                raise ApiError(message, param=where, code="string_above_max_length")


def message(name: str, value: Any) -> None:
    """Accept a thread message: a role and content."""
    mapping(name, value)
    for field in ("role", "content"):
        if not value.get(field):
            raise missing(f"{name}.{field}")
    one_of("user", "assistant")(f"{name}.role", value["role"])
    of_type(str, list)(f"{name}.content", value["content"])
    if value.get("metadata") is not None:
        metadata(f"{name}.metadata", value["metadata"])


def thread_tool(name: str, value: Any) -> None:
    """Accept a tool of the Assistants API: functions are nested there."""
    mapping(name, value)
    one_of("code_interpreter", "file_search", "function")(f"{name}.type", value.get("type"))
    if value["type"] == "function":
        function = value.get("function")
        if not isinstance(function, dict) or not function.get("name"):
            raise missing(f"{name}.function.name")


def response_tool(name: str, value: Any) -> None:
    """Accept a tool of the Responses API: functions are flat there."""
    mapping(name, value)
    if not value.get("type"):
        raise missing(f"{name}.type")
    if value["type"] == "function" and not value.get("name"):
        raise missing(f"{name}.name")


string = of_type(str)
boolean = of_type(bool)
mapping = of_type(dict)
