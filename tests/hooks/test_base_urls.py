# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_openai_runs.hooks.settings import with_query_apart


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"base_url": "https://x/v1?api-version=preview"}, ("https://x/v1", {"api-version": "preview"})),
        (
            {"base_url": "https://x/openai/v1/responses?api-version=preview"},
            ("https://x/openai/v1", {"api-version": "preview"}),
        ),
        ({"base_url": "https://x/v1/responses/"}, ("https://x/v1", None)),
        ({"base_url": "https://x/v1/chat/completions"}, ("https://x/v1", None)),
        (
            {"base_url": "https://x/v1?a=1&b=", "default_query": {"a": "2"}},
            ("https://x/v1", {"a": "2", "b": ""}),
        ),
        ({"base_url": "https://x/v1/"}, ("https://x/v1/", None)),
        ({"base_url": None}, (None, None)),
    ],
)
def test_the_query_of_a_base_url_goes_with_every_request(given: dict[str, Any], used: Any) -> None:
    found = with_query_apart({"api_key": "k", **given})
    assert (found["base_url"], found.get("default_query")) == used
    assert found["api_key"] == "k"
