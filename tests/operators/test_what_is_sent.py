# SPDX-License-Identifier: Apache-2.0
"""What Airflow hands on, as a server reads it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints
from uuid import UUID

import pytest
from airflow.sdk import DAG, task

from airflow_provider_openai_runs.exceptions import RunRequestError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from airflow_provider_openai_runs.operators import (
    CancelRunOperator,
    GetResponseOperator,
    GetThreadRunOperator,
    SubmitToolOutputsOperator,
)
from airflow_provider_openai_runs.operators.text_templates import TEXT_FIELDS
from airflow_provider_openai_runs.runs.create_arguments import ResponseArguments, ThreadRunArguments
from airflow_provider_openai_runs.runs.messages import is_blank
from airflow_provider_openai_runs.sensors import ResponseSensor, ThreadRunSensor
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import CREATES, Make, Scene

ITEM = {"role": "user", "content": "Sum up."}


@pytest.fixture(autouse=True)
def quick(scene: Scene) -> None:
    scene.simulator.script(Scenario(in_progress=0.05))


def sent(scene: Scene) -> dict[str, Any]:
    """Return the body of the create."""
    (body,) = [
        request.body for request in scene.simulator.requests
        if request.method == "POST" and request.path.endswith(("/responses", "/runs"))
    ]  # fmt: skip
    assert isinstance(body, dict)
    return body


def rendered(operator: Any, **context: Any) -> Any:
    """Render as Airflow does in a Dag with native rendering."""
    dag = DAG("native", schedule=None, render_template_as_native_obj=True)
    operator.dag = dag
    operator.render_template_fields(context, dag.get_template_env())
    return operator


def test_values_of_a_database_are_sent_as_json(scene: Scene, respond: Make) -> None:
    prompt = {"id": "pmpt_1", "variables": {"city": "Rome", "day": date(2026, 1, 2), "n": Decimal(3)}}
    respond(input=[ITEM], prompt=prompt, metadata={"id": UUID(int=1)}, max_output_tokens=Decimal(64)).execute(
        scene.context
    )

    body = sent(scene)
    assert body["prompt"]["variables"] == {"city": "Rome", "day": "2026-01-02", "n": "3"}
    assert body["metadata"]["id"] == str(UUID(int=1))
    assert body["max_output_tokens"] == 64


def test_values_in_a_thread_and_its_messages_are_sent_as_json(scene: Scene, run_on: Make) -> None:
    messages = ({"role": "user", "content": Path("a.csv"), "metadata": {"day": date(2026, 1, 2)}},)
    run_on(thread={"messages": messages}, additional_instructions=Decimal(1)).execute(scene.context)

    thread = [r.body for r in scene.simulator.requests if r.path.endswith("/threads") and r.method == "POST"][
        -1
    ]
    assert isinstance(thread, dict)
    assert thread["messages"] == [
        {"role": "user", "content": "a.csv", "metadata": {"day": "2026-01-02"}}
    ]  # fmt: skip
    assert sent(scene)["additional_instructions"] == "1"


def test_half_an_emoji_in_a_prompt_is_sent_as_a_replacement_character(scene: Scene) -> None:
    OpenAIRunsHook().create_background_response(model="gpt-4o-mini", input="cut \ud83d here")
    assert sent(scene)["input"] == "cut \ufffd here"


def test_what_cannot_be_sent_leaves_no_request_and_no_lost_create(scene: Scene) -> None:
    with pytest.raises(RunRequestError, match=r"input\[0\]\['content'\]=b'x'.*Nothing was sent"):
        OpenAIRunsHook().create_background_response(model="m", input=[{"role": "user", "content": b"x"}])
    with pytest.raises(RunRequestError, match=r"messages\[0\]\['content'\]=b'x'.*Nothing was sent"):
        OpenAIRunsHook().create_thread(messages=[{"role": "user", "content": b"x"}])
    assert scene.simulator.requests == []


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ 20261126 }}", "20261126"),
        ("{{ n }}", "7"),
        ("{{ answer }}", '{"a": 1}'),
        ("[1, 2, 3]", "[1, 2, 3]"),
        ("1_000", "1_000"),
        ("'quoted'", "'quoted'"),
        ("True", "True"),
        ("{{ n }}{{ n }}", "77"),
        ("{{ row }}", '{"a": 1}'),
        ("{{ rows }}", "[1, 2]"),
        ("Is {{ answer }} JSON?", 'Is {"a": 1} JSON?'),
    ],
)
def test_a_prompt_that_reads_like_something_else_stays_text(
    scene: Scene, respond: Make, template: str, text: str
) -> None:
    operator = respond(input=template, instructions=template, metadata={"day": template}, user=template)
    rendered(operator, n=7, answer='{"a": 1}', row={"a": 1}, rows=[1, 2]).execute(scene.context)

    body = sent(scene)
    assert [body["input"], body["instructions"], body["metadata"]["day"], body["user"]] == [text] * 4


def test_input_items_stay_items_and_their_text_text(scene: Scene, respond: Make) -> None:
    items = [{"role": "user", "content": "{{ n }}"}, {"role": "user", "content": "[{{ n }}]"}]
    rendered(respond(input=items, temperature="{{ 0.5 }}"), n=7).execute(scene.context)
    assert sent(scene)["input"] == [{"role": "user", "content": "7"}, {"role": "user", "content": "[7]"}]
    assert sent(scene)["temperature"] == 0.5


def test_a_list_of_items_from_an_expression_is_that_list(scene: Scene, respond: Make) -> None:
    rendered(respond(input="{{ items }}"), items=[ITEM]).execute(scene.context)
    assert sent(scene)["input"] == [ITEM]


def test_messages_of_a_thread_stay_text(scene: Scene, run_on: Make) -> None:
    operator = run_on(additional_messages=[{"role": "user", "content": "{{ answer }}"}])
    rendered(operator, answer='{"a": 1}').execute(scene.context)
    assert sent(scene)["additional_messages"] == [{"role": "user", "content": '{"a": 1}'}]


@pytest.mark.parametrize("value", [None, "", [], "None", [None], ["", " "], [[]], [["None"], None]], ids=str)
def test_a_template_that_renders_to_nothing_is_not_paid_for(
    scene: Scene, respond: Make, value: object
) -> None:
    operator = rendered(respond(input="{{ value }}"), value=value)
    with pytest.raises(RunRequestError, match=r"input=.*(is blank|is required).*Nothing was sent"):
        operator.execute(scene.context)
    assert scene.simulator.count("POST", CREATES) == 0


def test_a_list_of_blanks_deeper_than_any_call_is_blank() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep, None]
    assert is_blank(deep)
    assert not is_blank([deep, 0])


def test_the_whole_result_of_a_run_is_no_prompt(scene: Scene, respond: Make) -> None:
    result = respond().execute(scene.context)
    creates = scene.simulator.count("POST", CREATES)
    with pytest.raises(RunRequestError, match=r"task\.output\['output_text'\]\. Nothing was sent"):
        rendered(respond(input="{{ result }}"), result=result).execute(scene.context)
    assert scene.simulator.count("POST", CREATES) == creates


@pytest.mark.parametrize("where", ["argument", "text", "extra_body"])
def test_a_prompt_template_needs_no_input_and_no_model(scene: Scene, respond: Make, where: str) -> None:
    prompt: Any = '{"id": "pmpt_1"}' if where == "text" else {"id": "pmpt_1"}
    given = {"extra_body": {"prompt": prompt}} if where == "extra_body" else {"prompt": prompt}
    respond(input=None, model=None, **given).execute(scene.context)
    assert sent(scene)["prompt"] == {"id": "pmpt_1"}
    assert not {"input", "model"} & set(sent(scene))


def test_stream_false_is_not_sent(scene: Scene, respond: Make) -> None:
    respond(extra_body={"stream": False}).execute(scene.context)
    assert "stream" not in sent(scene)


# -- native rendering --------------------------------------------------------------------------------------

#: What Python reads as a literal, and somebody has written as text.
LITERALS = pytest.mark.parametrize("text", ["0x10", "True", "1_000", "007", "'quoted'", "[1, 2]", "{'a': 1}"])
REF = {"kind": "response", "id": "resp_1"}


@LITERALS
def test_an_answer_to_a_call_stays_the_text_that_it_is(text: str) -> None:
    operator = SubmitToolOutputsOperator(
        task_id="answer", ref=REF, outputs={"call_1": "{{ text }}", "call_2": text}
    )
    assert rendered(operator, text=text).given_outputs() == {"call_1": text, "call_2": text}


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ("{{ answers }}", {"call_1": "0x10"}),
        ("{'call_1': '{{ text }}'}", {"call_1": "0x10"}),
        ({"call_1": "{{ answers }}"}, {"call_1": {"call_1": "0x10"}}),
        ({"call_1": "{{ n }}"}, {"call_1": 5}),
    ],
    ids=str,
)
def test_answers_that_a_template_gives_as_an_object_stay_that_object(outputs: Any, found: Any) -> None:
    operator = SubmitToolOutputsOperator(task_id="answer", ref=REF, outputs=outputs)
    assert rendered(operator, text="0x10", n=5, answers={"call_1": "0x10"}).given_outputs() == found


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (GetResponseOperator, ["response_id"]),
        (CancelRunOperator, ["response_id"]),
        (ResponseSensor, ["response_id"]),
        (GetThreadRunOperator, ["thread_id", "run_id"]),
        (CancelRunOperator, ["thread_id", "run_id"]),
        (ThreadRunSensor, ["thread_id", "run_id"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("text", ["12345", "0x10", "1_000", "007"])
def test_the_id_of_a_run_that_reads_like_a_number_is_that_text(
    kind: type[Any], named: list[str], text: str
) -> None:
    found = rendered(kind(task_id="a", **dict.fromkeys(named, "{{ text }}")), text=text).named_run()
    assert found.id == text
    assert found.thread_id == (text if "thread_id" in named else None)


@pytest.mark.parametrize("ref", [{**REF, "id": "{{ text }}"}, "{{ ref }}"], ids=["within", "whole"])
def test_a_ref_is_rendered_as_the_object_that_it_is(ref: Any) -> None:
    operator = GetResponseOperator(task_id="a", ref=ref)
    assert rendered(operator, text="12345", ref={**REF, "id": "12345"}).named_run().id == "12345"


def test_what_holds_numbers_beside_texts_is_read_as_jinja_reads_it(respond: Make) -> None:
    """As of a Variable, which is text always."""
    operator = respond(
        tools=[{"type": "file_search", "vector_store_ids": "{{ ids }}", "max_num_results": "{{ n }}"}],
        extra_body={"top_k": "{{ n }}", "chat_template_kwargs": {"thinking": "{{ yes }}"}},
    )
    body = rendered(operator, ids="['vs_1']", n="5", yes="True").build_request().body
    assert body["tools"][0]["vector_store_ids"] == ["vs_1"]
    assert (body["tools"][0]["max_num_results"], body["top_k"]) == (5, 5)
    assert body["chat_template_kwargs"] == {"thinking": True}


def test_an_argument_of_a_few_names_is_left_out_where_its_template_renders_to_nothing(respond: Make) -> None:
    operator = respond(service_tier="{% if x %}flex{% endif %}")
    assert "service_tier" not in rendered(operator, x=False).build_request().body


@pytest.mark.parametrize(
    "tools", ["{{ tools }}", "[{'type': '{{ tools[0].type }}'}]"], ids=["an object", "written out"]
)
def test_a_template_that_stands_for_all_tools_gives_tools(respond: Make, tools: Any) -> None:
    body = rendered(respond(tools=tools), tools=[{"type": "web_search"}]).build_request().body
    assert body["tools"] == [{"type": "web_search"}]


@pytest.mark.parametrize("arguments", [ResponseArguments, ThreadRunArguments])
def test_every_argument_that_is_text_is_rendered_as_text(arguments: Any) -> None:
    of_a_few_names = {"prompt_cache_retention", "reasoning_effort", "service_tier", "truncation"}
    text = {name for name, kind in get_type_hints(arguments).items() if kind == str | None}
    assert text - of_a_few_names <= TEXT_FIELDS


def test_what_a_function_of_the_dag_is_given_is_rendered_as_for_any_other() -> None:
    @task.openai_response(model="m")
    def ask(n: Any) -> str:
        return str(n)

    with DAG("native", schedule=None, render_template_as_native_obj=True) as dag:
        asked: Any = ask({"a": "{{ '0x10' }}"})
    operator = asked.operator
    operator.render_template_fields({}, dag.get_template_env())
    assert operator.op_args == ({"a": 16},)
