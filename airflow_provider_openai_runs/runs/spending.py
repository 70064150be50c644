# SPDX-License-Identifier: Apache-2.0
"""
What a task instance has paid for, carried on in its record from one attempt to the next.

Each run has an entry from its intent on, until its tokens are known; then they are in the sums. The entry is
written with the intent, and leaves with what adds its tokens, so that whoever dies in between, no run counts
twice and none is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from airflow_provider_openai_runs.runs.ceiling import Amount
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.usage import (
    Totals,
    Usage,
    amount_of,
    as_text,
    is_count,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """
    A run whose tokens are not known.

    :param token: that its create was sent with.
    :param ref: None as long as its create is not answered.
    :param is_silent: it has ended, and its server tells no tokens.
    :param model: that was asked for.
    :param processing: the window or the tier that was asked for.
    :param reserved: what it may take at most; kept, if it tells none.
    :param context: of a run that goes on itself: what its model may read again once calls are answered.
    :param round_key: of a run that goes on itself: its last round that something is reserved for.
    :param outputs: what the answer of that round adds to ``context``.
    """

    token: str
    ref: RunRef | None = None
    is_silent: bool = False
    model: str | None = None
    processing: str | None = None
    reserved: Amount = field(default_factory=Amount)
    context: int = 0
    round_key: str = ""
    outputs: int = 0

    def with_round(self, key: str, outputs: int) -> tuple[OpenRun, int]:
        """
        Return the entry once the calls of a round are answered, and how much its model reads more by that.

        :param key: of the round; where it is sent again, only what is new counts.
        :param outputs: how many tokens the answer has at most.
        """
        before = self.outputs if self.round_key == key else 0
        outputs = max(outputs, before)
        context = self.context - before + outputs
        more = outputs - before if self.round_key == key else context
        return replace(self, context=context, round_key=key, outputs=outputs), more

    def is_run(self, ref: RunRef) -> bool:
        """Tell whether it is that run; a ref may have learned its conversation meanwhile."""
        return self.ref is not None and (self.ref.kind, self.ref.id) == (ref.kind, ref.id)

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored."""
        values = {
            "token": self.token,
            "ref": self.ref and self.ref.to_json(),
            "silent": self.is_silent,
            "model": self.model,
            "processing": self.processing,
            **_amount_to_json(self.reserved),
            "context": self.context,
            "round": self.round_key,
            "outputs": self.outputs,
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """
    What a task instance has paid for.

    :param generation: of which ``usage`` and ``open`` are.
    :param before: the runs of earlier generations: a clear begins a new one.
    :param usage: the tokens of the runs of this generation, as far as they were said.
    :param cost: of these tokens; None where nobody knows a price of some of them.
    :param open: its other runs.
    """

    generation: int | None = None
    before: Totals = field(default_factory=Totals)
    usage: Usage | None = None
    cost: Decimal | None = Decimal(0)
    open: tuple[OpenRun, ...] = ()

    def totals(self, *, but: RunRef | None = None) -> Totals:
        """
        Return the sums over all generations.

        :param but: a run that is not counted: it may be active.
        """
        silent = sum(1 for run in self.open if run.is_silent or but is None or not run.is_run(but))
        return self.before + Totals(usage=self.usage, cost=self.cost, silent=silent)

    def of(self, generation: int) -> Spending:
        """Begin a generation, unless it is the present one."""
        if self.generation == generation:
            return self
        return Spending(generation=generation, before=self.totals())

    @property
    def used(self) -> Amount:
        """What the runs of this generation have used, as far as they were said."""
        return Amount(tokens=self.usage.total_tokens if self.usage else 0, cost=self.cost)

    @property
    def reserved(self) -> Amount:
        """What its other runs may have used, or may still use."""
        return sum((run.reserved for run in self.open), Amount())

    def opened(self, run: OpenRun) -> Spending:
        """Add a run that is about to be created."""
        return replace(self, open=(*self.released(run.token).open, run))

    def extended(self, entry: OpenRun, reserved: Amount) -> Spending:
        """Reserve more for a run whose calls are about to be answered, and which then goes on itself."""
        if entry.ref is None:
            return self
        more = replace(entry, reserved=entry.reserved + reserved)
        return replace(self, open=tuple(more if run.is_run(entry.ref) else run for run in self.open))

    def open_run(self, ref: RunRef) -> OpenRun | None:
        """Return the entry of a run whose tokens are still to come."""
        return next((run for run in self.open if run.is_run(ref)), None)

    def released(self, token: str) -> Spending:
        """Take back a run that was certainly not created."""
        return replace(self, open=tuple(run for run in self.open if run.token != token or run.ref))

    def named(self, token: str, ref: RunRef) -> Spending:
        """Note which run it is that was created with a token."""
        if self.open_run(ref) is not None:
            return self
        return replace(
            self,
            open=tuple(
                replace(run, ref=ref) if run.token == token and run.ref is None else run for run in self.open
            ),
        )

    def settled(self, run: Run, cost: Decimal | None = None) -> Spending:
        """
        Add the tokens that a run tells once it has ended; a run that is not open counts no more.

        :param cost: of its tokens.
        """
        usage = run.usage if run.usage is not None and run.usage.is_known else None
        mine = self.open_run(run.ref)
        if mine is None or not run.status.is_terminal:
            return self
        others = tuple(entry for entry in self.open if entry is not mine)
        if usage is not None:
            sums = Totals(usage=self.usage, cost=self.cost).plus(usage, cost)
            return replace(self, usage=sums.usage, cost=sums.cost, open=others)
        return replace(self, open=(*others, replace(mine, is_silent=True)))

    def unread(self) -> Iterator[RunRef]:
        """Give the runs that nobody has read since they have ended."""
        return (run.ref for run in self.open if run.ref is not None and not run.is_silent)

    def with_record(self, record: Record | None) -> Spending:
        """Learn from the record which run its token belongs to; a create that was lost has none."""
        if record is None or record.run is None or record.token in record.lost:
            return self
        return self.named(record.token, record.run.ref)

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored; empty if nothing was paid for."""
        values = {
            "before": self.before.to_json(),
            **Totals(usage=self.usage, cost=self.cost).to_json(),
            "open": [run.to_json() for run in self.open],
        }
        found = {name: value for name, value in values.items() if value}
        return {"generation": self.generation, **found} if found else {}

    @classmethod
    def from_json(cls, value: object, *, record: Record | None = None) -> Spending:
        """
        Read the stored form; whatever else it is says that nothing was paid for.

        :param record: beside it; one of an older version has none, and its run is to be counted.
        """
        if not isinstance(value, dict):
            if record is None or record.run is None:
                return cls()
            run = OpenRun(token=record.token, ref=record.run.ref)
            return cls(generation=record.generation, open=(run,))
        generation, entries = value.get("generation"), value.get("open")
        sums = Totals.from_json(value)
        return cls(
            generation=generation if isinstance(generation, int) else None,
            before=Totals.from_json(value.get("before")),
            usage=sums.usage,
            cost=sums.cost,
            open=tuple(_readable(entries)) if isinstance(entries, list) else (),
        )


def _readable(entries: list[object]) -> Iterator[OpenRun]:
    for entry in entries:
        if isinstance(entry, dict):
            ref = None
            with suppress(RunRequestError):
                ref = RunRef.from_json(entry.get("ref")) if entry.get("ref") else None
            yield OpenRun(
                token=str(entry.get("token") or ""),
                ref=ref,
                is_silent=bool(entry.get("silent")),
                model=_text(entry.get("model")),
                processing=_text(entry.get("processing")),
                reserved=_amount_from_json(entry),
                context=entry["context"] if is_count(entry.get("context")) else 0,
                round_key=str(entry.get("round") or ""),
                outputs=entry["outputs"] if is_count(entry.get("outputs")) else 0,
            )


def _amount_to_json(amount: Amount) -> dict[str, Any]:
    return {
        "tokens": amount.tokens,
        "cost": as_text(amount.cost) if amount.tokens and amount.cost is not None else None,
    }


def _amount_from_json(value: dict[str, Any]) -> Amount:
    tokens = value["tokens"] if is_count(value.get("tokens")) else 0
    return Amount(tokens=tokens, cost=amount_of(value.get("cost")) if tokens else Decimal(0))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
