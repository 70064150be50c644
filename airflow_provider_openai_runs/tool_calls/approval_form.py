# SPDX-License-Identifier: Apache-2.0
"""What a person enters on the approval page, compared with what was shown and with what the model wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.runs.plain import MAX_DEPTH


def arguments_of(call: ToolCall) -> dict[str, Any] | None:
    """Return the arguments that the model wrote; None if they are no JSON object."""
    try:
        found = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_exact(text: str) -> bool:
    """Whether what Python reads of a JSON text is all that stands there, and the only way to read it."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found) != len(dict(found)):
            raise ValueError("a name stands twice")
        return dict(found)

    def decimal(literal: str) -> float:
        if Decimal(literal) != Decimal(repr(float(literal))):
            raise ValueError("no float")
        return float(literal)

    def constant(literal: str) -> float:
        raise ValueError(literal)

    try:
        read = json.loads(text, object_pairs_hook=pairs, parse_float=decimal, parse_constant=constant)
    except (ValueError, ArithmeticError, RecursionError):
        return False
    return not _is_deeper_than(read, MAX_DEPTH)


def _is_deeper_than(value: Any, levels: int) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper_than(part, levels - 1) for part in parts)


def entered(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form's values; some pages send a field that nobody touched as its whole description."""
    return {
        name: value["value"]
        if isinstance(value, Mapping) and {"value", "schema", "description"} <= set(value)
        else value
        for name, value in (event.get("params_input") or {}).items()
    }


def changed(given: Any, shown: Any, original: Any) -> Any:
    """
    Return the arguments to use in place of the model's, or None where a person left them as they were.

    :param given: what came back from the form.
    :param shown: what stood in the form: secrets masked.
    :param original: what the model wrote.
    """
    merged = _restored(given, shown, original)
    is_same = json.dumps(merged, sort_keys=True) == json.dumps(original, sort_keys=True)
    return None if is_same else merged


def _restored(given: Any, shown: Any, original: Any) -> Any:
    """Put the model's own values where a person left what was shown: masked, or rounded by the browser."""
    if isinstance(given, dict) and isinstance(shown, dict) and isinstance(original, dict):
        return {
            key: _restored(value, shown[key], original[key]) if key in shown and key in original else value
            for key, value in given.items()
        }
    if isinstance(given, list) and isinstance(shown, list) and isinstance(original, list):
        return _restored_list(given, shown, original)
    return original if _is_same(given, shown) else given


def _restored_list(given: list[Any], shown: list[Any], original: list[Any]) -> list[Any]:
    """Know a row by its place, or by what it is: rows may have been removed, added or moved."""
    left = dict(enumerate(zip(shown, original, strict=False)))
    found: dict[int, Any] = {}
    has_as_many = len(given) == len(shown)
    for at, value in enumerate(given if has_as_many else ()):
        if _is_alike(value, shown[at]):
            found[at] = _restored(value, *left.pop(at))
    for at, value in enumerate(given):
        alike = [] if at in found else [place for place in left if _is_alike(value, left[place][0])]
        # Where rows look the same and are not, nobody knows which one was kept.
        if alike and all(left[place][1] == left[alike[0]][1] for place in alike):
            found[at] = _restored(value, *left.pop(alike[0]))
    for at, value in enumerate(given):
        if at not in found:
            found[at] = _restored(value, *left[at]) if has_as_many and at in left else value
    return [found[at] for at in range(len(given))]


def _is_alike(given: Any, shown: Any) -> bool:
    """Whether a part of the form is as it was shown, at every depth."""
    if isinstance(given, dict) and isinstance(shown, dict):
        return set(given) == set(shown) and all(_is_alike(given[key], shown[key]) for key in given)
    if isinstance(given, list) and isinstance(shown, list):
        return len(given) == len(shown) and all(map(_is_alike, given, shown))
    return _is_same(given, shown)


def _is_same(given: Any, shown: Any) -> bool:
    if type(given) in {int, float} and type(shown) in {int, float}:
        try:
            return float(given) == float(shown)  # a browser has no other numbers
        except OverflowError:
            return bool(given == shown)
    return type(given) is type(shown) and bool(given == shown)
