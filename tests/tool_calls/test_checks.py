# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import task
from pydantic import BaseModel

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.tool_calls.checks import check_functions, parameters_of
from airflow_provider_openai_runs.typed.checks import check_output_type

if TYPE_CHECKING:
    from airflow.sdk import Context


class Table:
    def count(self, name: str) -> int:
        return len(name)


class Report(BaseModel):
    title: str


class Caller:
    def __call__(self, name: str) -> str:
        return name


def rows(table: str, limit: int = 10) -> list[str]:
    return [table] * limit


def with_context(table: str, context: Context, call_id: str) -> str:
    return f"{table}{context}{call_id}"


def untyped(table, limit=3):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as users may write
    return table, limit


@functools.lru_cache
def cached(table: str) -> str:
    return table


def positional(table: str, /) -> str:
    return table


def variadic(*tables: str) -> int:
    return len(tables)


def keywords(**tables: str) -> int:
    return len(tables)


def unknown_type(table: Missing) -> str:  # type: ignore[name-defined]  # noqa: F821
    return str(table)


def yielding(table: str) -> Iterator[str]:
    yield table


@task
def a_task(table: str) -> str:
    return table


def größe(table: str) -> int:  # noqa: PLC2401 # the point of it
    return len(table)


def _named(name: str) -> Callable[[], None]:
    def function() -> None: ...

    function.__name__ = name
    return function


def _unsigned(table: str) -> int:
    return len(table)


_unsigned.__signature__ = "none"  # type: ignore[attr-defined] # as of some functions written in C


def test_functions_with_named_parameters_are_accepted() -> None:
    check_functions([rows, with_context, untyped, cached, Table().count])
    check_functions([])
    check_functions((rows,))


@pytest.mark.parametrize(
    ("function", "rule"),
    [
        (lambda table: table, r"functions\[0\]: a lambda has no name .* write a def"),
        (functools.partial(rows, limit=3), r"functions\[0\]: a functools.partial has no name .* write a def"),
        (Table, "must be a Python function"),
        ("rows", "must be a Python function"),
        (Caller(), "needs a name of 1 to 64"),
        (größe, "needs a name of 1 to 64"),
        (_named("n" * 65), "needs a name of 1 to 64"),
        (_named("rows\n"), "needs a name of 1 to 64"),
        (_unsigned, "Function _unsigned: it has no signature"),
        (positional, "Function positional: .* by name"),
        (variadic, r"Function variadic: .*\*tables"),
        (keywords, r"Function keywords: .*\*\*tables"),
        (unknown_type, "Function unknown_type: .*'Missing' is not defined.* imported at run time"),
        (yielding, "Function yielding: it yields"),
        (a_task, "Function a_task: it is an Airflow task; give its function, a_task.function"),
    ],
)
def test_a_function_that_a_model_cannot_call_is_refused_with_what_to_do(function: Any, rule: str) -> None:
    with pytest.raises(RunRequestError, match=f"(?s){rule}.*Nothing was sent"):
        check_functions([function])


def test_the_function_of_an_airflow_task_is_accepted() -> None:
    check_functions([a_task.function])


@pytest.mark.parametrize("value", [rows, "rows", {"rows": rows}, 3])
def test_what_is_not_a_list_is_refused(value: Any) -> None:
    with pytest.raises(RunRequestError, match=r"functions=.*must be a list"):
        check_functions(value)


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(RunRequestError, match="Function count: there are two functions of this name"):
        check_functions([Table().count, Table().count])


def test_the_type_of_context_may_be_unknown_at_run_time() -> None:
    found = parameters_of(with_context)
    assert list(found) == ["table", "context", "call_id"]
    assert found["table"].annotation is str


@pytest.mark.parametrize("output_type", [Report, {"type": "object"}, {}])
def test_a_model_class_or_a_schema_is_an_output_type(output_type: Any) -> None:
    check_output_type(output_type)


@pytest.mark.parametrize("output_type", [Report(title="x"), Table, str, "Report", None, [Report]])
def test_anything_else_is_no_output_type(output_type: Any) -> None:
    with pytest.raises(RunRequestError, match=r"output_type=.*pydantic model class .*JSON Schema"):
        check_output_type(output_type)


@pytest.mark.parametrize(
    "schema", [{"type": "objekt"}, {"properties": ["a"]}, {"required": "a"}, {"type": "object", "$ref": 3}]
)
def test_a_broken_schema_is_refused(schema: Any) -> None:
    import jsonschema  # noqa: F401, PLC0415 # it is used only where somebody has imported it

    with pytest.raises(RunRequestError, match="is no JSON Schema"):
        check_output_type(schema)


def test_the_checks_import_the_standard_library_only() -> None:
    program = (
        "import sys\n"
        "import airflow_provider_openai_runs.typed.checks\n"
        "print(sorted({'airflow', 'jsonschema', 'openai', 'pydantic'} & set(sys.modules)))\n"
    )
    found = subprocess.run(  # noqa: S603 - nobody else's input
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert found.stdout.splitlines()[-1] == "[]"
