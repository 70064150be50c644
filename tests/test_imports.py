# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PUBLIC = {
    "airflow_provider_openai_runs.decorators": ["openai_response_task", "openai_run_task"],
    "airflow_provider_openai_runs.operators": [
        "CancelRunOperator",
        "CreateResponseOperator",
        "CreateRunOperator",
        "GetResponseOperator",
        "GetThreadRunOperator",
    ],
    "airflow_provider_openai_runs.sensors": ["ResponseSensor", "ThreadRunSensor"],
    "airflow_provider_openai_runs.triggers": ["RunCompletionTrigger"],
    "airflow_provider_openai_runs.hooks": ["OpenAIRunsHook"],
    "airflow_provider_openai_runs.links": ["OpenAIRunLink"],
    "airflow_provider_openai_runs.simulator": ["Fault", "FunctionCall", "Scenario", "Simulator"],
    "airflow_provider_openai_runs.exceptions": [
        "LostCreateError",
        "OpenAIRunError",
        "RunCallError",
        "RunCancelledError",
        "RunConnectionError",
        "RunEndedError",
        "RunExpiredError",
        "RunFailedError",
        "RunIncompleteError",
        "RunNotFoundError",
        "RunRequestError",
        "RunTimeoutError",
        "RunUnreachableError",
        "ThreadBusyError",
        "ThreadsNotServedError",
        "ToolCallsPendingError",
    ],
}
#: In one process: what an earlier one has imported, a later one would be blamed for as well.
DAG_FILES_IMPORT = ["exceptions", "links", "triggers", "operators", "sensors", "decorators"]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_where_the_readme_says(module: str) -> None:
    found = import_module(module)

    assert set(PUBLIC[module]) <= set(found.__all__)
    assert not [name for name in found.__all__ if not hasattr(found, name)]


def test_what_a_dag_file_imports_does_not_import_the_sdk() -> None:
    program = "import sys\n" + "".join(
        f"import airflow_provider_openai_runs.{module}\n"
        f"print('{module}', sorted({{'openai', 'httpx2', 'uvicorn', 'starlette'}} & set(sys.modules)))\n"
        for module in DAG_FILES_IMPORT
    )
    found = subprocess.run(  # noqa: S603 - nobody else's input
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert found.stdout.splitlines()[-len(DAG_FILES_IMPORT) :] == [f"{name} []" for name in DAG_FILES_IMPORT]
