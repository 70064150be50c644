# SPDX-License-Identifier: Apache-2.0
"""The command line: ``doctor``, ``list`` and ``stop``."""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_openai_runs.cli.airflow_api import AirflowApi
    from airflow_provider_openai_runs.cli.found import FoundRun

#: Something is wrong, or could not be ended.
NOT_GOOD = 1
#: The question cannot be asked: wrong arguments, no Airflow.
CANNOT_ASK = 2

#: A century.
_MOST_DAYS = 36_525

_EPILOG = """
Airflow is asked through its REST API, with the rights of the token's user. Its address is --airflow-url, or
AIRFLOW__API__BASE_URL, or what airflow.cfg says. Give --token (or AIRFLOW_CLI_TOKEN), or --user and
AIRFLOW_CLI_PASSWORD. Connections are those that Airflow finds on this machine: environment, secrets backend,
database. Exit status: 0 all is well, 1 something is not, 2 the question could not be asked.
"""


def doctor(options: argparse.Namespace) -> int:
    """Tell whether Airflow, its triggerer and a connection are fit for runs; in a second or two."""
    from airflow_provider_openai_runs.cli.doctor import examine  # noqa: PLC0415 # brings Airflow and the SDK

    findings = list(examine(_api(options), conn_id=options.conn_id, models=options.model))
    if options.json:
        _print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        width = max(len(finding.about) for finding in findings)
        marks = {"ok": "ok", "warning": "!!", "failed": "FAILED"}
        for finding in findings:
            _print(f"{marks[finding.level]:<6}  {finding.about:<{width}}  {finding.text}")
    return NOT_GOOD if any(finding.level == "failed" for finding in findings) else 0


def list_runs(options: argparse.Namespace) -> int:
    """Show what is running at OpenAI for this Airflow, of every Dag."""
    from airflow_provider_openai_runs.cli.table import notes, table  # noqa: PLC0415 # brings Airflow

    runs, unusable = _find(options)
    if options.json:
        _print_json({"runs": [run.to_json() for run in runs], "connections_not_usable": unusable})
        return 0
    if runs:
        _print(table(runs))
    else:
        _print(f"Nothing is running, of the tasks of the last {options.days:g} days.")
    for note in notes(runs, unusable):
        _print(note)
    return 0


def stop(options: argparse.Namespace) -> int:
    """End runs: mark their tasks failed, and cancel what has no live task any more."""
    from airflow_provider_openai_runs.cli.connections import Connections  # noqa: PLC0415 # brings Airflow
    from airflow_provider_openai_runs.cli.stop import Stopper, next_step  # noqa: PLC0415
    from airflow_provider_openai_runs.cli.table import notes, table  # noqa: PLC0415

    say = (lambda line: print(line, file=sys.stderr)) if options.json else _print  # noqa: T201
    runs, unusable = _find(options)
    unknown = sorted(set(options.ids) - {run.id for run in runs})
    if options.ids:
        runs = [run for run in runs if run.id in options.ids]
    for name in unknown:
        say(f"{name} is not among the runs that go on, of the tasks of the last {options.days:g} days")
    if runs and not options.json:
        _print(table(runs))
    if not options.yes:
        if options.json:
            plan = [run.to_json() | {"next": next_step(run, None, now=0.0)} for run in runs]
            _print_json({"dry_run": True, "runs": plan, "unknown": unknown})
        else:
            for run in runs:
                _print(f"would {next_step(run, None, now=0.0)}: {run.id} of {run.task}")
            for note in notes(runs, unusable):
                _print(note)
            _print(f"{len(runs)} to stop. Nothing was done; add --yes to do it.")
        return NOT_GOOD if unknown else 0
    api = _api(options)
    left = Stopper(api, Connections(), deferred_hears=api.has_state_store(), say=say).stop(runs)
    if options.json:
        gone_on = [run.to_json() for run in left]
        _print_json({"dry_run": False, "stopped": len(runs) - len(left), "left": gone_on, "unknown": unknown})
    else:
        for run in left:
            _print(
                f"NOT ENDED, as far as is known: {run.id} of {run.task} ({run.raw_status or '?'}): {run.note}"
            )
        _print(f"{len(runs) - len(left)} of {len(runs)} have ended.")
    return NOT_GOOD if left or unknown else 0


def stop_folder(options: argparse.Namespace) -> int:
    """End what a bulk task has left going, by its folder alone."""
    from airflow_provider_openai_runs.cli.bulk import BulkFolder  # noqa: PLC0415 # brings Airflow and the SDK
    from airflow_provider_openai_runs.cli.connections import Connections  # noqa: PLC0415

    say = (lambda line: print(line, file=sys.stderr)) if options.json else _print  # noqa: T201
    log: Any = logging.getLogger(__name__)
    folder = BulkFolder(options.path, log=log)
    live, note = folder.live_task(lambda: _api(options))
    batches = [batch.name for batch in folder.batches]
    active = [*(run.id for run in folder.active), *batches]
    plan = {"active": active, "lost": folder.lost, "task": live, "note": note}
    if note:
        say(note)
    if not options.yes or live:
        if options.json:
            _print_json({"dry_run": True, **plan})
        else:
            for run in folder.active:
                _print(f"would cancel it by its connection: {run.id} of row {run.row}")
            for batch in folder.batches:
                items = sum(1 for _ in batch)
                _print(f"would cancel {batch.name} of {items} items (input {batch.file_id}), and collect it")
            for row, token in folder.lost.items():
                _print(f"would name it: a create of row {row} whose answer was lost, token {token}")
            _print(f"{len(active)} to stop. Nothing was done; add --yes to do it.")
        return NOT_GOOD if live else 0
    count = len(active)
    manifest, left = folder.stop(Connections(), say=say)
    if options.json:
        names = {"manifest": folder.manifest_uri, "counts": dict(manifest.counts), "lost": folder.lost}
        gone_on = [one.to_json() for one in left]
        _print_json({"dry_run": False, "stopped": count - len(left), "left": gone_on, **names})
    else:
        for one in left:
            _print(f"NOT ENDED, as far as is known: {one.run.id} of row {one.run.row}: {one.note}")
        _print(f"{count - len(left)} of {count} have ended. Results: {folder.manifest_uri}")
    return NOT_GOOD if left else 0


def _find(options: argparse.Namespace) -> tuple[list[FoundRun], dict[str, str]]:
    """Return the runs that go on or may, and the connections that cannot be used here."""
    from airflow_provider_openai_runs.cli.connections import Connections  # noqa: PLC0415 # brings Airflow
    from airflow_provider_openai_runs.cli.found import Finder  # noqa: PLC0415

    connections = Connections()
    runs = Finder(_api(options), connections).find(days=options.days, dag_id=options.dag)
    return [run for run in runs if run.active is not False], connections.unusable


def _api(options: argparse.Namespace) -> AirflowApi:
    from airflow_provider_openai_runs.cli.airflow_api import AirflowApi  # noqa: PLC0415 # brings the client

    url = options.airflow_url
    if url is None:
        from airflow.configuration import conf  # noqa: PLC0415

        url = conf.get("api", "base_url", fallback="") or "http://localhost:8080"
    token = options.token or os.environ.get("AIRFLOW_CLI_TOKEN")
    password = os.environ.get("AIRFLOW_CLI_PASSWORD")
    if options.user and not token and password is None:
        password = options.password = getpass.getpass(f"Airflow's password of {options.user}: ")
        os.environ["AIRFLOW_CLI_PASSWORD"] = password
    return AirflowApi(url, token=token, user=options.user, password=password)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_openai_runs",
        description="Runs at OpenAI that this Airflow has started: is all in place, what goes on, stop it.",
        epilog=_EPILOG,
    )
    commands = parser.add_subparsers(required=True, metavar="doctor|list|stop")
    for name, command in (("doctor", doctor), ("list", list_runs), ("stop", stop)):
        sub = commands.add_parser(name, help=command.__doc__, description=command.__doc__, epilog=_EPILOG)
        sub.set_defaults(command=command)
        sub.add_argument("--airflow-url", metavar="URL", help="Airflow's API server")
        sub.add_argument(
            "--token", help="of Airflow's API; AIRFLOW_CLI_TOKEN keeps it out of the process list"
        )
        sub.add_argument("--user", help="in place of a token; the password is AIRFLOW_CLI_PASSWORD, or asked")
        sub.add_argument("--json", action="store_true", help="print JSON, for scripts")
        if command is doctor:
            sub.add_argument("--conn-id", default="openai_default", help="default: %(default)s")
            sub.add_argument(
                "--model",
                action="append",
                default=[],
                type=_name,
                help="is it there, and until when; may be repeated (default: those of the newest tasks)",
            )
            continue
        sub.add_argument(
            "--days", type=_days, default=7, help="of tasks that changed so lately (default: %(default)s)"
        )
        sub.add_argument("--dag", metavar="DAG_ID", help="of this Dag only")
        if command is stop:
            sub.add_argument("ids", nargs="*", metavar="ID", help="as list shows it: of a run, or the token")
            sub.add_argument("--all", action="store_true", help="all that list shows")
            sub.add_argument(
                "--path", metavar="FOLDER", help="what a bulk task has left going, by its folder"
            )
            sub.add_argument("--yes", action="store_true", help="do it; without, say what would be done")
        else:
            sub.set_defaults(ids=[])
    return parser


def _days(text: str) -> float:
    """Read a number of days that a date can be so long ago."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text} is no number of days from 0 to {_MOST_DAYS}")
    return found


def _name(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("a name is empty")
    return text


def _check_what(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse to stop nothing, or what two arguments name in different ways."""
    ways = [bool(options.ids), bool(options.path), options.all or bool(options.dag)]
    if not any(ways):
        parser.error("stop what? Give ids, --dag DAG_ID, --all, or --path FOLDER")
    if "" in options.ids:
        parser.error("an id is empty")
    if options.path and sum(ways) > 1:
        parser.error(
            "--path names all that a bulk task has left: give neither ids nor --all nor --dag with it"
        )
    if options.ids and options.all:
        parser.error("give ids, or --all, and not both")


def run() -> int:
    """Be a process of its own: with Airflow's connections, and with nothing on the output but the answer."""
    # As Airflow's own commands do: connections in its database count, too.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    # Airflow's log goes to the standard output.
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is stop:
        _check_what(parser, options)
    from airflow_provider_openai_runs.cli.airflow_api import AirflowApiError  # noqa: PLC0415
    from airflow_provider_openai_runs.runs.errors import OpenAIRunError  # noqa: PLC0415

    try:
        is_folder = options.command is stop and options.path
        return stop_folder(options) if is_folder else int(options.command(options))
    except (AirflowApiError, OpenAIRunError) as error:
        sys.stderr.write(f"{error}\n")
        return CANNOT_ASK
    except KeyboardInterrupt:
        return 130


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2))
