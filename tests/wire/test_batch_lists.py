# SPDX-License-Identifier: Apache-2.0
"""Batches are found in lists of any order and length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from airflow_provider_openai_runs.wire import Flow, batches
from airflow_provider_openai_runs.wire.batches import Batch
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
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
    request: Any = next(flow)
    pages = 0
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
    found, taken = _in_pages(batches.find("t", file_id="file-1", since=AT), listed)
    assert isinstance(found, Batch)
    assert (found.id, taken) == ("batch_ours", pages)


def test_a_list_newest_first_is_read_as_far_as_the_batch_may_be() -> None:
    assert _in_pages(batches.find("t", file_id="file-1", since=AT), OLD) == (None, 1)


NOW = 1_800_000_000.0
THE_BATCH = {
    "id": "batch_1",
    "status": "in_progress",
    "metadata": {"airflow_token": "abc/batch.0"},
    "input_file_id": "file-1",
    "created_at": NOW + 1,
}


@pytest.mark.parametrize(
    ("listed", "is_found"),
    [
        ({}, True),
        ({"input_file_id": None, "created_at": None}, True),
        ({"created_at": NOW - 300}, True),
        ({"metadata": {"airflow_token": "abc/batch.1"}}, False),
        ({"input_file_id": "file-2"}, False),
        ({"created_at": NOW - 3600}, True),
        ({"created_at": NOW - 3600, "input_file_id": None}, False),
        ({"metadata": None, "input_file_id": None}, False),
        ({"status": None}, True),
    ],
)
def test_a_batch_is_ours_by_its_token_its_file_and_its_age(
    drive: Callable[..., tuple[Any, list[Any]]], listed: dict[str, Any], is_found: bool
) -> None:
    flow = batches.find("abc/batch.0", file_id="file-1", since=NOW)
    found, _ = drive(flow, [{"data": [THE_BATCH | listed], "has_more": False}])
    assert (found is not None) == is_found


def test_a_file_of_requests_lives_as_long_as_openai_and_azure_both_allow() -> None:
    body = batches.upload(Path("a.jsonl"), "a.jsonl").body
    assert body is not None
    lives = body["expires_after"]["seconds"]
    assert 1_209_600 <= lives <= 2_592_000


def test_a_list_that_says_it_goes_on_and_begins_anew_does_not_prove_that_a_batch_is_not_there(
    drive: Callable[..., tuple[Any, list[Any]]],
) -> None:
    other = THE_BATCH | {"input_file_id": "file-2", "created_at": NOW}
    flow = batches.find("abc/batch.0", file_id="file-1", since=NOW)
    with pytest.raises(ApiRequestFailed, match="no end"):
        drive(flow, [{"data": [other], "has_more": True}] * 3)


@pytest.mark.parametrize("metadata", [None, {}, {"source": "gateway"}], ids=str)
def test_a_batch_of_our_file_without_our_metadata_may_be_ours_or_that_of_the_same_requests(
    drive: Callable[..., tuple[Any, list[Any]]], metadata: object
) -> None:
    flow = batches.find("abc/batch.0", file_id="file-1", since=NOW)
    with pytest.raises(ApiRequestFailed, match="one of file file-1 without its metadata"):
        drive(flow, [{"data": [THE_BATCH | {"metadata": metadata}], "has_more": False}])
