# SPDX-License-Identifier: Apache-2.0
"""What Airflow and its users hand on, as the JSON that is sent."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import pendulum
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputText

from airflow_provider_openai_runs.runs.as_json import MAX_DEPTH, as_json
from airflow_provider_openai_runs.runs.errors import RunRequestError


class Model(pydantic.BaseModel):
    day: date = date(2026, 11, 26)
    share: float = 0.5


@dataclass
class Row:
    amount: Decimal


@attrs.define
class Column:
    name: str


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Answer(StrEnum):
    YES = "yes"


class Shouting(str):
    """Text that shows itself as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Lazy(Sequence[Any]):
    """As much as Airflow's sequence of a mapped task's results shows of itself."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]


class Array:
    """As much as an array or a scalar of numpy shows of itself."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def tolist(self) -> Any:
        return self._value


class Table:
    """As much as a table of pandas shows of itself."""

    columns = ("a",)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, item: object) -> bool:
        return item in self.columns


class Unwilling(pydantic.BaseModel):
    def model_dump(self, **_: Any) -> dict[str, Any]:
        raise ValueError("not today")


ITSELF: list[Any] = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (Decimal("12.50"), 12.5),
        (Decimal(3), 3),
        (Decimal("0.12345678901234567890"), "0.12345678901234567890"),
        (Decimal("1E+400"), "1E+400"),
        (Fraction(1, 4), 0.25),
        (2**70, 2**70),
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:00+00:00"),
        (pendulum.datetime(2026, 1, 2), "2026-01-02T00:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (timedelta(minutes=1), 60.0),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("a/b.csv"), "a/b.csv"),
        (PurePosixPath("a"), "a"),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({2, 1}), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (deque([1]), [1]),
        (range(2), [0, 1]),
        ({"a": 1}.values(), [1]),
        (Lazy(Decimal(1), Lazy()), [1, []]),
        (Array([[1.5]]), [[1.5]]),
        (Array(True), True),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (
            {1: "a", None: "b", Colour.RED: "c", date(2026, 1, 2): "d"},
            dict(zip(["1", "null", "red", "2026-01-02"], "abcd", strict=True)),
        ),
        (Model(), {"day": "2026-11-26", "share": 0.5}),
        (
            ResponseOutputText(type="output_text", text="Hi", annotations=[]),
            {"type": "output_text", "text": "Hi", "annotations": []},
        ),
        (Row(amount=Decimal("0.5")), {"amount": 0.5}),
        (Column(name="a"), {"name": "a"}),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Answer.YES, "yes"),
        (Shouting("hi"), "hi"),
        ("half an emoji \ud83d and \0", "half an emoji \ufffd and \ufffd"),
        ({"\ud83d": None}, {"\ufffd": None}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_people_have_at_hand_becomes_json(value: object, sent: object) -> None:
    found = as_json("input", [value])
    assert found == [sent]
    assert type(found[0]) is type(sent)
    assert json.loads(json.dumps(found).encode()) == found


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [b"x"]}, ["input['a'][0]=b'x'", "JSON has no form for a bytes"]),
        ([float("nan")], ["input[0]=nan", "finite"]),
        ([Decimal("sNaN")], ["input[0]=Decimal('sNaN')", "finite"]),
        ([Decimal("-Infinity")], ["input[0]", "finite"]),
        ([1j], ["input[0]=1j", "finite"]),
        ([10**5000], ["input[0]", "too large"]),
        ([object()], ["input[0]=<object", "JSON has no form for a object"]),
        ([Model], ["input[0]=<class", "JSON has no form"]),
        ([Table()], ["input[0]=<", "JSON has no form for a Table"]),
        ([iter("ab")], ["input[0]=<str", "JSON has no form"]),
        ([Model(share=float("inf"))], ["input[0]['share']=inf", "finite"]),
        ([Unwilling()], ["input[0]=Unwilling()", "could not be turned into JSON (ValueError: not today)"]),
        ([pydantic.SecretStr("sk-very-secret")], ["input[0]=SecretStr", "JSON has no form"]),
        ({(1, 2): 3}, ["a key of input=(1, 2)", "must be text"]),
        ({1: "a", "1": "b"}, ["input={1: 'a', '1': 'b'}", "two keys that are '1'"]),
        (ITSELF, ["input[0][0]", f"deeper than {MAX_DEPTH} levels, or contains itself"]),
        ({"x" * 100_000: b""}, ["input['xxx", "JSON has no form"]),
    ],
    ids=lambda value: (
        value[-1][:40] if isinstance(value, list) and value and isinstance(value[-1], str) else ""
    ),
)
def test_what_json_has_no_form_for_is_an_error_that_names_its_place(value: object, words: list[str]) -> None:
    with pytest.raises(RunRequestError) as caught:
        as_json("input", value)
    text = str(caught.value)
    assert not [word for word in (*words, "Nothing was sent.") if word not in text], text
    assert len(text) < 600
    assert "very-secret" not in text


def test_what_airflow_raises_while_a_lazy_sequence_is_read_is_no_fault_of_the_argument() -> None:
    class Unreachable(Lazy):
        def __getitem__(self, index: Any) -> Any:
            raise RuntimeError("the API server is away")

    with pytest.raises(RuntimeError, match="is away"):
        as_json("input", Unreachable(1))


@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.text(st.characters()),
            st.decimals(allow_nan=False, allow_infinity=False),
            st.datetimes(),
            st.uuids(),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    )
)
def test_whatever_is_accepted_can_be_sent_and_is_what_it_was_once_it_is_json(value: object) -> None:
    found = as_json("input", value)
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    assert as_json("input", found) == found
