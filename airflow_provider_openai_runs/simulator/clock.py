# SPDX-License-Identifier: Apache-2.0
"""The simulator's clock: real time, plus whatever a test has skipped."""

from __future__ import annotations

import time


class Clock:
    """Epoch seconds that only ever move forward, and faster when a test asks for it."""

    def __init__(self) -> None:
        self._origin = time.time() - time.monotonic()
        self._skipped = 0.0

    def now(self) -> float:
        """Give the simulated time in epoch seconds."""
        return self._origin + time.monotonic() + self._skipped

    def advance(self, seconds: float) -> None:
        """Skip `seconds` of time, so that a test of a long wait need not sleep."""
        if seconds < 0:
            raise ValueError(f"The clock only moves forward: cannot advance by {seconds} seconds.")
        self._skipped += seconds

    def reset(self) -> None:
        """Return to real time."""
        self._skipped = 0.0
