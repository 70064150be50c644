# SPDX-License-Identifier: Apache-2.0
"""
A throwaway Airflow, a fake edge of it for direct calls of ``execute``, and things on the simulator.

Airflow reads its environment when it is imported, so this file sets it first and imports Airflow only inside
of fixtures.
"""

# ruff: noqa: PLC0415 - Airflow and the HTTP client are imported by those who need them

from __future__ import annotations

import atexit
import gc
import json
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import pytest

from tests.support import processes
from tests.support.scene import Scene
from tests.support.scripted_server import ScriptedServer, serve

if TYPE_CHECKING:
    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator
    from airflow_provider_openai_runs.transport.limits import BoundedClient

#: A worker of pytest-xdist has its own within that of the first process, which removes them all.
_HOME = tempfile.mkdtemp(
    prefix="airflow-openai-runs-",
    dir=os.environ["AIRFLOW_HOME"] if "PYTEST_XDIST_WORKER" in os.environ else None,
)
_EXAMPLES = Path(__file__).parents[1] / "example_dags"


def _use_a_throwaway_airflow() -> None:
    for name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": _HOME,
        "AIRFLOW__CORE__DAGS_FOLDER": str(_EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    atexit.register(shutil.rmtree, _HOME, ignore_errors=True)


def _trust_a_single_authority() -> None:
    """To load all of them takes each client 20 ms, and nothing here speaks TLS."""
    end = "-----END CERTIFICATE-----"
    first, _, _ = certifi.contents().partition(end)
    bundle = Path(_HOME, "authority.pem")
    bundle.write_text(first[first.index("-----BEGIN") :] + end, encoding="ascii")
    os.environ["SSL_CERT_FILE"] = str(bundle)


def _pause_briefly() -> None:
    """Between two tries of anything, wait a tenth of what users wait; who imports a pause gets that."""
    from airflow_provider_openai_runs.runs import budgets

    for name in ("NOT_SHOWN_YET", "PAUSE_AFTER_FAILURE"):
        setattr(budgets, name, getattr(budgets, name) / 10)


_trust_a_single_authority()
_use_a_throwaway_airflow()
_pause_briefly()

# What is imported stays: to search it for garbage takes a second each time.
gc.disable()


_counted = pytest.MonkeyPatch()


def _keep_what_there_is() -> None:
    """Spare later collections what has been imported, and the tests themselves."""
    gc.freeze()
    # To count a million objects takes each bulk task a twentieth of a second.
    _counted.setattr(gc, "get_freeze_count", lambda: 1)


@pytest.fixture
def nothing_is_frozen() -> Iterator[None]:
    """Begin as a process in which nobody has frozen anything."""
    _counted.undo()
    gc.unfreeze()
    yield
    _keep_what_there_is()


def pytest_collection_finish() -> None:
    _keep_what_there_is()
    gc.enable()
    gc.set_threshold(10_000)  # a fiftieth of all time went into looking for what is hardly ever there


def _is_worker(config: pytest.Config) -> bool:
    """Say whether this is one of several processes of pytest-xdist, each with an Airflow of its own."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config):
        processes.mark()
    if not config.getoption("numprocesses", None):  # else the workers collect
        _draw_so_many_examples(int(os.environ.get("EXAMPLES", "30")))


def _draw_so_many_examples(number: int) -> None:
    """Have Hypothesis try each property so often, as slowly as a busy machine may be."""
    from hypothesis import HealthCheck, settings

    slow = [HealthCheck.too_slow]
    settings.register_profile(
        "ours", settings.default, max_examples=number, deadline=None, suppress_health_check=slow
    )
    settings.load_profile("ours")


@pytest.hookimpl(tryfirst=True)  # what others do then takes longer beside workers that go on
def pytest_keyboard_interrupt() -> None:
    """Do not wait for workers that are in the middle of a test."""
    processes.end_all()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not _is_worker(config):
        for command in processes.end_all():
            print(f"Ended a process that was left behind: {command}")  # noqa: T201 - pytest's own has ended


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that share Airflow's database: one process has them, and the others the rest."""
    items.sort(key=_needs_no_database)


def _needs_no_database(item: pytest.Item) -> bool:
    return "airflow_db" not in getattr(item, "fixturenames", ())


_kept_to_the_end: list[object] = []


@pytest.fixture
def dags_folder(airflow_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Say in which folder Airflow finds its Dags; dag.test() of 3.4 reads them from there."""
    del airflow_db
    manager = import_module("airflow.dag_processing.bundles.manager")
    # From 3.4 on a process reads the setting once.
    forget = getattr(getattr(manager, "_load_bundle_config_snapshot", None), "cache_clear", lambda: None)

    def use(folder: Path) -> None:
        local = "airflow.dag_processing.bundles.local.LocalDagBundle"
        bundle = {"name": folder.name, "classpath": local, "kwargs": {"path": str(folder)}}
        monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
        forget()

    yield use
    forget()


@pytest.fixture(scope="session")
def airflow_db() -> Iterator[None]:
    """
    Let Airflow run Dags, which takes seconds: only for tests that need it.

    They are the first ones, so that one worker of several makes the database.
    """
    with warnings.catch_warnings():
        # Airflow's own API server, on which dag.test() runs, warns of much when it is imported.
        warnings.simplefilter("ignore")
        from airflow.api_fastapi.execution_api.app import InProcessExecutionAPI
        from airflow.utils.db import initdb

        initdb()
        api = InProcessExecutionAPI()
        assert api.app
    _keep_what_there_is()
    # Its event loop is never closed, which pytest would hear of if it were collected before the end.
    _kept_to_the_end.append(api)
    with pytest.MonkeyPatch.context() as patch:
        # Below 3.3 it is built anew for each task, which takes 2 s.
        patch.setattr("airflow.sdk.execution_time.supervisor.in_process_api_server", lambda: api)
        yield


# -- on the simulator ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _oracle() -> Any:
    from dev.conformance.oracle import DESCRIPTION, Oracle
    from tests.support import api_description

    return Oracle(None if DESCRIPTION.is_file() else api_description.DESCRIPTION)


@pytest.fixture(scope="session")
def _openai_runs_server() -> Iterator[Simulator]:
    """Give a server of which a run takes a quarter of a second unless a test says how long."""
    from airflow_provider_openai_runs.simulator import Simulator

    with Simulator(speed=4) as simulator:
        yield simulator


@pytest.fixture
def openai_runs_simulator(openai_runs_simulator: Simulator, _oracle: Any) -> Iterator[Simulator]:
    """Give the simulator; whatever the package asked it in a test must be documented."""
    yield openai_runs_simulator
    _oracle.check(openai_runs_simulator.requests)


@pytest.fixture(scope="session")
def _http() -> Iterator[httpx2.Client]:
    import httpx2

    # Without the certificates, which take 70 ms to load: nothing here speaks TLS.
    with httpx2.Client(transport=httpx2.HTTPTransport(verify=False), timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def _imported() -> None:
    """Import what an operator imports when it runs: it takes seconds, and some tests measure the time."""
    for name in (
        "airflow_provider_openai_runs.hooks",
        "airflow_provider_openai_runs.triggers",
        "openai.resources.beta",
        "openai.resources.responses",
    ):
        import_module(name)
    _keep_what_there_is()


@pytest.fixture(scope="session")
def _clients() -> Iterator[weakref.WeakSet[BoundedClient]]:
    """Know the clients of workers."""
    from airflow_provider_openai_runs.transport.limits import BoundedClient

    clients: weakref.WeakSet[BoundedClient] = weakref.WeakSet()
    init = BoundedClient.__init__

    def know(client: BoundedClient) -> None:
        init(client)
        clients.add(client)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoundedClient, "__init__", know)
        yield clients


@pytest.fixture
def _close_clients(_clients: weakref.WeakSet[BoundedClient]) -> Iterator[None]:
    """
    Close the clients that have not gone with their workers, as they do when they go.

    The error that a test has caught holds them by its traceback, in a cycle with the test. A collection,
    in whatever test, may take a socket before its client, which is a warning.
    """
    yield
    for client in list(_clients):
        client.close()


@pytest.fixture
def scene(
    _imported: None,
    _close_clients: None,
    openai_runs_simulator: Simulator,
    _http: httpx2.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    return Scene(simulator=openai_runs_simulator, http=_http, monkeypatch=monkeypatch)


@pytest.fixture
def post(scene: Scene) -> Callable[..., dict[str, Any]]:
    """Send a request to the simulator's API, past the package."""
    return scene.post


@pytest.fixture
def assistant_id(scene: Scene) -> str:
    """Give an assistant that is there before the test begins."""
    return scene.assistant_id


@pytest.fixture
def thread_id(scene: Scene) -> str:
    """Give a thread that is there before the test begins."""
    return scene.thread_id


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for a moment only before a request is sent again."""
    monkeypatch.setattr("airflow_provider_openai_runs.runs.failure.FIRST_PAUSE", 0.05)


# -- a server of the test's own ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _scripted() -> Iterator[ScriptedServer]:
    with serve() as server:
        yield server


@pytest.fixture
def scripted(
    _scripted: ScriptedServer, _close_clients: None, monkeypatch: pytest.MonkeyPatch
) -> ScriptedServer:
    """Give a server whose answers the test writes; the connection ``scripted`` leads to it."""
    monkeypatch.setenv("AIRFLOW_CONN_SCRIPTED", _scripted.connection_json)
    _scripted.play({})
    return _scripted
