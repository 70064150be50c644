# SPDX-License-Identifier: Apache-2.0
"""The sentence in which a server says what is wrong; compatible servers write it under other names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.transport.bodies import page_of
from airflow_provider_openai_runs.wire import reading

if TYPE_CHECKING:
    import openai

_SENTENCES = (
    *("message", "detail", "error_description", "description", "error"),
    *(
        "msg",
        "error_msg",
        "error_message",
        "errormessage",
        "errmsg",
        "faultstring",
        "title",
        "fault",
        "reason",
    ),
)
#: Names under which bodies of errors have a code.
_CODES = ("code", "status", "statusCode", "status_code", "error_code")
#: What is paid for is no mere error, whatever else it says.
_OF_A_RUN = frozenset({"object", "output", "output_text", "choices", "usage"})
_SAYS_FAILED = frozenset({"error", "fail", "failed", "failure"})
_HTTP_ERROR = re.compile(r"[45]\d\d")
#: Where the sentence stands deeper than this, it is somebody's data.
_DEEPEST_SENTENCE = 4


def sentence_of(error: openai.APIStatusError) -> str:
    """Return the sentence in an error's body, or else what the SDK says of its status."""
    body = error.body
    if isinstance(body, str):
        return page_of(body) or body.strip() or error.message
    if isinstance(body, dict) and (complaints := "; ".join(_complaints(body.get("detail")))):
        return complaints
    return sentence_in(body) or error.message


def sentence_in(said: object, depth: int = 0) -> str | None:
    """Return the first sentence under a name that means one, or under one that holds an object with one."""
    if isinstance(said, list):
        said = next(iter(said), None)
    if isinstance(said, str) and said.strip() and depth:
        return said
    if not isinstance(said, dict) or depth > _DEEPEST_SENTENCE:
        return None
    by_name = {str(name).lower(): value for name, value in said.items()}
    held = (by_name.get(name) for name in (*_SENTENCES, "errors"))
    return next((found for value in held if (found := sentence_in(value, depth + 1)) is not None), None)


def complaint_in(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    Return the error that a body is which is not what was asked for, where it says so in a way of its own.

    With ``success: false``, a list of ``errors``, a ``detail``, or a code of HTTP among its members.
    """
    if not _OF_A_RUN.isdisjoint(data):
        return None
    codes = [value for name in _CODES if (value := data.get(name)) not in (None, "", 0, "0")]
    is_error = (
        data.get("success") is False
        or any(data.get(name) for name in ("errors", "detail", "error_code"))
        or any(str(code).lower() in _SAYS_FAILED or _HTTP_ERROR.fullmatch(str(code)) for code in codes)
        or (isinstance(data.get("code"), str) and data["code"][:1].isalpha())
    )
    return {**data, "code": next(iter(codes), None)} if is_error and sentence_in(data) else None


def _complaints(detail: object) -> Iterator[str]:
    """Read FastAPI's list of wrong fields; what stood in them is left out, it may be a prompt."""
    for item in reading.objects_of(detail):
        where = item.get("loc")
        place = ".".join(map(str, where)) if isinstance(where, list) else "body"
        if isinstance(item.get("msg"), str):
            yield f"{place}: {item['msg']}"
