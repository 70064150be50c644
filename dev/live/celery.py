# SPDX-License-Identifier: Apache-2.0
"""
An Airflow of many hosts: CeleryExecutor with Redis, PostgreSQL, and two of what there can be two of.

PostgreSQL and Redis come from Debian's packages, the providers from ``constraints/celery.txt``.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from subprocess import TimeoutExpired

from dev.live.airflow import LiveAirflow
from dev.live.hosts import Hosts
from dev.live.hosts import missing as missing_for_hosts
from dev.live.interrupts import held

DATABASE, BROKER, SIMULATOR = "database", "broker", "simulator"
API_SERVER, DAG_PROCESSOR = "api-server", "dag-processor"
SCHEDULERS = ("scheduler-1", "scheduler-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
WORKERS = ("worker-1", "worker-2")
NAMES = (DATABASE, BROKER, SIMULATOR, API_SERVER, DAG_PROCESSOR, *SCHEDULERS, *TRIGGERERS, *WORKERS)
"""Of the components and of their hosts."""
COMPONENTS: dict[str, Sequence[str]] = {
    API_SERVER: ("api-server",),
    DAG_PROCESSOR: ("dag-processor",),
    **dict.fromkeys(SCHEDULERS, ("scheduler", "--skip-serve-logs")),
    **dict.fromkeys(TRIGGERERS, ("triggerer", "--skip-serve-logs")),
    **{
        name: ("celery", "worker", "--skip-serve-logs", "--celery-hostname", f"{name}@chaos")
        for name in WORKERS
    },
}
DATABASE_PORT, BROKER_PORT = 5432, 6379
SECONDS_TO_START = 60.0
MODULES = ("airflow.providers.celery", "airflow.providers.common.io", "psycopg2", "asyncpg", "redis")


def missing() -> str | None:
    """Return in a sentence what keeps this machine from running all that; None if nothing does."""
    if (reason := missing_for_hosts()) is not None:
        return reason
    if not _postgres_binaries() or shutil.which("redis-server") is None:
        return "apt-get install postgresql redis-server: CeleryExecutor needs both."
    absent = [name for name in MODULES if not _is_there(name)]
    return f"Not installed: {', '.join(absent)}; make chaos installs them." if absent else None


def _is_there(module: str) -> bool:
    with suppress(ModuleNotFoundError):
        return find_spec(module) is not None
    return False


def _postgres_binaries() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class CeleryAirflow(LiveAirflow):
    """
    As ``LiveAirflow``, each component on the host of its name.

    :param slots: of each of the two workers.
    """

    def __init__(
        self,
        dags_folder: Path,
        *,
        hosts: Hosts,
        home: Path,
        slots: int,
        env: Mapping[str, str],
        beside: Mapping[str, Sequence[str]],
    ) -> None:
        self._data = Path(tempfile.mkdtemp(prefix="chaos-postgres-"))
        shutil.chown(self._data, "postgres")
        address = hosts.address(DATABASE)
        self.database_url = f"postgresql+psycopg2://airflow@{address}:{DATABASE_PORT}/postgres"
        settings = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database_url,
            "AIRFLOW__CELERY__BROKER_URL": f"redis://{hosts.address(BROKER)}:{BROKER_PORT}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self.database_url}",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(slots),
            "C_FORCE_ROOT": "1",
        }
        proxies = {name: "" for name in os.environ if name.lower().endswith("_proxy")}
        redis = ("redis-server", "--bind", hosts.address(BROKER), "--port", str(BROKER_PORT))
        in_memory = ("--save", "", "--appendonly", "no", "--protected-mode", "no")
        super().__init__(
            dags_folder,
            home=home,
            parallelism=4 * slots,
            env={**settings, **proxies, **env},
            beside={DATABASE: self._postgres(address), BROKER: (*redis, *in_memory), **beside},
            hosts=hosts,
            components=COMPONENTS,
        )
        self.hosts = hosts

    def _postgres(self, address: str) -> Sequence[str]:
        settings = {
            "listen_addresses": address,
            "port": DATABASE_PORT,
            "unix_socket_directories": self._data,
            "max_connections": 300,
            "synchronous_commit": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return (
            *_AS_POSTGRES,
            str(_postgres_binaries()[-1] / "postgres"),
            "-D",
            str(self._data / "data"),
            *options,
        )

    def migrate(self) -> None:
        """Wait for the database and the broker, and create the tables."""
        self._wait_for_database()
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            with suppress(OSError), socket.create_connection((self.hosts.address(BROKER), BROKER_PORT), 1):
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"no Redis: {self.components[BROKER].tail()}")
            time.sleep(0.1)
        super().migrate()

    def start(self, name: str) -> None:
        """Start a component; the database is made before its first start, and waited for after each."""
        if name == DATABASE and not (self._data / "data").exists():
            binary = str(_postgres_binaries()[-1] / "initdb")
            options = (
                "-D",
                str(self._data / "data"),
                "--auth",
                "trust",
                "--username",
                "airflow",
                "--no-sync",
            )
            subprocess.run([*_AS_POSTGRES, binary, *options], check=True, stdout=subprocess.DEVNULL, cwd="/")  # noqa: S603 - our own
            with (self._data / "data" / "pg_hba.conf").open("a") as file:
                file.write("host all all samenet trust\n")
        super().start(name)

    def wait_healthy(self, timeout: float = 300) -> None:
        """Wait longer than for few processes."""
        super().wait_healthy(timeout)

    def stop_database(self, signum: int = signal.SIGINT) -> None:
        """End it: SIGINT at once, as a restart does; SIGQUIT as a crash."""
        self.components[DATABASE].signal(signum)
        self.components[DATABASE].wait(timeout=30)

    def start_database(self) -> None:
        """Start it again, and wait until it answers."""
        self.start(DATABASE)
        self._wait_for_database()

    def _wait_for_database(self) -> None:
        import psycopg2  # type: ignore[import-untyped]  # noqa: PLC0415 - only this executor needs it

        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                with closing(psycopg2.connect(self.database_url.replace("+psycopg2", ""), connect_timeout=2)):
                    return
            except psycopg2.OperationalError:
                self.components[DATABASE].check()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def reconfigure(self, names: Sequence[str], changes: Mapping[str, str]) -> None:
        """Restart components, as if their machines had died, with other variables in their environment."""
        for name in names:
            self.kill(name)
            component = self.components[name]
            component.env = {**component.env, **changes}
            self.start(name)

    def stop(self) -> None:
        """Stop everything, PostgreSQL in its own way, so that it leaves no shared memory behind."""
        with held():
            database = self.components[DATABASE]
            database.signal(signal.SIGQUIT)
            with suppress(TimeoutExpired, RuntimeError):
                database.wait(timeout=10)
            super().stop()
            shutil.rmtree(self._data, ignore_errors=True)


_AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
"""PostgreSQL refuses to be run by root."""
