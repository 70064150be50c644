# SPDX-License-Identifier: Apache-2.0
"""The rules for schemas that a model has to follow strictly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_openai_runs.simulator.errors import ApiError

_INSIDE = ("properties", "$defs", "definitions")
_ALL_REQUIRED = "'required' is required to be supplied and to be an array including every key in properties."


def check_strict(schema: Any, what: str, *, param: str, code: str | None = None) -> None:
    """Refuse a schema with an object that is open or that has optional properties.

    :param what: how the error names the owner of the schema.
    :raises ApiError: 400, with `param` and `code`.
    """
    for context, complaint in _complaints(schema, ()):
        message = f"Invalid schema for {what}: In context={context}, {complaint}"
        raise ApiError(message, param=param, code=code)


def _complaints(schema: Any, context: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            yield context, "'additionalProperties' is required to be supplied and to be false."
        if lacking := [
            name for name in schema.get("properties", {}) if name not in schema.get("required", ())
        ]:
            yield context, f"{_ALL_REQUIRED} Missing '{lacking[0]}'."
    for name in _INSIDE:
        for key, part in schema.get(name, {}).items():
            yield from _complaints(part, (*context, name, key))
    yield from _complaints(schema.get("items"), (*context, "items"))
    for index, part in enumerate(schema.get("anyOf", ())):
        yield from _complaints(part, (*context, "anyOf", str(index)))
