# SPDX-License-Identifier: Apache-2.0
"""Waiting for a run, as a flow: a worker drives it with its own client, the triggerer with a shared one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_openai_runs.runs.budgets import POLL_TIMEOUT
from airflow_provider_openai_runs.runs.fate import Fate
from airflow_provider_openai_runs.runs.model import PollResult, RunRef
from airflow_provider_openai_runs.runs.plain import plain
from airflow_provider_openai_runs.runs.polling import Done, Outcome, PollAgain, PollPolicy, WaitLimits
from airflow_provider_openai_runs.runs.text import MAX_MESSAGE, MAX_STATUS, message_text
from airflow_provider_openai_runs.wire import Flow, flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import Sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitResult:
    """
    How a wait ended; what a trigger's event carries, so nothing large and nothing secret.

    :param raw_status: the run's status as its server calls it, at the last poll; stored as ``status``.
    :param fate: what became of the run itself.
    :param failure: why the run could not be polled; the stored key differs.
    """

    ref: RunRef
    outcome: Outcome
    fate: Fate
    raw_status: str | None = None
    failure: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the payload of a trigger's event."""
        values = {"ref": self.ref.to_json(), "outcome": self.outcome.value, "fate": self.fate.value}
        # An event that cannot be encoded kills the triggerer, with every wait in it.
        payload: dict[str, Any] = plain(values | {"status": self.raw_status, "trouble": self.failure})
        return payload

    @classmethod
    def from_json(cls, payload: Any) -> WaitResult:
        """
        Read an event.

        :raises ValueError: if it is not one of ours.
        """
        if not isinstance(payload, dict) or "outcome" not in payload:
            raise ValueError(f"This is no event of RunCompletionTrigger: {message_text(repr(payload))}")
        return cls(
            ref=RunRef.from_json(payload.get("ref")),
            outcome=Outcome(payload["outcome"]),
            fate=Fate(payload.get("fate", Fate.ENDED)),
            # An earlier version wrote them as they came.
            raw_status=_message(payload.get("status"), limit=MAX_STATUS),
            failure=_message(payload.get("trouble")),
        )


def _message(value: object, *, limit: int = MAX_MESSAGE) -> str | None:
    return None if value is None else message_text(value, limit=limit)


def wait(
    ref: RunRef,
    limits: WaitLimits,
    *,
    cancel_on_timeout: bool,
    cancel_wait: float,
    note: Callable[[int, str], None],
    clock: Callable[[], float] = time.time,
) -> Flow[WaitResult]:
    """
    Poll a run until it ends or its time is over; then cancel it before returning, if ``cancel_on_timeout``.

    :param cancel_wait: seconds to wait for the end of a cancelled run.
    :param note: receives level and text of a line for each change, never one for each poll.
    """
    waiting = PollPolicy(limits, started_at=clock())
    request = replace(wire_of(ref.kind).poll(ref), timeout=POLL_TIMEOUT)
    raw_status: str | None = None
    while True:
        try:
            polled = yield request
        except ApiRequestFailed as failed:
            decision = waiting.on_error(failed.failure, now=clock())
        else:
            raw_status = polled.raw_status
            decision = waiting.on_result(polled, now=clock())
        for level, line in decision.notes:
            note(level, f"{ref}: {line}")
        if isinstance(decision, PollAgain):
            yield Sleep(decision.seconds, refresh_connection=decision.refresh_connection)
            continue
        result = _result(ref, decision, raw_status)
        time_is_over = decision.outcome in {Outcome.WINDOW_OVER, Outcome.EXECUTION_TIMEOUT}
        if time_is_over and cancel_on_timeout:
            visible_by = limits.not_found_grace_until
            return (yield from _end(result, cancel_wait, visible_by=visible_by, polled=decision.polled))
        return result


def _result(ref: RunRef, finish: Done, raw_status: str | None) -> WaitResult:
    has_ended = finish.polled is not None and finish.polled.status.is_terminal
    return WaitResult(
        ref=ref,
        outcome=finish.outcome,
        fate=Fate.ENDED if has_ended else Fate.LEFT_RUNNING,
        raw_status=raw_status,
        failure=str(finish.failure) if finish.failure else None,
    )


def _end(
    result: WaitResult, cancel_wait: float, *, visible_by: float, polled: PollResult | None
) -> Flow[WaitResult]:
    ended = yield from flows.cancel(result.ref, wait=cancel_wait, visible_by=visible_by, polled=polled)
    now = ended.polled
    if now is not None and ended.came_too_late:
        outcome = Outcome.NEEDS_ACTION if now.needs_action else Outcome.ENDED
        return replace(result, outcome=outcome, fate=Fate.ENDED, raw_status=now.raw_status, failure=None)
    return replace(
        result,
        fate=ended.fate,
        raw_status=now.raw_status if now else result.raw_status,
        failure=str(ended.failure) if ended.failure else result.failure,
    )
