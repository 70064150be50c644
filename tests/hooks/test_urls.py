# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
from urllib.parse import urlsplit

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.exceptions import RunConnectionError
from airflow_provider_openai_runs.hooks.urls import run_url
from airflow_provider_openai_runs.runs.model import RunRef

PIECES = [
    "http://",
    "https://",
    "javascript:",
    "host",
    "/",
    "{id}",
    "{thread_id}",
    "{kind}",
    "{",
    "}",
    "@",
    "[",
    "#",
]
templates = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=6).map("".join)
ids = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1)


@given(template=templates, run_id=ids, thread_id=ids)
def test_whatever_the_template_there_is_a_page_of_http_or_an_error(
    template: str, run_id: str, thread_id: str
) -> None:
    ref = RunRef(kind="response", id=run_id, thread_id=thread_id, conn_id="c")
    with contextlib.suppress(RunConnectionError):
        if url := run_url(ref, base_url="https://host/v1", template=template):
            assert urlsplit(url).scheme in {"http", "https"}
            assert url.isprintable()


def test_what_a_server_wrote_into_an_id_stays_within_its_place() -> None:
    ref = RunRef(kind="response", id="../a?b#c&d/{kind}", conn_id="c")
    url = run_url(ref, base_url="", template="https://runs.example/{id}/{kind}")

    assert url == "https://runs.example/..%2Fa%3Fb%23c%26d%2F%7Bkind%7D/response"
