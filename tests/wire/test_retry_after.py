# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from airflow_provider_openai_runs.wire.retry_after import poll_after, retry_after

NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None),
        ({"openai-poll-after-ms": "2500"}, 2.5),
        ({"openai-poll-after-ms": "10.5"}, 0.0105),
        ({"retry-after-ms": "500", "retry-after": "9"}, 0.5),
        ({"openai-poll-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"retry-after": "Wednesday, 21-Oct-26 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:30 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2020 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 99 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "0"}, 0),
    ],
)
def test_the_server_may_say_when_to_ask_again(headers: dict[str, str], found: float | None) -> None:
    assert poll_after(headers) == found


@pytest.mark.parametrize(
    ("headers", "said", "body", "found"),
    [
        ({}, None, None, None),
        ({}, "Rate limit reached.", None, None),
        ({"retry-after": "5s"}, "", None, 5),
        ({"retry-after": "2026-10-21T07:28:05Z", "date": NOW}, "", None, 5),
        ({"retry-after": "1792567685", "date": NOW}, "", None, 5),
        ({"x-ms-retry-after-ms": "5000"}, "", None, 5),
        ({"x-ratelimit-reset": "1792567685000", "date": NOW}, "", None, 5),
        ({"retry-after-ms": "0", "retry-after": "5"}, "", None, 5),
        ({"openai-poll-after-ms": "100", "retry-after": "5"}, "", None, 5),
        ({"retry-after": "0"}, "", None, 0),
        ({"x-ratelimit-reset-requests": "1m5s", "x-ratelimit-remaining-requests": "0"}, "", None, 65),
        ({"x-ratelimit-reset-tokens": "250ms", "x-ratelimit-remaining-tokens": "0"}, "", None, 0.25),
        ({"x-ratelimit-reset-requests": "5s", "x-ratelimit-remaining-requests": "9"}, "", None, None),
        ({"ratelimit-reset": "5"}, "", None, 5),
        ({}, "Rate limit reached for m. Please try again in 5s.", None, 5),
        ({}, "Please try again in 6m0.5s. Visit us", None, 360.5),
        ({}, "Please retry after 20 seconds.", None, 20),
        ({}, "Please wait 2 minutes", None, 120),
        ({}, "It was 5s before", None, None),
        ({"retry-after": "7"}, "Please try again in 5s.", None, 7),
        ({}, "", {"details": [{"@type": "a"}, {"retryDelay": "5s"}]}, 5),
    ],
)
def test_a_server_that_refuses_says_when_to_come_back_in_one_form_or_another(
    headers: dict[str, str], said: str | None, body: object, found: float | None
) -> None:
    assert retry_after(headers, said=said, body=body) == found


def test_a_date_without_the_servers_own_clock_is_read_by_ours() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    found = poll_after({"retry-after": in_a_minute})
    assert found is not None
    assert 50 < found <= 60
