# SPDX-License-Identifier: Apache-2.0
"""Start long OpenAI runs from Airflow, wait without a worker, never pay twice, never leave them running."""

__version__ = "1.0.0rc1"
