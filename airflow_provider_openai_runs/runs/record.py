# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a task's run between its attempts, and the token by which a lost run is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.budgets import NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.request import changed_arguments
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.times import visible_by
from airflow_provider_openai_runs.runs.tracked import TrackedRun, seconds

#: The key under which a record is stored together with what was spent; alone, it is no record.
SPENDING = "spending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    What is known about the run of a task instance, kept outside XCom. Times are Unix seconds by our clock.

    Without ``run`` it is an intent: a create may have been sent, and its answer did not arrive.

    :param generation: changes when a user clears the task, and stays the same over its retries; stored as
        ``cycle``. None where it cannot be read.
    :param token: sent in the run's metadata, to find a run whose create was never answered; empty where it
        cannot be read.
    :param intent_at: written before the paid request.
    :param kind: of an intent: the kind of run that its create asks for; earlier versions did not say.
    :param conn_id: of an intent: the connection that it is sent with; a Dag may name another one by now.
    :param thread_id: the thread the run was to be created on; where to search for it.
    :param fingerprint: a short hash of each argument, to name the ones that changed between attempts.
    :param account: where the create was sent; None where an earlier version did not say.
    :param attempt: the task's try number that created the run; None where it is not known.
    :param run: the run, once its create has returned.
    :param deadline: of an intent that answers calls: when the window of the run ends.
    :param rounds: of an intent that answers calls: the rounds that are answered with it.
    :param lost: the tokens of earlier creates of this generation that were not answered, oldest first.
    :param failure: of an intent: why its create was not answered.
    :param ended: the run has ended, and an attempt has seen it.
    :param ended_by_us: the run was cancelled by this package; a retry starts a new one.
    :param refused: the run completed, but its answer was not acceptable; a retry starts a new one.
    :param unreadable: what of the stored form cannot be read: a run may be behind it.
    """

    generation: int | None
    token: str
    intent_at: float
    kind: str = ""
    conn_id: str = ""
    thread_id: str | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    attempt: int | None = None
    run: TrackedRun | None = None
    deadline: float | None = None
    rounds: Rounds = field(default_factory=Rounds)
    lost: tuple[str, ...] = ()
    failure: str | None = None
    ended: bool = False
    ended_by_us: bool = False
    refused: bool = False
    unreadable: str | None = None

    @property
    def ref(self) -> RunRef | None:
        """The recorded run's ref; None of an intent."""
        return self.run.ref if self.run else None

    def visible_by(self, now: float) -> float:
        """As of its run; of one that was found by its token, by the time of the intent."""
        since = (self.run and self.run.created_at) or self.intent_at
        return visible_by(since, now=now, within=NOT_FOUND_GRACE)

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored; what says nothing is left out."""
        planned = {
            "kind": self.kind or None,
            "conn_id": self.conn_id or None,
            "deadline": self.deadline,
            "rounds": self.rounds.to_json() or None,
        }
        values = {
            "cycle": self.generation,
            "token": self.token,
            "intent_at": self.intent_at,
            "thread_id": self.thread_id,
            "fingerprint": dict(self.fingerprint),
            "account": self.account and self.account.to_json(),
            "attempt": self.attempt,
            **(self.run.to_json() if self.run else planned),
            "lost": list(self.lost) or None,
            "failure": self.failure,
            "ended": self.ended or None,
            "ended_by_us": self.ended_by_us or None,
            "refused": self.refused or None,
            "unreadable": self.unreadable,
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, value: object) -> Record | None:
        """
        Read the stored form, also a damaged one or one of another version; None only if nothing is stored.

        What can be read is used. What cannot is ``unreadable``, and never no record: to forget a run would be
        to pay twice.
        """
        if value is None or (isinstance(value, dict) and set(value) == {SPENDING}):
            return None
        stored = value if isinstance(value, dict) else {}
        generation, token = _integer(stored.get("cycle")), stored.get("token")
        fingerprint, lost = stored.get("fingerprint"), stored.get("lost")
        run, unreadable = None, _text(stored.get("unreadable"))
        if stored.get("ref") is not None:
            try:
                run = TrackedRun.from_json(stored)
            except RunRequestError as error:
                unreadable = unreadable or message_text(error)
        if run is None and (generation is None or not isinstance(token, str) or not token):
            unreadable = unreadable or message_text(repr(value))
        return cls(
            generation=generation,
            token=token if isinstance(token, str) else "",
            intent_at=seconds(stored.get("intent_at")) or 0.0,
            kind=(not run and _text(stored.get("kind"))) or "",
            conn_id=(not run and _text(stored.get("conn_id"))) or "",
            thread_id=_text(stored.get("thread_id")),
            fingerprint=fingerprint if isinstance(fingerprint, dict) else {},
            account=Account.from_json(stored.get("account")),
            attempt=_integer(stored.get("attempt")),
            run=run,
            deadline=None if run else seconds(stored.get("deadline")),
            rounds=Rounds() if run else Rounds.from_json(stored.get("rounds")),
            lost=tuple(map(str, lost)) if isinstance(lost, list) else (),
            failure=_text(stored.get("failure")),
            ended=bool(stored.get("ended")),
            ended_by_us=bool(stored.get("ended_by_us")),
            refused=bool(stored.get("refused")),
            unreadable=unreadable,
        )

    def with_run(self, run: TrackedRun) -> Record:
        """Return the record of the same intent, now that its run is known."""
        run = replace(run, attempt_deadline=None)
        return replace(self, run=run, kind="", conn_id="", deadline=None, rounds=Rounds(), failure=None)

    def back_at(self, ref: RunRef) -> TrackedRun:
        """Return what is known of ``ref``: the recorded run, one that was found, or an earlier round's."""
        if self.run is not None and self.run.ref == ref:
            return self.run
        rounds = self.run.rounds if self.run else self.rounds
        deadline = self.run.deadline if self.run else self.deadline
        return TrackedRun(ref=ref, deadline=deadline, rounds=rounds.before(ref))

    def changed_arguments(self, fingerprint: Mapping[str, str]) -> tuple[str, ...]:
        """Name the arguments that differ from those of the recorded run."""
        return changed_arguments(self.fingerprint, fingerprint)


def _integer(value: object) -> int | None:
    """Return a stored whole number, which an earlier version may have written as text."""
    try:
        return None if isinstance(value, bool) else int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return None


def _text(value: object) -> str | None:
    return str(value) if value else None


class NoLongerOwnerError(Exception):
    """The store no longer knows this attempt: a later one has taken its place."""


def new_token(identity: tuple[object, ...], *, random_part: str) -> str:
    """
    Return the token of one intent: a hash of the task instance and its generation, then something random.

    :param identity: Dag id, Dag run id, task id, map index, generation.
    """
    return f"{token_prefix(identity)}{random_part}"


def token_prefix(identity: tuple[object, ...]) -> str:
    """Return the part of the token that every attempt of the same generation can compute again."""
    digest = hashlib.sha256(json.dumps([str(part) for part in identity]).encode()).hexdigest()
    return f"{digest[:24]}/"
