# SPDX-License-Identifier: Apache-2.0
"""The requests of a task by batches, each with the retries that it may have; a create is sent once."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.budgets import (
    BATCH_CREATE_SECONDS,
    BATCH_FILE_BUDGET,
    BATCH_LIST_BUDGET,
    POLL_TIMEOUT,
)
from airflow_provider_openai_runs.runs.errors import RunCallError, RunConnectionError, RunRequestError
from airflow_provider_openai_runs.runs.failure import RequestFailure, bounded_retry_after
from airflow_provider_openai_runs.wire import Flow, batches, flows
from airflow_provider_openai_runs.wire.batches import Batch
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest, Receiver

T = TypeVar("T")


class FlowRunner(Protocol):
    """Runs flows; ``OpenAIRunsHook`` does."""

    def run_flow(self, flow: Flow[T]) -> T:
        """
        Run a flow to its result.

        :raises ApiRequestFailed: for the caller to decide about.
        """


@dataclass(frozen=True, kw_only=True)
class BatchRequests:
    """
    What is asked of a server.

    :param metadata: of the batches, besides their token.
    :param create_within: seconds for the answer to a create, of ``BATCH_CREATE_SECONDS`` at most.
    """

    runner: FlowRunner
    metadata: Mapping[str, str] = field(default_factory=dict)
    create_within: float = BATCH_CREATE_SECONDS

    def uploaded(self, path: Path, name: str, *, since: float, but: Container[str] = ()) -> str:
        """
        Return the id of a file of requests, which an earlier attempt may have uploaded.

        :param since: Unix seconds; it was not uploaded before.
        :param but: ids of files that cannot be used.
        :raises RunCallError: if it cannot be uploaded now.
        :raises RunConnectionError: if the key is refused, or the account has no quota.
        :raises RunRequestError: if the server refuses it.
        """
        try:
            found = self._retried(batches.find_file(name, since=since, but=but), BATCH_LIST_BUDGET)
        except ApiRequestFailed:
            found = None  # a server without a list: another one costs nothing
        try:
            return found or self._retried(batches.uploaded(path, name), BATCH_FILE_BUDGET)
        except ApiRequestFailed as failed:
            failure, text = failed.failure, f"A file of requests could not be uploaded: {failed.failure}."
            if failure.is_of_account:
                raise RunConnectionError(text, retryable=True) from None
            if failure.is_transient:
                after = bounded_retry_after(failure.retry_after)
                raise RunCallError(text, retryable=True, retry_after=after) from None
            raise RunRequestError(text) from None

    def create(self, batch: SentBatch, *, leave_by: float) -> Batch | RequestFailure:
        """
        Send a create, once.

        :param leave_by: Unix seconds, after which it must not leave any more.
        """
        request = batches.create(batch.file_id, token=batch.token, metadata=self.metadata)
        timeout = min(self.create_within, BATCH_CREATE_SECONDS)
        return self._asked(replace(request, timeout=timeout, leave_by=leave_by))

    def find(self, batch: SentBatch) -> Batch | RequestFailure | None:
        """Find a batch by its token; None if the list does not have it."""
        try:
            flow = batches.find(batch.token, file_id=batch.file_id, since=batch.at)
            return self._retried(flow, BATCH_LIST_BUDGET)
        except ApiRequestFailed as failed:
            return failed.failure

    def poll(self, batch_id: str) -> Batch | RequestFailure:
        """Ask how a batch is doing."""
        return self._asked(replace(batches.retrieve(batch_id), timeout=POLL_TIMEOUT))

    def cancel(self, batch_id: str) -> Batch | RequestFailure:
        """Ask a batch to end."""
        return self._asked(replace(batches.cancel(batch_id), timeout=POLL_TIMEOUT))

    def download(self, file_id: str, receiver: Receiver) -> None:
        """
        Let ``receiver`` take a file.

        :raises ApiRequestFailed: if it cannot be had.
        """
        self._retried(flows.single(batches.content(file_id, receiver)), BATCH_FILE_BUDGET)

    def _retried(self, flow: Flow[T], budget: float) -> T:
        return self.runner.run_flow(flows.with_retries(flow, budget=budget))

    def _asked(self, request: ApiRequest[Batch]) -> Batch | RequestFailure:
        try:
            return self.runner.run_flow(flows.single(request))
        except ApiRequestFailed as failed:
            return failed.failure
