# SPDX-License-Identifier: Apache-2.0
"""What a trigger waits for: the file that a worker writes before it defers, and when to wake the next one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from airflow_provider_openai_runs.bulk.events import NewRun
from airflow_provider_openai_runs.bulk.failed_polls import FailedPolls
from airflow_provider_openai_runs.bulk.sent_batches import SentBatch

#: Runs that a line of the log names.
_NAMED = 5


class ManyWaits(Protocol):
    """
    What a trigger waits for, all at once.

    :ivar ended: how many were found ended; ``failed`` of them badly.
    :ivar answered: those that were to be ended, and had ended with an answer.
    :ivar failed_polls: since the last line of the log.
    """

    ended: int
    failed: int
    answered: list[NewRun]
    failed_polls: FailedPolls

    def __len__(self) -> int: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    def progress(self) -> dict[str, int]:
        """Return what the XCom ``progress`` says of them."""

    async def wait(self, wake_up: WakeUp, *, until: float | None) -> str:
        """Poll until a worker is needed, and return why; at ``until`` it is ``time_is_over``."""

    async def end_all(self, *, within: float) -> int:
        """End those that have not ended; return how many may go on."""

    async def end_after_mark(self, *, within: float) -> int:
        """End them within Airflow's seconds, as far as that is possible; return how many may go on."""


def names_of(runs: Sequence[NewRun]) -> str:
    """Name a few runs, for a line of the log."""
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return ", ".join(run.id for run in runs[:_NAMED]) + more


def of_batches(batches: Iterable[SentBatch]) -> list[NewRun]:
    """Return batches in the form of runs, each under the first of its rows."""
    return [
        NewRun(row=batch.rows[0][0], id=batch.id, created_at=batch.at)
        for batch in batches
        if batch.id is not None
    ]


def to_lines(runs: Iterable[NewRun]) -> bytes:
    """Return the file's content, a run on each line."""
    return b"".join(
        json.dumps([run.row, run.id, run.created_at], separators=(",", ":")).encode() + b"\n" for run in runs
    )


def from_lines(content: bytes, *, count: int) -> list[NewRun]:
    """
    Read the file.

    :param count: how many runs it has.
    :raises ValueError: if it is not whole; nobody may take that for the end of the others.
    """
    try:
        found = [
            NewRun(row=int(row), id=str(run_id), created_at=float(at))
            for row, run_id, at in map(json.loads, content.splitlines())
        ]
    except (ValueError, TypeError) as error:
        raise ValueError(f"a line cannot be read ({error})") from None
    if len(found) != count:
        raise ValueError(f"it has {len(found)} runs of {count}")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeUp:
    """
    When a worker is needed again.

    :param ends: so many ended runs make room for enough creates; None where nothing is left to create.
    :param failures: more than so many runs that ended badly may be too many; None is no limit.
    :param collect_within: seconds that the end of a run may wait for its worker.
    """

    ends: int | None = None
    failures: int | None = None
    collect_within: float = 300.0

    def reason(self, *, active: int, ended: int, failed: int, first_end_ago: float | None) -> str | None:
        """
        Return why a worker is needed now; None as long as it is not.

        :param first_end_ago: seconds since the first run was found ended.
        """
        if active == 0:
            return "ended"
        if self.failures is not None and failed > self.failures:
            return "failures"
        if self.ends is not None and ended >= self.ends:
            return "room"
        if first_end_ago is not None and first_end_ago >= self.collect_within:
            return "collect"
        return None
