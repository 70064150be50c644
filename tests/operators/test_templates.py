# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_provider_openai_runs.exceptions import RunRequestError
from airflow_provider_openai_runs.operators import (
    BulkCreateResponsesOperator,
    CancelRunOperator,
    CreateResponseOperator,
    CreateRunOperator,
    GetResponseOperator,
    GetThreadRunOperator,
    SubmitToolOutputsOperator,
)
from airflow_provider_openai_runs.sensors import ResponseSensor, ThreadRunSensor
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Make, Scene

CLASSES: dict[type[Any], dict[str, Any]] = {
    CreateRunOperator: {"thread_id": "t", "assistant_id": "a"},
    CreateResponseOperator: {"input": "Why?"},
    GetThreadRunOperator: {"run_id": "t:r"},
    GetResponseOperator: {"response_id": "r"},
    CancelRunOperator: {"response_id": "r"},
    ThreadRunSensor: {"run_id": "t:r"},
    ResponseSensor: {"response_id": "r"},
}
FIELDS = [(kind, field) for kind in CLASSES for field in kind.template_fields]


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=[f"{k.__name__} {f}" for k, f in FIELDS])
def test_every_template_field_is_rendered_also_inside_of_json(kind: type[Any], field: str) -> None:
    operator = kind(task_id="ask", **CLASSES[kind])
    setattr(operator, field, "{{ word }}")
    operator.render_template_fields({"word": "rendered"})
    assert getattr(operator, field) == "rendered"

    setattr(operator, field, {"a": ["{{ word }}", {"b": "{{ word }}"}]})
    operator.render_template_fields({"word": "rendered"})
    assert getattr(operator, field) == {"a": ["rendered", {"b": "rendered"}]}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_template_fields_are_arguments_and_no_prompt_is_taken_for_a_file(kind: type[Any]) -> None:
    operator = kind(task_id="ask", **CLASSES[kind])

    assert isinstance(kind.template_fields, tuple)
    assert not [field for field in kind.template_fields if not hasattr(operator, field)]
    assert set(kind.template_fields_renderers) <= set(kind.template_fields)
    assert set(kind.template_fields_renderers.values()) <= {"json"}
    assert not kind.template_ext
    assert {"conn_id"} <= set(kind.template_fields)


def test_a_prompt_that_ends_like_a_file_name_is_a_prompt(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(in_progress=0.05))
    operator = respond(input="What is in package.json")
    operator.render_template_fields({})
    operator.execute(scene.context)

    assert scene.simulator.requests[0].body["input"] == "What is in package.json"


def test_numbers_that_templates_rendered_to_text_count_as_numbers(scene: Scene, respond: Make) -> None:
    scene.simulator.script(Scenario(in_progress=0.05))
    operator = respond(
        completion_window="{{ window }}",
        temperature="{{ 0.5 }}",
        max_output_tokens="{{ 100 }}",
        metadata={"day": "{{ ds }}"},
        input=["{{ ds }}"],
    )
    operator.render_template_fields({"window": 30, "ds": "2026-11-21"})
    operator.input = [{"role": "user", "content": operator.input[0]}]
    assert operator.execute(scene.context)["status"] == "completed"

    body = scene.simulator.requests[0].body
    assert (body["temperature"], body["max_output_tokens"]) == (0.5, 100)
    assert body["metadata"]["day"] == body["input"][0]["content"] == "2026-11-21"


def test_a_template_stands_for_what_must_be_there_when_the_dag_is_parsed() -> None:
    CreateRunOperator(task_id="a", thread_id="{{ x }}", assistant_id="{{ y }}", completion_window="{{ z }}")
    CreateResponseOperator(task_id="a", input="{{ x }}", temperature="{{ y }}")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "fixed", "mapped"),
    [
        (CreateResponseOperator, {"model": "m", "completion_window": 60}, {"input": ["a", "b"]}),
        (CreateRunOperator, {"assistant_id": "a"}, {"thread_id": ["t1", "t2"]}),
        (CreateRunOperator, {}, {"thread_id": ["t1", "t2"], "assistant_id": ["a"]}),
        (GetThreadRunOperator, {"include_steps": True}, {"run_id": ["t:r", "t:s"]}),
        (CancelRunOperator, {}, {"response_id": ["r", "s"]}),
        (ResponseSensor, {"poke_interval": 5}, {"response_id": ["r", "s"]}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_operators_map_over_any_argument(
    kind: type[Any], fixed: dict[str, Any], mapped: dict[str, Any]
) -> None:
    with DAG("a_dag", schedule=None):
        operator = kind.partial(task_id="ask", **fixed).expand(**mapped)
    one = operator.unmap({name: values[0] for name, values in mapped.items()})

    assert isinstance(one, kind)
    assert {name: getattr(one, name) for name in mapped} == {n: v[0] for n, v in mapped.items()}


@pytest.mark.parametrize(
    ("kind", "fixed", "mapped"),
    [
        (CreateResponseOperator, {"model": "m"}, {"input": [None]}),
        (CreateResponseOperator, {"input": "Why?"}, {"completion_window": ["soon"]}),
        (CreateRunOperator, {"assistant_id": "a"}, {"thread_id": [None]}),
        (GetThreadRunOperator, {}, {"run_id": [None]}),
        (GetResponseOperator, {}, {"ref": [None]}),
        (CancelRunOperator, {}, {"ref": [None]}),
        (SubmitToolOutputsOperator, {"outputs": {"call_1": "x"}}, {"ref": [None]}),
        (BulkCreateResponsesOperator, {"model": "m", "output_path": "out"}, {"items": [None]}),
        (ResponseSensor, {}, {"response_id": [None]}),
        (ThreadRunSensor, {}, {"ref": [None]}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_mapped_value_that_is_none_fails_its_task_at_once_and_uses_up_no_retries(
    scene: Scene, kind: type[Any], fixed: dict[str, Any], mapped: dict[str, Any]
) -> None:
    """Of an upstream task that returned nothing; Airflow makes the operator in the worker."""
    with DAG("a_dag", schedule=None):
        operator = kind.partial(task_id="ask", **fixed).expand(**mapped)
    with pytest.raises(RunRequestError, match="Nothing was sent") as caught:
        operator.unmap({name: values[0] for name, values in mapped.items()}).execute(scene.context)
    assert isinstance(caught.value, AirflowFailException)


WINDOWS = pytest.mark.parametrize("window", [None, "None", "", " "])


@WINDOWS
@pytest.mark.parametrize("given", ["{{ window }}", 30], ids=["a template", "of another task"])
@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_a_window_that_was_given_and_came_to_nothing_does_not_switch_off_the_wait(
    scene: Scene, create: Make, window: str | None, given: Any, *, native: bool
) -> None:
    operator = create(completion_window=given)
    operator.dag = DAG("a_dag", schedule=None, render_template_as_native_obj=native)
    if given == 30:
        operator.completion_window = window  # as Airflow puts there what an XComArg came to
    operator.render_template_fields({"window": window}, operator.dag.get_template_env())

    with pytest.raises(RunRequestError, match=r"completion_window=.*rendered to nothing.*Nothing was sent"):
        operator.execute(scene.context)
    assert scene.creates() == 0


class Returned(list[Any]):
    """What ``expand`` takes from another task; nobody knows it while the Dag is parsed."""

    def resolve(self, _context: Any) -> Any:
        return self


@pytest.mark.parametrize("more", [{}, {"output_type": {"type": "object", "properties": {}}}], ids=str)
def test_a_window_that_another_task_has_returned_for_a_mapped_one_is_not_none(
    scene: Scene, more: dict[str, Any]
) -> None:
    with DAG("a_dag", schedule=None):
        operator = CreateResponseOperator.partial(task_id="ask", input="Why?", **more).expand(
            completion_window=Returned([None, 30])
        )
    with pytest.raises(RunRequestError, match=r"completion_window.*Nothing was sent") as caught:
        operator.unmap({"completion_window": None}).execute(scene.context)
    assert isinstance(caught.value, AirflowFailException)
    assert scene.creates() == 0


@pytest.mark.parametrize(
    "expand",
    [
        lambda partial: partial.expand(input=["Why?"]),
        lambda partial: partial.expand(input=["Why?"], completion_window=[None]),
        lambda partial: partial.expand(input=Returned(["Why?"])),
    ],
    ids=["not at all", "in the Dag file", "beside what another task has returned"],
)
def test_a_window_that_the_dag_leaves_none_creates_and_does_not_wait(scene: Scene, expand: Any) -> None:
    scene.simulator.script(Scenario(in_progress=30))
    with DAG("a_dag", schedule=None):
        operator = expand(CreateResponseOperator.partial(task_id="ask", model="gpt-4o-mini"))
    found = operator.unmap({"input": "Why?"}).execute(scene.context)
    assert found["status"] in {"queued", "in_progress"}


def test_the_output_of_one_task_is_the_argument_of_another() -> None:
    with DAG("a_dag", schedule=None) as dag:
        ask: Any = CreateResponseOperator(task_id="ask", input="Why?")
        read = GetResponseOperator(task_id="read", ref=ask.output["ref"])
        again = CreateResponseOperator(task_id="again", input="And?", previous_response_id=ask.output["id"])

    assert dag.task_dict["ask"].downstream_task_ids == {read.task_id, again.task_id}
