# SPDX-License-Identifier: Apache-2.0
"""The credentials in tools: of MCP servers, also those in their URLs, and of the domains of a container."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from airflow_provider_openai_runs.runs.redaction import HIDDEN, carries_secret

#: Members that carry a credential; with an object in it, each of its values is one.
_SECRETS = frozenset({"authorization", "headers"})
#: Members in which there are tools, or what tools run in. Not ``parameters``: a schema has names of its own.
_WITHIN = frozenset({"tools", "container", "environment", "network_policy", "domain_secrets"})
_URL = "server_url"
#: Deeper than tools are.
_MOST_DEEP = 20


def without_secrets(tool: Any) -> Any:
    """Return a tool, or a list of them, with asterisks in place of credentials."""
    return _replaced(tool, lambda _: HIDDEN)


def secrets_of(tools: Any) -> Iterator[str]:
    """Return the credentials in tools, whatever else is in there."""
    found: list[str] = []

    def keep(secret: str) -> str:
        found.append(secret)
        return secret

    _replaced(tools, keep)
    yield from found


def _replaced(value: Any, replace: Callable[[str], Any], depth: int = 0) -> Any:
    if depth > _MOST_DEEP:
        return value
    if isinstance(value, (list, tuple)):
        return [_replaced(item, replace, depth + 1) for item in value]
    if not isinstance(value, Mapping):
        return value
    secrets = {*_SECRETS, "value"} if "domain" in value else _SECRETS
    return {
        name: _member(name, item, replace, depth, is_secret=name in secrets) for name, item in value.items()
    }


def _member(name: object, item: Any, replace: Callable[[str], Any], depth: int, *, is_secret: bool) -> Any:
    if is_secret and item:
        values = list(item.values()) if isinstance(item, Mapping) else [item]
        masked = [replace(value) for value in values if isinstance(value, str) and value]
        return HIDDEN if HIDDEN in masked or not masked else item
    if name == _URL and isinstance(item, str):
        return _url(item, replace)
    return _replaced(item, replace, depth + 1) if name in _WITHIN else item


def _url(url: str, replace: Callable[[str], Any]) -> str:
    """Return a URL without the user, and the values of its query that are named like a secret."""
    try:
        parts = urlsplit(url)
        user, _, _ = parts.netloc.rpartition("@")
        query = parse_qsl(parts.query)
    except ValueError:
        return str(replace(url))
    for secret in (user, *(value for name, value in query if carries_secret(name))):
        if secret:
            url = url.replace(secret, replace(secret))
    return url
