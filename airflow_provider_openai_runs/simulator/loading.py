# SPDX-License-Identifier: Apache-2.0
"""Reading scenarios and faults from JSON, with errors that name what is wrong."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def arguments_of(cls: type[DataclassInstance], data: Any) -> dict[str, Any]:
    """Check that `data` is an object with the fields of `cls`, and give it as keyword arguments.

    A misspelt key that is silently ignored would make a test pass for the wrong reason.

    :raises ValueError: naming the unknown and the missing keys.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{cls.__name__}: expected a JSON object, got {type(data).__name__}.")  # noqa: TRY004 - input
    known = {field.name for field in fields(cls)}
    required = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"{cls.__name__}: unknown keys {unknown}; known are {sorted(known)}.")
    if missing := sorted(required - set(data)):
        raise ValueError(f"{cls.__name__}: missing keys {missing}.")
    return dict(data)
