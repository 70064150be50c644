# SPDX-License-Identifier: Apache-2.0
"""Calls that wait for a person, through the operators, on the simulator."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunRequestError, ToolCallsPendingError
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene

QUICK: dict[str, Any] = {"queued": 0.02, "in_progress": 0.05}


def refund(amount: float) -> FunctionCall:
    return FunctionCall(name="refund_order", arguments={"amount": amount})


@dataclass
class Asking:
    """
    A task whose function a person has to approve, and what becomes of its calls.

    :param make: makes its operator; ``arguments`` are the operator's own.
    :param made: the amounts that the function has paid.
    """

    scene: Scene
    make: Make
    pages: Any
    made: list[float] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def refund_order(amount: float) -> str:
            """Pay money back."""
            self.made.append(amount)
            return f"refunded {amount:g}"

        self.scene.kept["ti"].id = uuid.uuid4()
        self.arguments = {"functions": [refund_order], "approve": True}

    def task(self, **changes: Any) -> Any:
        return self.make(**{**self.arguments, **changes})

    def pause(self, context: Any = None, **changes: Any) -> Any:
        """Run the task until it waits for a person; return how it paused."""
        from airflow.sdk.exceptions import TaskAwaitingInput  # noqa: PLC0415 # 3.3+, as the store

        with pytest.raises(TaskAwaitingInput) as paused:
            self.task(**changes).execute(context or self.scene.kept)
        return paused.value

    def resume(self, paused: Any, event: dict[str, Any], context: Any = None, **changes: Any) -> Any:
        """Go on as another worker does, with the answer that Airflow hands over."""
        kwargs = {**json.loads(json.dumps(paused.kwargs)), "event": event}
        return self.task(**changes).resume_execution(paused.method_name, kwargs, context or self.scene.kept)

    def received(self) -> list[Any]:
        """Return what the model has read in answer to its calls."""
        bodies = [request.body or {} for request in self.scene.simulator.requests if request.method == "POST"]
        items = [item for body in bodies for item in body.get("tool_outputs") or body.get("input") or []]
        return [item["output"] for item in items if isinstance(item, dict) and "output" in item]


@pytest.fixture
def asking(scene: Scene, create: Make, pages: Any) -> Asking:
    return Asking(scene=scene, make=create, pages=pages)


@pytest.fixture
def asking_on_3_4(scene: Scene, create: Make, refreshed_pages: Any) -> Asking:
    return Asking(scene=scene, make=create, pages=refreshed_pages)


def test_approved_calls_are_made_and_the_run_goes_on(scene: Scene, asking: Asking) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5)]], text="Done."))
    paused = asking.pause()
    assert asking.made == []

    found = asking.resume(paused, asking.pages.answered())
    assert (found["status"], found["output_text"], asking.made) == ("completed", "Done.", [42.5])


def test_a_rejection_goes_to_the_model_and_nothing_is_made(scene: Scene, asking: Asking) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5)]]))
    paused = asking.pause()

    found = asking.resume(paused, asking.pages.answered("Reject", comment="Too much."))
    assert found["status"] == "completed"
    assert asking.made == []
    assert [
        text for text in asking.received() if "rejected" in text and "Too much." in text
    ] == asking.received()


def test_of_two_calls_one_is_made_with_edited_arguments_and_the_other_rejected(
    scene: Scene, asking: Asking
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5), refund(99)]]))
    paused = asking.pause()

    asking.resume(paused, asking.pages.answered(arguments_1={"amount": 5}, approve_2=False))
    assert asking.made == [5.0]
    assert asking.received()[0] == "refunded 5"
    assert "rejected" in asking.received()[1]


def test_nobody_is_asked_about_calls_that_need_nobody(scene: Scene, asking: Asking) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))

    asking.arguments["approve"] = lambda name, _arguments: name == "delete_order"
    assert asking.task().execute(scene.kept)["status"] == "completed"
    assert (asking.made, asking.pages.written) == ([7.0], 0)


def test_the_wait_for_a_person_ends_with_approval_timeout(scene: Scene, asking: Asking) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))

    assert asking.pause(approval_timeout=5).timeout == timedelta(seconds=5)


def test_without_approval_timeout_the_window_bounds_the_wait(scene: Scene, asking: Asking) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))

    # Twenty seconds before the end of the window: the scheduler has to notice, and the answer to be sent.
    assert timedelta() < asking.pause().timeout < timedelta(seconds=10)


def test_when_nobody_decides_the_model_reads_that(scene: Scene, asking: Asking) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))
    paused = asking.pause()

    assert asking.resume(paused, asking.pages.timed_out())["status"] == "completed"
    assert asking.made == []
    assert "nobody decided in time" in asking.received()[0]


def test_when_nobody_decides_and_that_is_to_fail_the_task_fails(scene: Scene, asking: Asking) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(7)]]))
    asking.arguments["on_approval_timeout"] = "fail"
    paused = asking.pause()
    with pytest.raises(ToolCallsPendingError, match="nobody decided in time"):
        asking.resume(paused, asking.pages.timed_out())

    assert asking.made == []
    assert scene.simulator.active() == []


def test_a_second_round_is_rejected_to_the_model_without_a_page(scene: Scene, asking: Asking) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)], [refund(2)]]))
    paused = asking.pause()

    assert asking.resume(paused, asking.pages.answered())["status"] == "completed"
    assert (asking.made, asking.pages.written) == ([1.0], 1)
    assert "nobody can be asked a second time" in asking.received()[-1]


def test_a_second_round_that_is_to_fail_fails_and_names_the_way_for_many_rounds(
    scene: Scene, asking: Asking
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)], [refund(2)]]))
    asking.arguments["on_second_approval"] = "fail"
    paused = asking.pause()
    with pytest.raises(ToolCallsPendingError, match="SubmitToolOutputsOperator"):
        asking.resume(paused, asking.pages.answered())

    assert asking.made == [1.0]


def test_on_airflow_3_4_each_round_has_a_page_of_its_own(scene: Scene, asking_on_3_4: Asking) -> None:
    from airflow.sdk.exceptions import TaskAwaitingInput  # noqa: PLC0415 # 3.3+, as the store

    asking, pages = asking_on_3_4, asking_on_3_4.pages
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)], [refund(2)]]))
    paused = asking.pause()
    first = pages.page.body
    with pytest.raises(TaskAwaitingInput) as again:
        asking.resume(paused, pages.answered())
    assert asking.made == [1.0]
    assert pages.page.body != first

    found = asking.resume(again.value, pages.answered())
    assert found["status"] == "completed"
    assert (asking.made, pages.written) == ([1.0, 2.0], 2)


def test_on_airflow_3_4_a_cleared_task_asks_again(scene: Scene, asking_on_3_4: Asking) -> None:
    asking = asking_on_3_4
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)]], times=2))
    asking.pause()
    cleared = scene.clear(scene.kept)
    cleared["ti"].id = scene.kept["ti"].id
    again = asking.pause(cleared)
    assert again.timeout != timedelta(seconds=1)

    found = asking.resume(again, asking.pages.answered(), cleared)
    assert (found["status"], asking.made) == ("completed", [1.0])


def test_a_task_cleared_while_a_person_decides_ends_its_run_and_has_the_old_page_closed_first(
    scene: Scene, asking: Asking
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)]], times=2))
    asking.pause()
    cleared = scene.clear(scene.kept)
    cleared["ti"].id = scene.kept["ti"].id
    closing = asking.pause(cleared)
    assert closing.timeout == timedelta(seconds=1)
    assert scene.simulator.runs()[0]["status"] in {"cancelled", "completed"}

    assert asking.resume(closing, asking.pages.timed_out(), cleared)["status"] == "completed"
    assert asking.made == []
    assert "nobody can be asked a second time" in asking.received()[-1]


def test_an_old_page_that_is_answered_while_the_task_waits_for_its_run_makes_no_call(
    scene: Scene, asking: Asking
) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(1)]]))
    scene.simulator.script(Scenario(**QUICK, text="No calls."))
    asking.pause()

    found = asking.task().resume_execution(
        "execute_complete", {"event": asking.pages.answered()}, scene.clear(scene.kept)
    )
    assert (found["output_text"], asking.made) == ("No calls.", [])


def test_the_id_of_a_call_used_again_pays_nothing_under_the_first_page(scene: Scene, asking: Asking) -> None:
    again = [
        FunctionCall(name="refund_order", arguments={"amount": amount}, id="call_1") for amount in (5, 5000)
    ]
    scene.simulator.script(Scenario(**QUICK, function_calls=[[call] for call in again]))
    paused = asking.pause()
    approved = asking.pages.answered()

    assert asking.resume(paused, approved)["status"] == "completed"
    assert (asking.made, asking.pages.written) == ([5.0], 1)


@pytest.mark.parametrize("now", [lambda *_: False, None], ids=["a callable", "an edited Dag"])
def test_a_rejection_holds_though_nobody_would_be_asked_now(scene: Scene, asking: Asking, now: Any) -> None:
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5)]]))
    paused = asking.pause()

    asking.resume(paused, asking.pages.answered("Reject"), approve=now)
    assert asking.made == []


def test_a_rejection_holds_for_a_retry_whose_dag_asks_nobody_any_more(scene: Scene, asking: Asking) -> None:
    """The worker is lost after the person's no, and before that could be sent."""
    scene.simulator.script(Scenario(**QUICK, function_calls=[[refund(42.5)]]))
    paused = asking.pause()
    scene.simulator.fault(Fault(method="POST", path=r"/(submit_tool_outputs|responses)$", status=401))
    with pytest.raises(OpenAIRunError):
        asking.resume(paused, asking.pages.answered("Reject"))
    retry = scene.retry(scene.kept)
    retry["ti"].id = uuid.uuid4()

    asking.pause(retry, approve=None)
    assert asking.made == []


@pytest.mark.parametrize("arguments", ['{"amount": 5, "amount": 5000}', '{"amount": 1e999}', "5"], ids=str)
def test_a_callable_is_not_asked_about_arguments_that_programs_read_differently(
    scene: Scene, asking: Asking, arguments: str
) -> None:
    call = FunctionCall(name="refund_order", arguments=arguments)
    scene.simulator.script(Scenario(**QUICK, function_calls=[[call]]))

    asking.pause(approve=lambda *_: False)
    assert asking.made == []


@pytest.mark.parametrize(("option", "approve"), [("Approve", True), ("Reject", False)])
def test_an_approval_request_of_an_mcp_tool_takes_the_same_way(
    scene: Scene, asking: Asking, respond: Make, option: str, approve: bool
) -> None:
    call = FunctionCall(name="roll_dice", arguments={"sides": 6})
    scene.simulator.script(Scenario(**QUICK, mcp_approval=call, text="Done."))
    server = {"type": "mcp", "server_label": "dice", "server_url": "https://dice.example.com"}
    given = {"approve": ["roll_dice"], "tools": [server]}
    asking.make, asking.arguments = respond, given
    paused = asking.pause()

    assert asking.resume(paused, asking.pages.answered(option))["output_text"] == "Done."
    sent = [item for request in scene.simulator.requests for item in (request.body or {}).get("input") or []]
    decided = [item["approve"] for item in sent if isinstance(item, dict) and "approve" in item]
    assert decided == [approve]


def test_a_wrong_approve_is_refused_when_the_dag_is_parsed(create: Any) -> None:
    with pytest.raises(RunRequestError, match="approve"):
        create(approve="refund_order")
