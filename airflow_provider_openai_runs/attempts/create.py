# SPDX-License-Identifier: Apache-2.0
"""Sends what is paid for: its intent is on record before it, its run right after it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from airflow_provider_openai_runs.attempts.ledger import Ledger
from airflow_provider_openai_runs.attempts.record_store import RecordStore, SavedIntent
from airflow_provider_openai_runs.attempts.runs_api import RunsApi
from airflow_provider_openai_runs.runs.acquisition import Create, NotCreated
from airflow_provider_openai_runs.runs.budgets import (
    LAST_READ_BUDGET,
    LEAST_REPLY_TIMEOUT,
    NOT_FOUND_GRACE,
    ZOMBIE_CANCEL_WAIT,
)
from airflow_provider_openai_runs.runs.error_of_run import error_of_run
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.record import NoLongerOwnerError, Record, new_token
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.tracked import TrackedRun
from airflow_provider_openai_runs.wire import Answer

Send = Callable[[], Run | RequestFailure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquired:
    """
    The run that belongs to this task instance.

    :param created: what its create answered; None of a run of an earlier attempt.
    :param finished: it has done its work already, and only has to be read.
    """

    run: TrackedRun
    created: Run | None = None
    finished: bool = False

    @property
    def ended(self) -> Run | None:
        """The run as its create answered, if it had ended by then, or waits for its calls."""
        run = self.created
        return run if run is not None and (run.status.is_terminal or run.needs_action) else None


@dataclass(kw_only=True)
class RunCreator:
    """
    Creates the runs of one task instance.

    :param ledger: keeps account of what is paid for.
    :param identity: Dag id, Dag run id, task id, map index.
    :param generation: ``max_tries``, which a clear changes and a retry does not.
    :param attempt: the task's try number.
    :param window: seconds to wait for the run; None is fire and forget.
    :param timeouts: budgets in seconds.
    :param send_paid: sends a create, given its intent.
    :param before_paying: raises what would go wrong once the run has ended, as far as it can be known.
    """

    api: RunsApi
    request: RunRequest
    store: RecordStore
    ledger: Ledger
    identity: tuple[object, ...]
    generation: int
    window: float | None
    timeouts: Mapping[str, float]
    attempt: int | None = None
    send_paid: Callable[[Record, Send], Run | RequestFailure] = lambda _, send: send()
    before_paying: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.time

    def create(
        self,
        step: Create,
        *,
        before: Record | None,
        gives_up_at: float,
        closing: tuple[Mapping[str, Any], ...] = (),
    ) -> Acquired | NotCreated:
        """
        Create the run, or take over the one whose calls the request answers.

        :param before: what is on record.
        :param gives_up_at: Unix seconds after which an answer is not waited for.
        :param closing: answers to the calls of a response that block the conversation.
        """
        self.before_paying()
        if self.request.answers is not None:
            return self._taken_over(self.request.answers)
        budget = min(LAST_READ_BUDGET, max(LEAST_REPLY_TIMEOUT, (gives_up_at - self.clock()) / 2))
        self.ledger.settle_ended(lambda ref: self.api.retrieve(ref, budget=budget))
        self.ledger.check(self.api.conn_id)
        # The thread is on record before a run on it is paid for.
        thread_id = self.request.thread_id or step.thread_id or self._new_thread()

        def send(intent: SavedIntent) -> Run | RequestFailure:
            timeout = max(LEAST_REPLY_TIMEOUT, gives_up_at - self.clock())
            return self.api.create(intent, thread_id=thread_id, timeout=timeout, closing=closing)

        doing = f"create a {self.request.noun}"
        intent = self._intent(thread_id=thread_id, token=step.token, lost=step.lost)
        self.ledger.open(intent.token, self.api.conn_id)
        return self._send(intent, send, before=before, doing=doing)

    def answer(
        self,
        parent: Run,
        outputs: Mapping[str, Answer],
        *,
        rounds: Rounds,
        deadline: float | None,
        before: Record | None,
        gives_up_at: float,
        lost: tuple[str, ...] = (),
    ) -> Acquired | NotCreated:
        """
        Create the run that answers the calls of ``parent``.

        :param rounds: what is to be remembered then.
        :param lost: the tokens of the creates of this generation that were not answered.
        """
        self.ledger.settle(parent)
        intent = self._intent(thread_id=None, lost=lost)
        intent = replace(intent, kind=parent.ref.kind, rounds=rounds, deadline=deadline)
        is_first_of_another = self.request.answers is not None and rounds.answered == 1
        request = self.request if is_first_of_another else _free_to_answer(self.request)

        def send(saved: SavedIntent) -> Run | RequestFailure:
            timeout = max(LEAST_REPLY_TIMEOUT, gives_up_at - self.clock())
            return self.api.answer(saved, parent, outputs, request, timeout=timeout)

        self.ledger.open_answer(intent.token, parent, outputs)
        return self._send(intent, send, before=before, doing=f"answer the calls of {parent.ref}")

    def _intent(
        self, *, thread_id: str | None, token: str | None = None, lost: tuple[str, ...] = ()
    ) -> Record:
        return Record(
            generation=self.generation,
            token=token or new_token((*self.identity, self.generation), random_part=secrets.token_hex(8)),
            intent_at=self.clock(),
            kind=self.request.kind,
            conn_id=self.api.conn_id,
            thread_id=thread_id,
            fingerprint=self.request.fingerprint(),
            account=self.api.account(self.api.conn_id),
            attempt=self.attempt,
            lost=lost,
        )

    def _send(
        self,
        intent: Record,
        send: Callable[[SavedIntent], Run | RequestFailure],
        *,
        before: Record | None,
        doing: str,
    ) -> Acquired | NotCreated:
        saved = self._saved(intent, before)
        reply = self.send_paid(intent, partial(send, saved))
        if not isinstance(reply, RequestFailure):
            return self._created(intent, reply)
        if reply.not_accepted:
            self.ledger.release(intent.token)
        active = reply.active_run_id and RunRef(
            kind=self.request.kind,
            id=reply.active_run_id,
            thread_id=intent.thread_id,
            conn_id=self.api.conn_id,
        )
        return NotCreated(
            intent=intent,
            before=before,
            failure=reply,
            error=self.api.error_of(reply, doing),
            active_run=active or None,
        )

    def _saved(self, intent: Record, before: Record | None) -> SavedIntent:
        """Save an intent, or take it back: a retry would take it for a create that was sent."""
        try:
            saved = self.store.save_intent(intent)
            self.api.sleep(0)  # which goes no further once the task is killed
        except NoLongerOwnerError:
            raise
        except BaseException:
            self.ledger.release(intent.token)
            with suppress(Exception):  # what ended the attempt matters more
                self.store.save(before)
            raise
        return saved

    def _created(self, intent: Record, reply: Run) -> Acquired:
        now = self.clock()
        window_ends = None if self.window is None else now + self.window
        deadline = window_ends if intent.deadline is None else intent.deadline
        run = TrackedRun(ref=reply.ref, created_at=now, deadline=deadline, rounds=intent.rounds)
        try:
            self.store.save(intent.with_run(run))
        except NoLongerOwnerError as error:
            ended = self.api.cancel(run.ref, wait=ZOMBIE_CANCEL_WAIT, visible_by=now + NOT_FOUND_GRACE)
            fate = "cancelled" if ended.has_ended else "not cancelled and may be running and billing"
            raise RunCallError(
                f"This attempt is no longer the task's: a later one has taken over. {run.ref}, which it "
                f"had just created, was {fate}."
            ) from error
        return Acquired(run=run, created=reply)

    def _new_thread(self) -> str | None:
        created = self.api.create_thread(budget=self.timeouts["create"])
        if isinstance(created, RequestFailure):
            raise self.api.error_of(created, "create a thread")
        return created

    def _taken_over(self, ref: RunRef) -> Acquired:
        """Own a run that somebody else has created and that waits for its answer; nothing is paid yet."""
        run = self.api.retrieve(ref, budget=self.timeouts["read"])
        if isinstance(run, RequestFailure):
            raise self.api.error_of(run, f"read {ref}")
        if not run.needs_action:
            raise _waits_for_nothing(run)
        now = self.clock()
        deadline = None if self.window is None else now + self.window
        tracked = TrackedRun(ref=ref, created_at=now, deadline=deadline)
        self.store.save(self._intent(thread_id=None).with_run(tracked))
        return Acquired(run=tracked, created=run)


def _waits_for_nothing(run: Run) -> OpenAIRunError:
    return error_of_run(run, is_ours=False) or RunCallError(
        f"{run.ref.subject} waits for no answer: its status is {run.raw_status}. Nothing was sent.",
        retryable=False,
    )


def _free_to_answer(request: RunRequest) -> RunRequest:
    """Let the model choose: one that has to call a function would do so again, and never come to an end."""
    choice = request.body.get("tool_choice")
    if choice is None or choice in ("auto", "none"):
        return request
    allows = isinstance(choice, Mapping) and choice.get("type") == "allowed_tools"
    free = {**choice, "mode": "auto"} if allows else "auto"
    return replace(request, body={**request.body, "tool_choice": free})
