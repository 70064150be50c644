# SPDX-License-Identifier: Apache-2.0
"""The two that the agent's Dag needs beside it: a model that calls functions, and a person who approves."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dev.demo.board import label
from dev.live.rest import RestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dev.demo.show import Show
    from dev.live.rest import Rest
    from dev.live.simulator import Simulator

DAG_ID = "openai_agent"
SECONDS_TO_READ = 10.0
"""How long the person takes. Sooner, Airflow 3.3.2 can mistake the exit of the worker that has just paused
for the end of the task, and fails the attempt (apache/airflow#67287)."""

SCRIPT = {
    "when": "espresso cup",
    "times": None,
    # Three seconds at the demo's speed; the trigger does not fire before eight.
    "queued": 0.1,
    "in_progress": 0.2,
    "function_calls": [
        [{"name": "find_orders", "arguments": {"customer": "ada@example.com"}}],
        [{"name": "look_up_order", "arguments": {"order_id": 1001}}],
        # Models write spaces that break no line, which an approval page has to spell out.
        [{"name": "refund", "arguments": {"order_id": 1001, "cents": 1200, "reason": "broken, 12\u00a0€"}}],
    ],
    "text": "The cup of order 1001 arrived broken; its 12.00 euros are refunded.",
}
"""What the simulated model does with the example's letter."""


def can_ask_a_person() -> bool:
    """Tell whether this Airflow's tasks can wait for a person; where not, the agent is not shown.

    By its version: to import Airflow here would make it a home in the user's own.
    """
    major, minor, *_ = version("apache-airflow").split(".")
    return (int(major), int(minor)) >= (3, 3)


def story(api: Rest, instance: Mapping[str, Any], simulator: Simulator) -> Iterator[str]:
    """Tell what the agent has done: the letter, its calls with their results, and what it says at the end."""
    where = (instance["dag_id"], instance["dag_run_id"], instance["task_id"])
    result = api.xcom(*where) or {}
    results = {
        item["call_id"]: item["output"]
        for request in simulator.requests()
        if request["method"] == "POST" and isinstance(request["body"], dict)
        for item in _items(request["body"].get("input"))
        if item.get("type") == "function_call_output"
    }
    yield f"The customer writes: {instance['rendered_fields'].get('input')}"
    for step in result.get("steps") or ():
        call = step.get("details") or {}
        if step.get("type") == "function_call":
            yield f"The model calls {call.get('name')}({_arguments(call.get('arguments'))})"
            yield f"    -> {results.get(call.get('call_id'), 'done')}"
    yield f"The model answers: {result.get('output_text')}"


def database(report: str) -> str:
    """Return what the last task has read from the database."""
    return report.partition("In the database: ")[2]


def _items(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _arguments(text: object) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in json.loads(str(text or "{}")).items())


class Person:
    """Approves what is asked, as somebody does who reads it first."""

    def __init__(self, api: Rest, show: Show) -> None:
        self._api = api
        self._show = show
        self._asked: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def notice(self, instance: Mapping[str, Any]) -> None:
        """See a task instance that has come to a new state."""
        if instance["state"] == "awaiting_input":
            self._asked[instance["id"]] = (self._show.seconds, instance)

    def decide(self) -> None:
        """Approve what was read by now."""
        for key, (since, instance) in list(self._asked.items()):
            if self._show.seconds < since + SECONDS_TO_READ:
                continue
            del self._asked[key]
            where = (instance["dag_id"], instance["dag_run_id"], instance["task_id"], instance["map_index"])
            question = self._api.question(*where)["subject"]
            try:
                self._api.decide(*where, option="Approve")
            except RestError as error:
                if error.status != 409:  # noqa: PLR2004 - a real person was faster
                    raise
            else:
                self._show.tell(label(instance), f"{question} A PERSON SAYS: Approve")
