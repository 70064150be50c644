# SPDX-License-Identifier: Apache-2.0
"""The trigger that waits for a run of any kind."""

from airflow_provider_openai_runs.triggers.completion import RunCompletionTrigger

__all__ = ["RunCompletionTrigger"]
