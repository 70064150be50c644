# SPDX-License-Identifier: Apache-2.0
"""What a trigger waits for: the file that a worker writes before it defers, and when to wake the next one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_provider_openai_runs.bulk.events import NewRun

#: Runs that a line of the log names.
_NAMED = 5


def names_of(runs: Sequence[NewRun]) -> str:
    """Name a few runs, for a line of the log."""
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return ", ".join(run.id for run in runs[:_NAMED]) + more


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
