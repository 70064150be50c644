# SPDX-License-Identifier: Apache-2.0
"""What is remembered of a run whose calls were answered, from one worker to the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_openai_runs.runs.budgets import NOT_FOUND_GRACE
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.files import each_once
from airflow_provider_openai_runs.runs.model import Run, RunRef, ToolCall
from airflow_provider_openai_runs.runs.usage import sum_of, sum_of_costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """
    The rounds of calls that were answered so far.

    A thread run goes on by itself after each of them. A response goes on as a new one: for the user, the
    whole chain is one run.

    :param answered: how many rounds.
    :param errors: what went wrong with the calls since the last one that went well, oldest first.
    :param calls: of a thread run, which calls were answered last, as a short hash.
    :param answered_at: when that was, in Unix seconds.
    :param earlier: of a response, those before the present one, oldest first.
    """

    answered: int = 0
    errors: tuple[str, ...] = ()
    calls: str = ""
    answered_at: float = 0.0
    earlier: tuple[RunRef, ...] = ()

    def after(self, run: Run, errors: Sequence[str], *, in_place: bool, now: float) -> Rounds:
        """
        Return what is to be remembered once the calls of ``run`` are answered.

        :param in_place: whether the same run goes on then; else a new one does.
        """
        answered = self.answered + 1
        if not in_place:
            return Rounds(answered=answered, errors=tuple(errors), earlier=(*self.earlier, run.ref))
        return Rounds(answered=answered, errors=tuple(errors), calls=_hash(run.tool_calls), answered_at=now)

    @property
    def key(self) -> str:
        """What names the last round of a run that goes on itself; a count may be stored too late for it."""
        return f"{self.answered}/{self.calls}"

    def just_answered(self, run: Run, *, now: float) -> bool:
        """Whether the run waits for calls whose answer its server has taken, and does not show yet."""
        return now < self.answered_at + NOT_FOUND_GRACE and self.calls == _hash(run.tool_calls)

    def before(self, ref: RunRef) -> Rounds:
        """Return what was remembered when ``ref`` was the present response."""
        if ref not in self.earlier:
            return self
        place = self.earlier.index(ref)
        undone = len(self.earlier) - place
        return replace(self, answered=max(0, self.answered - undone), earlier=self.earlier[:place])

    def to_json(self) -> dict[str, Any]:
        """Return the form for the record and the trigger; what says nothing is left out."""
        values = {
            "answered": self.answered,
            "errors": list(self.errors),
            "calls": self.calls,
            "answered_at": self.answered_at,
            "earlier": [ref.to_json() for ref in self.earlier],
        }
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, value: object) -> Rounds:
        """Read the stored form; whatever else it is says that nothing was answered."""
        if not isinstance(value, dict):
            return cls()
        answered, errors, earlier = (value.get(name) for name in ("answered", "errors", "earlier"))
        answered_at = value.get("answered_at")
        return cls(
            answered=answered if isinstance(answered, int) else 0,
            errors=tuple(map(str, errors)) if isinstance(errors, list) else (),
            calls=str(value.get("calls") or ""),
            answered_at=float(answered_at) if isinstance(answered_at, (int, float)) else 0.0,
            earlier=tuple(_readable(earlier)) if isinstance(earlier, list) else (),
        )


def _readable(refs: Sequence[object]) -> Iterator[RunRef]:
    """Leave out what names no run: the result then lacks its tokens and steps, and no more."""
    for ref in refs:
        with suppress(RunRequestError):
            yield RunRef.from_json(ref)


def _hash(calls: Sequence[ToolCall]) -> str:
    written = json.dumps([[call.id, call.name, call.arguments] for call in calls])
    return hashlib.sha256(written.encode()).hexdigest()[:16]


def as_one(earlier: Sequence[Run], last: Run) -> Run:
    """Show a chain of responses as one run: it began with the first, and every round counts."""
    if not earlier:
        return last
    chain = (*earlier, last)
    steps = [run.steps for run in chain if run.steps is not None]
    return replace(
        last,
        created_at=earlier[0].created_at,
        usage=sum_of(run.usage for run in chain),
        cost=sum_of_costs(run.cost for run in chain if run.usage is not None),
        steps=tuple(step for of_run in steps for step in of_run) if last.steps is not None else None,
        file_ids=tuple(dict.fromkeys(file for run in chain for file in run.file_ids)),
        files=each_once(file for run in chain for file in run.files),
        raw={**last.raw, "response_ids": [run.ref.id for run in chain]},
    )
