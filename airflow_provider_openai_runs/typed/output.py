# SPDX-License-Identifier: Apache-2.0
"""The type that a run's answer is to have: asked for in each wire's own form, read from the answer's text."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import jsonschema
import openai
import referencing
from pydantic import BaseModel, ValidationError

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.plain import plain
from airflow_provider_openai_runs.typed import checks, strict
from airflow_provider_openai_runs.typed.schemas import problems
from airflow_provider_openai_runs.typed.text import clean
from airflow_provider_openai_runs.wire import wire_of

_FENCED = re.compile(r"```(?:json)?[ \t]*\r?\n(.*?)\r?\n[ \t]*```", re.DOTALL | re.IGNORECASE)
#: The end of the reasoning that some servers leave in the message; its beginning may stand in the prompt.
_REASONED = re.compile(
    r"</(?:think|thinking|thought|reasoning)\s*>|\[/THINK\]|<\|channel\|>\s*final\b[^{]*?<\|message\|>",
    re.IGNORECASE,
)
_MAX_NAME = 64


class OutputType:
    """
    A pydantic model class or a JSON Schema (Draft 2020-12) as the type of an answer.

    :raises RunRequestError: when it is neither, or no schema can be made of it.
    """

    def __init__(self, output_type: type[BaseModel] | Mapping[str, Any]) -> None:
        checks.check_output_type(output_type)
        self._model: type[BaseModel] | None = None
        if isinstance(output_type, Mapping):
            self._schema = dict(output_type)
            checks.check_schema(self._schema, jsonschema)
            name = str(output_type.get("title") or "")
        else:
            self._model, name = output_type, output_type.__name__
            self._schema = _strict_schema(output_type)
        self._name = re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:_MAX_NAME] or "output"

    def format_of(self, kind: str) -> dict[str, Any]:
        """Return what asks for this type, in the form of the kind's API."""
        strict_schema = strict.without_loss(self._schema)
        is_strict = strict.fits(strict_schema)
        schema = strict_schema if is_strict else self._schema
        return wire_of(kind).output_format(name=self._name, schema=schema, strict=is_strict)

    def parse(self, text: str | None) -> Any:
        """
        Return the answer as plain JSON; one that stands in a Markdown fence is taken out of it.

        :raises ValueError: with a short reason, when the text is not of this type.
        """
        written = _json_text(text or "")
        try:
            if self._model is not None:
                return plain(_written_back(self._model.model_validate_json(written), _loads(written)))
            return plain(self._validated(_loads(written)))
        except ValidationError as error:
            raise ValueError(clean(problems(error))) from None
        except _DoesNotFitError:
            raise
        except json.JSONDecodeError as error:
            raise ValueError(f"Invalid JSON: {error}") from None
        except Exception as error:  # noqa: BLE001 # also what a model's validator raises, and a reference that leads nowhere
            raise ValueError(clean(f"{type(error).__name__}: {error}")) from None

    def _validated(self, value: Any) -> Any:
        # A registry of its own, since without one jsonschema fetches what a "$ref" names from the network.
        validator = jsonschema.Draft202012Validator(self._schema, registry=referencing.Registry())
        worst = jsonschema.exceptions.best_match(validator.iter_errors(value))
        if worst is not None:
            raise _DoesNotFitError(clean(f"{worst.message} (at {worst.json_path})"))
        return value


class _DoesNotFitError(ValueError):
    """A JSON value does not fit the schema."""


def _loads(text: str) -> Any:
    """
    Read JSON; NaN and infinities are none, though Python reads and writes them.

    :raises _DoesNotFitError: if they are in there.
    """
    return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _DoesNotFitError(f"{text[:20]} is no number that JSON can hold")
    return value


def _written_back(found: BaseModel, given: Any) -> Any:
    """Return JSON that the model reads as the same again: by names, by aliases, or what it has read."""
    by_name = found.model_dump(mode="json")
    for candidate in (by_name, found.model_dump(mode="json", by_alias=True), given):
        with contextlib.suppress(Exception):  # also what a model's validator raises
            if type(found).model_validate(candidate) == found:
                return candidate
    return by_name


def _strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    try:
        function: Any = openai.pydantic_function_tool(model)["function"]
    except Exception as error:
        raise RunRequestError(
            f"output_type={model.__name__}: no JSON Schema can be made of it: {clean(error)}. "
            "Nothing was sent."
        ) from error
    return dict(function["parameters"])


def _json_text(text: str) -> str:
    """Return the JSON in a text: all of it, what follows the model's reasoning, what stands in a fence."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise ValueError("The answer is empty")
    rest = [text, *(text[found.end() :] for found in _REASONED.finditer(text))]
    fenced = [found.group(1) for written in reversed(rest) if (found := _FENCED.search(written))]
    return next(filter(_is_json, [*map(_once, rest), *fenced]), [*rest, *fenced[:1]][-1])


def _once(text: str) -> str:
    """Return the first half of a text whose halves are one JSON object: some models say it twice."""
    half = text.strip()[: len(text.strip()) // 2].strip()
    return half if half[:1] == "{" and text.strip().removeprefix(half).strip() == half else text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
