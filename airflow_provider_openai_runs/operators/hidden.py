# SPDX-License-Identifier: Apache-2.0
"""
Rendered arguments that Airflow does not get to see: it stores those of every task, and shows them.

``Hidden`` is what stands in their place from the rendering on; the text is back while the task asks for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.runs.errors import RunRequestError

#: Template fields that say where and how, and never what. All others may be a prompt, also those to come.
SHOWN = frozenset(
    {
        *("conn_id", "completion_window", "output_path", "ref", "model", "assistant_id", "thread_id"),
        *(
            "conversation",
            "previous_response_id",
            "background_options",
            "service_tier",
            "include",
            "reasoning",
        ),
        *("truncation", "context_management", "truncation_strategy", "prompt_cache_retention", "tool_choice"),
    }
)


@dataclass(frozen=True, slots=True, repr=False)
class Hidden:
    """A value of which Airflow learns the size and a hash."""

    value: Any

    def serialize(self) -> str:
        """Return what Airflow stores."""
        value = self.value
        written = (
            value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
        ).encode("utf-8", "surrogatepass")
        return f"{len(written)} bytes, sha256 {hashlib.sha256(written).hexdigest()} (text_in_xcom=0)"

    __str__ = __repr__ = serialize


def hide(operator: Any, names: Iterable[str]) -> None:
    """Put a ``Hidden`` in place of each text among these attributes, and of each object that may hold one."""
    for name in names:
        value = getattr(operator, name, None)
        if name not in SHOWN and value and not isinstance(value, (bool, int, float, Hidden)):
            setattr(operator, name, Hidden(value))


@contextmanager
def revealed(operator: Any, names: Iterable[str]) -> Iterator[None]:
    """Put the values back for as long as the block lasts."""
    hidden = {name: value for name in names if isinstance(value := getattr(operator, name, None), Hidden)}
    for name, value in hidden.items():
        setattr(operator, name, value.value)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(operator, name, value)


def without_values(error: RunRequestError) -> RunRequestError:
    """Return the error for an argument that cannot be sent, without its value, which may be a prompt."""
    name = re.split(r"[^\w\[\]']", str(error), maxsplit=1)[0]
    return RunRequestError(
        f"{name} cannot be sent, and text_in_xcom=0 withholds what is wrong with it: that shows the value. "
        "Run the task once with another value, and without text_in_xcom. Nothing was sent."
    )
