# SPDX-License-Identifier: Apache-2.0
"""Ending runs: their tasks first, so that the package's own cancel runs; then what has no live task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from airflow_provider_openai_runs.cli.airflow_api import AirflowApi, AirflowApiError
from airflow_provider_openai_runs.cli.connections import Connections
from airflow_provider_openai_runs.cli.found import Finder, FoundRun

#: Seconds that a worker or a triggerer has to cancel the run of its task, once that is marked.
_SECONDS_TO_CANCEL = 20.0
_PAUSE = 1.0


class Step(StrEnum):
    """What is done next about a run; as people read it."""

    MARK = "mark its task failed"
    WAIT = "wait until its task has cancelled it"
    CANCEL = "cancel it by its connection"
    GIVE_UP = "name it: nobody here can end it"
    DONE = "nothing: it has ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """
    The mark that was set on a task.

    :param at: Unix seconds.
    :param heard: whether somebody hears of it, and cancels the run: its worker, or the triggerer.
    """

    at: float
    heard: bool


def next_step(run: FoundRun, mark: Mark | None, *, now: float) -> Step:
    """
    Decide what to do about a run.

    :param mark: of its task, if one was set.
    :param now: Unix seconds.
    """
    if run.active is False:
        return Step.DONE
    if run.task.is_live and mark is None:
        return Step.MARK
    if mark is not None and mark.heard and now < mark.at + _SECONDS_TO_CANCEL:
        return Step.WAIT
    return Step.GIVE_UP if run.ref is None or run.raw_status is None else Step.CANCEL


class Stopper:
    """
    Ends runs and watches that they end.

    :param deferred_hears: whether the mark of a deferred task cancels its run (Airflow 3.3).
    :param say: takes each line of what is done.
    """

    def __init__(
        self,
        api: AirflowApi,
        connections: Connections,
        *,
        deferred_hears: bool,
        say: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._connections = connections
        self._finder = Finder(api, connections)
        self._hearing = {"running", "restarting"} | ({"deferred"} if deferred_hears else set())
        self._say = say
        self._sleep = sleep
        self._clock = clock
        self._marks: dict[object, Mark] = {}

    def stop(self, runs: Sequence[FoundRun]) -> list[FoundRun]:
        """Return the runs that may go on all the same, with the reason as their note."""
        left: list[FoundRun] = []
        while runs:
            waiting = []
            for run in runs:
                match step := next_step(run, self._marks.get(run.task.key), now=self._clock()):
                    case Step.DONE:
                        self._say(f"{run.id} of {run.task} has ended ({run.raw_status})")
                    case Step.GIVE_UP:
                        left.append(run)
                    case Step.MARK if (refused := self._mark(run)) is not None:
                        left.append(replace(run, note=refused))
                    case Step.CANCEL if (refused := self._cancel(run)) is not None:
                        left.append(replace(run, note=refused))
                    case Step.MARK | Step.WAIT:
                        waiting.append(run)
                    case Step.CANCEL:
                        pass
                    case _:
                        assert_never(step)
            if waiting:
                self._sleep(_PAUSE)
            runs = [again for run in waiting for again in self._again(run)]
        return left

    def _mark(self, run: FoundRun) -> str | None:
        """Mark a task as failed; return why that is not possible."""
        state = run.task.state
        try:
            self._api.mark_failed(run.task)
        except AirflowApiError as error:
            # Its run is not cancelled by the connection: the task would go on, and perhaps create another.
            return f"Its task is still {state} and could not be marked: {error}"
        self._say(f"{run.id}: marked {run.task} as failed (it was {state})")
        self._marks[run.task.key] = Mark(at=self._clock(), heard=state in self._hearing)
        return None

    def _cancel(self, run: FoundRun) -> str | None:
        """Cancel a run by its connection; return what is wrong if it has not ended."""
        assert run.ref is not None  # noqa: S101 # next_step has seen to it
        account = run.record.account if run.record is not None else None
        result = self._connections.cancel(run.ref, account)
        if result is not None and result.has_ended:
            self._say(f"{run.id} of {run.task}: {result.fate.sentence(raw_status=result.raw_status)}")
            return None
        if result is None:
            return run.note
        return f"{result.fate.sentence(raw_status=result.raw_status)} {result.failure or ''}".strip()

    def _again(self, run: FoundRun) -> list[FoundRun]:
        """Read a task and its run again: it may have created it meanwhile, or another one."""
        try:
            return self._finder.runs_of([self._api.task_instance(run.task)])
        except AirflowApiError as error:
            return [replace(run, note=str(error))]
