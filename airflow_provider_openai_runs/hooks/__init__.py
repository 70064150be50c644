# SPDX-License-Identifier: Apache-2.0
"""The hook; see ``airflow_provider_openai_runs.hooks.openai_runs``."""

from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

__all__ = ["OpenAIRunsHook"]
