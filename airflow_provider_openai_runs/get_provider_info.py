# SPDX-License-Identifier: Apache-2.0
"""What Airflow's provider discovery reads; its form is Airflow's ``provider_info.schema.json``."""

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """
    Describe this package to Airflow (entry point ``apache_airflow_provider``).

    There is no connection type: ``openai`` and its form belong to the official provider.
    """
    package = "airflow_provider_openai_runs"
    name = "OpenAI Runs"
    return {
        "package-name": "airflow-provider-openai-runs",
        "name": name,
        "description": "Create a long OpenAI run, wait for it without a worker, never pay for it twice.",
        "integrations": [
            {
                "integration-name": name,
                "external-doc-url": "https://developers.openai.com/api/docs/guides/background",
                "tags": ["ai", "openai", "llm", "responses", "assistants", "deferrable"],
            },
        ],
        "operators": [{"integration-name": name, "python-modules": [f"{package}.operators"]}],
        "sensors": [{"integration-name": name, "python-modules": [f"{package}.sensors"]}],
        "triggers": [{"integration-name": name, "python-modules": [f"{package}.triggers"]}],
        "hooks": [{"integration-name": name, "python-modules": [f"{package}.hooks"]}],
        "task-decorators": [
            {"class-name": f"{package}.decorators.openai_response_task", "name": "openai_response"},
            {"class-name": f"{package}.decorators.openai_run_task", "name": "openai_run"},
        ],
        "extra-links": [f"{package}.links.OpenAIRunLink"],
    }
