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
    has_as_many = len(given) == len(shown)
    keys = [_key(part) for part in shown]
    wanted = [_key(part) for part in given]
    found = {at: original[at] for at, key in enumerate(wanted) if has_as_many and key == keys[at]}
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        if place not in found:
            places.setdefault(key, []).append(place)
    # Where rows look the same and are not, nobody knows which one was kept.
    known = {
        key: like for key, like in places.items() if all(original[one] == original[like[0]] for one in like)
    }
    moved: set[int] = set()
    for at, key in enumerate(wanted):
        if at not in found and known.get(key):
            moved.add(place := known[key].pop())
            found[at] = original[place]
    for at, value in enumerate(given):
        if at not in found:
            stays = has_as_many and at not in moved
            found[at] = _restored(value, shown[at], original[at]) if stays else value
    return [found[at] for at in range(len(given))]


def _key(part: Any) -> str:
    """Return the same for parts that are the same, at every depth, to a browser that has only floats."""
    return json.dumps(_in_a_browser(part), sort_keys=True)


def _in_a_browser(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _in_a_browser(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_in_a_browser(value) for value in part]
    if type(part) is not int:
        return part
    try:
        return float(part)
    except OverflowError:
        return part


def _is_same(given: Any, shown: Any) -> bool:
    if type(given) in {int, float} and type(shown) in {int, float}:
        try:
            return float(given) == float(shown)  # a browser has no other numbers
        except OverflowError:
            return bool(given == shown)
    return type(given) is type(shown) and bool(given == shown)
