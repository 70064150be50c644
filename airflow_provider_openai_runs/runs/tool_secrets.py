# SPDX-License-Identifier: Apache-2.0
"""The credentials in tools: of MCP servers, also those in their URLs, and of the domains of a container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus, urlsplit, urlunsplit

from airflow_provider_openai_runs.runs.redaction import HIDDEN, carries_secret

#: Members that carry a credential, or several.
_SECRETS = frozenset({"authorization", "headers"})
#: Members in which there are tools, or what tools run in. Not ``parameters``: a schema has names of its own.
_WITHIN = frozenset({"tools", "container", "environment", "network_policy", "domain_secrets"})
_URL = "server_url"
#: A longer user of a URL, without a password, is a token.
_LONGEST_NAME = 15
#: Deeper than tools are.
_MOST_DEEP = 20


def without_secrets(tools: Any) -> Any:
    """Return a tool, or a list of them, with asterisks in place of credentials."""
    return _masked(tools, [])


def secrets_of(tools: Any) -> Iterator[str]:
    """Return the credentials in tools, whatever else is in there."""
    found: list[str] = []
    _masked(tools, found)
    yield from dict.fromkeys(filter(None, found))


def _masked(value: Any, found: list[str], depth: int = 0) -> Any:
    if isinstance(value, (list, tuple)) and depth <= _MOST_DEEP:
        return [_masked(item, found, depth + 1) for item in value]
    if not isinstance(value, Mapping) or depth > _MOST_DEEP:
        return value
    secrets = {*_SECRETS, "value"} if "domain" in value else _SECRETS
    shown: dict[Any, Any] = {}
    for name, item in value.items():
        if name in secrets and item:
            found += _texts(item)
            shown[name] = HIDDEN
        elif name == _URL and isinstance(item, str):
            shown[name] = _url(item, found)
        else:
            shown[name] = _masked(item, found, depth + 1) if name in _WITHIN else item
    return shown


def _texts(item: Any) -> Iterator[str]:
    """Yield the texts of a header, or of several, in whichever form; names are none."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, Mapping):
        yield from _texts([value for name, value in item.items() if name != "name"])
    elif isinstance(item, (list, tuple)):
        for part in item:
            yield from _texts(part)


def _url(url: str, found: list[str]) -> str:
    """Return a URL without its user, and without the values of its query that are named like a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        found.append(url)
        return HIDDEN
    user, at, host = parts.netloc.rpartition("@")
    _, _, password = user.partition(":")
    # A bare name may be any word, and would be taken out of all logs.
    secret = password or (user if len(user) > _LONGEST_NAME else "")
    found += [secret, unquote(secret)]
    query, fragment = _pairs(parts.query, found), _pairs(parts.fragment, found)
    shown = f"{HIDDEN if user else ''}{at}{host}"
    return urlunsplit(parts._replace(netloc=shown, query=query, fragment=fragment))


def _pairs(written: str, found: list[str]) -> str:
    shown = []
    for pair in written.split("&"):
        name, equals, value = pair.partition("=")
        is_secret = bool(value) and carries_secret(unquote_plus(name))
        found += [value, unquote_plus(value)] if is_secret else []
        shown.append(f"{name}{equals}{HIDDEN if is_secret else value}")
    return "&".join(shown)
