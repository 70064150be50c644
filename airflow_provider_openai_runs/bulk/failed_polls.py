# SPDX-License-Identifier: Apache-2.0
"""The polls of a task that failed, in one line of the log now and then: each of thousands has one to say."""

from __future__ import annotations

from airflow_provider_openai_runs.runs.failure import RequestFailure


class FailedPolls:
    """What became of the polls since the last line."""

    def __init__(self) -> None:
        self._polls = self._failed = 0
        self._last: RequestFailure | None = None

    def on_poll(self, brought: object) -> None:
        """Take note of what a poll brought; only a ``RequestFailure`` is of interest."""
        self._polls += 1
        if isinstance(brought, RequestFailure):
            self._failed += 1
            self._last = brought

    def line(self) -> str | None:
        """Return what there is to say, and begin anew; None if no poll has failed."""
        polls, failed, last = self._polls, self._failed, self._last
        self._polls, self._failed, self._last = 0, 0, None
        if last is None:
            return None
        return f"{failed} of the last {polls} polls failed, going on; the last one that did: {last}"
