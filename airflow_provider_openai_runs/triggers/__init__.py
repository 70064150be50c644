# SPDX-License-Identifier: Apache-2.0
"""The triggers that wait for a run of any kind, and for the runs or the batches of a bulk task."""

from airflow_provider_openai_runs.triggers.batch import BatchCompletionTrigger
from airflow_provider_openai_runs.triggers.bulk import BulkCompletionTrigger
from airflow_provider_openai_runs.triggers.completion import RunCompletionTrigger

__all__ = ["BatchCompletionTrigger", "BulkCompletionTrigger", "RunCompletionTrigger"]
