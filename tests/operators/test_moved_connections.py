# SPDX-License-Identifier: Apache-2.0
"""A connection keeps its name when it is edited: another server, or another account, knows no such run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunCallError,
    RunConnectionError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.simulator import Scenario, Simulator
from tests.support.scene import Make, Scene, host
from tests.support.scripted_server import Asked, ScriptedServer

LONG = Scenario(queued=0.02, in_progress=500)
QUICK = Scenario(queued=0.02, in_progress=0.05)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe a 404 at once, and search for a moment."""
    for name, value in {
        "attempts.acquire.GONE_SECONDS": 0.1,
        "attempts.acquire.SEARCH_PAUSE": 0.05,
        "runs.lost_create.SEARCH_SECONDS": 0.2,
        "runs.record.NOT_FOUND_GRACE": 0,
        "runs.tracked.NOT_FOUND_GRACE": 0,
    }.items():
        monkeypatch.setattr(f"airflow_provider_openai_runs.{name}", value)


@pytest.fixture
def another() -> Iterator[Simulator]:
    """Give a server that knows nothing of the first one's runs."""
    with Simulator() as simulator:
        simulator.script(Scenario(queued=0, in_progress=0.05, times=None))
        yield simulator


@pytest.fixture
def move(scene: Scene, another: Simulator) -> Callable[[], None]:
    """Edit the connection between two attempts: it leads to another server from now on."""
    return lambda: scene.monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", another.connection_json)


def begin(operator: Any, context: Any) -> None:
    """Let a first attempt create its run and be lost."""
    operator.deferrable = True
    with pytest.raises(TaskDeferred):
        operator.execute(context)


def test_a_retry_pays_for_no_other_run_where_its_own_was_not_created(
    scene: Scene, create: Make, another: Simulator, move: Callable[[], None]
) -> None:
    scene.simulator.script(LONG)
    begin(create(), scene.kept)
    move()
    with pytest.raises(RunConnectionError, match="may be running and billing") as caught:
        create().execute(second := scene.retry(scene.kept))

    assert not isinstance(caught.value, AirflowFailException), "a retry goes on, once it is edited back"
    assert f"led to {host(scene.simulator)}, and leads to {host(another)} now" in str(caught.value)
    assert scene.kept["task_state_store"].record["ref"]["id"] in str(caught.value)
    assert another.count("POST", r"/(responses|runs)$") == 0
    assert scene.creates() == 1

    scene.monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", scene.simulator.connection_json)
    scene.simulator.advance(3_000)
    found = scene.run(create(), scene.retry(second))
    assert (found["status"], scene.creates()) == ("completed", 1)


@pytest.mark.parametrize("on_unendable", ["give_up", "fail"])
def test_a_clear_says_that_the_run_goes_on_where_it_was_created(
    scene: Scene, create: Make, another: Simulator, move: Callable[[], None], on_unendable: str
) -> None:
    scene.simulator.script(LONG)
    begin(create(), scene.kept)
    run = scene.kept["task_state_store"].record["ref"]["id"]
    move()
    operator = create(on_unendable=on_unendable)
    lines = scene.log_of(operator)
    if on_unendable == "fail":
        with pytest.raises(
            RunCallError, match=rf"{run}.* could not be ended .*led to {host(scene.simulator)}"
        ):
            operator.execute(scene.clear(scene.kept))
        assert another.count("POST", r"/(responses|runs)$") == 0
        return
    try:
        scene.run(operator, scene.clear(scene.kept))
    except RunCallError:  # the other server has no such thread
        assert "thread" in str(operator.thread_id)
    (line,) = [line for line in lines if "may be running and billing" in line]
    assert run in line
    assert f"led to {host(scene.simulator)}" in line


# -- the same server, another account ------------------------------------------------------------------------


OUTPUT = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Blue."}]}]


class Projects:
    """A server with projects: a key sees its own runs only."""

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}
        self.status = "in_progress"

    def answer(self, asked: Asked) -> tuple[int, Any]:
        key = asked.key.removesuffix("-rotated")
        if asked.method == "POST":
            name = f"resp_{len(self.runs)}"
            self.runs[name] = key
        else:
            name = asked.path.rpartition("/")[2]
        if self.runs.get(name) != key:
            return 404, {"error": {"message": f"Response with id '{name}' not found."}}
        return 200, {"id": name, "object": "response", "status": self.status, "output": OUTPUT}


@pytest.fixture
def projects(scripted: ScriptedServer) -> Projects:
    found = Projects()
    scripted.play(found.answer)
    return found


@pytest.fixture
def use_key(scene: Scene, scripted: ScriptedServer) -> Callable[..., None]:
    """Edit the connection: its key, and what its client is made with."""

    def use(key: str, **client: Any) -> None:
        connection = json.loads(scripted.connection_json)
        connection |= {"password": key, "extra": json.dumps({"openai_client_kwargs": client})}
        scene.monkeypatch.setenv("AIRFLOW_CONN_SCRIPTED", json.dumps(connection))

    return use


@pytest.mark.parametrize(
    ("key", "client"),
    [
        ("sk-b", {}),
        ("sk-a", {"organization": "org-2"}),
        ("sk-a", {"project": "p-2"}),
        ("sk-a", {"default_headers": {"X-Tenant": "another"}}),
    ],
)
def test_a_key_of_another_account_proves_nothing_about_the_run(
    scene: Scene,
    respond: Make,
    projects: Projects,
    use_key: Callable[..., None],
    key: str,
    client: dict[str, Any],
) -> None:
    use_key("sk-a")
    begin(respond(conn_id="scripted"), scene.kept)
    use_key(key, **client)
    projects.runs["resp_0"] = "sk-of-nobody"
    with pytest.raises(RunConnectionError, match="its key, organization, project or path is another one"):
        respond(conn_id="scripted").execute(scene.retry(scene.kept))
    assert len(projects.runs) == 1


def test_a_rotated_key_goes_on_with_the_run(
    scene: Scene, respond: Make, projects: Projects, use_key: Callable[..., None]
) -> None:
    use_key("sk-a")
    begin(respond(conn_id="scripted"), scene.kept)
    use_key("sk-a-rotated")
    projects.status = "completed"
    found = scene.run(respond(conn_id="scripted"), scene.retry(scene.kept))
    assert (found["status"], len(projects.runs)) == ("completed", 1)


def test_no_key_is_in_the_record(
    scene: Scene, respond: Make, projects: Projects, use_key: Callable[..., None]
) -> None:
    use_key("sk-very-secret", organization="org-very-secret")
    begin(respond(conn_id="scripted"), scene.kept)
    assert scene.store.record["account"].keys() == {"address", "key"}
    assert "secret" not in json.dumps(scene.store.writes)
    assert projects.runs


def test_a_record_that_says_nothing_of_its_server_is_judged_as_before(
    scene: Scene, create: Make, another: Simulator
) -> None:
    scene.simulator.script(QUICK, QUICK)
    begin(create(), scene.kept)
    scene.simulator.advance(5)
    del scene.store.values["openai_run"]["account"]
    scene.store.values["openai_run"]["ref"]["id"] += "gone"
    found = scene.run(create(), scene.retry(scene.kept))
    assert (found["status"], scene.creates(), len(another.runs())) == ("completed", 2, 0)


@pytest.mark.parametrize("is_cleared", [False, True])
def test_a_window_that_ends_elsewhere_does_not_end_the_run(
    scene: Scene, create: Make, another: Simulator, move: Callable[[], None], *, is_cleared: bool
) -> None:
    scene.simulator.script(LONG)
    scene.monkeypatch.setattr("airflow_provider_openai_runs.triggers.completion.CANCEL_WAIT", 0.2)
    operator = create(deferrable=True, completion_window=1)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    move()
    with pytest.raises(RunTimeoutError):
        operator.execute_complete(scene.kept, scene.fire(deferred.value.trigger))
    context = scene.clear(scene.kept) if is_cleared else scene.retry(scene.kept)
    with pytest.raises(OpenAIRunError, match=f"led to {host(scene.simulator)}"):
        create(on_unendable="fail").execute(context)
    assert another.count("POST", r"/(responses|runs)$") == 0


def test_a_key_that_was_rotated_is_the_one_of_the_record_once_it_has_seen_the_run(
    scene: Scene, respond: Make, projects: Projects, use_key: Callable[..., None]
) -> None:
    use_key("sk-a")
    begin(respond(conn_id="scripted"), scene.kept)
    use_key("sk-a-rotated")
    second = scene.retry(scene.kept)
    begin(respond(conn_id="scripted"), second)
    projects.runs["resp_0"] = "sk-of-nobody"  # deleted
    projects.status = "completed"
    found = scene.run(respond(conn_id="scripted"), scene.retry(second))
    assert (found["status"], len(projects.runs)) == ("completed", 2)
