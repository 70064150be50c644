# SPDX-License-Identifier: Apache-2.0
"""The run that a task instance is responsible for: the one value that travels between its processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_openai_runs.runs.budgets import NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.times import visible_by


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """
    A run and the time that it has, in Unix seconds by our clock.

    The record, the trigger's arguments, its event and the arguments of an approval hold its JSON.

    :param created_at: when its create returned, or its calls were last answered; None if nobody knows.
    :param deadline: end of the completion window; None waits without an end.
    :param attempt_deadline: start of the attempt + execution_timeout; another attempt has another one, so the
        record leaves it out.
    :param rounds: the rounds of calls that were answered.
    """

    ref: RunRef
    created_at: float | None = None
    deadline: float | None = None
    attempt_deadline: float | None = None
    rounds: Rounds = field(default_factory=Rounds)

    def visible_by(self, now: float) -> float:
        """Return until when a 404 means that it is not visible yet, not that it is gone; Unix seconds."""
        return visible_by(self.created_at or 0.0, now=now, within=NOT_FOUND_GRACE)

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored; ``rounds`` only where calls were answered."""
        rounds = self.rounds.to_json()
        return {
            "ref": self.ref.to_json(),
            "created_at": self.created_at,
            "deadline": self.deadline,
            "attempt_deadline": self.attempt_deadline,
            **({"rounds": rounds} if rounds else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrackedRun:
        """
        Read the stored form, also one of another version.

        :raises RunRequestError: if it names no run.
        """
        return cls(
            ref=RunRef.from_json(value.get("ref")),
            created_at=seconds(value.get("created_at")),
            deadline=seconds(value.get("deadline")),
            attempt_deadline=seconds(value.get("attempt_deadline")),
            rounds=Rounds.from_json(value.get("rounds")),
        )


def seconds(value: object) -> float | None:
    """Return a stored time; whatever is no number says nothing."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else None  # type: ignore[arg-type]  # narrowed by the check
