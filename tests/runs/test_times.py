# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.times import utc


def test_a_time_is_shown_in_utc() -> None:
    assert utc(1_700_000_000.9) == "2023-11-14 22:13:20 UTC"
    assert utc(None) == "for ever"


@pytest.mark.parametrize("beyond", [1e15, -1e15, math.inf, math.nan])
def test_a_time_beyond_the_calendar_stays_a_number(beyond: float) -> None:
    assert utc(beyond) == f"Unix time {beyond:g}"


@given(seconds=st.floats())
def test_any_number_can_be_shown(seconds: float) -> None:
    assert utc(seconds)
