# SPDX-License-Identifier: Apache-2.0
"""Waits in tests: as long as it takes on a busy machine, and not for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

_SCHEDULED = Path("/proc/thread-self/schedstat")
#: Bounds what would hang; no test passes by it.
LONG_ENOUGH = 60.0


def until(holds: Callable[[], object]) -> None:
    """Wait until something is the case."""
    # A wait of an event, since tests replace time.sleep.
    ends, pause = time.monotonic() + LONG_ENOUGH, threading.Event()
    while not holds():
        assert time.monotonic() < ends, "it did not happen"
        pause.wait(0.01)


def waited_for_the_cpu() -> float:
    """Return for how many seconds this thread was ready and did not run, for others; 0.0 but on Linux."""
    return int(_SCHEDULED.read_text().split()[1]) / 1e9 if _SCHEDULED.exists() else 0.0
