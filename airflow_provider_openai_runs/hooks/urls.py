# SPDX-License-Identifier: Apache-2.0
"""The addresses of a connection: its server, and the page that shows a run to a person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

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
_SCHEMES = frozenset({"http", "https"})


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
        is_page = parts.scheme in _SCHEMES and bool(parts.hostname)
    except ValueError:
        is_page = False
    return "" if is_page else "makes no http or https URL"
