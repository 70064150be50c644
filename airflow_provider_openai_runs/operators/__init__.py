# SPDX-License-Identifier: Apache-2.0
"""The operators; importing them does not import the OpenAI SDK."""

from airflow_provider_openai_runs.operators.bulk import BulkCreateResponsesOperator
from airflow_provider_openai_runs.operators.existing import (
    CancelRunOperator,
    GetResponseOperator,
    GetThreadRunOperator,
)
from airflow_provider_openai_runs.operators.response import CreateResponseOperator
from airflow_provider_openai_runs.operators.submit import SubmitToolOutputsOperator
from airflow_provider_openai_runs.operators.thread_run import CreateRunOperator

__all__ = [
    "BulkCreateResponsesOperator",
    "CancelRunOperator",
    "CreateResponseOperator",
    "CreateRunOperator",
    "GetResponseOperator",
    "GetThreadRunOperator",
    "SubmitToolOutputsOperator",
]
