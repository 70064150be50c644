# SPDX-License-Identifier: Apache-2.0
"""Answers of the type that was asked for."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, EmailStr, Field

from airflow_provider_openai_runs.simulator import CodeInterpreter, ProducedFile, Scenario
from airflow_provider_openai_runs.simulator.schemas import instance_of

if TYPE_CHECKING:
    import httpx2
    import openai

    from airflow_provider_openai_runs.simulator import Simulator


class Colour(StrEnum):
    BLUE = "blue"
    RED = "red"


class Node(BaseModel):
    name: str
    parent: Node | None
    children: list[Node]


class Everything(BaseModel):
    colour: Colour
    kind: Literal["a"]
    one_of: int | str
    maybe: float | None
    nodes: Annotated[list[Node], Field(min_length=2)]
    none: Annotated[list[int], Field(max_length=0)]
    share: Annotated[float, Field(gt=0, lt=0.5)]
    below: Annotated[float, Field(lt=-3)]
    above: Annotated[float, Field(ge=7)]
    count: Annotated[int, Field(gt=4, multiple_of=3)]
    small: Annotated[int, Field(le=-2, ge=-9, multiple_of=4)]
    code: Annotated[str, Field(min_length=12)]
    short: Annotated[str, Field(max_length=3)]
    day: dt.date
    at: dt.datetime
    time: dt.time
    lasts: dt.timedelta
    key: uuid.UUID
    mail: EmailStr
    flag: bool
    nothing: None


def test_the_instance_of_a_models_schema_is_one() -> None:
    schema = Everything.model_json_schema()
    instance = instance_of(schema)
    jsonschema.validate(instance, schema)
    Everything.model_validate(instance)
    assert instance == instance_of(schema), "always the same one"
    assert [len(instance["nodes"]), instance["maybe"], instance["colour"]] == [2, 1.0, "blue"]


def test_a_schema_that_never_ends_is_refused() -> None:
    schema: Any = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "required": ["a"]}}}
    schema["$defs"]["a"]["properties"] = {"a": {"$ref": "#/$defs/a"}}
    with pytest.raises(ValueError, match="contains itself without an end"):
        instance_of(schema)


def test_a_reference_may_lead_to_the_root_and_needs_its_escapes() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/x~1y"}, "b": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "$defs": {"x/y": {"const": 1}},
        "required": ["a"],
    }
    instance = instance_of(schema)
    jsonschema.validate(instance, schema)
    assert instance["b"]["b"]["a"] == 1


class Incident(BaseModel):
    title: str
    severity: Literal["low", "high"]


def test_a_response_of_a_type_parses_as_one(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Scenario(queued=0, in_progress=0, output=(CodeInterpreter(files=(FILE,)),)))
    response = client.responses.parse(model="gpt-4o", input="x", text_format=Incident)
    assert response.output_parsed == Incident(title="simulated", severity="low")


FILE = ProducedFile(name="a.csv")


def test_a_text_that_is_scripted_stays_as_it_is(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Scenario(queued=0, in_progress=0, text='{"title": 1'))
    text: Any = {"format": {"type": "json_schema", "name": "n", "schema": Incident.model_json_schema()}}
    assert client.responses.create(model="gpt-4o", input="x", text=text).output_text == '{"title": 1'


def test_any_json_is_an_object(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(Scenario(queued=0, in_progress=0))
    text: Any = {"format": {"type": "json_object"}}
    answer = client.responses.create(model="gpt-4o", input="x", text=text).output_text
    assert json.loads(answer) == {"answer": "Simulated answer to: x"}


def test_a_thread_run_answers_in_the_type_of_its_format(
    http: httpx2.Client,
    simulator: Simulator,
    assistant: str,
    thread: str,
) -> None:
    asked = {"name": "incident", "schema": Incident.model_json_schema()}
    body = {"assistant_id": assistant, "response_format": {"type": "json_schema", "json_schema": asked}}
    http.post(f"/threads/{thread}/runs", json=body)
    simulator.advance(5)
    [part] = http.get(f"/threads/{thread}/messages").json()["data"][0]["content"]
    Incident.model_validate_json(part["text"]["value"])
