# SPDX-License-Identifier: Apache-2.0
"""A connection that is edited between two attempts of a bulk task leads to where its runs are unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunCallError, RunConnectionError
from airflow_provider_openai_runs.simulator import BatchScenario, Scenario, Simulator
from tests.support import batch_operators, bulk_operators
from tests.support.bulk_operators import Bulk, quick, results, when_created
from tests.support.scene import Scene, host

#: Named after the fixtures that both modules have.
bulk_by_runs = pytest.fixture(name="bulk_by_runs")(bulk_operators.bulk.__wrapped__)  # type: ignore[attr-defined]
bulk_by_batch = pytest.fixture(name="bulk_by_batch")(batch_operators.bulk.__wrapped__)  # type: ignore[attr-defined]
PAID = r"^/(responses|batches|files)$"


@pytest.fixture
def another() -> Iterator[Simulator]:
    """Give a server that knows nothing of the first one's runs."""
    with Simulator(speed=20) as simulator:
        yield simulator


@pytest.fixture(params=["by runs", "by batch"])
def begin(request: pytest.FixtureRequest, scene: Scene) -> Callable[[], Bulk]:
    """Let a first attempt leave what it has created to the next one; give what makes the operator."""
    by_batch = request.param == "by batch"
    bulk: Bulk = request.getfixturevalue("bulk_by_batch" if by_batch else "bulk_by_runs")

    def run() -> Bulk:
        if by_batch:
            scene.simulator.script_batches(BatchScenario(in_progress=400, cancelling=0.2))
            with pytest.raises(TaskDeferred):
                bulk(deferrable=True).execute(scene.kept)
            return bulk
        quick(scene, in_progress=400)
        task = bulk()
        killer = when_created(scene, 20, task.on_kill)
        with pytest.raises(OpenAIRunError, match="20 runs may be running"):
            task.execute(scene.kept)
        killer.join()
        return bulk

    return run


def test_a_retry_sends_nothing_where_its_runs_are_unknown_and_goes_on_once_it_is_edited_back(
    scene: Scene, begin: Callable[[], Bulk], another: Simulator
) -> None:
    bulk = begin()
    scene.monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", another.connection_json)
    with pytest.raises(RunConnectionError, match="Edit the connection back") as caught:
        bulk().execute(scene.retry(scene.kept))
    assert f"led to {host(scene.simulator)}, and leads to {host(another)} now" in str(caught.value)
    assert caught.value.retryable
    assert another.count("POST", PAID) == 0

    scene.monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", scene.simulator.connection_json)
    scene.simulator.advance(500)
    paid = scene.simulator.count("POST", PAID)
    found = scene.run(bulk(), scene.retry(scene.retry(scene.kept)))
    assert len(results(found)) == 20
    assert scene.simulator.count("POST", PAID) == paid


@pytest.mark.parametrize("on_unendable", ["give_up", "fail"])
def test_a_clear_says_what_goes_on_where_it_was_created(
    scene: Scene, begin: Callable[[], Bulk], another: Simulator, on_unendable: str
) -> None:
    bulk = begin()
    scene.monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", another.connection_json)
    another.script(Scenario(queued=0, in_progress=0, times=None))
    task = bulk(on_unendable=on_unendable)
    lines = scene.log_of(task)
    if on_unendable == "fail":
        with pytest.raises(RunCallError, match="Nothing was created"):
            task.execute(scene.clear(scene.kept))
        assert another.count("POST", PAID) == 0
    else:
        assert len(results(scene.run(task, scene.clear(scene.kept)))) == 20
        assert [line for line in lines if f"led to {host(scene.simulator)}" in line]
    statuses = {one["status"] for one in scene.simulator.runs()}
    assert "cancelled" not in statuses


def test_a_rotated_key_goes_on_with_the_runs(scene: Scene, begin: Callable[[], Bulk]) -> None:
    bulk = begin()
    rotated = scene.simulator.connection_json.replace('"password": "', '"password": "rotated-')
    assert rotated != scene.simulator.connection_json
    scene.monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", rotated)
    scene.simulator.advance(500)
    paid = scene.simulator.count("POST", PAID)
    assert len(results(scene.run(bulk(), scene.retry(scene.kept)))) == 20
    assert scene.simulator.count("POST", PAID) == paid
