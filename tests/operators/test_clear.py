# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import RunCallError
from airflow_provider_openai_runs.simulator import Fault, Scenario, Simulator

LONG = Scenario(queued=0.02, in_progress=500)
QUICK = Scenario(queued=0.02, in_progress=0.05)


def test_a_clear_ends_the_old_run_before_exactly_one_new_run_is_created(
    create: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    clear: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG, QUICK)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(kept)
    found = run_task(create(), clear(kept))

    old, new = openai_runs_simulator.runs()
    assert (old["status"], found["id"]) == ("cancelled", new["id"])
    posted = [r.path.rpartition("/")[2] for r in openai_runs_simulator.requests if r.method == "POST"][-2:]
    assert posted[0] == "cancel"
    assert creates() == 2


def test_a_clear_of_a_task_that_succeeded_wants_a_new_run(
    create: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    clear: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(QUICK, QUICK)
    first = run_task(create(), kept)
    second = run_task(create(), clear(kept))

    assert first["id"] != second["id"]
    assert creates() == 2


def test_a_clear_ends_the_run_of_fire_and_forget_too(
    create: Callable[..., Any],
    kept: dict[str, Any],
    clear: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG, LONG)
    create(completion_window=None).execute(kept)
    second = create(completion_window=None).execute(clear(kept))

    assert [run["id"] for run in openai_runs_simulator.active()] == [second["id"]]


def test_a_clear_creates_nothing_when_the_old_run_cannot_be_ended(
    create: Callable[..., Any],
    creates: Callable[[], int],
    kept: dict[str, Any],
    clear: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG, QUICK)
    with pytest.raises(TaskDeferred):
        create(deferrable=True).execute(kept)
    openai_runs_simulator.fault(Fault(method="POST", path="/cancel$", status=500, times=None))
    with pytest.raises(RunCallError, match=r"could not be ended.*may be running and billing.*Nothing new"):
        create(timeouts={"delete": 0.5}).execute(clear(kept))

    assert creates() == 1


def test_a_clear_after_a_lost_create_finds_the_thread_run_and_ends_it_first(
    run_on: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    store: Any,
    clear: Callable[..., Any],
    openai_runs_simulator: Simulator,
) -> None:
    openai_runs_simulator.script(LONG, QUICK)
    with pytest.raises(TaskDeferred):
        run_on(deferrable=True).execute(kept)
    for name in ("ref", "deadline", "created_at"):
        del store.values["openai_run"][name]
    assert run_task(run_on(), clear(kept))["status"] == "completed"

    assert [run["status"] for run in openai_runs_simulator.runs()] == ["cancelled", "completed"]
    assert creates() == 2


def test_a_clear_after_a_lost_create_of_a_response_starts_anew_with_a_warning(
    respond: Callable[..., Any],
    creates: Callable[[], int],
    run_task: Callable[..., Any],
    kept: dict[str, Any],
    clear: Callable[..., Any],
    openai_runs_simulator: Simulator,
    capture_log: Callable[[Any], list[str]],
) -> None:
    openai_runs_simulator.script(LONG, QUICK)
    openai_runs_simulator.fault(Fault(method="POST", path="^/responses$", kind="lost"))
    with pytest.raises(Exception, match="Clear the task to start anew"):
        respond().execute(kept)
    operator = respond()
    lines = capture_log(operator)
    found = operator.execute(clear(kept))

    assert found["status"] == "completed"
    assert [line for line in lines if "may be running and billing" in line]
    assert creates() == 2
