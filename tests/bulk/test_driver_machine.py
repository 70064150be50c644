# SPDX-License-Identifier: Apache-2.0
"""
The production driver in virtual time: workers die before and after each command, or are replaced and go on.

Whatever happens: no item is paid for twice, none has two results, in the end each is final, every run that
goes on is named, and a ceiling is never passed, also by runs that nobody knows of.
"""

from __future__ import annotations

import asyncio
import json
import logging
import selectors
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_openai_runs.bulk.allowance import Allowance
from airflow_provider_openai_runs.bulk.attempt import BulkAttempt
from airflow_provider_openai_runs.bulk.commands import Polled, ReadRows, Send, Sent, Verdict
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.driver import BulkDriver, DriveEnd
from airflow_provider_openai_runs.bulk.events import Event, NewRun
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.journal import Journal
from airflow_provider_openai_runs.bulk.parts import Outcome, Part, Parts
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.bulk.rows import Row
from airflow_provider_openai_runs.runs.budgets import SEND_WITHIN
from airflow_provider_openai_runs.runs.ceiling import Amount, Ceiling
from airflow_provider_openai_runs.runs.end_of_attempt import Cause, TaskState
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.record import NoLongerOwnerError
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.runs.usage import Usage

T = TypeVar("T")

ROWS = 8
BAD_ROW = 3
#: What a run may take at most.
BOUND = 10
START = 1_700_000_000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it waits, and then at once."""

    def __init__(self) -> None:
        self.now = 0.0
        loop = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                assert timeout is not None, "it waits for ever"
                loop.now += max(0.0, timeout)
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        return self.now


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now() -> float:
    return START + asyncio.get_running_loop().time()


@dataclass
class ServerRun:
    id: str
    row: int
    token: str
    ends_at: float
    ends_as: RunStatus
    takes: int = 0
    tells: bool = True
    status: RunStatus = RunStatus.IN_PROGRESS

    def at(self, time: float) -> RunStatus:
        if self.status is RunStatus.IN_PROGRESS and time >= self.ends_at:
            self.status = self.ends_as
        return self.status


@dataclass
class World:
    """What outlives a worker."""

    ends: list[RunStatus]
    #: What each run takes, and whether it tells that.
    takes: list[tuple[int, bool]] = field(default_factory=list)
    allowance: Allowance = field(default_factory=Allowance)
    runs: dict[str, ServerRun] = field(default_factory=dict)
    files: dict[tuple[str, ...], bytes] = field(default_factory=dict)
    stored: Any = None
    owner: str = ""

    def write(self, content: bytes, *names: str) -> None:
        self.files[names] = content

    def read(self, *names: str) -> bytes:
        if names not in self.files:
            raise FileNotFoundError
        return self.files[names]

    def items(self) -> Items:
        journal = Journal(folder=self, store=Store(self, "reader"), generation=0, writer="reader")
        return Items.of(journal.load())


@dataclass
class Store:
    world: World
    writer: str
    answers: bool = True

    def load(self) -> Any:
        return self.world.stored

    def save(self, value: Any) -> None:
        if self.world.owner != self.writer:
            raise NoLongerOwnerError
        self.world.stored = json.loads(json.dumps(value))
        if not self.answers:
            raise ConnectionError("the answer is lost")


class Luck:
    """What becomes of one command after another; in the end all goes well."""

    def __init__(self, draws: list[int]) -> None:
        self._draws = iter(draws)

    def next(self) -> int:
        return next(self._draws, 0)


class Died(BaseException):
    """The worker is gone."""


@dataclass
class FakeIO:
    """
    Does what a worker's I/O does.

    1 and 2 let it fail before and after, 3 and 4 kill the worker then; with 5 and 6 all stands still then
    but the clock, as for a process that is stopped, or a machine that is suspended.
    """

    world: World
    writer: str
    luck: Luck
    store: Store = field(init=False)
    journal: Journal = field(init=False)
    dead: asyncio.Event = field(default_factory=asyncio.Event)
    position: int = 0

    @property
    def reserved(self) -> Amount | None:
        return Amount(tokens=BOUND) if self.world.allowance.ceiling.is_set else None

    def __post_init__(self) -> None:
        self.store = Store(self.world, self.writer)
        self.journal = Journal(
            folder=self.world, store=self.store, generation=0, writer=self.writer, clock=now
        )

    @property
    def written_at(self) -> float:
        return self.journal.written_at

    async def _moment(self, draw: int) -> None:
        if draw == 5:
            cast("VirtualLoop", asyncio.get_running_loop()).now += 60
        await asyncio.sleep(0.1 * (1 + draw % 3))
        if draw == 3:
            await self._die()

    async def _die(self) -> None:
        self.dead.set()
        await asyncio.Event().wait()  # for ever: it is cancelled

    async def _done(self, draw: int) -> None:
        if draw == 4:
            await self._die()
        if draw == 6:
            cast("VirtualLoop", asyncio.get_running_loop()).now += 60
        if draw == 2:
            raise ConnectionError("the answer is lost")

    async def read_rows(self, command: ReadRows) -> tuple[list[Row], bool]:
        self.position = 0 if command.from_start else self.position
        numbers = range(self.position, min(self.position + command.count, ROWS))
        self.position = numbers.stop
        rows = [
            Row(number=number, error="bad")
            if number == BAD_ROW
            else Row(number=number, values={"input": "x"}, reserved=self.reserved)
            for number in numbers
        ]
        return rows, len(numbers) < command.count

    async def commit(self, events: tuple[Event, ...]) -> None:
        draw = self.luck.next()
        await self._moment(draw)
        if draw == 1:
            raise ConnectionError("storage is away")
        self.store.answers = draw != 2
        self.journal.commit(events)
        await self._done(draw)

    async def create(self, command: Send) -> Sent:
        draw = self.luck.next()
        await self._moment(draw)
        if now() >= command.until:
            return Sent(brought=RequestFailure(kind=FailureKind.NOT_SENT, text="too late"))
        if draw == 1:
            return Sent(brought=RequestFailure(kind=FailureKind.RETRY_LATER, text="busy"))
        world, row = self.world, command.row.number
        number = len(world.runs)
        ends_as = world.ends[number] if number < len(world.ends) else RunStatus.COMPLETED
        takes, tells = world.takes[number] if number < len(world.takes) else (BOUND, True)
        created = ServerRun(
            id=f"resp_{number}",
            row=row,
            token=command.token,
            ends_at=now() + 3 + draw,
            ends_as=ends_as,
            takes=takes,
            tells=tells,
        )
        world.runs[created.id] = created
        billed, ceiling = sum(run.takes for run in world.runs.values()), world.allowance.ceiling.tokens
        assert ceiling is None or billed <= ceiling, f"{billed} are paid for, the ceiling is {ceiling}"
        try:
            await self._done(draw)
        except ConnectionError as error:
            return Sent(brought=RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text=str(error)))
        return Sent(brought=NewRun(row=row, id=created.id, created_at=now()))

    async def poll(self, run: NewRun) -> Polled | RequestFailure:
        draw = self.luck.next()
        await self._moment(draw)
        if draw in {1, 2}:
            return RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text="no answer")
        status = self.world.runs[run.id].at(now())
        result = PollResult(status=status, raw_status=status.value)
        return Polled(result=result, run=self._read(run, status) if status.is_terminal else None)

    async def cancel(self, run: NewRun) -> Run | RequestFailure:
        draw = self.luck.next()
        await self._moment(draw)
        if draw == 1:
            return RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text="no answer")
        known = self.world.runs[run.id]
        if known.at(now()) is RunStatus.IN_PROGRESS:
            known.status = RunStatus.CANCELLED
        return self._read(run, known.status)

    async def write_part(self, part: Part) -> None:
        draw = self.luck.next()
        await self._moment(draw)
        if draw == 1:
            raise ConnectionError("storage is away")
        self.world.write(part.content, "results", part.written.name)
        await self._done(draw)

    async def task_state(self) -> TaskState:
        return TaskState("running")

    def _read(self, run: NewRun, status: RunStatus) -> Run:
        ref, known = RunRef(kind="response", id=run.id, conn_id="ai"), self.world.runs[run.id]
        usage = Usage(total_tokens=known.takes) if known.tells else None
        return Run(ref=ref, status=status, raw_status=status.value, object="response", usage=usage)


def _judged(row: int, custom_id: str | None, run: Run) -> Verdict:
    state = ItemState.SUCCEEDED if run.status is RunStatus.COMPLETED else ItemState.FAILED
    usage = None if run.usage is None else run.usage.to_json()
    result = {"id": run.ref.id, "usage": usage}
    outcome = Outcome(row=row, state=state, custom_id=custom_id, result=result)
    return Verdict(outcome=outcome, retryable=state is ItemState.FAILED)


class Named(logging.Handler):
    """The runs that a log says may be going on."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()


class Cluster:
    """Starts one attempt after another, as Airflow does."""

    def __init__(self, world: World, limits: Limits, named: Named) -> None:
        self.world = world
        self.limits = limits
        self.attempts = 0
        self.io_type: Callable[..., FakeIO] = FakeIO
        self.zombies: list[tuple[asyncio.Task[DriveEnd], FakeIO]] = []
        self.log: Any = logging.Logger("bulk")  # noqa: LOG001 - of its own
        self.log.addHandler(named)

    async def attempt(self, luck: Luck, *, may_die: bool, replaced_after: float | None) -> str:
        """Run an attempt until it is over, dies, or another one takes its place while it goes on."""
        self.attempts += 1
        writer = self.world.owner = f"ti-{self.attempts}"
        io = self.io_type(world=self.world, writer=writer, luck=luck)
        started = now()
        items = Items.of(io.journal.load())
        found: list[Event] = []
        if items.count(ItemState.INTENDED):
            await asyncio.sleep(started + SEND_WITHIN - now())
            items = Items.of(io.journal.load())
            found = io.journal.uncommitted()
        assert items.count(ItemState.INTENDED) <= self.limits.max_unrecorded
        driver = BulkDriver(
            attempt=BulkAttempt(
                items,
                limits=self.limits,
                judge=_judged,
                token_of=lambda row, number: f"{row}.{number}",
                polls=Polls(per_second=100, deadline=None),
                parts=Parts(writer=writer),
                rate_limit=RateLimit(),
                now=now(),
                found=found,
                allowance=self.world.allowance,
            ),
            io=io,
            log=self.log,
            cancels=dict.fromkeys(Cause, True),
            clock=now,
            tick=0.25,
        )
        driving = asyncio.create_task(driver.run())
        dying = asyncio.create_task(io.dead.wait())
        await asyncio.wait(
            {driving, dying} if may_die else {driving},
            timeout=replaced_after,
            return_when=asyncio.FIRST_COMPLETED,
        )
        dying.cancel()
        if driving.done():
            return driving.result()
        if io.dead.is_set():
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
            return "died"
        self.zombies.append((driving, io))
        return "replaced"


@given(
    draws=st.lists(st.lists(st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 5, 6]), max_size=40), max_size=4),
    replaced=st.lists(st.none() | st.floats(0.1, 12), min_size=4, max_size=4),
    ends=st.lists(st.sampled_from([RunStatus.COMPLETED, RunStatus.COMPLETED, RunStatus.FAILED])),
    max_active=st.integers(1, 5),
    max_unrecorded=st.integers(1, 4),
    resubmits=st.booleans(),
    ceiling=st.none() | st.integers(0, ROWS * BOUND),
    takes=st.lists(
        st.tuples(st.sampled_from([BOUND, BOUND, 1]), st.booleans()), min_size=ROWS, max_size=ROWS
    ),
)
def test_whatever_happens_to_its_workers_a_task_pays_for_nothing_twice_and_forgets_nothing(
    draws: list[list[int]],
    replaced: list[float | None],
    ends: list[RunStatus],
    max_active: int,
    max_unrecorded: int,
    resubmits: bool,
    ceiling: int | None,
    takes: list[tuple[int, bool]],
) -> None:
    world, named = World(ends, takes, Allowance(ceiling=Ceiling(tokens=ceiling))), Named()
    limits = Limits(
        max_active=max_active,
        max_unrecorded=max_unrecorded,
        item_retries=1,
        on_lost_create="resubmit" if resubmits else "fail",
    )

    async def live() -> None:
        cluster = Cluster(world, limits, named)
        for lucks, after in zip(draws, replaced, strict=False):
            # An attempt of which half the commands kill it is replaced, not dead, where it hangs.
            if await cluster.attempt(Luck(lucks), may_die=True, replaced_after=after) == DriveEnd.OVER:
                break
        end = await cluster.attempt(Luck([]), may_die=False, replaced_after=600)
        assert end == DriveEnd.OVER
        for driving, io in cluster.zombies:
            await asyncio.wait({driving}, timeout=60)
            assert driving.done() or io.dead.is_set(), "an attempt that was replaced goes on for ever"
            driving.cancel()
        await asyncio.gather(*(driving for driving, _ in cluster.zombies), return_exceptions=True)

    run(live())
    items = world.items()
    left = [row for row in range(ROWS) if not items.state(row).is_final]
    why = world.allowance.refusal(items, reserved=items.kept, more=Amount(tokens=BOUND), asked=None)
    is_reached = why is not None
    assert not left or (is_reached and {items.state(row) for row in left} == {ItemState.NEW})
    lines = [
        json.loads(line) for part in items.parts for line in world.read("results", part.name).splitlines()
    ]
    rows = [row for row in range(ROWS) if row not in left]
    assert sorted(line["row"] for line in lines) == rows, "a result is lost, or there twice"
    counted = items.spent.usage.total_tokens if items.spent.usage else 0
    assert counted <= sum(run.takes for run in world.runs.values()), "more was counted than was paid for"
    paid = Counter(run.row for run in world.runs.values())
    for row, times in paid.items():
        allowed = 1 + items.creates(row)
        assert times <= allowed, f"row {row} was paid for {times} times, {allowed} were allowed"
    tokens = Counter(run.token for run in world.runs.values())
    assert max(tokens.values(), default=0) <= 1, "a token was used twice"
    for item in world.runs.values():
        is_named = items.state(item.row) is ItemState.LOST or items.resubmits(item.row)
        assert item.status.is_terminal or is_named or item.id in named.text, f"nobody has known of {item.id}"
