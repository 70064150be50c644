# SPDX-License-Identifier: Apache-2.0
"""The columns of a table as arguments: each has a name of its own, and an object stands there as its JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, get_args, get_origin, get_type_hints

from airflow_provider_openai_runs.runs.create_arguments import ResponseArguments
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.text import message_text

_ARGUMENTS = frozenset({*get_type_hints(ResponseArguments), "custom_id"})
#: Arguments that are objects, or lists that are no prompt: nothing else can be meant by their JSON.
_OBJECTS = frozenset(
    name
    for name, hint in get_type_hints(ResponseArguments).items()
    if any(get_origin(kind) in {Mapping, Sequence} for kind in get_args(hint))
)


def check_columns(names: Iterable[str]) -> None:
    """
    Refuse a table with two columns for one argument: every row would lose a value. Of others nobody may ask.

    :raises RunRequestError: naming the column.
    """
    if twice := [name for name, times in Counter(names).items() if times > 1 and name in _ARGUMENTS]:
        raise RunRequestError(
            f"The table has more than one column {message_text(twice[0])!r}: which of them is meant? "
            "Nothing was sent."
        )


def with_objects(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a row, read from its JSON text where one is an object: a table holds text."""
    written = [name for name in _OBJECTS & values.keys() if isinstance(values[name], str)]
    return {**values, **{name: _object_in(values[name]) for name in written}} if written else values


def _object_in(text: str) -> Any:
    with suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(text), (dict, list)):
            return found
    return text
