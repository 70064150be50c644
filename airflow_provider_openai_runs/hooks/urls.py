# SPDX-License-Identifier: Apache-2.0
"""The addresses of a connection: its server, and the page that shows a run to a person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.errors import RunConnectionError
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.wire import wire_of

if TYPE_CHECKING:
    from openai import OpenAI

#: Browsers and Airflow's log take no more.
MAX_URL = 2_000
#: No format string: one can ask for attributes, or for a gigabyte of blanks.
_FIELD = re.compile(r"\{(id|kind|thread_id)\}")
#: Headers that say nothing of the account, or that a provider changes.
_OF_THE_SDK = re.compile(r"(?i)x-stainless|user-agent|accept|content-type|authorization")
_PORTS = {"http": 80, "https": 443}
#: White space, or what stands for a port and is none.
_NO_HOST = re.compile(r"[\s<>{}]|:$")
#: Ends of the URLs that people copy from an example: routes of the API, no part of its base.
_ROUTES = ("/responses", "/chat/completions", "/threads", "/assistants", "/conversations")


def with_query_apart(settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a client's settings with the query of its base URL apart, where the SDK takes it.

    Azure shows URLs such as ``https://x.openai.azure.com/openai/v1/responses?api-version=preview``: the SDK
    would write each request's path behind the query.
    """
    base_url = settings.get("base_url")
    if not isinstance(base_url, str):
        return dict(settings)
    scheme, host, path, query, _ = urlsplit(base_url.strip())
    path = path.rstrip("/")
    for route in _ROUTES:
        path = path.removesuffix(route)
    if not query and path == urlsplit(base_url).path.rstrip("/"):
        return {**settings, "base_url": base_url.strip()}
    found = {**settings, "base_url": urlunsplit((scheme, host, path, "", ""))}
    if query:
        pairs = dict(parse_qsl(query, keep_blank_values=True))
        found["default_query"] = pairs | dict(settings.get("default_query") or {})
    return found


def address_of(base_url: object) -> str:
    """Return where requests go, without what may be a secret."""
    parts = urlsplit(str(base_url))
    host = parts.netloc.rpartition("@")[2]
    return message_text(f"{parts.scheme}://{host}{parts.path}").rstrip("/")


def account_of(client: OpenAI, *, key: object) -> Account:
    """
    Return where a client leads, and as whom.

    :param key: in place of the client's.
    """
    headers = client.default_headers.items()
    custom = {name: text for name, text in headers if isinstance(text, str) and not _OF_THE_SDK.match(name)}
    url = urlsplit(str(client.base_url))
    root = address_of(url._replace(path="").geturl())
    return Account.of(root, url.path.rstrip("/"), key or client.api_key, custom)


def run_url(ref: RunRef, *, base_url: str, template: object = None) -> str:
    """
    Return the page of a run, or nothing where none is known.

    :param template: the connection's extra ``run_url_template``, with ``{id}``, ``{kind}``, ``{thread_id}``.
    :raises RunConnectionError: if the template names anything else, or makes no http(s) URL.
    """
    if template is None:
        template = wire_of(ref.kind).page_template(urlsplit(base_url).hostname or "")
    if not template:
        return ""
    values = {"id": ref.id, "kind": ref.kind, "thread_id": ref.thread_id or ""}
    url = _FIELD.sub(lambda found: quote(values[found.group(1)], safe=""), str(template))
    if wrong := _what_is_wrong(url):
        shown = message_text(repr(template), limit=200)
        raise RunConnectionError(f"run_url_template={shown} of connection {ref.conn_id!r} {wrong}.")
    return url


def _what_is_wrong(url: str) -> str:
    if "{" in url or "}" in url:
        return "may name {id}, {kind} and {thread_id} only"
    if len(url) > MAX_URL:
        return f"makes a URL of {len(url)} characters; at most {MAX_URL} are shown"
    if not url.isprintable() or " " in url or "\\" in url:
        return "has characters that no URL has"
    try:
        parts = urlsplit(url)
        is_page = parts.scheme in _PORTS and bool(parts.hostname)
    except ValueError:
        is_page = False
    return "" if is_page else "makes no http or https URL"


def check_base_url(url: object, *, port: int | None = None) -> None:
    """
    Refuse a base URL that no request can ever be sent to, or that lacks what its user has written elsewhere.

    :param url: None leaves it to the SDK.
    :param port: of the connection: the official provider hides this field, and makes no use of it.
    :raises ValueError: saying what is wrong and how to write it.
    """
    if url is None or url == "":
        return
    shown = message_text(url)
    host_port = f"host:{port}" if port else "host"
    how = (
        f"write it as https://{host_port}/v1 (Host of the connection, base_url in its extra, or "
        "OPENAI_BASE_URL; no other field is read)"
    )
    try:
        parts = urlsplit(str(url))
        host, own_port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
        (host or "").encode("idna")  # as DNS is asked for it
    except ValueError as error:
        # Where there may be a password, what Python says may quote it.
        why = "" if "@" in str(url) else f" ({error})"
        raise ValueError(f"its address {shown!r} is no URL{why}; {how}") from None
    if parts.scheme not in _PORTS or "://" not in str(url):
        raise ValueError(f"its address {shown!r} has no http:// or https:// in front; {how}")
    if not host or _NO_HOST.search(parts.netloc) or parts.path.startswith("//"):
        raise ValueError(f"its address {shown!r} names no host; {how}")
    if port and port != own_port:
        raise ValueError(f"its Port {port} is not part of its address {shown!r}; {how}, or remove the Port")
