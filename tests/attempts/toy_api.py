# SPDX-License-Identifier: Apache-2.0
"""A server of our own and a store, as values: what the production driver of ownership talks to in tests."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from airflow_provider_openai_runs.attempts.record_store import SavedIntent
from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.acquisition import SearchResult
from airflow_provider_openai_runs.runs.checks import TOKEN_KEY
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunCallError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.fate import CancelResult
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.usage import Usage
from airflow_provider_openai_runs.wire import Answer

#: How long an accepted run may be missing from a list, in seconds.
HIDDEN = 33.0
BUSY = "Thread thread_1 already has an active run {id}."


class CrashError(BaseException):
    """The worker is gone; nothing of it may catch this."""


class RefusedError(Exception):
    """Airflow's answer to a write of an attempt that a later one has replaced."""

    class error:  # noqa: N801 # as Airflow names it
        detail: ClassVar[dict[str, int]] = {"status_code": 404}


#: Where a connection leads, until somebody edits it.
HERE = "https://here.example/v1"


@dataclass
class ToyRun:
    id: str
    token: str
    accepted_at: float
    status: RunStatus = RunStatus.QUEUED
    #: Somebody read that it may be running and billing.
    is_named: bool = False
    #: A worker that comes after knows of it: since it is on record, or since it was found.
    is_known: bool = False
    #: It completed, and its answer was refused.
    is_refused: bool = False
    #: It completed with calls, as a response does, and nobody has answered them: its conversation is blocked.
    has_calls: bool = False
    #: It shows its calls for ever.
    called: bool = False
    #: What it tells to have used, once it has ended.
    tokens: int = 0
    #: The address of the server that knows it.
    address: str = HERE


@dataclass
class Luck:
    """What happens to the next requests of the worker."""

    #: Whether a create whose answer is lost has been accepted.
    accepted: bool = True
    #: What becomes of the answers to the first creates of an attempt; None brings it, as later ones do.
    creates: list[FailureKind | None] = field(default_factory=list)
    seconds: float = 0.0
    fails: FailureKind | None = None
    #: After so many calls to the outside the worker dies: before the call, or after it.
    crash_at: int | None = None
    crash_after: bool = False
    #: What becomes of the first writes to the store of an attempt: written, not written, or written and the
    #: answer lost; refused, since a later attempt has taken over.
    writes: list[Literal["written", "fails", "answer lost", "refused"]] = field(default_factory=list)
    #: Whether one of them was not written.
    skipped_writes: bool = False
    #: By how many seconds the clock of the worker differs.
    skew: float = 0.0
    #: Where the connection leads.
    address: str = HERE


@dataclass
class World:
    """Everything that outlives a worker: the server's runs, the store, the time."""

    has_list: bool = True
    one_run_a_thread: bool = False
    now: float = 1_700_000_000.0
    runs: list[ToyRun] = field(default_factory=list)
    stored: dict[str, Any] = field(default_factory=dict)
    luck: Luck = field(default_factory=Luck)
    calls: int = 0
    #: Called at each moment at which a worker may die.
    check: Callable[[], None] = lambda: None
    #: Called when a create is sent.
    check_create: Callable[[str], None] = lambda _: None
    #: What the run of a number uses, and tells at its end.
    tokens_of: Callable[[int], int] = lambda number: 4**number
    #: What a worker has asked of the outside, for comparing two of them.
    trace: list[tuple[Any, ...]] = field(default_factory=list)

    def alive(self) -> list[ToyRun]:
        return [run for run in self.runs if run.status.is_active and not run.is_named]

    def record(self) -> Record | None:
        return Record.from_json(self.stored.get("openai_run"))

    def outside(self, name: str, call: Callable[[], Any], *details: Any) -> Any:
        """Do one thing outside of the worker, which may die right before or right after it."""
        self.trace.append((name, *details))
        self.check()
        self.calls += 1
        dies = self.luck.crash_at is not None and self.calls >= self.luck.crash_at
        is_dead = dies and self.calls > (self.luck.crash_at or 0)
        if is_dead or (dies and not self.luck.crash_after):
            raise CrashError
        found = call()
        self.check()
        if dies:
            raise CrashError
        return found


@dataclass
class ToyStore:
    """Airflow's task state store."""

    world: World

    def get(self, key: str) -> Any:
        return self.world.outside("load", lambda: copy.deepcopy(self.world.stored.get(key)))

    def set(self, key: str, value: Any, **_: Any) -> None:
        written = {name: item for name, item in value.items() if name not in {"token", "intent_at"}}
        luck = self.world.luck.writes.pop(0) if self.world.luck.writes else "written"

        def write() -> None:
            if luck in {"written", "answer lost"}:
                self.world.stored[key] = copy.deepcopy(value)
                for run in self.world.runs:
                    run.is_known |= run.id == value.get("ref", {}).get("id")
            else:
                self.world.luck.skipped_writes = True

        self.world.outside("save", write, written)
        if luck == "refused":
            raise RefusedError
        if luck != "written":
            raise ConnectionError("Airflow's API is away")

    def delete(self, key: str) -> None:
        self.world.outside("forget", lambda: self.world.stored.pop(key, None))


@dataclass
class ToyApi:
    """``RunsApi`` for the runs of ``world``."""

    world: World
    conn_id: str = "ai"

    def account(self, _conn_id: str) -> Account:
        return Account.of(self.world.luck.address)

    def sleep(self, seconds: float) -> None:
        self.world.outside("sleep", lambda: self._wait(seconds), round(seconds, 3))

    def poll(self, ref: RunRef) -> PollResult | RequestFailure:
        found: PollResult | RequestFailure = self.world.outside("poll", lambda: self._polled(ref), ref.id)
        return found

    def retrieve(self, ref: RunRef, *, budget: float) -> Run | RequestFailure:
        def read() -> Run | RequestFailure:
            polled = self._polled(ref)
            if isinstance(polled, RequestFailure):
                return polled
            run = self._run(ref)
            return as_run(run, ref)

        found: Run | RequestFailure = self.world.outside("retrieve", read, ref.id, budget)
        return found

    def search(self, intent: Record) -> SearchResult | RequestFailure:
        def look_up() -> SearchResult | RequestFailure:
            kind = self.world.luck.fails
            if kind is not None and kind is not FailureKind.NOT_FOUND:
                self._wait(30.0)  # as long as it is tried
                return RequestFailure(kind=kind, text="no luck")
            listed = [
                run
                for run in self.world.runs
                if run.token.startswith(intent.token) and run.accepted_at + HIDDEN <= self.world.now
                if run.address == self.world.luck.address
            ]
            ref = self.ref(listed[-1]) if listed and self.world.has_list else None
            return SearchResult(ref=ref, conclusive=self.world.has_list)

        found: SearchResult | RequestFailure = self.world.outside("search", look_up)
        if isinstance(found, SearchResult) and found.ref is not None:
            self._run(found.ref).is_known = True
        return found

    def cancel(self, ref: RunRef, *, wait: float, visible_by: float = 0.0) -> CancelResult:
        del visible_by

        def end() -> CancelResult:
            run = self._run(ref)
            if self.world.luck.fails in {FailureKind.OUTCOME_UNKNOWN, FailureKind.ACCESS_DENIED}:
                self._wait(min(wait, 100.0))
                return CancelResult(
                    polled=None, failure=RequestFailure(kind=self.world.luck.fails, text="no luck")
                )
            if run.address != self.world.luck.address:
                return CancelResult(polled=None, is_gone=True)
            if run.status.is_active:
                run.status = RunStatus.CANCELLED
            return CancelResult(polled=_polled(run), accepted=True)

        found: CancelResult = self.world.outside("cancel", end, ref.id)
        return found

    def create_thread(self, *, budget: float) -> str | RequestFailure | None:
        found: str = self.world.outside("create thread", lambda: "thread_1", budget)
        return found

    def create(
        self,
        intent: SavedIntent,
        *,
        thread_id: str | None,
        timeout: float,
        closing: tuple[Mapping[str, Any], ...] = (),
    ) -> Run | RequestFailure:
        assert not closing, "the toy server takes answers to calls without a create"

        def send() -> Run | RequestFailure:
            world, luck = self.world, self.world.luck
            world.check_create(intent.record.token)
            here = [run for run in world.runs if run.address == luck.address]
            if any(run.has_calls for run in here):
                text = "No tool output found for function call call_1."
                return RequestFailure(kind=FailureKind.REJECTED, text=text, http_status=400)
            active = [run for run in here if run.status.is_active]
            if world.one_run_a_thread and active:
                text = BUSY.format(id=active[-1].id)
                return RequestFailure(kind=FailureKind.REJECTED, text=text, http_status=400)
            self._wait(min(luck.seconds, timeout))
            kind = luck.creates.pop(0) if luck.creates else None
            if kind is None or (luck.accepted and kind is FailureKind.OUTCOME_UNKNOWN):
                run = ToyRun(id=f"run{len(world.runs)}", token=intent.record.token, accepted_at=world.now)
                run.tokens, run.address = world.tokens_of(len(world.runs)), luck.address
                world.runs.append(run)
                if kind is None:
                    return as_run(run, self.ref(run))
            return RequestFailure(kind=kind, text="no luck")

        found: Run | RequestFailure = self.world.outside("create", send, thread_id)
        return found

    def close(self, ref: RunRef) -> str | RequestFailure | None:
        def answer() -> str | None:
            run = self._run(ref)
            if not run.has_calls or run.address != self.world.luck.address:
                return None
            run.has_calls = False
            return "conv_1"

        found: str | None = self.world.outside("close", answer, ref.id)
        return found

    def answer(
        self,
        intent: SavedIntent | None,
        run: Run,
        outputs: Mapping[str, Answer],
        request: RunRequest,
        *,
        timeout: float,
    ) -> Run | RequestFailure:
        raise NotImplementedError("calls are answered elsewhere")

    def error_of(self, failure: RequestFailure, doing: str) -> OpenAIRunError:
        return RunCallError(f"Could not {doing}: {failure}")

    def _wait(self, seconds: float) -> None:
        self.world.now += seconds

    def _run(self, ref: RunRef) -> ToyRun:
        return next(run for run in self.world.runs if run.id == ref.id)

    def ref(self, run: ToyRun) -> RunRef:
        return RunRef(kind=RunKind.THREAD_RUN, id=run.id, thread_id="thread_1", conn_id=self.conn_id)

    def _polled(self, ref: RunRef) -> PollResult | RequestFailure:
        run, kind = self._run(ref), self.world.luck.fails
        if run.address != self.world.luck.address:
            return RequestFailure(kind=FailureKind.NOT_FOUND, text=f"No run found with id '{run.id}'.")
        # A server that says 404 after the first minute tells the truth: the run is gone.
        if kind is FailureKind.NOT_FOUND and self.world.now > run.accepted_at + HIDDEN:
            run.status, run.has_calls = RunStatus.EXPIRED, False
        if kind is not None:
            return RequestFailure(kind=kind, text="no luck")
        return _polled(run)


def _polled(run: ToyRun) -> PollResult:
    return PollResult(status=run.status, raw_status=run.status.value, needs_action=run.called)


def as_run(run: ToyRun, ref: RunRef) -> Run:
    usage = Usage(prompt_tokens=run.tokens, total_tokens=run.tokens) if run.status.is_terminal else None
    return Run(
        ref=ref,
        status=run.status,
        raw_status=run.status.value,
        object="thread.run",
        metadata={TOKEN_KEY: run.token},
        usage=usage,
    )
