# SPDX-License-Identifier: Apache-2.0
"""What the retry policy decides; it needs Airflow 3.3, and reschedules from 3.4 on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_openai_runs.exceptions import (
    OpenAIRunError,
    RunCallError,
    RunFailedError,
    RunRequestError,
    ThreadBusyError,
    as_airflow,
)

sdk = pytest.importorskip("airflow.sdk")
if not hasattr(sdk, "RetryPolicy"):
    pytest.skip("Airflow has retry policies from 3.3 on", allow_module_level=True)

from airflow_provider_openai_runs.retry import OpenAIRunRetryPolicy  # noqa: E402 - 3.3+

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Rescheduled:
    """What Airflow 3.4's ``RetryDecision.reschedule`` returns, as far as it matters."""

    delay: timedelta | None
    reschedule_timeout: timedelta
    reason: str


@pytest.fixture(params=[False, True], ids=["3.3", "3.4"])
def reschedules(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let the policy run on an Airflow with and without rescheduling."""
    if request.param:
        monkeypatch.setattr("airflow.sdk.RetryDecision.reschedule", Rescheduled, raising=False)
    elif hasattr(sdk.RetryDecision, "reschedule"):
        monkeypatch.delattr("airflow.sdk.RetryDecision.reschedule")
    return bool(request.param)


def decided(error: BaseException, **settings: Any) -> Any:
    return OpenAIRunRetryPolicy(**settings).evaluate(error, 1, 3)


@pytest.mark.parametrize(
    ("error", "delay"),
    [(RunCallError("429", retry_after=60), MINUTE), (ThreadBusyError("busy"), None)],
    ids=["a 429 with its time", "a busy thread"],
)
def test_a_server_without_room_costs_no_retry_where_airflow_can_reschedule(
    error: OpenAIRunError, delay: timedelta | None, reschedules: bool
) -> None:
    found = decided(as_airflow(error))

    if reschedules:
        assert (found.delay, found.reschedule_timeout) == (delay, timedelta(hours=24))
    else:
        assert found == (
            sdk.RetryDecision.retry(MINUTE, found.reason) if delay else sdk.RetryDecision.default()
        )


def test_without_a_bound_nothing_is_rescheduled(reschedules: bool) -> None:
    del reschedules
    found = decided(RunCallError("429", retry_after=60), reschedule_timeout=None)

    assert (found.action.value, found.retry_delay) == ("retry", MINUTE)


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (RunRequestError("wrong"), "fail"),
        (RunCallError("no quota", retryable=False), "fail"),
        (RunFailedError("the run failed"), "default"),
        (RunFailedError("the run failed", retry_after=60), "retry"),
        (OSError("not ours"), "default"),
    ],
)
def test_what_else_happens_is_retried_or_fails(error: BaseException, action: str, reschedules: bool) -> None:
    del reschedules
    assert decided(error).action.value == action


def test_while_the_task_has_a_run_a_server_without_room_costs_a_retry(reschedules: bool) -> None:
    del reschedules
    ref = {"kind": "thread_run", "id": "run_1", "thread_id": "thread_1", "conn_id": "ai"}
    refused = as_airflow(RunCallError("429", retry_after=60)).about(ref=ref)
    assert (decided(refused).action.value, decided(refused).retry_delay) == ("retry", MINUTE)
    assert decided(as_airflow(ThreadBusyError("busy")).about(ref=ref)).action.value == "default"


def test_airflow_itself_takes_the_decision() -> None:
    found = decided(RunCallError("429", retry_after=60))

    assert found.action.value == ("reschedule" if hasattr(sdk.RetryDecision, "reschedule") else "retry")
    assert found.retry_delay == MINUTE


@pytest.mark.skipif(not hasattr(sdk, "ChainRetryPolicy"), reason="Airflow has it from 3.4 on")
def test_in_a_chain_it_leaves_to_the_next_policy_what_is_not_its_own() -> None:
    rules = [sdk.RetryRule(exception=OSError, action=sdk.RetryAction.FAIL)]
    chain = sdk.ChainRetryPolicy([OpenAIRunRetryPolicy(), sdk.ExceptionRetryPolicy(rules=rules)])

    assert chain.evaluate(OSError("not ours"), 1, 3).action.value == "fail"
    assert chain.evaluate(RunCallError("429", retry_after=60), 1, 3).action.value == "reschedule"


@pytest.mark.parametrize("timeout", [None, timedelta(hours=2)])
def test_the_settings_survive_storage_and_what_an_older_version_stored_is_read(
    timeout: timedelta | None,
) -> None:
    stored = OpenAIRunRetryPolicy(reschedule_timeout=timeout).serialize()

    assert OpenAIRunRetryPolicy.deserialize(stored).reschedule_timeout == timeout
    assert OpenAIRunRetryPolicy.deserialize({}).reschedule_timeout == timedelta(hours=24)
