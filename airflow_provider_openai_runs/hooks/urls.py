# SPDX-License-Identifier: Apache-2.0
"""The addresses of a connection: its server, and the page that shows a run to a person."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from airflow_provider_openai_runs.runs.errors import RunConnectionError
from airflow_provider_openai_runs.runs.failure import safe_text
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.wire import wire_of

#: White space, or what stands for a port and is none.
_NO_HOST = re.compile(r"[\s<>{}]|:$")


def run_url(ref: RunRef, *, base_url: str, template: object = None) -> str:
    """
    Return the page of a run, or nothing where none is known.

    :param template: the connection's extra ``run_url_template``, with ``{id}``, ``{kind}``, ``{thread_id}``.
    :raises RunConnectionError: if the template names anything else.
    """
    if template is None:
        template = wire_of(ref.kind).page_template(urlsplit(base_url).hostname or "")
    if template is None:
        return ""
    try:
        return str(template).format(
            id=quote(ref.id, safe=""), kind=ref.kind, thread_id=quote(ref.thread_id or "", safe="")
        )
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise RunConnectionError(
            f"run_url_template={template!r} of connection {ref.conn_id!r} may name {{id}}, {{kind}} and "
            f"{{thread_id}} only ({type(error).__name__}: {error})."
        ) from error


def check_base_url(url: object) -> None:
    """
    Refuse a base URL that no request can ever be sent to.

    :param url: None leaves it to the SDK.
    :raises ValueError: saying what is wrong and how to write it.
    """
    if url is None or url == "":
        return
    shown = safe_text(url)
    how = "write it as https://host/v1 (Host of the connection, base_url in its extra, or OPENAI_BASE_URL)"
    try:
        parts = urlsplit(str(url))
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"its address {shown!r} is no URL ({error}); {how}") from None
    if parts.scheme not in {"http", "https"} or "://" not in str(url):
        raise ValueError(f"its address {shown!r} has no http:// or https:// in front; {how}")
    if not host or _NO_HOST.search(parts.netloc) or parts.path.startswith("//"):
        raise ValueError(f"its address {shown!r} names no host; {how}")
