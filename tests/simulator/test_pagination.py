# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_openai_runs.simulator import Scenario
from airflow_provider_openai_runs.simulator.errors import ApiError
from airflow_provider_openai_runs.simulator.pagination import page

if TYPE_CHECKING:
    import openai

    from airflow_provider_openai_runs.simulator import Simulator

KEYS = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("query", "expected", "more"),
    [
        ({}, "edcba", False),
        ({"order": "asc"}, "abcde", False),
        ({"limit": "2"}, "ed", True),
        ({"limit": "2", "after": "d"}, "cb", True),
        ({"limit": "2", "after": "c"}, "ba", False),
        ({"after": "a"}, "", False),
        ({"limit": "2", "before": "b"}, "dc", True),
        ({"limit": "2", "before": "c"}, "ed", False),
        ({"limit": "2", "order": "asc", "after": "b"}, "cd", True),
        ({"order": "asc", "after": "a", "before": "e"}, "bcd", False),
    ],
)
def test_a_page_has_the_right_items_and_says_whether_there_are_more(
    query: dict[str, str],
    expected: str,
    more: bool,
) -> None:
    cut = page(KEYS, query, lambda key: {"id": key})
    assert ["".join(item["id"] for item in cut["data"]), cut["has_more"]] == [expected, more]
    assert (cut["first_id"], cut["last_id"]) == ((expected[0], expected[-1]) if expected else (None, None))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"limit": "0"}, "Invalid 'limit': integer below minimum value"),
        ({"limit": "101"}, "Invalid 'limit': integer above maximum value"),
        ({"limit": "many"}, "Invalid type for 'limit'"),
        ({"order": "up"}, "Invalid value: 'up'"),
        ({"after": "z"}, "Invalid 'after': no item with id 'z'"),
        ({"before": "z"}, "Invalid 'before': no item with id 'z'"),
    ],
)
def test_a_wrong_query_is_refused(query: dict[str, str], message: str) -> None:
    with pytest.raises(ApiError, match=message):
        page(KEYS, query, lambda key: {"id": key})


@pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_the_sdk_walks_through_all_pages_of_steps(
    client: openai.OpenAI,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    simulator.script(Scenario(steps=45))
    run = client.beta.threads.runs.create(thread, assistant_id=assistant)
    simulator.advance(5)
    steps = list(client.beta.threads.runs.steps.list(run.id, thread_id=thread))
    assert len({step.id for step in steps}) == 46
    assert steps[0].type == "message_creation", "newest first"
    assert simulator.count("GET", "/steps$") == 3
