# SPDX-License-Identifier: Apache-2.0
"""
The secrets in a model's arguments, masked as Airflow masks them elsewhere: at every depth, in every reading.

Airflow masks what it knows as a secret, wherever it stands, and any text behind a name such as ``password``.
"""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.common.compat.sdk import redact

from airflow_provider_openai_runs.runs.plain import MAX_DEPTH

#: What stands in place of a secret.
MASK = "***"


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, one that stands twice among them."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def masked_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Mask arguments that JSON reads in one way, at most ``MAX_DEPTH`` levels deep."""
    found: Any = redact(arguments, max_depth=MAX_DEPTH + 2)
    return dict(found)


def masked_text(text: str) -> str:
    """
    Mask arguments that programs read differently, or that are no object.

    Where a name says that a secret stands behind it, they are written anew, else they stay as they are.
    """
    try:
        read = json.loads(
            text, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_Number
        )
        masked = _written(read, masks=True)
        known = text if masked == _written(read, masks=False) else masked
    except (ValueError, RecursionError):
        known = text
    return masked_line(known)


def masked_line(text: str) -> str:
    """Mask what Airflow knows as a secret, in any text."""
    return str(redact(text))


def has_mask(edited: Any, original: Any) -> bool:
    """Whether a mask would be sent in place of the secret that it stands for."""
    known = set(_texts(original))
    return any(MASK in text and text not in known for text in _texts(edited))


def _written(value: Any, *, masks: bool, name: str | None = None) -> str:
    if isinstance(value, _Pairs):
        members = (
            f"{json.dumps(key, ensure_ascii=False)}: "
            f"{_written(part, masks=masks, name=name if _hides(name) else key)}"
            for key, part in value
        )
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_written(part, masks=masks, name=name) for part in value)}]"
    if isinstance(value, _Number):
        return str(value)
    return json.dumps(redact(value, name=name) if masks else value, ensure_ascii=False)


def _hides(name: str | None) -> bool:
    return name is not None and redact("text", name=name) != "text"


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]
