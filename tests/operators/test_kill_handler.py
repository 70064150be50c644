# SPDX-License-Identifier: Apache-2.0
"""Which run a kill ends, where an attempt has changed its mind about it."""

from __future__ import annotations

import logging

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.attempts.kill import KillHandler
from airflow_provider_openai_runs.attempts.last_requests import LastRequests
from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.exceptions import OpenAIRunError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.runs.end_of_attempt import Cause
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Make, Scene


def test_a_kill_ends_a_run_that_goes_on_after_all(scene: Scene, create: Make) -> None:
    scene.simulator.script(Scenario(queued=0.02, in_progress=500))
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(scene.kept)
    scene.kept["ti"].state, log = "failed", logging.getLogger(__name__)
    store = RecordStore(scene.store, log=log)  # type: ignore[arg-type] # of Airflow, and used like one
    handler = KillHandler(
        requests=LastRequests(ti=scene.kept["ti"], store=store),
        cancels={Cause.KILLED: ("cancel_on_kill", True)},
        log=log,  # type: ignore[arg-type]
    )
    handler.prepare(OpenAIRunsHook())
    ref = RunRef.from_json(scene.store.record["ref"])
    handler.settle(ref, "The run has ended.")
    handler.watch(ref)  # and has calls that only the whole of it shows
    handler.kill()

    with pytest.raises(OpenAIRunError, match=r"The run was cancelled"):
        handler.raise_if_killed()
    assert scene.simulator.active() == []
