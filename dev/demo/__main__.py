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
from dev.demo.incidents import THRESHOLDS
from dev.demo.performance import DAGS, Performance
from dev.demo.show import best_show
from dev.live import PASSWORD, USER, LiveAirflow
from dev.live.interrupts import raise_interrupts
from dev.live.simulator import Simulator

EXAMPLES = ROOT / "example_dags"
INCIDENTS = Path(__file__).parent / "dags"
READ_DAGS_ONCE = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600"}
"""Nobody edits them meanwhile, and to read them takes a core."""


def run(options: argparse.Namespace) -> int:
    """Run the Dags, disturb some, and return 0 if every promise has held."""
    simulator = Simulator()
    airflow = live_airflow(options, simulator)
    with best_show() as show:
        show.tell("openai_default", service_name(simulator))
        show.tell("airflow", f"starting at {airflow.address}; log in as {USER} / {PASSWORD}")
        with airflow:
            simulator.wait_healthy(airflow.components["simulator"])
            performance = Performance(airflow, simulator, show, only=options.dag)
            broken = performance.play()
            show.tell("airflow", "stopping")
    performance.print_sum()
    for promise in broken:
        print(f"BROKEN: {promise}")
    print(f"FAILED after {show.seconds:.0f} s" if broken else f"Every promise held. {show.seconds:.0f} s")
    return 1 if broken else 0


def live_airflow(options: argparse.Namespace, simulator: Simulator) -> LiveAirflow:
    """Prepare an Airflow with the simulator beside it."""
    airflow = LiveAirflow(
        options.dags,
        INCIDENTS,
        home=options.home,
        env=environment(simulator) | (THRESHOLDS | READ_DAGS_ONCE if options.command is run else {}),
        beside={"simulator": simulator.command},
        port=options.port,
    )
    for variable in ("OPENAI_TICKETS", "OPENAI_REPORTS"):
        airflow.env[f"AIRFLOW_VAR_{variable}"] = str(airflow.home / variable.lower())
    return airflow


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
            also = f" (default: {', '.join(DAGS)})"
            sub.add_argument("--dag", action="append", help=f"run this Dag only; may be repeated{also}")
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
