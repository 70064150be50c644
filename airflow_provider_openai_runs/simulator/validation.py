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
            message = f"Invalid value: '{value}'. Supported values are: {_listed(values)}."
            raise ApiError(message, param=name, code="invalid_value")

    return inspect


def _listed(values: tuple[str, ...]) -> str:
    """Write a list of values as the API does."""
    quoted = [f"'{value}'" for value in values]
    if len(quoted) < 3:  # noqa: PLR2004 - from three on there are commas
        return " and ".join(quoted)
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"


def mapping_or_one_of(*values: str) -> Check:
    """Accept an object, or one of these strings."""
    inspect_type, inspect_value = of_type(str, dict), one_of(*values)

    def inspect(name: str, value: Any) -> None:
        inspect_type(name, value)
        if isinstance(value, str):
            inspect_value(name, value)

    return inspect


def fields(name: str, value: Any, required: tuple[str, ...]) -> None:
    """Accept an object that has all of these fields."""
    mapping(name, value)
    for field in required:
        if value.get(field) is None:
            raise missing(f"{name}.{field}")


def tagged(name: str, value: Any, required: Mapping[str, tuple[str, ...]]) -> None:
    """Accept an object whose type is a key of `required` and that has the fields named there."""
    fields(name, value, ("type",))
    one_of(*required)(f"{name}.type", value["type"])
    fields(name, value, required[value["type"]])


def schema_format(name: str, value: Any, required: tuple[str, ...]) -> None:
    """Accept a format of text; one of a JSON Schema has more fields."""
    tagged(name, value, {"json_object": (), "json_schema": required, "text": ()})


def model(name: str, value: Any) -> None:
    """Accept any model, except those that are called `no-such-...` so that a test can ask for a wrong one."""
    string(name, value)
    if not value:
        raise missing(name)
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


string = of_type(str)
boolean = of_type(bool)
mapping = of_type(dict)
