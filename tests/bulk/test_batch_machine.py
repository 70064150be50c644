# SPDX-License-Identifier: Apache-2.0
"""
Any crash of a worker, any answer to a create, any end of a batch: nothing is paid for twice or forgotten.

The production code runs against the simulator's own routes, without HTTP and with a clock that a test moves.
A crash may come before and after each request, each file that is written, and each write of the store.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_openai_runs.bulk.allowance import Allowance
from airflow_provider_openai_runs.bulk.batch import building, work
from airflow_provider_openai_runs.bulk.batch.attempt import BatchAttempt
from airflow_provider_openai_runs.bulk.batch.commands import Done, Wait
from airflow_provider_openai_runs.bulk.batch.requests import BatchRequests
from airflow_provider_openai_runs.bulk.batch.work import BatchWork
from airflow_provider_openai_runs.bulk.commands import StopReason
from airflow_provider_openai_runs.bulk.dispatcher import Limits
from airflow_provider_openai_runs.bulk.head import TaskHead
from airflow_provider_openai_runs.bulk.inputs import open_input
from airflow_provider_openai_runs.bulk.item_request import ItemRequest
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.journal import Journal
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.runs.budgets import BATCH_CANCEL_WAIT, BATCH_FILE_PAUSES, SEND_WITHIN
from airflow_provider_openai_runs.runs.ceiling import Ceiling
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.simulator import BatchScenario, Scenario
from airflow_provider_openai_runs.simulator.batch import FileKind
from airflow_provider_openai_runs.simulator.batches import ROUTES as BATCHES
from airflow_provider_openai_runs.simulator.errors import ApiError
from airflow_provider_openai_runs.simulator.exchange import ApiRequest as Asked
from airflow_provider_openai_runs.simulator.exchange import Download
from airflow_provider_openai_runs.simulator.files import ROUTES as FILES
from airflow_provider_openai_runs.simulator.store import Store
from airflow_provider_openai_runs.simulator.uploads import Upload
from airflow_provider_openai_runs.transport import driver
from airflow_provider_openai_runs.wire import Flow
from airflow_provider_openai_runs.wire.batches import Batch
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest

T = TypeVar("T")
LOG: Any = logging.getLogger(__name__)
ROWS, FILE_ROWS = 7, 3
WINDOW = 26 * 3600.0
_KINDS = {404: FailureKind.NOT_FOUND, 409: FailureKind.RETRY_LATER}

#: What becomes of a create: "lost" is accepted and has no answer, "gone" neither, "late" is one of a machine
#: that stood still, and "slow" one that the server gets to when nobody waits for its answer any more.
answers = st.sampled_from(["good", "good", "lost", "gone", "busy", "late", "slow"])
SLOW = 500.0
#: Seconds after the window: a cancel is waited for in a trigger, a worker, and again after each crash.
LONGEST_END = 6 * BATCH_CANCEL_WAIT
batches = st.builds(
    BatchScenario,
    cancelling=st.sampled_from([3.0, 500.0, 1e6]),
    in_progress=st.sampled_from([60.0, 4_000.0, 100_000.0, 200_000.0]),
    hidden_for=st.sampled_from([0.0, 20.0]),
    error=st.none()
    | st.just({"code": "invalid_type", "message": "No.", "line": 2})
    | st.just({"code": "server_error", "message": "Oh."}),
)
#: Seconds after the end of a batch until its files are there; after the last, nobody waits any more.
late_files = st.sampled_from([0.0, 0.0, 30.0, 500.0, 1_000_000.0])
#: Nothing happens: what an example does not name.
CALM: dict[str, Any] = {
    "crashes": [],
    "creates": [],
    "scripts": [],
    "failing": set(),
    "retries": 0,
    "ceiling": None,
    "files_late": 0.0,
    "names_late": False,
    "person_cancels": False,
    "failure": "server_error",
    "defers": False,
}


class CrashError(BaseException):
    """The worker is gone."""


@dataclass
class World:
    """The clock, the storage, the store and the server; workers come and go."""

    answers: list[str]
    now: float = 1_800_000_000.0
    crash_in: int | None = None
    files: dict[tuple[str, ...], bytes] = field(default_factory=dict)
    stored: Mapping[str, Any] | None = None
    server: Store = field(default_factory=Store)
    creates: int = 0
    #: Creates that the server has not got to, with their times.
    under_way: list[tuple[float, ApiRequest[Any]]] = field(default_factory=list)
    files_late: float = 0.0
    names_late: bool = False
    person_cancels: bool = False

    def step(self) -> None:
        """Let the worker crash here, if it is its time."""
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in <= 0:
                raise CrashError

    # -- storage and store

    def write(self, content: bytes, *names: str) -> None:
        self.step()
        self.files[names] = content
        self.step()

    def read(self, *names: str) -> bytes:
        if names not in self.files:
            raise FileNotFoundError(names)
        return self.files[names]

    def load(self) -> Mapping[str, Any] | None:
        return self.stored

    def save(self, value: Mapping[str, Any]) -> None:
        self.step()
        self.stored = value
        self.step()

    # -- server

    def run_flow(self, flow: Flow[T]) -> T:
        return driver.run(flow, send=self.send, sleep=self.sleep, refresh_connection=lambda: None)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def send(self, request: ApiRequest[T]) -> T:
        self.step()
        self.arrive(self.now)
        answer = self.answers.pop(0) if request.pays and self.answers else "good"
        if answer == "late":
            self.now += 60
        if request.leave_by is not None and self.now >= request.leave_by:
            raise _failed(FailureKind.NOT_SENT, request)
        if answer in {"gone", "busy"}:
            kind = FailureKind.OUTCOME_UNKNOWN if answer == "gone" else FailureKind.RETRY_LATER
            raise _failed(kind, request)
        if answer == "slow":
            self.under_way.append((self.now + SLOW, request))
            self.step()
            raise _failed(FailureKind.OUTCOME_UNKNOWN, request)
        found = self._answered(request, self.now)
        self.step()
        if answer == "lost":
            raise _failed(FailureKind.OUTCOME_UNKNOWN, request)
        return found

    def arrive(self, by: float) -> None:
        """Let the server get to what was sent long ago."""
        while self.under_way and self.under_way[0][0] <= by:
            self._answered(self.under_way[0][1], self.under_way.pop(0)[0])

    def _answered(self, request: ApiRequest[T], now: float) -> T:
        handler, ids = _route(request)
        if self.person_cancels and request.method == "GET" and "batch_id" in ids:
            batch = self.server.batches[ids["batch_id"]]
            if not batch.timeline.is_terminal(self.now):
                batch.cancel(self.now)
        if not self.names_late and ids.get("file_id") in self._late_files():
            raise _failed(FailureKind.NOT_FOUND, request)
        file = request.upload
        body = {f"{key}": value for key, value in (request.body or {}).items() if key != "expires_after"}
        asked = Asked(
            ids=ids,
            query={key: str(value) for key, value in request.query.items()},
            body=body,
            now=now,
            upload=None if file is None else Upload(file.name, file.path.read_bytes()),
        )
        try:
            reply = handler(self.server, asked)
        except ApiError as error:
            raise _failed(_KINDS.get(error.status, FailureKind.REJECTED), request) from None
        if isinstance(reply, Download):
            assert request.receiver is not None
            request.receiver.restart()
            request.receiver.take(reply.content.read())
            return request.read(ApiReply(data={}))
        assert isinstance(reply, dict)
        if self.names_late:
            late = self._late_files()
            reply = {key: None if value in late else value for key, value in reply.items()}
        return request.read(ApiReply(data=reply))

    def _late_files(self) -> list[str]:
        """Return the files of batches that have ended, and do not show them yet."""
        found = []
        for batch in self.server.batches.values():
            ended_at = batch.timeline.ended_at(self.now)
            if ended_at is not None and self.now < ended_at + self.files_late:
                found += [batch.child_file_id(kind) for kind in FileKind]
        return found

    # -- what is left

    def executed(self) -> Counter[int]:
        """Count how often each row was executed with success: so often it is paid for."""
        return Counter(
            int(item.custom_id.removeprefix("row-"))
            for batch in self.server.batches.values()
            for item in batch.items[: batch.finished(self.now)]
            if item.failure is None
        )

    def cancelled(self) -> Counter[int]:
        """Count the batches of each row that were cancelled."""
        return Counter(
            int(item.custom_id.removeprefix("row-"))
            for batch in self.server.batches.values()
            if batch.timeline.status(self.now) == "cancelled"
            for item in batch.items
        )

    def billed(self) -> int:
        """Return the tokens of all batches."""
        shown = [batch.render(self.now)["usage"] for batch in self.server.batches.values()]
        return sum(usage["total_tokens"] for usage in shown)


def _failed(kind: FailureKind, request: ApiRequest[Any]) -> ApiRequestFailed:
    return ApiRequestFailed(RequestFailure(kind=kind, text="No such file."), pays=request.pays)


def _route(request: ApiRequest[Any]) -> tuple[Callable[..., Any], dict[str, str]]:
    for method, path, handler in (*FILES, *BATCHES):
        found = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path), request.path)
        if method == request.method and found:
            return handler, found.groupdict()
    raise AssertionError(request.path)


def _trigger(world: World, attempt: BatchAttempt, wait: Wait, deadline: float) -> None:
    """Wait for batches as a trigger does, and end them at the deadline."""
    requests = BatchRequests(runner=world)
    ids = [batch.id or "" for batch in attempt.items.batches.active]

    def wakes() -> bool:
        seen = [requests.poll(batch_id) for batch_id in ids]
        ended = sum(isinstance(one, Batch) and one.has_ended for one in seen)
        is_due = wait.create_at is not None and world.now >= wait.create_at
        return is_due or (ended > 0 and (wait.create_at is not None or ended == len(ids)))

    while not wakes() and world.now < deadline:
        world.now += 600
    if world.now < deadline:
        return
    for batch_id in ids:
        requests.cancel(batch_id)
    ends = world.now + BATCH_CANCEL_WAIT
    while world.now < ends and not wakes():
        world.now += 60


def _attempt(
    world: World, number: int, retries: int, ceiling: int | None, *, defers: bool
) -> BatchAttempt | None:
    """Let a worker go on from the journal until it is over, it defers (None), or it crashes."""
    journal = Journal(
        folder=world,
        store=world,
        generation=0,
        writer=f"ti-{number}",
        clock=lambda: world.now,
    )
    items, found = Items.of(journal.load()), []
    if items.count(ItemState.INTENDED):
        world.now += SEND_WITHIN
        items, found = Items.of(journal.load()), journal.uncommitted()
    source = open_input(items=[f"Ask {row}" for row in range(ROWS)], log=LOG)
    head = TaskHead(
        conn_id="c", input=source.head, began_at=1_800_000_000.0, fingerprint={}, token_prefix="abc/"
    )
    attempt = BatchAttempt(
        items,
        token_of=head.token_of_batch,
        deadline=head.began_at + WINDOW,
        now=world.now,
        poll_interval=900.0,
        found=found,
    )
    folder: Any = world
    doing = BatchWork.of(
        BulkSettings(
            request_of=ItemRequest(
                arguments={"model": "m", "max_output_tokens": 50}, names=frozenset({"input"})
            ),
            limits=Limits(item_retries=retries),
        ),
        attempt=attempt,
        journal=journal,
        folder=folder,
        head=head,
        runner=world,
        allowance=Allowance(ceiling=Ceiling(tokens=ceiling)),
        source=source,
        is_retry=number > 0,
        retry_left=True,
        log=LOG,
        sleep=world.sleep,
    )
    while True:
        command = attempt.next(world.now)
        if isinstance(command, Done):
            break
        if isinstance(command, Wait) and command.may_defer and defers:
            _trigger(world, attempt, command, head.began_at + WINDOW)
            return None
        if isinstance(command, Wait):
            world.now = max(command.until, world.now + 0.1)
        else:
            doing.do(command)
    if attempt.stopped is StopReason.WINDOW_OVER:
        doing.expire_retries()
    return attempt


@given(
    crashes=st.lists(st.integers(1, 60), max_size=4),
    creates=st.lists(answers, max_size=6),
    scripts=st.lists(batches, max_size=5),
    failing=st.sets(st.integers(0, ROWS - 1), max_size=3),
    retries=st.integers(0, 2),
    ceiling=st.none() | st.integers(100, 1_500),
    files_late=late_files,
    names_late=st.booleans(),
    person_cancels=st.booleans(),
    failure=st.sampled_from(["server_error", "insufficient_quota"]),
    defers=st.booleans(),
)
@example(**{**CALM, "crashes": [7], "creates": ["lost"]})
@example(**{**CALM, "scripts": [BatchScenario(in_progress=200_000)], "retries": 1})
@example(**{**CALM, "files_late": 1_000_000.0, "retries": 2})
@example(**{**CALM, "files_late": 1_000_000.0, "names_late": True, "retries": 2})
@example(**{**CALM, "person_cancels": True, "scripts": [BatchScenario(in_progress=100_000, times=None)]})
@example(
    **{**CALM, "scripts": [BatchScenario(in_progress=200_000, cancelling=1e6)], "retries": 1, "defers": True}
)
def test_no_row_is_executed_twice_and_each_has_one_result(
    crashes: list[int],
    creates: list[str],
    scripts: list[BatchScenario],
    failing: set[int],
    retries: int,
    ceiling: int | None,
    files_late: float,
    *,
    names_late: bool,
    person_cancels: bool,
    failure: str,
    defers: bool,
) -> None:
    world = World(
        answers=[*creates], files_late=files_late, names_late=names_late, person_cancels=person_cancels
    )
    for scenario in scripts:
        world.server.batch_scripts.plan(scenario)
    for row in failing:
        error = {"code": failure, "message": "Oh."}
        world.server.scripts.plan(Scenario(when=f"Ask {row}$", ends="failed", error=error))
    clock = SimpleNamespace(time=lambda: world.now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "time", clock)
        patch.setattr(building, "MAX_ROWS", FILE_ROWS)
        attempt, left, number = None, [*crashes], 0
        while attempt is None:
            world.crash_in = left.pop(0) if left else None
            try:
                attempt = _attempt(world, number, retries, ceiling, defers=defers)
            except CrashError:
                world.now += 30
                number += 1  # after a wait, the attempt is the same
            assert world.now < 1_800_000_000 + WINDOW + LONGEST_END, "a task does not come to its end"
    world.arrive(float("inf"))
    items = attempt.items
    executed = world.executed()
    assert max(executed.values(), default=0) <= 1, "a row was paid for twice"
    tokens = Counter(batch.parameters["metadata"]["airflow_token"] for batch in world.server.batches.values())
    assert max(tokens.values(), default=0) <= 1, "a batch was created twice"
    assert max(world.cancelled().values(), default=0) <= 1 + retries + len(crashes) + 1, "it has no end"
    active = {batch.id for batch in items.batches.active}
    going = {key for key, batch in world.server.batches.items() if not batch.timeline.is_terminal(world.now)}
    assert going <= active, "a batch goes on that nobody names"
    finals = [row for part in items.parts for row in part.rows]
    assert len(finals) == len(set(finals)), "a row has two final words"
    succeeded = {row for part in items.parts for row in part.succeeded}
    # What is left, and named, may still be read by stop --path.
    if files_late < sum(BATCH_FILE_PAUSES) and not active:
        assert succeeded == set(executed), "what is paid for is not what is kept"
        said = items.spent.usage
        assert (said.total_tokens if said else 0) == world.billed(), "the sum is not the server's bill"
    assert ceiling is None or world.billed() <= ceiling, "more was paid for than allowed"
    if attempt.stopped is None:
        assert set(finals) == set(range(ROWS))
    names = {names for names in world.files if names[0] == "results"}
    assert {("results", part.name) for part in items.parts} <= names
