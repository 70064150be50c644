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


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """
    What is known about the run of a task instance, kept outside XCom. Times are Unix seconds by our clock.

    :param cycle: changes when a user clears the task, and stays the same over its retries.
    :param token: sent in the run's metadata, to find a run whose create call was never answered.
    :param intent_at: written before the paid call.
    :param created_at: when the create call returned.
    :param thread_id: the thread the run was to be created on; where to search for it.
    :param fingerprint: a short hash of each argument, to name the ones that changed between attempts.
    :param ended_by_us: the run was cancelled by this package; a retry starts a new one.
    :param refused: the run completed, but its answer was not acceptable; a retry starts a new one.
    :param rounds: the rounds of calls that were answered; the last of them by the create that this is about.
    """

    generation: int
    token: str
    intent_at: float
    thread_id: str | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    ref: RunRef | None = None
    created_at: float | None = None
    deadline: float | None = None
    ended_by_us: bool = False
    refused: bool = False
    rounds: Rounds = field(default_factory=Rounds)

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored; what says nothing is left out."""
        values = {
            "cycle": self.generation,
            "token": self.token,
            "intent_at": self.intent_at,
            "thread_id": self.thread_id,
            "fingerprint": dict(self.fingerprint),
            "ref": self.ref.to_json() if self.ref else None,
            "created_at": self.created_at,
            "deadline": self.deadline,
            "ended_by_us": self.ended_by_us or None,
            "refused": self.refused or None,
            "rounds": self.rounds.to_json() or None,
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, value: object) -> Record | None:
        """
        Read the stored form, also one of another version; None if there is nothing to go by.

        :raises RunRequestError: when it names a run that this version cannot look at; to forget that run
            would be to pay twice.
        """
        if not isinstance(value, dict) or "token" not in value or "cycle" not in value:
            return None
        ref, fingerprint = value.get("ref"), value.get("fingerprint")
        return cls(
            generation=int(value["cycle"]),
            token=str(value["token"]),
            intent_at=_seconds(value.get("intent_at")) or 0.0,
            thread_id=str(value["thread_id"]) if value.get("thread_id") else None,
            fingerprint=fingerprint if isinstance(fingerprint, dict) else {},
            ref=RunRef.from_json(ref) if ref else None,
            created_at=_seconds(value.get("created_at")),
            deadline=_seconds(value.get("deadline")),
            ended_by_us=bool(value.get("ended_by_us")),
            refused=bool(value.get("refused")),
            rounds=Rounds.from_json(value.get("rounds")),
        )

    def with_run(self, ref: RunRef, *, created_at: float, deadline: float | None) -> Record:
        """Return the record of the same intent, now that its run is known."""
        return replace(self, ref=ref, created_at=created_at, deadline=deadline)

    def back_at(self, ref: RunRef) -> Record:
        """Return the record with ``ref`` as its run: the one that was searched for, or an earlier round."""
        rounds = self.rounds.before(ref)
        return replace(self, ref=ref, rounds=rounds, created_at=self.created_at if self.ref == ref else None)

    def changed_arguments(self, fingerprint: Mapping[str, str]) -> list[str]:
        """Name the arguments that differ from those of the recorded run."""
        names = {*self.fingerprint, *fingerprint}
        return sorted(n for n in names if self.fingerprint.get(n) != fingerprint.get(n))


def new_token(identity: tuple[object, ...], *, random_part: str) -> str:
    """
    Return the token of one intent: a hash of the task instance and its cycle, then something random.

    :param identity: Dag id, Dag run id, task id, map index, cycle.
    """
    return f"{token_prefix(identity)}{random_part}"


def token_prefix(identity: tuple[object, ...]) -> str:
    """Return the part of the token that every attempt of the same cycle can compute again."""
    digest = hashlib.sha256(json.dumps([str(part) for part in identity]).encode()).hexdigest()
    return f"{digest[:24]}/"


def _seconds(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]  # narrowed by the check
