# SPDX-License-Identifier: Apache-2.0
"""The record of a task's run in Airflow's task state store (3.3+), the only place that survives a retry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.record import SPENDING, NoLongerOwnerError, Record
from airflow_provider_openai_runs.runs.spending import Spending
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.task_store import TaskStore
from airflow_provider_openai_runs.wire import wire_of

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

KEY = "openai_run"


@dataclass(frozen=True, slots=True)
class SavedIntent:
    """An intent that is on record; ``save_intent`` alone makes one, and no create is sent without."""

    record: Record


class RecordStore:
    """
    Reads and writes the record of one task instance, and what it has spent, which is stored with it.

    :param store: ``context.get("task_state_store")``; None below Airflow 3.3, where nothing is kept.
    """

    def __init__(self, store: Any, *, log: Logger) -> None:
        self._store = None if store is None else TaskStore(store=store, key=KEY)
        self._log = log
        self._is_known = False
        self._known: Record | None = None
        self._spending = Spending()
        #: Whether something of it is not stored yet.
        self.is_behind = False

    @property
    def is_kept(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    def load(self) -> Record | None:
        """
        Read the record; None if there is none.

        A store that cannot be read is an error: not to know may pay twice. A record that cannot be read, or
        names a kind of run that this version does not know, is ``unreadable``.
        """
        stored = self._store.load() if self._store is not None else None
        record = Record.from_json(stored)
        if record is not None and (kind := record.ref.kind if record.ref else record.kind):
            try:
                wire_of(kind)
            except RunRequestError:
                named = record.ref or f"a create ({kind})"
                unknown = f"it names {named}, of a kind that this version does not know"
                record = replace(record, run=None, kind="", unreadable=message_text(unknown))
        if self.is_kept:
            spent = stored.get(SPENDING) if isinstance(stored, dict) else None
            self._spending, self.is_behind = Spending.from_json(spent, record=record), False
        self._know(record)
        return record

    def current(self) -> Record | None:
        """Return the record as this attempt has read or written it last; a successor's is another one."""
        return self._known if self._is_known else self.load()

    @property
    def spending(self) -> Spending:
        """What was spent, as this attempt has read or changed it last."""
        self.current()
        return self._spending

    def spend(self, spending: Spending) -> None:
        """Change what was spent; it is written with the next record, in one."""
        self.is_behind = self.is_behind or spending != self._spending
        self._spending = spending

    def save_intent(self, record: Record) -> SavedIntent:
        """
        Write what is about to be paid for; if that fails, nothing may be sent.

        :raises NoLongerOwnerError: if a later attempt has taken over.
        """
        if self._store is not None:
            self._set(record)
            self._know(record)
        return SavedIntent(record)

    def save(self, record: Record | None) -> None:
        """
        Write what is known of a run; None forgets an intent whose create was not accepted.

        A failure is only a warning: the run goes on with what XCom and the trigger carry.

        :raises NoLongerOwnerError: if a later attempt has taken over.
        """
        if self._store is None:
            self._spending = self._spending.with_record(record)
            return
        self._know(record)
        try:
            self._set(record)
        except NoLongerOwnerError:
            if record is not None:
                raise
            self._log.warning("Could not forget the intent: a later attempt has taken over")
        except Exception as error:  # noqa: BLE001 # of Airflow, whatever it is
            self._log.warning(
                "Could not write the record of the run; a retry may not find it: %s", message_text(error)
            )

    def _know(self, record: Record | None) -> None:
        self._is_known, self._known = True, record
        self._spending = self._spending.with_record(record)

    def _set(self, record: Record | None) -> None:
        spent = self._spending.to_json()
        # Beside a record it stands always: one of an older version has none.
        stored = {**(record.to_json() if record else {}), **({SPENDING: spent} if spent or record else {})}
        assert self._store is not None  # noqa: S101 # for mypy
        if stored:
            self._store.save(stored)
        else:
            self._store.delete()
        self.is_behind = False
