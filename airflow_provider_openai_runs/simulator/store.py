# SPDX-License-Identifier: Apache-2.0
"""The simulator's memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_openai_runs.simulator.clock import Clock
from airflow_provider_openai_runs.simulator.errors import item_not_found, no_such_file, not_found
from airflow_provider_openai_runs.simulator.faults import Faults
from airflow_provider_openai_runs.simulator.lifecycle import Status
from airflow_provider_openai_runs.simulator.limits import Limits, RateLimiter
from airflow_provider_openai_runs.simulator.options import Options
from airflow_provider_openai_runs.simulator.requestlog import RequestLog
from airflow_provider_openai_runs.simulator.scenario import Scenario, default_scenario
from airflow_provider_openai_runs.simulator.scripts import Scripts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_openai_runs.simulator.batch import Batch
    from airflow_provider_openai_runs.simulator.batch_scenario import BatchScenario
    from airflow_provider_openai_runs.simulator.container import Container
    from airflow_provider_openai_runs.simulator.conversation import Conversation
    from airflow_provider_openai_runs.simulator.file import StoredFile
    from airflow_provider_openai_runs.simulator.lifecycle import Timeline
    from airflow_provider_openai_runs.simulator.response import Response
    from airflow_provider_openai_runs.simulator.thread import Thread


class Record(Protocol):
    """A thread run, a response or a batch, as the list of everything that was ever created sees it."""

    timeline: Timeline

    def summary(self, now: float) -> dict[str, Any]:
        """Describe it in one flat object."""


@dataclass(slots=True)
class Store:
    """Everything the server knows; who reads or writes it holds `lock`.

    `askers` leads from a call or an approval request to the response that made it, `history` keeps every
    run, response and batch in the order of creation. Nobody is kept waiting any longer once the server is
    `closing`.
    """

    options: Options = field(default_factory=Options)
    clock: Clock = field(default_factory=Clock)
    lock: threading.RLock = field(default_factory=threading.RLock)
    faults: Faults = field(default_factory=Faults)
    requests: RequestLog = field(default_factory=RequestLog)
    assistants: dict[str, dict[str, Any]] = field(default_factory=dict)
    threads: dict[str, Thread] = field(default_factory=dict)
    responses: dict[str, Response] = field(default_factory=dict)
    conversations: dict[str, Conversation] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)
    files: dict[str, StoredFile] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    askers: dict[str, Response] = field(default_factory=dict)
    history: list[Record] = field(default_factory=list)
    scripts: Scripts[Scenario] = field(default_factory=Scripts)
    batch_scripts: Scripts[BatchScenario] = field(default_factory=Scripts)
    limits: Limits = field(init=False)
    rate_limiter: RateLimiter = field(init=False)
    closing: bool = False

    def __post_init__(self) -> None:
        """Begin with the limits that the options have."""
        self.limit(self.options.limits)

    def limit(self, limits: Limits) -> None:
        """Set new limits; what was asked until now does not count against them."""
        self.limits = limits
        self.rate_limiter = RateLimiter(limits)

    def scenario_for(
        self,
        subject: str,
        *,
        functions: Sequence[Mapping[str, Any]],
        can_expire: bool = True,
    ) -> Scenario:
        """Take the script of a new run about `subject`, else the default that calls one of `functions`."""
        script = self.scripts.take(
            lambda one: one.matches(subject) and (can_expire or one.ends != Status.EXPIRED)
        )
        return script or default_scenario(functions)

    def assistant(self, key: str) -> dict[str, Any]:
        """Find an assistant, or refuse its id."""
        if key not in self.assistants:
            raise not_found("assistant", key)
        return self.assistants[key]

    def thread(self, key: str) -> Thread:
        """Find a thread, or refuse its id."""
        if key not in self.threads:
            raise not_found("thread", key)
        return self.threads[key]

    def response(self, key: str, now: float) -> Response:
        """Find a response that can be seen, or refuse its id."""
        found = self.responses.get(key)
        if found is None or not found.is_visible(now):
            raise item_not_found("Response", key)
        return found

    def conversation(self, key: str) -> Conversation:
        """Find a conversation, or refuse its id."""
        if key not in self.conversations:
            raise item_not_found("Conversation", key)
        return self.conversations[key]

    def container(self, key: str) -> Container:
        """Find a container, or refuse its id."""
        if key not in self.containers:
            raise item_not_found("Container", key)
        return self.containers[key]

    def file(self, key: str, now: float) -> StoredFile:
        """Find a file that can be seen, or refuse its id."""
        found = self.files.get(key)
        if found is None or not found.is_visible(now):
            raise no_such_file(key)
        return found

    def batch(self, key: str, now: float) -> Batch:
        """Find a batch that can be seen, or refuse its id."""
        found = self.batches.get(key)
        if found is None or not found.is_visible(now):
            raise not_found("batch", key)
        return found

    def reset(self) -> None:
        """Forget everything and return to real time."""
        indexes: tuple[dict[str, Any], ...] = (
            self.assistants,
            self.threads,
            self.responses,
            self.conversations,
            self.containers,
            self.files,
            self.batches,
            self.askers,
        )
        for index in indexes:
            index.clear()
        self.history.clear()
        self.scripts.clear()
        self.batch_scripts.clear()
        self.limit(self.options.limits)
        self.faults.clear()
        self.requests.clear()
        self.clock.reset()
