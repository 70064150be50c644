# SPDX-License-Identifier: Apache-2.0
"""
How a request travels: through the SDK's client, or past it for polls, within limits of time and size.

It knows the requests of ``wire`` and the values of ``runs``. It does not know who sends them, nor what a
connection of Airflow's is.
"""

from __future__ import annotations

from airflow_provider_openai_runs.transport.sdk import send

__all__ = ["send"]
