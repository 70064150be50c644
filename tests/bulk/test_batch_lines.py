# SPDX-License-Identifier: Apache-2.0
"""What other servers write into the files of a batch."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_openai_runs.bulk.batch.lines import Line, from_line

RESPONSE = {"id": "resp_1", "status": "completed", "output": []}


def _read(**values: Any) -> Line | None:
    return from_line(json.dumps({"custom_id": "row-3", **values}).encode())


@pytest.mark.parametrize("body", [RESPONSE, json.dumps(RESPONSE)])
def test_a_response_is_read_also_where_it_is_json_in_json(body: Any) -> None:
    assert _read(response={"status_code": 200, "body": body}) == Line(row=3, response=RESPONSE)


@pytest.mark.parametrize(
    ("values", "retryable", "may_be_billed"),
    [
        ({"response": {"status_code": 400, "body": {"error": {"message": "No."}}}}, False, False),
        ({"response": {"status_code": 429, "body": {"error": {"message": "Slow."}}}}, True, False),
        ({"response": {"status_code": 500, "body": "<html>"}}, True, True),
        ({"response": {"status_code": 200, "body": "no json"}}, False, True),
        ({"error": {"code": "batch_expired", "message": "Late."}}, True, False),
        ({"error": {"code": "unknown", "message": "Oh."}}, True, True),
    ],
)
def test_an_error_says_whether_another_try_may_help_and_whether_it_may_be_billed(
    values: dict[str, Any], *, retryable: bool, may_be_billed: bool
) -> None:
    line = _read(**values)
    assert line is not None
    assert (line.response, line.retryable, line.may_be_billed) == (None, retryable, may_be_billed)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"error": "boom"}, "boom"),
        ({"error": {"message": "boom"}}, "boom"),
        ({"error": [{"code": "odd", "message": "boom"}]}, "odd: boom"),
        ({"response": {"status_code": 500, "body": {"error": "boom"}}}, "HTTP 500: boom"),
        ({"response": {"status_code": 500, "body": {}}, "error": "boom"}, "HTTP 500: boom"),
        ({"response": {"status_code": 500, "body": "<html>"}}, "HTTP 500: no message"),
        (
            {
                "response": {
                    "status_code": 200,
                    "body": {"id": "c", "object": "chat.completion", "choices": []},
                }
            },
            "HTTP 200: the body is no response; its object is 'chat.completion'",
        ),
        (
            {"response": {"body": {"object": "chat.completion"}}},
            "the body is no response; its object is 'chat.completion'",
        ),
        (
            {"response": {"status_code": 200, "body": {"id": "c", "choices": ["secret"]}}},
            "HTTP 200: the body is no response; it has only id, choices",
        ),
        (
            {"response": {"status_code": 200, "body": "secret"}},
            "HTTP 200: there is no response, and no object of JSON in its place",
        ),
        ({}, "there is no response, and no object of JSON in its place"),
    ],
    ids=str,
)
def test_an_error_says_what_the_server_says_in_whichever_form(values: dict[str, Any], said: str) -> None:
    line = _read(**values)
    assert line is not None
    assert (line.response, line.error) == (None, said)


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b'{"custom_id": "x"}', b'{"custom_id": "row-x"}', b"\xff"]
)
def test_a_line_of_no_row_is_none(line: bytes) -> None:
    assert from_line(line) is None


@pytest.mark.parametrize("odd", [b"\xff", b"\x01", b"\n", b"\t"])
def test_a_line_with_a_byte_that_json_forbids_is_read_all_the_same(odd: bytes) -> None:
    body = b'{"id": "resp_1", "status": "completed", "output": "Be' + odd + b'cause."}'
    line = from_line(b'{"custom_id": "row-3", "response": {"status_code": 200, "body": ' + body + b"}}")
    assert line is not None
    assert line.response is not None
    assert (line.row, line.response["status"]) == (3, "completed")
