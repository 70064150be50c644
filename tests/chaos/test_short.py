# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINUTES = "3"
"""Until the last play is started; then they end, and every run is given 30 s to end as well."""


@pytest.mark.chaos
def test_a_short_chaos_ends_without_duplicates_orphans_or_wrongly_cancelled_runs() -> None:
    without_ours = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    command = [sys.executable, "-u", "-m", "dev.chaos", "--short", "--minutes", MINUTES]
    said = []
    with subprocess.Popen(command, cwd=ROOT, env=without_ours, stdout=subprocess.PIPE, text=True) as chaos:  # noqa: S603 - our own
        for line in chaos.stdout or ():
            sys.stdout.write(line)
            said.append(line)

    assert "duplicates: 0  orphans: 0  wrongly cancelled: 0\n" in said
    assert chaos.returncode == 0
