# SPDX-License-Identifier: Apache-2.0
"""The secrets that a client of the SDK sends, and how they are kept out of what its server says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.runs.redaction import Redactor, carries_secret

if TYPE_CHECKING:
    import openai

#: Takes secrets out of text.
Redact = Callable[[str], str]
#: Where a reply that is no failure tells of one: of a response, of a thread run.
_ERRORS = ("error", "last_error")


def redact_of(client: openai.OpenAI | openai.AsyncOpenAI) -> Redact:
    """Return what takes a client's secrets out; they are read when there is text: a key may change."""

    def redact(text: str) -> str:
        return Redactor(_secrets_of(client))(text)

    return redact


def redact_errors(data: dict[str, Any], redact: Redact) -> dict[str, Any]:
    """Return a reply without secrets in what it says of an error; its content stays as it is."""
    errors = {name: data[name] for name in _ERRORS if isinstance(data.get(name), dict)}
    if not errors:
        return data
    return data | {
        name: {key: _redacted(item, redact) for key, item in error.items()} for name, error in errors.items()
    }


def _redacted(value: Any, redact: Redact) -> Any:
    return redact(value) if isinstance(value, str) else value


def _secrets_of(client: openai.OpenAI | openai.AsyncOpenAI) -> Iterator[str]:
    """Return the values of the fields that carry a secret, and of no other."""
    yield client.api_key or ""
    yield client.base_url.password
    fields: list[Mapping[str, object]] = [
        client.default_headers,
        client.default_query,
        client.base_url.params,
    ]
    for name, value in (pair for field in fields for pair in field.items()):
        if isinstance(value, str) and carries_secret(name):
            yield value
