# SPDX-License-Identifier: Apache-2.0
# Annotations are values here, as in a Dag file without ``from __future__ import annotations``.
import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG, task
from pydantic import BaseModel

from airflow_provider_openai_runs.decorators import openai_response_task, openai_run_task
from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunRequestError, ToolCallsPendingError
from airflow_provider_openai_runs.simulator import FunctionCall, Scenario
from tests.support.scene import Scene
from tests.support.scripted_server import Answer, Asked, ScriptedServer
from tests.support.waiting import until

QUICK: dict[str, Any] = {"poll_interval": 0.05, "completion_window": 30, "deferrable": False}


#: What the model does where a test does not say: it answers at once, and calls nothing.
AT_ONCE = Scenario(text="Because.", queued=0.01, in_progress=0.01, times=None)


class Incident(BaseModel):
    title: str


@pytest.fixture
def scene(scene: Scene) -> Scene:
    scene.simulator.script(AT_ONCE)
    return scene


def operator_of(decorated: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Use a decorated function in a Dag, and return its operator."""
    with DAG("a_dag", schedule=None):
        return decorated(*args, **kwargs).operator


def created(scene: Scene) -> dict[str, Any]:
    """Return the body of the one create."""
    (body,) = [r.body for r in scene.simulator.requests if r.method == "POST" and "model" in (r.body or {})]
    return dict(body)


def test_airflow_offers_both_under_task() -> None:
    for name in ("openai_response", "openai_run"):
        decorated: Any = getattr(task, name)(lambda: "Why?")
        assert decorated.operator_class.custom_operator_name == f"@task.{name}"


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_response_is_asked_for_what_the_function_returns(scene: Scene, deferrable: bool) -> None:
    @openai_response_task(model="gpt-4o-mini", **{**QUICK, "deferrable": deferrable})
    def ask(rows: list[int], ti: Any = None) -> str:
        return f"Summarise {rows} for {ti.task_id}. {{{{ this is no template }}}}"

    found = scene.run(operator_of(ask, [1, 2]))

    assert created(scene)["input"] == "Summarise [1, 2] for ask. {{ this is no template }}"
    assert found["status"] == "completed"
    assert scene.creates() == 1


def test_a_dict_holds_arguments_of_the_request(scene: Scene) -> None:
    @openai_response_task(model="gpt-4o-mini", **QUICK)
    def ask() -> dict[str, Any]:
        return {"input": "Why?", "model": "gpt-4o", "instructions": "Be short."}

    operator = operator_of(ask)
    scene.run(operator)

    body = created(scene)
    assert (body["input"], body["model"], body["instructions"]) == ("Why?", "gpt-4o", "Be short.")
    assert operator.multiple_outputs is False  # the annotation is of the request, not of the result


@pytest.mark.parametrize("with_thread", [True, False])
def test_a_thread_run_gets_the_text_as_a_message(
    scene: Scene, assistant_id: str, thread_id: str, with_thread: bool
) -> None:
    given: dict[str, Any] = {"thread_id": thread_id} if with_thread else {}

    @openai_run_task(assistant_id=assistant_id, **given, **QUICK)
    def ask() -> str:
        return "And at night?"

    found = scene.run(operator_of(ask))

    said = scene.get(f"/threads/{found['thread_id']}/messages?order=asc")["data"]
    asked = [message["content"][0]["text"]["value"] for message in said if message["role"] == "user"]
    assert asked == [*(["Why is the sky blue?"] if with_thread else []), "And at night?"]
    assert (found["thread_id"] == thread_id) is with_thread


def test_a_model_as_the_return_annotation_is_the_type_of_the_answer(scene: Scene) -> None:
    @openai_response_task(model="gpt-4o-mini", **QUICK)
    def ask() -> Incident:
        return "Summarise: disk full."  # type: ignore[return-value]

    scene.simulator.reset()
    scene.simulator.script(Scenario(text='{"title": "Disk full"}', queued=0.01, in_progress=0.01))

    assert scene.run(operator_of(ask))["output"] == {"title": "Disk full"}


def test_an_annotation_that_cannot_be_read_is_a_warning() -> None:
    def ask() -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821 - the point
        return "Why?"

    with pytest.warns(UserWarning, match="give it as output_type="):
        operator = operator_of(openai_response_task(model="gpt-4o-mini")(ask))
    assert operator.output_type is None


def test_a_mapped_function_makes_a_run_for_each_value(scene: Scene) -> None:
    @openai_response_task(model="gpt-4o-mini", **QUICK)
    def ask(topic: str, tone: str) -> str:
        return f"Explain {topic}, {tone}."

    with DAG("a_dag", schedule=None):
        mapped: Any = ask.partial(tone="dryly").expand(topic=["tides", "winds"])

    for topic in ("tides", "winds"):
        scene.run(mapped.operator.unmap({"op_kwargs": {"topic": topic}}), scene.context_of(task_id=topic))

    inputs = [r.body["input"] for r in scene.simulator.requests if r.method == "POST"]
    assert inputs == ["Explain tides, dryly.", "Explain winds, dryly."]


def test_the_function_is_called_again_after_the_wait_only_if_calls_may_have_to_be_answered(
    scene: Scene,
) -> None:
    calls = []

    def ask() -> str:
        calls.append(1)
        return "Why?"

    def rows() -> int:
        """Count."""
        return 7

    deferred = {**QUICK, "deferrable": True}
    scene.run(operator_of(openai_response_task(model="gpt-4o-mini", **deferred)(ask)))
    assert len(calls) == 1

    scene.simulator.reset()
    scene.simulator.script(
        Scenario(function_calls=[[FunctionCall(name="rows")]], queued=0.01, in_progress=0.01)
    )
    found = scene.run(
        operator_of(openai_response_task(model="gpt-4o-mini", functions=[rows], **deferred)(ask)),
        scene.context_of(task_id="other"),
    )
    assert found["status"] == "completed"
    assert len(calls) > 2


def test_a_function_that_fails_after_the_wait_of_the_last_try_does_not_lose_the_run(scene: Scene) -> None:
    calls = []

    def ask() -> str:
        calls.append(1)
        if len(calls) > 1:
            raise OSError("the table is gone")
        return "Why?"

    def rows() -> int:
        """Count."""
        return 7

    decorated = openai_response_task(model="gpt-4o-mini", functions=[rows], **{**QUICK, "deferrable": True})(
        ask
    )
    operator = operator_of(decorated)
    lines = scene.log_of(operator)
    assert scene.run(operator, scene.context_of(scene.store, max_tries=0))["status"] == "completed"
    assert scene.creates() == 1
    assert any("OSError: the table is gone" in line for line in lines)


def test_a_function_that_fails_in_a_retry_does_not_lose_the_run_that_was_paid_for(scene: Scene) -> None:
    calls = []

    def ask() -> str:
        calls.append(1)
        if len(calls) > 1:
            raise OSError("the table is gone")
        return "Why?"

    decorated = openai_response_task(model="gpt-4o-mini", **{**QUICK, "deferrable": True})
    with pytest.raises(TaskDeferred):
        operator_of(decorated(ask)).execute(scene.kept)

    assert scene.run(operator_of(decorated(ask)), scene.retry(scene.kept))["status"] == "completed"
    assert scene.creates() == 1


def test_a_function_that_fails_while_the_run_waits_for_calls_leaves_them_to_a_retry(scene: Scene) -> None:
    asked, answered = [], []

    def ask() -> str:
        asked.append(1)
        if len(asked) == 2:
            raise OSError("the table is gone")
        return "Why?"

    def rows() -> int:
        """Count."""
        answered.append(7)
        return 7

    scene.simulator.reset()
    scene.simulator.script(Scenario(in_progress=0.1, function_calls=((FunctionCall(name="rows"),),)))
    decorated = openai_response_task(model="gpt-4o-mini", functions=[rows], **{**QUICK, "deferrable": True})
    with pytest.raises(OSError, match="the table is gone"):
        scene.run(operator_of(decorated(ask)), scene.kept)
    found = scene.run(operator_of(decorated(ask)), scene.retry(scene.kept))

    assert (found["status"], answered) == ("completed", [7])
    assert scene.creates() == 2  # the response, and the one that answers its calls


def talkative(asked: Asked) -> Answer:
    """Answer with a call and words after it, and do not say which tools were offered."""
    made: dict[str, Any] = {"id": "resp_1", "status": "in_progress", "model": "m"}
    if asked.method == "POST":
        return 200, made
    call = {"type": "function_call", "call_id": "call_1", "name": "rows", "arguments": "{}"}
    said = {"type": "message", "content": [{"type": "output_text", "text": "I have asked for the rows."}]}
    return 200, {**made, "status": "completed", "output": [call, said]}


def test_a_function_that_fails_on_the_last_try_hides_no_calls_that_only_its_arguments_show(
    scene: Scene, scripted: ScriptedServer
) -> None:
    calls = []

    def ask() -> str:
        calls.append(1)
        if len(calls) > 1:
            raise OSError("the table is gone")
        return "Why?"

    def rows() -> int:
        """Count."""
        return 7

    scripted.play(talkative)
    given = {**QUICK, "deferrable": True, "conn_id": "scripted", "functions": [rows]}
    operator = operator_of(openai_response_task(model="m", **given)(ask))
    with pytest.raises(ToolCallsPendingError, match="waits for the answer to rows"):
        scene.run(operator, scene.context_of(scene.store, max_tries=0))


@pytest.mark.parametrize("fails", [False, True])
def test_calls_of_a_tool_that_the_function_has_returned_are_returned(
    scene: Scene, scripted: ScriptedServer, fails: bool
) -> None:
    tool = {"type": "function", "name": "rows", "parameters": {"type": "object", "properties": {}}}
    calls = []

    def ask() -> dict[str, Any]:
        calls.append(1)
        if fails and len(calls) > 1:
            raise OSError("the table is gone")
        return {"input": "Why?", "tools": [tool]}

    scripted.play(talkative)
    given = {**QUICK, "deferrable": True, "conn_id": "scripted", "on_tool_calls": "return"}
    found = scene.run(
        operator_of(openai_response_task(model="m", **given)(ask)),
        scene.context_of(scene.store, max_tries=0),
    )
    assert [call["name"] for call in found["tool_calls"]] == ["rows"]


@pytest.mark.parametrize("end", [SystemExit("out"), None], ids=["exits", "is killed"])
def test_a_kill_while_the_function_runs_in_a_retry_ends_the_run_of_before(
    scene: Scene, end: BaseException | None
) -> None:
    begun: list[Any] = []

    def ask() -> str:
        if begun:
            begun[0].on_kill()
            if end is not None:
                raise end
        return "Why?"

    scene.simulator.reset()
    scene.simulator.script(Scenario(queued=0.02, in_progress=600))
    decorated = openai_response_task(model="gpt-4o-mini", **{**QUICK, "deferrable": True})
    with pytest.raises(TaskDeferred):
        operator_of(decorated(ask)).execute(scene.kept)
    begun.append(operator_of(decorated(ask)))
    lines = scene.log_of(begun[0])
    with pytest.raises((SystemExit, OpenAIRunError)):
        begun[0].execute(scene.retry(scene.kept, state="failed"))

    until(lambda: not scene.simulator.active())
    assert (scene.creates(), scene.simulator.active()) == (1, [])
    assert any("The task was killed" in line for line in lines)


def test_a_kill_while_the_function_runs_keeps_the_create_from_being_sent(scene: Scene) -> None:
    killed: list[Any] = []

    def ask() -> str:
        killed[0].on_kill()
        return "Why?"

    killed.append(operator_of(openai_response_task(model="gpt-4o-mini", **QUICK)(ask)))
    with pytest.raises(OpenAIRunError, match="was killed"):
        killed[0].execute(scene.kept)
    assert scene.creates() == 0


def test_a_function_that_fails_before_anything_was_paid_for_fails_as_itself(scene: Scene) -> None:
    def ask() -> str:
        raise OSError("the table is gone")

    operator = operator_of(openai_response_task(model="gpt-4o-mini", **QUICK)(ask))
    for context in (scene.kept, scene.retry(scene.kept)):
        with pytest.raises(OSError, match="the table is gone"):
            operator.execute(context)
    assert scene.creates() == 0


def test_a_retry_goes_on_with_the_run_although_the_function_says_something_else(scene: Scene) -> None:
    said = iter(["Once", "Twice"])

    @openai_response_task(model="gpt-4o-mini", **QUICK)
    def ask() -> str:
        return next(said)

    operator = operator_of(ask)
    scene.run(operator, scene.kept)
    scene.run(operator, scene.retry(scene.kept))

    assert scene.creates() == 1


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        ({"inptu": "Why?"}, "did you mean 'input'"),
        (
            {"input": "Why?", "completion_window": 5},
            "'completion_window', which is no argument of the request",
        ),
        (None, "input"),
        ("  ", "input"),
        (
            {"input": "Why?", "tools": [{"type": "function", "name": "rows", "parameters": {}}]},
            "nobody here can answer a call of 'rows'",
        ),
    ],
)
def test_a_wrong_return_is_refused_before_anything_is_sent(scene: Scene, returned: Any, named: str) -> None:
    @openai_response_task(model="gpt-4o-mini", **QUICK)
    def ask() -> Any:
        return returned

    with pytest.raises(RunRequestError, match=named) as caught:
        scene.run(operator_of(ask))
    assert "Nothing was sent" in str(caught.value)
    assert scene.creates() == 0


@pytest.mark.parametrize(
    ("decorator", "given", "returned", "named"),
    [
        (
            openai_response_task,
            {"model": "m", "output_type": Incident},
            {"input": "Why?", "text": {"format": {"type": "text"}}},
            r"output_type sets text\['format'\]; give one of them",
        ),
        (
            openai_response_task,
            {"model": "m", "processing": "2h", "completion_window": 9000},
            {"input": "Why?", "background_options": {"completion_window": "8h"}},
            "processing sets background_options; give one of them",
        ),
        (
            openai_run_task,
            {"assistant_id": "asst_1", "output_type": Incident},
            {"thread": {"messages": []}, "response_format": "auto"},
            "output_type sets response_format; give one of them",
        ),
    ],
    ids=["text", "processing", "response_format"],
)
def test_what_an_argument_of_the_decorator_sets_cannot_be_returned_as_well(
    scene: Scene, decorator: Any, given: dict[str, Any], returned: Any, named: str
) -> None:
    def ask() -> Any:
        return returned

    with pytest.raises(RunRequestError, match=named):
        scene.run(operator_of(decorator(**{**QUICK, **given})(ask)))
    assert scene.creates() == 0


def test_what_else_text_says_is_sent_beside_the_type(scene: Scene) -> None:
    @openai_response_task(model="m", output_type=Incident, **QUICK)
    def ask() -> Any:
        return {"input": "Why?", "text": {"verbosity": "low"}}

    scene.simulator.reset()
    scene.simulator.script(Scenario(text='{"title": "Disk full"}', queued=0.01, in_progress=0.01))
    scene.run(operator_of(ask))

    assert created(scene)["text"]["verbosity"] == "low"
    assert created(scene)["text"]["format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"input": "Why?"}, "takes no 'input': it is what ask returns"),
        ({"openai_conn_id": "x"}, r"@task.openai_response has no argument 'openai_conn_id'.*'conn_id'"),
    ],
)
def test_a_wrong_argument_is_refused_while_the_dag_is_parsed(arguments: dict[str, Any], named: str) -> None:
    def ask() -> str:
        return "Why?"

    with pytest.raises(TypeError, match=named):
        operator_of(openai_response_task(model="gpt-4o-mini", **arguments)(ask))


def test_an_async_function_is_refused_while_the_dag_is_parsed() -> None:
    async def ask() -> str:
        return "Why?"

    with pytest.raises(TypeError, match="takes no async function: ask"):
        operator_of(openai_response_task(model="gpt-4o-mini")(ask))


def test_with_text_in_xcom_0_airflow_stores_no_argument_of_the_function(scene: Scene) -> None:
    @openai_response_task(model="gpt-4o-mini", text_in_xcom=0, output_path="file:///tmp/x", **QUICK)
    def ask(rows: list[str]) -> str:
        return f"About {rows}"

    operator = operator_of(ask, ["Ann Smith"])
    operator.render_template_fields({})
    stored = json.dumps({name: str(getattr(operator, name)) for name in operator.template_fields})

    assert "Ann Smith" not in stored
    assert operator.op_args != (["Ann Smith"],)
