# SPDX-License-Identifier: Apache-2.0
"""Checks of what names a run or a thread: slips of templates and XComs are refused, and nothing is sent."""

from __future__ import annotations

import re

from airflow_provider_openai_runs.runs.checks import MAX_SHOWN, from_a_template
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.text import is_id, message_text

#: Keys that the result of a task of this package has, and neither a prompt nor an id.
_WHOLE_RESULT = frozenset({"ref", "output_text", "usage"})
#: A part of a URL's path that leads elsewhere.
_NO_ID = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")


def check_is_no_result(name: str, value: object, *, meant: str) -> None:
    """
    Refuse the whole result of a task of this package where one value of it belongs.

    :param meant: the key of that value.
    :raises RunRequestError: naming the key.
    """
    if isinstance(value, dict) and value.keys() >= _WHOLE_RESULT:
        raise RunRequestError(
            f"{name} is the whole result of a run, its usage and its ref among it: give the value that is "
            f"meant, task.output[{meant!r}]. Nothing was sent."
        )


def named_id(name: str, value: object, *, of: str = "run") -> str:
    """
    Require an id; a template that has rendered to nothing would be asked for, and is not found.

    :param name: of the argument.
    :raises RunRequestError: saying what is wrong with it.
    """
    check_is_no_result(name, value, meant="thread_id" if of == "thread" else "id")
    if isinstance(value, str) and is_id(value) and value != "None" and not _NO_ID.search(value):
        return value
    shown = message_text(repr(value), limit=MAX_SHOWN)
    raise RunRequestError(
        f"{name}={shown}: must be the id of a {of}{from_a_template(value)}. Nothing was sent."
    )
