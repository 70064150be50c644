# SPDX-License-Identifier: Apache-2.0
"""The sentence in which a server says what is wrong; compatible servers write it under other names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.transport.bodies import page_of
from airflow_provider_openai_runs.wire import reading

if TYPE_CHECKING:
    import openai

_SENTENCES = (
    *("message", "detail", "error_description", "description", "error"),
    *("msg", "faultstring", "title", "fault", "reason"),
)
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


def _complaints(detail: object) -> Iterator[str]:
    """Read FastAPI's list of wrong fields; what stood in them is left out, it may be a prompt."""
    for item in reading.objects_of(detail):
        where = item.get("loc")
        place = ".".join(map(str, where)) if isinstance(where, list) else "body"
        if isinstance(item.get("msg"), str):
            yield f"{place}: {item['msg']}"
