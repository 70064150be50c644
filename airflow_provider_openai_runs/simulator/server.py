# SPDX-License-Identifier: Apache-2.0
"""The simulator as an object: a real HTTP server in a thread, and the means to direct it."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from airflow_provider_openai_runs.simulator.app import create_app
from airflow_provider_openai_runs.simulator.control import active, runs
from airflow_provider_openai_runs.simulator.limits import Limits
from airflow_provider_openai_runs.simulator.options import Options
from airflow_provider_openai_runs.simulator.store import Store

if TYPE_CHECKING:
    from types import TracebackType

    from airflow_provider_openai_runs.simulator.batch_scenario import BatchScenario
    from airflow_provider_openai_runs.simulator.faults import Fault
    from airflow_provider_openai_runs.simulator.requestlog import LoggedRequest
    from airflow_provider_openai_runs.simulator.scenario import Scenario

_START_SECONDS = 10.0


def _listen(host: str, port: int) -> socket.socket:
    """Bind a socket that says it speaks TCP: asyncio sends small answers without delay only on those."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


class Simulator:
    """An OpenAI-compatible server on this machine; port 0 takes a free one.

    `speed` divides the time that each status lasts, `require_key` refuses every other key with 401, `azure`
    serves `/openai` and `/openai/v1` too, `no_threads` answers 404 to threads and assistants. What is above
    `requests_per_minute` or `tokens_per_minute` is refused with 429.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        base_path: str = "/v1",
        speed: float = 1.0,
        require_key: str | None = None,
        azure: bool = False,
        no_threads: bool = False,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        options = Options(
            base_path=base_path,
            speed=speed,
            require_key=require_key,
            azure=azure,
            no_threads=no_threads,
            limits=Limits(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute),
        )
        self._store = Store(options)
        self._host = host
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Bind the port and serve in a thread; OSError if the port is taken."""
        if self._server is not None:
            raise RuntimeError(f"The simulator already serves at {self.base_url}.")
        self._store.closing = False
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            create_app(self._store),
            loop="asyncio",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [listener]},
            name="openai-runs-simulator",
            daemon=True,
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"The simulator did not start on {self._host}:{self._port}.")
            time.sleep(0.001)
        return self

    def stop(self) -> None:
        """Stop serving; who is still waiting is answered with what there is."""
        if self._server is None or self._thread is None:
            return
        self._store.closing = True
        self._server.should_exit = True
        self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def root_url(self) -> str:
        """The URL of the server, below which `/simulator/` is."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def base_url(self) -> str:
        """The URL that an OpenAI client is given as its base URL."""
        base_path = self._store.options.base_path.strip("/")
        return f"{self.root_url}/{base_path}" if base_path else self.root_url

    @property
    def key(self) -> str:
        """A key that is accepted."""
        return self._store.options.require_key or "simulator-key"

    @property
    def connection(self) -> dict[str, Any]:
        """An Airflow connection to this server, as the JSON form of a connection has it."""
        return {"conn_type": "openai", "password": self.key, "host": self.base_url}

    @property
    def connection_json(self) -> str:
        """The connection as text, for an `AIRFLOW_CONN_...` variable."""
        return json.dumps(self.connection)

    def script(self, *scenarios: Scenario) -> None:
        """Plan what the next runs do, in this order."""
        with self._store.lock:
            for scenario in scenarios:
                self._store.scripts.plan(scenario)

    def script_batches(self, *scenarios: BatchScenario) -> None:
        """Plan what the next batches do, in this order; `script` plans what their items answer."""
        with self._store.lock:
            for scenario in scenarios:
                self._store.batch_scripts.plan(scenario)

    def limit(self, limits: Limits) -> None:
        """Set what a client may ask in a minute, and how much may wait in batches."""
        with self._store.lock:
            self._store.limit(limits)

    def fault(self, *faults: Fault) -> None:
        """Plan what goes wrong."""
        with self._store.lock:
            for fault in faults:
                self._store.faults.add(fault)

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests to the API, oldest first; only the latest half million are kept."""
        with self._store.lock:
            return self._store.requests.all()

    def count(self, method: str, path: str = "") -> int:
        """Count the requests with this method ("*" for any) in whose path the regular expression is found."""
        with self._store.lock:
            return self._store.requests.count(method, path)

    def runs(self) -> list[dict[str, Any]]:
        """Describe every run, response and batch that was ever created, deleted ones too, as it is now."""
        return runs(self._store)

    def active(self) -> list[dict[str, Any]]:
        """Describe those that have not ended: what would still be billed."""
        return active(self._store)

    def reset(self) -> None:
        """Forget everything and return to real time."""
        with self._store.lock:
            self._store.reset()

    def advance(self, seconds: float) -> None:
        """Move the clock forward, so that a test need not sleep."""
        with self._store.lock:
            self._store.clock.advance(seconds)

    def now(self) -> float:
        """Give the simulated time in epoch seconds."""
        return self._store.clock.now()
