# SPDX-License-Identifier: Apache-2.0
"""What a task was given, as the JSON that is sent: made once, before anything is on record or sent."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import os
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.text import encodable, message_text

#: JSON nested deeper than this is refused; a value that contains itself has no end.
MAX_DEPTH = 100
#: A whole decimal of more digits than this is sent as text: no server reads such a number.
_MAX_DIGITS = 18
#: Longer integers are refused: Python itself does not write integers of more than 4,300 digits.
_MAX_BITS = 14_000
#: So much of a key, and of a whole place, is shown in an error.
_MAX_KEY = 60
_MAX_NAME = 200


def as_json(name: str, value: object) -> Any:
    """
    Return a value as JSON of plain dicts, lists, text, numbers, true, false and null.

    Text keeps what it says, but NUL and lone surrogates become U+FFFD. ``docs/how-to/create-response.md`` has
    the rules for everything else that Airflow and its users hand on.

    :param name: how an error names the value, such as ``input[0]['content']``.
    :raises RunRequestError: for what JSON has no form for; it names the place.
    """
    return _convert(name, value, 0)


def _convert(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _convert(name, value.value, depth)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, numbers.Number):
        return _number(name, value)
    if depth >= MAX_DEPTH:
        rule = f"is nested deeper than {MAX_DEPTH} levels, or contains itself"
        raise checks.invalid(name[:_MAX_NAME], value, rule)
    if isinstance(value, Mapping):
        return _object(name, value, depth)
    if isinstance(value, (datetime, date, time, timedelta)):
        return _time(name, value)
    if isinstance(value, (UUID, os.PathLike)):
        return encodable(str(value))
    return _other(name, value, depth)


def _other(name: str, value: Any, depth: int) -> Any:
    if isinstance(value, (set, frozenset)):
        # In an order that a retry finds again.
        value = sorted(value, key=lambda item: (type(item).__name__, str(item)))
    elif (unwrap := _unwrapper(value)) is not None:
        try:
            unwrapped = unwrap()
        except Exception as error:  # noqa: BLE001 # whatever a class of the user raises
            rule = f"could not be turned into JSON ({type(error).__name__}: {message_text(error)})"
            raise checks.invalid(name, value, rule) from None
        return _convert(name, unwrapped, depth + 1)
    elif not _is_list_like(value):
        rule = f"JSON has no form for a {type(value).__name__}; give text, numbers, lists or dicts"
        raise checks.invalid(name, value, rule)
    # What Airflow raises while it reads a lazy sequence is no fault of the argument.
    return [_convert(f"{name}[{place}]", item, depth + 1) for place, item in enumerate(value)]


def _unwrapper(value: Any) -> Callable[[], Any] | None:
    """Return what turns a value into the dict, list or scalar that it stands for."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        return lambda: {item.name: getattr(value, item.name) for item in dataclasses.fields(kind)}
    if callable(getattr(kind, "model_dump", None)):  # pydantic
        # The SDK's own models would name every field that a server did not send, too.
        is_of_sdk = kind.__module__.partition(".")[0] == "openai"
        return lambda: value.model_dump(mode="json", exclude_unset=is_of_sdk)
    if (fields := getattr(kind, "__attrs_attrs__", None)) is not None and not isinstance(value, Collection):
        return lambda: {item.name: getattr(value, item.name) for item in fields}
    if callable(getattr(kind, "tolist", None)):  # numpy, pandas
        return partial(kind.tolist, value)
    return None


def _is_list_like(value: object) -> bool:
    """Whether it has a number of items in an order; a table of pandas has its columns in their place."""
    return (
        isinstance(value, Collection)
        and not isinstance(value, (bytes, bytearray, memoryview, type))
        and not hasattr(value, "columns")
    )


def _text(value: str) -> str:
    # A subclass of text may show itself as something else.
    return encodable(str.__str__(value))


def _object(name: str, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        text = _key(name, key, depth)
        if text in found:
            raise checks.invalid(name, dict(value), f"has two keys that are {text!r} in JSON")
        found[text] = _convert(f"{name}[{message_text(repr(key), limit=_MAX_KEY)}]", item, depth + 1)
    return found


def _key(name: str, key: object, depth: int) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return _text(key)
    plain = _convert(f"a key of {name}", key, depth + 1)
    if isinstance(plain, (dict, list)):
        raise checks.invalid(f"a key of {name}", key, "must be text")
    return plain if isinstance(plain, str) else json.dumps(plain)


def _number(name: str, value: Any) -> int | float | str:
    if isinstance(value, numbers.Integral):
        whole = int(value)
        if whole.bit_length() > _MAX_BITS:
            raise checks.invalid(name, f"{whole.bit_length()} bits", "is too large for a number of JSON")
        return whole
    if isinstance(value, Decimal):
        return _decimal(name, value)
    if isinstance(value, numbers.Real) and math.isfinite(found := _as_float(value)):
        return found
    raise checks.invalid(name, value, "is not a finite number, which is all that JSON has")


def _as_float(value: numbers.Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _decimal(name: str, value: Decimal) -> int | float | str:
    """Return the number where it loses no digit, else its text."""
    if not value.is_finite():
        raise checks.invalid(name, value, "is not a finite number, which is all that JSON has")
    if abs(value.adjusted()) > _MAX_DIGITS:
        return str(value)
    if value == value.to_integral_value():
        return int(value)
    found = float(value)
    return found if Decimal(repr(found)) == value else str(value)


def _time(name: str, value: date | time | timedelta) -> str | float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    text = value.isoformat()
    if not text[:1].isdigit():  # such as pandas' "NaT"
        raise checks.invalid(name, value, "is no point in time")
    return text
