# SPDX-License-Identifier: Apache-2.0
"""The type that a run's answer is to have: asked for in each wire's own form, read from the answer's text."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import partial
from typing import Any

import jsonschema
import openai
import referencing
from pydantic import BaseModel, ValidationError

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.plain import plain
from airflow_provider_openai_runs.typed import checks, strict
from airflow_provider_openai_runs.typed.embedded import last_documents
from airflow_provider_openai_runs.typed.schemas import problems
from airflow_provider_openai_runs.typed.text import clean, whole_characters
from airflow_provider_openai_runs.wire import wire_of

_FENCE = re.compile(r"`{3,}")
#: Parts of a text with one fence in it.
_ONE_FENCE = 3
#: Of more, these last ones are tried.
_MOST_FENCES = 20
#: What may stand between a fence and its JSON.
_LANGUAGE = re.compile(r"(?:json[c5l]?)?(?=\s|[{\[\"])", re.IGNORECASE)
#: What some servers leave of a model's own marks at the end of a message.
_END_MARK = re.compile(r"(?:<\|?[\w ]{1,30}\|>|</s>)\Z")
#: Characters of such a mark.
_MOST_OF_A_MARK = 40
#: The end of the reasoning that some servers leave in the message; its beginning may stand in the prompt.
_REASONED = re.compile(
    r"</(?:think|thinking|thought|reasoning)\s*>|\[/THINK\]|<\|channel\|>\s*final\b[^{]*?<\|message\|>",
    re.IGNORECASE,
)
_MAX_NAME = 64
#: Keywords of a schema that hold values, and no schemas.
_VALUES = frozenset({"const", "enum", "default", "examples"})
#: What code raises over data that it did not foresee.
_OVER_THE_ANSWER = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


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

    def parse_answer(self, run: Run) -> Any:
        """Return the answer of a run: its last message, or what fits of all it said; see ``parse``."""
        return self.parse(run.final_text, run.output_text)

    def parse(self, text: str | None, whole: str | None = None) -> Any:
        """
        Return the answer as plain JSON, also out of a Markdown fence or the words around it.

        :param text: of the last message.
        :param whole: of all messages, where nothing in the last one fits: some models add a remark.
        :raises ValueError: with a short reason, when the text is not of this type.
        :raises OutputTypeFault: if the type cannot say whether it is.
        """
        try:
            return self._read(_json_text(text or ""))
        except ValueError as error:
            unfit = error
        found = self._embedded_in(text)
        if not found and whole != text:
            found = self._fitting(whole) or self._embedded_in(whole)
        if found:
            return found[0]
        raise unfit

    def _embedded_in(self, text: str | None) -> list[Any]:
        """Return the last document in a text if it fits, unless one right before it fits and differs."""
        fitting = [self._fitting(document) for document in last_documents(_reasoned(text or "")[-1])]
        last, before = [*fitting, [], []][:2]
        return [] if before and before != last else last

    def _fitting(self, text: str | None) -> list[Any]:
        """Return what a text says, or nothing if it does not fit."""
        try:
            return [self._read(_json_text(text or ""))]
        except ValueError:
            return []

    def _read(self, written: str) -> Any:
        written = whole_characters(written)
        try:
            if self._model is not None:
                return plain(_written_back(self._model.model_validate_json(written), _loads(written)))
            value = _loads(written)
            try:
                return plain(self._validated(value))
            except RecursionError as error:
                raise OutputTypeFault(f"its schema has no end: {type(error).__name__}") from None
        except OutputTypeFault:
            raise
        except ValidationError as error:
            raise ValueError(clean(problems(error))) from None
        except _DoesNotFitError:
            raise
        except json.JSONDecodeError as error:
            raise ValueError(f"Invalid JSON: {error}") from None
        except _OVER_THE_ANSWER as error:
            raise ValueError(clean(f"{type(error).__name__}: {error}")) from None
        except Exception as error:  # noqa: BLE001 # such as of a service that a model's validator asks
            raise OutputTypeFault(clean(f"{type(error).__name__}: {error}")) from None

    def _validated(self, value: Any) -> Any:
        # A registry of its own, since without one jsonschema fetches what a "$ref" names from the network.
        # "$schema" would choose a class of jsonschema's own, within a "$ref", too.
        validator = _Validator(_without_dialect(self._schema), registry=referencing.Registry())
        worst = jsonschema.exceptions.best_match(validator.iter_errors(value))
        if worst is not None:
            raise _DoesNotFitError(clean(f"{worst.message} (at {worst.json_path})"))
        return value


class OutputTypeFault(Exception):  # noqa: N818 # of the user's type, and no error of the answer
    """The type itself has failed: the answer may be right, and another one would fare no better."""


class _DoesNotFitError(ValueError):
    """A JSON value does not fit the schema."""


def _multiple_of(_: Any, factor: Any, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """Check ``multipleOf`` in decimals, as JSON is written: in binary, 19.99 is no multiple of 0.01."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and (Fraction(repr(value)) / Fraction(repr(factor))).denominator != 1:
        yield jsonschema.ValidationError(f"{value!r} is not a multiple of {factor!r}")


_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"multipleOf": _multiple_of})


def _without_dialect(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {
            key: item if key in _VALUES else _without_dialect(item)
            for key, item in schema.items()
            if key != "$schema" or not isinstance(item, str)
        }
    return [_without_dialect(item) for item in schema] if isinstance(schema, list) else schema


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
    dumps: list[Callable[[], Any]] = [
        partial(found.model_dump, mode="json"),
        partial(found.model_dump, mode="json", by_alias=True),
        lambda: given,
    ]
    for dump in dumps:
        with contextlib.suppress(Exception):  # what a model's own code raises makes no answer unfit
            shown = plain(dump())
            # Of a copy: a validator may take its input to pieces.
            if _says_the_same(type(found).model_validate(copy.deepcopy(shown)), found):
                return shown
    with contextlib.suppress(Exception):
        return plain(dumps[0]())
    return given


def _says_the_same(one: Any, other: Any) -> bool:
    """Compare what was read: a private attribute may be another one each time, and NaN is not itself."""
    if isinstance(one, BaseModel) and type(one) is type(other):
        return _says_the_same(vars(one), vars(other)) and one.model_extra == other.model_extra
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_says_the_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(_says_the_same, one, other))
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124 # NaN


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
    text = _without_end_marks(text.removeprefix("\ufeff"))
    if not text.strip():
        raise ValueError("The answer is empty")
    rest = _reasoned(text)
    # Of several the last one counts: what stands before is a draft.
    fenced = [found for written in reversed(rest) for found in reversed(_fenced(written))]
    return next(filter(_is_json, [*map(_once, rest), *fenced]), [*rest, *fenced[:1]][-1])


def _reasoned(text: str) -> list[str]:
    """Return a text, and what follows each end of the model's reasoning in it."""
    return [text, *(text[found.end() :] for found in _REASONED.finditer(text))]


def _without_end_marks(text: str) -> str:
    while True:
        text = text.rstrip()
        found = _END_MARK.search(text, max(0, len(text) - _MOST_OF_A_MARK))
        if found is None:
            return text
        text = text[: found.start()]


def _fenced(text: str) -> list[str]:
    """Return what stands in the Markdown fences of a text, also of those on one line."""
    parts = _FENCE.split(text)
    inside = [part for part in parts[1:-1:2] if _LANGUAGE.match(part)]
    found = [_LANGUAGE.sub("", part, count=1).strip() for part in inside[-_MOST_FENCES:]]
    if len(parts) > _ONE_FENCE and _LANGUAGE.match(parts[1]):
        # A fence may stand within the JSON.
        found.insert(0, _LANGUAGE.sub("", text[text.index("```") :].strip("`"), count=1).strip().rstrip("`"))
    return found


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
