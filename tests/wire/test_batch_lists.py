# SPDX-License-Identifier: Apache-2.0
"""Batches are found in lists of any order and length."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from airflow_provider_openai_runs.wire import Flow, batches
from airflow_provider_openai_runs.wire.batches import Batch
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest

T = TypeVar("T")
AT = 1_800_000_000
OLD = [
    {"id": f"batch_{number}", "status": "completed", "created_at": AT - 100_000 - number, "metadata": {}}
    for number in range(250)
]
OURS = {
    "id": "batch_ours",
    "status": "in_progress",
    "created_at": AT + 5,
    "input_file_id": "file-1",
    "metadata": {"airflow_token": "t"},
}


def _in_pages(flow: Flow[T], listed: list[dict[str, Any]]) -> tuple[T, int]:
    """Answer the requests for a list; return what is found, and how many pages it took."""
    request, pages = next(flow), 0
    while True:
        pages += 1
        assert isinstance(request, ApiRequest)
        ids = [item["id"] for item in listed]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = listed[start : start + 100]
        try:
            request = flow.send(ApiReply(data={"data": page, "has_more": start + 100 < len(listed)}))
        except StopIteration as found:
            return found.value, pages


@pytest.mark.parametrize(("listed", "pages"), [([OURS, *OLD], 1), ([*OLD[::-1], OURS], 3)])
def test_a_batch_is_found_in_a_list_of_either_order(listed: list[dict[str, Any]], pages: int) -> None:
    found, taken = _in_pages(batches.find("t", since=AT), listed)
    assert isinstance(found, Batch)
    assert (found.id, taken) == ("batch_ours", pages)


def test_a_list_newest_first_is_read_as_far_as_the_batch_may_be() -> None:
    assert _in_pages(batches.find("t", since=AT), OLD) == (None, 1)
