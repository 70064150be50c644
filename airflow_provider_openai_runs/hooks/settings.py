# SPDX-License-Identifier: Apache-2.0
"""
What a connection says, as settings of the SDK's client: corrected where it is clear, refused where it is not.

A slip that is found here is an error before anything is sent, and not a run that may be lost.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.transport.api_key import key_provider

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

#: White space, or what stands for a port and is none.
_NO_HOST = re.compile(r"[\s<>{}]|:$")
#: Ends of the URLs that people copy from an example: routes of the API, no part of its base.
_ROUTES = ("/responses", "/chat/completions", "/threads", "/assistants", "/conversations")
_SCHEMES = frozenset({"http", "https"})
_OPENAI = "://api.openai.com"
#: Not the value of a header, nor the quotes around it in a file of settings.
_NO_KEY = re.compile(r"(?i)bearer\s|[\"'].*[\"']$", re.DOTALL)


def client_settings(
    settings: Mapping[str, Any], connection: Connection, extras: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Return the settings with which the SDK's client is made.

    :param settings: what the official provider makes of the connection.
    :raises ValueError: saying what is wrong.
    """
    found = with_query_apart(settings)
    base_url = found.get("base_url") or os.environ.get("OPENAI_BASE_URL")
    path = extras.get("api_key_provider")
    if not base_url and (meant := extras.get("base_url")) and _OPENAI not in str(meant):
        raise ValueError(
            "base_url in its Extra is read by nobody, and its key would be sent to OpenAI: write it into its "
            "Host, or into openai_client_kwargs in its Extra"
        )
    if isinstance(found.get("api_key"), str):
        # A key read from a file ends with a line break, which no header may hold.
        found["api_key"] = found["api_key"].strip() or None
        # Servers of one's own often ask for none.
        if not base_url and path is None and _NO_KEY.match(found["api_key"] or ""):
            raise ValueError("its key begins with 'Bearer', or has quotes around it: give the key alone")
    check_timeout(found.get("timeout"))
    _check_headers(found.get("default_headers"))
    check_base_url(base_url, port=connection.port)
    return found if path is None else found | {"api_key": key_provider(path)}


def with_query_apart(settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a client's settings with the query of its base URL apart, where the SDK takes it.

    Azure shows URLs such as ``https://x.openai.azure.com/openai/v1/responses?api-version=preview``: the SDK
    would write each request's path behind the query.
    """
    base_url = settings.get("base_url")
    if not isinstance(base_url, str) or not base_url:
        return dict(settings)
    base_url = base_url.strip() or " "  # which is no address, and is named as one
    scheme, host, path, query, _ = urlsplit(base_url)
    path = path.rstrip("/")
    for route in _ROUTES:
        path = path.removesuffix(route)
    if not query and path == urlsplit(base_url).path.rstrip("/"):
        return {**settings, "base_url": base_url}
    found = {**settings, "base_url": urlunsplit((scheme, host, path, "", ""))}
    if query:
        pairs = dict(parse_qsl(query, keep_blank_values=True))
        found["default_query"] = pairs | dict(settings.get("default_query") or {})
    return found


def check_base_url(url: object, *, port: object = None) -> None:
    """
    Refuse a base URL that no request can ever be sent to.

    :param url: None leaves it to the SDK.
    :param port: of the connection, for the sentence: the official provider hides this field, and makes no
        use of it.
    :raises ValueError: saying what is wrong and how to write it.
    """
    if url is None or url == "":
        return
    shown = message_text(url)
    host_port = f"host:{port}" if port else "host"
    how = (
        f"write it as https://{host_port}/v1 (Host of the connection, base_url in openai_client_kwargs "
        "of its Extra, or OPENAI_BASE_URL; no other field is read)"
    )
    try:
        parts = urlsplit(str(url))
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")  # as DNS is asked for it
    except ValueError as error:
        # Where there may be a password, what Python says may quote it.
        why = "" if "@" in str(url) else f" ({error})"
        raise ValueError(f"its address {shown!r} is no URL{why}; {how}") from None
    if parts.scheme not in _SCHEMES or "://" not in str(url):
        raise ValueError(f"its address {shown!r} has no http:// or https:// in front; {how}")
    if not host or _NO_HOST.search(parts.netloc) or parts.path.startswith("//"):
        raise ValueError(f"its address {shown!r} names no host; {how}")


def unused_port(base_url: object, port: object) -> str | None:
    """Return a warning where a Port is not in the address: the official provider reads no such field."""
    try:
        parts = urlsplit(str(base_url))
        own, given = parts.port or (443 if parts.scheme == "https" else 80), int(str(port or 0))
    except ValueError:
        return None
    if given in {0, own}:
        return None
    host = f"{parts.scheme}://{parts.hostname}"
    return (
        f"its Port {given} is not used: requests go to {host}:{own}. If they are to go to {given}, write it "
        f"into the Host, {host}:{given}{parts.path}"
    )


def check_timeout(value: object) -> None:
    """
    Require what a connection's ``openai_client_kwargs`` may have as ``timeout``.

    :raises ValueError: saying so.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 < value < math.inf):  # type: ignore[operator]
        raise ValueError(f"openai_client_kwargs['timeout'] must be seconds above 0, not {value!r}")


def _check_headers(headers: object) -> None:
    """Require names and values of headers to be text, but do not quote them: one may be a key."""
    if not headers:
        return
    if not isinstance(headers, Mapping):
        raise ValueError("openai_client_kwargs['default_headers'] must be an object of names and texts")  # noqa: TRY004
    wrong = next((name for name, value in headers.items() if not isinstance(value, str)), None)
    if wrong is not None:
        shown = message_text(repr(wrong), limit=100)
        raise ValueError(f"openai_client_kwargs['default_headers'][{shown}] must be text, in quotes")
