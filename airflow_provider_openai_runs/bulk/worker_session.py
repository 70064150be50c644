# SPDX-License-Identifier: Apache-2.0
"""What one attempt of a bulk task in a worker has, however its items are processed."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.bulk.channel import Channel, StoreInLine
from airflow_provider_openai_runs.bulk.elsewhere import leads_elsewhere, may_be_elsewhere
from airflow_provider_openai_runs.bulk.head import TaskHead
from airflow_provider_openai_runs.bulk.inputs import BulkInput
from airflow_provider_openai_runs.bulk.items import Items
from airflow_provider_openai_runs.bulk.journal import StateStore
from airflow_provider_openai_runs.bulk.preparing import Preparation
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.storage import HEAD, StorageFolder
from airflow_provider_openai_runs.bulk.work import Concluded, Waits
from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook
from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.budgets import KILL_NOTICE_SECONDS
from airflow_provider_openai_runs.runs.end_of_attempt import (
    UNKNOWN,
    Cause,
    Ending,
    TaskState,
    ending_of,
    has_retry_left,
)
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunConnectionError, RunRequestError
from airflow_provider_openai_runs.runs.prices import Prices
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import Totals

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


class WorkerSession(ABC):
    """
    One attempt of a bulk task in a worker.

    :param ti: Airflow's task instance.
    :param store: the task state store.
    :param ask: asks Airflow for the state of the task instance; it may block.
    :param open_input: returns the input, or raises why it cannot be read.
    """

    def __init__(
        self,
        settings: BulkSettings,
        *,
        ti: Any,
        store: StateStore,
        ask: Callable[[], TaskState],
        open_input: Callable[[], BulkInput],
        log: Logger,
    ) -> None:
        self._settings = settings
        self._ti = ti
        self._channel = Channel()
        self._ask = ask
        self._open_input = open_input
        self._log = log
        self._retry_left = has_retry_left(ti)
        self._started_at = time.time()
        self._prepared = Preparation(
            settings=settings,
            ti=ti,
            store=StoreInLine(store, self._channel),
            log=log,
            prices_of=self._prices_of,
            sleep=self._sleep,
            started_at=self._started_at,
        )
        self._is_over = False
        self._hook: OpenAIRunsHook | None = None

    @abstractmethod
    def run(self, *, attempt_deadline: float | None = None, may_defer: bool = True) -> Concluded | Waits:
        """
        Go on from the journal to the end of the items, or to a long wait.

        :param attempt_deadline: Unix seconds, of an attempt that was deferred.
        :param may_defer: whether a long wait may be handed over.
        :raises OpenAIRunError: if the attempt ends before; it says what may be running, and where.
        """

    @abstractmethod
    def kill(self) -> None:
        """End early; called by a signal's handler, so it takes no lock and asks nothing."""

    @abstractmethod
    def _raise_if_over(self) -> None:
        """
        Return while the attempt may go on.

        :raises OpenAIRunError: if it was killed.
        """

    def _opened(self) -> BulkInput | OpenAIRunError:
        """
        Return the input, or why it cannot be read where nobody is left to put it back.

        :raises OpenAIRunError: if the attempt cannot go on, or a retry may get over it.
        """
        if self._settings.error is not None:
            raise self._settings.error
        try:
            return self._open_input()
        except OpenAIRunError as error:
            if self._retry_left:
                raise
            return error

    def _begun(
        self, opened: BulkInput | OpenAIRunError, folder: StorageFolder, before: Totals
    ) -> tuple[BulkInput, TaskHead]:
        """
        Return the input, and what the generation began with, be it now.

        On the last try, what was created of an input that is gone or another one by now is collected: it is
        paid for. So the input returned may be one without rows, that says why.

        :param before: what the runs of earlier generations have said.
        :raises OpenAIRunError: if nothing was begun, or a retry may get over it.
        """
        if isinstance(opened, BulkInput):
            try:
                hook = OpenAIRunsHook(self._settings.conn_id)
                return opened, self._prepared.begin(folder, opened, before, lambda: self._account(hook))
            except RunRequestError as error:
                if self._retry_left:
                    raise
                opened = error
        head = self._prepared.begun(folder)
        if head is None:
            raise opened
        self._log.error("Nothing more is created, and what is active is collected: %s", opened)
        return BulkInput.lost(head.input, opened), head

    def _ends_at(self, attempt_deadline: float | None) -> float | None:
        """Return when ``execution_timeout`` is over, in Unix seconds: a deferred attempt brings it along."""
        limit = self._settings.execution_timeout
        if attempt_deadline is not None or limit is None:
            return attempt_deadline
        return self._started_at + limit

    def _is_given_up(self) -> bool:
        """Whether nobody goes on with the task, so far as Airflow says; no answer is no mark."""
        try:
            state = self._channel.call(self._ask)
        except Exception as error:  # noqa: BLE001 # it may be away
            self._log.warning("Airflow does not say whether the task goes on: %s", message_text(error))
            state = UNKNOWN
        return ending_of(Cause.KILLED, state, retry_left=True, adoptable=True) is Ending.CANCEL

    def _account(self, hook: OpenAIRunsHook) -> Account | None:
        return self._channel.call(lambda: hook.account)

    def _elsewhere(self, head: TaskHead, items: Items) -> str:
        """Say in what the connection leads elsewhere than where the items are, or nothing."""
        if head.account is None or not may_be_elsewhere(items):
            return ""
        hook = self._hook_of(head)
        return leads_elsewhere(hook, self._account(hook), head.account, items)

    def _hook_of(self, head: TaskHead) -> OpenAIRunsHook:
        if self._hook is None or self._hook.conn_id != head.conn_id:
            self._hook = OpenAIRunsHook(head.conn_id, sleep=self._sleep, existed=True)
        return self._hook

    def _check_account(self, folder: StorageFolder, head: TaskHead, items: Items) -> None:
        """
        Return if the connection leads to where the items are, as far as is known; from now on, that is here.

        :raises RunConnectionError: if it does not: what is unknown to another server may go on and bill.
        """
        if elsewhere := self._elsewhere(head, items):
            raise RunConnectionError(
                f"{elsewhere}. What this task has created may be running and billing where it led before. "
                "Nothing new was created. Edit the connection back, or clear the task to begin anew.",
                retryable=True,
            )
        now = self._account(self._hook_of(head)) if head.account is not None else None
        if now is not None and now.differs_from(head.account):
            folder.write(replace(head, account=now).to_bytes(), HEAD)

    def _prices_of(self, conn_id: str, *, existed: bool) -> Prices:
        return self._channel.call(lambda: OpenAIRunsHook(conn_id, existed=existed).prices)

    def _sleep(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self._raise_if_over()
            time.sleep(min(left, KILL_NOTICE_SECONDS))
