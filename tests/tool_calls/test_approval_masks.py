# SPDX-License-Identifier: Apache-2.0
"""No secret of a call is on its approval page, and none is lost where a person edits around it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import mask_secret

from airflow_provider_openai_runs.runs.model import RunRef, ToolCall
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.tool_calls import approval_text
from airflow_provider_openai_runs.tool_calls.approval_form import changed
from airflow_provider_openai_runs.tool_calls.approval_shown import ShownCall

RUN = RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="openai_default")
TI = SimpleNamespace(dag_id="shop", task_id="ask")


def shown_of(arguments: str) -> ShownCall:
    return ShownCall.of(ToolCall(id="c", name="join", arguments=arguments))


def page(shown: ShownCall) -> str:
    """Return all that stands on the page of a call: title, text and form."""
    title = approval_text.subject(None, ti=TI, calls=[shown], deadline=None)
    body = approval_text.body(
        ti=TI, ref=RUN, calls=[shown], page="abc", words=None, deadline=None, afterwards="none is made"
    )
    return "\n".join((title, body, json.dumps(shown.editable)))


def nested(value: Any, levels: int) -> Any:
    for number in range(levels):
        value = {"k": value} if number % 2 else [value]
    return value


@pytest.mark.parametrize(
    "arguments",
    [
        json.dumps({"deep": nested({"password": "hunter2hunter2"}, 40)}),
        '{"a": 1, "a": 2, "password": "hunter2hunter2"}',
        r'{"password": "hunter2hunter2", "password": "\u0068unter2hunter2"}',
        '{"a": 1e400, "password": {"of": ["hunter2hunter2"]}}',
        '[{"password": "hunter2hunter2"}]',
    ],
)
def test_a_secret_is_masked_at_any_depth_and_in_any_reading(arguments: str) -> None:
    found = page(shown_of(arguments))

    assert "unter2" not in found
    assert "*** stands for a value" in found


@pytest.mark.parametrize(
    "arguments", [{"to": nested("S3cretOfOurs9", 12)}, {"S3cretOfOurs9": 1}, {"id": 918273645546}]
)
def test_what_airflow_knows_as_a_secret_is_masked_wherever_it_stands(arguments: dict[str, Any]) -> None:
    for secret in ("S3cretOfOurs9", "918273645546"):
        mask_secret(secret)
    found = page(shown_of(json.dumps(arguments)))

    assert "S3cretOfOurs9" not in found
    assert "918273645546" not in found
    assert "*** stands for a value" in found


@pytest.mark.parametrize(
    "arguments", ["{}", '{"a": 1, "a": 2}', '{"a": 1e400}', "[1.50, null]", "no JSON", ""]
)
def test_where_there_is_no_secret_nothing_is_masked_or_written_anew(arguments: str) -> None:
    found = page(shown_of(arguments))

    assert arguments in found
    assert "***" not in found.replace("**Approve**", "").replace("**Reject**", "")


USERS = [{"user": user, "password": f"of-{user}-{user}"} for user in "abc"]


@pytest.mark.parametrize("kept", [[0, 1, 2], [0], [2], [1, 0, 2], [2, 0], []])
def test_rows_that_a_person_removes_or_moves_keep_their_secrets(kept: list[int]) -> None:
    rows: dict[str, Any] = {"rows": USERS, "ids": [2**53 + 1, 2**53 + 3, 7], "texts": ["a\xa0b", "c", "d"]}
    shown = shown_of(json.dumps(rows))
    assert shown.editable is not None
    given = {name: [shown.editable[name][place] for place in kept] for name in rows}
    wanted = {name: [values[place] for place in kept] for name, values in rows.items()}

    assert (changed(given, shown.editable, shown.arguments) or rows) == wanted


@pytest.mark.parametrize(
    "values", [["1"] * 20_000, [*range(9_000)], [str(number) for number in range(5_000)]]
)
def test_a_row_that_is_removed_from_a_long_list_is_found_at_once(values: list[Any]) -> None:
    assert changed({"ids": values[1:]}, {"ids": values}, {"ids": values}) == {"ids": values[1:]}


def test_a_row_that_is_edited_where_another_was_moved_takes_no_secret_of_it() -> None:
    shown = shown_of(json.dumps({"rows": USERS}))
    assert shown.editable is not None
    ann, bob, _ = shown.editable["rows"]
    given = {"rows": [{**bob, "user": "new"}, ann, bob]}

    assert changed(given, shown.editable, shown.arguments) == {
        "rows": [{"user": "new", "password": "***"}, USERS[0], USERS[1]]
    }
