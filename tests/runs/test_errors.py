# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pytest

from airflow_provider_openai_runs.runs import errors
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError, RunRequestError

CLASSES = [
    item
    for item in vars(errors).values()
    if isinstance(item, type) and issubclass(item, OpenAIRunError) and item is not OpenAIRunError
]
#: For these a retry would meet the same end, or pay twice.
FINAL = {
    "RunRequestError",
    "RunConnectionError",
    "RunNotFoundError",
    "ThreadsNotServedError",
    "LostCreateError",
    "CeilingReachedError",
    "RunCancelledError",
    "RunIncompleteError",
    "ToolCallsPendingError",
}


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    above = ""
    for mark, name in re.findall(r"^ +([x-]) (\w+)", errors.__doc__ or "", flags=re.MULTILINE):
        above = name if mark == "x" else above
        drawn[name] = "OpenAIRunError" if mark == "x" else above
    assert drawn == {item.__name__: item.__mro__[1].__name__ for item in CLASSES}


@pytest.mark.parametrize("error", CLASSES)
def test_each_error_says_whether_a_retry_can_help(error: type[OpenAIRunError]) -> None:
    assert error("x").retryable == (error.__name__ not in FINAL)


def test_one_error_may_say_otherwise_without_changing_its_class() -> None:
    assert not RunCallError("x", retryable=False).retryable
    assert RunCallError("x", retry_after=3).retry_after == 3
    assert RunCallError("x").retryable
    assert RunCallError("x").retry_after is None


def test_what_is_known_of_a_run_stays_with_its_error_whatever_the_text() -> None:
    error = RunCallError("x", retry_after=3).about(ref={"kind": "response", "id": "resp_1"}, status="failed")
    again = error.about(status="queued", url="https://x").saying("y", retryable=False)

    assert (str(again), again.retryable, again.retry_after) == ("y", False, 3)
    assert (again.ref, again.status, again.url, again.usage) == (error.ref, "failed", "https://x", None)


def test_a_wrong_argument_is_a_value_error_as_well() -> None:
    assert issubclass(RunRequestError, ValueError)
