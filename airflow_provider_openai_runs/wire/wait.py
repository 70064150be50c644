# SPDX-License-Identifier: Apache-2.0
"""Waiting for a run, as a flow: a worker drives it with its own client, the triggerer with a shared one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_openai_runs.runs.error_of_run import Fate
from airflow_provider_openai_runs.runs.model import RunRef, plain
from airflow_provider_openai_runs.runs.polling import Finish, KeepWaiting, Outcome, Waiting, WaitLimits
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.wire import Flow, flows, wire_of
from airflow_provider_openai_runs.wire.errors import CallFailed
from airflow_provider_openai_runs.wire.protocol import Pause

#: One look may take this many seconds; a stuck one must not hide the end of the run for long.
_LOOK_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitResult:
    """
    How a wait ended; what a trigger's event carries, so nothing large and nothing secret.

    :param word: the run's status in the server's word, when last seen.
    :param fate: what became of the run itself.
    :param trouble: what kept the run from being looked at.
    """

    ref: RunRef
    outcome: Outcome
    fate: Fate
    word: str | None = None
    trouble: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the payload of a trigger's event."""
        values = {"ref": self.ref.to_json(), "outcome": self.outcome.value, "fate": self.fate.value}
        # An event that cannot be encoded kills the triggerer, with every wait in it.
        payload: dict[str, Any] = plain(values | {"status": self.word, "trouble": self.trouble})
        return payload

    @classmethod
    def from_json(cls, payload: Any) -> WaitResult:
        """
        Read an event.

        :raises ValueError: if it is not one of ours.
        """
        if not isinstance(payload, dict) or "outcome" not in payload:
            raise ValueError(f"This is no event of RunCompletionTrigger: {payload!r}")
        return cls(
            ref=RunRef.from_json(payload.get("ref")),
            outcome=Outcome(payload["outcome"]),
            fate=Fate(payload.get("fate", Fate.ENDED)),
            word=payload.get("status"),
            trouble=payload.get("trouble"),
        )


def wait(
    ref: RunRef,
    limits: WaitLimits,
    *,
    cancel_on_timeout: bool,
    cancel_wait: float,
    note: Callable[[str], None],
    clock: Callable[[], float] = time.time,
) -> Flow[WaitResult]:
    """
    Look at a run until it ends or its time is over; then, unless told otherwise, cancel it before returning.

    :param cancel_wait: seconds to wait for the end of a cancelled run.
    :param note: receives a line for each change, never one for each look.
    """
    waiting = Waiting(limits, started_at=clock())
    call = replace(wire_of(ref.kind).look(ref), timeout=_LOOK_TIMEOUT)
    word: str | None = None
    while True:
        try:
            look = yield call
        except CallFailed as failed:
            decision = waiting.on_trouble(failed.trouble, now=clock())
        else:
            word = look.word
            decision = waiting.on_look(look, now=clock())
        for line in decision.notes:
            note(f"{ref}: {line}")
        if isinstance(decision, KeepWaiting):
            yield Pause(decision.seconds, reconnect=decision.reconnect)
            continue
        result = _result(ref, decision, word)
        time_is_over = decision.outcome in {Outcome.WINDOW_OVER, Outcome.EXECUTION_TIMEOUT}
        if time_is_over and cancel_on_timeout:
            return (yield from _end(result, cancel_wait, visible_by=limits.not_found_grace_until))
        return result


def _result(ref: RunRef, finish: Finish, word: str | None) -> WaitResult:
    has_ended = finish.look is not None and finish.look.status.is_terminal
    return WaitResult(
        ref=ref,
        outcome=finish.outcome,
        fate=Fate.ENDED if has_ended else Fate.LEFT_RUNNING,
        word=word,
        trouble=str(finish.trouble) if finish.trouble else None,
    )


def _end(result: WaitResult, cancel_wait: float, *, visible_by: float) -> Flow[WaitResult]:
    flow = flows.cancel(result.ref, wait=cancel_wait, visible_by=visible_by)
    ended = yield from flows.patiently(flow, budget=cancel_wait + 5)
    if ended.look is not None and ended.look.status is RunStatus.COMPLETED:
        # The cancel came too late: the run has done its work, and has been paid for.
        return replace(result, outcome=Outcome.ENDED, fate=Fate.ENDED, word=ended.look.word)
    return replace(
        result,
        fate=fate_of(ended),
        word=ended.look.word if ended.look else result.word,
        trouble=str(ended.trouble) if ended.trouble else result.trouble,
    )


def fate_of(ended: flows.Cancelled) -> Fate:
    """Return what became of a run that was asked to end."""
    status = ended.look.status if ended.look else None
    if status is RunStatus.CANCELLED:
        return Fate.CANCELLED
    if ended.is_gone:
        return Fate.GONE
    if ended.has_ended:
        return Fate.ENDED
    return Fate.CANCELLING if ended.accepted else Fate.NOT_CANCELLED
