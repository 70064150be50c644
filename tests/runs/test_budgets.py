# SPDX-License-Identifier: Apache-2.0
"""
What a killed attempt does fits into the time that Airflow leaves it.

The tests of kills have ten times as long (``tests/operators/conftest.py``): only this one holds the seconds.
"""

from __future__ import annotations

import inspect

import pytest
from airflow.sdk.execution_time.supervisor import WatchedSubprocess

from airflow_provider_openai_runs.bulk.driver import BulkDriver
from airflow_provider_openai_runs.runs import budgets

#: Seconds from Airflow's SIGTERM to its SIGKILL.
SIGKILL_AFTER = inspect.signature(WatchedSubprocess.kill).parameters["escalation_delay"].default
#: Seconds that a triggerer leaves ``on_kill`` (Airflow's ``[triggerer] on_kill_timeout``).
ON_KILL = 30.0
#: A server in the same region answers a cancel sooner.
A_CANCEL = 0.5
#: Seconds after SIGTERM at which the run is ended, or never will be.
ENDED_BY = budgets.KILL_SECONDS - budgets.KILL_SAY_SECONDS


def test_an_attempt_has_ended_its_run_and_said_so_before_sigkill() -> None:
    assert 0 < budgets.KILL_SAY_SECONDS < budgets.KILL_SECONDS
    assert budgets.KILL_SECONDS + budgets.KILL_SAY_SECONDS < SIGKILL_AFTER


def test_a_sleeping_attempt_notices_the_kill_while_its_run_is_being_ended() -> None:
    assert budgets.KILL_NOTICE_SECONDS < A_CANCEL


def test_a_cancel_has_its_time_after_airflow_was_asked_for_as_long_as_it_may_be() -> None:
    assert ENDED_BY - budgets.KILL_ASK_SECONDS > A_CANCEL


def test_on_the_last_attempt_a_cancel_has_the_time_of_a_reply_after_airflow_and_the_record() -> None:
    asked_by = budgets.KILL_ASK_ON_LAST_TRY + budgets.KILL_RECORD_SECONDS

    assert ENDED_BY - asked_by >= budgets.LEAST_REPLY_TIMEOUT


@pytest.mark.parametrize("asked", [budgets.KILL_ASK_SECONDS, budgets.KILL_ASK_ON_LAST_TRY])
def test_a_create_is_waited_for_before_its_run_is_searched_for(asked: float) -> None:
    assert asked - budgets.KILL_POLL_SECONDS > budgets.KILL_POLL_SECONDS


def test_a_bulk_task_has_ended_its_runs_and_said_so_before_sigkill() -> None:
    noticed = budgets.KILL_NOTICE_SECONDS + BulkDriver.tick

    assert budgets.BULK_KILL_SECONDS + noticed + budgets.KILL_SAY_SECONDS < SIGKILL_AFTER


def test_a_bulk_task_has_most_of_that_time_for_its_cancels() -> None:
    assert budgets.BULK_KILL_ASK_SECONDS < budgets.BULK_KILL_SECONDS / 2


def test_a_trigger_has_ended_its_runs_before_airflow_gives_its_on_kill_up() -> None:
    one = budgets.TRIGGER_KILL_WAIT + budgets.CLOSE_BUDGET

    assert budgets.TRIGGER_ASK_SECONDS + max(one, budgets.BULK_TRIGGER_KILL_WAIT) < ON_KILL
