# SPDX-License-Identifier: Apache-2.0
"""Answers that have to fit a type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator

from airflow_provider_openai_runs.exceptions import RunOutputError, RunRequestError
from airflow_provider_openai_runs.simulator import Scenario
from tests.support.scene import Make, Scene


class Weather(BaseModel):
    city: str
    degrees: int


class Incident(BaseModel):
    """The type of the example in the README."""

    title: str
    severity: Literal["low", "high"]


SCHEMA = {
    "title": "Weather",
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
FITS = '{"city": "Oslo", "degrees": -3}'


def quick(text: str) -> Scenario:
    return Scenario(text=text, queued=0.01, in_progress=0.06)


@pytest.mark.parametrize("output_type", [Weather, SCHEMA], ids=["pydantic", "JSON Schema"])
def test_the_answer_is_asked_for_in_that_type_and_returned_parsed(
    scene: Scene, create: Make, output_type: Any
) -> None:
    scene.simulator.script(quick(FITS))
    found = scene.run(create(output_type=output_type))
    bodies = [r.body for r in scene.simulator.requests if isinstance(r.body, dict)]
    sent = next(
        b.get("response_format", {}).get("json_schema") or b["text"]["format"]
        for b in bodies
        if "response_format" in b or "text" in b
    )

    assert found["output"] == {"city": "Oslo", "degrees": -3}
    assert found["output_text"] == FITS
    assert sent["name"] == "Weather"
    assert sent["schema"]["required"] == ["city", "degrees"]
    assert sent["strict"] is True


@pytest.mark.parametrize("text", ["It is cold.", '{"city": "Oslo"}', '{"city": "Oslo", "degrees": "cold"}'])
@pytest.mark.parametrize("output_type", [Weather, SCHEMA], ids=["pydantic", "JSON Schema"])
def test_an_answer_that_does_not_fit_fails_with_its_text_kept_and_a_retry_starts_anew(
    scene: Scene, create: Make, text: str, output_type: Any
) -> None:
    scene.simulator.script(quick(text), quick(FITS))
    with pytest.raises(RunOutputError, match="does not fit output_type") as caught:
        scene.run(create(output_type=output_type), scene.kept)
    found = scene.run(create(output_type=output_type), scene.retry(scene.kept))

    assert caught.value.retryable
    assert scene.kept["ti"].xcoms["return_value"]["output_text"] == text
    assert found["output"] == {"city": "Oslo", "degrees": -3}
    assert scene.creates() == 2


def test_an_answer_over_which_the_type_fails_is_not_bought_again(scene: Scene, create: Make) -> None:
    down = [True]

    class Asking(BaseModel):
        city: str

        @field_validator("city")
        @classmethod
        def known(cls, value: str) -> str:
            if down:
                raise ConnectionError("the catalog is down")
            return value

    scene.simulator.script(quick('{"city": "Oslo"}'))
    with pytest.raises(RunOutputError, match=r"ConnectionError: the catalog is down.*pays nothing"):
        scene.run(create(output_type=Asking), scene.kept)
    down.clear()
    found = scene.run(create(output_type=Asking), scene.retry(scene.kept))

    assert found["output"] == {"city": "Oslo"}
    assert scene.creates() == 1


def test_a_type_and_a_format_at_once_are_refused_when_the_dag_is_parsed(
    respond: Callable[..., Any], run_on: Callable[..., Any]
) -> None:
    with pytest.raises(RunRequestError, match="text"):
        respond(output_type=Weather, text={"format": {"type": "text"}})
    with pytest.raises(RunRequestError, match="response_format"):
        run_on(output_type=Weather, response_format="auto")


def test_other_words_of_text_are_kept(scene: Scene, respond: Make) -> None:
    scene.simulator.script(quick(FITS))
    scene.run(respond(output_type=Weather, text={"verbosity": "low"}))
    body = next(r.body for r in scene.simulator.requests if r.path == "/responses")

    assert body["text"]["verbosity"] == "low"
    assert body["text"]["format"]["name"] == "Weather"


@pytest.mark.parametrize("output_type", [Weather(city="Oslo", degrees=1), "Weather", int])
def test_what_is_no_type_is_refused_when_the_dag_is_parsed(
    create: Callable[..., Any], output_type: Any
) -> None:
    with pytest.raises(RunRequestError, match="output_type"):
        create(output_type=output_type)


def test_the_example_of_the_readme_works_on_a_simulator_without_a_scenario(
    scene: Scene, create: Make
) -> None:
    found = scene.run(create(output_type=Incident))
    assert Incident.model_validate(found["output"]).severity in {"low", "high"}
