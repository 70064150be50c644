# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.wire import batches

NOW = 1_800_000_000.0
OURS = {
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
        ({"created_at": NOW - 3600}, False),
    ],
)
def test_a_batch_is_ours_by_its_token_its_file_and_its_age(
    drive: Callable[..., tuple[Any, list[Any]]], listed: dict[str, Any], is_found: bool
) -> None:
    flow = batches.find("abc/batch.0", file_id="file-1", since=NOW)
    found, _ = drive(flow, [{"data": [OURS | listed], "has_more": False}])
    assert (found is not None) == is_found


def test_a_file_of_requests_lives_as_long_as_openai_and_azure_both_allow() -> None:
    body = batches.upload(Path("a.jsonl"), "a.jsonl").body
    assert body is not None
    lives = body["expires_after"]["seconds"]
    assert 1_209_600 <= lives <= 2_592_000
