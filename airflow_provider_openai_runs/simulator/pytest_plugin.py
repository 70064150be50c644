# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin for the tests of Dags: a simulator with a connection to it.

pytest loads it in every session of everybody who has this package: it imports nothing heavy before use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_openai_runs.simulator.server import Simulator


@pytest.fixture(scope="session")
def _openai_runs_server() -> Iterator[Simulator]:
    from airflow_provider_openai_runs.simulator.server import Simulator  # noqa: PLC0415 - only when used

    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def openai_runs_simulator(
    _openai_runs_server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Simulator]:
    """Give a simulator that has forgotten everything; the connection `openai_default` leads to it."""
    _openai_runs_server.reset()
    monkeypatch.setenv("AIRFLOW_CONN_OPENAI_DEFAULT", _openai_runs_server.connection_json)
    yield _openai_runs_server
    _openai_runs_server.reset()
