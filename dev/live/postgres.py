# SPDX-License-Identifier: Apache-2.0
"""A throwaway PostgreSQL from Debian's packages; Airflow reaches it with psycopg2-binary and asyncpg."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from dev.live.interrupts import held
from dev.live.processes import free_port


@contextmanager
def postgres() -> Iterator[str]:
    """Create a cluster, and yield the address of its database; nothing is left of it afterwards."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
    if not all(map(find_spec, ("psycopg2", "asyncpg"))):
        raise SystemExit("Airflow's drivers for PostgreSQL are not installed: pip install -e '.[chaos]'")
    # PostgreSQL refuses to be run by root, whose files the user postgres cannot read.
    other_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="chaos-postgres-"))
    if other_user:
        shutil.chown(folder, "postgres")
    port = free_port(0)

    def run(command: str, *arguments: str) -> None:
        line = [*other_user, str(binaries[-1] / command), "-D", str(folder / "data"), *arguments]
        quiet = subprocess.DEVNULL
        # In a session of its own: Ctrl-C must not cut it short, nor end PostgreSQL before Airflow.
        subprocess.run(line, check=True, stdout=quiet, cwd=folder, start_new_session=True)  # noqa: S603 - our own

    where = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    where += " -c max_connections=300"
    try:
        with held():
            run("initdb", "--auth", "trust", "--username", "airflow", "--no-sync")
            run("pg_ctl", "--wait", "--log", str(folder / "log"), "-o", where, "start")
        yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/postgres"
    finally:
        with held():
            stop = [str(binaries[-1] / "pg_ctl"), "-D", str(folder / "data"), "-m", "immediate", "stop"]
            quiet = subprocess.DEVNULL  # it may not have been started
            subprocess.run([*other_user, *stop], check=False, stdout=quiet, stderr=quiet, cwd=folder)  # noqa: S603 - our own
            shutil.rmtree(folder, ignore_errors=True)
