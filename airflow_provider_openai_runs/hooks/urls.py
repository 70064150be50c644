# SPDX-License-Identifier: Apache-2.0
"""The page that shows a run to a person."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from airflow_provider_openai_runs.runs.errors import RunConnectionError
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.wire import wire_of


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
