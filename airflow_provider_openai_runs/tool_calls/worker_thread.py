# SPDX-License-Identifier: Apache-2.0
"""A daemon thread that runs one job after the other."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any


@dataclass(slots=True)
class Job:
    """One call, with the context variables of who asked for it; ``done`` is set when it has returned."""

    run: Callable[[], Any]
    context: Context
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None


class Worker:
    """
    A thread that starts with the first job and ends with its owner.

    Not a ThreadPoolExecutor: Python waits for its threads at exit, for one that hangs too.
    """

    def __init__(self, *, name: str) -> None:
        self._name = name
        self._end: Callable[[], object] | None = None
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()

    def start(self, job: Job) -> None:
        """Hand over a job; it runs after those before it."""
        if self._end is None:
            self._jobs = SimpleQueue()
            self._end = weakref.finalize(self, self._jobs.put, None)
            threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True).start()
        self._jobs.put(job)

    def leave_behind(self) -> None:
        """Give the thread up, with what it is doing; the next job gets another one."""
        if self._end is not None:
            self._end()
            self._end = None


def _work(jobs: SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        try:
            job.result = job.context.run(job.run)
        except BaseException as error:  # noqa: BLE001 # handed to who waits
            job.error = error
        job.done.set()
        del job
