# SPDX-License-Identifier: Apache-2.0
"""What an attempt of a bulk task begins with: the folder of its generation, its journal, what that tells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_openai_runs.bulk.allowance import Allowance
from airflow_provider_openai_runs.bulk.attempt import BulkAttempt
from airflow_provider_openai_runs.bulk.events import Event, JournalError
from airflow_provider_openai_runs.bulk.head import TaskHead, begin
from airflow_provider_openai_runs.bulk.inputs import BulkInput
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.journal import KEY, Head, Journal, StateStore
from airflow_provider_openai_runs.bulk.judging import RunJudge
from airflow_provider_openai_runs.bulk.parts import Parts
from airflow_provider_openai_runs.bulk.polls import Polls
from airflow_provider_openai_runs.bulk.rate_limit import RateLimit
from airflow_provider_openai_runs.bulk.settings import BulkSettings
from airflow_provider_openai_runs.bulk.storage import HEAD, StorageFolder
from airflow_provider_openai_runs.bulk.work import Work
from airflow_provider_openai_runs.runs.account import Account
from airflow_provider_openai_runs.runs.budgets import SEND_WITHIN
from airflow_provider_openai_runs.runs.ceiling import no_price
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunStorageError
from airflow_provider_openai_runs.runs.prices import Prices
from airflow_provider_openai_runs.runs.record import token_prefix
from airflow_provider_openai_runs.runs.request import changed_arguments
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.runs.usage import Totals

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


class PricesOf(Protocol):
    """Reads the prices of a connection."""

    def __call__(self, conn_id: str, *, existed: bool) -> Prices:
        """Return them, or raise an OpenAIRunError; ``existed``: something was created with the connection."""


@dataclass(kw_only=True)
class Preparation:
    """
    Opens what there is of a task.

    :param ti: Airflow's task instance.
    :param prices_of: reads the prices of a connection.
    :param sleep: takes seconds; a kill interrupts it.
    :param started_at: Unix seconds at which this attempt began.
    :ivar unpriced: why nobody knows what a run costs; None if somebody does.
    :ivar last_uri: the folder in which earlier attempts have written, where it is known.
    """

    settings: BulkSettings
    ti: Any
    store: StateStore
    log: Logger
    prices_of: PricesOf
    sleep: Callable[[float], None]
    started_at: float
    unpriced: OpenAIRunError | None = field(default=None, init=False)
    last_uri: str | None = field(default=None, init=False)

    @property
    def generation(self) -> int:
        """Which one this is: a clear raises it."""
        return int(self.ti.max_tries)

    def stored(self) -> Head | None:
        """
        Return what is committed; None if nothing is.

        :raises RunStorageError: if it cannot be read.
        """
        found = self.store.load()
        if found is None:
            return None
        with journal_errors(KEY):
            return Head.from_json(found)

    def folder(self, generation: int, stored: Head | None) -> StorageFolder:
        """
        Return the folder of a generation: where it began, whatever ``output_path`` is now.

        :raises RunRequestError: if there is no such storage.
        """
        if stored is not None and stored.generation == generation:
            self.last_uri = stored.folder
            if stored.folder is not None:
                return StorageFolder.at(stored.folder, log=self.log)
        return StorageFolder.of_task(
            self.settings.output_path, ti=self.ti, generation=generation, log=self.log
        )

    def begin(
        self, folder: StorageFolder, source: BulkInput, before: Totals, account: Callable[[], Account | None]
    ) -> TaskHead:
        """
        Return what the generation began with, be it now, and say what the task asks for since.

        :param before: what the runs of earlier generations have said.
        :param account: says where the connection leads.
        :raises RunRequestError: if the input is another one by now; nothing was sent by this attempt.
        :raises RunStorageError: if the storage does not give or take it.
        """
        ti, settings = self.ti, self.settings
        task = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}
        head = TaskHead(
            conn_id=settings.conn_id,
            input=source.head,
            began_at=self.started_at,
            fingerprint=settings.fingerprint,
            task=task,
            token_prefix=token_prefix((*task.values(), self.generation)),
            before=before,
        )
        begun = begin(folder, head, account)
        if changed := changed_arguments(begun.fingerprint, head.fingerprint):
            self.log.warning(
                "Arguments have changed since the first attempt: %s. Items that have a run keep it, and the "
                "others are created with what is given now; clear the task to create all anew",
                ", ".join(changed),
            )
        return begun

    def begun(self, folder: StorageFolder) -> TaskHead | None:
        """
        Return what the generation has begun with; None if it has not, or nobody can tell.

        :raises RunStorageError: if the storage does not give it.
        """
        try:
            return TaskHead.from_bytes(folder.read(HEAD))
        except (FileNotFoundError, ValueError):
            return None

    def work_of(self, stored: Head, *, as_it_is: bool = False) -> Work | None:
        """
        Return what there is of a generation that was begun, so that it can be ended; None if nothing is.

        :param as_it_is: decide nothing about creates without an answer.
        :raises RunStorageError: if it cannot be read.
        """
        folder = self.folder(stored.generation, stored)
        try:
            head = TaskHead.from_bytes(folder.read(HEAD))
        except FileNotFoundError:
            if stored.writers:
                text = (
                    f"{folder.uri_of(HEAD)} is gone, so that nobody can end what was created there. It may "
                    "be running and billing; the journal beside it names the runs."
                )
                if self.settings.on_unendable == "fail":
                    raise RunStorageError(f"{text} Nothing was created.") from None
                self.log.error("%s", text)  # noqa: TRY400 # the text says what there is to know
            return None
        except ValueError as error:
            raise RunStorageError(f"{folder.uri_of(HEAD)} cannot be read: {error}.") from None
        return self.work(folder, head, stored.generation, as_it_is=as_it_is)

    def work(
        self,
        folder: StorageFolder,
        head: TaskHead,
        generation: int,
        *,
        deadline: float | None = None,
        as_it_is: bool = False,
    ) -> Work:
        """
        Return what this attempt goes on with.

        :param deadline: of the runs, in Unix seconds.
        :raises RunStorageError: if the journal cannot be read.
        """
        journal = self.journal(folder, generation)
        with journal_errors(folder.uri):
            items = Items.of(journal.load()) if as_it_is else None
            attempt = self.attempt(journal, head, deadline=deadline, items=items)
        return Work(attempt=attempt, journal=journal, folder=folder, head=head)

    def journal(self, folder: StorageFolder, generation: int) -> Journal:
        """Return the journal of a generation, with which this attempt goes on."""
        return Journal(
            folder=folder, store=self.store, generation=generation, writer=str(self.ti.id), uri=folder.uri
        )

    def read(self, journal: Journal) -> tuple[Items, list[Event]]:
        """
        Return the items as the journal tells them, and what an attempt before has written and not committed.

        Where a create may be under way, that is waited for first.

        :raises JournalError: if the journal cannot be read.
        """
        items = Items.of(journal.load())
        if not items.count(ItemState.INTENDED):
            return items, []
        # The attempt before may be cut off and alive: until then it may send, and write down the answer.
        self.sleep(self.started_at + SEND_WITHIN - time.time())
        items = Items.of(journal.load())
        return items, journal.uncommitted()

    def attempt(
        self, journal: Journal, head: TaskHead, *, deadline: float | None = None, items: Items | None = None
    ) -> BulkAttempt:
        """
        Return the attempt that goes on from a journal.

        :param deadline: of the runs, in Unix seconds.
        :param items: what the journal says, where that is known; creates in it stay without an answer.
        :raises JournalError: if the journal cannot be read.
        """
        settings = self.settings
        leaves_intents = items is not None
        items, found = self.read(journal) if items is None else (items, [])
        writer = journal.writer
        closed = sum(part.name.startswith(f"{writer}-") for part in items.parts)
        attempt = BulkAttempt(
            items,
            limits=settings.limits,
            judge=RunJudge(
                on_incomplete=settings.on_incomplete,
                output_type=settings.output_type,
                is_retry=self.ti.try_number > 1,
                stopped=lambda: attempt.stopped,
            ),
            token_of=head.token_of,
            polls=Polls(
                per_second=settings.polls_per_second,
                deadline=deadline,
                poll_interval=settings.poll_interval,
            ),
            parts=Parts(writer=writer, closed=closed),
            rate_limit=RateLimit(
                requests_per_minute=settings.requests_per_minute,
                tokens_per_minute=settings.tokens_per_minute,
            ),
            now=time.time(),
            found=found,
            # What ends in a hurry is not asked for its price.
            allowance=Allowance(conn_id=head.conn_id)
            if leaves_intents
            else self.allowance(head.conn_id, items),
            leaves_intents=leaves_intents,
            cancels_at_deadline=settings.cancel_on_timeout,
            known_rows=head.input.rows,
            cancel_within=settings.delete_within,
        )
        return attempt

    def allowance(self, conn_id: str, items: Items) -> Allowance:
        """
        Return what may be spent; without a price that is needed ``unpriced`` says why.

        :param items: for which something was created, their connection has existed.
        """
        ceiling, model = self.settings.ceiling, self.settings.model
        self.unpriced = None
        try:
            prices = self.prices_of(conn_id, existed=bool(items.end))
            if ceiling.cost is not None and model is not None and prices.of(model) is None:
                raise no_price(conn_id, model)
        except OpenAIRunError as error:
            self.unpriced = error
            return Allowance(conn_id=conn_id, ceiling=replace(ceiling, cost=None))
        return Allowance(conn_id=conn_id, ceiling=ceiling, prices=prices)

    def may_create(self, items: Items) -> bool:
        """
        Return whether more may be created with the prices that there are.

        :param items: what was created before the prices were lost is collected.
        :raises OpenAIRunError: if there is nothing to collect.
        """
        if (error := self.unpriced) is None:
            return True
        if not items.end:
            raise error
        self.log.warning("There are no costs: %s", message_text(error))
        return self.settings.ceiling.cost is None


@contextmanager
def journal_errors(where: str) -> Iterator[None]:
    """Say of whatever cannot be read of a journal where it lies."""
    try:
        yield
    except JournalError as error:
        raise RunStorageError(
            f"The journal cannot be read ({where}): {error} This attempt has sent nothing."
        ) from None
