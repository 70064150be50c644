# SPDX-License-Identifier: Apache-2.0
"""One Python function as the model sees it: its schema, its arguments, its call."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from inspect import Parameter
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import to_json

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.tool_calls import checks
from airflow_provider_openai_runs.typed.schemas import PlainJsonSchema, problems, without_titles
from airflow_provider_openai_runs.typed.text import clean, whole_characters

#: So often a server writes JSON into a JSON string.
_MOST_WRAPPINGS = 2


class BadArgumentsError(ValueError):
    """Arguments of the model do not fit the function; the text is one short line for the model."""


class FunctionTool:
    """
    One function as the model sees it.

    :raises RunRequestError: when no JSON Schema can describe a parameter.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name: str = function.__name__
        self._function = function
        parameters = checks.parameters_of(function)
        self._own = frozenset(parameters) & checks.OWN_PARAMETERS
        # A field has a name of its own, since names such as "copy" or "_x" are not free in a pydantic model.
        self._fields = {
            f"p{place}": name for place, name in enumerate(parameters) if name not in checks.OWN_PARAMETERS
        }
        try:
            self._model = self._model_of(parameters)
            schema = self._model.model_json_schema(schema_generator=PlainJsonSchema)
        except Exception as error:
            raise RunRequestError(
                f"Function {self.name}: no JSON Schema can be made of its parameters: {clean(error)}. "
                "Use types that JSON can carry, pydantic models among them. Nothing was sent."
            ) from error
        self._optional = {
            self._fields[key] for key, field in self._model.model_fields.items() if not field.is_required()
        }
        self._schema = without_titles(schema)

    def definition(self) -> dict[str, Any]:
        """Return the tool in the nested form, ``{"type": "function", "function": {...}}``."""
        description = inspect.getdoc(self._function)
        return {
            "type": "function",
            "function": {
                "name": self.name,
                **({"description": description} if description else {}),
                "parameters": self._schema,
            },
        }

    def arguments_of(self, text: str | Mapping[str, Any] | None) -> dict[str, Any]:
        """
        Read the arguments of a call into the types of the signature, defaults filled in.

        :param text: JSON text of the model, nothing (no arguments), or what a person has put in its place.
        :raises BadArgumentsError: when they do not fit.
        """
        try:
            written = to_json(text) if isinstance(text, Mapping) else whole_characters(_unwrapped(text or ""))
            found = self._validated(written)
        except ValidationError as error:
            raise BadArgumentsError(self._message(problems(error))) from None
        except Exception as error:  # noqa: BLE001 # also what a validator of a nested model raises
            raise BadArgumentsError(self._message(f"{type(error).__name__}: {error}")) from None
        return {name: getattr(found, key) for key, name in self._fields.items()}

    def __call__(self, arguments: Mapping[str, Any], *, context: Any, call_id: str) -> Any:
        """Call the function with arguments that ``arguments_of`` has read; what can be awaited is."""
        own = {"context": context, "call_id": call_id}
        result = self._function(**arguments, **{name: own[name] for name in self._own})
        return asyncio.run(_awaited(result)) if inspect.isawaitable(result) else result

    def _model_of(self, parameters: Mapping[str, Parameter]) -> type[BaseModel]:
        fields: dict[str, Any] = {}
        for key, name in self._fields.items():
            found = parameters[name]
            default = ... if found.default is Parameter.empty else found.default
            fields[key] = (Annotated[found.annotation, Field(alias=name)], default)
        config = ConfigDict(extra="forbid", allow_inf_nan=False)
        return create_model(self.name, __config__=config, **fields)

    def _validated(self, written: str | bytes) -> BaseModel:
        """Read arguments; a null that fits no type is the default: some models write every parameter."""
        try:
            return self._model.model_validate_json(written)
        except ValidationError as error:
            places = {item["loc"][0] for item in error.errors(include_input=False) if item["loc"]}
            unfit = places & self._optional
            given = json.loads(written) if unfit else {}
            kept = {name: value for name, value in given.items() if value is not None or name not in unfit}
            if len(kept) == len(given):
                raise
        return self._model.model_validate_json(json.dumps(kept))

    def _message(self, what: str) -> str:
        takes = ", ".join(self._fields.values()) or "no arguments"
        return clean(f"Bad arguments: {what}. {self.name} takes {takes}.")


def _unwrapped(text: str) -> str:
    """
    Return arguments that a server has written as JSON in a JSON string, once or twice.

    Nothing, and JSON's null, are what some write for a function without parameters.
    """
    found = text.strip()
    for _ in range(_MOST_WRAPPINGS):
        if not found.startswith('"'):
            break
        try:
            found = json.loads(found).strip()
        except ValueError:
            return text
    if found in {"", "null"}:
        return "{}"
    return found if found.startswith("{") else text


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result
