# SPDX-License-Identifier: Apache-2.0
"""Calls that wait for a person, through the operators, on the simulator."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunRequestError, ToolCallsPendingError
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene

QUICK: dict[str, Any] = {"queued": 0.02, "in_progress": 0.05}


def refund(amount: float) -> FunctionCall:
    return FunctionCall(name="refund_order", arguments={"amount": amount})


@pytest.fixture
def made() -> list[float]:
    """Collect the amounts that the function has paid."""
    return []


@pytest.fixture
def approval_request(scene: Scene, pages: Any, made: list[float]) -> dict[str, Any]:
    """Give the arguments of an operator whose function a person has to approve."""
    del pages
    scene.kept["ti"].id = uuid.uuid4()

    def refund_order(amount: float) -> str:
        """Pay money back."""
        made.append(amount)
        return f"refunded {amount:g}"

    return {"functions": [refund_order], "approve": True}


@pytest.fixture
def pause(scene: Scene) -> Callable[..., Any]:
    """Run an operator until it waits for a person; return how it paused."""

    def run(operator: Any, context: dict[str, Any] = scene.kept) -> Any:
        from airflow.sdk.exceptions import TaskAwaitingInput  # noqa: PLC0415 # 3.3+, as the store

        with pytest.raises(TaskAwaitingInput) as paused:
            operator.execute(context)
        return paused.value

    return run


@pytest.fixture
def resume(scene: Scene) -> Callable[..., Any]:
    """Go on as another worker does, with the answer that Airflow hands over."""

    def run(operator: Any, paused: Any, event: dict[str, Any], context: dict[str, Any] = scene.kept) -> Any:
        kwargs = json.loads(json.dumps(paused.kwargs))
        return operator.resume_execution(paused.method_name, {**kwargs, "event": event}, context)

    return run


@pytest.fixture
def received(scene: Scene) -> Callable[[], list[Any]]:
    """Return what the model reads in answer to its calls."""

    def answers() -> list[Any]:
        bodies = [request.body or {} for request in scene.simulator.requests if request.method == "POST"]
        items = [item for body in bodies for item in body.get("tool_outputs") or body.get("input") or []]
        return [item["output"] for item in items if isinstance(item, dict) and "output" in item]

    return answers


def test_approved_calls_are_made_and_the_run_goes_on(
    scene: Scene, create: Make, approval_request: Any, pause: Any, resume: Any, pages: Any, made: Any
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5)]], text="Done."))
    paused = pause(create(**approval_request))
    assert made == []

    found = resume(create(**approval_request), paused, pages.answered())
    assert (found["status"], found["output_text"], made) == ("completed", "Done.", [42.5])


def test_a_rejection_goes_to_the_model_and_nothing_is_made(
    scene: Scene,
    create: Make,
    approval_request: Any,
    pause: Any,
    resume: Any,
    pages: Any,
    made: Any,
    received: Any,
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5)]]))
    paused = pause(create(**approval_request))

    found = resume(create(**approval_request), paused, pages.answered("Reject", comment="Too much."))
    assert found["status"] == "completed"
    assert made == []
    assert [text for text in received() if "rejected" in text and "Too much." in text] == received()


def test_of_two_calls_one_is_made_with_edited_arguments_and_the_other_rejected(
    scene: Scene,
    create: Make,
    approval_request: Any,
    pause: Any,
    resume: Any,
    pages: Any,
    made: Any,
    received: Any,
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5), refund(99)]]))
    paused = pause(create(**approval_request))

    resume(create(**approval_request), paused, pages.answered(arguments_1={"amount": 5}, approve_2=False))
    assert made == [5.0]
    assert received()[0] == "refunded 5"
    assert "rejected" in received()[1]


def test_nobody_is_asked_about_calls_that_need_nobody(
    scene: Scene, create: Make, approval_request: Any, pages: Any, made: Any
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))

    approval_request["approve"] = lambda name, _arguments: name == "delete_order"
    assert create(**approval_request).execute(scene.kept)["status"] == "completed"
    assert (made, pages.written) == ([7.0], 0)


def test_the_wait_for_a_person_ends_with_approval_timeout(
    scene: Scene, create: Make, approval_request: Any, pause: Any
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))

    assert pause(create(**approval_request, approval_timeout=5)).timeout == timedelta(seconds=5)


def test_without_approval_timeout_the_window_bounds_the_wait(
    scene: Scene, create: Make, approval_request: Any, pause: Any
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))

    # Twenty seconds before the end of the window: the scheduler has to notice, and the answer to be sent.
    assert timedelta() < pause(create(**approval_request)).timeout < timedelta(seconds=10)


def test_when_nobody_decides_the_model_reads_that(
    scene: Scene,
    create: Make,
    approval_request: Any,
    pause: Any,
    resume: Any,
    pages: Any,
    made: Any,
    received: Any,
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))
    paused = pause(create(**approval_request))

    assert resume(create(**approval_request), paused, pages.timed_out())["status"] == "completed"
    assert made == []
    assert "nobody decided in time" in received()[0]


def test_when_nobody_decides_and_that_is_to_fail_the_task_fails(
    scene: Scene, create: Make, approval_request: Any, pause: Any, resume: Any, pages: Any, made: Any
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))
    approval_request["on_approval_timeout"] = "fail"
    paused = pause(create(**approval_request))
    with pytest.raises(ToolCallsPendingError, match="nobody decided in time"):
        resume(create(**approval_request), paused, pages.timed_out())

    assert made == []
    assert scene.simulator.active() == []


def test_a_second_round_is_rejected_to_the_model_without_a_page(
    scene: Scene,
    create: Make,
    approval_request: Any,
    pause: Any,
    resume: Any,
    pages: Any,
    made: Any,
    received: Any,
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)], [refund(2)]]))
    paused = pause(create(**approval_request))

    assert resume(create(**approval_request), paused, pages.answered())["status"] == "completed"
    assert (made, pages.written) == ([1.0], 1)
    assert "nobody can be asked a second time" in received()[-1]


def test_a_second_round_that_is_to_fail_fails_and_names_the_way_for_many_rounds(
    scene: Scene, create: Make, approval_request: Any, pause: Any, resume: Any, pages: Any, made: Any
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)], [refund(2)]]))
    approval_request["on_second_approval"] = "fail"
    paused = pause(create(**approval_request))
    with pytest.raises(ToolCallsPendingError, match="SubmitToolOutputsOperator"):
        resume(create(**approval_request), paused, pages.answered())

    assert made == [1.0]


def test_on_airflow_3_4_each_round_has_a_page_of_its_own(
    scene: Scene,
    create: Make,
    approval_request: Any,
    pause: Any,
    resume: Any,
    refreshed_pages: Any,
    made: Any,
) -> None:
    from airflow.sdk.exceptions import TaskAwaitingInput  # noqa: PLC0415 # 3.3+, as the store

    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)], [refund(2)]]))
    paused = pause(create(**approval_request))
    first = refreshed_pages.page.body
    with pytest.raises(TaskAwaitingInput) as again:
        resume(create(**approval_request), paused, refreshed_pages.answered())
    assert made == [1.0]
    assert refreshed_pages.page.body != first

    found = resume(create(**approval_request), again.value, refreshed_pages.answered())
    assert found["status"] == "completed"
    assert (made, refreshed_pages.written) == ([1.0, 2.0], 2)


def test_on_airflow_3_4_a_cleared_task_asks_again(
    scene: Scene,
    create: Make,
    approval_request: Any,
    pause: Any,
    resume: Any,
    refreshed_pages: Any,
    made: Any,
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)]], times=2))
    pause(create(**approval_request))
    cleared = scene.clear(scene.kept)
    cleared["ti"].id = scene.kept["ti"].id
    again = pause(create(**approval_request), cleared)
    assert again.timeout != timedelta(seconds=1)

    found = resume(create(**approval_request), again, refreshed_pages.answered(), cleared)
    assert (found["status"], made) == ("completed", [1.0])


def test_a_task_cleared_while_a_person_decides_ends_its_run_and_has_the_old_page_closed_first(
    scene: Scene,
    create: Make,
    approval_request: Any,
    pause: Any,
    resume: Any,
    pages: Any,
    made: Any,
    received: Any,
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)]], times=2))
    pause(create(**approval_request))
    cleared = scene.clear(scene.kept)
    cleared["ti"].id = scene.kept["ti"].id
    closing = pause(create(**approval_request), cleared)
    assert closing.timeout == timedelta(seconds=1)
    assert scene.simulator.runs()[0]["status"] in {"cancelled", "completed"}

    assert resume(create(**approval_request), closing, pages.timed_out(), cleared)["status"] == "completed"
    assert made == []
    assert "nobody can be asked a second time" in received()[-1]


def test_an_old_page_that_is_answered_while_the_task_waits_for_its_run_makes_no_call(
    scene: Scene, create: Make, approval_request: Any, pause: Any, pages: Any, made: Any
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)]]))
    scene.simulator.script(Scenario(**QUICK, text="No calls."))
    pause(create(**approval_request))

    found = create(**approval_request).resume_execution(
        "execute_complete", {"event": pages.answered()}, scene.clear(scene.kept)
    )
    assert (found["output_text"], made) == ("No calls.", [])


def test_the_id_of_a_call_used_again_pays_nothing_under_the_first_page(
    scene: Scene, create: Make, approval_request: Any, pause: Any, resume: Any, pages: Any, made: Any
) -> None:
    again = [
        FunctionCall(name="refund_order", arguments={"amount": amount}, id="call_1") for amount in (5, 5000)
    ]
    scene.simulator.script(Scenario(**QUICK, function_calls=[[call] for call in again]))
    paused = pause(create(**approval_request))
    approved = pages.answered()

    assert resume(create(**approval_request), paused, approved)["status"] == "completed"
    assert (made, pages.written) == ([5.0], 1)


@pytest.mark.parametrize("now", [lambda *_: False, None], ids=["a callable", "an edited Dag"])
def test_a_rejection_holds_though_nobody_would_be_asked_now(
    scene: Scene,
    create: Make,
    approval_request: Any,
    pause: Any,
    resume: Any,
    pages: Any,
    made: Any,
    now: Any,
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5)]]))
    paused = pause(create(**approval_request))

    resume(create(**{**approval_request, "approve": now}), paused, pages.answered("Reject"))
    assert made == []


def test_a_rejection_holds_for_a_retry_whose_dag_asks_nobody_any_more(
    scene: Scene, create: Make, approval_request: Any, pause: Any, resume: Any, pages: Any, made: Any
) -> None:
    """The worker is lost after the person's no, and before that could be sent."""
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5)]]))
    paused = pause(create(**approval_request))
    scene.simulator.fault(Fault(method="POST", path=r"/(submit_tool_outputs|responses)$", status=401))
    with pytest.raises(OpenAIRunError):
        resume(create(**approval_request), paused, pages.answered("Reject"))
    retry = scene.retry(scene.kept)
    retry["ti"].id = uuid.uuid4()

    pause(create(**{**approval_request, "approve": None}), retry)
    assert made == []


@pytest.mark.parametrize("arguments", ['{"amount": 5, "amount": 5000}', '{"amount": 1e999}', "5"], ids=str)
def test_a_callable_is_not_asked_about_arguments_that_programs_read_differently(
    scene: Scene, create: Make, approval_request: Any, pause: Any, made: Any, arguments: str
) -> None:
    call = FunctionCall(name="refund_order", arguments=arguments)
    scene.simulator.script(Scenario(**QUICK, function_calls=[[call]]))

    pause(create(**{**approval_request, "approve": lambda *_: False}))
    assert made == []


@pytest.mark.parametrize(("option", "approve"), [("Approve", True), ("Reject", False)])
def test_an_approval_request_of_an_mcp_tool_takes_the_same_way(
    scene: Scene,
    respond: Make,
    approval_request: Any,
    pause: Any,
    resume: Any,
    pages: Any,
    option: str,
    approve: bool,
) -> None:
    del approval_request
    call = FunctionCall(name="roll_dice", arguments={"sides": 6})
    scene.simulator.script(Scenario(**QUICK, mcp_approval=call, text="Done."))
    server = {"type": "mcp", "server_label": "dice", "server_url": "https://dice.example.com"}
    given = {"approve": ["roll_dice"], "tools": [server]}
    paused = pause(respond(**given))

    assert resume(respond(**given), paused, pages.answered(option))["output_text"] == "Done."
    sent = [item for request in scene.simulator.requests for item in (request.body or {}).get("input") or []]
    decided = [item["approve"] for item in sent if isinstance(item, dict) and "approve" in item]
    assert decided == [approve]


def test_a_wrong_approve_is_refused_when_the_dag_is_parsed(create: Any) -> None:
    with pytest.raises(RunRequestError, match="approve"):
        create(approve="refund_order")
