# SPDX-License-Identifier: Apache-2.0
"""One performance of the demo: start the Dags, disturb them, and see whether every promise has held."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dev.demo import agent, incidents, report, tickets
from dev.demo.board import Board, label
from dev.demo.connections import real_service
from dev.demo.incidents import Incident, runs_of
from dev.demo.show import Show
from dev.live import PASSWORD, USER, LiveAirflow
from dev.live.rest import FINISHED_RUN
from dev.live.simulator import Simulator

DAGS = (
    incidents.DAG_ID,
    agent.DAG_ID,
    tickets.DAG_ID,
    "openai_response",
    "openai_thread_run",
    "openai_mapped_prompts",
)
"""What ``make demo`` runs, all at once."""
NEEDS_AIRFLOW_3_3 = frozenset({agent.DAG_ID, incidents.DAG_ID, tickets.DAG_ID})

CONF = {
    # Fewer than by default: each takes a core for seconds to start its worker.
    "openai_mapped_prompts": {"rows": 12},
    tickets.DAG_ID: {"rows": tickets.rows()},
}

TIMEOUT = 300.0
"""Seconds after which Dag runs that have not ended are given up."""
INTERVAL = 0.5
SECONDS_TO_CANCEL = 5.0
"""How long the triggerer may take to cancel the runs of a Dag run that was interrupted."""

Instance = Mapping[str, Any]


class Performance:
    """
    Plays once.

    :param only: Dags in place of all.
    """

    def __init__(
        self, airflow: LiveAirflow, simulator: Simulator, show: Show, *, only: Sequence[str] | None
    ) -> None:
        self._airflow = airflow
        self._api = airflow.api
        self._simulator = simulator
        self._show = show
        self._dag_ids = only or [
            dag_id for dag_id in DAGS if agent.can_ask_a_person() or dag_id not in NEEDS_AIRFLOW_3_3
        ]
        self._board = Board()
        self._incidents: list[Incident] = []
        if incidents.DAG_ID in self._dag_ids:
            self._incidents = incidents.incidents(airflow, simulator, show)
        self._runs: dict[str, str] = {}
        self._instances: Sequence[Instance] = ()
        self._results: dict[str, Mapping[str, Any]] = {}
        self._created: Sequence[Mapping[str, Any]] = ()
        self._report: object = None
        self._classified: Mapping[str, Any] = {}

    def play(self) -> list[str]:
        """Run everything to its end, and name the promises that were broken."""
        if not real_service():
            self._simulator.script(agent.SCRIPT)
            self._simulator.script(report.SCRIPT)
        self._simulator.script(incidents.SCRIPT)
        self._show.tell("airflow", f"healthy; {len(self._dag_ids)} Dags are started")
        for dag_id in self._dag_ids:
            self._api.wait_for_dag(dag_id)
        self._runs = {dag_id: self._api.trigger(dag_id, CONF.get(dag_id)) for dag_id in self._dag_ids}
        try:
            states = self._follow()
        finally:
            self._end_unfinished()
        self._read_results()
        return list(self._broken(states))

    # -- while it goes on ---------------------------------------------------------------------------------

    def _follow(self) -> dict[str, str]:
        """Watch until all Dag runs have ended, or too long; return how they ended."""
        states: dict[str, str] = {}
        person = agent.Person(self._api, self._show)
        seen: dict[str, str | None] = {}
        deadline, read_at = self._show.seconds + TIMEOUT, self._show.seconds
        time_has_passed = False
        while len(states) < len(self._runs) and self._show.seconds < deadline:
            self._instances = self._api.task_instances()
            now = self._show.seconds
            self._board.update(self._instances, seconds=now - read_at)
            read_at = now
            self._show.show(self._board)
            for instance in self._instances:
                if seen.get(instance["id"]) != instance["state"]:
                    seen[instance["id"]] = instance["state"]
                    self._notice(instance, person)
            person.decide()
            self._advance_incidents()
            if self._incidents and not time_has_passed and all(one.held for one in self._incidents):
                time_has_passed = True
                self._show.tell("simulator", "an hour passes, and the long reports are done")
                self._simulator.advance(incidents.SECONDS * 10)
            for dag_id in self._runs.keys() - states.keys():
                state = self._api.dag_run(dag_id, self._runs[dag_id])["state"]
                if state in FINISHED_RUN:
                    states[dag_id] = state
            time.sleep(INTERVAL)
        return states

    def _notice(self, instance: Instance, person: agent.Person) -> None:
        person.notice(instance)
        if instance["task_id"] == "agent" and instance["state"] == "success":
            for line in agent.story(self._api, instance, self._simulator):
                self._show.tell("agent", line)
        if instance["state"] in {"failed", "up_for_retry"}:
            self._show.tell(label(instance), f"{instance['state']}: {self._reason(instance)}")

    def _advance_incidents(self) -> None:
        if not any(not one.held for one in self._incidents):
            return
        runs = self._simulator.runs()
        by_task = {one["task_id"]: one for one in self._instances if one["dag_id"] == incidents.DAG_ID}
        for incident in self._incidents:
            if incident.task_id in by_task and not incident.held:
                incident.advance(by_task[incident.task_id], runs_of(incident.task_id, runs))

    def _reason(self, instance: Instance) -> str:
        """Read the last lines of a task's log that say what is wrong."""
        lines = self._log_of(instance).splitlines()
        said = [line for line in lines if "rror" in line and not line.lstrip().startswith("File ")]
        return said[-1][:200] if said else "its worker said nothing"

    def _log_of(self, instance: Instance) -> str:
        if not instance["try_number"]:
            return "never started"
        return self._api.logs(
            instance["dag_id"],
            instance["dag_run_id"],
            instance["task_id"],
            instance["try_number"],
            instance["map_index"],
        )

    def _end_unfinished(self) -> None:
        """Mark what goes on as failed, so that runs on a real service are cancelled, not left billing."""
        if not real_service():
            return
        for dag_id, run_id in self._runs.items():
            if self._api.dag_run(dag_id, run_id)["state"] not in FINISHED_RUN:
                self._show.tell(dag_id, "interrupted: cancelling its runs")
                self._api.mark_run(dag_id, run_id, new_state="failed")
                time.sleep(SECONDS_TO_CANCEL)

    # -- at its end ---------------------------------------------------------------------------------------

    def _read_results(self) -> None:
        self._instances = self._api.task_instances()
        self._created = self._simulator.runs()
        for one in self._instances:
            where = (one["dag_id"], one["dag_run_id"], one["task_id"])
            pushed = self._api.xcom(*where, map_index=one["map_index"])
            if isinstance(pushed, dict) and "ref" in pushed:
                self._results[label(one)] = pushed
            elif one["dag_id"] == tickets.DAG_ID and one["task_id"] == "classify" and pushed:
                self._classified = pushed
                self._show.tell("tickets", tickets.story(pushed))
            elif one["task_id"] == "report" and one["dag_id"] == agent.DAG_ID:
                self._report = pushed
                self._show.tell("agent", f"In the database: {agent.database(str(pushed))}")

    def _broken(self, states: Mapping[str, str]) -> Iterator[str]:
        for dag_id in self._runs:
            if states.get(dag_id) != "success":
                yield f"{dag_id} is {states.get(dag_id, f'not over after {TIMEOUT:.0f} s')}"
        for one in self._instances:
            if one["state"] not in {"success", None}:
                yield f"{label(one)} is {one['state']}:\n{self._log_of(one)[-2000:]}"
        # A run may be seen on its way by one task, and at its end by a later one.
        results = self._results.values()
        completed = {result["ref"]["id"] for result in results if result.get("status") == "completed"}
        for name, result in self._results.items():
            if result["ref"]["id"] not in completed:
                yield f"the run of {name} is {result.get('status')}"
        yield from self._broken_by_incidents()
        succeeded = self._classified.get("succeeded", 0)
        if tickets.DAG_ID in self._runs and succeeded != tickets.rows():
            yield f"of {tickets.rows()} tickets {succeeded} are classified: {self._classified}"
        if agent.DAG_ID in self._runs and not real_service() and "1200" not in str(self._report):
            yield f"the refund is not in the database: {self._report}"
        if active := self._active():
            yield f"still active: {[run['id'] for run in active]}"

    def _broken_by_incidents(self) -> Iterator[str]:
        by_task = {one["task_id"]: one for one in self._instances if one["dag_id"] == incidents.DAG_ID}
        for incident in self._incidents:
            mine = runs_of(incident.task_id, self._created)
            if not incident.ended_well(by_task[incident.task_id], mine):
                yield f"{incident.task_id}: {incident.promise} (its runs: {[run['status'] for run in mine]})"

    def _active(self) -> list[Mapping[str, Any]]:
        ended = {"completed", "cancelled", "failed", "incomplete", "expired"}
        return [run for run in self._created if run["status"] not in ended]

    def print_sum(self) -> None:
        """Print what it came to, and the Dag that was disturbed."""
        ids = {run["id"] for run in self._created} | {run["ref"]["id"] for run in self._results.values()}
        tokens = sum((run.get("usage") or {}).get("total_tokens") or 0 for run in self._results.values())
        tokens += (self._classified.get("usage") or {}).get("total_tokens") or 0
        waited, worked = self._board.waiting_seconds, self._board.worker_seconds
        held = ", ".join(f"{one.task_id}: {one.promise}" for one in self._incidents if one.held)
        print(f"""
  runs       {len(ids)} created and paid, {len(self._active())} still active
  disturbed  {held or "nothing (that needs Airflow 3.3, and all Dags)"}
  seconds    {waited:.0f} of waiting without a worker, {worked:.0f} in workers
  tokens     {tokens}
  Airflow    has been stopped; make airflow keeps it: http://127.0.0.1:8080, {USER} / {PASSWORD}
""")
        if self._incidents:
            print(dag_code())


def dag_code() -> str:
    """Return the code of the Dag that was disturbed."""
    text = (Path(__file__).parent / "dags" / "never_twice.py").read_text(encoding="utf-8")
    return text[text.index("with DAG") :]
