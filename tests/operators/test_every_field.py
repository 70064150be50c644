# SPDX-License-Identifier: Apache-2.0
"""The arguments of the operators, held against the fields that the SDK knows of a create."""

from __future__ import annotations

import inspect
import pkgutil
import re
import warnings
from pathlib import Path
from typing import Any

import openai
import pytest

from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator

#: A run that is waited for cannot stream.
NOT_OFFERED = {"stream", "stream_options"}
ROOT = Path(__file__).parents[2]
#: Where the SDK describes a create: to import that of a thread run takes 0.8 s, so only who needs it does.
KINDS: dict[type[Any], str] = {
    CreateResponseOperator: "openai.types.responses.response_create_params:ResponseCreateParamsBase",
    CreateRunOperator: "openai.types.beta.threads.run_create_params:RunCreateParamsBase",
}


def pinned() -> str:
    """Return the version of the SDK that the constraints of the newest Airflow name."""
    newest = max((ROOT / "constraints").glob("airflow-*.txt"))
    found = re.search(r"^openai==(.+)$", newest.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("operator", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_that_the_pinned_sdk_knows_is_an_argument_and_a_template(
    operator: type[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = set(pkgutil.resolve_name(KINDS[operator]).__annotations__) - NOT_OFFERED
    arguments = set(inspect.signature(operator.__init__).parameters)
    missing = known - arguments, known - set(operator.template_fields)
    if openai.__version__ != pinned():
        with capsys.disabled():
            print(f"openai {openai.__version__} (pinned: {pinned()}): {operator.__name__} lacks {missing}")  # noqa: T201 # for whoever tries another SDK
        return
    assert missing == (set(), set())


@pytest.mark.parametrize("operator", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_is_in_the_docstring_and_on_the_page(operator: type[Any]) -> None:
    name = "create-response" if operator is CreateResponseOperator else "create-run"
    page = (ROOT / f"docs/how-to/{name}.md").read_text(encoding="utf-8")
    fields = set(operator.template_fields) - {
        "conn_id",
        "completion_window",
        "output_path",
        "approval_subject",
    }
    assert not [field for field in sorted(fields) if f":param {field}:" not in (operator.__doc__ or "")]
    assert not [field for field in sorted(fields) if f"`{field}`" not in page]
