# SPDX-License-Identifier: Apache-2.0
"""From the files of a batch that has ended to a final word on each of its rows, or another chance."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_openai_runs.bulk.allowance import Allowance
from airflow_provider_openai_runs.bulk.batch.commands import Collect, GiveUp
from airflow_provider_openai_runs.bulk.batch.lines import Line, from_line
from airflow_provider_openai_runs.bulk.batch.reading import Reading
from airflow_provider_openai_runs.bulk.batch.recorder import Recorder
from airflow_provider_openai_runs.bulk.batch.requests import BatchRequests
from airflow_provider_openai_runs.bulk.commands import Judge, Verdict
from airflow_provider_openai_runs.bulk.items import Items, ItemState
from airflow_provider_openai_runs.bulk.parts import Outcome
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch
from airflow_provider_openai_runs.runs.budgets import BATCH_FILE_PAUSES
from airflow_provider_openai_runs.runs.error_codes import CodeMeaning, meaning_of
from airflow_provider_openai_runs.runs.errors import RunCallError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.transport.spool import FileSpool
from airflow_provider_openai_runs.wire.batches import QUEUE_IS_FULL, Batch, LineError
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.response_replies import read_created

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Bytes of a file that a batch writes, and of a line of it.
MAX_FILE_BYTES = 10 * 1024**3
MAX_LINE_BYTES = 64 * 1024**2
#: Whatever it was: a batch shows the whole response.
_ASKED = RunRequest(kind=RunKind.RESPONSE, body={})
#: What is said of a row that no file of its batch names, by the status of the batch.
_UNNAMED = {
    "expired": "expired: its batch was over before it was executed",
    "cancelled": "its batch was cancelled before it was executed",
}


@dataclass(frozen=True, kw_only=True)
class Collector:
    """
    Reads what batches have written.

    :param item_retries: how often a row may be sent again.
    :param earlier_attempts: of this task, each of which may have cancelled what it left.
    :param allowance: what its tokens cost.
    :param sleep: takes seconds.
    :param retry_left: whether a retry of the task would read what a gateway keeps away.
    """

    requests: BatchRequests
    items: Items
    judge: Judge
    recorder: Recorder
    conn_id: str
    item_retries: int
    log: Logger
    earlier_attempts: int = 0
    allowance: Allowance = field(default_factory=Allowance)
    sleep: Callable[[float], None] = time.sleep
    retry_left: bool = False

    def collect(self, command: Collect) -> bool:
        """
        Give each row of a batch a final word or another chance, and commit it.

        It may be done again after it was interrupted: what is committed is left as it is. Files that are late
        are waited for: a row that was executed is paid for, and is not sent again for want of its line.

        :return: whether the account can pay for more; else some rows were refused for that, and are new.
        :raises RunCallError: if a file cannot be read for now.
        """
        reading = Reading(
            seen=command.seen,
            rows=frozenset(command.batch),
            waiting=set(self.items.batches.rows_left(command.batch)),
            cut_off=command.cut_off,
        )
        self._read(reading)
        for pause in BATCH_FILE_PAUSES:
            if not reading.is_short:
                break
            self._wait(reading, pause)
            self._read(reading)
        if self.retry_left and reading.is_short and reading.unproven is not None:
            raise _unread(f"The files ({reading.seen.files})", reading.unproven)
        for line in reading.errors.values():
            self._take(line, reading)
        self._take_unnamed(command.batch, reading)
        if reading.left or reading.refused_by_account:
            self.recorder.refused(command.batch.token)
        self.recorder.flush()
        return not reading.refused_by_account

    def _read(self, reading: Reading) -> None:
        seen = reading.seen
        reading.is_gone, reading.unproven = False, None
        for file_id in filter(None, (seen.output_file_id, seen.error_file_id)):
            try:
                for line in self._lines(file_id, reading):
                    if line.response is None:
                        reading.errors.setdefault(line.row, line)
                        reading.read |= {line.row} & reading.rows
                    else:
                        self._take(line, reading)
            except FileNotFoundError:
                reading.is_gone = reading.is_gone or file_id == seen.output_file_id

    def _wait(self, reading: Reading, pause: float) -> None:
        """Wait for files that are late; the batch may name others by then."""
        self.recorder.flush()
        seen = reading.seen
        self.log.warning(
            "Batch %s is %s (%s), and its files (%s) have %d lines of it: they are read again in %.0f s",
            *(seen.id, seen.status, dict(seen.counts), seen.files, len(reading.read), pause),
        )
        self.sleep(pause)
        polled = self.requests.poll(seen.id)
        if isinstance(polled, Batch) and polled.has_ended:
            reading.seen = polled

    def give_up(self, command: GiveUp) -> None:
        """Give all rows of a batch that wait for it the same final word."""
        token = command.batch.token if command.state is ItemState.LOST else None
        for row in self.items.batches.rows_left(command.batch):
            label = self.items.custom_ids.get(row)
            self.recorder.add(
                Outcome(
                    row=row,
                    custom_id=label,
                    state=command.state,
                    error=command.error,
                    token=token,
                    may_be_billed=command.may_be_billed,
                )
            )
        self.recorder.flush()

    def _lines(self, file_id: str, reading: Reading) -> Iterator[Line]:
        """
        Yield the lines of a file.

        :raises FileNotFoundError: if the server does not have it, or refuses to give it.
        """
        with FileSpool(limit=MAX_FILE_BYTES) as spool:
            try:
                self.requests.download(file_id, spool)
            except ApiRequestFailed as failed:
                failure = failed.failure
                if failure.kind not in {FailureKind.NOT_FOUND, FailureKind.REJECTED}:
                    raise _unread(f"File {file_id}", failure) from None
                self.log.warning("The server does not give file %s: %s", file_id, failure)
                if failure.kind is FailureKind.NOT_FOUND and not failure.says_gone:
                    reading.unproven = failure
                raise FileNotFoundError(file_id) from None
            with spool.path.open("rb") as file:
                while written := file.readline(MAX_LINE_BYTES):
                    if (line := from_line(written)) is not None:
                        yield line

    def _take(self, line: Line, reading: Reading) -> None:
        row, label = line.row, self.items.custom_ids.get(line.row)
        if row in reading.rows:
            reading.read.add(row)
            if line.response is not None:
                reading.answered.add(row)
        if row not in reading.waiting:
            return
        reading.waiting.discard(row)
        if line.was_refused_by_account and reading.cut_off is None:
            reading.refused_by_account.add(row)
            return
        if not line.was_executed and self._was_ours(row, reading):
            self.recorder.cancelled(row)
            return
        if line.response is not None:
            verdict = self._judged(line, label)
        else:
            error = line.error
            if not line.was_executed and reading.cut_off is not None:
                error = reading.cut_off
            verdict = _failed(row, label, error, retryable=line.retryable, may_be_billed=line.may_be_billed)
        self._decide(verdict, reading)

    def _judged(self, line: Line, label: str | None) -> Verdict:
        try:
            run = read_created(line.response or {}, request=_ASKED, conn_id=self.conn_id)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            # One line that nobody has foreseen must not keep the others from being read.
            said = f"Its response cannot be read: {message_text(error)}"
            return _failed(line.row, label, said, retryable=False)
        cost = self.allowance.cost_of(run, self.items.asked.get(line.row))
        return self.judge(line.row, label, replace(run, cost=cost))

    def _was_ours(self, row: int, reading: Reading) -> bool:
        """Whether an earlier attempt may have cancelled the batch before a row's turn, each of them once."""
        was_cancelled = reading.seen.status == "cancelled" and reading.cut_off is None
        return was_cancelled and self.items.cancels(row) < self.earlier_attempts

    def _decide(self, verdict: Verdict, reading: Reading) -> None:
        row, has_succeeded = verdict.outcome.row, verdict.outcome.state is ItemState.SUCCEEDED
        may_retry = reading.cut_off is None and self.items.retries(row) < self.item_retries
        if not has_succeeded and verdict.retryable and may_retry:
            self.recorder.retry(verdict.outcome)
        else:
            self.recorder.add(verdict.outcome)

    def _take_unnamed(self, batch: SentBatch, reading: Reading) -> None:
        """Decide about rows of which no file says anything: the batch ended before, or was never begun."""
        seen, goes_on = reading.seen, reading.cut_off is None
        errors = _errors_of_rows(batch, seen)
        whole = [error for error in seen.errors[:3] if error.line is None]
        meanings = [_meaning(error) for error in whole]
        is_withheld = reading.is_short and reading.lacks_responses
        for row in sorted(reading.waiting):
            label, error = self.items.custom_ids.get(row), errors.get(row)
            if is_withheld:
                verdict = _failed(row, label, reading.missing, retryable=False)
            elif error is not None:
                may_pass = _meaning(error) is CodeMeaning.TRANSIENT
                text = f"{error.code}: {error.text}"
                verdict = _failed(row, label, text, retryable=may_pass, may_be_billed=False)
            elif goes_on and CodeMeaning.ACCOUNT in meanings:
                reading.refused_by_account.add(row)
                continue
            elif goes_on and errors and not whole:
                reading.left.add(row)
                continue
            elif whole or errors:
                of_all = "; ".join(f"{error.code}: {error.text}" for error in whole) or "other rows are wrong"
                may_pass = all(meaning is CodeMeaning.TRANSIENT for meaning in meanings)
                text = f"Its batch {seen.id} failed: {of_all}"
                verdict = _failed(row, label, text, retryable=may_pass, may_be_billed=False)
            elif self._was_ours(row, reading):
                self.recorder.cancelled(row)
                continue
            else:
                text = _UNNAMED.get(seen.status, f"its batch {seen.id} ended without a word on it")
                billed = seen.status not in _UNNAMED
                verdict = _failed(row, label, reading.cut_off or text, retryable=True, may_be_billed=billed)
            self._decide(verdict, reading)


def _errors_of_rows(batch: SentBatch, seen: Batch) -> dict[int, LineError]:
    lines = {error.line: error for error in seen.errors if error.line is not None}
    return {row: lines[number] for number, row in enumerate(batch, start=1) if number in lines}


def _meaning(error: LineError) -> CodeMeaning | None:
    if error.code == QUEUE_IS_FULL:
        return CodeMeaning.TRANSIENT
    return meaning_of((error.code,), error.text)


def _failed(
    row: int, label: str | None, error: str, *, retryable: bool, may_be_billed: bool = True
) -> Verdict:
    outcome = Outcome(
        row=row, custom_id=label, state=ItemState.FAILED, error=error, may_be_billed=may_be_billed
    )
    return Verdict(outcome=outcome, retryable=retryable)


def _unread(files: str, failure: RequestFailure) -> RunCallError:
    text = f"{files} of a batch could not be read: {failure}. What is in it is paid for; a retry reads it."
    return RunCallError(text, retryable=True)
