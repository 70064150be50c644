# SPDX-License-Identifier: Apache-2.0
"""
Many questions for the state of a task instance in one.

A Dag run that is marked ends all its triggers at once. Each asks how its task is doing, and Airflow's one
channel takes a tenth of a second for each, in line: the hundred and fiftieth would not hear within its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseTrigger

#: In one question: run ids are part of a URL.
_MOST_RUNS = 200
#: Seconds after which the next question is sent, though the one before has no answer, and may never have one.
_LONGEST_TURN = 4.0


@dataclass(eq=False)
class _Question:
    """One that has not been sent yet."""

    answer: asyncio.Task[Mapping[str, Any]] = field(init=False)
    run_ids: set[str] = field(default_factory=set)
    map_indexes: set[int] = field(default_factory=set)


class StateQuestions:
    """
    The questions of one event loop: while one is answered, those that come join the next one.

    Each task has its own, since Airflow shows index 3 of a mapped ``t`` and a task ``t_3`` alike.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], _Question] = {}
        self._channel = asyncio.Lock()

    async def ask(self, task_instance: Any) -> Mapping[str, Any]:
        """
        Return the states of a task of a Dag run, by its name and, if it is mapped, its map index.

        :raises Exception: whatever Airflow's channel raises.
        """
        of_task = (str(task_instance.dag_id), str(task_instance.task_id))
        question = self._waiting.get(of_task)
        if question is None or len(question.run_ids) >= _MOST_RUNS:
            question = self._waiting[of_task] = _Question()
            question.answer = asyncio.create_task(self._answered(*of_task, question))
        question.run_ids.add(task_instance.run_id)
        question.map_indexes.add(task_instance.map_index)
        # One who gives up must not end it for the others, nor have its answer taken for the next one's.
        states: Mapping[str, Any] = (await asyncio.shield(question.answer)).get(task_instance.run_id, {})
        return states

    async def _answered(self, dag_id: str, task_id: str, question: _Question) -> Mapping[str, Any]:
        # Taken at call time: Airflow sets it when the triggerer starts.
        from airflow.sdk.execution_time import task_runner  # noqa: PLC0415
        from airflow.sdk.execution_time.comms import GetTaskStates  # noqa: PLC0415

        async with self._channel:
            if self._waiting.get((dag_id, task_id)) is question:
                del self._waiting[dag_id, task_id]
            index = question.map_indexes.pop() if len(question.map_indexes) == 1 else None
            asked: asyncio.Future[Any] = asyncio.ensure_future(
                task_runner.SUPERVISOR_COMMS.asend(
                    GetTaskStates(
                        dag_id=dag_id, task_ids=[task_id], run_ids=sorted(question.run_ids), map_index=index
                    )
                )
            )
            await asyncio.wait({asked}, timeout=_LONGEST_TURN)
        states: Mapping[str, Any] = (await asked).task_states
        return states


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, StateQuestions] = WeakKeyDictionary()
#: The first questions, which nobody else holds.
_ahead: set[asyncio.Task[Mapping[str, Any]]] = set()


def ask_ahead(task_instance: Any) -> None:
    """
    Ask once in each triggerer, as soon as a wait begins, whatever the answer is.

    For its first answer Airflow builds an API server of its own in there. That takes several seconds, on a
    busy machine twenty, which is longer than a killed trigger has.

    Below 3.3 Airflow kills no trigger, so that nobody will ask.

    :param task_instance: of the trigger; None where there is no triggerer (``dag.test()``).
    """
    loop = asyncio.get_running_loop()
    if task_instance is None or loop in _of_loop or not hasattr(BaseTrigger, "on_kill"):
        return
    questions = _of_loop[loop] = StateQuestions()
    asked = loop.create_task(questions.ask(task_instance))
    _ahead.add(asked)
    asked.add_done_callback(_ahead.discard)
    asked.add_done_callback(forget)


def forget(asked: asyncio.Future[Any]) -> None:
    """Take note that nobody needs an answer any more."""
    if not asked.cancelled():
        asked.exception()  # else asyncio would write that nobody has read it


async def states_of(task_instance: Any) -> Mapping[str, Any]:
    """Ask, together with whoever asks at the same time; see ``StateQuestions.ask``."""
    return await _of_loop.setdefault(asyncio.get_running_loop(), StateQuestions()).ask(task_instance)
