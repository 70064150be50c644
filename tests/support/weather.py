# SPDX-License-Identifier: Apache-2.0
"""A model that asks for the weather once, and functions that tell it, or fail to."""

from __future__ import annotations

from airflow_provider_openai_runs.simulator import FunctionCall, Scenario

CALL = FunctionCall(name="weather", arguments={"city": "Oslo"})
CALLS = Scenario(queued=0.01, in_progress=0.02, function_calls=((CALL,),))


def weather(city: str) -> str:
    """Tell the weather."""
    return f"Rain in {city}"


def fails(city: str) -> str:
    """Fail."""
    raise RuntimeError(city)


fails.__name__ = "weather"
