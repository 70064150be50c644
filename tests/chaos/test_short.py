# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINUTES = "3"
"""Until the last play is started; then they end, and every run is given 30 s to end as well."""


@pytest.fixture
def _terminated_as_interrupted() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.chaos
@pytest.mark.usefixtures("_terminated_as_interrupted")
def test_a_short_chaos_ends_without_duplicates_orphans_or_wrongly_cancelled_runs() -> None:
    without_ours = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    command = [sys.executable, "-u", "-m", "dev.chaos", "--short", "--minutes", MINUTES]
    said = []
    with subprocess.Popen(command, cwd=ROOT, env=without_ours, stdout=subprocess.PIPE, text=True) as chaos:  # noqa: S603 - our own
        try:
            for line in chaos.stdout or ():
                sys.stdout.write(line)
                said.append(line)
        except BaseException:
            chaos.terminate()  # it stops what it has started
            chaos.wait()
            raise

    clean = "duplicates: 0  orphans: 0  wrongly cancelled: 0  failed for good with a retry left: 0\n"
    assert clean in said
    assert chaos.returncode == 0
