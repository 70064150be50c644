# SPDX-License-Identifier: Apache-2.0
"""
What an earlier version has stored, read by this one: an upgrade meets it in the database.

The files in ``payloads/`` were written by the package as it was on 2026-11-26 and never change. A new form
gets a file of its own beside them.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.module_loading import import_string

from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.operators import (
    BulkCreateResponsesOperator,
    CreateResponseOperator,
    CreateRunOperator,
)
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.sensors import ResponseSensor, ThreadRunSensor
from airflow_provider_openai_runs.wire.wait import WaitResult
from tests.support.scene import Scene

#: The methods by which Airflow resumes a task that an earlier version has deferred or paused.
RESUMED_BY = {
    CreateRunOperator: ("execute_complete", "execute_after_active_run", "execute_after_approval"),
    BulkCreateResponsesOperator: ("execute_complete",),
    CreateResponseOperator: ("execute_complete", "execute_after_active_run", "execute_after_approval"),
    ThreadRunSensor: ("execute_complete",),
    ResponseSensor: ("execute_complete",),
}


def stored(name: str) -> list[Any]:
    found: list[Any] = json.loads(Path(__file__).with_name("payloads").joinpath(f"{name}.json").read_text())
    return [pytest.param(case, id=case["name"]) for case in found]


@pytest.mark.parametrize("case", [*stored("triggers"), *stored("bulk_triggers")])
def test_a_stored_trigger_loads_and_is_stored_the_same(case: dict[str, Any]) -> None:
    trigger = import_string(case["path"])(**case["kwargs"])

    path, kwargs = trigger.serialize()
    assert path == case["path"]
    assert json.loads(json.dumps(kwargs)) == case["kwargs"]


RECORDS = [*stored("records"), *stored("records_of_ends"), *stored("records_of_intents")]


@pytest.mark.parametrize("case", RECORDS)
def test_a_stored_record_loads_and_is_stored_the_same(case: dict[str, Any]) -> None:
    record = Record.from_json(case["record"])

    assert record is not None
    assert json.loads(json.dumps(record.to_json())) == case["record"]


@pytest.mark.parametrize("case", stored("spending"))
def test_what_was_spent_is_stored_the_same(case: dict[str, Any], scene: Scene) -> None:
    scene.store.values["openai_run"] = case["stored"]
    log: Any = logging.getLogger()
    store = RecordStore(scene.store, log=log)
    record = store.load()
    store.save(record)

    assert (record is None) == (set(case["stored"]) == {"spending"})
    assert scene.store.values["openai_run"] == case["stored"]


@pytest.mark.parametrize("case", stored("events"))
def test_a_stored_event_tells_how_the_wait_ended(case: dict[str, Any]) -> None:
    payload = case["payload"]
    result = WaitResult.from_json(payload)

    assert {**payload, **json.loads(json.dumps(result.to_json()))} == payload


@pytest.mark.parametrize(
    ("operator", "method"), [(operator, name) for operator, names in RESUMED_BY.items() for name in names]
)
def test_a_task_is_resumed_by_the_method_that_it_was_deferred_with(operator: type, method: str) -> None:
    assert callable(getattr(operator, method))
