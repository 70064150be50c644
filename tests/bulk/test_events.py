# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.bulk.events import (
    Asked,
    Cancelled,
    Created,
    Event,
    Intended,
    JournalError,
    NewRun,
    NotAccepted,
    PartWritten,
    Resubmitted,
    Retried,
    Spent,
)
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.journal_lines import from_lines, to_lines
from airflow_provider_openai_runs.runs.ceiling import Amount
from airflow_provider_openai_runs.runs.usage import Usage

rows = st.lists(st.integers(0, 10**6), max_size=5).map(tuple)
runs = st.builds(NewRun, row=st.integers(0, 10**6), id=st.text(max_size=20), created_at=st.floats(0, 2e9))
tokens = st.integers(1, 10**9)
texts = st.none() | st.text(max_size=5)
costs = st.none() | st.decimals(0, 1000, places=6)
spent = st.one_of(
    st.builds(Spent, silent=rows),
    st.builds(Spent, usage=st.builds(Usage, total_tokens=tokens), cost=costs, silent=rows),
)
events = st.one_of(
    *(st.builds(kind, rows=rows) for kind in (NotAccepted, Resubmitted)),
    *(st.builds(kind, rows=rows, spent=spent) for kind in (Retried, Cancelled)),
    st.builds(
        Intended,
        rows=rows,
        custom_ids=st.dictionaries(st.integers(0, 9), st.text(max_size=9)),
        asked=st.dictionaries(st.integers(0, 9), st.builds(Asked, model=texts, processing=texts)),
        reserved=st.dictionaries(st.integers(0, 9), st.builds(Amount, tokens=tokens, cost=costs)),
    ),
    st.builds(Created, runs=st.lists(runs, max_size=3).map(tuple)),
    st.builds(
        PartWritten,
        name=st.text(max_size=20),
        succeeded=rows,
        failed=rows,
        lost=rows,
        spent=spent,
    ),
)


@given(written=st.lists(events, max_size=6))
def test_a_journal_is_read_as_it_was_written(written: list[Event]) -> None:
    assert from_lines(to_lines(written)) == written


@given(written=st.lists(events, min_size=1, max_size=3), cut=st.integers(1, 30))
def test_a_journal_that_is_cut_off_is_never_read_as_a_shorter_one(written: list[Event], cut: int) -> None:
    content = to_lines(written)
    torn = content[: -min(cut, len(content.splitlines()[-1]))]
    with pytest.raises(JournalError):
        from_lines(torn)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b'"intended"\n',
        b"{}\n",
        b'{"event":"flown","rows":[1]}\n',
        b'{"event":"intended"}\n',
        b'{"event":"intended","rows":["x"]}\n',
        b'{"event":"created","runs":[[1]]}\n',
        b"\xff\n",
    ],
)
def test_a_line_that_cannot_be_read_is_an_error_and_not_nothing(line: bytes) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        from_lines(line)


@pytest.mark.parametrize(
    "journal",
    [
        [Created(runs=(NewRun(row=1, id="resp_1", created_at=1.0),))],
        [NotAccepted(rows=(1,))],
        [Intended(rows=(1,)), Retried(rows=(1,))],
        [PartWritten(name="1", failed=(1,)), Intended(rows=(1,))],
        [PartWritten(name="1", failed=(1,)), PartWritten(name="2", succeeded=(1,))],
    ],
    ids=[
        "created without intent",
        "refused without intent",
        "retried without run",
        "intended again",
        "two parts",
    ],
)
def test_events_that_contradict_each_other_are_an_error(journal: list[Event]) -> None:
    with pytest.raises(JournalError, match="Row 1 is"):
        Items.of(journal)


def _spent(tokens: int) -> Spent:
    return Spent(usage=Usage(total_tokens=tokens))


def test_items_are_counted_by_where_they_stand() -> None:
    journal: list[Event] = [
        Intended(rows=(0, 1, 2, 5)),
        Created(
            runs=(NewRun(row=0, id="resp_0", created_at=1.0), NewRun(row=5, id="resp_5", created_at=2.0))
        ),
        NotAccepted(rows=(1,)),
        PartWritten(name="1", succeeded=(0,), failed=(3,), spent=_spent(7)),
        PartWritten(name="2", lost=(2,), spent=_spent(5)),
    ]
    items = Items.of(journal)
    states = [items.state(row).name for row in range(7)]
    assert states == ["SUCCEEDED", "NEW", "LOST", "FAILED", "NEW", "CREATED", "NEW"]
    assert [*items.rows(ItemState.CREATED)] == [5]
    assert [*items.runs] == [5]
    assert items.results.usage == Usage(total_tokens=12)
    assert items.count(ItemState.LOST) == 1
