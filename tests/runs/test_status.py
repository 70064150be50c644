# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.status import RunKind, RunStatus, noun_of

ENDED = {"cancelled", "failed", "completed", "incomplete", "expired"}
json_values = st.none() | st.booleans() | st.floats() | st.text() | st.lists(st.text())


@pytest.mark.parametrize("status", RunStatus)
def test_a_status_is_either_terminal_or_active(status: RunStatus) -> None:
    assert status.is_terminal == (status.value in ENDED)
    assert status.is_active != status.is_terminal


@pytest.mark.parametrize("status", RunStatus)
def test_every_status_is_read_from_its_own_raw_status(status: RunStatus) -> None:
    assert RunStatus.parse(status.value) is status


@given(value=json_values)
def test_whatever_is_no_status_is_unknown_and_active(value: object) -> None:
    found = RunStatus.parse(value)
    assert found is RunStatus.UNKNOWN or found.value == value
    if found is RunStatus.UNKNOWN:
        assert found.is_active


def test_kinds_are_shown_as_people_read_them() -> None:
    assert [noun_of(kind) for kind in RunKind] == ["thread run", "response"]
