# SPDX-License-Identifier: Apache-2.0
"""Ends the run of an attempt that ends before it, in the few seconds that a kill leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from airflow_provider_openai_runs.attempts.last_requests import LastRequests, Watched, answer_of, started
from airflow_provider_openai_runs.runs.budgets import (
    CANCEL_WAIT,
    KILL_ASK_ON_LAST_TRY,
    KILL_ASK_PAUSE,
    KILL_ASK_SECONDS,
    KILL_POLL_SECONDS,
    KILL_RECORD_SECONDS,
    KILL_SAY_SECONDS,
    KILL_SECONDS,
    LEAST_REPLY_TIMEOUT,
    NOT_FOUND_GRACE,
)
from airflow_provider_openai_runs.runs.end_of_attempt import UNKNOWN, Cause, Ending, TaskState, ending_of
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.fate import Fate
from airflow_provider_openai_runs.runs.lost_create import runs_of
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.wire import Flow, flows, wire_of
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

_CALLS_LEFT = "It has ended; nobody answers its calls."


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """
    What became of it.

    :param touched: the run was cancelled, or its calls were closed: nobody can go on with it.
    :param is_loud: nobody may know of it any more but for the log.
    """

    text: str
    ref: RunRef | None = None
    touched: bool = False
    is_loud: bool = False


@dataclass(kw_only=True)
class RunEnding:
    """
    The end of one run, in the seconds from ``began`` on (monotonic).

    :param requests: how Airflow, the store and the server are asked.
    :param cancels: whether the user wants the run cancelled for this cause, and what the argument is called.
    :param retry_left: whether Airflow tries again after this attempt.
    """

    requests: LastRequests
    watched: Watched
    cause: Cause
    cancels: tuple[str, bool]
    retry_left: bool
    began: float

    @property
    def _ask_until(self) -> float:
        return self.began + (KILL_ASK_SECONDS if self.retry_left else KILL_ASK_ON_LAST_TRY)

    @property
    def _cancel_until(self) -> float:
        """Until when the end of the run is waited for; only after a kill somebody sends SIGKILL."""
        if self.cause is Cause.KILLED:
            return self.began + KILL_SECONDS - KILL_SAY_SECONDS
        return time.monotonic() + CANCEL_WAIT

    def _within(self, seconds: float) -> float:
        """Return until when to wait for an answer, so that a cancel still reaches the server."""
        return min(time.monotonic() + seconds, self._cancel_until - LEAST_REPLY_TIMEOUT)

    def end(self) -> EndedRun:
        """End what is watched, or leave it to another attempt."""
        watched, (argument, cancels) = self.watched, self.cancels
        asked = started(self._ask) if cancels else None
        ref = watched.ref or self._ref_of_the_create()
        if ref is None:
            if self._was_not_accepted():
                return EndedRun(text="Nothing had been created.")
            return self._unanswered(asked)
        is_known = self._is_known_to_others(ref)
        polled = self._poll(ref)
        has_ended = polled is not None and polled.status.is_terminal
        if polled is not None and has_ended and not polled.needs_action:
            return EndedRun(ref=ref, text=f"{ref}: {Fate.ENDED.sentence(raw_status=polled.raw_status)}")
        if asked is None:
            left = f"{ref}: {Fate.LEFT_RUNNING.sentence()} ({argument}=False)"
            return EndedRun(ref=ref, text=left, is_loud=not self.retry_left)
        if not is_known:
            fate = self._cancelled(ref, polled)
            text = f"{ref}: a later attempt, which knows nothing of it, has taken over. {fate}"
            return EndedRun(ref=ref, text=text, touched=True)
        state, ending = self._decided(asked)
        if ending is Ending.LEAVE_UNASKED:
            return EndedRun(
                ref=ref,
                is_loud=True,
                text=f"{ref}: Airflow did not say whether the task goes on. {Fate.LEFT_RUNNING.sentence()} "
                "It is left to the retry.",
            )
        if ending is Ending.LEAVE:
            return EndedRun(ref=ref, text=f"{ref}: {self._left_because(state)}")
        if has_ended and watched.close is None:
            return EndedRun(ref=ref, text=f"{ref}: {_CALLS_LEFT}")
        marks = {"refused": True} if has_ended else {"ended_by_us": True}
        if (ending is Ending.CANCEL_IF_OURS or has_ended) and not self._is_ours(ref, marks):
            return EndedRun(ref=ref, text=f"{ref}: a later attempt has taken over; the run is left to it.")
        text = self._closed(watched.close) if has_ended and watched.close else self._cancelled(ref, polled)
        return EndedRun(ref=ref, text=f"{ref}: {text}", touched=True)

    def _decided(self, asked: Future[TaskState]) -> tuple[TaskState, Ending]:
        state = (answer_of(asked, self._ask_until) if self._is_adoptable else None) or UNKNOWN
        return state, ending_of(self.cause, state, retry_left=self.retry_left, adoptable=self._is_adoptable)

    @property
    def _is_adoptable(self) -> bool:
        return self.requests.store.is_kept or wire_of(self.watched.kind).can_search

    def _left_because(self, state: TaskState) -> str:
        if state.name != "running":
            return f"the task is {state.name} elsewhere; the run is left to the retry."
        if self.cause is Cause.KILLED:
            return "the worker goes away, not the task; the run is left to the retry."
        return f"{Fate.LEFT_RUNNING.sentence()} It is left to the retry."

    # -- a create under way -------------------------------------------------------------------------------

    def _ref_of_the_create(self) -> RunRef | None:
        """Wait for the answer of the create; where it does not come, search for its run once."""
        create, intent, wire = self.watched.create, self.watched.intent, wire_of(self.watched.kind)
        if create is None or intent is None:
            return None
        # The search and the cancel take their time, too.
        until = self._ask_until - (KILL_POLL_SECONDS if wire.can_search else 0.0)
        create.done.wait(max(0.0, until - time.monotonic()))
        if isinstance(create.result, Run):
            return create.result.ref
        if self._was_not_accepted() or not wire.can_search:
            return None
        conn_id = self.watched.conn_id
        search = wire.search(
            thread_id=intent.thread_id, token=intent.token, since=intent.intent_at, conn_id=conn_id
        )
        asked = started(partial(self.requests.run_flow, search, conn_id, budget=KILL_POLL_SECONDS))
        found = answer_of(asked, self._within(KILL_POLL_SECONDS))
        return found.ref if found is not None else None

    def _was_not_accepted(self) -> bool:
        create = self.watched.create
        return create is not None and isinstance(create.result, RequestFailure) and create.result.not_accepted

    def _unanswered(self, asked: Future[TaskState] | None) -> EndedRun:
        runs = runs_of(self.watched.intent) if self.watched.intent else "a run"
        is_over = asked is not None and self._decided(asked)[1] is Ending.CANCEL
        next_step = (
            "A retry asks for it, or says what it cannot know."
            if self.retry_left and not is_over
            else "Nobody ends it: find it by its token (docs/reliability.md says how), and cancel it."
        )
        return EndedRun(
            text=f"A create was sent and is not answered: {runs} may be running and billing. {next_step}",
            is_loud=True,
        )

    # -- a run --------------------------------------------------------------------------------------------

    def _poll(self, ref: RunRef) -> PollResult | None:
        """Poll once, while Airflow answers: what has ended is not cancelled, what is not known is."""
        request = replace(wire_of(ref.kind).poll(ref), timeout=KILL_POLL_SECONDS)
        asked = started(partial(self.requests.run_flow, flows.single(request), ref.conn_id, budget=0.0))
        return answer_of(asked, self._within(KILL_POLL_SECONDS))

    def _cancelled(self, ref: RunRef, polled: PollResult | None) -> str:
        until = self._cancel_until
        wait = max(0.0, until - time.monotonic())
        cancel = flows.cancel(
            ref,
            wait=wait,
            visible_by=self._visible_by,
            polled=polled,
            # A server that has not answered the poll has no time for another one before SIGKILL.
            polls_first=self.cause is not Cause.KILLED,
        )
        asked = started(partial(self.requests.run_flow, cancel, ref.conn_id, budget=wait))
        if (ended := answer_of(asked, until)) is None:
            return f"{Fate.NOT_CANCELLED.sentence()} ({_why_not(asked)})"
        because = f" ({ended.failure})" if ended.failure and not ended.has_ended else ""
        return f"{ended.fate.sentence(raw_status=ended.raw_status)}{because}"

    @property
    def _visible_by(self) -> float:
        is_just_created = self.watched.ref is None
        return time.time() + NOT_FOUND_GRACE if is_just_created else self.watched.visible_by

    def _closed(self, close: Callable[[], Flow[str | None]]) -> str:
        """Answer the calls of a response with an error; left open they would block its conversation."""
        budget = KILL_POLL_SECONDS
        asked = started(partial(self.requests.run_flow, close(), self.watched.conn_id, budget=budget))
        answer_of(asked, self._cancel_until)
        if not asked.done() or asked.exception() is not None:
            return f"Its calls are left open in its conversation ({_why_not(asked)})."
        if asked.result() is None:
            return _CALLS_LEFT
        return "Its calls were answered with an error, so that its conversation can be used again."

    # -- Airflow ------------------------------------------------------------------------------------------

    def _ask(self) -> TaskState:
        """Ask again as long as there is time: Airflow's channel may be out of step, or its API restarts."""
        while True:
            try:
                return self.requests.state()
            except Exception:
                if time.monotonic() + KILL_ASK_PAUSE >= self._ask_until:
                    raise
                time.sleep(KILL_ASK_PAUSE)

    def _is_known_to_others(self, ref: RunRef) -> bool:
        """
        Whether another attempt would find the run of a create that was answered while this one ends.

        After a kill the attempt itself goes on, and writes it down. Without an answer of the store it holds
        that there is no other attempt.
        """
        if self.cause is Cause.KILLED or self.watched.intent is None:
            return True
        asked = started(partial(self.requests.keep, self.watched, ref))
        kept = answer_of(asked, time.monotonic() + KILL_RECORD_SECONDS)
        return kept is not False or wire_of(ref.kind).can_search

    def _is_ours(self, ref: RunRef, marks: Mapping[str, bool]) -> bool:
        """
        Whether the record still names this run and this attempt.

        Where the store cannot be asked either, what this attempt has written last holds: Airflow has no other
        attempt, unless a user has cleared it meanwhile.
        """
        asked = started(partial(self.requests.mark, self.watched, ref, **marks))
        return answer_of(asked, self._within(KILL_RECORD_SECONDS)) is not False


def _why_not(asked: Future[Any]) -> str:
    """Return what a request has come to that brought nothing; its connection may be gone."""
    if not asked.done():
        return "it was sent, and not answered in time"
    error = asked.exception()
    return str(error.failure) if isinstance(error, ApiRequestFailed) else type(error).__name__
