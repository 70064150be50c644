# SPDX-License-Identifier: Apache-2.0
"""What can be said of functions while the Dag is parsed, without importing pydantic."""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError

#: Parameters that the package fills in and the model does not see.
OWN_PARAMETERS = frozenset({"context", "call_id"})
#: What the API takes as the name of a function or of an output format.
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_UNNAMED = (Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def check_functions(functions: object) -> None:
    """
    Check that each function can be offered to a model.

    :raises RunRequestError: naming the function, the rule, and what to do.
    """
    observed: set[str] = set()
    for place, function in enumerate(checks.sequence("functions", functions)):
        name = _checked_name(f"functions[{place}]", function)
        if name in observed:
            raise _refused(name, "there are two functions of this name; rename one")
        observed.add(name)
        parameters_of(function)


def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """
    Return the parameters of a function by name, annotations resolved, ``context`` and ``call_id`` included.

    A parameter without an annotation takes any value. Of ``context`` and ``call_id`` annotations are not
    resolved: what is imported for type checkers only does no harm there.

    :raises RunRequestError: when a model could not give a parameter by name, or an annotation is unknown.
    """
    name = str(getattr(function, "__name__", function))
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise _refused(name, "it has no signature; wrap it in a function with typed parameters") from error
    for parameter in parameters.values():
        if parameter.kind in _UNNAMED:
            raise _refused(name, f"a model gives arguments by name, and {parameter} has none; name each one")
    wanted = {key: value.annotation for key, value in parameters.items() if key not in OWN_PARAMETERS}
    hints = _resolved(name, function, wanted)
    return {key: value.replace(annotation=hints.get(key, Any)) for key, value in parameters.items()}


def _checked_name(place: str, function: object) -> str:
    if isinstance(function, functools.partial):
        raise _refused(
            place,
            "a functools.partial has no name for the model; write a def that calls it, with a docstring",
        )
    if isinstance(function, type) or not callable(function):
        raise checks.invalid(place, function, "must be a Python function")
    name = getattr(function, "__name__", None)
    if name == "<lambda>":
        raise _refused(
            place, "a lambda has no name for the model; write a def with typed parameters and a docstring"
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise checks.invalid(
            place, function, f"needs a name of 1 to 64 letters, digits, _ or -, not {name!r}; write a def"
        )
    if hasattr(function, "expand") and hasattr(function, "partial"):
        raise _refused(name, f"it is an Airflow task; give its function, {name}.function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _refused(name, "it yields; a function answers once, by return")
    return name


def _resolved(name: str, function: Callable[..., Any], annotations: dict[str, Any]) -> dict[str, Any]:
    """Resolve annotations that are text, where the function was defined."""
    given = {key: value for key, value in annotations.items() if value is not Parameter.empty}
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__=given), scope, include_extras=True)
    except Exception as error:
        raise _refused(
            name,
            f"its annotations cannot be read ({type(error).__name__}: {error}); types of its parameters must "
            "be imported at run time and defined at the module's top level, before the operator",
        ) from error


def _refused(name: str, rule: str) -> RunRequestError:
    return RunRequestError(f"Function {name}: {rule}. Nothing was sent.")
