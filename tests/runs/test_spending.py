# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.spending import OpenRun, Spending
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.usage import Totals, Usage

#: What may happen to the run of a number, in any order and as often as it likes.
happenings = st.lists(
    st.tuples(
        st.sampled_from(
            ["opens", "is_named", "is_refused", "ends", "is_silent", "goes_on", "is_stored", "clears"]
        ),
        st.integers(min_value=0, max_value=5),
    ),
    max_size=40,
)


def ref(number: int) -> RunRef:
    return RunRef(kind="response", id=f"resp_{number}", conn_id="ai")


def run(number: int, status: RunStatus, tokens: int | None) -> Run:
    usage = None if tokens is None else Usage(prompt_tokens=tokens, total_tokens=tokens)
    return Run(ref=ref(number), status=status, raw_status=str(status), object="response", usage=usage)


@dataclass
class Account:
    """The production account beside a plain one: the runs that were paid for, and those that were read."""

    spending: Spending = field(default_factory=lambda: Spending().of(0))
    paid: set[int] = field(default_factory=set)
    read: set[int] = field(default_factory=set)
    generation: int = 0

    def opens(self, number: int) -> None:
        if number not in self.paid:  # a token is never used for a second run
            self.spending = self.spending.opened(OpenRun(token=f"t{number}"))
            self.paid.add(number)

    def is_named(self, number: int) -> None:
        self.spending = self.spending.named(f"t{number}", ref(number))

    def is_refused(self, number: int) -> None:
        before = self.spending
        self.spending = before.released(f"t{number}")
        if self.spending != before:
            self.paid.discard(number)

    def ends(self, number: int) -> None:
        if self.spending.open_run(ref(number)) is not None:
            self.read.add(number)
        self.spending = self.spending.settled(run(number, RunStatus.COMPLETED, 4**number))

    def is_silent(self, number: int) -> None:
        self.spending = self.spending.settled(run(number, RunStatus.FAILED, 0))

    def goes_on(self, number: int) -> None:
        assert self.spending.settled(run(number, RunStatus.IN_PROGRESS, None)) == self.spending

    def is_stored(self, _: int) -> None:
        stored = json.loads(json.dumps(self.spending.to_json()))
        self.spending = Spending.from_json(stored).of(self.generation)

    def clears(self, _: int) -> None:
        self.generation += 1
        self.spending = self.spending.of(self.generation)


@given(happenings)
def test_in_any_order_each_run_counts_once_or_is_known_to_be_missing(events: list[tuple[str, int]]) -> None:
    account = Account()
    for what, number in events:
        getattr(account, what)(number)
        totals = account.spending.totals()
        counted = totals.usage.total_tokens if totals.usage else 0
        assert counted == sum(4**number for number in account.read)
        assert totals.silent == len(account.paid - account.read)


def test_tokens_that_a_server_tells_before_the_end_are_not_all() -> None:
    spending = Spending().of(1).opened(OpenRun(token="t", ref=ref(1)))
    until_now = spending.settled(run(1, RunStatus.CANCELLING, 10))

    assert until_now == spending
    assert until_now.settled(run(1, RunStatus.CANCELLED, 25)).totals().usage == Usage(
        prompt_tokens=25, total_tokens=25
    )


def test_a_create_that_was_lost_has_no_run_even_if_its_record_names_one() -> None:
    spending = Spending().of(1).opened(OpenRun(token="lost"))
    earlier = Record.from_json({"cycle": 1, "token": "lost", "lost": ["lost"], "ref": ref(1).to_json()})
    found = Record.from_json({"cycle": 1, "token": "lost", "ref": ref(1).to_json()})

    assert spending.with_record(earlier).open_run(ref(1)) is None
    assert spending.with_record(found).open_run(ref(1)) is not None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["generation", "before", "usage", "open", "token", "ref", "silent", "id", "kind"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(junk)
def test_whatever_is_stored_is_read(value: Any) -> None:
    spending = Spending.from_json(value)

    assert Spending.from_json(spending.to_json()) == (spending if spending.to_json() else Spending())


def test_a_server_that_counts_what_no_run_can_have_used_has_said_nothing() -> None:
    for tokens in (0, -5, 10**30):
        assert Totals().plus(Usage(prompt_tokens=tokens, total_tokens=tokens), None) == Totals(silent=1)
