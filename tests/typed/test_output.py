# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
)

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.typed.output import OutputType, OutputTypeFault


class Item(BaseModel):
    name: str
    count: int = 1


class Report(BaseModel):
    day: date
    items: list[Item]


class Counts(BaseModel):
    by_name: dict[str, int]


class Callback(BaseModel):
    call: Callable[[], None]


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Divided(BaseModel):
    by: int

    @field_validator("by")
    @classmethod
    def divide(cls, value: int) -> int:
        return 1 // value


class Any_Thing_With_A_Name_That_Is_Much_Longer_Than_The_Sixty_Four_Characters_Of_The_API(BaseModel):  # noqa: N801
    a: int


TEXT = {"type": "string"}
STRICT = {
    "title": "A report, of today!",
    "type": "object",
    "properties": {"title": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["title", "tags"],
    "additionalProperties": False,
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=8,
)


def _asked(output_type: Any) -> Any:
    return OutputType(output_type).format_of(RunKind.RESPONSE)


def test_each_kind_of_run_is_asked_in_its_own_form() -> None:
    asked = {"name": "A_report_of_today", "schema": STRICT, "strict": True}
    output = OutputType(STRICT)
    assert output.format_of(RunKind.RESPONSE) == {"type": "json_schema", **asked}
    assert output.format_of(RunKind.THREAD_RUN) == {"type": "json_schema", "json_schema": asked}


def test_a_model_is_sent_as_a_strict_schema() -> None:
    asked = _asked(Report)
    assert (asked["name"], asked["strict"]) == ("Report", True)
    assert asked["schema"]["additionalProperties"] is False
    assert asked["schema"]["$defs"]["Item"]["required"] == ["name", "count"]


def test_a_model_with_free_keys_is_not_called_strict_since_the_api_would_refuse_it() -> None:
    assert _asked(Counts)["strict"] is False


@pytest.mark.parametrize(
    ("change", "strict"),
    [
        ({}, True),
        ({"additionalProperties": True}, False),
        ({"required": ["title"]}, False),
        ({"properties": {"title": TEXT, "tags": {}}}, False),
        ({"properties": {"title": {"type": "object"}, "tags": TEXT}}, False),
        ({"properties": {"title": {"anyOf": [{"type": "null"}, {"type": "object"}]}, "tags": TEXT}}, False),
        ({"$defs": {"a": {"type": "object", "properties": {"b": {}}, "additionalProperties": False}}}, False),
        ({"properties": {"title": {"const": "x", "type": "string"}, "tags": TEXT}}, True),
        ({"properties": {"title": {"$ref": "#/$defs/a"}, "tags": TEXT}, "$defs": {"a": TEXT}}, True),
        ({"properties": {"title": {"$ref": "#"}, "tags": TEXT}}, True),
        ({"properties": {"title": {"$ref": "#", "description": "The one above."}, "tags": TEXT}}, False),
        ({"properties": {"title": {"$ref": "#", "default": "x"}, "tags": TEXT}}, True),
        ({"properties": {"title": {**TEXT, "enum": [str(n) for n in range(1000)]}, "tags": TEXT}}, True),
        ({"properties": {"title": {**TEXT, "enum": [f"{n:070}" for n in range(251)]}, "tags": TEXT}}, False),
        ({"properties": {"title": {**TEXT, "description": "x" * 120_000}, "tags": TEXT}}, False),
        *(
            ({"properties": {"title": {"type": "string", **more}, "tags": TEXT}}, False)
            for more in (
                {"format": "uri"},
                {"pattern": "^(?!0).*$"},
                {"minLength": 2},
                {"oneOf": [TEXT]},
                {"allOf": [TEXT]},
                {"not": TEXT},
            )
        ),
        ({"properties": {"title": TEXT, "tags": {"type": "array", "prefixItems": [TEXT]}}}, False),
        ({"properties": {"title": TEXT, "tags": {"type": "array"}}}, False),
        (
            {"properties": {"title": TEXT, "tags": {"type": "array", "items": TEXT, "uniqueItems": True}}},
            False,
        ),
        ({"properties": {"title": {"type": "string", "format": "date"}, "tags": TEXT}}, True),
        ({"properties": {"title": {"type": "string", "default": "x"}, "tags": TEXT}}, True),
        ({"type": "array", "items": TEXT}, False),
    ],
)
def test_a_schema_is_strict_when_each_of_its_objects_is(change: dict[str, Any], strict: bool) -> None:
    assert _asked({**STRICT, **change})["strict"] is strict


def test_a_name_is_made_to_fit_the_api() -> None:
    name = _asked(Any_Thing_With_A_Name_That_Is_Much_Longer_Than_The_Sixty_Four_Characters_Of_The_API)["name"]
    assert len(name) == 64
    assert _asked({"type": "object"})["name"] == "output"
    assert _asked({"type": "object", "title": "日本"})["name"] == "output"


@pytest.mark.parametrize(
    "text",
    [
        '{"day": "2026-11-22", "items": [{"name": "nut"}]}',
        ' \n{"day": "2026-11-22", "items": [{"name": "nut"}]}\n',
        '```json\n{"day": "2026-11-22", "items": [{"name": "nut"}]}\n```',
        'Here you are:\n```JSON\r\n{"day": "2026-11-22",\n "items": [{"name": "nut"}]}\r\n```\nMore?',
        '```\n{"day": "2026-11-22", "items": [{"name": "nut"}]}\n```',
        '```json {"day": "2026-11-22", "items": [{"name": "nut"}]} ```',
        '```json\n{"day": "2026-11-22", "items": [{"name": "nut"}]}```',
        '```jsonc\n{"day": "2026-11-22", "items": [{"name": "nut"}]}\n```',
        '{"day": "2026-11-22", "items": [{"name": "nut"}]}<|im_end|>',
        '````json\n{"day": "2026-11-22", "items": [{"name": "nut"}]}\n````',
        '```json\n{"day": "2026-11-22", "items": [{"name": "nut"}]}\n```\n{"note": 2}\n```py\nf()\n```',
        '```json\n{"day": "2026-11-22", "items": [{"name": "nut"}]}\n```<|eot_id|>\n',
        '```\n{"day": "2026-11-21"}\n```\n```\n{"day": "2026-11-22", "items": [{"name": "nut"}]}\n```',
    ],
)
def test_the_answer_is_returned_as_plain_json(text: str) -> None:
    assert OutputType(Report).parse(text) == {"day": "2026-11-22", "items": [{"name": "nut", "count": 1}]}


@pytest.mark.parametrize(
    "text",
    [
        '<think>\nIs it {"title"...\n</think>\n\n{}',
        "Is it 5 or 10?\n</think>\n{}",
        '<thinking>a</thinking><think>```json\n{{"title": 1}}\n```</think >\n```json\n{}\n```',
        "[THINK]Hm.[/THINK]{}",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{}",
        "<|channel|>final <|constrain|>json<|message|>{}",
        "\ufeff{}",
        "{}{}",
        "{}\n{}\n",
    ],
)
def test_reasoning_that_a_server_leaves_in_the_message_is_skipped(text: str) -> None:
    value = {"title": "</think> is no end", "tags": ["```json\\n3\\n```"]}
    written = text.replace("{{", "{").replace("}}", "}").replace("{}", json.dumps(value))
    assert OutputType(STRICT).parse(written) == value


VALUE = {"title": "a } b", "tags": ["[1]", "{"]}
JSON = json.dumps(VALUE)


@pytest.mark.parametrize(
    "text",
    [
        JSON + "\n\nI have read the invoice as asked.",
        "Here you are: " + JSON,
        "Sure!" + JSON + " Anything else?",
        JSON + "\n[",
        'In the form {"title": ..., "tags": [...]}: ' + JSON,
        "As said in [1] and {2}: " + JSON + " See [3].",
        'First {"title": "draft", "tags": []}, then better: ' + JSON,
        "A stray { or [ is none. " + JSON,
        "<think>" + JSON.replace("a", "b") + "</think>So: " + JSON + ".",
    ],
)
def test_an_answer_among_words_is_taken_out_of_them(text: str) -> None:
    assert OutputType(STRICT).parse(text) == VALUE
    assert OutputType(STRICT).parse("Done.", text + "Done.") == VALUE


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("I have read it.", JSON + "I have read it."),
        ("I have read it.", JSON + "\nI have read it."),
        (JSON[7:], JSON),
        (None, JSON),
    ],
)
def test_where_the_last_message_is_no_answer_one_before_it_may_be(text: str | None, whole: str) -> None:
    assert OutputType(STRICT).parse(text, whole) == VALUE
    with pytest.raises(ValueError, match=r"Invalid JSON|empty|required"):
        OutputType(STRICT).parse(text, text)


def test_the_last_message_counts_before_those_that_came_before_it() -> None:
    last = {"title": "z", "tags": []}
    assert OutputType(STRICT).parse(json.dumps(last), JSON + json.dumps(last)) == last
    assert OutputType(STRICT).parse(f"So: {json.dumps(last)}", f"{JSON}So: {json.dumps(last)}") == last


@pytest.mark.parametrize(
    ("output_type", "text"),
    [
        (STRICT, f"<think>{JSON}</think>I cannot say."),
        (Tree, '{"name": "a", "children": [{"name": "b", "children": []}'),
        (Tree, 'So: {"name": "a", "children": [{"name": "b", "children": []}], oops} Sorry.'),
        (Tree, '{"name": "a", "children": [{"name": "}"}, {"name": "b", "children": []}'),
        ({"type": "array"}, "There are none, see [3]."),
        ({"type": "array"}, "There are none.\n[1] https://example.com"),
        ({"type": "object"}, "An empty object, {}, is not what you want."),
        ({"type": "object"}, 'So: {"a": 1}\n{"a": 2} are two.'),
        (STRICT, f"An answer would look like {JSON}, but I cannot give one."),
        (STRICT, f'Draft: {JSON} is wrong. Final answer: {{"title": "b", "ta'),
        (STRICT, JSON + '{"title": "a", "ta'),
    ],
)
def test_neither_a_part_of_an_answer_nor_a_footnote_is_one(output_type: Any, text: str) -> None:
    with pytest.raises(ValueError, match="Invalid JSON"):
        OutputType(output_type).parse(text, text + "\n")


@pytest.mark.parametrize(("text", "value"), [("[]\n\nThere are none.", []), ("So:\n[1, 2]\nDone.", [1, 2])])
def test_a_bare_list_with_a_line_to_itself_is_an_answer(text: str, value: list[int]) -> None:
    assert OutputType({"type": "array"}).parse(text) == value


@pytest.mark.parametrize("output_type", [Item, {"type": "object"}])
@pytest.mark.parametrize(
    ("written", "name"),
    [
        (r"\ud83d", "\ufffd"),
        (r"\uD83D x", "\ufffd x"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\ude00\ud83d", "\U0001f600\ufffd"),
        (r"\\ud83d \u00e9", "\\ud83d é"),
        ("\ud83d", "\ufffd"),
    ],
)
def test_half_a_character_does_not_cost_the_answer(output_type: Any, written: str, name: str) -> None:
    assert OutputType(output_type).parse(f'{{"name": "{written}", "count": 1}}') == {"name": name, "count": 1}


def test_a_last_document_that_does_not_fit_is_not_replaced_by_one_before_it() -> None:
    for text in (f'Draft: {JSON}. Final answer: {{"title": 3}}', JSON + ' {"status": "done"}'):
        with pytest.raises(ValueError, match="Invalid JSON"):
            OutputType(STRICT).parse(text)


@pytest.mark.parametrize("piece", [r"{\"k\": \"v\"", '{"a": [', '"', "[[", '{"k": "v", '])
def test_a_long_text_of_broken_pieces_is_searched_once(piece: str) -> None:
    """Each of these took an hour for a megabyte where each bracket was followed to the end."""
    with pytest.raises(ValueError, match=r"Invalid JSON|RecursionError"):
        OutputType(STRICT).parse(piece * (1_000_000 // len(piece)))


def test_two_answers_that_differ_are_none() -> None:
    for text in ('{"a": 1}{"a": 2}', "11", '{"a": 1}{"a": 1}{"a": 1}{"b": 1}', "[1][2]"):
        if text == "11":
            assert OutputType({"type": "integer"}).parse(text) == 11
            continue
        with pytest.raises(ValueError, match="Invalid JSON"):
            OutputType({}).parse(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1}' + " \n" * 1_000_000,
        " " * 1_000_000 + '{"a":1}',
        '{"a":1}' + "<|end|> " * 20_000,
        "```json" + "\n    " * 500_000 + '{"a":1}\n```',
        "``` " * 500_000,
        "<think>" * 50_000,
        "{ " * 200_000,
        "[1] " * 200_000,
        "[[" * 200_000 + '"',
        '{"a": ' * 200_000,
    ],
    ids=[
        *("blanks after", "blanks before", "end marks", "blanks in a fence", "fences", "thoughts"),
        *("brackets", "footnotes", "lists", "objects"),
    ],
)
def test_an_answer_of_endless_blanks_or_marks_is_read_before_the_time_of_a_test_is_over(text: str) -> None:
    with suppress(ValueError):
        assert OutputType({}).parse(text) == {"a": 1}


def test_a_fence_within_the_json_is_left_alone() -> None:
    value = {"title": "```json\n{}\n```", "tags": []}
    assert OutputType(STRICT).parse(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("output_type", "text", "reason"),
    [
        (Report, None, "^The answer is empty$"),
        (Report, " \n", "^The answer is empty$"),
        (Report, "I cannot do that.", "^Invalid JSON"),
        (Report, '{"day": "2026-11-22"', "^Invalid JSON"),
        (Report, '{"day": "soon", "items": [{}]}', r"\(at day\); Field required \(at items\.0\.name\)$"),
        (STRICT, "I cannot do that.", "^Invalid JSON"),
        (STRICT, '{"title": 3, "tags": []}', r"^3 is not of type 'string' \(at \$\.title\)$"),
        (STRICT, '{"title": "a"}', "^'tags' is a required property"),
        (STRICT, "[" * 100_000, "."),
        (Divided, '{"by": 0}', "^ZeroDivisionError"),
        ({"$ref": "https://example.com/schema"}, "{}", "https://example.com/schema"),
        ({"pattern": "("}, '"a"', "."),
    ],
)
def test_an_answer_of_another_type_is_refused_with_a_short_reason(
    output_type: Any, text: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as raised:
        OutputType(output_type).parse(text)
    assert len(str(raised.value)) <= 500


@given(value=json_values, output_type=st.sampled_from([Report, Counts, Divided, STRICT]))
def test_any_json_is_an_answer_or_a_value_error(value: Any, output_type: Any) -> None:
    with suppress(ValueError):
        assert isinstance(OutputType(output_type).parse(json.dumps(value)), dict)


@given(value=json_values)
def test_what_is_returned_can_be_stored(value: Any) -> None:
    with suppress(ValueError):  # NaN and infinities are no JSON
        _check_storable(OutputType({}).parse(json.dumps({"value": value})))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "object"}}},
        {"properties": {"child": {"$ref": "#"}}},
        {"$id": "https://x/s", "$ref": "t", "$defs": {"t": {"$id": "t", "type": "object"}}},
        {"$ref": "#here", "$defs": {"a": {"$anchor": "here"}}},
        {"$dynamicAnchor": "node", "properties": {"child": {"$dynamicRef": "#node"}}},
        {"$defs": {"unused": {"$ref": "#/nowhere"}}},
        {"x-ui": {"$ref": "#/nowhere"}, "example": {"$ref": "#/nowhere"}},
        {
            "$id": "http://x/root",
            "$ref": "sub/a",
            "$defs": {"a": {"$id": "sub/a", "$ref": "b", "$defs": {"b": {"$id": "b", "type": "object"}}}},
        },
        {"properties": {"other": {"const": {"$schema": "http://x"}}}},
        {"properties": {"child": {"default": {"$ref": "#/no"}}, "$ref": {"type": "string"}}},
        {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "object"}}},
    ],
)
def test_references_that_lead_somewhere_are_followed(schema: dict[str, Any]) -> None:
    assert OutputType(schema).parse('{"child": {}}') == {"child": {}}


@pytest.mark.parametrize("factor", ["0.01", "0.1", "0.25", "3", "1e-7"])
@given(count=st.integers(min_value=-100_000, max_value=100_000))
def test_a_multiple_is_one_as_it_is_written(factor: str, count: int) -> None:
    number = Decimal(factor) * count
    schema = {"multipleOf": json.loads(factor)}
    OutputType(schema).parse(str(number))
    with pytest.raises(ValueError, match="is not a multiple of"):
        OutputType(schema).parse(str(number + Decimal(factor) / 3))


@pytest.mark.parametrize("error", [ConnectionError("it is down"), TimeoutError(), RuntimeError("no catalog")])
def test_a_validator_that_fails_for_reasons_of_its_own_says_nothing_of_the_answer(error: Exception) -> None:
    class Asking(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def known(cls, _: str) -> str:
            raise error

    with pytest.raises(OutputTypeFault, match=type(error).__name__):
        OutputType(Asking).parse('{"name": "a"}')


class Secret(BaseModel):
    pw: SecretStr


class Hidden(BaseModel):
    a: int
    b: int = Field(exclude=True)


class Short(BaseModel):
    text: str

    @field_serializer("text")
    def short(self, value: str) -> str:
        return value[:3]


def test_a_value_may_be_a_schema_itself() -> None:
    value = {"$schema": "http://x", "type": "object"}
    assert OutputType({"const": value}).parse(json.dumps(value)) == value


def test_a_multiple_is_one_behind_a_reference_too() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "properties": {"price": {"multipleOf": 0.01}, "child": {"$ref": "#"}},
    }
    value = {"price": 19.99, "child": {"price": 4.35}}
    assert OutputType(schema).parse(json.dumps(value)) == value


class Private(BaseModel):
    read: str = Field(alias="as")
    _mark: float = PrivateAttr(default_factory=random.random)


class Nested(BaseModel):
    items: list[Private]
    total: int


class Number(BaseModel):
    f: float


@pytest.mark.parametrize(
    ("model", "text", "output"),
    [
        (Private, '{"as": "x"}', {"as": "x"}),
        (Number, '{"f": "NaN"}', {"f": "NaN"}),
        (Secret, '{"pw": "abc"}', {"pw": "abc"}),
        (Hidden, '{"a": 1, "b": 2}', {"a": 1, "b": 2}),
        (Short, '{"text": "abcdefgh"}', {"text": "abcdefgh"}),
        (Nested, '{"items": [{"as": "a"}], "total": "3"}', {"items": [{"as": "a"}], "total": 3}),
    ],
)
def test_what_is_returned_can_be_read_by_the_model_again(
    model: type[BaseModel], text: str, output: Any
) -> None:
    found = OutputType(model).parse(text)
    assert found == output
    model.model_validate(found)


def _check_storable(found: Any) -> None:
    assert "\0" not in json.dumps(found, allow_nan=False, ensure_ascii=False).encode().decode()


@pytest.mark.parametrize(
    "output_type",
    [
        {"type": "objekt"},
        {"required": 3},
        {"$ref": "#/$defs/nobody"},
        {"properties": {"a": {"items": {"$ref": "https://example.com/schema"}}}},
        {"$dynamicRef": "#nobody"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"anyOf": [{"$ref": "#/$defs/a"}]}]}}},
        {"$ref": "#/x-more", "x-more": {"$ref": "#/nowhere"}},
        {"properties": {"default": {"$ref": "#/nowhere"}}},
        Item(name="x"),
        str,
        Callback,
    ],
)
def test_what_is_no_type_is_refused_before_anything_is_sent(output_type: Any) -> None:
    with pytest.raises(RunRequestError, match="output_type"):
        OutputType(output_type)


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    barks: bool = True


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    language: str = "en"


class Amount(BaseModel):
    amount: Decimal


class Link(BaseModel):
    link: HttpUrl


class Place(BaseModel):
    point: tuple[float, float]


class Tags(BaseModel):
    tags: set[str]


class Node(BaseModel):
    name: str
    children: list[Node]


class Anything(BaseModel):
    anything: Any


@pytest.mark.parametrize(
    ("model", "strict"),
    [(Owner, True), (Node, True), (Amount, None), *((m, False) for m in (Link, Place, Tags, Anything))],
)
def test_a_model_is_called_strict_only_where_the_api_takes_it(model: Any, strict: bool | None) -> None:
    asked = _asked(model)
    written = json.dumps(asked["schema"])
    assert asked["strict"] is (strict if strict is not None else "(?" not in written)
    if asked["strict"]:
        assert not any(f'"{word}"' in written for word in ("oneOf", "default", "discriminator"))


def test_a_union_with_a_discriminator_is_sent_as_any_of_its_members() -> None:
    pet = _asked(Owner)["schema"]["properties"]["pet"]
    assert pet["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    assert OutputType(Owner).parse('{"pet": {"kind": "cat", "lives": 9}}') == {
        "pet": {"kind": "cat", "lives": 9},
        "language": "en",
    }


class User(BaseModel):
    user_id: int = Field(alias="userId")
    kind: str = Field(alias="class", default="x")


class Renamed(BaseModel):
    word: str = Field(validation_alias="read", serialization_alias="written")


class Both(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    user_id: int = Field(alias="userId")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @computed_field
    def twice(self) -> int:
        return 2 * self.a


@pytest.mark.parametrize(
    ("model", "text", "output"),
    [
        (User, '{"userId": 7, "class": "a"}', {"userId": 7, "class": "a"}),
        (Renamed, '{"read": "x"}', {"read": "x"}),
        (Both, '{"userId": 7}', {"user_id": 7}),
        (Closed, '{"a": 2}', {"a": 2}),
    ],
)
def test_what_a_model_writes_is_what_it_reads(model: type[BaseModel], text: str, output: Any) -> None:
    found = OutputType(model).parse(text)
    assert found == output
    assert model.model_validate(found) == model.model_validate_json(text)


class Score(BaseModel):
    score: float | int


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
@pytest.mark.parametrize(
    "output_type",
    [Score, {"type": "object", "properties": {"score": {"type": "number"}}, "required": ["score"]}],
)
def test_a_number_that_json_cannot_hold_fits_no_type(output_type: Any, number: str) -> None:
    with pytest.raises(ValueError, match=r"number|digits|integer"):
        OutputType(output_type).parse(f'{{"score": {number}}}')


def test_an_integer_beyond_64_bits_is_its_decimal_text_and_fits_the_model_again() -> None:
    found = OutputType(Item).parse(f'{{"name": "a", "count": {10**30}}}')
    assert found == {"name": "a", "count": "1" + "0" * 30}
    assert Item.model_validate(found).count == 10**30
