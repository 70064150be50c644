# SPDX-License-Identifier: Apache-2.0
"""The sensors; importing them does not import the OpenAI SDK."""

from airflow_provider_openai_runs.sensors.run import ResponseSensor, ThreadRunSensor

__all__ = ["ResponseSensor", "ThreadRunSensor"]
