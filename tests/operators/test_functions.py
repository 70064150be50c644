# SPDX-License-Identifier: Apache-2.0
"""Runs that call Python functions: what is called, what the model reads, and what ends the task."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_openai_runs.exceptions import (
    LostCreateError,
    RunCallError,
    RunExpiredError,
    RunRequestError,
    RunTimeoutError,
    ToolCallsFailedError,
    ToolCallsPendingError,
)
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario, Simulator
from tests.support.scene import Make, Scene

CALLED: list[tuple[str, Any]] = []


def weather(city: str, days: int = 1) -> dict[str, Any]:
    """Forecast the weather of a city."""
    CALLED.append((city, days))
    return {"city": city, "sky": "blue"}


def broken(city: str) -> str:
    """Fail."""
    CALLED.append((city, "broken"))
    raise LookupError(f"no such city: {city}, api_key=sk-verysecret")


def slow() -> str:
    """Take longer than anybody waits."""
    time.sleep(30)
    return "late"


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    CALLED.clear()


def calls(*rounds: Any, **more: Any) -> Scenario:
    """Make a scenario that calls in rounds; each is a call, or a list of them."""
    listed = [tuple(r) if isinstance(r, list) else (r,) for r in rounds]
    return Scenario(function_calls=listed, **{"queued": 0.01, "in_progress": 0.02, "times": None} | more)


def call(name: str = "weather", **arguments: Any) -> FunctionCall:
    return FunctionCall(name=name, arguments=arguments)


def describe_calls(simulator: Simulator) -> list[str]:
    """Return what the model read, in order."""
    found = []
    for request in simulator.requests:
        body = request.body if isinstance(request.body, dict) else {}
        found += [item["output"] for item in body.get("tool_outputs", [])]
        items = body.get("input")
        found += [item["output"] for item in items if "output" in item] if isinstance(items, list) else []
    return found


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_function_is_called_and_the_run_goes_on_with_its_result(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    scene.simulator.script(calls(call(city="Oslo", days=2), text="Blue."))
    found = scene.run(create(functions=[weather], deferrable=deferrable))

    assert CALLED == [("Oslo", 2)]
    assert [json.loads(text) for text in describe_calls(scene.simulator)] == [{"city": "Oslo", "sky": "blue"}]
    assert found["status"] == "completed"
    assert found["output_text"] == "Blue."
    assert scene.context["ti"].xcoms["ref"] == found["ref"]


def test_the_model_is_offered_the_functions_beside_the_tools(scene: Scene, create: Make) -> None:
    scene.simulator.script(calls(call(city="Oslo")))
    own = {"type": "function", "function": {"name": "weather", "description": "Mine."}}
    tools = [own, {"type": "code_interpreter", "container": {"type": "auto"}}]
    scene.run(create(functions=[weather, broken], tools=tools[:1]))
    sent = next(r.body["tools"] for r in scene.simulator.requests if "tools" in (r.body or {}))
    flat = [tool.get("function", tool) for tool in sent]

    assert [tool["name"] for tool in flat] == ["weather", "broken"]
    assert [tool["description"] for tool in flat] == ["Mine.", "Fail."]


def test_all_calls_of_a_round_are_answered_in_order_and_at_once(scene: Scene, create: Make) -> None:
    cities = ["Oslo", "Rome", "Lima"]
    scene.simulator.script(calls([call(city=city) for city in cities]))
    found = scene.run(create(functions=[weather]))

    assert [city for city, _ in CALLED] == cities
    assert [json.loads(text)["city"] for text in describe_calls(scene.simulator)] == cities
    assert found["status"] == "completed"


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_five_rounds_are_one_run_for_the_user(scene: Scene, create: Make, *, deferrable: bool) -> None:
    cities = ["Oslo", "Rome", "Lima", "Bonn", "Cork"]
    scene.simulator.script(calls(*(call(city=city) for city in cities), usage=(100, 10)))
    found = scene.run(create(functions=[weather], deferrable=deferrable))
    kinds = [step["type"] for step in found["steps"]]

    assert [city for city, _ in CALLED] == cities
    assert found["status"] == "completed"
    assert kinds.count("tool_calls" if found["ref"]["kind"] == "thread_run" else "function_call") == 5
    if found["ref"]["kind"] == "response":
        assert found["usage"]["total_tokens"] == 6 * 110
        assert len(found["raw"]["response_ids"]) == 6
        assert found["raw"]["response_ids"][-1] == found["id"]


def test_more_rounds_than_max_rounds_end_the_run(scene: Scene, create: Make) -> None:
    scene.simulator.script(calls(*(call(city="Oslo") for _ in range(4))))
    with pytest.raises(ToolCallsFailedError, match=r"after 2 rounds \(max_rounds=2\)") as caught:
        scene.run(create(functions=[weather], max_rounds=2))

    assert not caught.value.retryable
    assert len(CALLED) == 2
    assert scene.simulator.active() == []
    assert scene.context["ti"].xcoms["return_value"]["tool_calls"]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (call(name="nonsense"), "There is no function 'nonsense'. There are: weather, broken"),
        (call(days=1), "city"),
        (FunctionCall(name="weather", arguments="{not json"), "JSON"),
        (call(name="broken", city="Oslo"), "LookupError: no such city: Oslo"),
    ],
    ids=["unknown function", "missing argument", "no JSON", "exception"],
)
def test_what_goes_wrong_is_sent_to_the_model_and_the_run_goes_on(
    scene: Scene, create: Make, asked: FunctionCall, answer: str
) -> None:
    scene.simulator.script(calls(asked, call(city="Rome")))
    found = scene.run(create(functions=[weather, broken]))
    first, second = describe_calls(scene.simulator)

    assert found["status"] == "completed"
    assert first.startswith("Error: ")
    assert answer in first
    assert "Traceback" not in first
    assert "sk-verysecret" not in first
    assert "blue" in second


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_three_errors_in_a_row_end_the_run_with_all_of_them_in_the_message(
    scene: Scene, create: Make, *, deferrable: bool
) -> None:
    bad = [call(name="broken", city=city) for city in ("Oslo", "Rome", "Lima", "Bonn")]
    scene.simulator.script(calls(bad[0], call(city="Cork"), *bad[1:]))
    with pytest.raises(ToolCallsFailedError) as caught:
        scene.run(create(functions=[weather, broken], deferrable=deferrable))

    assert [city for city in ("Oslo", "Rome", "Lima", "Bonn") if city in str(caught.value)] == [
        "Rome",
        "Lima",
        "Bonn",
    ]
    assert scene.simulator.active() == []


def test_errors_of_which_the_model_has_read_none_do_not_end_the_run(scene: Scene, create: Make) -> None:
    """A retry would make the call that went well once more, under another id."""
    bad = [call(name="broken", city=city) for city in ("Oslo", "Rome", "Lima")]
    scene.simulator.script(calls([call(city="Cork"), *bad]))
    found = scene.run(create(functions=[weather, broken]))

    assert found["status"] == "completed"
    assert [("Cork", 1), *((city, "broken") for city in ("Oslo", "Rome", "Lima"))] == CALLED
    assert len(describe_calls(scene.simulator)) == 4


def test_errors_go_on_counting_from_one_round_to_the_next(scene: Scene, create: Make) -> None:
    bad = [call(name="broken", city=city) for city in ("Oslo", "Rome", "Lima")]
    scene.simulator.script(calls(bad, bad[0], call(city="Cork")))
    with pytest.raises(ToolCallsFailedError, match="The last 4 calls"):
        scene.run(create(functions=[weather, broken]))
    assert len(CALLED) == 4


def test_the_first_error_ends_a_run_that_may_have_none(scene: Scene, create: Make) -> None:
    round_one = [call(city="Cork"), call(name="broken", city="Oslo"), call(city="Bonn")]
    scene.simulator.script(calls(round_one))
    with pytest.raises(ToolCallsFailedError, match=r"The last call .* not tried again") as caught:
        scene.run(create(functions=[weather, broken], max_tool_errors=1))
    assert isinstance(caught.value, AirflowFailException)
    assert [city for city, _ in CALLED] == ["Cork", "Oslo"]
    assert scene.simulator.active() == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(method="POST", path="^/responses$", status=404, skip=1, times=2),
        Fault(method="POST", path="^/responses$", status=409, skip=1),
        Fault(method="POST", path="^/responses$", status=425, skip=1),
        Fault(method="POST", path="^/responses$", status=400, code="previous_response_not_found", skip=1),
    ],
    ids=["404", "409", "425", "not found yet"],
)
def test_an_answer_that_is_not_taken_for_a_moment_runs_no_function_again(
    scene: Scene, respond: Make, fault: Fault
) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.answers.ANSWER_PAUSE", 0.05)
    scene.simulator.script(calls(call(city="Oslo")))
    scene.simulator.fault(fault)
    found = scene.run(respond(functions=[weather]))

    assert found["status"] == "completed"
    assert CALLED == [("Oslo", 1)]


def test_a_function_that_is_slower_than_expires_at_fails_early_and_ends_the_run(
    scene: Scene, run_on: Make
) -> None:
    scene.simulator.script(calls(call(name="slow"), expires_after=4))
    began = time.monotonic()
    with pytest.raises(RunTimeoutError, match=r"'slow' was not ready when expires_at of the run was over"):
        scene.run(run_on(functions=[slow]))

    assert time.monotonic() - began < 20
    assert scene.simulator.active() == []


def test_a_function_that_is_slower_than_the_window_ends_the_run(scene: Scene, create: Make) -> None:
    scene.simulator.script(calls(call(name="slow")))
    with pytest.raises(RunTimeoutError, match=r"completion_window=3 was over"):
        scene.run(create(functions=[slow], completion_window=3))

    assert scene.simulator.active() == []


def test_a_run_that_expired_before_it_was_answered_fails_as_expired(scene: Scene, run_on: Make) -> None:
    scene.simulator.script(calls(call(city="Oslo"), expires_after=60))
    operator = run_on(functions=[weather], deferrable=True, completion_window=600)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.context)
    event = scene.fire(deferred.value.trigger)
    scene.simulator.advance(120)
    with pytest.raises(RunExpiredError):
        operator.execute_complete(scene.context, event)

    assert CALLED == []


def test_context_and_call_id_are_passed_to_a_function_that_asks_for_them(scene: Scene, create: Make) -> None:
    def lookup(city: str, context: Any, call_id: str) -> str:
        """Look up a city."""
        CALLED.append((context["ti"].task_id, call_id))
        return city

    scene.simulator.script(calls(call(name="lookup", city="Oslo")))
    scene.run(create(functions=[lookup]))

    assert CALLED[0][0] == "ask"
    assert CALLED[0][1].startswith("call_")


def test_the_log_names_the_calls_without_their_arguments(scene: Scene, create: Make) -> None:
    scene.simulator.script(calls(call(city="Secret Harbour")))
    operator = create(functions=[weather])
    lines = scene.log_of(operator)
    scene.run(operator)

    assert any("weather" in line for line in lines)
    assert not any("Secret Harbour" in line for line in lines)


def test_the_error_of_a_refused_answer_names_the_run_and_that_of_a_refused_create_names_none(
    scene: Scene, create: Make
) -> None:
    """By that the retry policy knows whether something paid for waits."""
    scene.simulator.script(calls(call(city="Oslo")))
    for skip, names_a_run in ((0, False), (1, True)):
        busy = Fault(method="POST", path="/(runs|responses|submit_tool_outputs)$", status=429, retry_after=60)
        scene.simulator.fault(replace(busy, skip=skip))
        with pytest.raises(RunCallError, match="429") as raised:
            scene.run(create(functions=[weather], timeouts={"create": 5}))

        assert raised.value.retry_after == 60.0
        assert (raised.value.ref is not None) is names_a_run


# -- crashes -------------------------------------------------------------------------------------------------


def test_a_retry_after_the_function_ran_runs_it_again_and_answers_the_same_run(
    scene: Scene, create: Make
) -> None:
    class WorkerLost(SystemExit):
        pass

    def dies(city: str) -> str:
        """Take the worker along, once."""
        CALLED.append((city, len(CALLED)))
        if len(CALLED) == 1:
            raise WorkerLost
        return city

    scene.simulator.script(calls(call(name="dies", city="Oslo")))
    operator = create(functions=[dies], deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    with pytest.raises(WorkerLost):
        operator.execute_complete(scene.kept, scene.fire(deferred.value.trigger))
    found = scene.run(create(functions=[dies], deferrable=True), scene.retry(scene.kept))

    assert found["status"] == "completed"
    assert len(CALLED) == 2
    assert scene.creates() == (1 if found["ref"]["kind"] == "thread_run" else 2)


def test_a_retry_after_the_answer_was_sent_runs_no_function_again(scene: Scene, create: Make) -> None:
    scene.simulator.script(calls(call(city="Oslo"), call(city="Rome"), usage=(100, 10)))
    operator = create(functions=[weather], deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    with pytest.raises(TaskDeferred):
        operator.execute_complete(scene.kept, scene.fire(deferred.value.trigger))
    found = scene.run(create(functions=[weather], deferrable=True), scene.retry(scene.kept))

    assert [city for city, _ in CALLED] == ["Oslo", "Rome"]
    assert found["status"] == "completed"
    assert scene.creates() == (1 if found["ref"]["kind"] == "thread_run" else 3)
    if found["ref"]["kind"] == "response":
        assert found["usage"]["total_tokens"] == 330


def test_a_lost_answer_to_the_next_response_is_never_sent_twice(scene: Scene, respond: Make) -> None:
    scene.simulator.script(calls(call(city="Oslo")))
    operator = respond(functions=[weather], deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    scene.simulator.fault(Fault(path="^/responses$", method="POST", kind="lost"))
    with pytest.raises(LostCreateError, match=r"was not answered"):
        operator.execute_complete(scene.kept, scene.fire(deferred.value.trigger))
    with pytest.raises(LostCreateError):
        respond(functions=[weather], deferrable=True).execute(scene.retry(scene.kept))

    assert scene.creates() == 2
    assert len(CALLED) == 1


def test_resubmit_after_a_crash_in_between_goes_back_to_the_response_that_asked(
    scene: Scene, respond: Make
) -> None:
    scene.simulator.script(calls(call(city="Oslo"), usage=(100, 10)))
    operator = respond(functions=[weather], deferrable=True, on_lost_create="resubmit")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    with pytest.raises(TaskDeferred):
        operator.execute_complete(scene.kept, scene.fire(deferred.value.trigger))
    # As if the worker had died between the intent and the ref of the second response.
    record = scene.kept["task_state_store"].values["openai_run"]
    for name in ("ref", "created_at"):
        del record[name]
    found = scene.run(operator, scene.retry(scene.kept))

    assert found["status"] == "completed"
    assert len(CALLED) == 2
    assert found["usage"]["total_tokens"] == 220


def test_a_lost_answer_of_submitted_outputs_is_polled_for_and_not_failed(scene: Scene, run_on: Make) -> None:
    scene.simulator.script(calls(call(city="Oslo")))
    scene.simulator.fault(Fault(path="submit_tool_outputs$", method="POST", kind="lost"))
    found = scene.run(run_on(functions=[weather]))

    assert found["status"] == "completed"
    assert len(CALLED) == 1
    assert scene.simulator.count("POST", "submit_tool_outputs$") == 1


@pytest.mark.usefixtures("quick_retries")
def test_a_lost_answer_is_not_sent_again_for_the_calls_of_the_next_round(scene: Scene, run_on: Make) -> None:
    scene.simulator.script(calls(call(city="Oslo"), call(city="Rome"), queued=0, in_progress=0))
    scene.simulator.fault(Fault(path="submit_tool_outputs$", method="POST", kind="lost"))
    found = scene.run(run_on(functions=[weather]))

    assert found["status"] == "completed"
    assert [city for city, _ in CALLED] == ["Oslo", "Rome"]
    assert scene.simulator.count("POST", "submit_tool_outputs$") == 2


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_failure_of_submitted_outputs_is_tried_again(scene: Scene, run_on: Make, status: int) -> None:
    scene.simulator.script(calls(call(city="Oslo")))
    scene.simulator.fault(Fault(path="submit_tool_outputs$", method="POST", status=status))
    found = scene.run(run_on(functions=[weather]))

    assert found["status"] == "completed"
    assert len(CALLED) == 1


def test_a_clear_between_rounds_starts_the_conversation_anew(scene: Scene, create: Make) -> None:
    scene.simulator.script(calls(call(city="Oslo")))
    operator = create(functions=[weather], deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(scene.kept)
    with pytest.raises(TaskDeferred):
        operator.execute_complete(scene.kept, scene.fire(deferred.value.trigger))
    found = scene.run(create(functions=[weather], deferrable=True), scene.clear(scene.kept))

    assert found["status"] == "completed"
    assert len(CALLED) == 2
    assert scene.simulator.active() == []


def test_the_trigger_of_a_run_that_waits_for_a_call_may_die(scene: Scene, create: Make) -> None:
    scene.simulator.script(calls(call(city="Oslo")))
    operator = create(functions=[weather], deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute(scene.kept)
    time.sleep(0.3)
    with pytest.raises(TaskDeferred) as again:
        operator.resume_execution("__fail__", {"error": "the trigger died"}, scene.kept)
    found = operator.execute_complete(scene.kept, scene.fire(again.value.trigger))

    assert found["status"] == "completed"
    assert len(CALLED) == 1


# -- without functions ---------------------------------------------------------------------------------------


def test_on_tool_calls_return_ends_the_task_with_the_calls(scene: Scene, create: Make) -> None:
    scene.simulator.script(calls(call(city="Oslo")))
    found = scene.run(create(on_tool_calls="return"))

    assert [c["name"] for c in found["tool_calls"]] == ["weather"]
    assert found["status"] in {"requires_action", "completed"}
    cancels = scene.simulator.count("POST", "/cancel$")
    assert cancels == 0


def test_a_call_that_is_no_function_fails_the_task_even_with_functions(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(mcp_approval=call(name="roll_dice"), queued=0.01, in_progress=0.01))
    with pytest.raises(ToolCallsPendingError, match="roll_dice"):
        scene.run(respond(functions=[weather]))


# -- bad input -----------------------------------------------------------------------------------------------


def test_functions_without_a_window_are_refused_when_the_dag_is_parsed(create: Callable[..., Any]) -> None:
    with pytest.raises(RunRequestError, match="completion_window"):
        create(functions=[weather], completion_window=None)


@pytest.mark.parametrize(
    ("name", "value"), [("max_rounds", 0), ("max_tool_errors", "x"), ("approval_timeout", -1)]
)
def test_limits_that_make_no_sense_are_refused_when_the_dag_is_parsed(
    create: Callable[..., Any], name: str, value: Any
) -> None:
    with pytest.raises(RunRequestError, match=name):
        create(functions=[weather], **{name: value})


def test_a_choice_that_there_is_not_is_refused_before_anything_is_sent(scene: Scene, create: Make) -> None:
    with pytest.raises(RunRequestError, match=r"on_tool_calls='ask': must be one of 'fail', 'return'"):
        scene.run(create(on_tool_calls="ask"))

    assert scene.creates() == 0
