# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a task's run between its attempts, and the token by which a lost run is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.tracked import TrackedRun, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    What is known about the run of a task instance, kept outside XCom. Times are Unix seconds by our clock.

    Without ``run`` it is an intent: a create may have been sent, and its answer did not arrive.

    :param generation: changes when a user clears the task, and stays the same over its retries; stored as
        ``cycle``.
    :param token: sent in the run's metadata, to find a run whose create was never answered.
    :param intent_at: written before the paid request.
    :param thread_id: the thread the run was to be created on; where to search for it.
    :param fingerprint: a short hash of each argument, to name the ones that changed between attempts.
    :param run: the run, once its create has returned.
    :param deadline: of an intent that answers calls: when the window of the run ends.
    :param rounds: of an intent that answers calls: the rounds that are answered with it.
    :param ended_by_us: the run was cancelled by this package; a retry starts a new one.
    :param refused: the run completed, but its answer was not acceptable; a retry starts a new one.
    """

    generation: int
    token: str
    intent_at: float
    thread_id: str | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    run: TrackedRun | None = None
    deadline: float | None = None
    rounds: Rounds = field(default_factory=Rounds)
    ended_by_us: bool = False
    refused: bool = False

    @property
    def ref(self) -> RunRef | None:
        """The recorded run's ref; None of an intent."""
        return self.run.ref if self.run else None

    @property
    def visible_from(self) -> float:
        """When the run was created, as far as it is known; a 404 counts only some time after it."""
        return (self.run and self.run.created_at) or self.intent_at

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored; what says nothing is left out."""
        planned = {"deadline": self.deadline, "rounds": self.rounds.to_json() or None}
        values = {
            "cycle": self.generation,
            "token": self.token,
            "intent_at": self.intent_at,
            "thread_id": self.thread_id,
            "fingerprint": dict(self.fingerprint),
            **(self.run.to_json() if self.run else planned),
            "ended_by_us": self.ended_by_us or None,
            "refused": self.refused or None,
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, value: object) -> Record | None:
        """
        Read the stored form, also one of another version; None if there is nothing to go by.

        :raises RunRequestError: when it names a run that this version cannot read; to forget that run would
            be to pay twice.
        """
        if not isinstance(value, dict) or "token" not in value or "cycle" not in value:
            return None
        fingerprint = value.get("fingerprint")
        run = TrackedRun.from_json(value) if value.get("ref") else None
        return cls(
            generation=int(value["cycle"]),
            token=str(value["token"]),
            intent_at=seconds(value.get("intent_at")) or 0.0,
            thread_id=str(value["thread_id"]) if value.get("thread_id") else None,
            fingerprint=fingerprint if isinstance(fingerprint, dict) else {},
            run=run,
            deadline=None if run else seconds(value.get("deadline")),
            rounds=Rounds() if run else Rounds.from_json(value.get("rounds")),
            ended_by_us=bool(value.get("ended_by_us")),
            refused=bool(value.get("refused")),
        )

    def with_run(self, run: TrackedRun) -> Record:
        """Return the record of the same intent, now that its run is known."""
        return replace(self, run=replace(run, attempt_deadline=None), deadline=None, rounds=Rounds())

    def back_at(self, ref: RunRef) -> TrackedRun:
        """Return what is known of ``ref``: the recorded run, one that was found, or an earlier round's."""
        if self.run is not None and self.run.ref == ref:
            return self.run
        rounds = self.run.rounds if self.run else self.rounds
        deadline = self.run.deadline if self.run else self.deadline
        return TrackedRun(ref=ref, deadline=deadline, rounds=rounds.before(ref))

    def changed_arguments(self, fingerprint: Mapping[str, str]) -> tuple[str, ...]:
        """Name the arguments that differ from those of the recorded run."""
        if not self.fingerprint:
            return ()
        names = {*self.fingerprint, *fingerprint}
        return tuple(sorted(n for n in names if self.fingerprint.get(n) != fingerprint.get(n)))


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
