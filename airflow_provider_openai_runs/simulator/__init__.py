# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server for trying and testing: `python -m airflow_provider_openai_runs.simulator`.

Modules in the singular (thread, run, response, conversation) are the objects of the API, those in the
plural their routes. The names below are imported when they are first used: pytest loads this package in
every session through its plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.batch_scenario import BatchScenario
    from airflow_provider_openai_runs.simulator.faults import Fault
    from airflow_provider_openai_runs.simulator.limits import Limits
    from airflow_provider_openai_runs.simulator.research import deep_research
    from airflow_provider_openai_runs.simulator.scenario import FunctionCall, Scenario
    from airflow_provider_openai_runs.simulator.server import Simulator
    from airflow_provider_openai_runs.simulator.tool_results import (
        CodeInterpreter,
        FileSearch,
        FoundFile,
        ImageGeneration,
        McpCall,
        McpListTools,
        ProducedFile,
        Reasoning,
        WebPage,
        WebSearch,
    )

__all__ = [
    "BatchScenario",
    "CodeInterpreter",
    "Fault",
    "FileSearch",
    "FoundFile",
    "FunctionCall",
    "ImageGeneration",
    "Limits",
    "McpCall",
    "McpListTools",
    "ProducedFile",
    "Reasoning",
    "Scenario",
    "Simulator",
    "WebPage",
    "WebSearch",
    "deep_research",
]

_HOMES = {
    **dict.fromkeys(__all__, "tool_results"),
    "BatchScenario": "batch_scenario",
    "Fault": "faults",
    "FunctionCall": "scenario",
    "Limits": "limits",
    "Scenario": "scenario",
    "Simulator": "server",
    "deep_research": "research",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
