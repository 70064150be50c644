# SPDX-License-Identifier: Apache-2.0
"""``make demo`` and ``make airflow``: the example Dags in a live Airflow, shown once or left running."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dev import ROOT
from dev.demo import agent
from dev.demo import report as report_script
from dev.demo.connections import environment, real_service, service_name
from dev.demo.show import Story, label, print_table, row
from dev.live import PASSWORD, USER, LiveAirflow
from dev.live.interrupts import raise_interrupts
from dev.live.rest import FINISHED_RUN
from dev.live.simulator import Simulator

EXAMPLES = ROOT / "example_dags"
DAGS = ("openai_response", "openai_thread_run", "openai_mapped_prompts")
"""What ``make demo`` runs, all at once; with the agent where Airflow's tasks can wait for a person."""

TIMEOUT = 300.0
"""Seconds after which Dag runs that have not ended are given up."""


SECONDS_TO_CANCEL = 5.0
"""How long the triggerer may take to cancel the runs of a Dag run that was interrupted."""


def run(options: argparse.Namespace) -> int:
    """Run the Dags, tell what happens, and return 0 if every run of every Dag has completed."""
    story = Story()
    simulator = Simulator()
    airflow = live_airflow(options, simulator)
    dag_ids = options.dag or (DAGS + (agent.DAG_ID,) * agent.can_ask_a_person())
    story.tell("openai_default", service_name(simulator))
    story.tell("airflow", f"starting at {airflow.address}")
    with airflow:
        simulator.wait_healthy(airflow.components["simulator"])
        story.tell("airflow", "healthy")
        if not real_service():
            simulator.script(agent.SCRIPT)
            simulator.script(report_script.SCRIPT)
        for dag_id in dag_ids:
            airflow.api.wait_for_dag(dag_id)
        runs = {dag_id: airflow.api.trigger(dag_id) for dag_id in dag_ids}
        try:
            states = follow(airflow, simulator, runs, story)
        finally:
            end_unfinished(airflow, runs, story)
        succeeded = report(airflow, runs, states)
        story.tell("airflow", "stopping")
    story.tell("demo", "every run completed" if succeeded else "FAILED")
    return 0 if succeeded else 1


def live_airflow(options: argparse.Namespace, simulator: Simulator) -> LiveAirflow:
    """Prepare an Airflow with the simulator beside it."""
    return LiveAirflow(
        options.dags,
        home=options.home,
        env=environment(simulator),
        beside={"simulator": simulator.command},
        port=options.port,
    )


def follow(airflow: LiveAirflow, simulator: Simulator, runs: dict[str, str], story: Story) -> dict[str, str]:
    """Tell every change of state until all Dag runs have ended, or too long; return how they ended."""
    states: dict[str, str] = {}
    asked, asked_at = simulator.asked(), story.seconds
    deadline = story.seconds + TIMEOUT
    person = agent.Person(airflow.api, story)
    for instance in airflow.api.changes():
        if instance:
            story.tell_state(instance)
            person.notice(instance)
            continue
        person.decide()
        if story.seconds > asked_at + 3 and asked != (asked := simulator.asked()):
            asked_at = story.seconds
            story.tell("simulator", asked)
        for dag_id in runs.keys() - states.keys():
            state = airflow.api.dag_run(dag_id, runs[dag_id])["state"]
            if state in FINISHED_RUN:
                states[dag_id] = state
                story.tell(dag_id, f"Dag run {state}")
        if len(states) == len(runs):
            break
        if story.seconds > deadline:
            story.tell("demo", f"given up after {TIMEOUT:.0f} s")
            break
    return states


def report(airflow: LiveAirflow, runs: dict[str, str], states: dict[str, str]) -> bool:
    """Print the runs that the tasks brought, and tell whether all is well."""
    rows = []
    with_run = set()
    for dag_id, run_id in runs.items():
        for instance in airflow.api.task_instances(dag_id, run_id):
            pushed = airflow.api.xcom(dag_id, run_id, instance["task_id"], map_index=instance["map_index"])
            if isinstance(pushed, dict) and "ref" in pushed:
                rows.append(row(label(instance), pushed))
                with_run.add(dag_id)
            elif instance["state"] != "success":
                print(f"\n{label(instance)} is {instance['state']}:\n{last_log(airflow, instance)}")
    print_table(rows)
    # A run may be seen on its way by one task, and at its end by a later one.
    completed = {identity for _, identity, _, status, *_ in rows if status == "completed"}
    return (
        completed == {identity for _, identity, *_ in rows}
        and with_run == set(runs)
        and set(states.values()) == {"success"}
    )


def last_log(airflow: LiveAirflow, instance: dict[str, object]) -> str:
    """Read the end of a task's log."""
    try_number, map_index = int(str(instance["try_number"])), int(str(instance["map_index"]))
    if not try_number:
        return "never started"
    text = airflow.api.logs(
        str(instance["dag_id"]), str(instance["dag_run_id"]), str(instance["task_id"]), try_number, map_index
    )
    return "\n".join(text.splitlines()[-15:])


def end_unfinished(airflow: LiveAirflow, runs: dict[str, str], story: Story) -> None:
    """Mark what still goes on as failed, so that runs on a real service are cancelled, not left billing."""
    if not real_service():
        return
    for dag_id, run_id in runs.items():
        if airflow.api.dag_run(dag_id, run_id)["state"] not in FINISHED_RUN:
            story.tell(dag_id, "interrupted: cancelling its runs")
            airflow.api.mark_run(dag_id, run_id, new_state="failed")
            time.sleep(SECONDS_TO_CANCEL)


def serve(options: argparse.Namespace) -> int:
    """Leave Airflow and the simulator running until Ctrl-C."""
    simulator = Simulator(options.simulator_port)
    airflow = live_airflow(options, simulator)
    print(f"Starting Airflow; its files are in {airflow.home}", flush=True)
    with airflow:
        simulator.wait_healthy(airflow.components["simulator"])
        if not real_service():
            simulator.script(agent.SCRIPT)
            simulator.script(report_script.SCRIPT)
        print(f"""
  Airflow         {airflow.address}   log in as {USER} / {PASSWORD}
  Dags            {airflow.dags_folders[0]}
  openai_default  {service_name(simulator)}
  simulator       {simulator.base_url}

Ctrl-C stops everything.""")
        sys.stdout.flush()
        try:
            while True:
                for component in airflow.components.values():
                    component.check()
                time.sleep(1)
        except KeyboardInterrupt:
            print("\nStopping", flush=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line; Ctrl-C, termination and a closed terminal all end in a clean stop."""
    raise_interrupts()
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="run|serve")
    for command, port in ((run, 0), (serve, 8080)):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(command=command)
        sub.add_argument("--dags", type=Path, default=EXAMPLES, help="the Dags folder")
        sub.add_argument("--home", type=Path, help="keep Airflow's files and logs in this folder")
        sub.add_argument("--port", type=int, default=port, help="Airflow's port, if it is free")
        if command is run:
            sub.add_argument("--dag", action="append", help="run this Dag only; may be repeated")
        else:
            sub.add_argument("--simulator-port", type=int, default=8123, help="if it is free")
    options = parser.parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        print("\nInterrupted; everything is stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
