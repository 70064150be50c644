# SPDX-License-Identifier: Apache-2.0
"""The production account of one generation, round after round, against a bill of its own."""

from __future__ import annotations

import itertools
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.attempts.ledger import Ledger
from airflow_provider_openai_runs.attempts.record_store import RecordStore
from airflow_provider_openai_runs.runs.ceiling import Ceiling, prompt_bound
from airflow_provider_openai_runs.runs.errors import CeilingReachedError
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.prices import Prices
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.rounds import Rounds
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.usage import Usage
from tests.support.airflow_versions import needs_store
from tests.support.scene import FakeStore

pytestmark = needs_store

MAX = 50
PRICES = Prices.from_json({"m": {"input": "2", "cached_input": "1", "output": "5"}})
KINDS = {
    RunKind.RESPONSE: {"model": "m", "input": "Hi", "max_output_tokens": MAX},
    RunKind.THREAD_RUN: {"model": "m", "max_completion_tokens": MAX},
}
CEILINGS = [Ceiling(tokens=450), Ceiling(cost=PRICES.by_pattern["m"].at_most(prompt=300, completion=120))]
events = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *["creates", "answers", "answers", "ends"] * 2,
                "is_sent_in_vain",
                "is_silent",
                "dies",
                "is_refused",
            ]
        ),
        st.integers(min_value=0, max_value=MAX),
    ),
    min_size=1,
    max_size=25,
)


@dataclass
class Bill:
    """
    What a server would bill at most: all that it reads, and what it writes, within the API's rules.

    :param read: what the model has read and written in the present run, and reads again in the next round.
    """

    kind: RunKind
    ceiling: Ceiling
    airflow: FakeStore = field(default_factory=FakeStore)
    tokens: list[Usage] = field(default_factory=list)
    run: Run | None = None
    written: int = 0
    read: int = 0
    rounds: int = 0
    numbers: Any = field(default_factory=itertools.count)
    log: Any = field(default_factory=logging.getLogger)

    def __post_init__(self) -> None:
        self.request = RunRequest(kind=self.kind, body=KINDS[self.kind])
        self.dies(0)

    def dies(self, _: int) -> None:
        """A worker ends, and another one reads what it has stored."""
        self.ledger = Ledger(
            store=RecordStore(self.airflow, log=self.log),
            generation=1,
            request=self.request,
            log=self.log,
            prices_of=lambda _: PRICES,
            ceiling=self.ceiling,
        )

    def creates(self, written: int) -> None:
        if self.run is None:
            self.begins(written, read=prompt_bound(self.request.body))

    def begins(self, written: int, *, read: int, outputs: dict[str, str] | None = None) -> None:
        number = next(self.numbers)
        if self.run is None or outputs is None:
            self.ledger.open(f"t{number}", "ai")
        else:
            self.ledger.open_answer(f"t{number}", self.run, outputs)
        self.is_stored()
        ref = RunRef(kind=self.kind, id=f"r{number}", thread_id="t", conn_id="ai")
        self.ledger.name(f"t{number}", ref)
        self.is_stored()
        self.tokens.append(Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written))
        self.written, self.read = written, read + written
        self.run = Run(ref=ref, status=RunStatus.REQUIRES_ACTION, raw_status="requires_action", object="run")

    def answers(self, written: int) -> None:
        """The model reads all again, with the outputs, and goes on."""
        if self.run is None:
            return
        outputs = {"call": "x" * written}
        if self.kind == RunKind.RESPONSE:
            self.run = self.at_its_end(RunStatus.COMPLETED)
            self.ledger.check_answer(self.run, Rounds())
            read = self.read + prompt_bound(self.request.body) + written
            self.ledger.settle(self.run)
            self.begins(written, read=read, outputs=outputs)
            return
        self.reserves(outputs)
        self.rounds += 1
        more = min(written, MAX - self.written)  # the ceiling is that of the whole run
        self.written += more
        last = self.tokens.pop()
        read = last.prompt_tokens + self.read + written
        self.read += written + more
        self.tokens.append(
            Usage(prompt_tokens=read, completion_tokens=self.written, total_tokens=read + self.written)
        )

    def reserves(self, outputs: dict[str, str]) -> None:
        assert self.run is not None
        before = Rounds(answered=self.rounds)
        self.ledger.check_answer(self.run, before)
        self.ledger.extend(self.run, outputs, before.after(self.run, (), in_place=True, now=0.0))
        self.is_stored()

    def is_sent_in_vain(self, written: int) -> None:
        """An answer that a server has no room for takes nothing, and as much of the ceiling as once."""
        if self.run is None or self.kind == RunKind.RESPONSE:
            return
        self.reserves({"call": "x" * written})
        reserved = self.ledger.store.spending.reserved
        self.dies(0)
        self.reserves({"call": "x" * (written // 2)})
        assert self.ledger.store.spending.reserved == reserved

    def ends(self, _: int) -> None:
        if self.run is not None:
            self.ledger.settle(self.at_its_end(RunStatus.FAILED))
            self.is_stored()
            self.run = None

    def is_silent(self, _: int) -> None:
        """It is cancelled, or its create was lost: nobody learns what it has used."""
        self.run = None

    def is_refused(self, _: int) -> None:
        """A create that the server did not accept."""
        token = f"t{next(self.numbers)}"
        self.ledger.open(token, "ai")
        self.is_stored()
        self.ledger.release(token)
        self.is_stored()

    def at_its_end(self, status: RunStatus) -> Run:
        assert self.run is not None
        return Run(
            ref=self.run.ref, status=status, raw_status=str(status), object="run", usage=self.tokens[-1]
        )

    def is_stored(self) -> None:
        self.ledger.store.save(None)

    def is_within(self) -> bool:
        tokens = sum(usage.total_tokens for usage in self.tokens)
        cost = sum(PRICES.by_pattern["m"].cost(usage) for usage in self.tokens)
        is_below = self.ceiling.tokens is None or tokens <= self.ceiling.tokens
        return is_below and (self.ceiling.cost is None or cost <= self.ceiling.cost)


@given(kind=st.sampled_from(list(KINDS)), ceiling=st.sampled_from(CEILINGS), happens=events)
def test_in_any_order_of_rounds_ends_and_deaths_no_bill_passes_the_ceiling(
    kind: RunKind, ceiling: Ceiling, happens: list[tuple[str, int]]
) -> None:
    bill = Bill(kind=kind, ceiling=ceiling)
    for what, number in happens:
        with suppress(CeilingReachedError):
            getattr(bill, what)(number)
        assert bill.is_within()
        assert json.loads(json.dumps(bill.airflow.values)) == bill.airflow.values
