# SPDX-License-Identifier: Apache-2.0
"""A Dag run that is marked ends all its triggers at once, and each asks Airflow by the same channel."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_openai_runs.attempts import state_questions
from airflow_provider_openai_runs.attempts.state_questions import StateQuestions, states_of
from airflow_provider_openai_runs.simulator import Scenario
from airflow_provider_openai_runs.triggers import RunCompletionTrigger, completion
from tests.support.scene import Scene

if TYPE_CHECKING:
    from pytest_mock import MockerFixture


class Channel:
    """Airflow's: it answers one question after another, each of which takes a while."""

    def __init__(
        self,
        states: dict[str, dict[str, str | None]],
        *,
        seconds: float = 0.05,
        never: Collection[str] = (),
    ) -> None:
        self.asked: list[Any] = []
        self.failures: list[Exception] = []
        self._states = states
        self._seconds = seconds
        self._never = never
        self._line = asyncio.Lock()

    async def asend(self, question: Any) -> Any:
        if {*question.task_ids} & {*self._never}:
            self.asked.append(question)
            await asyncio.Event().wait()
        async with self._line:
            self.asked.append(question)
            await asyncio.sleep(self._seconds)
            if self.failures:
                raise self.failures.pop()
            return SimpleNamespace(task_states={run: self._states.get(run, {}) for run in question.run_ids})

    def send(self, _: Any) -> None:
        """Airflow below 3.3 masks secrets through it, too."""


def _task(run_id: str = "a_run", *, task_id: str = "ask", map_index: int = -1) -> Any:
    return SimpleNamespace(dag_id="a_dag", run_id=run_id, task_id=task_id, map_index=map_index)


@pytest.fixture
def airflow(mocker: MockerFixture) -> Any:
    def have(states: dict[str, dict[str, str | None]], **settings: Any) -> Channel:
        channel = Channel(states, **settings)
        mocker.patch("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", channel, create=True)
        return channel

    return have


@pytest.mark.parametrize("is_mapped", [True, False], ids=["of one mapped task", "of as many Dag runs"])
def test_a_hundred_and_fifty_triggers_that_are_ended_at_once_all_hear_why_and_end_their_runs(
    scene: Scene, mocker: MockerFixture, airflow: Any, is_mapped: bool
) -> None:
    count = 150
    scene.simulator.script(Scenario(queued=0, in_progress=500, times=None))
    tasks = [_task(map_index=n) if is_mapped else _task(f"run_{n}") for n in range(count)]
    states = (
        {"a_run": {f"ask_{n}": "failed" for n in range(count)}}
        if is_mapped
        else {f"run_{n}": {"ask": "failed"} for n in range(count)}
    )
    channel = airflow(states)
    mocker.patch.object(completion, "TRIGGER_ASK_SECONDS", 1.0)
    triggers = []
    for task in tasks:
        created = scene.post("/responses", model="m", input="Why?", background=True)["id"]
        trigger = RunCompletionTrigger(ref={"kind": "response", "id": created, "conn_id": "openai_default"})
        trigger.task_instance = task
        triggers.append(trigger)

    async def kill_all() -> None:
        await asyncio.gather(*(trigger.on_kill() for trigger in triggers))

    asyncio.run(kill_all())
    assert scene.simulator.active() == []
    assert len(channel.asked) <= 3


def test_a_task_and_an_index_of_a_mapped_one_are_not_taken_for_each_other(airflow: Any) -> None:
    channel = airflow({"a_run": {"ask_3": "failed"}})

    async def ask() -> None:
        await asyncio.gather(states_of(_task(map_index=3)), states_of(_task(task_id="ask_3")))

    asyncio.run(ask())
    assert sorted(question.task_ids for question in channel.asked) == [["ask"], ["ask_3"]]


def test_one_task_alone_is_asked_for_by_its_map_index(airflow: Any) -> None:
    channel = airflow({"a_run": {"ask_3": "failed"}})
    assert asyncio.run(states_of(_task(map_index=3))) == {"ask_3": "failed"}
    assert [question.map_index for question in channel.asked] == [3]


def test_a_question_that_fails_is_asked_anew_and_one_who_gives_up_takes_it_from_nobody(airflow: Any) -> None:
    channel = airflow({"a_run": {"ask_1": "failed", "ask_2": "deferred"}})
    channel.failures = [ConnectionError("away")]

    async def ask() -> Any:
        questions = StateQuestions()
        first = [asyncio.ensure_future(questions.ask(_task(map_index=n))) for n in (1, 2)]
        with pytest.raises(ConnectionError):
            await first[0]
        with pytest.raises(ConnectionError):
            await first[1]
        given_up, other = (asyncio.ensure_future(questions.ask(_task(map_index=n))) for n in (1, 2))
        await asyncio.sleep(0.01)
        given_up.cancel()
        return await other

    assert asyncio.run(ask())["ask_2"] == "deferred"
    assert len(channel.asked) == 2


def test_who_asks_while_an_answer_is_under_way_hears_a_later_one(airflow: Any) -> None:
    channel = airflow({"a_run": {"ask": "failed"}})

    async def ask() -> None:
        first = asyncio.ensure_future(states_of(_task()))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, *(states_of(_task()) for _ in range(20)))

    asyncio.run(ask())
    assert len(channel.asked) == 2


def test_a_question_that_is_never_answered_does_not_keep_the_next_one_from_being_asked(
    airflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_questions, "_LONGEST_TURN", 0.05)
    channel = airflow({"a_run": {"other": "failed"}}, never=["ask"])

    async def ask() -> Any:
        lost = asyncio.ensure_future(states_of(_task()))
        await asyncio.sleep(0.01)
        found = await asyncio.wait_for(states_of(_task(task_id="other")), 60)
        lost.cancel()
        return found

    assert asyncio.run(ask()) == {"other": "failed"}
    assert len(channel.asked) == 2


@pytest.mark.skipif(not hasattr(BaseTrigger, "on_kill"), reason="Airflow kills triggers from 3.3 on")
@pytest.mark.parametrize("fails", [False, True])
def test_a_triggerer_is_asked_once_when_its_first_wait_begins_since_its_first_answer_takes_long(
    scene: Scene, airflow: Any, *, fails: bool
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=500, times=None))
    channel = airflow({"a_run": {"ask": "deferred"}})
    channel.failures = [ConnectionError("away")] if fails else []

    async def wait_for_two() -> None:
        waits = []
        for _ in range(2):
            created = scene.post("/responses", model="m", input="Why?", background=True)["id"]
            trigger = RunCompletionTrigger(
                ref={"kind": "response", "id": created, "conn_id": "openai_default"}
            )
            trigger.task_instance = _task()
            waits.append(asyncio.ensure_future(anext(trigger.run())))
        await asyncio.sleep(0.3)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    asyncio.run(wait_for_two())
    assert len(channel.asked) == 1
