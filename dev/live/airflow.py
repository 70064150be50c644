# SPDX-License-Identifier: Apache-2.0
"""A real Airflow of four components on this machine, in a throwaway home, that leaves nothing running.

``airflow standalone`` orphans its children when it is terminated, so the components are started one by one.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dev.live.interrupts import held
from dev.live.processes import Process, free_port, stop
from dev.live.rest import Rest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from dev.live.hosts import Hosts

USER = PASSWORD = "admin"  # noqa: S105 - a throwaway server that listens to this machine only


class LiveAirflow:
    """A context manager: started and healthy inside the block, stopped without a trace after it.

    ``dags_folders`` are read as they are. ``env`` is added to the environment of every component and wins
    over what is set here. ``parallelism`` is the number of workers. ``home`` keeps everything in a folder of
    your choice (with its database, if it has one); without it a temporary folder is used and removed, unless
    ``keep`` is true. ``beside`` names further commands that live and die with the components, and can be
    disturbed like them; they are started first. ``port`` is taken if it is free.

    With ``hosts`` each component, and each command beside, runs on the host of its name. ``components`` are
    Airflow's, by name and arguments, where they are to be others than one scheduler and its LocalExecutor.
    """

    def __init__(
        self,
        *dags_folders: Path | str,
        home: Path | str | None = None,
        keep: bool = False,
        parallelism: int = 4,
        triggerers: int = 1,
        env: Mapping[str, str] | None = None,
        beside: Mapping[str, Sequence[str]] | None = None,
        port: int = 0,
        hosts: Hosts | None = None,
        components: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.dags_folders = [Path(folder).resolve() for folder in dags_folders]
        self.keep = keep or home is not None
        self.home = Path(home).resolve() if home else Path(tempfile.mkdtemp(prefix="live-airflow-"))
        self.home.mkdir(parents=True, exist_ok=True)
        self._hosts = hosts
        self._host = "127.0.0.1" if hosts is None else hosts.address("api-server")
        self.port = free_port(port)
        self.address = f"http://{self._host}:{self.port}"
        self.env = _clean_environment() | self._settings(parallelism) | _keys(self.home) | dict(env or {})
        self.api = Rest(self.address, USER, PASSWORD)
        self._starting = threading.Lock()
        self._stopped = False
        self.components = {
            **{name: self._process(name, *command) for name, command in (beside or {}).items()},
            **{
                name: self._airflow(name, *arguments)
                for name, arguments in (components or _on_one_machine(triggerers)).items()
            },
        }
        self._beside = tuple(beside or ())

    def _settings(self, parallelism: int) -> dict[str, str]:
        bundles = [
            {
                "name": f"{number}-{folder.name}",
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(folder)},
            }
            for number, folder in enumerate(self.dags_folders)
        ]
        return {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__API__BASE_URL": self.address,
            "AIRFLOW__API__HOST": self._host,
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),  # unused: the bundles below name them
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": str(parallelism),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_COLOR": "1",
        }

    def _airflow(self, name: str, *arguments: str) -> Process:
        return self._process(name, sys.executable, "-m", "airflow", *arguments)

    def _process(self, name: str, *command: str) -> Process:
        placed = command if self._hosts is None else self._hosts.command(name, command)
        return Process(name, placed, self.env, self.home / f"{name}.log", cwd=self.home)

    def __enter__(self) -> Self:
        """Create the database, start all components and wait until they are healthy."""
        try:
            for name in self._beside:
                self.start(name)
            self.migrate()
            for name in self.components:
                if name not in self._beside:
                    self.start(name)
            self.wait_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    def migrate(self) -> None:
        """Create or upgrade the database, and the file with the login."""
        passwords = self.home / "simple_auth_manager_passwords.json.generated"
        passwords.write_text(json.dumps({USER: PASSWORD}) + "\n")
        passwords.chmod(0o600)
        migration = self._migration()
        migration.start()
        try:
            if migration.wait(timeout=180):
                raise RuntimeError(f"airflow db migrate failed:\n{migration.tail()}")
        finally:
            stop([migration])

    def _migration(self) -> Process:
        command = (sys.executable, "-m", "airflow", "db", "migrate")
        return Process("db-migrate", command, self.env, self.home / "db-migrate.log", cwd=self.home)

    def wait_healthy(self, timeout: float = 240) -> None:
        """Wait until Airflow reports every component as healthy; a component that ends is an error."""
        deadline = time.monotonic() + timeout
        health: dict[str, str | None] = {}
        while len(health) < 4 or set(health.values()) != {"healthy"}:  # noqa: PLR2004 - four components
            for component in self.components.values():
                component.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"not healthy after {timeout:.0f} s: {health or 'no answer'}")
            time.sleep(0.3)
            try:
                health = self.api.health()
            except (OSError, RuntimeError):
                health = {}

    def pid(self, name: str) -> int:
        """Return the process id of a component: ``scheduler``, ``triggerer-1``, or one from ``beside``."""
        return self.components[name].pid

    def start(self, name: str) -> None:
        """
        Start a component, or start it again when it has ended.

        :raises RuntimeError: once everything is being stopped, which another thread may not have noticed.
        """
        with self._starting:
            if self._stopped:
                raise RuntimeError(f"{name} is not started: everything is being stopped")
            self.components[name].start()

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        """Send a signal to a component and all it forked, as if its machine died (or froze, or woke)."""
        self.components[name].signal_all(signum)
        if signum == signal.SIGKILL:
            self.components[name].wait(timeout=10)

    def terminate(self, name: str, timeout: float = 60) -> None:
        """Ask a component to end, as a rolling restart does, and wait until it has."""
        self.components[name].signal(signal.SIGTERM)
        self.components[name].wait(timeout)

    def stop(self) -> None:
        """End every process that was started here, and remove the home unless it is to be kept."""
        with held():
            with self._starting:
                self._stopped = True
            stop(part for name, part in self.components.items() if name != "api-server")
            stop([self.components["api-server"]], timeout=0)  # last: the others end through it
            if not self.keep:
                shutil.rmtree(self.home, ignore_errors=True)


def _on_one_machine(triggerers: int) -> dict[str, Sequence[str]]:
    """Return the arguments of each component where the scheduler has its workers beside it."""
    return {
        "api-server": ("api-server",),
        "scheduler": ("scheduler", "--skip-serve-logs"),
        "dag-processor": ("dag-processor",),
        **{f"triggerer-{n}": ("triggerer", "--skip-serve-logs") for n in range(1, triggerers + 1)},
    }


def _keys(home: Path) -> dict[str, str]:
    """Return the keys that all components share; a home that is used again keeps them."""
    path = home / "keys.json"
    if not path.exists():
        path.touch(mode=0o600)
        keys = {
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }
        path.write_text(json.dumps(keys))
    return dict(json.loads(path.read_text()))


def _clean_environment() -> dict[str, str]:
    """Return the environment without the user's own Airflow and keys: connections are the only way in."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "OPENAI_"))}
