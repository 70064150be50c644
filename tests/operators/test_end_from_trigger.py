# SPDX-License-Identifier: Apache-2.0
"""A deferred run that completes may end its task in the triggerer; whatever else happens is a worker's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.module_loading import import_string
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG, Asset, task
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from pydantic import BaseModel

from airflow_provider_openai_runs.exceptions import ToolCallsPendingError
from airflow_provider_openai_runs.operators import CreateResponseOperator
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from airflow_provider_openai_runs.triggers import completion
from tests.support.scene import Make, Scene
from tests.support.scripted_server import ScriptedServer

QUICK = Scenario(queued=0, in_progress=0.1, text="Rayleigh scattering.")


class Supervisor:
    """Takes what a trigger asks of Airflow; keeps the XComs."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}
        self.error: Exception | None = None

    async def asend(self, message: Any) -> None:
        if self.error is not None:
            raise self.error
        assert (message.task_id, message.dag_id, message.map_index) == ("ask", "a_dag", -1)
        self.xcoms[message.key] = json.loads(json.dumps(message.value))


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """Stand where the triggerer's supervisor stands."""
    found = Supervisor()
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", found, raising=False)
    return found


@pytest.fixture
def event_of(
    scene: Scene, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TriggerEvent]:
    """Defer a task and run its trigger as a triggerer does, some seconds later; return the event."""
    monkeypatch.setattr(completion, "EARLIEST_EVENT", 0.0)

    def run(
        operator: Any, context: dict[str, Any], *, in_a_triggerer: bool = True, later: float = 0
    ) -> TriggerEvent:
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(context)
        scene.simulator.advance(later)
        path, kwargs = deferred.value.trigger.serialize()
        trigger = import_string(path)(**json.loads(json.dumps(kwargs)))
        if in_a_triggerer:
            trigger.task_instance = SimpleNamespace(dag_id="a_dag", run_id="r", task_id="ask", map_index=-1)

        async def events() -> list[TriggerEvent]:
            return [event async for event in trigger.run()]

        (event,) = asyncio.run(events())
        return event

    return run


def test_a_run_that_completes_ends_its_task_with_what_a_worker_would_push(
    scene: Scene, supervisor: Supervisor, create: Make, event_of: Callable[..., Any]
) -> None:
    scene.simulator.script(QUICK)
    event = event_of(create(deferrable=True, end_from_trigger=True), scene.context)

    assert isinstance(event, TaskSuccessEvent)
    # Airflow would turn what the event brings along into text.
    assert event.xcoms is None
    pushed = supervisor.xcoms["return_value"]
    scene.context["ti"].xcoms.clear()
    assert pushed["output_text"] == "Rayleigh scattering."
    ended = {"ref": pushed["ref"], "outcome": "ended", "fate": "ended", "status": "completed"}
    assert pushed == create(deferrable=True).execute_complete(scene.context, ended)
    assert supervisor.xcoms == {**scene.context["ti"].xcoms, "return_value": pushed}


def test_an_answer_that_is_not_listed_is_left_to_a_worker(
    scene: Scene, supervisor: Supervisor, run_on: Make, event_of: Callable[..., Any]
) -> None:
    scene.simulator.script(QUICK)
    scene.simulator.fault(Fault(method="GET", path="/messages$", status=404))
    event = event_of(run_on(deferrable=True, end_from_trigger=True), scene.context)
    assert not isinstance(event, TaskSuccessEvent)
    assert event.payload["outcome"] == "ended"
    assert supervisor.xcoms == {}


def test_multiple_outputs_are_pushed_one_by_one_too(
    scene: Scene, supervisor: Supervisor, create: Make, event_of: Callable[..., Any]
) -> None:
    scene.simulator.script(QUICK)
    event = event_of(create(deferrable=True, end_from_trigger=True, multiple_outputs=True), scene.context)
    assert isinstance(event, TaskSuccessEvent)
    values = dict(supervisor.xcoms)
    assert values.pop("return_value") == values
    assert values["output_text"] == "Rayleigh scattering."


def test_a_task_that_pushes_nothing_ends_in_the_triggerer_too(
    scene: Scene, supervisor: Supervisor, create: Make, event_of: Callable[..., Any]
) -> None:
    scene.simulator.script(QUICK)
    event = event_of(create(deferrable=True, end_from_trigger=True, do_xcom_push=False), scene.context)
    assert isinstance(event, TaskSuccessEvent)
    assert supervisor.xcoms == {}


@pytest.mark.parametrize("ends", ["failed", "incomplete", "cancelled", "expired"])
def test_every_other_end_is_a_workers(
    scene: Scene, run_on: Make, event_of: Callable[..., Any], ends: str
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, ends=ends))
    event = event_of(run_on(deferrable=True, end_from_trigger=True), scene.context)
    assert not isinstance(event, TaskSuccessEvent)
    assert event.payload["status"] == ends


def test_a_completed_response_with_a_call_is_a_workers(
    scene: Scene, respond: Make, event_of: Callable[..., Any]
) -> None:
    scene.simulator.script(
        Scenario(queued=0, in_progress=0.1, function_calls=((FunctionCall(name="look_up"),),))
    )
    event = event_of(respond(deferrable=True, end_from_trigger=True), scene.context)
    assert not isinstance(event, TaskSuccessEvent)
    assert event.payload["outcome"] == "needs_action"


ROWS = {"type": "function", "name": "rows"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "rows", "arguments": "{}"}
SAYS = {"type": "message", "content": [{"type": "output_text", "text": "One moment."}]}


@pytest.mark.parametrize("push", [True, False], ids=["pushes", "pushes nothing"])
@pytest.mark.parametrize("output", [[CALL, SAYS], []], ids=["a call of the request's tools", "no answer"])
def test_what_only_the_request_can_decide_and_an_empty_answer_are_a_workers(
    scene: Scene,
    scripted: ScriptedServer,
    supervisor: Supervisor,
    event_of: Callable[..., Any],
    output: list[Any],
    *,
    push: bool,
) -> None:
    """No reply says which tools were offered, and those of the request do not travel in a trigger."""
    done = {"id": "resp_1", "status": "completed", "output": output}
    scripted.play({"POST /responses": (200, {"id": "resp_1"}), "GET /responses/resp_1": (200, done)})
    given: dict[str, Any] = {"task_id": "ask", "conn_id": "scripted", "model": "m", "input": "?"}
    operator = CreateResponseOperator(
        **given, completion_window=20, deferrable=True, end_from_trigger=True, do_xcom_push=push
    )
    operator.tools = [ROWS]  # what a template came to
    event = event_of(operator, scene.context)
    assert not isinstance(event, TaskSuccessEvent)
    assert supervisor.xcoms == {}
    if output:
        with pytest.raises(ToolCallsPendingError):
            operator.execute_complete(scene.context, event.payload)


def test_a_run_that_cannot_be_read_is_a_workers(
    scene: Scene, respond: Make, event_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=100))
    # The first poll sees the end; what comes after it is the read.
    scene.simulator.fault(Fault(method="GET", status=404, skip=1, times=None))
    event = event_of(respond(deferrable=True, end_from_trigger=True), scene.context, later=200)
    assert not isinstance(event, TaskSuccessEvent)
    assert event.payload["status"] == "completed"


def test_a_result_that_cannot_be_pushed_is_a_workers(
    scene: Scene, supervisor: Supervisor, respond: Make, event_of: Callable[..., Any]
) -> None:
    scene.simulator.script(QUICK)
    supervisor.error = OSError("the supervisor is gone")
    event = event_of(respond(deferrable=True, end_from_trigger=True), scene.context)
    assert not isinstance(event, TaskSuccessEvent)
    assert event.payload["status"] == "completed"


def test_a_result_too_large_for_the_triggerer_is_a_workers(
    scene: Scene, supervisor: Supervisor, respond: Make, event_of: Callable[..., Any]
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, text="x" * 1_000_001))
    event = event_of(respond(deferrable=True, end_from_trigger=True), scene.context)
    assert not isinstance(event, TaskSuccessEvent)
    assert event.payload["status"] == "completed"
    assert supervisor.xcoms == {}


def test_a_dag_test_finishes_in_its_worker(scene: Scene, create: Make, event_of: Callable[..., Any]) -> None:
    scene.simulator.script(QUICK)
    event = event_of(create(deferrable=True, end_from_trigger=True), scene.context, in_a_triggerer=False)
    assert not isinstance(event, TaskSuccessEvent)


def test_a_retry_and_a_clear_find_the_record_as_a_worker_leaves_it(
    scene: Scene, create: Make, event_of: Callable[..., Any]
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.1, times=2))
    operator = create(deferrable=True, end_from_trigger=True)
    assert isinstance(event_of(operator, scene.kept), TaskSuccessEvent)
    # A retry of a task that has succeeded is odd, but must not pay.
    assert operator.execute(scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 1
    assert isinstance(event_of(operator, scene.clear(scene.kept)), TaskSuccessEvent)
    assert scene.creates() == 2


class Answer(BaseModel):
    city: str


def look_up(city: str) -> str:
    """Look a city up."""
    return city


class WithPostExecute(CreateResponseOperator):
    def post_execute(self, context: Any, result: Any = None) -> None:
        """Do something."""


LOST: dict[str, tuple[dict[str, Any], str]] = {
    "outlets": ({"outlets": [Asset("answers")]}, "outlets"),
    "post_execute": ({"post_execute": lambda *_: None}, "post_execute"),
    "output_type": ({"output_type": Answer}, "output_type"),
    "functions": ({"functions": [look_up]}, "calls"),
}


@pytest.mark.parametrize(("arguments", "reason"), LOST.values(), ids=LOST)
def test_where_something_would_be_lost_a_worker_finishes_and_the_log_says_why(
    scene: Scene, respond: Make, arguments: dict[str, Any], reason: str
) -> None:
    scene.simulator.script(QUICK)
    _stays_with_a_worker(
        respond(deferrable=True, end_from_trigger=True, **arguments), scene.context, scene.log_of, reason
    )


def test_a_post_execute_of_a_subclass_is_not_lost(scene: Scene) -> None:
    scene.simulator.script(QUICK)
    operator = WithPostExecute(
        task_id="ask", model="m", input="Why?", completion_window=30, deferrable=True, end_from_trigger=True
    )
    _stays_with_a_worker(operator, scene.context, scene.log_of, "post_execute")


def test_an_xcom_backend_is_not_passed_by(
    scene: Scene, respond: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.bases.xcom import BaseXCom  # noqa: PLC0415 # after the environment is set

    scene.simulator.script(QUICK)
    own = type("OwnXCom", (BaseXCom,), {})
    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom", own)
    _stays_with_a_worker(
        respond(deferrable=True, end_from_trigger=True), scene.context, scene.log_of, "XCom backend"
    )


def test_a_task_that_is_mapped_over_the_result_finds_its_length(scene: Scene, respond: Make) -> None:
    scene.simulator.script(QUICK)
    with DAG("mapped", schedule=None):
        operator = respond(deferrable=True, end_from_trigger=True)

        @task
        def each(item: Any) -> None:
            """Take one."""

        each.expand(item=operator.output)
    _stays_with_a_worker(operator, scene.context, scene.log_of, "mapped over")


def _stays_with_a_worker(
    operator: Any, context: dict[str, Any], capture_log: Callable[..., Any], reason: str
) -> None:
    lines = capture_log(operator)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    assert "end" not in deferred.value.trigger.serialize()[1]
    (line,) = [line for line in lines if "end_from_trigger" in line]
    assert reason in line
