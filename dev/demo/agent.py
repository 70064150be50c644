# SPDX-License-Identifier: Apache-2.0
"""The two that the agent's Dag needs beside it: a model that calls functions, and a person who approves."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dev.demo.show import label
from dev.live.rest import RestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dev.demo.show import Story
    from dev.live.rest import Rest

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
        [{"name": "refund", "arguments": {"order_id": 1001, "cents": 1200, "reason": "broken"}}],
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


class Person:
    """Approves what is asked, as somebody does who reads it first."""

    def __init__(self, api: Rest, story: Story) -> None:
        self._api = api
        self._story = story
        self._asked: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def notice(self, instance: Mapping[str, Any]) -> None:
        """See a task instance that has come to a new state."""
        if instance["state"] == "awaiting_input":
            self._asked[instance["id"]] = (self._story.seconds, instance)

    def decide(self) -> None:
        """Approve what was read by now."""
        for key, (since, instance) in list(self._asked.items()):
            if self._story.seconds < since + SECONDS_TO_READ:
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
                self._story.tell(label(instance), f"{question} A person says: Approve")
