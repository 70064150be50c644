# SPDX-License-Identifier: Apache-2.0
"""``make screenshots``: the pictures of the docs, taken anew of a live Airflow that runs the example Dags."""

from __future__ import annotations

import sys

from dev import ROOT
from dev.demo import agent
from dev.demo.connections import environment
from dev.live import LiveAirflow
from dev.live.browser import Browser, command
from dev.live.simulator import Simulator

PICTURES = ROOT / "docs" / "images"
#: The cookie by which Airflow knows who is logged in.
COOKIE = "_token"
#: Two refunds in one round, so that the page shows a switch for each.
CALLS = [
    {"name": "refund", "arguments": {"order_id": 1001, "cents": 1200, "reason": "broken"}},
    {"name": "refund", "arguments": {"order_id": 1002, "cents": 2300, "reason": "broken"}},
]
TWO_REFUNDS = {"when": "espresso cup", "in_progress": 0.2, "function_calls": [CALLS]}
#: Long enough to find the task waiting.
LONG = {"when": "Name three things", "in_progress": 600}


def main() -> int:
    """Run the two Dags until there is something to see, and take the pictures."""
    command()
    simulator = Simulator()
    airflow = LiveAirflow(
        ROOT / "example_dags", env=environment(simulator), beside={"simulator": simulator.command}
    )
    with airflow:
        simulator.wait_healthy(airflow.components["simulator"])
        simulator.script(TWO_REFUNDS)
        simulator.script(LONG)
        wanted = {"openai_response": ("ask", "deferred"), agent.DAG_ID: ("agent", "awaiting_input")}
        pages = {}
        for dag_id in wanted:
            airflow.api.wait_for_dag(dag_id)
            pages[dag_id] = f"/dags/{dag_id}/runs/{airflow.api.trigger(dag_id)}/tasks/{wanted[dag_id][0]}"
        for dag_id, (task_id, state) in wanted.items():
            run_id = pages[dag_id].split("/")[4]
            airflow.api.wait_for_state(dag_id, run_id, task_id, {state}, timeout=120)
        _take(airflow, pages)
    return 0


def _take(airflow: LiveAirflow, pages: dict[str, str]) -> None:
    for picture, height, page, showing in (
        ("waiting.png", 560, pages["openai_response"], "The triggerer waits from here"),
        ("approval.png", 1560, f"{pages[agent.DAG_ID]}/required_actions", "Approve"),
    ):
        with Browser(width=1280, height=height, scale=1.25) as browser:
            browser.set_cookie(airflow.address, COOKIE, airflow.api.token())
            browser.open(f"{airflow.address}{page}", showing=showing)
            browser.picture(PICTURES / picture)
        print(PICTURES / picture)


if __name__ == "__main__":
    sys.exit(main())
