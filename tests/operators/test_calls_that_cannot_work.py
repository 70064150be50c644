# SPDX-License-Identifier: Apache-2.0
"""Calls that nobody could approve or answer: refused before anything is sent, or closed in the end."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, exceptions

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunRequestError,
    ToolCallsFailedError,
    ToolCallsPendingError,
)
from airflow_provider_openai_runs.operators import SubmitToolOutputsOperator
from airflow_provider_openai_runs.simulator import Fault, FunctionCall, Scenario
from tests.support.scene import Make, Scene

RAN: list[str] = []


def refund_order(order: str) -> str:
    """Refund an order."""
    RAN.append(order)
    raise ValueError("the shop is closed")


def die() -> str:
    """Die with the worker."""
    raise KeyboardInterrupt


FUNCTION = {"type": "function", "function": {"name": "send_mail"}}
MCP = {"type": "mcp", "server_label": "s", "server_url": "https://s.example.com"}
CALLS = Scenario(
    queued=0, in_progress=0.05, function_calls=[[FunctionCall(name="refund_order", arguments={"order": "1"})]]
)
DIES = Scenario(queued=0, in_progress=0.05, function_calls=[[FunctionCall(name="die")]])
QUICK = Scenario(queued=0, in_progress=0.05, text="Done.")


@pytest.fixture(autouse=True)
def fresh() -> None:
    RAN.clear()


# -- approve ------------------------------------------------------------------------------------------------


@pytest.fixture
def has_page() -> None:
    if not hasattr(exceptions, "TaskAwaitingInput"):
        pytest.skip("Airflow asks a person from 3.3 on")


@pytest.mark.usefixtures("has_page")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"approve": ["refund_orders"], "functions": [refund_order]}, ["'refund_orders'", "refund_order"]),
        ({"approve": ["refund_order", "mail"], "functions": [refund_order]}, ["no function 'mail'"]),
        ({"approve": ["x"], "tools": [FUNCTION]}, ["no function 'x'", "send_mail"]),
        ({"approve": ["x"], "tools": [{"type": "code_interpreter"}]}, ["no function 'x'", "none"]),
        ({"approve": True}, ["approve=True", "no call to approve"]),
        ({"approve": lambda *_: True}, ["no call to approve"]),
        ({"approve": True, "tools": []}, ["no call to approve"]),
        ({"approve": []}, ["approve=[]", "nobody would be asked"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_an_approval_that_would_ask_nobody_is_refused_when_the_dag_is_parsed(
    create: Make, given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RunRequestError) as caught:
        create(**given)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


@pytest.mark.usefixtures("has_page")
def test_so_is_one_of_a_task_that_answers_another_ones_calls() -> None:
    ref = {"kind": "response", "id": "resp_1"}
    with pytest.raises(RunRequestError, match="no function 'refund'"):
        SubmitToolOutputsOperator(
            task_id="a",
            ref=ref,
            outputs={"c": "1"},
            completion_window=5,
            functions=[refund_order],
            approve=["refund"],
        )


@pytest.mark.usefixtures("has_page")
@pytest.mark.parametrize(
    "given",
    [
        {"approve": ["refund_order"], "functions": [refund_order]},
        {"approve": ["send_mail"], "functions": [refund_order], "tools": [FUNCTION]},
        {"approve": ["roll_dice"], "tools": [MCP]},
        {"approve": ["roll_dice"], "functions": [refund_order], "tools": [MCP]},
        {"approve": ["roll_dice"], "extra_body": {"tools": [MCP]}},
        {"approve": ["roll_dice"], "tools": "{{ tools }}"},
        {"approve": ["roll_dice"], "tools": ["{{ tool }}"]},
        {"approve": ["roll_dice"], "extra_body": "{{ more }}"},
        {"approve": ["roll_dice"], "prompt": {"id": "pmpt_1"}},
        {"approve": True, "functions": [refund_order]},
        {"approve": False},
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_an_approval_that_may_ask_somebody_is_accepted(respond: Make, given: dict[str, Any]) -> None:
    respond(**given)


@pytest.mark.usefixtures("has_page")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"approve": True, "tools": [{**MCP, "require_approval": "never"}]}, ["every call", "'s'"]),
        (
            {"approve": True, "tools": [{**MCP, "require_approval": {"never": {"tool_names": ["look_up"]}}}]},
            ["every call"],
        ),
        ({"approve": ["roll"], "tools": [{**MCP, "require_approval": "never"}]}, ["no function 'roll'"]),
        (
            # The first server may bring it, and asks; the second one brings it, and asks nobody.
            {
                "approve": ["roll"],
                "tools": [
                    {**MCP, "server_label": "t"},
                    {**MCP, "require_approval": "never", "allowed_tools": ["roll"]},
                ],
            },
            ["the calls of 'roll'", "'s'"],
        ),
        (
            {
                "approve": ["roll"],
                "tools": [{**MCP, "require_approval": {"never": {"tool_names": ["roll"]}}}],
            },
            ["the calls of 'roll'"],
        ),
        ({"approve": ["rol"], "tools": [{**MCP, "allowed_tools": ["roll"]}]}, ["no function 'rol'", "roll"]),
        (
            {"approve": ["rol"], "tools": [{**MCP, "allowed_tools": {"tool_names": ["roll"]}}]},
            ["no function 'rol'"],
        ),
    ],
)
def test_an_mcp_server_that_asks_nobody_is_refused_where_a_person_is_to_approve(
    respond: Make, given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RunRequestError) as caught:
        respond(**given)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


@pytest.mark.usefixtures("has_page")
def test_other_tools_of_such_a_server_may_ask_nobody(respond: Make) -> None:
    reads = {"never": {"tool_names": ["look_up"]}}
    respond(approve=["roll"], tools=[{**MCP, "require_approval": reads}])
    respond(approve=["refund_order"], functions=[refund_order], tools=[{**MCP, "require_approval": "never"}])
    respond(approve=["roll"], tools=[{**MCP, "allowed_tools": ["{{ params.tool }}"]}])


@pytest.mark.usefixtures("has_page")
def test_what_a_template_brings_is_checked_before_anything_is_sent(scene: Scene, respond: Make) -> None:
    operator = respond(approve=["rol"], tools="{{ params.tools }}")
    operator.tools = [FUNCTION]
    with pytest.raises(RunRequestError, match="no function 'rol'"):
        operator.execute(scene.kept)
    assert scene.simulator.requests == []


# -- store=False --------------------------------------------------------------------------------------------


def test_calls_of_a_response_that_is_not_kept_are_refused_before_anything_is_sent(
    scene: Scene, respond: Make
) -> None:
    for given in ({"store": False}, {"extra_body": {"store": False}}):
        with pytest.raises(RunRequestError, match=r"store=False.*Nothing was sent"):
            respond(**given, functions=[refund_order])
    assert scene.simulator.requests == []


@pytest.mark.parametrize(
    "given",
    [
        {"store": "{{ no }}"},
        {"store": None, "extra_body": {"store": "{{ no }}"}},
        {"store": None, "extra_body": "{{ {'store': no} }}"},
    ],
    ids=str,
)
@pytest.mark.parametrize("no", [False, "False"])
@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_a_template_that_says_not_to_keep_them_is_refused_before_a_function_runs(
    scene: Scene, respond: Make, given: dict[str, Any], no: Any, *, native: bool
) -> None:
    operator = respond(**given, functions=[refund_order])
    operator.dag = DAG("a_dag", schedule=None, render_template_as_native_obj=native)
    operator.render_template_fields({"no": no}, operator.dag.get_template_env())
    with pytest.raises(RunRequestError, match=r"(store=False|extra_body=.*must be a dict).*Nothing was sent"):
        operator.execute(scene.kept)
    assert scene.simulator.requests == []
    assert scene.store.writes == []


def test_a_conversation_keeps_them_and_without_functions_nobody_answers(respond: Make) -> None:
    respond(store=False, conversation="conv_1", functions=[refund_order])
    respond(extra_body={"store": False, "conversation": "conv_1"}, functions=[refund_order])
    respond(store=False)


# -- a conversation whose last call is open ----------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
@pytest.mark.parametrize("has_function", [True, False], ids=["it fails", "there is none"])
def test_a_task_that_gives_up_leaves_a_conversation_in_which_the_next_response_works(
    scene: Scene, respond: Make, *, deferrable: bool, has_function: bool
) -> None:
    conversation = scene.post("/conversations")["id"]
    scene.simulator.script(CALLS, QUICK)
    functions = {"functions": [refund_order], "max_tool_errors": 1} if has_function else {}
    operator = respond(conversation=conversation, deferrable=deferrable, **functions)
    if not has_function:
        operator.tools = [{"type": "function", "name": "refund_order"}]  # what a template came to
    kind = ToolCallsFailedError if has_function else ToolCallsPendingError
    with pytest.raises(kind, match=rf"conversation {conversation}, which can be used again"):
        scene.run(operator, scene.context)

    found = scene.run(respond(conversation=conversation), scene.retry(scene.context))
    assert found["output_text"] == "Done."


def test_calls_outside_of_a_conversation_and_on_a_thread_need_no_such_answer(
    scene: Scene, create: Make
) -> None:
    scene.simulator.script(CALLS)
    with pytest.raises(OpenAIRunError) as caught:
        scene.run(create(functions=[refund_order], max_tool_errors=1), scene.context)
    assert "conversation" not in str(caught.value)
    assert scene.simulator.count("POST", r"/items$") == 0


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_clear_answers_the_calls_that_were_left_open_before_it_starts_anew(
    scene: Scene, respond: Make, *, deferrable: bool
) -> None:
    """A worker that died, or was killed, while it worked on the calls has answered nothing."""
    conversation = scene.post("/conversations")["id"]
    scene.simulator.script(DIES, QUICK)
    given = {"conversation": conversation, "functions": [die], "deferrable": deferrable}
    with pytest.raises(KeyboardInterrupt):
        scene.run(respond(**given), scene.kept)
    found = scene.run(respond(**given), scene.clear(scene.kept))
    assert found["output_text"] == "Done."


def test_a_clear_goes_on_where_the_server_does_not_take_that(scene: Scene, respond: Make) -> None:
    conversation = scene.post("/conversations")["id"]
    scene.simulator.script(DIES, QUICK)
    with pytest.raises(KeyboardInterrupt):
        scene.run(respond(conversation=conversation, functions=[die]), scene.kept)
    scene.simulator.fault(Fault(method="POST", path=r"/conversations/[^/]+/items", status=400))
    operator = respond(functions=[die])
    lines = scene.log_of(operator)
    assert scene.run(operator, scene.clear(scene.kept))["output_text"] == "Done."
    assert [line for line in lines if "leaves open" in line]
