# SPDX-License-Identifier: Apache-2.0
"""An answer that fits is an answer, whatever a model's own code does when it is written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, computed_field, field_serializer, model_validator

from airflow_provider_openai_runs.typed.output import OutputType


class Ratio(BaseModel):
    good: int
    total: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share(self) -> float:
        return self.good / self.total


class Blob(BaseModel):
    model_config = ConfigDict(val_json_bytes="base64")
    data: bytes


class Unwritable(BaseModel):
    name: str

    @field_serializer("name")
    def write(self, name: str) -> str:
        raise RuntimeError(f"{name} cannot be written")


class Amount(BaseModel):
    currency: str
    cents: int

    @model_validator(mode="before")
    @classmethod
    def in_cents(cls, data: Any) -> Any:
        return {"cents": round(float(data.pop("amount")) * 100), "currency": data.pop("currency")}


@pytest.mark.parametrize(
    ("model", "text", "output"),
    [
        (Ratio, '{"good": 0, "total": 0}', {"good": 0, "total": 0}),
        (Blob, '{"data": "/w=="}', {"data": "/w=="}),
        (Unwritable, '{"name": "a"}', {"name": "a"}),
        (Amount, '{"currency": "EUR", "amount": 12.5}', {"currency": "EUR", "amount": 12.5}),
    ],
)
def test_what_a_model_cannot_write_is_returned_as_the_server_wrote_it(
    model: type[BaseModel], text: str, output: Any
) -> None:
    assert OutputType(model).parse(text) == output
