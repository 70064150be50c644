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
#: Members of an error that may hold more than a text.
_OF_AN_ERROR = frozenset({"errors", "error", "detail", "details", "fault"})
#: Codes of requests that nobody has begun with; a time-out, a conflict, or what a gateway says of the server
#: behind it, may be of one that was.
_SAYS_REFUSED = re.compile(
    r"(?i)^(4(?!08|09|25|99)\d\d|(?!.*(upstream|response|reply|gateway|backend|time_?out)).*"
    r"(invalid|denied|unauthori[sz]ed|forbidden|not_?found|missing).*)$"
)
_SAYS_FAILED = re.compile(r"(?i)^[45]\d\d$|error|fail|expired|exceeded|throttl|timeout")
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


def complaint_in(data: Mapping[str, Any], *, pays: bool) -> dict[str, Any] | None:
    """
    Return the error that a body is which is not what was asked for, where it says so in a way of its own.

    With ``success: false``, a list of ``errors``, a lone ``detail``, or a code that is one of HTTP or names
    what is wrong. Not where anything else is in it, such as the run within an envelope.

    :param pays: whether it has to say that the request was refused: one that has failed may be paid for.
    """
    brings = [name for name, value in data.items() if isinstance(value, (dict, list)) and value]
    if not _OF_A_RUN.isdisjoint(data) or not _OF_AN_ERROR.issuperset(brings):
        return None
    codes = [value for name in _CODES if (value := data.get(name)) not in (None, "", 0, "0")]
    is_error = any(_SAYS_REFUSED.search(str(code)) for code in codes) or (
        not pays
        and (
            data.get("success") is False
            or bool(data.get("errors") or data.get("error_code"))
            or data.keys() == {"detail"}
            or any(_SAYS_FAILED.search(str(code)) for code in codes)
        )
    )
    return {**data, "code": next(iter(codes), None)} if is_error and sentence_in(data) else None


def _complaints(detail: object) -> Iterator[str]:
    """Read FastAPI's list of wrong fields; what stood in them is left out, it may be a prompt."""
    for item in reading.objects_of(detail):
        where = item.get("loc")
        place = ".".join(map(str, where)) if isinstance(where, list) else "body"
        if isinstance(item.get("msg"), str):
            yield f"{place}: {item['msg']}"
