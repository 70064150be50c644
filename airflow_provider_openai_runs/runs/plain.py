# SPDX-License-Identifier: Apache-2.0
"""Any value as JSON that every database and Airflow's own encoders take."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.runs.text import encodable

#: JSON nested deeper than this is cut in XCom; Python's own JSON gives up at some hundreds.
MAX_DEPTH = 100
#: The integers that MessagePack, and with it Airflow's supervisor, takes: signed or unsigned 64 bits.
_INTEGERS = range(-(2**63), 2**64)
#: Keys by which Airflow marks its own objects (``airflow.sdk.serde``, ``Encoding`` of
#: ``airflow.serialization``): a dict with one of them is refused when it is pushed, or read as a live object.
RESERVED_KEYS = frozenset(
    {
        *("__classname__", "__version__", "__data__", "__id__", "__cache__"),
        *("__type", "__var", "__source"),
    }
)


def plain(value: Any, *, reserves_keys: bool = True) -> Any:
    """
    Return a value as JSON that every database and Airflow's own encoders take.

    NUL and lone surrogates (PostgreSQL refuses both) become U+FFFD, NaN and infinities None, an integer
    beyond 64 bits its decimal text, a dict with one of Airflow's ``RESERVED_KEYS`` its JSON as text, and what
    is nested deeper than ``MAX_DEPTH`` an ellipsis.

    :param reserves_keys: false where the value is carried as text, in which Airflow looks for no keys.
    """
    return _plain(value, reserves_keys, 0)


def _plain(value: Any, reserves_keys: bool, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, int):
        return value if value in _INTEGERS else _digits(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= MAX_DEPTH:
        return "…"
    if dataclasses.is_dataclass(value):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, (dict, Mapping)):
        found = {encodable(str(key)): _plain(item, reserves_keys, depth + 1) for key, item in value.items()}
        is_free = not reserves_keys or RESERVED_KEYS.isdisjoint(found)
        return found if is_free else json.dumps(found, ensure_ascii=False)
    return [_plain(item, reserves_keys, depth + 1) for item in value]


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # thousands of digits
        return hex(value)
