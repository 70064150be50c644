# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sqlite3
from contextlib import suppress
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, Strict, field_validator

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.tool_calls.function_tool import BadArgumentsError, FunctionTool


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    """One line of an order."""

    title: str
    count: int = 1


class Divided(BaseModel):
    by: int

    @field_validator("by")
    @classmethod
    def divide(cls, value: int) -> int:
        return 1 // value


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def add(self, number: int) -> int:
        """Add to what there is."""
        return self.start + number


def order(
    lines: list[Line],
    colour: Colour,
    price: Annotated[float, Field(gt=0, description="In euros.")],
    note: str | None = None,
    speed: Literal["slow", "fast"] = "slow",
) -> dict[str, Any]:
    """
    Order something.

    Twice is twice as much.
    """
    return {"lines": lines, "colour": colour, "price": price, "note": note, "speed": speed}


def nothing() -> str:
    return "done"


def divided(part: Divided) -> int:
    return part.by


def on_day(day: date, price: Decimal, parts: tuple[int, str], tags: set[str]) -> list[Any]:
    return [day, price, parts, tags]


def grown(tree: Tree) -> int:
    return len(tree.children)


def awkward(copy: bool, _x: int, schema: str, model_config: str = "a", title: str = "b") -> list[Any]:
    return [copy, _x, schema, model_config, title]


def described(limit: int = Field(5, ge=1, description="How many.")) -> int:
    return limit


def untyped(anything, other=object):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as users may
    return anything, other


def with_own(table: str, context: dict[str, Any], call_id: str) -> tuple[str, Any, str]:
    return table, context, call_id


async def waited(number: int) -> int:
    return number + 1


def connected(connection: sqlite3.Connection) -> None:
    connection.close()


FUNCTIONS = [order, nothing, divided, on_day, grown, awkward, described, untyped, with_own, waited]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=8,
)
plain_texts = st.text(st.characters(exclude_categories=["Cs"]))
near_lines = st.fixed_dictionaries(
    {"title": plain_texts | st.integers()}, optional={"count": st.integers() | st.none() | plain_texts}
)
near_orders = st.fixed_dictionaries(
    {
        "lines": st.lists(near_lines, max_size=3) | st.none(),
        "colour": st.sampled_from(["red", "blue", "green"]),
        "price": st.floats(allow_nan=False, allow_infinity=False) | st.integers() | plain_texts,
    },
    optional={
        "note": plain_texts | st.none(),
        "speed": st.sampled_from(["slow", "fast", "fastest"]),
        "more": st.just(1),
    },
)


def _parameters(function: Any) -> Any:
    return FunctionTool(function).definition()["function"]["parameters"]


def _called(function: Any, text: Any) -> Any:
    tool = FunctionTool(function)
    return tool(tool.arguments_of(text), context={"ds": "2026-11-22"}, call_id="call_1")


def test_a_function_is_described_by_its_name_docstring_and_signature() -> None:
    assert FunctionTool(order).definition() == {
        "type": "function",
        "function": {
            "name": "order",
            "description": "Order something.\n\nTwice is twice as much.",
            "parameters": {
                "type": "object",
                "properties": {
                    "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
                    "colour": {"$ref": "#/$defs/Colour"},
                    "price": {"type": "number", "exclusiveMinimum": 0, "description": "In euros."},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                    "speed": {"type": "string", "enum": ["slow", "fast"], "default": "slow"},
                },
                "required": ["lines", "colour", "price"],
                "additionalProperties": False,
                "$defs": {
                    "Colour": {"type": "string", "enum": ["red", "blue"]},
                    "Line": {
                        "type": "object",
                        "description": "One line of an order.",
                        "properties": {
                            "title": {"type": "string"},
                            "count": {"type": "integer", "default": 1},
                        },
                        "required": ["title"],
                    },
                },
            },
        },
    }


def test_a_function_without_parameters_and_docstring_has_an_empty_schema() -> None:
    assert FunctionTool(nothing).definition()["function"] == {
        "name": "nothing",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    }


def test_context_and_call_id_are_not_for_the_model() -> None:
    assert list(_parameters(with_own)["properties"]) == ["table"]
    assert _called(with_own, '{"table": "t"}') == ("t", {"ds": "2026-11-22"}, "call_1")
    with pytest.raises(BadArgumentsError, match=r"not permitted \(at call_id\)"):
        _called(with_own, '{"table": "t", "call_id": "mine"}')


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_description_is_a_schema_without_derived_titles(function: Any) -> None:
    definition = FunctionTool(function).definition()
    jsonschema.Draft202012Validator.check_schema(definition["function"]["parameters"])
    assert '"title": "' not in json.dumps(definition)


def test_a_bound_method_is_a_function() -> None:
    assert FunctionTool(Counter(3).add).definition()["function"]["description"] == "Add to what there is."
    assert _called(Counter(3).add, '{"number": 4}') == 7


def test_a_coroutine_function_is_awaited() -> None:
    assert _called(waited, '{"number": 4}') == 5


@pytest.mark.parametrize("text", ["", " \n", None, "{}", {}])
def test_no_arguments_are_fine_where_none_are_needed(text: Any) -> None:
    assert _called(nothing, text) == "done"


def test_arguments_arrive_in_the_types_of_the_signature() -> None:
    text = '{"lines": [{"title": "nut"}], "colour": "red", "price": "2.5"}'
    assert _called(order, text) == {
        "lines": [Line(title="nut", count=1)],
        "colour": Colour.RED,
        "price": 2.5,
        "note": None,
        "speed": "slow",
    }
    day = {"day": "2026-11-22", "price": "1.10", "parts": [1, "a"], "tags": ["x", "x"]}
    assert _called(on_day, day) == [date(2026, 11, 22), Decimal("1.10"), (1, "a"), {"x"}]


def hours(
    count: int = 24,
    limit: int = Field(5, ge=1),
    note: str | None = "none",
    days: Annotated[list[int], Field(default_factory=list)] = Field(default_factory=list),  # noqa: B008 # pydantic's
) -> list[Any]:
    return [count, limit, note, days]


@pytest.mark.parametrize(
    "text",
    [
        *('"{}"', '""', '"null"', '" null "', '"\\"{}\\""', '"\\"\\""', "null"),
        *('{"count": null}', '{"limit": null, "days": null}', '"{\\"count\\": null}"', {"count": None}),
    ],
)
def test_a_null_and_nothing_mean_the_default(text: Any) -> None:
    assert _called(hours, text) == [24, 5, "none", []]


@pytest.mark.parametrize("wrapped", [1, 2])
def test_arguments_within_a_json_string_are_read(wrapped: int) -> None:
    text = '{"count": 3, "note": "a \\"b\\""}'
    for _ in range(wrapped):
        text = json.dumps(text)
    assert _called(hours, text) == [3, 5, 'a "b"', []]


def test_a_null_stays_one_where_the_type_takes_it_or_nothing_else_is_there() -> None:
    assert _called(hours, '{"note": null}') == [24, 5, None, []]
    assert _called(untyped, '{"anything": null, "other": null}') == (None, None)
    for function, text in (
        (waited, '{"number": null}'),
        (hours, '{"days": [null]}'),
        (hours, '{"limit": 0}'),
    ):
        with pytest.raises(BadArgumentsError, match="Input should be"):
            _called(function, text)


def strictly(
    day: Annotated[date, Strict()] = date(2026, 1, 1),  # as users may
    parts: Annotated[tuple[int, ...], Strict()] = (),
    count: int = 24,
) -> list[Any]:
    return [day, parts, count]


def test_a_null_beside_strict_types_changes_nothing_of_them() -> None:
    text = '{"day": "2026-11-22", "parts": [1], "count": null}'
    assert _called(strictly, text) == [date(2026, 11, 22), (1,), 24]


def test_a_default_that_null_may_stand_for_changes_nothing_in_the_schema() -> None:
    assert _parameters(hours)["properties"] == {
        "count": {"type": "integer", "default": 24},
        "limit": {"type": "integer", "default": 5, "minimum": 1},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": "none"},
        "days": {"type": "array", "items": {"type": "integer"}},
    }


def test_half_a_character_in_an_argument_is_replaced() -> None:
    assert _called(untyped, '{"anything": "a\\ud83d"}')[0] == "a\ufffd"


def test_parameters_may_have_any_name() -> None:
    text = '{"copy": true, "_x": 1, "schema": "s", "title": "t"}'
    assert _called(awkward, text) == [True, 1, "s", "a", "t"]
    assert list(_parameters(awkward)["properties"]) == ["copy", "_x", "schema", "model_config", "title"]


def test_a_default_may_be_pydantics_field() -> None:
    assert _parameters(described)["properties"]["limit"] == {
        "type": "integer",
        "default": 5,
        "minimum": 1,
        "description": "How many.",
    }
    assert _called(described, "") == 5


def test_a_parameter_without_a_type_takes_anything() -> None:
    assert _called(untyped, '{"anything": [1, {"a": null}]}') == ([1, {"a": None}], object)


@pytest.mark.parametrize(
    ("function", "text", "reason"),
    [
        (order, '{"lines": []', "Bad arguments: Invalid JSON"),
        (order, "[1]", "Input should be an object"),
        (order, "{}", r"Field required \(at lines\); .*order takes lines, colour, price, note, speed\."),
        (order, '{"lines": [{"count": 1}]}', r"Field required \(at lines\.0\.title\)"),
        (nothing, '{"a": 1}', r"Extra inputs are not permitted \(at a\)\. nothing takes no arguments"),
        (divided, '{"part": {"by": 0}}', "ZeroDivisionError"),
        (nothing, json.dumps({str(n): n for n in range(40)}), "and 35 more"),
    ],
)
def test_bad_arguments_are_described_in_one_short_line(function: Any, text: str, reason: str) -> None:
    with pytest.raises(BadArgumentsError, match=reason) as raised:
        FunctionTool(function).arguments_of(text)
    assert len(str(raised.value)) <= 500
    assert "\n" not in str(raised.value)


def test_the_text_of_bad_arguments_does_not_repeat_values() -> None:
    with pytest.raises(BadArgumentsError) as raised:
        FunctionTool(order).arguments_of(
            '{"lines": "swordfish", "colour": "swordfish", "price": "swordfish"}'
        )
    assert "swordfish" not in str(raised.value)


@given(value=json_values, which=st.sampled_from(FUNCTIONS))
def test_any_json_is_read_or_is_bad_arguments(value: Any, which: Any) -> None:
    tool = FunctionTool(which)
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        try:
            found = tool.arguments_of(text)
        except BadArgumentsError:
            continue
        assert set(found) == set(tool.definition()["function"]["parameters"]["properties"])


@given(text=st.text(st.characters()))
def test_any_text_is_read_or_is_bad_arguments(text: str) -> None:
    with suppress(BadArgumentsError):
        assert isinstance(FunctionTool(untyped).arguments_of(text), dict)


@given(arguments=st.dictionaries(st.text(), json_values, max_size=3))
def test_any_edited_arguments_are_read_or_are_bad_arguments(arguments: dict[str, Any]) -> None:
    with suppress(BadArgumentsError):
        assert isinstance(FunctionTool(divided).arguments_of(arguments), dict)


@pytest.mark.parametrize(
    "text", ['{"tree": ' * 5000, "[" * 100_000, '{"part": {"by": ' + "9" * 10_000 + "}}"]
)
def test_json_that_is_too_deep_or_too_long_is_bad_arguments(text: str) -> None:
    with pytest.raises(BadArgumentsError):
        FunctionTool(divided).arguments_of(text)


@given(value=near_orders)
def test_what_fits_the_schema_fits_the_function(value: Any) -> None:
    tool = FunctionTool(order)
    schema = tool.definition()["function"]["parameters"]
    if jsonschema.Draft202012Validator(schema).is_valid(value):
        assert tool.arguments_of(json.dumps(value))["colour"] in set(Colour)


def test_a_type_without_a_schema_is_refused_by_name() -> None:
    with pytest.raises(
        RunRequestError, match=r"Function connected: no JSON Schema .*Connection.*Nothing was sent"
    ):
        FunctionTool(connected)
