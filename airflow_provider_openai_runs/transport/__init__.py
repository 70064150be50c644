# SPDX-License-Identifier: Apache-2.0
"""
How a call travels: through the SDK's client, or past it for polls, within limits of time and size.

It knows the calls of ``wire`` and the words of ``runs``. Who calls, and what a connection of Airflow's is, it
does not know.
"""

from __future__ import annotations

from airflow_provider_openai_runs.transport.sdk import send

__all__ = ["send"]
