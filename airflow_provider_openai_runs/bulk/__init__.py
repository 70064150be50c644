# SPDX-License-Identifier: Apache-2.0
"""Thousands of responses that belong to one task instance: each is paid for once, and none is left behind."""

from airflow_provider_openai_runs.bulk.reading import read_results

__all__ = ["read_results"]
